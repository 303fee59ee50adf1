"""What a writer does to the end of a log before it writes: finish the last line, or move it aside.

Each step may be the last before a crash; the next open then finds a state that the same steps
settle. Nothing is cut before a synced copy of it stands beside the log.
"""

from __future__ import annotations

import errno
import hashlib
import os

from .event import Recovered
from .fs import Files, write_all, write_over
from .lines import CHUNK
from .recover import Scan, Verdict, scan
from .source import FileSource

MAX_TAILS = 10_000


def heal(files: Files, fd: int, path: str, found: Scan) -> Recovered | None:
    """Make the file end at a line's end, and `found` say so.

    Returns:
        What was moved aside, if anything was.

    Raises:
        OSError: as the system said it; the next open's sync then has all of the file to write.
    """
    try:
        return _settle(files, fd, path, found)
    except OSError:
        write_over(files, fd, path)
        raise


def _settle(files: Files, fd: int, path: str, found: Scan) -> Recovered | None:
    if found.verdict is Verdict.UNTERMINATED:
        if found.junk:
            files.truncate(fd, found.end)
        write_all(files, fd, b"\n")
        files.sync(fd)
        found.end += 1
        if not found.sealed:
            found.unsealed_sha256 = scan(FileSource(fd, files)).unsealed_sha256
        return None
    if found.verdict is not Verdict.TORN:
        return None
    _, _, size = files.identity(fd)
    sha256 = _digest(files, fd, found.end, size)
    moved_to = _set_aside(files, fd, path, found.end, size)
    files.truncate(fd, found.end)
    files.sync(fd)
    return Recovered(
        offset=found.end,
        bytes=size - found.end,
        sha256=sha256,
        moved_to=os.path.basename(moved_to),
    )


def _set_aside(files: Files, fd: int, path: str, start: int, size: int) -> str:
    """Copy the tail to the first free `<path>.torn-<n>`, or find the copy that is there."""
    for number in range(1, MAX_TAILS):
        name = f"{path}.torn-{number}"
        try:
            copy = files.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            if not _is_copy(files, fd, start, size, name):
                continue
            # A writer died between the copy and the cut, or could not sync the copy: written
            # over itself, all of it is there for this sync.
            copy = files.open(name, os.O_WRONLY)
            made = False
        else:
            made = True
        try:
            _copy(files, fd, start, size, copy)
            files.sync(copy)
        except BaseException:
            if made:
                files.unlink(name)
            raise
        finally:
            files.close(copy)
        files.sync_dir(os.path.dirname(path))
        return name
    raise OSError(errno.EEXIST, "too many torn tails stand beside the log")


def _copy(files: Files, fd: int, start: int, size: int, copy: int) -> None:
    for offset in range(start, size, CHUNK):
        write_all(files, copy, _read(files, fd, offset, min(offset + CHUNK, size)))


def _digest(files: Files, fd: int, start: int, size: int) -> str:
    digest = hashlib.sha256()
    for offset in range(start, size, CHUNK):
        digest.update(_read(files, fd, offset, min(offset + CHUNK, size)))
    return digest.hexdigest()


def _read(files: Files, fd: int, start: int, end: int) -> bytes:
    data = files.read_at(fd, end - start, start)
    if len(data) != end - start:
        raise OSError(errno.EIO, "the file shrank while its tail was copied")
    return data


def _is_copy(files: Files, fd: int, start: int, size: int, name: str) -> bool:
    try:
        other = files.open(name, os.O_RDONLY)
    except OSError:
        return False
    try:
        if files.identity(other)[2] != size - start:
            return False
        return all(
            files.read_at(other, CHUNK, offset - start)
            == _read(files, fd, offset, min(offset + CHUNK, size))
            for offset in range(start, size, CHUNK)
        )
    except OSError:
        return False
    finally:
        files.close(other)
