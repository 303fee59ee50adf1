"""What a job file inside another one adds to a job's state. Pure: parts of `state.evolve`.

A step that runs another job file is a step around others. When its needs are met it is *entered*
(`step.expanded`), and what needs nothing inside becomes ready; when all that is inside has
settled it becomes ready once more, to be left with its result. If it is not entered, nothing inside
is run: each of these steps is looked at, and skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from . import events as ev
from .errors import FailureKind, StepError
from .instances import instance
from .lanes import chosen, offer
from .status import DONE, StepStatus

if TYPE_CHECKING:
    from .events import StepDecl
    from .state import JobState

NAMED = 3
"""Failed steps that the failure of what is around them names."""


class Nest(msgspec.Struct, kw_only=True):
    """A step around others that was entered in this leg.

    Attributes:
        open: steps right inside of it that have not settled.
        held: how many of them are open when the `last` ones come; -1 for none.
        failed: those whose failure counts.
        entered_s: the monotonic second at which it was entered.
    """

    open: int
    held: int
    failed: int = 0
    entered_s: float = 0.0


class Limit(NamedTuple):
    """How long what is inside a step may yet take: its `timeout_s`, and what is left of that."""

    step: str
    timeout_s: float
    left_s: float

    @property
    def passed(self) -> StepError:
        """What a step fails with whose time was over."""
        return StepError(
            f"the time of {self.step} is over (timeout_s: {self.timeout_s:g})",
            kind=FailureKind.TIMEOUT,
            hint=f"raise the timeout_s of step {self.step}",
        )


def hold_back(state: JobState) -> None:
    """Let what is inside wait to be entered, at the start of a leg."""
    graph = state.graph
    for members in graph.members.values():
        for name in members:
            # One that is `last` waits, as it were, for all others inside, too.
            state.steps[name].unmet += (not graph.needs[name]) + graph.steps[name].last


def entered(state: JobState, name: str, at_s: float) -> None:
    """Take in that a step was entered: what needs nothing inside becomes ready."""
    graph, members = state.graph, state.graph.members[name]
    chosen(state, name)
    state.step(name).status = StepStatus.EXPANDED
    last = sum(graph.steps[member].last for member in members)
    nest = state.nests[name] = Nest(open=len(members), held=last or -1, entered_s=at_s)
    for member in members:
        if not graph.needs[member]:
            _meet(state, member)
    _maybe_release(state, name, nest)


def settled(state: JobState, decl: StepDecl, *, lacking: bool, failed: bool) -> None:
    """Take in that a step has settled that is inside another one, or around others."""
    nest = state.nests.get(decl.inside) if decl.inside else None
    if nest is not None:
        nest.open -= 1
        nest.failed += failed and lacking
        if nest.held >= 0:
            nest.held -= decl.last
            _maybe_release(state, decl.inside, nest)
        if not nest.open and state.steps[decl.inside].status is StepStatus.EXPANDED:
            offer(state, decl.inside)
    if decl.id not in state.nests:
        for member in state.graph.members.get(decl.id, ()):
            if state.steps[member].status is StepStatus.PENDING:
                offer(state, member)


def _maybe_release(state: JobState, name: str, nest: Nest) -> None:
    """Let the `last` steps inside come when all others have settled."""
    if nest.open != nest.held:
        return
    nest.held = -1
    for member in state.graph.members[name]:
        if state.graph.steps[member].last:
            _meet(state, member)


def _meet(state: JobState, name: str) -> None:
    step = state.steps[name]
    step.unmet -= 1
    if step.unmet == 0 and step.status is StepStatus.PENDING:
        offer(state, name)


def has_run(state: JobState, name: str) -> bool:
    """Tell whether anything inside a step was started in this leg, but for what comes last."""
    for member in state.graph.members.get(name, ()):
        fan = state.fans.get(member)
        names = [instance(member, item) for item in fan.items] if fan is not None else [member]
        ran = any(state.steps[each].tries for each in names) or has_run(state, member)
        if ran and not state.graph.steps[member].last:
            return True
    return False


def limit(
    state: JobState, decl: StepDecl, timeout_s: Callable[[str], float | None], now_s: float
) -> Limit | None:
    """Return the limit of what is around a step of which least is left, if there is one.

    It is none for a step that comes whatever happens in its file.

    Args:
        state: of the job.
        decl: of the step.
        timeout_s: returns the limit of a step.
        now_s: the monotonic second.
    """
    least: Limit | None = None
    while decl.inside and decl.id not in state.graph.anyhow:
        decl = state.graph.steps[decl.inside]
        whole_s = timeout_s(decl.id)
        if whole_s is not None:
            left_s = state.nests[decl.id].entered_s + whole_s - now_s
            if least is None or left_s < least.left_s:
                least = Limit(decl.id, whole_s, left_s)
    return least


def shut_out(state: JobState, decl: StepDecl) -> bool:
    """Tell whether what is around a step was not entered in this leg."""
    return bool(decl.inside) and decl.inside not in state.nests


def borne_around(state: JobState, decl: StepDecl | None) -> bool:
    """Tell whether a failure is not the job's, for something around the step bears it."""
    while decl is not None and decl.inside:
        decl = state.graph.steps.get(decl.inside)
        if decl is not None and decl.continue_on_error:
            return True
    return False


def broken(state: JobState, name: str) -> ev.StepFault | None:
    """Return the failure of a step that was entered, if something inside has failed."""
    nest = state.nests.get(name)
    if nest is None or not nest.failed:
        return None
    members = state.graph.members[name]
    failed = [member for member in members if fails(state, member)]
    named = ", ".join(failed[:NAMED])
    more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    return ev.StepFault(
        kind=FailureKind.STEPS,
        message=f"{len(failed)} of its {len(members)} steps failed: {named}{more}",
        hint="the steps that succeeded are not run again by a resume",
    )


def fails(state: JobState, name: str) -> bool:
    """Tell whether a step has failed, and what is around it or needs it fails with it."""
    return (
        state.steps[name].status is StepStatus.FAILED
        and not state.graph.steps[name].continue_on_error
    )


def left_out(state: JobState, decl: StepDecl, stopped: str) -> ev.Skip:
    """Return why a step is not run that is inside one that was not entered."""
    around = state.steps[decl.inside]
    if around.status in DONE:
        return ev.Skip(reason=f"it is part of {decl.inside}, which has its result already")
    words = {StepStatus.FAILED: "failed", StepStatus.SKIPPED: "was skipped"}
    word = words.get(around.status)
    if word is None:
        return ev.Skip(reason=stopped)
    reason = f"it is part of {decl.inside}, which {word}"
    return ev.Skip(reason=reason, because=around.because or decl.inside)
