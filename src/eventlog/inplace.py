"""Put a new file in an old one's place, and keep the old one under another name.

Each step leaves one of both whole under the log's name, so that a failure or a crash between
any two of them does no harm, and doing it again carries on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack

from .errors import MigrationRefused
from .fs import Files, write_all
from .source import FileSource

_BLOCK = 1 << 18
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


def put_in_place(
    temporary: str, path: str, was: tuple[int, int, int], files: Files, *, keep: bool
) -> str:
    """Rename a synced new file over a log; return the old one's new name, empty if not kept.

    Args:
        temporary: the new file, in the same folder.
        path: the log.
        was: device, inode and size of the log that the new file was made from.
        files: the system's calls.
        keep: keep the old log as `<path>.v1`.

    Raises:
        MigrationRefused: the log changed meanwhile, or another file stands at `<path>.v1`.
        OSError: as the system said it.
    """
    folder = os.path.dirname(path)
    # A program that knows no locks may have appended: its lines must not be lost.
    if files.identity_of(path) != was:
        raise MigrationRefused(
            "the log changed while it was read",
            path=path,
            hint="end the program that writes it, then run this again",
        )
    kept = f"{path}.v1"
    made = keep and _keep(path, kept, files)
    try:
        if made:
            files.sync_dir(folder)
        files.rename(temporary, path)
    except BaseException:
        if made:
            discard(kept, files)
        raise
    files.sync_dir(folder)
    return kept if keep else ""


def discard(path: str, files: Files) -> None:
    """Remove a file if it is there and can be removed."""
    try:
        files.unlink(path)
    except OSError:
        pass


def _keep(path: str, kept: str, files: Files) -> bool:
    """Give the old log its second name; return whether this call made it."""
    try:
        files.link(path, kept)
    except FileExistsError:
        if _same(path, kept, files):
            return False  # an earlier try was killed before its rename
        raise MigrationRefused(
            "the old log can't be kept, because another file has its name",
            path=kept,
            hint="it is the log before an earlier migration: move it away, then run this again",
        ) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy(path, kept, files)
    return True


def _copy(path: str, kept: str, files: Files) -> None:
    """Copy where the file system has no links; `kept` appears as a whole or not at all."""
    part = f"{kept}.migrating"
    discard(part, files)
    fd = files.open(path, os.O_RDONLY)
    try:
        out = files.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            source = FileSource(fd, files)
            copy(source, out, source.size, files)
            files.sync(out)
        finally:
            files.close(out)
        if os.path.lexists(kept):
            raise FileExistsError(errno.EEXIST, "another file has the name", kept)
        files.rename(part, kept)
    finally:
        files.close(fd)
        discard(part, files)


def copy(source: FileSource, out: int, size: int, files: Files) -> None:
    """Write the first `size` bytes of a file to another."""
    for block in _blocks(source, size):
        write_all(files, out, block)


def _blocks(source: FileSource, size: int) -> Iterator[bytes]:
    for start in range(0, size, _BLOCK):
        yield source.read_at(start, min(_BLOCK, size - start))


def _same(path: str, other: str, files: Files) -> bool:
    if files.identity_of(path) == files.identity_of(other):
        return True
    with ExitStack() as opened:
        sources: list[FileSource] = []
        for name in (path, other):
            try:
                fd = files.open(name, os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                return False
            opened.callback(files.close, fd)
            sources.append(FileSource(fd, files))
        one, two = sources
        return one.size == two.size and all(
            left == right
            for left, right in zip(_blocks(one, one.size), _blocks(two, two.size), strict=True)
        )
