"""The real calls in a real folder, noted; a call may be the last that a process makes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from eventlog.fs import Files

from .calls import Cut, Made, Named, Op, Renamed, State, Synced, SyncedFolder, Unnamed, Wrote


class Died(BaseException):
    """The process died here: nothing after it was run."""


class RecordedFiles(Files):
    """Real calls below one folder, noted in `ops`. Nothing waits for the disk.

    Args:
        root: absolute; what is there already has numbers in `inos`.
        ops: takes the calls.
    """

    def __init__(self, root: str, ops: list[Op]) -> None:
        self.root = root
        self.ops = ops
        self.dies_at = -1
        """Which call from now on is never made; the program gets no further."""
        self._count = itertools.count(1)
        self.inos = {path: next(self._count) for path in read_all(root)}
        self._fds: dict[int, int | None] = {}
        self._folders: dict[tuple[int, int], str] = {}
        self.know(root)

    def know(self, folder: str) -> None:
        """Learn a folder, so that its descriptors tell its path."""
        stat = os.stat(folder)
        self._folders[stat.st_dev, stat.st_ino] = folder

    def path_of(self, folder: int, name: str) -> str:
        """Return the path of a name in an open folder."""
        stat = os.fstat(folder)
        return os.path.join(self._folders[stat.st_dev, stat.st_ino], name)

    def step(self) -> None:
        """Count a call that changes something; die if it is not to be made."""
        self.dies_at -= 1
        if self.dies_at == 0:
            raise Died

    # --- by path -----------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return self.opened(path, flags, lambda: super(RecordedFiles, self).open(path, flags, mode))

    def opened(self, path: str, flags: int, call: Callable[[], int]) -> int:
        """Open by `call`, and note the name if that made it."""
        if path.endswith(".lock"):
            fd = call()
            self._fds[fd] = None
            return fd
        new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        if new:
            self.step()
        fd = call()
        if new:
            self.inos[path] = next(self._count)
            self.ops.append(Named(path, self.inos[path]))
        self._fds[fd] = self.inos[path]
        return fd

    def rename(self, old: str, new: str) -> None:
        self.step()
        super().rename(old, new)
        self.renamed(old, new)

    def renamed(self, old: str, new: str) -> None:
        """Note a rename."""
        self.inos[new] = self.inos.pop(old)
        self.ops.append(Renamed(old, new, self.inos[new]))

    def link(self, old: str, new: str) -> None:
        self.step()
        super().link(old, new)
        self.linked(old, new)

    def linked(self, old: str, new: str) -> None:
        """Note a link."""
        self.inos[new] = self.inos[old]
        self.ops.append(Named(new, self.inos[new]))

    def unlink(self, path: str) -> None:
        self.step()
        super().unlink(path)
        self.unlinked(path)

    def unlinked(self, path: str) -> None:
        """Note that a name went."""
        del self.inos[path]
        self.ops.append(Unnamed(path))

    def made(self, path: str) -> None:
        """Note a new folder."""
        self.know(path)
        self.ops.append(Made(path))

    def sync_dir(self, path: str) -> None:
        self.step()
        self.ops.append(SyncedFolder(path))

    # --- by descriptor -----------------------------------------------------------------------

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self.step()
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        written = super().write(fd, data)
        ino = self._fds[fd]
        if ino is not None:
            self.ops.append(Wrote(ino, offset, bytes(data[:written])))
        return written

    def sync(self, fd: int) -> None:
        self.step()
        ino = self._fds.get(fd)
        stat = os.fstat(fd)
        folder = self._folders.get((stat.st_dev, stat.st_ino))
        if folder is not None:
            self.ops.append(SyncedFolder(folder))
        elif ino is not None:
            self.ops.append(Synced(ino))

    def sync_data(self, fd: int) -> None:
        self.sync(fd)

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        ino = self._fds[fd]
        if ino is not None:
            self.ops.append(Cut(ino, size))

    def close(self, fd: int) -> None:
        self._fds.pop(fd, None)
        super().close(fd)


def read_all(root: str) -> State:
    """Return all files below a folder, lock files apart, by absolute path."""
    state: State = {}
    for folder, _, names in os.walk(root):
        for name in names:
            if not name.endswith(".lock"):
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    state[path] = file.read()
    return state


def put_all(state: State, root: str, at: str) -> None:
    """Make the files of a state, which lay below `root`, below another folder."""
    for path, data in state.items():
        target = os.path.join(at, os.path.relpath(path, root))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(data)
