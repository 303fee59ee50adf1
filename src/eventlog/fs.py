"""The calls that the log makes of the operating system, and what differs between systems.

Everything durable goes through a `Files` object, so that a test can record, cut or fail each
call. It adds no policy: what to do about a failure is the caller's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

if sys.platform == "darwin":  # pragma: no cover - fsync there does not reach the disk's platter

    def _sync(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

    _sync_data = _sync
else:
    _sync = os.fsync
    _sync_data = os.fdatasync

HINTS = {
    errno.ENOSPC: "make room on the disk, then open the log again",
    errno.EDQUOT: "make room in the quota, then open the log again",
    errno.EACCES: "check the owner and the permissions of the file and its folder",
    errno.EPERM: "check the owner, the permissions and the attributes of the file",
    errno.EROFS: "the file system is mounted read-only: write elsewhere, or remount it",
    errno.EMFILE: "too many files are open: close some, or raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this system",
}
"""What to do about an error number, where there is more to say than `check the disk`."""


class Files:
    """The real calls. Flags and modes are POSIX's; errors are OSError, untranslated."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        """Open without following a link at the last component; children don't inherit it."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode)

    def close(self, fd: int) -> None:
        """Close."""
        os.close(fd)

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes at `offset`."""
        return os.pread(fd, size, offset)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write once; may write less than given."""
        return os.write(fd, data)

    def sync_data(self, fd: int) -> None:
        """Return when the file's bytes and its size are on the disk."""
        _sync_data(fd)

    def sync(self, fd: int) -> None:
        """Return when the file and its metadata are on the disk."""
        _sync(fd)

    def sync_dir(self, path: str) -> None:
        """Return when the names in a folder are on the disk."""
        fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _sync(fd)
        finally:
            os.close(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(fd, size)

    def rename(self, old: str, new: str) -> None:
        """Move atomically, replacing what is there."""
        os.replace(old, new)

    def link(self, old: str, new: str) -> None:
        """Give a file a second name; fails if the name is taken."""
        os.link(old, new, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        """Remove a name."""
        os.unlink(path)

    def size(self, fd: int) -> int:
        """Return the bytes of an open file; moves the cursor."""
        return os.lseek(fd, 0, os.SEEK_END)

    def identity(self, fd: int) -> tuple[int, int, int]:
        """Return device, inode and size of an open file."""
        stat = os.fstat(fd)
        return stat.st_dev, stat.st_ino, stat.st_size

    def identity_of(self, path: str) -> tuple[int, int, int]:
        """Return device, inode and size of what has this name now."""
        stat = os.lstat(path)
        return stat.st_dev, stat.st_ino, stat.st_size

    def lock(self, fd: int, *, shared: bool = False) -> bool:
        """Take a lock that the kernel frees with the process; False if another one holds it."""
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


FILES = Files()

_CHUNK = 1 << 18


def write_all(files: Files, fd: int, data: bytes) -> None:
    """Write every byte, in as many calls as the system needs.

    Raises:
        OSError: as the system said it; part of the bytes may have been written.
    """
    written = files.write(fd, data) if data else 0
    if written == len(data):  # as nearly always
        return
    view = memoryview(data)
    while view := view[written:]:
        if written <= 0:
            raise OSError(errno.EIO, "a write wrote nothing")
        written = files.write(fd, view)


def write_over(files: Files, fd: int, path: str) -> None:
    """Write a file's bytes over themselves, so that the next sync has them to write.

    After a failed sync the system calls pages clean that may never have reached the disk: they
    are read as if all were well, and a later sync passes them by. What can't be done is left.

    Args:
        files: the system's calls.
        fd: of the file, open for reading.
        path: its name; if that is another file's by now, nothing is done.
    """
    try:
        out = files.open(path, os.O_WRONLY)
        try:
            device, inode, size = files.identity(fd)
            if files.identity(out)[:2] == (device, inode):
                for offset in range(0, size, _CHUNK):
                    write_all(files, out, files.read_at(fd, min(_CHUNK, size - offset), offset))
        finally:
            files.close(out)
    except OSError:
        pass


def write_whole(
    files: Files, path: str, data: bytes, mode: int = 0o600, *, durable: bool = True
) -> None:
    """Replace a file as a whole: a reader, or a crash, sees the old one or the new one.

    Writes a temporary file beside it, syncs, renames, syncs the folder. Without `durable` it
    does not sync, and a power cut may leave neither.
    """
    temporary = f"{path}.tmp-{os.getpid()}-{os.urandom(4).hex()}"
    fd = files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        try:
            write_all(files, fd, data)
            if durable:
                files.sync(fd)
        finally:
            files.close(fd)
        files.rename(temporary, path)
    except BaseException:
        try:
            files.unlink(temporary)
        except OSError:
            pass
        raise
    if durable:
        files.sync_dir(os.path.dirname(path))
