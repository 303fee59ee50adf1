"""From a job's state to rows for people and scripts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .instances import base_of
from .money import dollars
from .state import DONE, JobState, JobStatus, StepState, StepStatus, Totals

SCHEMA_VERSION = 1


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A job in a line: what `list` shows, and what the catalogue keeps.

    `log_bytes` is the log's size when it was read: a job whose log has another size now has
    gone on since.
    """

    job_id: str
    project: str
    status: str
    started_at: str
    finished_at: str
    duration_s: float
    steps: int
    completed: int
    legs: int
    calls: int
    hits: int
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: str | None
    simulated: bool
    seq: int
    sum: str
    log_bytes: int


def status_word(state: JobState, *, held: bool) -> str:
    """Return what a job is: as its events say, or by its lock if they don't say the end."""
    if held:
        return "running"
    word = _ended_as(state)
    return "interrupted" if word in (JobStatus.OPEN, JobStatus.NEW) else word


def _ended_as(state: JobState) -> str:
    """Return how the last leg ended; where somebody has answered since, the job is open again."""
    answered = state.status is JobStatus.WAITING and not state.asking
    return str(JobStatus.OPEN if answered else state.status)


def step_word(state: JobState, name: str, *, held: bool) -> str:
    """Return what a step is: an attempt runs only as long as its job's lock is held.

    A group runs as long as its items do; without the lock it waits if one of them does.
    """
    status = state.steps[name].status
    if status is StepStatus.EXPANDED and any(base_of(asking) == name for asking in state.asking):
        return "running" if held else str(StepStatus.ASKING)
    if status in (StepStatus.RUNNING, StepStatus.EXPANDED):
        return "running" if held else "interrupted"
    return str(status)


def summary(state: JobState, *, log_bytes: int) -> Summary:
    """Return a job in a line; its status is the events', without the lock."""
    totals = state.totals
    return Summary(
        job_id=state.job_id,
        project=state.started.project if state.started else "",
        status=_ended_as(state),
        started_at=state.started_at,
        finished_at=state.finished_at,
        duration_s=round(totals.legs_s + state.open_leg_s, 6),
        steps=len(state.steps),
        completed=sum(step.status in DONE for step in state.steps.values()),
        legs=state.legs,
        calls=totals.calls,
        hits=totals.hits,
        tokens_in=totals.tokens_in,
        tokens_out=totals.tokens_out,
        cost_usd=dollars(totals.cost_usd),
        simulated=totals.simulated > 0,
        seq=state.seq,
        sum=state.sum,
        log_bytes=log_bytes,
    )


def shown(state: JobState, *, held: bool) -> dict[str, Any]:
    """Return what `show` prints: the manifest, with what the lock says beside the events."""
    document = manifest(state)
    document["status"] = status_word(state, held=held)
    for row in document["steps"]:
        row["status"] = step_word(state, row["step"], held=held)
    return document


def manifest(state: JobState) -> dict[str, Any]:
    """Return `manifest.json`: the state as of the event that it names."""
    pending = (StepStatus.SUCCEEDED, StepStatus.REUSED, StepStatus.FAILED)
    return {
        "schema_version": SCHEMA_VERSION,
        "job_id": state.job_id,
        "project": state.started.project if state.started else "",
        "status": str(state.status),
        "parent": msgspec.to_builtins(state.started.parent) if state.started else None,
        "started_at": state.started_at,
        "finished_at": state.finished_at or None,
        "duration_s": round(state.totals.legs_s + state.open_leg_s, 6),
        "legs": state.legs,
        "steps": step_rows(state),
        "files": [
            {
                "path": file.path,
                "sha256": file.sha256,
                "size_bytes": file.size_bytes,
                "media_type": file.media_type,
                "step": state.published.get(file.path),
            }
            for file in sorted(state.files.values(), key=lambda file: file.path)
        ],
        "outputs": {} if state.outputs is None else state.outputs,
        "failures": msgspec.to_builtins(state.failures),
        "tolerated": msgspec.to_builtins(state.tolerated),
        "completed_steps": [n for n, s in state.steps.items() if s.status in DONE],
        "waiting_for": list(state.asking),
        "pending_steps": [n for n, s in state.steps.items() if s.status not in pending],
        "totals": totals_row(state.totals),
        "seq": state.seq,
        "sum": state.sum,
    }


def totals_row(totals: Totals) -> dict[str, Any]:
    """Return the totals for JSON: amounts of money as plain decimal strings."""
    row: dict[str, Any] = msgspec.to_builtins(totals)
    return {**row, "cost_usd": dollars(totals.cost_usd), "saved_usd": dollars(totals.saved_usd)}


def step_rows(state: JobState) -> list[dict[str, Any]]:
    """Return one row for each step, in the order of the spec."""
    return [
        {
            "step": name,
            "kind": step.kind,
            "status": str(step.status),
            "attempts": step.attempt,
            "duration_s": round(
                step.success.duration_s if step.success is not None else step.work_s, 6
            ),
            "files": [file.path for file in step.success.files] if step.success else [],
            "reason": step.fault.message if step.fault is not None else step.reason,
        }
        for name, step in _in_order(state)
    ]


def _in_order(state: JobState) -> Iterator[tuple[str, StepState]]:
    """Yield the steps of the spec's order, then those that only the events name."""
    named = set()
    for name in state.names():
        named.add(name)
        yield name, state.steps[name]
    for name, step in state.steps.items():
        if name not in named:
            yield name, step
