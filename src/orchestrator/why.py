"""Why a step was, or was not, answered from the cache: what differs from the nearest entry."""

from __future__ import annotations

import difflib
import os
from typing import Any

import msgspec

from . import events as ev
from .blobs import BlobDamaged, BlobMissing, BlobStore
from .cachefile import SUFFIX, Entry, Found, load
from .cacheindex import CacheIndex
from .errors import UsageError
from .folder import RunFolder
from .history import records
from .jobs import Jobs


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A component of the key that is not as it was; no values where only hashes are kept."""

    component: str
    before: Any = None
    after: Any = None
    diff: tuple[str, ...] = ()


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a step's question to the cache.

    Attributes:
        result: `hit`, `miss`, or `none` for a step that did not ask.
        reason: of a miss, or why it did not ask.
        compared_with: the job that holds, or held, the nearest earlier entry.
    """

    job_id: str
    step: str
    result: str
    reason: str = ""
    key: str = ""
    nearest: str = ""
    compared_with: str = ""
    differences: tuple[Difference, ...] = ()


class _Told(msgspec.Struct):
    """What the log says of a step's last attempt."""

    started: ev.StepStart | None = None
    hit: ev.CacheHitData | None = None
    miss: ev.CacheMissData | None = None
    request: ev.BlobRef | None = None
    skip: ev.Skip | None = None


def why(jobs: Jobs, folder: RunFolder, step: str) -> Why:
    """Return why a step was answered from the cache or not.

    Raises:
        UsageError: the job has no such step.
    """
    told = _read(folder, step)
    if told is None:
        raise UsageError(f"job {folder.job_id} has no step {step!r}", place=folder.log)
    said = Why(job_id=folder.job_id, step=step, result="none")
    if told.hit is not None:
        return msgspec.structs.replace(
            said, result="hit", key=told.hit.cache_key, compared_with=told.hit.from_job
        )
    if told.miss is not None:
        return _missed(said, jobs, folder, told, told.miss)
    if told.started is None:
        reason = told.skip.reason if told.skip is not None else "it was not started"
        return msgspec.structs.replace(said, reason=reason)
    return _uncached(said, jobs, folder, step, told.started)


def _read(folder: RunFolder, step: str) -> _Told | None:
    told: _Told | None = None
    blobs = BlobStore(folder.artifacts)
    for record in records(folder.log, blobs, rejected=[], graphs=False):
        if getattr(record.event, "step", None) != step:
            continue
        told = told or _Told()
        match record.event:
            case ev.StepStarted(data=data):
                told = _Told(started=data)
            case ev.CacheHit(data=hit):
                told.hit = hit
            case ev.CacheMiss(data=miss):
                told.miss = miss
            case ev.LLMRequest(data=asked):
                told.request = told.request or asked.request
            case ev.StepSkipped(data=skip):
                told.skip = skip
            case _:
                pass
    return told


def _missed(said: Why, jobs: Jobs, folder: RunFolder, told: _Told, miss: ev.CacheMissData) -> Why:
    said = msgspec.structs.replace(
        said, result="miss", reason=miss.reason, key=miss.cache_key, nearest=miss.nearest
    )
    if not miss.nearest or miss.nearest == miss.cache_key:
        return said
    before = _entry(jobs.root, miss.nearest)
    if before is None:
        return said
    after = _components(folder, miss.cache_key, told.request)
    names = [name.strip() for name in miss.reason.split(",")]
    if before.request and after:
        names = [
            n for n in sorted({*before.request, *after}) if before.request.get(n) != after.get(n)
        ]
        differences = tuple(_difference(n, before.request.get(n), after.get(n)) for n in names)
    else:
        differences = tuple(Difference(component=name) for name in names)
    return msgspec.structs.replace(said, compared_with=before.job_id, differences=differences)


def _uncached(said: Why, jobs: Jobs, folder: RunFolder, step: str, started: ev.StepStart) -> Why:
    """Compare with the newest earlier job of the project: only hashes of components are kept."""
    said = msgspec.structs.replace(
        said, key=started.key, reason="it does not use the cache: `cache: true` would make it"
    )
    rows = {row.job_id: row for row in jobs.rows()}
    own = rows.get(folder.job_id)
    for row in rows.values():
        if own is None or row.project != own.project or row.started_at >= own.started_at:
            continue
        earlier = _read(RunFolder(jobs.root, row.job_id), step)
        if earlier is None or earlier.started is None:
            continue
        old, new = earlier.started.parts, started.parts
        names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        return msgspec.structs.replace(
            said,
            compared_with=row.job_id,
            differences=tuple(Difference(component=name) for name in names),
        )
    return said


def _entry(runs_dir: str, key: str) -> Entry | None:
    """Return an entry from whichever job holds it."""
    index = CacheIndex(runs_dir)
    try:
        index.reconcile()
        for job_id in index.holders(key):
            path = os.path.join(RunFolder(runs_dir, job_id).cache, key + SUFFIX)
            found = load(path, key)
            if isinstance(found, Found):
                return found.entry
    finally:
        index.close()
    return None


def _components(folder: RunFolder, key: str, request: ev.BlobRef | None) -> dict[str, Any]:
    """Return what a call's key was made of, from its entry or from its request's blob."""
    found = load(os.path.join(folder.cache, key + SUFFIX), key)
    if isinstance(found, Found):
        return found.entry.request
    if request is None:
        return {}
    try:
        return msgspec.json.decode(BlobStore(folder.artifacts).get(request), type=dict[str, Any])
    except (BlobMissing, BlobDamaged, msgspec.DecodeError):
        return {}


def _difference(name: str, before: Any, after: Any) -> Difference:
    lines = tuple(
        line.rstrip("\n")
        for line in difflib.unified_diff(
            _lines(before), _lines(after), "before", "after", n=2, lineterm=""
        )
    )
    return Difference(component=name, before=before, after=after, diff=lines)


def _lines(value: Any) -> list[str]:
    """Return a value as lines that can be compared: texts by their own lines."""
    if isinstance(value, str):
        return value.splitlines()
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return [part for line in text.splitlines() for part in line.split("\\n")]
