"""SQL of users, run where it can reach nothing but the tables that were loaded for it.

The order is the point: load first, then `lock` the database (both switches are one way), then
let the user's text in. It must be one statement that reads; it runs in a read-only
transaction and none of its parts may be one that writes, because some statements that look like
reading do write; it ends when its time is over; and memory and rows are limited. What DuckDB does
not let itself be interrupted in, only another process can end: see `warden`. DuckDB is imported
late: it takes a tenth of a second.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .blob import Blob
from .errors import QueryError

if TYPE_CHECKING:
    import duckdb

_T = TypeVar("_T")
_READING = {"SELECT", "EXPLAIN"}
_FETCH = 1000
_AGAIN_S = 0.05
_ZONED = "WITH TIME ZONE"
_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
"""What a reading statement consists of, as DuckDB writes it down; others insert, delete, copy."""

_HIDING = {"query", "query_table", "json_execute_serialized_sql"}
"""Functions that run SQL out of a text, which nothing can be seen in."""

_EXPLAIN = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*explain(?:\s+analyze)?(?:\s*\([^()]*\))?(?=[\s(])",
    re.IGNORECASE | re.DOTALL,
)
_HOW = "use select, from, with, values, describe, show, summarize or explain"


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
    sql_bytes: int = 1 << 18


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


def lock(con: duckdb.DuckDBPyConnection, paths: Iterable[str] = ()) -> None:
    """Take away files, network, extensions and settings, for good.

    Args:
        con: the database.
        paths: of files that stay within reach: private copies, for users may read and write them.
    """
    con.execute(f"set allowed_paths={list(paths)}")
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

    def fetch(statement: duckdb.Statement) -> Result:
        return _fetch(con, statement, params, limits)

    return _guarded(con, sql, limits, fetch)


def parquet(
    con: duckdb.DuckDBPyConnection,
    sql: str,
    out: Blob,
    params: Mapping[str, Any] | Sequence[Any] | None = None,
    limits: Limits = DEFAULT,
) -> bytes:
    """Run one reading statement in a locked database and return its rows as a Parquet file.

    Args:
        con: the database.
        sql: the statement.
        out: a blob within its reach.
        params: values for the statement.
        limits: what it may use.

    Raises:
        QueryError: it is refused, wrong, or over a limit; DuckDB's own words are in it.
    """

    def copy(statement: duckdb.Statement) -> bytes:
        if _kind(statement) != "SELECT":
            raise QueryError("a Parquet file needs rows, and this is an explanation")
        text = _body(statement)
        con.execute(f"explain {text}", params)  # what is wrong in it is told in its own lines
        told = con.execute(
            f"copy (select * from (\n{text}\n) limit {limits.rows + 1}) to '{out.path}'"
            " (format parquet, compression zstd, use_tmp_file false)",
            params,
        ).fetchone()
        if told is not None and told[0] > limits.rows:
            raise _too_many(limits)
        return out.read()

    return _guarded(con, sql, limits, copy)


def _guarded(
    con: duckdb.DuckDBPyConnection,
    sql: str,
    limits: Limits,
    work: Callable[[duckdb.Statement], _T],
) -> _T:
    """Check a statement and do a work with it, within the limits."""
    import duckdb

    statement = _only(sql, limits)
    try:
        con.execute("begin transaction read only")
        try:
            with _deadline(con, limits.time_s):
                _look_inside(con, statement)
                return work(statement)
        finally:
            con.execute("rollback")
    except duckdb.InterruptException as error:
        raise took_too_long(limits) from error
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise needs_too_much(limits) from error
    except duckdb.Error as error:
        if "bad_alloc" in str(error) or "std::bad_alloc" in str(error):
            raise needs_too_much(limits) from error
        raise QueryError(f"the query failed: {_words(error)}") from error
    except (UnicodeError, OverflowError, ValueError, TypeError) as error:
        raise QueryError(f"the query's result can't be read: {error}") from error


def took_too_long(limits: Limits) -> QueryError:
    """Return the error of a query whose time is over."""
    return QueryError(
        f"the query took longer than {limits.time_s:g} s and was ended",
        hint="narrow it down with a where clause, or allow more: --timeout",
    )


def needs_too_much(limits: Limits) -> QueryError:
    """Return the error of a query that takes too much memory."""
    return QueryError(
        f"the query needs more than {limits.memory_mb} MB of memory",
        hint="select fewer columns or rows, aggregate, or allow more: --memory",
    )


def _too_many(limits: Limits) -> QueryError:
    return QueryError(
        f"the query gives more than {limits.rows} rows",
        hint="add a limit, aggregate, narrow it down, or allow more: --max-rows",
    )


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
            hint=_HOW
            + ("; pivot needs its values named: `pivot … on x in (…)`" if kind == "MULTI" else ""),
        )
    return statements[0]


def _look_inside(con: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> None:
    """Refuse a statement with a part that writes: `with x as (copy …)` is a SELECT to DuckDB."""
    import duckdb

    text = statement.query
    if _kind(statement) == "EXPLAIN":
        match = _EXPLAIN.match(text)
        inner = duckdb.extract_statements(text[match.end() :]) if match else []
        if len(inner) != 1 or _kind(inner[0]) != "SELECT":
            raise QueryError(
                "only reading is possible here, and this explains something else", hint=_HOW
            )
        text = inner[0].query
    row = con.execute("select json_serialize_sql(?::varchar)", [text]).fetchone()
    tree = msgspec.json.decode(row[0]) if row else {"error": True}
    if tree["error"]:
        said = tree.get("error_message", "no reason was given")
        raise QueryError(f"the query can't be looked into: {said}", hint=_HOW)
    rest: list[Any] = [tree]
    while rest:
        match rest.pop():
            case {"type": str(kind)} as node:
                if kind.endswith("_NODE") and kind not in _NODES:
                    what = kind.removesuffix("_NODE").removesuffix("_QUERY")
                    raise QueryError(
                        f"only reading is possible here, and a part of this is {what}", hint=_HOW
                    )
                rest += node.values()
            case {"function_name": str(name)} as node:
                if name.lower() in _HIDING:
                    raise QueryError(
                        f"only reading is possible here, and {name}() could hide anything else",
                        hint="write out what it would run",
                    )
                rest += node.values()
            case dict() as node:
                rest += node.values()
            case list() as nodes:
                rest += nodes


def _body(statement: duckdb.Statement) -> str:
    """Return a statement's text as it can stand in brackets."""
    return statement.query.strip().rstrip("; \t\r\n")


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
        text = f"select {wanted} from (\n{_body(statement)}\n) as result({listed})"
        con.execute(_only(text, limits), params)
    rows: list[tuple[Any, ...]] = []
    while block := con.fetchmany(_FETCH):
        rows += block
        if len(rows) > limits.rows:
            raise _too_many(limits)
    return Result(names, types, rows)


def _types(con: duckdb.DuckDBPyConnection) -> list[str]:
    return [str(column[1]) for column in con.description or []]


def _words(error: Exception) -> str:
    return str(error).strip()
