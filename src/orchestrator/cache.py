"""Answers of models, reused across jobs.

`runs/<job>/.cache/<key>.json` is the truth: an entry holds the request, the answer, who paid
for it, and a hash that is verified on every hit. An index (see `cacheindex`) says where the
entries of a key are; it can be deleted at any time. An entry is forgotten when every folder
that holds it has been cleared.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import msgspec

from eventlog.codec import UNREADABLE
from eventlog.fs import FILES, write_whole

from .cacheindex import CacheIndex, Place
from .folder import RunFolder
from .keys import call_key, canonical, first_difference, part_hashes, sha256
from .providers.base import Provider, Reply, Request

SCHEMA_VERSION = 1
MAX_BYTES = 64 << 20
LOOKS = 16
"""How often the index is asked for a key's holders, when those it named before are gone."""


class CacheMode(enum.StrEnum):
    """What the user asked of the cache."""

    USE = "use"
    OFF = "off"
    REFRESH = "refresh"
    ONLY = "only"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer and where it came from.

    Attributes:
        parts: a hash for each component of the key, to explain a miss.
        request: the components themselves.
        job_id, seq: of the `llm.request` that paid for it.
        duration_s: of the call.
        sha256: over the canonical JSON of all other fields.
    """

    key: str
    provider: str
    model: str
    request: dict[str, Any]
    parts: dict[str, str]
    reply: Reply
    job_id: str
    project: str
    step: str
    created_at: str
    duration_s: float
    seq: int | None = None
    schema_version: int = 0
    sha256: str = ""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a model as the cache knows it."""

    key: str
    components: dict[str, Any]
    parts: dict[str, str]


def describe(provider: Provider, request: Request) -> Call:
    """Return a call's key and components: the whole effective request, without credentials."""
    body = provider.body(request)
    options = {
        name: value for name, value in body.items() if name not in ("model", "messages", "system")
    }
    components = {
        "provider": provider.name,
        "base_url": provider.base_url,
        "adapter_version": provider.adapter_version,
        "model": body.get("model", request.model),
        "messages": [body.get("system"), body.get("messages")],
        "options": options,
        "sample": request.sample,
    }
    return Call(key=call_key(components), components=components, parts=part_hashes(components))


def answered(runs_dir: str, project: str, steps: Iterable[str]) -> set[str]:
    """Return those steps of which some job keeps an answer, to this or another question."""
    if not os.path.isdir(runs_dir):
        return set()
    index = CacheIndex(runs_dir)
    try:
        names = set(steps)
        found = {name for name in names if index.nearest(project, name) is not None}
        if found != names and index.reconcile():
            found = {name for name in names if index.nearest(project, name) is not None}
        return found
    finally:
        index.close()


class Cache:
    """What one job sees of the answers of all jobs.

    Args:
        folder: the job's.
        mode: what the user asked for.
        warn: told of an entry that was set aside.
    """

    def __init__(self, folder: RunFolder, mode: CacheMode, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self.mode = mode
        self._warn = warn
        self._index = CacheIndex(folder.root)
        self._turns: dict[str, anyio.Lock] = {}

    def turn(self, key: str) -> anyio.Lock:
        """Return the lock that makes equal calls wait for each other: the first one calls."""
        return self._turns.setdefault(key, anyio.Lock())

    def lookup(self, key: str) -> Entry | None:
        """Return the answer for a key, from this job or another, or None.

        What is found elsewhere is copied into this job's folder; a copy that a power cut takes
        is found elsewhere again.
        """
        if self.mode in (CacheMode.OFF, CacheMode.REFRESH):
            return None
        own = self._load(self._folder.job_id, key)
        if own is not None:
            return own
        for _ in range(LOOKS):
            places = self._index.holders(key)
            if not places and not self._index.reconcile():
                return None
            for place in places:
                entry = self._load(place.job_id, key)
                if entry is not None:
                    self._write(entry, durable=False)
                    return entry
                self._index.forget(key, place.job_id)
        return None

    def store(self, entry: Entry) -> None:
        """Keep an answer, durable on return.

        Raises:
            OSError: it can't be written.
        """
        if self.mode is not CacheMode.OFF:
            self._write(entry, durable=True)

    def why_missed(self, project: str, step: str, parts: dict[str, str]) -> tuple[str, str]:
        """Return which component differs from the nearest earlier entry, and that one's key."""
        if self.mode in (CacheMode.OFF, CacheMode.REFRESH):
            return ("not asked for" if self.mode is CacheMode.OFF else "refresh", "")
        nearest: Place | None = self._index.nearest(project, step)
        if nearest is None:
            return "first", ""
        return first_difference(parts, nearest.parts) or "cleared", nearest.key

    def expects_call(self, project: str, step: str) -> bool:
        """Return whether a step will surely call its model: no job ever kept an answer of it."""
        if self.mode in (CacheMode.OFF, CacheMode.REFRESH):
            return True
        return self.mode is CacheMode.USE and self._index.nearest(project, step) is None

    def close(self) -> None:
        """Let go of the index."""
        self._index.close()

    def _path(self, job_id: str, key: str) -> str:
        return os.path.join(self._folder.root, job_id, ".cache", f"{key}.json")

    def _load(self, job_id: str, key: str) -> Entry | None:
        path = self._path(job_id, key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        with open(fd, "rb") as file:
            large = os.fstat(fd).st_size > MAX_BYTES
            data = b"" if large else file.read()
        found = "it is larger than 64 MiB" if large else _verified(data, key)
        if isinstance(found, Entry):
            return found
        self._set_aside(path, found)
        return None

    def _set_aside(self, path: str, why: str) -> None:
        self._warn(f"warning: a cache entry was set aside: {why}\n  --> {path}")
        try:
            os.replace(path, f"{path}.bad")
        except OSError:
            pass  # it stays, and is a miss again next time

    def _write(self, entry: Entry, *, durable: bool) -> None:
        entry = msgspec.structs.replace(entry, schema_version=SCHEMA_VERSION)
        entry = msgspec.structs.replace(entry, sha256=_entry_hash(entry))
        os.makedirs(self._folder.cache, mode=0o700, exist_ok=True)
        path = self._path(self._folder.job_id, entry.key)
        write_whole(FILES, path, msgspec.json.encode(entry) + b"\n", durable=durable)
        self._index.add(
            Place(
                key=entry.key,
                job_id=self._folder.job_id,
                project=entry.project,
                step=entry.step,
                parts=entry.parts,
                created_at=entry.created_at,
            )
        )


def _verified(data: bytes, key: str) -> Entry | str:
    """Return the entry that the bytes hold, or why they can't be used."""
    try:
        entry = msgspec.json.decode(data, type=Entry)
    except UNREADABLE as error:
        return f"it can't be read: {error}"
    if entry.key != key or call_key(entry.request) != key:
        return "it answers another request"
    return entry if entry.sha256 == _entry_hash(entry) else "its hash is wrong"


def _entry_hash(entry: Entry) -> str:
    return sha256(canonical(msgspec.structs.replace(entry, sha256="")))
