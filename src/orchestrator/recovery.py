"""What becomes of a step whose last attempt was cut off: tried again, asked about, or given up.

Nobody knows whether a cut-off attempt has done its work. Most steps may do it twice; one with
`effects: once` may not, so somebody has to say. And a step that ends its own process each time
is not tried for ever. Pure.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Literal

import msgspec

from . import events as ev
from .errors import FailureKind
from .instances import base_of
from .status import StepState

if TYPE_CHECKING:
    from .state import JobState

Effects = Literal["idempotent", "once"]
Then = Literal["ask", "rerun", "skip", "fail"]
ANSWERS = ("rerun", "skip", "fail")
"""What a user may say of steps that were cut off."""

MAX_RECOVERIES = 10


class Recovery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a step says of its cut-off attempts.

    Attributes:
        once: its effects must not happen twice.
        on_interrupted: what to do then, if it is `once`.
        max_recoveries: how often in a row it is tried again after its process has ended.
    """

    once: bool = False
    on_interrupted: Then = "ask"
    max_recoveries: int = MAX_RECOVERIES


ANY = Recovery()


def in_doubt(step: StepState) -> bool:
    """Tell whether a step's last attempt was cut off, or its result is gone."""
    return step.cut > 0 and step.cut == step.attempt


def doubted_as(state: JobState, key: str) -> str:
    """Return the former name of a step whose last attempt was cut off with this key, or nothing.

    It has gone from the spec: what has the key now is the same step, renamed.
    """
    for name in state.doubts.get(key, ()):
        former = state.former.get(name)
        if former is not None and in_doubt(former) and base_of(name) not in state.graph.steps:
            return name
    return ""


def recover(
    job_id: str, name: str, step: StepState, rule: Recovery, said: str
) -> ev.StepSkipped | ev.StepFailed | None:
    """Return what is recorded in place of another attempt, or None to make one.

    Args:
        job_id: for the hint.
        name: of the step.
        step: with an attempt that was cut off.
        rule: the step's own.
        said: what the user answers now: `rerun`, `skip`, `fail`, or nothing.
    """
    then = (said or rule.on_interrupted) if rule.once else "rerun"
    answers = f"orch resume {job_id} --on-interrupted"
    what = "has lost its result" if step.gone else "was cut off"
    if then == "skip":
        reason = f"attempt {step.cut} {what}, and is not made again (on_interrupted: skip)"
        return ev.StepSkipped(step=name, data=ev.Skip(reason=reason))
    if then == "fail":
        text = f"attempt {step.cut} {what}, and is not made again (on_interrupted: fail)"
        return _failed(name, step, text, f"{answers} rerun")
    if then == "ask":
        done = f"{what} and {'has' if step.gone else 'may have'} done its work"
        text = f"attempt {step.cut} {done}, which must not happen twice (effects: once)"
        shown = f"orch show {job_id} {shlex.quote(name)}"
        look = f"find out, then say what to do: {answers} rerun, skip or fail"
        return _failed(name, step, text, f"{look}; {shown} --json has its key")
    if step.crashes > rule.max_recoveries and said != "rerun":
        times = "once" if step.crashes == 1 else f"{step.crashes} times in a row"
        text = f"its process has ended {times} while it ran; it is not tried again by itself"
        hint = f"{answers} rerun tries it once more; or raise the step's max_recoveries"
        return _failed(name, step, text, f"{hint} (now {rule.max_recoveries})")
    return None


def _failed(name: str, step: StepState, message: str, hint: str) -> ev.StepFailed:
    fault = ev.StepFault(
        attempt=step.attempt, kind=FailureKind.INTERRUPTED, message=message, hint=hint
    )
    return ev.StepFailed(step=name, data=fault)
