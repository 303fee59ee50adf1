"""Mutants of the file store; see `mutants`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from orchestrator import filestore

from . import stored
from .mutants import Mutant, replacing, without
from .recorded import RecordedFiles


def _in_place(files: Any, folder: int, name: str, chunks: Any, *, replace: bool) -> None:
    data = b"".join(chunks)
    flags = os.O_WRONLY | os.O_CREAT | (0 if replace else os.O_EXCL)
    fd = files.open_at(folder, name, flags)
    files.truncate(fd, 0)
    files.write(fd, data)
    files.sync(fd)
    files.close(fd)
    files.sync(folder)


def _early(files: Any, folder: int, name: str, chunks: Any, *, replace: bool) -> None:
    """Give the file its name before its bytes."""
    data = b"".join(chunks)
    temporary = ".orch-tmp-early"
    fd = files.open_at(folder, temporary, os.O_WRONLY | os.O_CREAT)
    if replace:
        files.rename_at(folder, temporary, name)
    else:
        files.link_at(folder, temporary, name)
        files.unlink_at(folder, temporary)
    files.write(fd, data)
    files.sync(fd)
    files.close(fd)
    files.sync(folder)


def _store(name: str, plant: Callable[[], AbstractContextManager[Any]]) -> Mutant:
    return Mutant(f"FileStore: {name}", plant, stored.run)


def _drop(nth: int = 0, caller: str = "write_beside") -> Callable[[], AbstractContextManager[Any]]:
    return without(RecordedFiles, "sync", caller, nth=nth)


STORED = (
    _store("no sync of the file", _drop(1)),
    _store("no sync of the folder", _drop(2)),
    _store("no sync of what is found unchanged", _drop(caller="_same")),
    _store("no sync of a new folder's name", _drop(caller="_enter")),
    _store("no sync of the base's name", without(RecordedFiles, "sync_dir", "_make_root")),
    _store("in place", replacing(filestore, "write_beside", _in_place)),
    _store("the name before the bytes", replacing(filestore, "write_beside", _early)),
)
