"""Mutants of what replaces files as a whole: `write_whole` and migration; see `mutants`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from eventlog import inplace

from . import replaced
from .memory import MemoryFiles
from .mutants import Mutant, replacing, without
from .recorded import RecordedFiles


def _in_place(files: Any, path: str, data: bytes) -> None:
    fd = files.open(path, os.O_WRONLY | os.O_CREAT)
    files.truncate(fd, 0)
    files.write(fd, data)
    files.sync(fd)
    files.close(fd)
    files.sync_dir("/")


def _whole(name: str, plant: Callable[[], AbstractContextManager[Any]]) -> Mutant:
    return Mutant(
        name, plant, lambda seed, samples, tally, _: replaced.run_whole(seed, samples, tally)
    )


def _migration(name: str, plant: Callable[[], AbstractContextManager[Any]]) -> Mutant:
    return Mutant(name, plant, replaced.run_migration)


REPLACED = (
    _whole("write_whole: no sync of the file", without(MemoryFiles, "sync", "write_whole")),
    _whole("write_whole: no sync of the folder", without(MemoryFiles, "sync_dir", "write_whole")),
    _whole("write_whole: in place", replacing(replaced, "write_whole", _in_place)),
    _migration("migration: no sync of the new log", without(RecordedFiles, "sync", "_write")),
    _migration(
        "migration: the old log's second name is not synced",
        without(RecordedFiles, "sync_dir", "put_in_place", nth=1),
    ),
    _migration(
        "migration: the new log's name is not synced",
        without(RecordedFiles, "sync_dir", "put_in_place", nth=2),
    ),
    _migration("migration: the old log is not kept", replacing(inplace, "_keep", lambda *_: False)),
)
