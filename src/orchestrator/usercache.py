"""The user's own cache folder: entries of scope `user`, shared by every runs/ of this user.

It lies in `$ORCH_CACHE_DIR`, else in `$XDG_CACHE_HOME/orchestrator`, else in
`~/.cache/orchestrator`. It is used only if it belongs to this user and nobody else can write it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping

from eventlog.fs import FILES, write_whole

from .cachefile import BAD, SUFFIX, Found, Refused, load

VARIABLE = "ORCH_CACHE_DIR"


def user_folder(environ: Mapping[str, str]) -> str:
    """Return where the user's cache is; empty where that can't be said."""
    chosen = environ.get(VARIABLE, "").strip()
    if chosen:
        return os.path.abspath(chosen)
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # as the XDG specification has it
        home = environ.get("HOME", "")
        base = os.path.join(home, ".cache") if os.path.isabs(home) else ""
    return os.path.join(base, "orchestrator") if base else ""


class UserCache:
    """Entries by key, in `answers/<first two digits>/<key>.json`.

    Args:
        folder: as `user_folder` says.
        warn: told why the folder is not used, once, and of entries that were set aside.
    """

    def __init__(self, folder: str, warn: Callable[[str], None]) -> None:
        self._base = os.path.join(folder, "answers") if folder else ""
        self._folder = folder
        self._warn = warn
        self._usable: bool | None = None

    def load(self, key: str) -> Found | None:
        """Return a key's entry, or None."""
        if not self._ready():
            return None
        path = self.path(key)
        found = load(path, key)
        if isinstance(found, Refused):
            set_aside(path, found.why, self._warn)
            return None
        return found

    def store(self, key: str, raw: bytes) -> None:
        """Keep an entry; what can't be written is told and is no error: the job has its own."""
        if not self._ready():
            return
        path = self.path(key)
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            write_whole(FILES, path, raw, durable=False)
        except OSError as error:
            self._refuse(f"it can't be written: {error.strerror}")

    def paths(self) -> Iterator[tuple[str, str]]:
        """Yield each key and its file."""
        if not self._ready():
            return
        for parent, _, names in os.walk(self._base):
            for name in sorted(names):
                if name.endswith(SUFFIX):
                    yield name.removesuffix(SUFFIX), os.path.join(parent, name)

    def path(self, key: str) -> str:
        """Return where a key's entry is."""
        return os.path.join(self._base, key[:2], key + SUFFIX)

    def _ready(self) -> bool:
        if self._usable is None:
            self._usable = bool(self._base) and self._check()
        return self._usable

    def _check(self) -> bool:
        try:
            # Each by itself: `os.makedirs` gives its mode to the last one only.
            os.makedirs(os.path.dirname(self._folder), mode=0o700, exist_ok=True)
            for folder in (self._folder, self._base):
                if not os.path.isdir(folder):
                    os.mkdir(folder, 0o700)
            for folder in (self._folder, self._base):
                info = os.lstat(folder)
                if not stat.S_ISDIR(info.st_mode):
                    return self._refuse(f"{folder} is no folder")
                if info.st_uid != os.geteuid():
                    return self._refuse(f"{folder} belongs to another user")
                if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    return self._refuse(f"others can write {folder}: chmod go-w it")
        except OSError as error:
            return self._refuse(f"{error.strerror}")
        return True

    def _refuse(self, why: str) -> bool:
        self._usable = False
        self._warn(f"warning: the user's cache folder is not used: {why}\n  --> {self._folder}")
        return False


def set_aside(path: str, why: str, warn: Callable[[str], None]) -> None:
    """Rename an entry that can't be believed, and say so."""
    warn(f"warning: a cache entry was set aside: {why}\n  --> {path}")
    try:
        os.replace(path, path + BAD)
    except OSError:
        pass  # it stays, and is a miss again next time
