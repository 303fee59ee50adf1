"""What templates see of the steps of a job, and of the job."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from .errors import FailureKind, StepError
from .instances import instance
from .state import DONE, SETTLED, JobState, Success

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
        fan = state.fans.get(name)
        members = [step]
        if fan is not None:  # its files are its instances'
            members = [state.steps[instance(name, item)] for item in fan.items]
        files = [
            {"path": file.path, "sha256": file.sha256, "size_bytes": file.size_bytes}
            for member in members
            if member.success is not None
            for file in member.success.files
        ]
        output = self._output(step.success)
        view = {"status": "succeeded", "output": output, "files": files, "error": None}
        self._views[name] = step.success, view
        if len(self._views) > VIEWS:
            self._views.popitem(last=False)
        return view


def job_seen(state: JobState) -> dict[str, Any]:
    """Return what steps that come last see of the job."""
    failures = [
        {"step": failure.step, "kind": failure.kind, "message": failure.message}
        for failure in state.failures
    ]
    return {"status": "failed" if failures else "succeeded", "failures": failures}
