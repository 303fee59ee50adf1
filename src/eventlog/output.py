"""Answers as text: tables for people, JSON and its like for programs. Pure."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import enum
import io
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .errors import QueryError
from .table import cell, markdown, table, visible

SCHEMA_VERSION = 1
"""Of the JSON documents that commands print."""


class Format(enum.StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


def rows_as(
    form: Format,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    types: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> str:
    """Return rows in a format, with a last newline where there is anything.

    Args:
        form: the format.
        columns: names; ones that repeat get a number in JSON.
        rows: Python values.
        types: SQL types; a JSON column is printed as what it says.
        extra: more members of the JSON document.
        limit: width of the terminal, for tables.
    """
    kinds = [*types, *[""] * (len(columns) - len(types))]
    match form:
        case Format.JSON | Format.JSONL:
            names = _unique(columns)
            objects = [
                {
                    name: plain(value, kind)
                    for name, value, kind in zip(names, row, kinds, strict=True)
                }
                for row in rows
            ]
            if form is Format.JSONL:
                return "".join(msgspec.json.encode(item).decode() + "\n" for item in objects)
            shown = [{"name": n, "type": k} for n, k in zip(names, kinds, strict=True)]
            return document({"columns": shown, "rows": objects, **(extra or {})})
        case Format.CSV:
            return _csv(columns, rows)
        case Format.TSV:
            lines = ["\t".join(visible(_text(value)) for value in row) for row in [columns, *rows]]
            return "\n".join(lines) + "\n"
        case Format.PARQUET:
            raise QueryError(
                "only a query's rows can be a Parquet file", hint="ask for them with `query`"
            )
        case Format.MARKDOWN:
            return markdown(columns, [[_shown(value) for value in row] for row in rows]) + "\n"
        case _:
            shown_rows = [[_shown(value) for value in row] for row in rows]
            return table(columns, shown_rows, limit=limit) + "\n"


def document(members: Mapping[str, Any]) -> str:
    """Return one JSON document, indented, that begins with its `schema_version`."""
    members = {"schema_version": SCHEMA_VERSION, **members}
    try:
        encoded = msgspec.json.encode(members)
    except UnicodeEncodeError:  # a file name that is not UTF-8
        encoded = msgspec.json.encode(_clean(members))
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def _clean(value: Any) -> Any:
    match value:
        case str():
            return visible(value)
        case dict():
            return {_clean(key): _clean(item) for key, item in value.items()}
        case list() | tuple():
            return [_clean(item) for item in value]
        case _:
            return value


def plain(value: Any, kind: str = "") -> Any:
    """Return a cell as a value that JSON has; a JSON column's text becomes what it says.

    NaN and the infinities become null, times RFC 3339 in UTC, bytes hexadecimal digits.
    """
    match value:
        case str() if kind == "JSON":
            return msgspec.Raw(value.encode())
        case None | bool() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case int():
            # Larger ones than 64 bits are beyond the encoder, not beyond JSON.
            fits = -(1 << 63) <= value < 1 << 63
            return value if fits else msgspec.Raw(str(value).encode())
        case decimal.Decimal():
            return msgspec.Raw(format(value, "f").encode()) if value.is_finite() else None
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return _text(value)


def _text(value: Any) -> str:
    match value:
        case dt.datetime():
            return value.replace(tzinfo=None).isoformat() + "Z"
        case dt.timedelta() | dt.date() | dt.time() | uuid.UUID():
            return str(value)
        case decimal.Decimal():
            return format(value, "f")  # never 1E-12
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case dict() | list() | tuple():
            return msgspec.json.encode(plain(value)).decode()
        case float():
            return repr(value)
        case _:
            return cell(value)


def _shown(value: Any) -> Any:
    """Leave numbers to the table, which sets them on the right."""
    numbers = int | float | decimal.Decimal
    return value if value is None or isinstance(value, numbers) else _text(value)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_text(value) for value in row] for row in rows)
    return out.getvalue()


def _unique(names: Sequence[str]) -> list[str]:
    """Number the names that repeat, so that no cell is lost in an object."""
    given: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in given:
            number += 1
            candidate = f"{name}_{number}"
        given.append(candidate)
    return given
