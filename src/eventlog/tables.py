"""Load logs into the tables of a database: our reader decides what a line is.

DuckDB never sees a log. Bytes are read here, up to the last complete line, looked at by
`intake`, and handed over in private memory, about 32 MiB at a time, while the next ones are being
read. A line that can't be loaded is counted and named.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from .blob import Blob
from .errors import LineTooLong, QueryError
from .found import LogState, Reading
from .intake import look, mark, marked, sound
from .lines import Source, blocks, each
from .upcast import Form

if TYPE_CHECKING:
    import duckdb

CHUNK = 32 << 20
"""Bytes that are handed over at once."""

_ALONE = 1 << 20
"""A log with more bytes to read has chunks of its own: then no line needs its log's number."""

_PACKED = 16 << 20
"""A chunk from this size on is packed at once: it takes a hundredth of the memory of a table."""

_SPILL = 64 << 20
"""Bytes of lines that are held as a table; more are packed."""

_MANY = 128
"""Packed pieces, from which on they are put together."""

_OBJECT = 16 << 20
PARQUET = "(format parquet, compression zstd, use_tmp_file false)"
_QUICK = (
    "(format parquet, compression lz4_raw, dictionary_size_limit 1000, write_bloom_filter false,"
    " use_tmp_file false)"
)
"""Of what is packed for this process alone: a quarter less work, and twice the size."""

_COLUMNS = (
    "{'@log':'INTEGER','@seq':'BIGINT','@own':'JSON','@line':'JSON','seq':'BIGINT',"
    "'ts':'VARCHAR','level':'VARCHAR','job_id':'VARCHAR','type':'VARCHAR','step':'VARCHAR',"
    "'item':'VARCHAR','data':'JSON'}"
)
RAW = """
    log integer, job_id varchar, seq bigint, ts timestamp, level varchar, type varchar,
    step varchar, item varchar, data json, own json, place varchar
"""
"""Columns of the table `raw.fresh`, and of a segment, where the hot fields follow."""

_TABLES = f"""
create schema raw;
create table raw.fresh({RAW});
create table raw.sources(log integer, job_id varchar, place varchar);
create table logs(
    file varchar, job_id varchar, lines bigint, v1 bigint, v2_0 bigint, v2_1 bigint,
    other bigint, rejected bigint, blank bigint, sealed bigint, bytes bigint, torn bigint,
    held boolean)
"""
# A stamp that our reader left as it was found may have an offset, which a cast would drop.
_TAKE = """
select log, coalesce(chunk.job_id, sources.job_id) as job_id, coalesce("@seq", seq) as seq,
    case when ts like '%Z' then try_cast(ts as timestamp) end as ts,
    level, type, step, item, coalesce(data, "@line") as data, "@own" as own, place
from (select coalesce("@log", {log}) as log, * from {chunk}) as chunk
join raw.sources as sources using (log)
where coalesce("@seq", seq) is not null
"""
_KINDS = {"file": "VARCHAR", "job_id": "VARCHAR", "held": "BOOLEAN"}


class _Piece(NamedTuple):
    """Lines that stand together in a chunk."""

    at: int
    reading: Reading
    offset: int
    form: Form
    sealed: bool
    added: int
    """Bytes that each line has more than in the log; -1 for a single line."""


class _Chunk:
    """Lines to be handed over together; `log` is whose they all are, or None."""

    def __init__(self, log: int | None = None) -> None:
        self.blob = Blob()
        self.log = log
        self.size = 0
        self.lines = 0
        self.longest = 0
        self.pieces: list[_Piece] = []

    def add(self, piece: _Piece, data: bytes, lines: int) -> None:
        self.pieces.append(piece)
        self.blob.write(data)
        self.size += len(data)
        self.lines += lines
        self.longest = max(self.longest, len(data))

    @property
    def scan(self) -> str:
        size = max(_OBJECT, 2 * self.longest)
        return (
            f"read_ndjson('{self.blob.path}', columns={_COLUMNS}, ignore_errors=true,"
            f" maximum_object_size={size})"
        )


class _Named(msgspec.Struct):
    """What tells a line of a chunk from the others."""

    log: int = msgspec.field(name="@log", default=-1)
    at: int = msgspec.field(name="@seq", default=-1)
    seq: int | float | str | bool | list[object] | dict[str, object] | None = None


