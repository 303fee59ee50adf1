"""A file system in memory behind the log's `Files`: fast, recorded, failing on demand."""

from __future__ import annotations

import errno
import os

from eventlog.fs import Files

from .calls import Cut, Named, Op, Renamed, State, Synced, SyncedFolder, Unnamed, Wrote

_FIRST_FD = 1 << 28
"""No descriptor of the system's is that high: a call that passes by this seam fails."""


class Bytes:
    """Bytes for `eventlog.scan`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return a slice."""
        return self._data[offset : offset + size]


class Fault:
    """The `nth` call of this name (from 1) fails.

    Args:
        name: `write`, `sync` (of data or all), `truncate`, `sync_dir`.
        nth: which.
        number: the errno.
        partial: how many bytes a failing write writes first.
        lasting: all later ones fail as well.
    """

    def __init__(
        self, name: str, nth: int, number: int, *, partial: int = 0, lasting: bool = False
    ) -> None:
        self.name, self.nth, self.number = name, nth, number
        self.partial, self.lasting = partial, lasting
        self.hits = 0
        self._count = 0

    def due(self, name: str) -> bool:
        """Count a call, and say whether it fails."""
        if name != self.name:
            return False
        self._count += 1
        due = self._count >= self.nth if self.lasting else self._count == self.nth
        self.hits += due
        return due

    def error(self) -> OSError:
        """Return what the call raises."""
        return OSError(self.number, os.strerror(self.number))


class _Node:
    __slots__ = ("data", "ino")

    def __init__(self, ino: int, data: bytes = b"") -> None:
        self.ino = ino
        self.data = bytearray(data)


class _Handle:
    __slots__ = ("append", "node", "position", "short", "silent")

    def __init__(self, node: _Node, *, append: bool, silent: bool) -> None:
        self.node, self.append, self.silent = node, append, silent
        self.position = 0
        self.short = False


class MemoryFiles(Files):
    """Files in memory.

    Args:
        state: what is there; a killed program's successor is given the same object instead.
        ops: where calls are noted, if anywhere. Lock files are not: what is in them is for
            messages only.
    """

    def __init__(self, state: State | None = None, ops: list[Op] | None = None) -> None:
        self.ops = ops
        self.fault: Fault | None = None
        self.step = 0
        """Bytes that one write takes at most; 0 for all."""
        self._nodes = {
            path: _Node(ino, data) for ino, (path, data) in enumerate((state or {}).items(), 1)
        }
        self._inos = len(self._nodes)
        self._handles: dict[int, _Handle] = {}
        self._fds = _FIRST_FD

    def inos(self) -> dict[str, int]:
        """Return the number of each file that is there."""
        return {path: node.ino for path, node in self._nodes.items()}

    def state(self) -> State:
        """Return what is there, lock files apart."""
        return {
            path: bytes(node.data)
            for path, node in self._nodes.items()
            if not path.endswith(".lock")
        }

    def content(self, path: str) -> bytes:
        """Return a file's bytes; empty if it is not there."""
        node = self._nodes.get(path)
        return bytes(node.data) if node else b""

    def _note(self, op: Op) -> None:
        if self.ops is not None:
            self.ops.append(op)

    def _fails(self, name: str) -> bool:
        return self.fault is not None and self.fault.due(name)

    def _error(self) -> OSError:
        assert self.fault is not None
        return self.fault.error()

    # --- the calls ---------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        node = self._nodes.get(path)
        silent = path.endswith(".lock")
        if node is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self._inos += 1
            node = self._nodes[path] = _Node(self._inos)
            if not silent:
                self._note(Named(path, node.ino))
        elif flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, "the file exists", path)
        self._fds += 1
        self._handles[self._fds] = _Handle(node, append=bool(flags & os.O_APPEND), silent=silent)
        return self._fds

    def close(self, fd: int) -> None:
        del self._handles[fd]

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        return bytes(self._handles[fd].node.data[offset : offset + size])

    def write(self, fd: int, data: bytes | memoryview) -> int:
        handle = self._handles[fd]
        error = None
        if self._fails("write"):
            assert self.fault is not None
            data, error = data[: self.fault.partial], self._error()
        rest, handle.short = handle.short, bool(self.step) and len(data) > self.step
        if handle.short:
            data = data[: self.step]
        if data:
            content = handle.node.data
            start = len(content) if handle.append else handle.position
            content[start : start + len(data)] = data
            handle.position = start + len(data)
            self._note(Wrote(handle.node.ino, start, bytes(data), rest))
        if error is not None:
            raise error
        return len(data)

    def sync(self, fd: int) -> None:
        ino = self._handles[fd].node.ino
        if self._fails("sync"):
            self._note(Synced(ino, failed=True))
            raise self._error()
        self._note(Synced(ino))

    def sync_data(self, fd: int) -> None:
        self.sync(fd)

    def sync_dir(self, path: str) -> None:
        if self._fails("sync_dir"):
            raise self._error()
        self._note(SyncedFolder(path))

    def truncate(self, fd: int, size: int) -> None:
        handle = self._handles[fd]
        if not handle.silent and self._fails("truncate"):
            raise self._error()
        content = handle.node.data
        if size < len(content):
            del content[size:]
        else:
            content.extend(bytes(size - len(content)))
        if not handle.silent:
            self._note(Cut(handle.node.ino, size))

    def rename(self, old: str, new: str) -> None:
        node = self._nodes.pop(old)
        self._nodes[new] = node
        self._note(Renamed(old, new, node.ino))

    def link(self, old: str, new: str) -> None:
        if new in self._nodes:
            raise FileExistsError(errno.EEXIST, "the file exists", new)
        self._nodes[new] = self._nodes[old]
        self._note(Named(new, self._nodes[old].ino))

    def unlink(self, path: str) -> None:
        if path not in self._nodes:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        del self._nodes[path]
        self._note(Unnamed(path))

    def size(self, fd: int) -> int:
        return len(self._handles[fd].node.data)

    def identity(self, fd: int) -> tuple[int, int, int]:
        node = self._handles[fd].node
        return 1, node.ino, len(node.data)

    def identity_of(self, path: str) -> tuple[int, int, int]:
        node = self._nodes.get(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return 1, node.ino, len(node.data)

    def lock(self, fd: int, *, shared: bool = False) -> bool:
        return True
