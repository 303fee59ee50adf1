"""What is found in a log as it is loaded: lines by version, and those that can't be read. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from .upcast import Form

MAX_NAMED = 1000
"""How many rejected lines are named; all are counted."""


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

    def count(self, form: Form, lines: int = 1, *, sealed: bool = False) -> None:
        """Count lines of a version."""
        self.sealed += lines if sealed else 0
        match form:
            case Form.V1:
                self.v1 += lines
            case Form.V2_0:
                self.v2_0 += lines
            case Form.V2_1:
                self.v2_1 += lines
            case _:
                self.other += lines


class Reading(msgspec.Struct, kw_only=True):
    """A log that is being read.

    Attributes:
        log: its number.
        job_id: whose lines those without a name are.
        place: what its rows say of where they are from.
        state: what was found so far.
        end: offset after the last complete line.
        stopped: whether nothing after `end` can be read.
        rejected: the first lines that can't be loaded.
    """

    log: int
    job_id: str | None
    place: str
    state: LogState
    end: int = 0
    stopped: bool = False
    rejected: list[LineRejected] = []

    def reject(self, seq: int, offset: int, reason: str) -> None:
        """Count a line that can't be loaded, and name it."""
        self.state.rejected += 1
        if len(self.rejected) < MAX_NAMED:
            self.rejected.append(LineRejected(self.state.file, seq, offset, reason))
