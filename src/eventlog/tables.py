"""Load logs into a database: our reader decides what a line is, DuckDB only parses columns.

DuckDB never sees a log file. It would fail on a torn tail, turn bad lines into rows of nulls,
take `NaN` for JSON, and drop the offset of a stamp. So each line is read, brought into today's
form and checked here, and handed over through a private temporary file, with its log and seq
put in front. A line that can't be read is counted and named.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import msgspec

from .codec import looks_sealed
from .errors import LineTooLong, QueryError
from .find import LogRef, lock_beside
from .lines import split
from .lock import is_held
from .source import LogFile
from .upcast import Form, convert

if TYPE_CHECKING:
    import duckdb

MAX_NAMED = 1000
"""How many rejected lines are named; all are counted."""

_CHUNK = 64 << 20
_OBJECT = 16 << 20
_BOM = b"\xef\xbb\xbf"
_COLUMNS = (
    "{'@file':'VARCHAR','@job':'VARCHAR','@seq':'BIGINT','@line':'JSON','ts':'VARCHAR',"
    "'level':'VARCHAR','job_id':'VARCHAR','type':'VARCHAR','step':'VARCHAR','item':'VARCHAR',"
    "'data':'JSON'}"
)
_HEAD = re.compile(
    rb'\{"@file":"(?:[^"\\]|\\.)*","@job":(?:null|"(?:[^"\\]|\\.)*"),"@seq":\d+,"@at":\d+'
)
_EVENTS = """
create table events(
    job_id varchar, seq bigint, ts timestamp, level varchar, type varchar, step varchar,
    item varchar, data json, file varchar)
"""
_LOGS = """
create table logs(
    file varchar, job_id varchar, lines bigint, v1 bigint, v2_0 bigint, v2_1 bigint,
    other bigint, rejected bigint, blank bigint, sealed bigint, bytes bigint, torn bigint,
    held boolean)
"""
_KINDS = {"file": "VARCHAR", "job_id": "VARCHAR", "held": "BOOLEAN"}
# Stamps that our reader left as they were found may have an offset, which a cast would drop.
_TAKE = """
insert into events
select coalesce(job_id, "@job"), "@seq", case when ts like '%Z' then try_cast(ts as timestamp) end,
       level, type, step, item, coalesce(data, "@line"), "@file"
from chunk where "@seq" is not null
"""


class LineRejected(NamedTuple):
    """A line that can't be queried, and why."""

    file: str
    seq: int
    offset: int
    reason: str


class LogState(msgspec.Struct, kw_only=True):
    """A row of the table `logs`.

    Attributes:
        file: the log's path.
        job_id: whose log it is, if one job's name stands in its lines.
        lines: complete lines; the counts of v1, v2_0, v2_1, other, rejected, blank add up to it.
        v1, v2_0, v2_1: lines of each version, as they stand in the file.
        other: readable lines of no version.
        rejected: lines that can't be read.
        blank: empty lines.
        sealed: of the v2_1 lines, those with a sum.
        bytes: of the file.
        torn: bytes after the last complete line.
        held: whether a process writes it now.
    """

    file: str
    job_id: str | None = None
    lines: int = 0
    v1: int = 0
    v2_0: int = 0
    v2_1: int = 0
    other: int = 0
    rejected: int = 0
    blank: int = 0
    sealed: int = 0
    bytes: int = 0
    torn: int = 0
    held: bool = False


class _Shape(msgspec.Struct):
    """Makes the decoder look at every byte of a line without building its values."""


_SHAPE = msgspec.json.Decoder(_Shape)


