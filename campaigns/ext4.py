"""An ext4 on a loop device whose power can be cut: root only, Linux only."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
_IMAGE_BYTES = 64 << 20
_TRIES = 200
NEEDED = ("mkfs.ext4", "mount", "umount")


def missing() -> str:
    """Return why the power can't be cut here, or nothing."""
    if not sys.platform.startswith("linux"):
        return "only Linux has the ioctl"
    if os.geteuid() != 0:
        return "only root may mount"
    if gone := [name for name in NEEDED if shutil.which(name) is None]:
        return f"{', '.join(gone)} is not installed"
    try:
        with tempfile.TemporaryDirectory() as folder, disk(folder):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", b"") or b""
        return f"a loop device can't be mounted: {told.decode().strip() or error}"


class Mounted:
    """An ext4 in a file, mounted at `path`."""

    def __init__(self, folder: str) -> None:
        self._image = os.path.join(folder, "image")
        self.path = os.path.join(folder, "mounted")
        self._is_mounted = False
        os.mkdir(self.path)
        with open(self._image, "wb") as file:
            file.truncate(_IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", self._image)

    def mount(self) -> None:
        """Mount it; after a cut this replays its journal."""
        _run("mount", "-o", "loop", self._image, self.path)
        self._is_mounted = True

    def cut(self) -> None:
        """Stop it as a power cut does."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Write back what is in memory now, and no other file system's."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ctypes.CDLL(None).syncfs(fd)
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """Unmount it; a process that was killed may hold it for a moment."""
        for _ in range(_TRIES):
            if not self._is_mounted:
                return
            try:
                _run("umount", self.path)
                self._is_mounted = False
            except subprocess.CalledProcessError:
                time.sleep(0.01)
        if self._is_mounted:
            _run("umount", "-l", self.path)
            self._is_mounted = False


@contextmanager
def disk(folder: str) -> Iterator[Mounted]:
    """Give a mounted ext4 in a file, which is unmounted whatever happens."""
    mounted = Mounted(folder)
    try:
        mounted.mount()
        yield mounted
    finally:
        mounted.unmount()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
