"""What became of a job: what a program gets, and what `orch run` ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import ExitCode, FailureKind
from .folder import RunFolder
from .runner import Runner, Stop
from .specwork import SpecWork
from .state import DONE, JobState, JobStatus, StepStatus


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of a job.

    Attributes:
        job_id: names its folder.
        status: `succeeded`, `failed`, `cancelled` or `waiting`.
        exit_code: what `orch run` ends with.
        steps: each step's output, of those that have one.
        outputs: what the spec's `outputs` say.
        path: the run folder.
        state: all that the log tells.
    """

    job_id: str
    status: str
    exit_code: int
    steps: dict[str, Any]
    outputs: dict[str, Any]
    path: str
    state: JobState

    @property
    def ok(self) -> bool:
        """Whether the job has succeeded, and no budget kept a call from it."""
        return self.exit_code == ExitCode.OK


_UNUSABLE = (FailureKind.AUTH, FailureKind.NETWORK)


def exit_code(state: JobState, stopped: Stop | None) -> ExitCode:
    """Return what a leg that ended in this state ends the program with."""
    if state.status is JobStatus.SUCCEEDED:
        return ExitCode.LIMIT if _was_refused_a_call(state) else ExitCode.OK
    if state.status is JobStatus.WAITING:
        return ExitCode.WAITING
    if stopped is not None and stopped.signal:
        return ExitCode(128 + stopped.signal)
    if stopped is not None and stopped.request:  # `orch cancel`: as if by SIGTERM
        return ExitCode.SIGTERM
    kinds = [failure.kind for failure in state.failures]
    if kinds and all(kind in _UNUSABLE for kind in kinds):
        return ExitCode.PROVIDER
    if FailureKind.CACHE_MISS in kinds:
        return ExitCode.CACHE_MISS
    if FailureKind.BUDGET in kinds:
        return ExitCode.LIMIT
    return ExitCode.STEP_FAILED


def _was_refused_a_call(state: JobState) -> bool:
    """Return whether the budget kept a call from a job that could bear that step's failure."""
    if not state.tolerated and not any(fan.failed for fan in state.fans.values()):
        return False
    faults = (step.fault for step in state.steps.values() if step.status is StepStatus.FAILED)
    return any(fault is not None and fault.kind == FailureKind.BUDGET for fault in faults)


def result_of(folder: RunFolder, state: JobState, runner: Runner, work: SpecWork) -> JobResult:
    """Return what became of a job whose leg has ended."""
    code = exit_code(state, runner.stopped)
    steps = {
        name: work.output(step.success)
        for name, step in state.steps.items()
        if step.success is not None and step.status in DONE and "[" not in name
    }
    return JobResult(
        job_id=folder.job_id,
        status=str(state.status),
        exit_code=int(code),
        steps=steps,
        outputs=work.job_outputs(state),
        path=folder.path,
        state=state,
    )
