"""The calls that a writer makes of the system, as they are noted."""

from __future__ import annotations

from typing import Any, NamedTuple

State = dict[str, bytes]
"""Files by path. A folder that is not there takes all below it along."""


class Named(NamedTuple):
    """A file got a name: made, or linked."""

    path: str
    ino: int


class Unnamed(NamedTuple):
    """A name was removed."""

    path: str


class Renamed(NamedTuple):
    """A name was moved, over what was there."""

    old: str
    new: str
    ino: int


class Made(NamedTuple):
    """A folder was made."""

    path: str


class Wrote(NamedTuple):
    """Bytes were given to the system; `rest` if the write before took only the first part."""

    ino: int
    offset: int
    data: bytes
    rest: bool = False


class Cut(NamedTuple):
    """A file was truncated."""

    ino: int
    size: int


class Synced(NamedTuple):
    """A file was synced; `failed` if the sync told an error."""

    ino: int
    failed: bool = False


class SyncedFolder(NamedTuple):
    """The names in a folder were synced."""

    path: str


class Mark(NamedTuple):
    """Not a call: what the program was told, or promised, at this point."""

    what: str
    value: Any = None


Name = Named | Unnamed | Renamed | Made
Op = Name | Wrote | Cut | Synced | SyncedFolder | Mark
