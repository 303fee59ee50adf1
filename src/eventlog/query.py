"""Ask logs with SQL: load, jail, run.

    answer = query(["runs"], "select type, count(*) from events group by all")

Live, torn and unsealed logs can be asked; sums are not checked (that is `verify`'s work). The SQL
of people who are not trusted belongs into a process of its own: see `warden`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from . import jail
from .errors import QueryError
from .find import LogRef, find_logs
from .found import LineRejected, LogState
from .jail import DEFAULT, Limits, Result
from .showing import show
from .stock import Kept, Stock

View = tuple[str, str]
"""A view's name and its SQL."""

Params = Mapping[str, Any] | Sequence[Any]

_VIEW_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_ABOUT_ALL = {
    *("show", "describe", "summarize", "information_schema", "pg_catalog"),
    *("duckdb_columns", "duckdb_tables", "duckdb_views", "sqlite_master", "pragma_show"),
}
"""Words of statements that may ask which views there are."""

_COLUMNS = """
select table_name as "table", column_name as "column", data_type as type
from duckdb_columns() where schema_name = 'main' and not internal
order by table_name, column_index
"""


class Answer(msgspec.Struct):
    """What a query gave.

    Attributes:
        columns: names, which may repeat.
        types: SQL types of the columns.
        rows: Python values; text for times with a zone.
        rejected: the first lines that could not be read.
        rejected_count: all of them.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    rejected: list[LineRejected] = []
    rejected_count: int = 0


class Database:
    """Logs in a locked database: the tables `events` and `logs`, and the views given.

    Args:
        logs: paths of logs, or of folders in which each `events.jsonl` is one; or LogRefs.
        views: name and SQL of each; one may read those before it. They are made when a
            statement speaks of them.
        limits: what each statement may use.
        kept: where what was read is kept for the next time; None reads everything again.
        hot: fields of `data` that are columns of `events`, with their SQL types.
        own: whether each field that the events have at their top or in `data` is a column.

    Raises:
        LogNotFound: there is nothing at a path.
        QueryError: the events don't fit.
    """

    def __init__(
        self,
        logs: Iterable[str | os.PathLike[str] | LogRef],
        *,
        views: Iterable[View] = (),
        limits: Limits = DEFAULT,
        kept: Kept | None = None,
        hot: Mapping[str, str] | None = None,
        own: bool = False,
    ) -> None:
        self._limits = limits
        self._views = list(views)
        for name, _ in self._views:
            if not _VIEW_NAME.fullmatch(name):
                raise QueryError(f"{name!r} can't be a view's name")
        self._con = jail.connect(limits)
        self._stock = Stock(self._con, kept, hot or {})
        try:
            self._stock.load(_refs(logs))
            show(self._con, self._stock, own=own)
            jail.lock(self._con, self._stock.paths)
        except BaseException:
            self._stock.close()
            self._con.close()
            raise

    @property
    def logs(self) -> list[LogState]:
        """What was found in each log."""
        return self._stock.states

    @property
    def read_bytes(self) -> int:
        """Bytes of events that had to be read, because no index had them."""
        return self._stock.read_bytes

    @property
    def rejected(self) -> tuple[list[LineRejected], int]:
        """The first lines that could not be read, and how many there are in all."""
        return self._stock.rejected, sum(state.rejected for state in self._stock.states)

    def query(self, sql: str, params: Params | None = None) -> Answer:
        """Run one reading statement.

        Raises:
            QueryError: it is refused, wrong, or over a limit.
        """
        self._make_views(sql)
        result = jail.run(self._con, sql, params, self._limits)
        return Answer(result.columns, result.types, result.rows, *self.rejected)

    def parquet(self, sql: str, params: Params | None = None) -> bytes:
        """Run one reading statement and return its rows as a Parquet file.

        Raises:
            QueryError: it is refused, wrong, or over a limit.
        """
        self._make_views(sql)
        return jail.parquet(self._con, sql, self._stock.outgoing, params, self._limits)

    def schema(self) -> Result:
        """Return a row of table, column and type for each column."""
        self._make_views("show")
        return jail.run(self._con, _COLUMNS, None, self._limits)

    def keep(self) -> str:
        """Keep what was read for the next query; return why not, or nothing."""
        return self._stock.keep()

    def close(self) -> None:
        """Keep what was read, and forget everything; more than once is fine."""
        self._stock.keep()
        self._stock.close()
        self._con.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _make_views(self, sql: str) -> None:
        """Make the views that a statement speaks of: each costs as much as a small query."""
        import duckdb

        words = set(_WORD.findall(sql.lower()))
        everything = not words.isdisjoint(_ABOUT_ALL)
        wanted: list[View] = []
        for name, text in reversed(self._views):
            if everything or name in words:
                wanted.append((name, text))
                words.update(_WORD.findall(text.lower()))
        for name, text in reversed(wanted):
            try:
                self._con.execute(f'create view "{name}" as\n{text.strip().rstrip(";")}')
            except duckdb.Error as error:
                raise QueryError(f"the view {name} is wrong: {error}") from error
        self._views = [view for view in self._views if view not in wanted]


def query(
    logs: Iterable[str | os.PathLike[str] | LogRef],
    sql: str,
    *,
    views: Iterable[View] = (),
    params: Params | None = None,
    limits: Limits = DEFAULT,
    kept: Kept | None = None,
) -> Answer:
    """Load logs and run one reading statement over them, in this process.

    Args:
        logs: as for `Database`.
        sql: one statement; `from events` alone is one.
        views: as for `Database`.
        params: values for `$name` or `?` in the statement.
        limits: what it may use.
        kept: as for `Database`.

    Raises:
        LogNotFound, QueryError: as `Database` and its `query`.
    """
    jail.check(sql, limits)
    with Database(logs, views=views, limits=limits, kept=kept) as database:
        return database.query(sql, params)


def _refs(logs: Iterable[str | os.PathLike[str] | LogRef]) -> list[LogRef]:
    refs: list[LogRef] = []
    for log in logs:
        if isinstance(log, LogRef):
            refs.append(log)
        else:
            refs += [LogRef(path) for path in find_logs(log)]
    return list({ref.path: ref for ref in refs}.values())


def load_views(folder: str, names: Iterable[str]) -> list[View]:
    """Return views from files `<folder>/<name>.sql`, in the order of the names."""
    views: list[View] = []
    for name in names:
        with open(os.path.join(folder, f"{name}.sql"), encoding="utf-8") as file:
            views.append((name, file.read()))
    return views


def find_query(text: str, folders: Iterable[str]) -> str:
    """Return the SQL that a command line's argument means.

    Text without spaces names a file `<name>.sql` in one of the folders, the first that has it;
    anything else is SQL.

    Raises:
        QueryError: it is one word, and no query of that name is there.
    """
    word = text.strip()
    if not word or any(character.isspace() for character in word):
        return text
    places = list(folders)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", word):
        for folder in places:
            path = os.path.join(folder, word if word.endswith(".sql") else f"{word}.sql")
            if os.path.isfile(path):
                return _read(path)
        known = named_queries(places)
        raise QueryError(
            f"there is no query named {word}",
            hint=f"known: {', '.join(known)}" if known else "give SQL: 'from events'",
        )
    return text


def named_queries(folders: Iterable[str]) -> dict[str, str]:
    """Return name and first comment line of each named query, sorted by name."""
    found: dict[str, str] = {}
    for folder in folders:
        if not os.path.isdir(folder):
            continue
        for name in sorted(os.listdir(folder)):
            stem, ending = os.path.splitext(name)
            if ending == ".sql" and stem not in found:
                first = _read(os.path.join(folder, name)).partition("\n")[0]
                found[stem] = first.removeprefix("--").strip()
    return dict(sorted(found.items()))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeError) as error:
        raise QueryError(f"the query can't be read: {error}", path=path) from error
