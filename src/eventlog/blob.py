"""Private files without a name: what a database is given in place of real ones.

SQL of users may find a way to the files that its database was allowed to read. So it is never
given a log or an index, only a copy that nobody else has; on Linux it lies in memory, and can be
sealed against writing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
import tempfile
import zlib
from types import TracebackType
from typing import Self

_CHUNK = 1 << 20
_IN_MEMORY = 256 << 20
"""A copy larger than this goes to the disk."""


class Blob:
    """A file that only this process has, and that goes with it.

    Args:
        size: how large it will be, as far as known.

    Raises:
        OSError: there is no room.
    """

    def __init__(self, size: int = 0) -> None:
        self._folder = ""
        self._crc: int | None = None
        self.in_memory = sys.platform == "linux" and size <= _IN_MEMORY
        if self.in_memory:
            self.fd = os.memfd_create("eventlog", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            self.path = f"/dev/fd/{self.fd}"
            return
        self._folder = tempfile.mkdtemp(prefix="eventlog-")
        self.path = os.path.join(self._folder, "blob")
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    @property
    def size(self) -> int:
        """Bytes that are in it."""
        return os.fstat(self.fd).st_size

    def write(self, data: bytes) -> None:
        """Append."""
        view = memoryview(data)
        while view:
            written = os.write(self.fd, view)
            if written <= 0:
                raise OSError(errno.EIO, "a write wrote nothing")
            view = view[written:]

    def read(self, offset: int = 0, size: int = -1) -> bytes:
        """Return bytes from a position on."""
        parts: list[bytes] = []
        left = self.size - offset if size < 0 else size
        while left > 0 and (part := os.pread(self.fd, min(left, _CHUNK), offset)):
            parts.append(part)
            offset, left = offset + len(part), left - len(part)
        return b"".join(parts)

    def copy_from(self, fd: int) -> None:
        """Append all of an open file, without moving its cursor."""
        offset = 0
        while part := os.pread(fd, _CHUNK, offset):
            self.write(part)
            offset += len(part)

    def seal(self) -> None:
        """Let nobody write it any more; where the system can't see to that, `intact` tells."""
        if self.in_memory:
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        else:
            self._crc = self.crc()

    def intact(self) -> bool:
        """Return whether nobody has written it since it was sealed."""
        return self.in_memory or self._crc == self.crc()

    def crc(self) -> int:
        """Return a checksum of all bytes."""
        crc = offset = 0
        while part := os.pread(self.fd, _CHUNK, offset):
            crc, offset = zlib.crc32(part, crc), offset + len(part)
        return crc

    def close(self) -> None:
        """Forget it; more than once is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