class Loader:
    """Fill the tables `events` and `logs` of an unlocked database.

    Args:
        con: an empty database.

    Attributes:
        logs: what was found, one for each log.
        rejected: the first MAX_NAMED lines that can't be queried.
        rejected_count: all of them.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._file: IO[bytes] | None = None
        self._folder = ""
        self._written = 0
        self._lines = 0
        self._longest = 0
        self.logs: list[LogState] = []
        self.rejected: list[LineRejected] = []
        self.rejected_count = 0

    def load(self, logs: Iterable[LogRef]) -> None:
        """Read the logs, in their order.

        Raises:
            LogNotFound, EventLogError: a log can't be opened.
            QueryError: there is no room for what is read.
        """
        import duckdb

        self._con.execute(_EVENTS)
        self._con.execute(_LOGS)
        try:
            with tempfile.TemporaryDirectory(prefix="eventlog-query-") as self._folder:
                try:
                    for ref in logs:
                        self._log(ref)
                    self._flush()
                    self._fill_logs()
                finally:
                    if self._file is not None:
                        self._file.close()
        except duckdb.OutOfMemoryException as error:
            raise QueryError(
                "the events need more memory than the query may use",
                hint="query fewer logs, or allow more memory",
            ) from error
        except OSError as error:
            raise QueryError(
                f"the events can't be handed to the database: {error.strerror}",
                path=self._folder,
                hint="make room there, or set TMPDIR",
            ) from error

    # --- reading -----------------------------------------------------------------------------

    def _log(self, ref: LogRef) -> None:
        held = is_held(lock_beside(ref.path))
        state = LogState(file=ref.path, job_id=ref.job_id, held=held)
        self.logs.append(state)
        head = b'{"@file":%b,"@job":%b,"@seq":%%d,"@at":%%d' % (
            _text(ref.path).replace(b"%", b"%%"),
            _text(ref.job_id).replace(b"%", b"%%"),
        )
        offset = 0
        with LogFile(ref.path) as file:
            state.bytes = file.size
            try:
                for offset, line in split(file):
                    if not line.endswith(b"\n"):
                        state.torn = len(line)
                        break
                    self._line(state, offset, line[:-1], head)
                    state.lines += 1
            except LineTooLong as error:
                self._reject(state, error.offset or offset, f"{error.message}; nothing after it")
                state.lines += 1

    def _line(self, state: LogState, offset: int, raw: bytes, head: bytes) -> None:
        form = Form.V2_1
        if looks_sealed(raw):
            state.sealed += 1
        elif not raw.strip(b" \t\r"):
            state.blank += 1
            return
        else:
            converted = convert(raw)
            form = converted.form
            if form is Form.UNREADABLE:
                self._reject(state, offset, converted.left)
                return
            raw = converted.line.removeprefix(_BOM).strip(b" \t\r")
            if key := _twice(raw):
                self._reject(state, offset, f"it has `{key}` twice in one object")
                return
        if reason := _unsound(raw):
            state.sealed -= looks_sealed(raw)
            self._reject(state, offset, reason)
            return
        _count(state, form)
        parts = [head % (state.lines, offset)]
        if form is Form.OTHER:  # of another tool's line, `data` is all of it
            parts += [b',"@line":', raw]
        rest = raw[1:]
        parts += [b"" if rest.strip(b" \t\r") == b"}" else b",", rest, b"\n"]
        self._write(b"".join(parts))

    def _reject(self, state: LogState, offset: int, reason: str) -> None:
        state.rejected += 1
        self.rejected_count += 1
        if len(self.rejected) < MAX_NAMED:
            self.rejected.append(LineRejected(state.file, state.lines, offset, reason))

    # --- handing over ------------------------------------------------------------------------

    def _write(self, line: bytes) -> None:
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed when it is full
                dir=self._folder, suffix=".ndjson", delete=False
            )
        self._file.write(line)
        self._written += len(line)
        self._lines += 1
        self._longest = max(self._longest, len(line))
        if self._written >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._file is None:
            return
        path = self._file.name
        self._file.close()
        self._file = None
        self._con.execute(
            f"create temp table chunk as select * from read_ndjson(?, columns={_COLUMNS},"  # noqa: S608 - constants
            f" ignore_errors=true, maximum_object_size={max(_OBJECT, 2 * self._longest)})",
            [path],
        )
        self._con.execute(_TAKE)
        taken = self._con.execute('select count("@seq") from chunk').fetchone()
        if taken is None or taken[0] != self._lines:
            self._find_lost(path)
        self._con.execute("drop table chunk")
        os.unlink(path)
        self._written = self._lines = self._longest = 0

    def _find_lost(self, path: str) -> None:
        """Name the lines that we took for readable and DuckDB did not."""
        rows = self._con.execute('select "@file", "@seq" from chunk where "@seq" is not null')
        taken = set(rows.fetchall())
        states = {state.file: state for state in self.logs}
        with open(path, "rb") as file:
            for line in file:
                match = _HEAD.match(line)
                assert match is not None
                head = json.loads(match[0] + b"}")
                if (head["@file"], head["@seq"]) not in taken:
                    state = states[head["@file"]]
                    state.rejected += 1
                    self.rejected_count += 1
                    if len(self.rejected) < MAX_NAMED:
                        self.rejected.append(
                            LineRejected(state.file, head["@seq"], head["@at"], "not readable")
                        )

    def _fill_logs(self) -> None:
        if not self.logs:
            return
        path = os.path.join(self._folder, "logs.ndjson")
        with open(path, "xb") as file:
            file.writelines(msgspec.json.encode(state) + b"\n" for state in self.logs)
        kinds = ",".join(
            f"{name}:'{_KINDS.get(name, 'BIGINT')}'" for name in LogState.__struct_fields__
        )
        self._con.execute(f"insert into logs from read_ndjson(?, columns={{{kinds}}})", [path])
        os.unlink(path)
        # The name that a log's own lines give, if it is one.
        self._con.execute(
            "update logs set job_id = named.job_id from (select file, min(job_id) as job_id"
            " from events group by file having count(distinct job_id) = 1) as named"
            " where logs.file = named.file and logs.job_id is null"
        )


def _text(value: str | None) -> bytes:
    # A path that is not UTF-8 is shown with question marks; it is only a name here.
    clean = None if value is None else value.encode("utf-8", "replace").decode()
    return msgspec.json.encode(clean)


def _count(state: LogState, form: Form) -> None:
    match form:
        case Form.V1:
            state.v1 += 1
        case Form.V2_0:
            state.v2_0 += 1
        case Form.V2_1:
            state.v2_1 += 1
        case _:
            state.other += 1


def _unsound(raw: bytes) -> str:
    """Return why DuckDB would not take the line for what it is, or nothing."""
    try:
        if not raw.isascii():
            raw.decode("utf-8")
        _SHAPE.decode(raw)
    except UnicodeDecodeError as error:
        return f"byte {error.start} is not UTF-8"
    except (msgspec.DecodeError, RecursionError) as error:
        return f"it can't be decoded: {error}"
    return ""


class _TwiceError(ValueError):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({key for key, _ in pairs}) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=str, parse_float=str)


def _twice(raw: bytes) -> str:
    """Return a key that stands twice in one object: readers disagree on which of them counts."""
    try:
        _DECODER.decode(raw.decode("utf-8"))
    except _TwiceError as error:
        return str(error)
    except (ValueError, RecursionError):
        return ""  # told by the check that follows
    return ""
