"""An entry of the cache: what is in its file, and when the file can be believed.

The file is the truth. It is believed if it is a regular file of this user (or of root) that
nobody else can write, if it answers the key it is asked for, and if its hash is right.
"""

from __future__ import annotations

import os
import stat
from typing import Any, NamedTuple

import msgspec

from eventlog.codec import UNREADABLE

from .events import FileRef
from .keys import call_key, canonical, sha256
from .providers.base import Reply

SCHEMA_VERSION = 1
MAX_BYTES = 64 << 20
SUFFIX = ".json"
BAD = ".bad"
"""Added to the name of a file that was set aside."""

_NO_REPLY = Reply(text="", model="")


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a whole step: `output` is a JSON value, or a BlobRef's object.

    The paths of `files` are as the step left them, without the job's `output_dir`.
    """

    output: Any = None
    output_sha256: str = ""
    files: tuple[FileRef, ...] = ()


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer, or a step's result, and where it came from.

    Attributes:
        parts: a hash for each component of the key, to explain a miss.
        request: of a call: the components themselves.
        reply: of a call.
        result: of a step as a whole.
        job_id: who paid for it.
        duration_s: of the call, or of the step.
        scope: who else may use it; empty for every job below the same runs/.
        sha256: over the canonical JSON of all other fields.
    """

    key: str
    parts: dict[str, str]
    job_id: str
    project: str
    step: str
    created_at: str
    duration_s: float
    provider: str = ""
    model: str = ""
    request: dict[str, Any] = {}
    reply: Reply = _NO_REPLY
    result: Kept | None = None
    scope: str = ""
    seq: int | None = None
    schema_version: int = 0
    sha256: str = ""


class Found(NamedTuple):
    """An entry, and the bytes it was read from."""

    entry: Entry
    raw: bytes


class Refused(NamedTuple):
    """Why a file that is there can't be believed."""

    why: str


def load(path: str, key: str) -> Found | Refused | None:
    """Return the entry of a key that a file holds, or why it is none; None if there is no file."""
    raw = read_own(path)
    if raw is None or isinstance(raw, Refused):
        return raw
    entry = verified(raw, key)
    return entry if isinstance(entry, Refused) else Found(entry, raw)


def read_own(path: str) -> bytes | Refused | None:
    """Return the bytes of a file that only this user can have written; None if there is none."""
    try:
        # NONBLOCK: a pipe that somebody put here must not be waited for.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Refused(f"it can't be opened: {error.strerror}")
    why = _distrust(os.fstat(fd))
    if why:
        os.close(fd)
        return Refused(why)
    try:
        with open(fd, "rb") as file:
            return file.read()
    except OSError as error:
        return Refused(f"it can't be read: {error.strerror}")


def _distrust(info: os.stat_result) -> str:
    """Return why a file is not to be believed, whatever is in it."""
    if not stat.S_ISREG(info.st_mode):
        return "it is not a regular file"
    if info.st_uid not in (os.geteuid(), 0):
        return f"it belongs to another user (uid {info.st_uid})"
    if info.st_mode & stat.S_IWOTH:
        return "every user can write it"
    if info.st_size > MAX_BYTES:
        return f"it is larger than {MAX_BYTES >> 20} MiB"
    return ""


def verified(raw: bytes, key: str) -> Entry | Refused:
    """Return the entry that bytes hold, or why they can't be used."""
    try:
        entry = msgspec.json.decode(raw, type=Entry)
    except UNREADABLE as error:
        return Refused(f"it can't be read: {error}")
    if entry.key != key or (entry.result is None and call_key(entry.request) != key):
        return Refused("it answers another request")
    return entry if entry.sha256 == _entry_hash(entry) else Refused("its hash is wrong")


def encoded(entry: Entry) -> bytes:
    """Return the bytes of an entry's file, with its hash."""
    entry = msgspec.structs.replace(entry, schema_version=SCHEMA_VERSION)
    entry = msgspec.structs.replace(entry, sha256=_entry_hash(entry))
    return msgspec.json.encode(entry) + b"\n"


def _entry_hash(entry: Entry) -> str:
    return sha256(canonical(msgspec.structs.replace(entry, sha256="")))