class Loader:
    """Fill the tables of an unlocked database.

    Args:
        con: an empty database; until `finish` nothing else may use it.

    Attributes:
        packed: Parquet files of the rows that are not in the table `raw.fresh`.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._con.execute(_TABLES)
        self._pool = ThreadPoolExecutor(1, "eventlog-load")
        self._busy: Future[None] | None = None
        self._chunk: _Chunk | None = None
        self._held = 0
        self.packed: list[Blob] = []

    def logs(self, states: Iterable[LogState]) -> None:
        """Fill the table `logs`."""
        kinds = ",".join(f"{n}:'{_KINDS.get(n, 'BIGINT')}'" for n in LogState.__struct_fields__)
        self._insert("logs", f"{{{kinds}}}", states)

    def _insert(self, table: str, kinds: str, rows: Iterable[object]) -> None:
        with Blob() as blob:
            blob.write(_ENCODER.encode_lines([_clean(row) for row in rows]))
            if blob.size:
                self._con.execute(
                    f"insert into {table} from read_ndjson('{blob.path}', columns={kinds})"
                )

    def read(self, source: Source, reading: Reading) -> None:
        """Take in a log's lines, from `reading.end` on.

        Raises:
            QueryError: there is no room for them.
        """
        alone = source.size - reading.end > _ALONE
        if alone:
            self._flush()
        state = reading.state
        state.bytes, state.torn = source.size, 0
        try:
            for offset, block in blocks(source, reading.end):
                if not block.endswith(b"\n"):
                    state.torn = len(block)
                    break
                self._block(reading, offset, block, alone=alone)
                reading.end = offset + len(block)
        except LineTooLong as error:
            reading.reject(state.lines, error.offset or 0, f"{error.message}; nothing after it")
            state.lines += 1
            reading.stopped = True
        if alone:
            self._flush()

    def _block(self, reading: Reading, offset: int, block: bytes, *, alone: bool) -> None:
        state = reading.state
        chunk = self._room(reading.log if alone else None)
        if lines := sound(block, state.lines):
            added = 0 if alone else marked(reading.log)
            piece = _Piece(chunk.size, reading, offset, Form.V2_1, True, added)
            chunk.add(piece, block if alone else mark(block, reading.log), lines)
            state.count(Form.V2_1, lines, sealed=True)
            state.lines += lines
            return
        for line in each(block):
            found = look(line[:-1], reading.log, state.lines)
            if found is None:
                state.blank += 1
            elif found.reason:
                reading.reject(state.lines, offset, found.reason)
            else:
                piece = _Piece(chunk.size, reading, offset, found.form, found.sealed, -1)
                chunk.add(piece, found.line, 1)
                state.count(found.form, sealed=found.sealed)
            state.lines += 1
            offset += len(line)

    # --- handing over ------------------------------------------------------------------------

    def _room(self, log: int | None) -> _Chunk:
        if self._chunk is not None and self._chunk.size >= CHUNK:
            self._flush()
        if self._chunk is None:
            self._chunk = _Chunk(log)
        return self._chunk

    def _flush(self) -> None:
        """Begin to load what there is, once what was loaded before is in."""
        chunk, self._chunk = self._chunk, None
        if chunk is None:
            return
        self._wait()
        self._busy = self._pool.submit(self._load, chunk)

    def _wait(self) -> None:
        busy, self._busy = self._busy, None
        if busy is not None:
            busy.result()

    def finish(self) -> None:
        """Return when everything is in; more than once is fine.

        Raises:
            QueryError: there is no room for it.
        """
        import duckdb

        try:
            self._flush()
            self._wait()
        except duckdb.OutOfMemoryException as error:
            raise QueryError(
                "the events need more memory than the query may use",
                hint="query fewer logs, or allow more memory",
            ) from error

    def close(self) -> None:
        """Stop; what was not finished is forgotten."""
        self._pool.shutdown(cancel_futures=True)

    def _load(self, chunk: _Chunk) -> None:
        with chunk.blob:
            readings = {piece.reading.log: piece.reading for piece in chunk.pieces}
            self._insert(
                "raw.sources",
                "{log:'INTEGER',job_id:'VARCHAR',place:'VARCHAR'}",
                [{"log": r.log, "job_id": r.job_id, "place": r.place} for r in readings.values()],
            )
            log = "null" if chunk.log is None else chunk.log
            taken = self._take(chunk, _TAKE.format(log=log, chunk=chunk.scan))
            self._con.execute("truncate raw.sources")
            if taken != chunk.lines:
                self._find_lost(chunk)

    def _take(self, chunk: _Chunk, rows: str) -> int:
        """Keep the rows of a chunk; return how many there are."""
        if chunk.size >= _PACKED:
            return self._pack(rows)
        taken = self._con.execute(f"insert into raw.fresh {rows}").fetchone()
        self._held += chunk.size
        if self._held >= _SPILL:
            self._pack("from raw.fresh")
            self._con.execute("truncate raw.fresh")
            self._held = 0
        return taken[0] if taken else 0

    def _pack(self, rows: str) -> int:
        """Write rows to a Parquet file of their own; return how many there are."""
        blob = Blob()
        self.packed.append(blob)
        taken = self._con.execute(f"copy ({rows}) to '{blob.path}' {_QUICK}").fetchone()
        blob.seal()
        if len(self.packed) > _MANY:
            pieces, self.packed = self.packed, []
            self._pack(f"from read_parquet({[piece.path for piece in pieces]})")
            for piece in pieces:
                piece.close()
        return taken[0] if taken else 0

    def _find_lost(self, chunk: _Chunk) -> None:
        """Name the lines that we took for readable and DuckDB did not."""
        rows = self._con.execute(
            f'select coalesce("@log", -1), coalesce("@seq", seq) from {chunk.scan}'
            ' where coalesce("@seq", seq) is not null'
        )
        taken = set(rows.fetchall())
        data = chunk.blob.read()
        ends = [piece.at for piece in chunk.pieces[1:]] + [chunk.size]
        for piece, end in zip(chunk.pieces, ends, strict=True):
            offset = piece.offset
            for line in each(data[piece.at : end]):
                named = msgspec.json.decode(line, type=_Named)
                seq = named.seq if named.at < 0 else named.at
                assert isinstance(seq, int)
                if (named.log, seq) not in taken:
                    piece.reading.state.count(piece.form, -1, sealed=piece.sealed)
                    piece.reading.reject(seq, offset, "the database can't read it")
                offset += len(line) - piece.added


_ENCODER = msgspec.json.Encoder()


def _clean(row: object) -> dict[str, object]:
    """Show a path that is not UTF-8 with question marks; it is only a name here."""
    values = msgspec.to_builtins(row) if not isinstance(row, dict) else row
    return {
        name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in values.items()
    }
