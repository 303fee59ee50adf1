"""Files below one folder, reached without following a link.

Each folder on the way is opened from the one above it (`openat` with `O_NOFOLLOW`), so that
what is checked is what is used: swapping a folder for a link between two calls leads to a
refusal, never outside. Everything durable goes through one `DirFiles` object, so that a test
can record, cut or fail each call.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator

from eventlog.fs import Files, write_all

from .errors import OrchestratorError
from .safepath import TEMPORARY, UnsafePath

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CHUNK_BYTES = 1 << 20


class DirFiles(Files):
    """The log's calls, and those that name a file by an open folder and a single name."""

    def open_at(self, folder: int, name: str, flags: int, mode: int = 0o600) -> int:
        """Open without following a link; children don't inherit it."""
        return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode, dir_fd=folder)

    def mkdir(self, path: str) -> None:
        """Make a folder that is its owner's alone."""
        os.mkdir(path, 0o700)

    def mkdir_at(self, folder: int, name: str) -> None:
        """Make a folder that is its owner's alone."""
        os.mkdir(name, 0o700, dir_fd=folder)

    def rename_at(self, folder: int, old: str, new: str) -> None:
        """Move within a folder atomically, replacing what is there."""
        os.replace(old, new, src_dir_fd=folder, dst_dir_fd=folder)

    def link_at(self, folder: int, old: str, new: str) -> None:
        """Give a file a second name in the same folder; fails if the name is taken."""
        os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)

    def unlink_at(self, folder: int, name: str) -> None:
        """Remove a name from a folder."""
        os.unlink(name, dir_fd=folder)


class FileStoreError(OrchestratorError, OSError):
    """The system refused a call; `errno` is what it said."""

    def __init__(self, operation: str, path: str, number: int, *, hint: str = "") -> None:
        name = errno.errorcode.get(number, "unknown error")
        super().__init__(f"can't {operation} {path}: {name}, {os.strerror(number)}", hint=hint)
        self.operation = operation
        self.path = path
        self.errno = number


class FileExists(FileStoreError, FileExistsError):
    """`create_new` was asked for and the file is there."""


class FileNotThere(FileStoreError, FileNotFoundError):
    """The file to be read is not there."""


_HINTS = {
    errno.ENOSPC: "the disk is full: free some space and run again",
    errno.EDQUOT: "the disk quota is used up: free some space and run again",
    errno.EACCES: "check the owner and the mode of the folder",
    errno.EROFS: "the file system is mounted read-only",
    errno.ENOTDIR: "a file has the name of one of the folders: choose another path",
    errno.EISDIR: "there is a folder of this name: choose another one",
}


@contextlib.contextmanager
def translated(operation: str, path: str) -> Iterator[None]:
    """Turn the system's errors into ours, which name the operation and the file."""
    try:
        yield
    except OrchestratorError:
        raise
    except FileNotFoundError as error:
        raise FileNotThere(operation, path, errno.ENOENT) from error
    except OSError as error:
        number = error.errno or errno.EIO
        raise FileStoreError(operation, path, number, hint=_HINTS.get(number, "")) from error


class Tree:
    """The folders below `root`, made and opened one name at a time.

    Args:
        root: an absolute path; made when the first file is written.
        files: the system's calls.
    """

    def __init__(self, root: str, files: DirFiles) -> None:
        self.root = root
        self.files = files
        self._rooted = False
        self._synced: set[tuple[str, ...]] = set()

    @contextlib.contextmanager
    def folder(self, names: tuple[str, ...], *, create: bool) -> Iterator[int]:
        """Give the descriptor of a folder below the root, made if need be and asked for.

        Raises:
            UnsafePath: if a name on the way is a link or no folder.
        """
        if create:
            self._make_root()
        fd = os.open(self.root, _FOLDER)
        try:
            for depth in range(1, len(names) + 1):
                below = self._enter(fd, names[:depth], create=create)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def _make_root(self) -> None:
        missing = []
        path = self.root
        while not os.path.isdir(path):  # ends at the file system's root
            missing.append(path)
            path = os.path.dirname(path)
        if not self._rooted:
            # A process that was killed may have made this one and not synced its name. Where
            # the folder above can't be read, nobody like us made it.
            with contextlib.suppress(PermissionError):
                self.files.sync_dir(os.path.dirname(path))
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                self.files.mkdir(folder)
            self.files.sync_dir(os.path.dirname(folder))
        self._rooted = True

    def _enter(self, above: int, names: tuple[str, ...], *, create: bool) -> int:
        name = names[-1]
        made = False
        if create:
            with contextlib.suppress(FileExistsError):
                self.files.mkdir_at(above, name)
                made = True
        try:
            fd = os.open(name, _FOLDER, dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            what = what_is(above, name)
            if what == "a file":
                raise NotADirectoryError(errno.ENOTDIR, "") from error
            raise UnsafePath("/".join(names), f"{name!r} is {what}, not a folder") from error
        # A folder made by a process that was killed may not be durable yet: sync each once.
        if create and (made or names not in self._synced):
            try:
                self.files.sync(above)
            except BaseException:
                os.close(fd)
                raise
            self._synced.add(names)
        return fd


def what_is(folder: int, name: str) -> str:
    """Return what a name stands for, in words."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return "gone"
    if stat.S_ISLNK(mode):
        return "a symlink"
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a file" if stat.S_ISREG(mode) else "a special file"


def open_regular(files: DirFiles, folder: int, name: str, path: str) -> int:
    """Open a regular file for reading; `path` is for the error.

    Raises:
        UnsafePath: for a link or a special file (which is not waited for).
        OSError: as the system said it.
    """
    try:
        fd = files.open_at(folder, name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
            raise
        raise UnsafePath(path, f"{name!r} is {what_is(folder, name)}") from error
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise UnsafePath(path, f"{name!r} is a special file")


def chunks_of(files: DirFiles, fd: int) -> Iterator[bytes]:
    """Yield a file's bytes from its start."""
    offset = 0
    while chunk := files.read_at(fd, CHUNK_BYTES, offset):
        offset += len(chunk)
        yield chunk


def write_beside(
    files: DirFiles,
    folder: int,
    name: str,
    chunks: Iterable[bytes],
    *,
    replace: bool,
) -> None:
    """Write a file as a whole under a temporary name, sync it, and give it its name.

    A reader, or a crash, sees the old file or the new one. Nothing is left behind by an error.

    Args:
        files: the system's calls.
        folder: descriptor of the folder, synced afterwards.
        name: what the file is to be called.
        chunks: its bytes.
        replace: False to fail with FileExistsError if the name is taken.
    """
    temporary = TEMPORARY + os.urandom(8).hex()
    fd = files.open_at(folder, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            os.fchmod(fd, 0o600)  # whatever the umask says
            for chunk in chunks:
                write_all(files, fd, chunk)
            files.sync(fd)
        finally:
            files.close(fd)
        if replace:
            files.rename_at(folder, temporary, name)
        else:
            files.link_at(folder, temporary, name)
            files.unlink_at(folder, temporary)
    except BaseException:
        with contextlib.suppress(OSError):
            files.unlink_at(folder, temporary)
        raise
    files.sync(folder)
