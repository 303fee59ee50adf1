"""A file as a `recover.Source`: read by position, so that nobody's cursor moves."""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import Self

from .errors import EventLogError, LogNotFound, LogWriteFailed
from .fs import FILES, HINTS, Files


class FileSource:
    """An open file, with the size it has now."""

    def __init__(self, fd: int, files: Files = FILES) -> None:
        self._fd = fd
        self._files = files
        self.size = files.identity(fd)[2]

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`."""
        return self._files.read_at(self._fd, size, offset)

    def stat(self) -> os.stat_result:
        """Return what the system says of the file now."""
        return os.fstat(self._fd)


class LogFile(FileSource):
    """A log opened for reading; readers never lock.

    Raises:
        LogNotFound: there is no file, or it is a folder.
        EventLogError: it can't be read.
    """

    def __init__(self, path: str | os.PathLike[str], files: Files = FILES) -> None:
        self.path = os.fspath(path)
        self._fd = -1
        self._at = os.path.abspath(self.path)  # the process may change its folder later
        try:
            # A FIFO would block the open for ever without O_NONBLOCK; files don't heed it.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise LogNotFound(
                "there is no log here", path=self.path, hint="check the path"
            ) from error
        except OSError as error:
            raise EventLogError(
                f"the log can't be read: {error.strerror}",
                path=self.path,
                hint=HINTS.get(error.errno or 0, ""),
            ) from error
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            os.close(fd)
            what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise LogNotFound(f"this is {what}, not a log", path=self.path)
        super().__init__(fd, files)

    def refresh(self) -> None:
        """Look at the size again."""
        self.size = self._files.identity(self._fd)[2]

    def has_name(self) -> bool:
        """Return whether the log's name still means this file, or none at all."""
        try:
            named = os.stat(self._at)
        except OSError:
            return True
        return (named.st_dev, named.st_ino) == self._files.identity(self._fd)[:2]

    def close(self) -> None:
        """Close; more than once is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_name(path: str) -> None:
    """Refuse what can't be a log before a lock file is made beside it."""
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise LogNotFound("the log's folder is not there", path=path, hint="make it first")
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # not there yet; other causes are told by the open
    if stat.S_ISDIR(mode):
        raise LogNotFound("this is a folder, not a log", path=path)
    if stat.S_ISLNK(mode):
        raise LogWriteFailed(
            "a log can't be written through a symbolic link",
            path=path,
            hint=f"open the file it points to: {os.path.realpath(path)}",
        )
    if not stat.S_ISREG(mode):
        raise LogWriteFailed("this is no regular file", path=path)
