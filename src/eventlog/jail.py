"""SQL of users, run where it can reach nothing but the tables that were loaded for it.

The order is the point: load first, then `lock` the database (both switches are one way), then
let the user's text in. It must be one statement that reads; it runs in a read-only
transaction, because some statements that look like reading do write; it ends when its time is
over; and memory and rows are limited. DuckDB is imported late: it takes a tenth of a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from .errors import QueryError

if TYPE_CHECKING:
    import duckdb

_READING = {"SELECT", "EXPLAIN"}
_FETCH = 1000
_AGAIN_S = 0.05
_ZONED = "WITH TIME ZONE"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one statement may use.

    Attributes:
        time_s: seconds until it is interrupted.
        memory_mb: of the database, events included.
        rows: of the result.
        sql_bytes: of the statement's text.
    """

    time_s: float = 60.0
    memory_mb: int = 2048
    rows: int = 1_000_000
    sql_bytes: int = 1 << 20


DEFAULT = Limits()


class Result(msgspec.Struct):
    """What a statement gave: names and SQL types of its columns, and its rows."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]


def connect(limits: Limits) -> duckdb.DuckDBPyConnection:
    """Return an empty database in memory that loads no extension and sees no Python object."""
    import duckdb

    con = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
        },
    )
    con.execute(f"set memory_limit='{limits.memory_mb}MB'")
    con.execute("set max_temp_directory_size='0KB'")
    con.execute("set temp_directory=''")
    # The result's order is the tables' order unless the statement says otherwise.
    con.execute("set preserve_insertion_order=true")
    con.execute("set enable_progress_bar=false")
    con.execute("set timezone='UTC'")
    return con


def lock(con: duckdb.DuckDBPyConnection) -> None:
    """Take away files, network, extensions and settings, for good."""
    con.execute("set enable_external_access=false")
    con.execute("set lock_configuration=true")


def run(
    con: duckdb.DuckDBPyConnection,
    sql: str,
    params: Mapping[str, Any] | Sequence[Any] | None = None,
    limits: Limits = DEFAULT,
) -> Result:
    """Run one reading statement in a locked database.

    Raises:
        QueryError: it is refused, wrong, or over a limit; DuckDB's own words are in it.
    """
    import duckdb

    statement = _only(sql, limits)
    try:
        con.execute("begin transaction read only")
        try:
            with _deadline(con, limits.time_s):
                return _fetch(con, statement, params, limits)
        finally:
            con.execute("rollback")
    except duckdb.InterruptException as error:
        raise QueryError(
            f"the query took longer than {limits.time_s:g} s and was ended",
            hint="narrow it down with a where clause",
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise QueryError(
            f"the query needs more than {limits.memory_mb} MB of memory",
            hint="select fewer columns or rows, or aggregate",
        ) from error
    except duckdb.Error as error:
        raise QueryError(f"the query failed: {_words(error)}") from error
    except (UnicodeError, OverflowError, ValueError, TypeError) as error:
        raise QueryError(f"the query's result can't be read: {error}") from error


def check(sql: str, limits: Limits = DEFAULT) -> None:
    """Refuse what can't be run, before anything is loaded.

    Raises:
        QueryError: it is not one statement that reads.
    """
    _only(sql, limits)


def _only(sql: str, limits: Limits) -> duckdb.Statement:
    """Return the one statement of the text, if it reads."""
    import duckdb

    try:
        size = len(sql.encode("utf-8"))
    except UnicodeError as error:
        raise QueryError("the query is not UTF-8") from error
    if size > limits.sql_bytes:
        raise QueryError(f"the query has {size} bytes, more than {limits.sql_bytes}")
    if "\0" in sql:
        raise QueryError("the query holds a NUL character")
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(f"the query can't be read: {_words(error)}") from error
    if len(statements) != 1:
        raise QueryError(
            f"a query is one statement, not {len(statements)}",
            hint='for instance: "select type, count(*) from events group by all"',
        )
    kind = _kind(statements[0])
    if kind not in _READING:
        raise QueryError(
            f"only reading is possible here, and this is {kind}",
            hint="use select, from, with, values, describe, show, summarize or explain"
            + ("; pivot needs its values named: `pivot … on x in (…)`" if kind == "MULTI" else ""),
        )
    return statements[0]


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # a kind that DuckDB has and its Python package does not name
        return "no select"


@contextmanager
def _deadline(con: duckdb.DuckDBPyConnection, time_s: float) -> Iterator[None]:
    """Interrupt what runs when the time is over, again and again until it has ended."""
    done = threading.Event()

    def watch() -> None:
        # An interrupt that comes before the statement has begun is lost: so more than one.
        if not done.wait(time_s):
            while not done.is_set():
                con.interrupt()
                done.wait(_AGAIN_S)

    watcher = threading.Thread(target=watch, name="query-deadline", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _fetch(
    con: duckdb.DuckDBPyConnection,
    statement: duckdb.Statement,
    params: Mapping[str, Any] | Sequence[Any] | None,
    limits: Limits,
) -> Result:
    con.execute(statement, params)
    types = _types(con)
    names = [column[0] for column in con.description or []]
    if _kind(statement) == "SELECT" and any(_ZONED in kind for kind in types):
        # Python gets such values only with another package's help: take them as text.
        listed = ", ".join(f"c{number}" for number in range(len(types)))
        wanted = ", ".join(
            f"cast(c{number} as varchar)" if _ZONED in kind else f"c{number}"
            for number, kind in enumerate(types)
        )
        query = statement.query.strip().rstrip("; \t\r\n")
        text = f"select {wanted} from (\n{query}\n) as result({listed})"  # noqa: S608 - in the jail
        con.execute(_only(text, limits), params)
    rows: list[tuple[Any, ...]] = []
    while block := con.fetchmany(_FETCH):
        rows += block
        if len(rows) > limits.rows:
            raise QueryError(
                f"the query gives more than {limits.rows} rows",
                hint="add a limit, aggregate, or narrow it down",
            )
    return Result(names, types, rows)


def _types(con: duckdb.DuckDBPyConnection) -> list[str]:
    return [str(column[1]) for column in con.description or []]


def _words(error: Exception) -> str:
    return str(error).strip()
