"""What templates see of the steps of a job, and of the job."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from .errors import FailureKind, StepError
from .instances import base_of, instance
from .state import DONE, SETTLED, JobState, StepState, Success

VIEWS = 8
"""Steps of which what templates see is kept: the instances of a group all look at the same."""


class Sights:
    """What templates see of steps; nobody may change it.

    Args:
        output: returns a recorded result's real output.
    """

    def __init__(self, output: Callable[[Success], Any]) -> None:
        self._output = output
        self._views: OrderedDict[str, tuple[Success, dict[str, Any]]] = OrderedDict()

    def step(self, name: str, state: JobState) -> dict[str, Any]:
        """Return what templates see of a step that has settled.

        Raises:
            StepError: kind `template`, if it has not.
        """
        step = state.steps.get(name)
        if step is None or step.status not in SETTLED:
            raise StepError(
                f"step {name} has no result to refer to",
                kind=FailureKind.TEMPLATE,
                hint="add it to the step's needs",
            )
        if step.success is None or step.status not in DONE:
            error = step.fault.message if step.fault is not None else None
            return {"status": str(step.status), "output": None, "files": [], "error": error}
        known = self._views.get(name)
        if known is not None and known[0] is step.success:
            return known[1]
        files = [
            {"path": file.path, "sha256": file.sha256, "size_bytes": file.size_bytes}
            for member in _parts(name, state)
            if member.success is not None
            for file in member.success.files
        ]
        output = self._output(step.success)
        view = {"status": "succeeded", "output": output, "files": files, "error": None}
        self._views[name] = step.success, view
        if len(self._views) > VIEWS:
            self._views.popitem(last=False)
        return view


def _parts(name: str, state: JobState) -> Iterator[StepState]:
    """Yield the steps whose files are those of a step: it itself, its instances, what is inside."""
    fan = state.fans.get(name)
    if fan is not None:
        yield from (state.steps[instance(name, item)] for item in fan.items)
    elif name in state.graph.members:
        for member in state.graph.members[name]:
            yield from _parts(member, state)
    else:
        yield state.steps[name]


def job_seen(state: JobState, scope: str = "") -> dict[str, Any]:
    """Return what steps that come last see of the job, or of the job file that they stand in."""
    failures = failures_seen(state, scope)
    return {"status": "failed" if failures else "succeeded", "failures": failures}


def failures_seen(state: JobState, scope: str = "") -> list[dict[str, Any]]:
    """Return the failures of the job; or of what is inside a step, by the names it has there.

    Those inside count there even if something around them bears them.
    """
    failures = list(state.failures)
    if scope:
        prefix = f"{scope}/"
        told = (*failures, *state.tolerated)
        failures = [
            msgspec.structs.replace(failure, step=failure.step.removeprefix(prefix))
            for failure in told
            if failure.step.startswith(prefix) and _counts(failure.step, scope, state)
        ]
    return [
        {"step": failure.step, "kind": failure.kind, "message": failure.message}
        for failure in failures
    ]


def _counts(name: str, scope: str, state: JobState) -> bool:
    """Tell whether a failure is one of the job file around it that `scope` runs."""
    decl = state.graph.steps.get(base_of(name))
    while decl is not None and decl.id != scope:
        if decl.continue_on_error:
            return False
        decl = state.graph.steps.get(decl.inside)
    return True
