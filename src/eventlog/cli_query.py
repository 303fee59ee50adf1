"""The log commands that ask in SQL: query, schema."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer

from .cli_base import (
    FormatOption,
    JsonOption,
    Mount,
    OutOption,
    Targets,
    chosen,
    emit,
    emit_bytes,
    emit_rows,
    guard,
    say,
    terminal_width,
)
from .errors import QueryError
from .find import LogRef
from .output import Format

Command = Callable[..., None]

_NAMED = 5
"""Rejected lines that are named on stderr; all are counted."""

_STDIN_BYTES = 1 << 20


def query_command(mount: Mount) -> Command:
    """Return the command `query`."""

    def query(
        words: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[SQL|NAME|-] [TARGET]...",
                help="One statement that reads, the name of a query, or - for stdin; then logs.",
            ),
        ] = None,
        file: Annotated[
            str | None, typer.Option("-f", "--file", metavar="FILE", help="Take the SQL from it.")
        ] = None,
        param: Annotated[
            list[str] | None,
            typer.Option("-p", "--param", metavar="NAME=VALUE", help="A value for $NAME."),
        ] = None,
        form: FormatOption = Format.TABLE,
        as_json: JsonOption = False,
        out: OutOption = None,
        listed: Annotated[bool, typer.Option("--list", help="List the named queries.")] = False,
        timeout_s: Annotated[
            float, typer.Option("--timeout", min=0.01, max=86_400, help="Seconds.")
        ] = 60.0,
        memory_mb: Annotated[
            int, typer.Option("--memory", min=64, max=1 << 20, help="Megabytes.")
        ] = 2048,
        max_rows: Annotated[int, typer.Option("--max-rows", min=1, max=1 << 32)] = 1_000_000,
        index: Annotated[
            bool, typer.Option("--index/--no-index", help="Keep what was read for the next query.")
        ] = True,
    ) -> None:
        """Ask logs with SQL; without SQL, list the named queries."""
        from .query import named_queries

        form = chosen(form, as_json=as_json)
        targets = list(words or [])
        with guard():
            if listed or not (targets or file):
                rows = [*named_queries(mount.folders()).items()]
                emit_rows(["query", "answers"], rows, form, out)
                return
            from .jail import Limits
            from .values import typed

            sql = _sql(mount, _read(file) if file else targets.pop(0), is_file=bool(file))
            limits = Limits(time_s=timeout_s, memory_mb=memory_mb, rows=max_rows)
            if form is Format.PARQUET and out is None and sys.stdout.isatty():
                raise QueryError("a Parquet file is not for a terminal", hint="name one: -o FILE")
            _ask(mount, targets, sql, typed(param or []), limits, form, out, index=index)

    return query


def _ask(
    mount: Mount,
    targets: Sequence[str],
    sql: str,
    params: Mapping[str, Any],
    limits: Any,
    form: Format,
    out: str | None,
    *,
    index: bool,
) -> None:
    from .cell import Request
    from .warden import cell

    with cell() as asked:  # it loads the database while the logs are being looked for
        hot = dict(mount.hot())
        told = asked.ask(
            Request(
                logs=[(ref.path, ref.job_id) for ref in mount.logs(targets)],
                sql=sql,
                params=dict(params) or None,
                views=list(mount.views()),
                limits=limits,
                kept=mount.kept(targets or [mount.default]) if index else None,
                hot=hot,
                own=not hot,
                form=form.value,
                width=terminal_width() if out is None else None,
            )
        )
        emit_bytes(told.parts, out)
        _tell_rejected(told.rejected, told.rejected_count)
        sys.stdout.flush()
        if trouble := asked.keep():
            say(f"note: what was read can't be kept for the next query: {trouble}")


def _sql(mount: Mount, text: str, *, is_file: bool) -> str:
    """Return the SQL that was meant: given, on stdin, in a file, or of a name."""
    from .query import find_query

    if is_file:
        return text
    if text == "-":
        try:
            given = sys.stdin.read(_STDIN_BYTES + 1)
        except UnicodeError as error:
            raise QueryError(f"the query can't be read: {error}") from error
        if len(given) > _STDIN_BYTES:
            raise QueryError(f"the query has more than {_STDIN_BYTES} characters")
        return given
    if text.endswith(".sql") and os.path.isfile(text):
        return _read(text)
    return find_query(text, mount.folders())


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(_STDIN_BYTES)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise QueryError(f"the query can't be read: {why}", path=path) from error


def _tell_rejected(rejected: Sequence[Any], count: int) -> None:
    if not count:
        return
    say(f"warning: {count} line{'s' if count != 1 else ''} could not be read and stayed out")
    for line in rejected[:_NAMED]:
        say(f"  {line.file}:{line.seq + 1} (offset {line.offset}): {line.reason}")
    if count > _NAMED:
        say(f"  and {count - _NAMED} more")


def schema_command(mount: Mount) -> Command:
    """Return the command `schema`."""

    def schema(
        targets: Targets = None,
        form: FormatOption = Format.TABLE,
        as_json: JsonOption = False,
        out: OutOption = None,
    ) -> None:
        """Print tables, views, columns and types; with --json also each event type's schema."""
        from .output import document
        from .query import Database

        form = chosen(form, as_json=as_json)
        hot = dict(mount.hot())
        with guard():
            refs: Sequence[LogRef] = mount.logs(targets) if targets or not hot else []
            with Database(refs, views=mount.views(), hot=hot, own=not hot) as database:
                found = database.schema()
                schemas = mount.schemas()
                if schemas is None:
                    schemas = _schemas_of(database)
            if form is Format.JSON:
                columns = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
                emit(document({"columns": columns, "events": schemas}), out)
                return
            emit_rows(found.columns, found.rows, form, out)
            if form is Format.TABLE and out is None and schemas:
                names = ", ".join(schemas)
                say(f"event types (their JSON Schema is in --json): {names}")

    return schema


_JSON_TYPES = {
    "BOOLEAN": "boolean",
    "UBIGINT": "integer",
    "BIGINT": "integer",
    "DOUBLE": "number",
    "VARCHAR": "string",
    "NULL": "null",
}


def _schemas_of(database: Any) -> dict[str, Any]:
    """Return a JSON Schema of what the events of each type were seen to hold."""
    rows = database.query(
        "select type, count(*), json_group_structure(data)::varchar from events"
        " where type is not null group by type order by type"
    ).rows
    return {
        kind: {
            "title": kind,
            "description": f"As seen in {count} event{'s' if count != 1 else ''}.",
            "type": "object",
            "properties": {
                "type": {"const": kind},
                "data": _schema_of(msgspec.json.decode(text) if text else "NULL"),
            },
        }
        for kind, count, text in rows
    }


def _schema_of(structure: Any) -> dict[str, Any]:
    match structure:
        case dict():
            members = {name: _schema_of(inner) for name, inner in structure.items()}
            return {"type": "object", "properties": members}
        case [inner]:
            return {"type": "array", "items": _schema_of(inner)}
        case str() if structure in _JSON_TYPES:
            return {"type": _JSON_TYPES[structure]}
        case _:
            return {}
