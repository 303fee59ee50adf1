"""What a leg would do, and why: for each step run, cached or skipped, and what has changed.

The plan comes from a rehearsal (the runner's own decisions, with nothing performed), the
reasons from comparing each step's key with the one it had when it last ran.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from . import events as ev
from . import prices
from .blobs import BlobStore
from .cache import Cache, Look
from .connections import Connections
from .earlier import Earlier, file_hashes
from .errors import OrchestratorError
from .folder import RunFolder
from .frozen import frozen_leg
from .instances import base_of
from .options import Options, policy_of, secrets_of
from .providers.auto import settled
from .reasons import Foreseen, Reasons
from .rehearsal import Rehearsal
from .spec.model import Spec
from .specwork import SpecWork
from .state import JobState
from .stepcache import StepCache
from .usercache import UserCache, user_folder
from .wiring import kinds_of

NO_JOB = "job_plan"
"""Names the folder of a job that there is not yet; nothing is ever made there."""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """A plan; `job_id` is empty for a job that would be new."""

    job_id: str
    project: str
    steps: tuple[Foreseen, ...]

    @property
    def tally(self) -> dict[str, int]:
        """Return how many steps there are of each action."""
        counts: dict[str, int] = {}
        for step in self.steps:
            counts[step.action] = counts.get(step.action, 0) + 1
        return counts


async def foresee(
    spec: Spec, folder: RunFolder | None, before: JobState, again: JobState, options: Options
) -> Forecast:
    """Return what a leg of a job would do; nothing is written.

    Args:
        spec: with what the command line changes in it.
        folder: of the job to go on with, None for a new one.
        before: the job's state.
        again: the same, folded a second time: it is used up.
        options: of the leg.
    """
    place = folder or RunFolder(options.runs_dir, NO_JOB)
    options = replace(options, warn=lambda _: None)  # the leg itself tells
    if before.started is not None:
        spec = settled(spec, before.started.models)
    environ, secrets = secrets_of(spec, options)
    providers = Connections(environ)
    with contextlib.ExitStack() as stack:
        cache = _peek(place, spec, options, stack)
        work = _work(spec, place, providers, cache, options, lambda: again)
        rehearsal = Rehearsal(work, work, work.cached)
        started = ev.Started(project=spec.project, steps=spec.decls)
        policy = policy_of(spec, before, options)
        await rehearsal.run(again, started, policy, limits=bool(spec.limits.kinds))
        old = _Frozen(
            place, before, lambda s: _work(s, place, providers, cache, options, lambda: before)
        )
        earlier = Earlier(place, old.parts) if folder is not None else None
        reasons = Reasons(before, again, rehearsal, earlier, secrets.masker, policy)
        if options.fork is not None and options.fork.from_step:
            reasons.equal = f"all from {options.fork.from_step} on is run again"
        steps = tuple(reasons.rows())
        await providers.aclose()
    return Forecast(job_id=folder.job_id if folder else "", project=spec.project, steps=steps)


def _work(
    spec: Spec,
    folder: RunFolder,
    providers: Connections,
    cache: Cache,
    options: Options,
    state: Callable[[], JobState],
) -> SpecWork:
    table = prices.table(options.environ, options.prices)
    secrets = secrets_of(spec, options)[1]
    blobs = BlobStore(folder.artifacts)
    kinds = kinds_of(spec, providers, cache, blobs, table, secrets.masker, options)
    whole = StepCache(cache, folder, spec.project, spec.output_dir, options.warn)
    return SpecWork(spec, folder, kinds, secrets, state, whole)


class _Peek(Cache):
    """A cache that is only looked at."""

    def adopt(self, look: Look, raw: bytes = b"") -> None:
        """Copy nothing."""


def _peek(place: RunFolder, spec: Spec, options: Options, stack: contextlib.ExitStack) -> Cache:
    """Return the cache of all jobs; where there is no job yet, one that is empty."""
    if not os.path.isdir(place.root):
        place = RunFolder(stack.enter_context(tempfile.TemporaryDirectory()), NO_JOB)
    cache = _Peek(
        place,
        options.cache,
        options.warn,
        project=spec.project,
        refresh=options.refresh,
        user=UserCache(user_folder(options.environ), options.warn),
    )
    stack.callback(cache.close)
    return cache


class _Frozen:
    """Components of keys as the frozen inputs of earlier legs give them."""

    def __init__(
        self, folder: RunFolder, before: JobState, work: Callable[[Spec], SpecWork]
    ) -> None:
        self._folder = folder
        self._before = before
        self._work = work
        self._legs: dict[bytes, tuple[Spec, SpecWork]] = {}

    def parts(self, leg: ev.Started, step: str) -> dict[str, Any]:
        """Return the components of a step's key in a leg.

        Raises:
            OrchestratorError: the frozen inputs can't be read.
            KeyError: the leg had no such step.
        """
        name = msgspec.json.encode([leg.inputs, leg.given, leg.overrides])
        if name not in self._legs:
            spec = frozen_leg(self._folder, leg).with_overrides(
                provider=leg.overrides.get("provider"),
                model=leg.overrides.get("model"),
                inputs=leg.given,
            )
            spec = settled(spec, leg.models)
            self._legs[name] = spec, self._work(spec)
        spec, work = self._legs[name]
        declared = spec.steps[base_of(step)]
        if declared.each and step != declared.name:
            work.expand(declared.name, self._before)
        try:
            parts = dict(work.prepare(step, self._before).parts)
        except OrchestratorError:  # what does not follow from other steps is known even so
            parts = {"command": declared.run, "function": declared.python}
        if "files" in parts or declared.files:
            files = {path: spec.attachment(declared, path) for path in declared.files}
            parts["files"] = file_hashes(files)
        return parts
