"""The log command `export`."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Annotated, Any
from urllib.parse import quote

import typer

from . import export as ex
from .cli_base import Mount, OutOption, Targets, guard, say
from .cli_read import Command
from .decode import Line
from .errors import EventInvalid
from .event import LogOpened
from .find import LogRef
from .reader import read_events, read_lines
from .streams import result_file
from .table import visible

_NAMED = 5


class Form(enum.StrEnum):
    """What events are exported as."""

    JSONL = "jsonl"
    CSV = "csv"
    CLOUDEVENTS = "cloudevents"


def export_command(mount: Mount) -> Command:
    """Return the command `export`."""

    def export(
        targets: Targets = None,
        form: Annotated[Form, typer.Option("--format", help="What events become.")] = Form.JSONL,
        kind: Annotated[
            list[str] | None, typer.Option("--type", help="Only these types; `*` is a wildcard.")
        ] = None,
        source: Annotated[
            str, typer.Option("--source", metavar="URI", help="Of CloudEvents; else the log's id.")
        ] = "",
        out: OutOption = None,
    ) -> None:
        """Print events for other programs: without seq and sums, as CSV, or as CloudEvents."""
        with guard():
            refs = mount.logs(targets)
            work = _Export(refs, kind, source)
            with _sink(out) as write:
                match form:
                    case Form.JSONL:
                        work.lines(lambda line, found, _: ex.plain(line, found), write)
                    case Form.CLOUDEVENTS:
                        work.lines(ex.cloudevent, write)
                    case Form.CSV:
                        work.rows(write)
            if work.bad:
                say(f"warning: {work.bad} line{'s' if work.bad != 1 else ''} could not be read")

    return export


class _Export:
    def __init__(self, refs: list[LogRef], kinds: list[str] | None, source: str) -> None:
        self._refs = refs
        self._kinds = kinds
        self._source = source
        self.bad = 0

    def lines(
        self, make: Callable[[Line, ex.Members, str], bytes], write: Callable[[bytes], Any]
    ) -> None:
        for ref in self._refs:
            source = self._source or _source_of(ref.path)
            for line, found in self._members(ref.path):
                try:
                    write(make(line, found, source) + b"\n")
                except EventInvalid as error:
                    self._reject(ref.path, line, error)

    def rows(self, write: Callable[[bytes], Any]) -> None:
        """Write CSV in two readings: one for the columns, one for the rows."""
        rows = ex.Rows(several=len(self._refs) > 1)
        sizes = {}
        for ref in self._refs:
            for line, found in self._members(ref.path, say_bad=False):
                rows.learn(found)
                sizes[ref.path] = line.end
        write(rows.head())
        for ref in self._refs:
            for line, found in self._members(ref.path):
                if line.end > sizes.get(ref.path, 0):
                    break  # it came while we read
                write(rows.row(ref.path, line, found))

    def _members(self, path: str, *, say_bad: bool = True) -> Iterator[tuple[Line, ex.Members]]:
        for line in read_lines(path):
            if not line.raw.strip():
                continue
            try:
                found = ex.members(line)
            except EventInvalid as error:
                if say_bad:
                    self._reject(path, line, error)
                continue
            if self._is_wanted(ex.text_of(found.get("type")) or ""):
                yield line, found

    def _is_wanted(self, kind: str) -> bool:
        if self._kinds:
            return any(fnmatchcase(kind, wanted) for wanted in self._kinds)
        return kind not in ex.OWN_TYPES

    def _reject(self, path: str, line: Line, error: EventInvalid) -> None:
        self.bad += 1
        if self.bad <= _NAMED:
            say(f"  {path}:{line.seq + 1} (offset {line.offset}): {error.message}")


def _source_of(path: str) -> str:
    """Return the URN of a log's random id, or the path of one that has none."""
    for event in read_events(path, LogOpened, rejected=[]):
        if isinstance(event, LogOpened):
            return f"urn:eventlog:{quote(event.data.log_id)}"
    return quote(path)


@contextmanager
def _sink(out: str | None) -> Iterator[Callable[[bytes], Any]]:
    """Yield what takes the bytes: stdout, or a file that is there as a whole or not at all."""
    if out is None:
        if sys.stdout.isatty():
            keep = "\t\n"
            yield lambda data: sys.stdout.write(visible(data.decode("utf-8", "replace"), keep=keep))
        else:
            yield sys.stdout.buffer.write
        return
    with result_file(out) as write:
        yield write
