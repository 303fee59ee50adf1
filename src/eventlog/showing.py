"""The view `events`: one table of all events, whatever they lie in.

Its columns are always there; the hot fields come after them. With `own`, so does every field
that the events have at their top or in `data`, with the type that all its values fit in.

An archive of old jobs would come in here: as more segments, whose rows are of the same form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .stock import Stock

if TYPE_CHECKING:
    import duckdb

BASE = ("job_id", "seq", "ts", "level", "type", "step", "item", "data")
_MAX_OWN = 200
_WHOLE = {"UBIGINT", "BIGINT"}


def show(con: duckdb.DuckDBPyConnection, stock: Stock, *, own: bool) -> None:
    """Make the view `events`."""
    base = ", ".join(BASE)
    hot = "".join(f', "{name}"' for name in stock.hot)
    now = "".join(
        f""", try_cast(data->>'{name}' as {kind}) as "{name}\""""
        for name, kind in stock.hot.items()
    )
    parts = [f"select log, {base}, own, place{now} from ({stock.new_rows})"]
    if stock.index is not None and stock.index.blobs:
        parts.append(_segments(stock.index.blobs, base, hot) + _where(con, stock))
    con.execute("create view raw.events as " + "\nunion all ".join(parts))
    prefix = stock.prefix.replace("'", "''")
    file = f"case when log < 0 then place else '{prefix}' || place end" if prefix else "place"
    more = _own(con, set(stock.hot)) if own else ", own as extra"
    con.execute(f"create view events as select {base}, {file} as file{hot}{more} from raw.events")


def _segments(blobs: list[Any], base: str, hot: str) -> str:
    paths = [blob.path for blob in blobs]
    return f"select log, {base}, own, place{hot} from read_parquet({paths})"


def _where(con: duckdb.DuckDBPyConnection, stock: Stock) -> str:
    """Return the condition that leaves out logs that were not asked for, or were read anew."""
    assert stock.index is not None
    held = {log for segment in stock.index.manifest.segments for log in segment.logs}
    chosen = held & stock.chosen
    if chosen == held:
        return ""
    if len(chosen) <= 1:
        return f" where log = {min(chosen, default=0)}"
    con.execute("create table raw.chosen(log integer)")
    con.execute("insert into raw.chosen select unnest(?)", [sorted(chosen)])
    return " where log in (select log from raw.chosen)"


def _own(con: duckdb.DuckDBPyConnection, taken: set[str]) -> str:
    """Return a column for each field that the events have, as far as the names are free."""
    row = con.execute(
        "select json_group_structure(own), json_group_structure(data) from raw.events"
    ).fetchone()
    assert row is not None
    top, data = (_fields(text) for text in row)
    names: dict[str, str] = {}
    seen = {name.lower() for name in (*BASE, *taken, "file")}
    for name in [*top, *data]:
        if name.lower() not in seen and name and "\0" not in name and len(names) < _MAX_OWN:
            seen.add(name.lower())
            kinds = {fields[name] for fields in (top, data) if name in fields} - {"NULL"}
            names[name] = _type(kinds)
    columns = []
    for name, kind in names.items():
        path = "'$.\"" + name.replace('"', '\\"').replace("'", "''") + "\"'"
        arrow = "->" if kind == "JSON" else "->>"
        value = f"coalesce(own{arrow}{path}, data{arrow}{path})"
        column = '"' + name.replace('"', '""') + '"'
        columns.append(f", cast({value} as {kind}) as {column}")
    return "".join(columns)


def _type(kinds: set[str]) -> str:
    """Return the type that values of all these kinds fit in."""
    if kinds and kinds <= _WHOLE:
        return "BIGINT"
    if kinds and kinds <= _WHOLE | {"DOUBLE"}:
        return "DOUBLE"
    return kinds.pop() if kinds in ({"BOOLEAN"}, {"VARCHAR"}) else "JSON"


def _fields(text: str | None) -> dict[str, str]:
    """Return the names of a structure and what DuckDB says of their values."""
    found = msgspec.json.decode(text) if text else None
    if not isinstance(found, dict):
        return {}
    return {name: kind if isinstance(kind, str) else "JSON" for name, kind in found.items()}
