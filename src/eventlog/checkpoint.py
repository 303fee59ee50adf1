"""Fold a log file, and go on the next time from where it was left.

    state, checkpoint = fold_file("events.jsonl", Types, TOTALS, load_checkpoint("totals.json"))
    save_checkpoint("totals.json", checkpoint)

A checkpoint is never the truth: it is used if the log still holds the line that it names, with
that sum, and otherwise the fold begins at the first line. It can be deleted at any time.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

from .decode import Decoder, Rejected
from .errors import EventLogError, LogWriteFailed
from .event import Record
from .fs import FILES, HINTS, write_whole
from .projection import Checkpoint, Projection
from .reader import read_file, resume_at, told
from .source import LogFile
from .versions import Upcasters

S = TypeVar("S")

MAX_BYTES = 1 << 28
"""Of a checkpoint's file; a larger one is not used."""


def fold_file(
    path: str | os.PathLike[str],
    types: Any,
    projection: Projection[S],
    checkpoint: Checkpoint | None = None,
    *,
    verify: bool = False,
    upcasters: Upcasters | None = None,
    rejected: list[Rejected] | None = None,
) -> tuple[S, Checkpoint]:
    """Return the state after a log's last complete line, and a checkpoint of it.

    Args:
        path: the log file.
        types: as for `read`.
        projection: the state and how it follows.
        checkpoint: of an earlier fold with this projection. It is passed over, and the whole log
            read, if its line is not there any more (what was not synced may be taken back, or
            the log is another one), if that line is unsealed, or if the projection has another
            version.
        verify: check the sum of each line that is read.
        upcasters: for events of older versions.
        rejected: where to note lines that can't be read; without it the first one raises. What
            stands before the checkpoint is not looked at again.

    Raises:
        LogNotFound, LineTooLong, EventInvalid, LogDamaged: as `read`.
        EventInvalid: the state can't be stored (see `Projection`).
    """
    decode: Decoder[Any] = Decoder(types, verify=verify, upcasters=upcasters)
    last: Record[Any] | None = None
    with LogFile(path) as file:
        state, start, seq = projection.initial(), 0, 0
        if checkpoint is not None:
            seq = checkpoint.seq + 1
            with told(file.path, lambda: seq):
                found = resume_at(file, checkpoint)
            restored = None if found is None else projection.restore(checkpoint)
            if found is None or restored is None:
                checkpoint, seq = None, 0
            else:
                state, start = restored, found
        for record in read_file(file, decode.records, decode, rejected, start, seq):
            state, last = projection.evolve(state, record), record
    if last is None and checkpoint is not None:
        return state, checkpoint
    return state, projection.checkpoint(state, last)


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint to a file, which is replaced as a whole.

    Raises:
        LogWriteFailed: the system refused.
    """
    name = os.fspath(path)
    try:
        # Not synced: one that a power cut spoils shows that it is, and is made again.
        write_whole(FILES, name, checkpoint.encode(), durable=False)
    except OSError as error:
        raise LogWriteFailed(
            f"the checkpoint can't be written: {error.strerror}",
            path=name,
            hint=HINTS.get(error.errno or 0, "check the disk"),
        ) from error


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint | None:
    """Return the checkpoint in a file, None if there is none that is whole.

    Raises:
        EventLogError: the file is there and can't be read.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            return Checkpoint.decode(file.read(MAX_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EventLogError(f"the checkpoint can't be read: {error.strerror}", path=name) from error
