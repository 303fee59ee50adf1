"""What a leg would do, and why: for each step run, cached or skipped, and what has changed.

The plan comes from a rehearsal (the runner's own decisions, with nothing performed), the
reasons from comparing each step's key with the one it had when it last ran.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec

from . import events as ev
from . import prices
from .blobs import BlobStore
from .cache import Cache, Look
from .connections import Connections
from .difference import Delta, differences
from .earlier import Earlier, Start, file_hashes
from .errors import OrchestratorError
from .folder import RunFolder
from .frozen import frozen_leg
from .instances import base_of
from .keys import part_hashes
from .masking import Masker
from .options import Options, policy_of, secrets_of
from .plan import Policy, why_stopped
from .providers.auto import settled
from .providers.failures import clean
from .rehearsal import Rehearsal
from .spec.model import Spec
from .specwork import SpecWork
from .state import DONE, JobState, StepStatus, Success
from .stepcache import StepCache
from .usercache import UserCache, user_folder
from .wiring import kinds_of

NO_JOB = "job_plan"
"""Names the folder of a job that there is not yet; nothing is ever made there."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A component of a step's key that differs, and how.

    `before` and `after` are hashes where the values are not kept.
    """

    part: str
    path: str = ""
    before: str | None = None
    after: str | None = None
    diff: tuple[str, ...] = ()
    hashes: bool = False


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a step.

    Attributes:
        action: `run`, `cached`, `skipped`, `asks` (a person), `fails` (it can't be prepared),
            or `depends` (on a step that has to run first).
        why: one sentence without a full stop.
    """

    step: str
    action: str
    why: str
    kind: str = ""
    needs: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


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
        await rehearsal.run(again, started, policy)
        old = _Frozen(
            place, before, lambda s: _work(s, place, providers, cache, options, lambda: before)
        )
        earlier = Earlier(place, old.parts) if folder is not None else None
        reasons = _Reasons(before, again, rehearsal, earlier, secrets.masker, policy)
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


