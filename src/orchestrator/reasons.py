"""Why each step is run, cached or skipped: a rehearsal, beside what the log tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from . import events as ev
from .difference import Delta, differences
from .earlier import Earlier, Start
from .instances import base_of
from .keys import part_hashes
from .masking import Masker
from .plan import Policy, why_stopped
from .providers.failures import clean
from .rehearsal import Rehearsal
from .state import DONE, JobState, StepStatus, Success


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


class Reasons:
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
        self._stopper = _in_turn(after, rehearsal) if self._stopped else ""
        self._before = before
        self._after = after
        self._rehearsal = rehearsal
        self._earlier = earlier
        self._skips: dict[str, ev.Skip] = {}
        self._starts: dict[str, str] = {}
        self._gone: dict[str, str] = {}
        self._was: dict[str, str] = {}
        for event in rehearsal.told:
            match event:
                case ev.StepSkipped(step=step, data=skip):
                    self._skips[step] = skip
                case ev.StepStarted(step=step, data=start):
                    self._starts[step] = start.key
                case ev.StepWaiting(step=step, data=shown):
                    self._starts[step] = shown.key
                case ev.StepInterrupted(step=step, data=note) if note.from_step:
                    self._was[step] = note.from_step
                case ev.StepInvalidated(step=step, data=note):
                    self._gone[step] = note.reason
                case _:
                    pass

    def rows(self) -> Iterator[Foreseen]:
        """Yield a row for each step, in the order of the spec."""
        for name in self._after.names():
            row = self._row(name)
            yield self._doubted(row) if self._stopper and self._in_doubt(row) else row

    def _in_doubt(self, row: Foreseen) -> bool:
        """Return whether a step may begin before the job stops, or may not, as it happens."""
        graph, sure = self._after.graph, self._rehearsal.sure
        if row.action == "depends" or row.step in sure:
            return False
        base = base_of(row.step)
        if base in graph.regardless:
            return graph.steps[base].last or not sure.issuperset(row.needs)
        skip = self._skips.get(row.step)
        dropped = skip is not None and skip.reason == self._stopped
        return row.action != "skipped" or dropped

    def _doubted(self, row: Foreseen) -> Foreseen:
        first = f"its turn comes before {self._stopper} fails, which stops the job"
        if row.step == self._stopper:
            first = "nothing else stops the job before"
        why = f"{row.why}; only if {first}"
        if row.action == "skipped":
            why = f"skipped unless {first}"
        return msgspec.structs.replace(row, action="depends", why=why)

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
                why = f"some of its {_parts(decl)} run"
                if self._stopped and decl.id not in self._after.graph.regardless:
                    # Whether their results are gathered is a matter of which comes first.
                    return put(row, action="depends", why=f"{why}, and {self._stopped}")
                return put(row, action="run", why=why)
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
        was = self._was.get(name, name)
        earlier = self._before.steps.get(was) or self._before.former.get(was)
        success = self._before.past.get(was)
        if earlier is not None and earlier.status in DONE:
            success = earlier.success
        start = None
        if self._earlier is not None:
            start = self._earlier.start(was, success.key if success else "")
        if start is None:  # of a result that another job has made, only the key is known
            return self.equal if success is not None else "it has not run yet", []
        # A log of version 1 says of a start nothing that could be compared.
        changes = list(self._compare(name, start)) if start.parts else []
        parts = list(dict.fromkeys(change.part for change in changes))
        said = f"{', '.join(parts)} changed" if parts else ""
        how = "" if success is not None else _ended(self._before, was)
        if name in self._gone:
            how, said = "", f"its approval has lapsed: {said}"
        return "; ".join(filter(None, (how, said))) or self.equal, changes

    def _compare(self, name: str, start: Start) -> Iterator[Change]:
        prepared = self._rehearsal.prepared[name]
        now = part_hashes(prepared.parts)
        kind = self._after.graph.steps[base_of(name)].kind
        if start.kind and kind != start.kind:  # they have no component in common
            yield Change(part="kind", before=start.kind, after=kind)
            return
        for part in sorted(now.keys() | start.parts.keys()):
            if now.get(part) != start.parts.get(part):
                yield from self._values(start, part, prepared.parts.get(part))
        needs = [n for n in self._after.graph.given(base_of(name)) if n not in prepared.passed]
        after = {need: self._output_hash(need) for need in needs}
        before = {need: old for need, old in start.needs.items() if need not in prepared.passed}
        for need in [need for need in before if need not in after]:  # renamed, maybe
            same = [new for new in after if new not in before and after[new] == before[need]]
            if same:
                before[same[0]] = before.pop(need)
        for need in dict.fromkeys((*before, *after)):
            if before.get(need) != after.get(need):
                part = f"the output of {need}"
                yield Change(part=part, before=before.get(need), after=after.get(need))

    def _output_hash(self, need: str) -> str | None:
        success: Success | None = self._after.steps[need].success
        return success.output_sha256 if success is not None else None

    def _values(self, start: Start, part: str, value: Any) -> Iterator[Change]:
        label = LABELS.get(part, part)
        try:
            assert self._earlier is not None
            old = self._earlier.value(start, part) if part in start.parts else None
        except KeyError:
            new = None if value is None else part_hashes({part: value})[part]
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
                before=None if old is None else delta.before,
                after=None if value is None else delta.after,
                diff=delta.diff,
            )


def _in_turn(after: JobState, rehearsal: Rehearsal) -> str:
    """Return the step whose failure stops the job, if what has begun by then is in doubt."""
    first = after.failures[0].step if after.failures else ""
    # What runs regardless comes before what is ready; limits say when.
    by_turns = rehearsal.by_turns or base_of(first) in after.graph.regardless
    return first if by_turns and first not in rehearsal.sure else ""


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
