"""Where logs are, and which file is the lock of one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from .errors import EventLogError, LogNotFound

LOG_NAME = "events.jsonl"
MAX_DEPTH = 16
MAX_LOGS = 2_000_000
_BESIDE = {"outputs", "artifacts", "inputs", "inbox"}
"""Folders beside a log that hold what its job wrote: a file there is no log of ours."""


class LogRef(NamedTuple):
    """A log, and the job whose log it is where its lines don't say."""

    path: str
    job_id: str | None = None


def is_set_aside(path: str) -> bool:
    """Return whether the name is one that migration or recovery gives: never read as a log."""
    name = os.path.basename(path)
    return name.endswith((".v1", ".migrating")) or ".torn-" in name


def lock_beside(path: str) -> str:
    """Return the lock of a log: the folder's `.lock` if there is one, else `<path>.lock`."""
    shared = os.path.join(os.path.dirname(path), ".lock")
    return shared if os.path.isfile(shared) else f"{path}.lock"


def find_logs(target: str | os.PathLike[str], *, any_jsonl: bool = False) -> list[str]:
    """Return the logs at a path, in the order of their names.

    A file is taken as it is. In a folder, every `events.jsonl` counts, however deep it lies;
    links and hidden folders are not followed.

    Args:
        target: a log or a folder.
        any_jsonl: in a folder without any `events.jsonl`, take the other `*.jsonl` files.

    Raises:
        LogNotFound: there is nothing at the path.
        EventLogError: the folder can't be read, or holds too much.
    """
    path = os.fspath(target)
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        raise LogNotFound(
            f"there is no log or folder here: {error.strerror}", path=path, hint="check the path"
        ) from error
    if not is_folder:
        return [path]
    found: list[str] = []
    for log in _walk(path, 0):
        found.append(log)
        if len(found) > MAX_LOGS:
            raise EventLogError(f"more than {MAX_LOGS} logs", path=path, hint="name a part of them")
    if not found and any_jsonl:
        found = [
            os.path.join(path, entry.name)
            for entry in _entries(path)
            if entry.name.endswith(".jsonl") and entry.is_file(follow_symlinks=False)
        ]
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []  # it went away while we looked
    except OSError as error:
        raise EventLogError(f"the folder can't be read: {error.strerror}", path=folder) from error


def _walk(folder: str, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise EventLogError(f"folders nest deeper than {MAX_DEPTH}", path=folder)
    entries = _entries(folder)
    has_log = any(
        entry.name == LOG_NAME and entry.is_file(follow_symlinks=False) for entry in entries
    )
    if has_log:
        yield os.path.join(folder, LOG_NAME)
    for entry in entries:
        if entry.name.startswith(".") or (has_log and entry.name in _BESIDE):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, depth + 1)
