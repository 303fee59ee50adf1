"""Answers of models and results of steps, reused across jobs.

`runs/<job>/.cache/<key>.json` is the truth: an entry holds the request, the answer, who paid
for it, and a hash that is verified on every hit. An index (see `cacheindex`) says where the
entries of a key are; it can be deleted at any time. An entry is forgotten when every folder
that holds it has been cleared.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from eventlog.fs import FILES, write_whole

from .cachefile import SUFFIX, Entry, Found, Refused, encoded, load
from .cacheindex import CacheIndex, Place
from .cachepolicy import DEFAULT, CacheMode, CachePolicy
from .flight import Flights
from .folder import RunFolder
from .instances import base_of
from .keys import call_key, first_difference, part_hashes
from .providers.base import Provider, Request
from .usercache import UserCache, set_aside

LOOKS = 16
"""How often the index is asked for a key's holders, when those it named before are gone."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a model as the cache knows it."""

    key: str
    components: dict[str, Any]
    parts: dict[str, str]


class Look(NamedTuple):
    """What was found; `why` an entry was passed over: `expired`, `scope`, or `gone` with its files.

    `holder` is the job whose folder it is in; None for the user's own cache.
    """

    entry: Entry | None
    why: str = ""
    holder: RunFolder | None = None


class Storing(NamedTuple):
    """An entry on its way to its file."""

    entry: Entry
    path: str
    raw: bytes

    def write(self) -> None:
        """Write it, durable on return; from any thread.

        Raises:
            OSError: it can't be written.
        """
        write_whole(FILES, self.path, self.raw)


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
        found = {name for name in names if index.newest(project, name)}
        if found != names and index.reconcile():
            found = {name for name in names if index.newest(project, name)}
        return found
    finally:
        index.close()


