"""Which relative paths may name a file that a job writes.

The rules are the strictest of the systems a folder may be copied to, so that what one machine
published can be read on another. Whether a path leads through a link is not decided here:
only the file system knows, at the moment of the call (see `disk.py`).
"""

from __future__ import annotations

import unicodedata

from .errors import ExitCode, OrchestratorError

MAX_COMPONENT_BYTES = 255
MAX_PATH_BYTES = 4096
MAX_DEPTH = 64
TEMPORARY = ".orch-tmp-"
"""How the names of half-written files begin; no user's file may."""

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SEPARATORS = frozenset(("Cc", "Zl", "Zp"))
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"]
)


class UnsafePath(OrchestratorError, ValueError):
    """A path that must not be written or read.

    Args:
        path: as it was given.
        reason: what is wrong with it, to follow the path in a sentence.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"unsafe path {path!r}: {reason}",
            hint="use a relative path of plain names, such as reports/summary.md",
        )
        self.path = path
        self.reason = reason


def components(path: str) -> tuple[str, ...]:
    """Return the names that a safe relative path consists of.

    Raises:
        UnsafePath: for everything that is not plain names joined by single slashes.
    """
    reason = _fault_of_path(path)
    if reason:
        raise UnsafePath(path, reason)
    names = tuple(path.split("/"))
    for name in names:
        reason = _fault_of_name(name)
        if reason:
            raise UnsafePath(path, reason)
    return names


def _fault_of_path(path: str) -> str:
    if not path:
        return "it is empty"
    if path.startswith("/") or (path[1:2] == ":" and path[0].isascii() and path[0].isalpha()):
        return "it is absolute"
    if "\\" in path:
        return "it holds a backslash"
    for char in path:
        if char in _BIDI:
            return f"it holds the bidirectional control U+{ord(char):04X}"
        if unicodedata.category(char) in _SEPARATORS:
            return f"it holds the control character U+{ord(char):04X}"
        if "\ud800" <= char <= "\udfff":
            return "it is not UTF-8"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    if path.count("/") >= MAX_DEPTH:
        return f"it is deeper than {MAX_DEPTH} folders"
    return ""


def _fault_of_name(name: str) -> str:
    if not name:
        return "a name in it is empty (two slashes, or one at the end)"
    if name in (".", ".."):
        return f"it holds {name!r}"
    if len(name.encode()) > MAX_COMPONENT_BYTES:
        return f"a name in it is longer than {MAX_COMPONENT_BYTES} bytes"
    if name[-1] in ". ":
        return f"{name!r} ends with a dot or a space"
    if name.split(".", maxsplit=1)[0].rstrip(" ").lower() in _DEVICES:
        return f"{name!r} is the name of a device on Windows"
    if name.startswith(TEMPORARY):
        return f"names that begin with {TEMPORARY!r} are kept for half-written files"
    return ""