class _Reasons:
    """Why each step is run, cached or skipped."""

    def __init__(
        self,
        before: JobState,
        after: JobState,
        rehearsal: Rehearsal,
        earlier: Earlier | None,
        masker: Masker,
        policy: Policy,
    ) -> None:
        self.equal = "its key has changed"  # where nothing else tells
        self._masker = masker
        self._stopped = why_stopped(after, policy)
        self._before = before
        self._after = after
        self._rehearsal = rehearsal
        self._earlier = earlier
        self._skips: dict[str, ev.Skip] = {}
        self._starts: dict[str, str] = {}
        self._gone: dict[str, str] = {}
        for event in rehearsal.told:
            match event:
                case ev.StepSkipped(step=step, data=skip):
                    self._skips[step] = skip
                case ev.StepStarted(step=step, data=start):
                    self._starts[step] = start.key
                case ev.StepWaiting(step=step, data=shown):
                    self._starts[step] = shown.key
                case ev.StepInvalidated(step=step, data=note):
                    self._gone[step] = note.reason
                case _:
                    pass

    def rows(self) -> Iterator[Foreseen]:
        """Yield a row for each step, in the order of the spec."""
        for name in self._after.names():
            yield self._row(name)

    def _row(self, name: str) -> Foreseen:
        state = self._after.steps[name]
        decl = self._after.graph.steps[base_of(name)]
        needs = self._after.graph.given(decl.id)
        row = Foreseen(step=name, action="", why="", kind=decl.kind, needs=needs)
        put = msgspec.structs.replace
        match state.status:
            case StepStatus.REUSED | StepStatus.SKIPPED:
                return put(row, action="skipped", why=self._skipped(name))
            case StepStatus.FAILED:
                fault = state.fault.message if state.fault is not None else ""
                return put(row, action="fails", why=fault)
            case StepStatus.SUCCEEDED if name not in self._rehearsal.cached:
                return put(row, action="skipped", why=f"all its {_parts(decl)} have their results")
            case StepStatus.EXPANDED:
                return put(row, action="run", why=f"some of its {_parts(decl)} run")
            case StepStatus.SUCCEEDED | StepStatus.INTERRUPTED | StepStatus.ASKING:
                why, changes = self._changed(name)
                action = "asks" if state.status is StepStatus.ASKING else "run"
                if state.status is StepStatus.SUCCEEDED:
                    action = "cached"
                    why = f"{why}; the answer is in the cache ({self._rehearsal.cached[name]})"
                return put(row, action=action, why=why, changes=tuple(changes))
            case _:
                on = tuple(need for need in needs if not self._known(need))
                why = f"depends on {', '.join(on)}" if on else "its turn has not come"
                if decl.last:
                    why = "comes last: it depends on how the others end"
                if self._stopped and name not in self._after.graph.regardless:
                    why = f"{why}, and {self._stopped}"
                return put(row, action="depends", why=why, depends_on=on)

    def _known(self, need: str) -> bool:
        return self._after.steps[need].status in DONE

    def _skipped(self, name: str) -> str:
        skip = self._skips[name]
        success = self._after.steps[name].success
        if skip.from_step and success is not None and success.by:
            known = self._before.steps.get(name)
            said = known.reason if known is not None else ""
            return said if said.startswith("set by") else f"recorded by {success.by}"
        if skip.from_step and skip.from_step != name:
            return f"already succeeded, as {skip.from_step} (seq {skip.from_seq})"
        return f"{skip.reason} (seq {skip.from_seq})" if skip.from_step else skip.reason

    def _changed(self, name: str) -> tuple[str, list[Change]]:
        """Return why a step can't be skipped, and what differs."""
        asks = self._after.steps[name].status is StepStatus.ASKING
        if name in self._gone and not asks:
            return self._gone[name], []
        earlier = self._before.steps.get(name) or self._before.former.get(name)
        success = self._before.past.get(name)
        if earlier is not None and earlier.status in DONE:
            success = earlier.success
        start = None
        if self._earlier is not None:
            start = self._earlier.start(name, success.key if success else "")
        if start is None:
            return "it has not run yet", []
        # A log of version 1 says of a start nothing that could be compared.
        changes = list(self._compare(name, start)) if start.parts else []
        parts = list(dict.fromkeys(change.part for change in changes))
        said = f"{', '.join(parts)} changed" if parts else ""
        how = "" if success is not None else _ended(self._before, name)
        if name in self._gone:
            how, said = "", f"its approval has lapsed: {said}"
        return "; ".join(filter(None, (how, said))) or self.equal, changes

    def _compare(self, name: str, start: Start) -> Iterator[Change]:
        prepared = self._rehearsal.prepared[name]
        now = part_hashes(prepared.parts)
        for part in sorted(now.keys() | start.parts.keys()):
            if now.get(part) != start.parts.get(part):
                yield from self._values(name, start, part, prepared.parts.get(part))
        needs = self._after.graph.given(base_of(name))
        for need in dict.fromkeys((*start.needs, *needs)):
            if need in prepared.passed:
                continue
            old, new = start.needs.get(need), self._output_hash(need, needs)
            if old != new:
                yield Change(part=f"the output of {need}", before=old, after=new)

    def _output_hash(self, need: str, needs: tuple[str, ...]) -> str | None:
        success: Success | None = self._after.steps[need].success if need in needs else None
        return success.output_sha256 if success is not None else None

    def _values(self, name: str, start: Start, part: str, value: Any) -> Iterator[Change]:
        label = LABELS.get(part, part)
        try:
            assert self._earlier is not None
            old = self._earlier.value(name, start, part) if part in start.parts else None
        except KeyError:
            new = part_hashes({part: value})[part]
            yield Change(part=label, before=start.parts[part], after=new, hashes=True)
            return
        if part == "messages":
            old, value = _by_role(old), _by_role(value)
        old, value = self._masker.value(old), self._masker.value(value)
        deltas: list[Delta] = differences(old, value)
        for delta in deltas:
            yield Change(
                part=label,
                path=delta.path,
                before=delta.before,
                after=delta.after,
                diff=delta.diff,
            )


def _parts(decl: ev.StepDecl) -> str:
    return "items" if decl.each else "steps"


LABELS = {"messages": "prompt", "code_version": "code", "spec_env": "env"}
"""What a person calls a component."""


def _ended(state: JobState, name: str) -> str:
    """Return how a step stood that has no result."""
    step = state.steps.get(name) or state.former.get(name)
    if step is None:
        return ""
    match step.status:
        case StepStatus.FAILED if step.fault is not None:
            return f"it failed ({step.fault.kind}: {clean(step.fault.message, 80)})"
        case StepStatus.RUNNING | StepStatus.INTERRUPTED:
            return "it was cut off"
        case StepStatus.ASKING:
            return "nobody has answered yet"
        case _:
            return "it has no result"


def _by_role(messages: Any) -> Any:
    """Return a request's messages as texts by who says them; anything else as it is."""
    try:
        system, others = messages
        texts = {"system": system} if system else {}
        for index, message in enumerate(others):
            role = message["role"]
            name = role if role not in texts else f"{role} {index + 1}"
            texts[name] = message["content"]
    except (TypeError, ValueError, KeyError):
        return messages
    return texts