class Cache:
    """What one job sees of the answers of all jobs.

    Args:
        folder: the job's.
        mode: what the user asked for.
        warn: told of an entry that was set aside.
        project: the job's.
        refresh: steps that ask again, whatever the mode says for the others.
        user: the user's own cache, for entries of scope `user`.
        keep: False to write nothing: entries of others can be used even so.
        clock: nanoseconds since 1970, for the age of entries.
    """

    def __init__(
        self,
        folder: RunFolder,
        mode: CacheMode,
        warn: Callable[[str], None],
        *,
        project: str = "",
        refresh: Iterable[str] = (),
        user: UserCache | None = None,
        keep: bool = True,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folder = folder
        self._mode = mode
        self._warn = warn
        self._project = project
        self._refresh = frozenset(refresh)
        self._user = user
        self._keep = keep
        self._clock = clock
        self._index = CacheIndex(folder.root)
        self._flights = Flights()
        self._stored: set[str] = set()
        self._folder_made = False

    def mode(self, step: str, policy: CachePolicy = DEFAULT) -> CacheMode:
        """Return what holds for a step."""
        if not policy.use or self._mode is CacheMode.OFF:
            return CacheMode.ONLY if self._mode is CacheMode.ONLY else CacheMode.OFF
        if self._refresh and self._mode is CacheMode.USE and self._refreshes(base_of(step)):
            return CacheMode.REFRESH
        return self._mode

    def _refreshes(self, step: str) -> bool:
        """Tell whether a step asks again, or one that it is inside of."""
        return step in self._refresh or any(step.startswith(f"{name}/") for name in self._refresh)

    @asynccontextmanager
    async def turn(self, key: str, step: str, policy: CachePolicy = DEFAULT) -> AsyncIterator[None]:
        """Make equal calls of this process wait for each other, where they would be shared."""
        if self.mode(step, policy) is CacheMode.OFF:
            yield
            return
        async with self._flights.turn(key):
            yield

    def off(self, step: str, policy: CachePolicy = DEFAULT) -> bool:
        """Return whether nothing is kept of a step."""
        return not policy.use or not self._keep or self.mode(step, policy) is CacheMode.OFF

    def look(
        self,
        key: str,
        step: str,
        policy: CachePolicy = DEFAULT,
        *,
        holds: Callable[[Entry, RunFolder | None], bool] | None = None,
    ) -> Look:
        """Return the entry for a key, from this job or another.

        An answer that is found elsewhere is copied into this job's folder; a copy that a power
        cut takes is found elsewhere again. What has files is copied by `adopt`, after them.

        Args:
            key: of the call or the step.
            step: who asks.
            policy: what the spec says for it.
            holds: whether what an entry names is there.
        """
        mode = self.mode(step, policy)
        if (
            not policy.use
            or mode is CacheMode.OFF
            or (mode is CacheMode.REFRESH and key not in self._stored)
        ):
            return Look(None)
        why = ""
        for found, holder in self._candidates(key, policy):
            passed_over = self._passed_over(found.entry, policy)
            if not passed_over and holds is not None and not holds(found.entry, holder):
                passed_over = "gone"
            if passed_over:
                why = why or passed_over
                continue
            look = Look(found.entry, "", holder)
            if found.entry.result is None:
                self.adopt(look, found.raw)
            return look
        return Look(None, why)

    def adopt(self, look: Look, raw: bytes = b"") -> None:
        """Bring an entry that was found elsewhere into this job's folder: as a link, or a copy.

        Nothing ever writes into an entry's file, so that a link is as good.
        """
        entry = look.entry
        if not self._keep or entry is None or look.holder is self._folder:
            return
        path = self._made(entry.key)
        try:
            if look.holder is None:
                raise FileNotFoundError
            os.link(os.path.join(look.holder.cache, entry.key + SUFFIX), path)
        except OSError:  # another file system, or one without links
            write_whole(FILES, path, raw or encoded(entry), durable=False)
        self._index.add_later(self._place(entry))

    def store(self, entry: Entry, policy: CachePolicy = DEFAULT) -> None:
        """Keep an entry, durable on return.

        Raises:
            OSError: it can't be written.
        """
        storing = self.storing(entry, policy)
        if storing is not None:
            storing.write()
            self.stored(storing)

    def storing(self, entry: Entry, policy: CachePolicy = DEFAULT) -> Storing | None:
        """Return what is to be written to keep an entry, and then `stored`; None if it is not."""
        if self.off(entry.step, policy):
            return None
        scope = "" if policy.scope == "runs" else policy.scope
        entry = msgspec.structs.replace(entry, scope=scope)
        return Storing(entry, self._made(entry.key), encoded(entry))

    def stored(self, storing: Storing) -> None:
        """Let an entry that was written be found."""
        entry = storing.entry
        self._index.add(self._place(entry))
        self._stored.add(entry.key)
        if entry.scope == "user" and self._user is not None and entry.result is None:
            self._user.store(entry.key, storing.raw)

    def why_missed(
        self, step: str, call: Call, look: Look, policy: CachePolicy = DEFAULT
    ) -> tuple[str, str]:
        """Return why an entry was not used, and the key of the nearest earlier one.

        The reason is `first`, `expired`, `scope`, `gone`, or names the components that differ.
        """
        mode = self.mode(step, policy)
        if not policy.use or mode is CacheMode.OFF:
            return "not asked for", ""
        if mode is CacheMode.REFRESH:
            return "refresh", ""
        if look.why:
            return look.why, call.key
        nearest = nearest_of(self._index.newest(self._project, step), call.parts)
        if nearest is None:
            return "first", ""
        return first_difference(call.parts, nearest.parts) or "cleared", nearest.key

    def expects_call(self, step: str, policy: CachePolicy = DEFAULT) -> bool:
        """Return whether a step will surely call its model: no job ever kept an answer of it."""
        mode = self.mode(step, policy)
        if mode in (CacheMode.OFF, CacheMode.REFRESH):
            return True
        return mode is CacheMode.USE and not self._index.newest(self._project, step)

    def close(self) -> None:
        """Let go of the index."""
        self._index.close()

    def _candidates(
        self, key: str, policy: CachePolicy
    ) -> Iterator[tuple[Found, RunFolder | None]]:
        """Yield a key's entries and who holds them: this job, others, the user's folder."""
        own = self._load(self._folder, key)
        if own is not None:
            yield own, self._folder
        for _ in range(0 if policy.scope == "job" else LOOKS):
            project = self._project if policy.scope == "project" else None
            job_ids = self._index.holders(key, project)
            gone = 0
            for job_id in job_ids:
                holder = RunFolder(self._folder.root, job_id)
                found = self._load(holder, key) if job_id != self._folder.job_id else own
                if found is None:
                    gone += 1
                    self._index.forget(key, job_id)
                elif found is not own:
                    yield found, holder
            if job_ids and not gone:
                break
            if not job_ids and not self._index.reconcile():
                break
        if policy.scope == "user" and self._user is not None:
            found = self._user.load(key)
            if found is not None:
                yield found, None

    def _passed_over(self, entry: Entry, policy: CachePolicy) -> str:
        mine = {"job": entry.job_id == self._folder.job_id}
        mine["project"] = entry.project == self._project
        if not mine.get(policy.scope, True) or not mine.get(entry.scope, True):
            return "scope"
        if policy.ttl_s is not None and self._age_s(entry) > policy.ttl_s:
            return "expired"
        return ""

    def _age_s(self, entry: Entry) -> float:
        try:
            made_s = datetime.fromisoformat(entry.created_at).timestamp()
        except ValueError:
            return float("inf")
        return self._clock() / 1e9 - made_s

    def _load(self, folder: RunFolder, key: str) -> Found | None:
        path = os.path.join(folder.cache, key + SUFFIX)
        found = load(path, key)
        if isinstance(found, Refused):
            set_aside(path, found.why, self._warn)
            return None
        return found

    def _made(self, key: str) -> str:
        """Return where this job keeps a key's entry; the folder is there."""
        if not self._folder_made:
            os.makedirs(self._folder.cache, mode=0o700, exist_ok=True)
            self._folder_made = True
        return os.path.join(self._folder.cache, key + SUFFIX)

    def _place(self, entry: Entry) -> Place:
        return Place(
            key=entry.key,
            job_id=self._folder.job_id,
            project=entry.project,
            step=entry.step,
            parts=entry.parts,
            created_at=entry.created_at,
        )


def nearest_of(places: list[Place], parts: dict[str, str]) -> Place | None:
    """Return the entry that differs in the fewest components; of equals, the newest."""

    def differing(place: Place) -> int:
        names = parts.keys() | place.parts.keys()
        return sum(parts.get(name) != place.parts.get(name) for name in names)

    return min(places, key=differing, default=None)
