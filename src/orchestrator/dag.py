"""Jobs written in Python: functions, what they need, and the same log as any other job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import events as ev
from .blobs import BlobStore
from .emitter import EventEmitter
from .errors import UsageError
from .function import FunctionWork, Node
from .history import fold_job
from .ids import check_name
from .journal import Journal
from .plan import Policy
from .retry import NO_RETRY, RetryPolicy
from .runner import Runner
from .start import as_written
from .state import JobState, StepStatus


@dataclass(kw_only=True)
class DAGNode:
    """A step.

    Attributes:
        id: its name.
        fn: takes `(context, dep_results)`; sync or async; returns a JSON value.
        needs: ids of steps whose results it is given, in `dep_results`, by id.
        key: what its result depends on beside its source and its needs: what a closure or the
            context brings. Any JSON value.
        timeout_s: limit of one attempt.
        retry: how it is tried again; not at all by default.
    """

    id: str
    fn: Callable[..., Any]
    needs: Sequence[str] = ()
    key: Any = None
    timeout_s: float | None = None
    retry: RetryPolicy = NO_RETRY


class DAG:
    """Nodes by id. An unknown need or a cycle is refused when the job starts."""

    def __init__(self, nodes: Sequence[DAGNode] = ()) -> None:
        self.nodes: dict[str, DAGNode] = {}
        for node in nodes:
            self.add_node(node)

    def add_node(self, node: DAGNode) -> DAGNode:
        """Add a step and return it.

        Raises:
            UsageError: its id is no name, or is there already.
        """
        check_name(node.id, "step id")
        if node.id in self.nodes:
            raise UsageError(f"two nodes have the id {node.id!r}", hint="rename one of them")
        self.nodes[node.id] = node
        return node


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What became of a step.

    Attributes:
        status: `succeeded`, `skipped` (an earlier result was taken, which is `output`),
            `failed`, or `not_run` (something it needs failed, or the job stopped).
        output: what it returned.
        duration_s: of the attempt that brought the result.
        error: why it failed or was not run.
    """

    id: str
    status: str
    output: Any = None
    duration_s: float = 0.0
    error: str = ""
    files: tuple[ev.FileRef, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.status in ("succeeded", "skipped")


async def run_dag(
    dag: DAG,
    job_id: str,
    context: Any,
    events: EventEmitter | str | os.PathLike[str],
    concurrency: int = 4,
    timeout_s: float | None = None,
    resume: bool = False,
    *,
    keep_going: bool = False,
) -> dict[str, StepResult]:
    """Run the steps, each as soon as what it needs has succeeded, and return their results.

    Args:
        dag: the steps.
        job_id: what the log calls the job.
        context: handed to every function as it is; never written anywhere.
        events: an EventEmitter, or the path of a log.
        concurrency: how many steps run at once.
        timeout_s: limit of the whole run.
        resume: read the log that `events` writes, and run only what has not succeeded yet or
            has changed: its source, its `key`, or an output that it needs.
        keep_going: go on with what does not depend on a failed step.

    Raises:
        UsageError, GraphError: a bad id, an unknown need, a cycle.
        EventLogError: the log can't be read or written.
    """
    check_name(job_id, "job id")
    if concurrency < 1:
        raise UsageError(f"concurrency must be at least 1, not {concurrency}")
    own = not isinstance(events, EventEmitter)
    emitter = EventEmitter(events) if not isinstance(events, EventEmitter) else events
    try:
        return await _run(dag, job_id, context, emitter, concurrency, timeout_s, resume, keep_going)
    finally:
        if own:
            emitter.close()


async def _run(
    dag: DAG,
    job_id: str,
    context: Any,
    emitter: EventEmitter,
    concurrency: int,
    timeout_s: float | None,
    resume: bool,
    keep_going: bool,
) -> dict[str, StepResult]:
    nodes = {
        node.id: Node(
            fn=node.fn,
            needs=tuple(dict.fromkeys(node.needs)),
            key=node.key,
            timeout_s=node.timeout_s,
            retry=node.retry,
        )
        for node in dag.nodes.values()
    }
    steps = [
        ev.StepDecl(id=name, kind="function", needs=node.needs) for name, node in nodes.items()
    ]
    folder = os.path.dirname(os.path.abspath(emitter.path))
    blobs = BlobStore(os.path.join(folder, "artifacts"))
    emitter.for_job(job_id)
    log = emitter.log
    state = JobState(job_id=job_id)
    if resume:
        state = fold_job(emitter.path, blobs, job_id=job_id)
    started = ev.Started(
        project=job_id,
        steps=tuple(steps),
        concurrency=concurrency,
        timeout_s=timeout_s,
    )
    journal = Journal(log, state, written=as_written(blobs))
    work = FunctionWork(nodes, context, blobs, folder, concurrency, job_id)
    runner = Runner(
        journal, work, Policy(concurrency=concurrency, keep_going=keep_going), timeout_s=timeout_s
    )
    await runner.drive(started)
    return {name: _result(name, state, work) for name in nodes}


_STATUS: Mapping[StepStatus, str] = {
    StepStatus.SUCCEEDED: "succeeded",
    StepStatus.REUSED: "skipped",
    StepStatus.FAILED: "failed",
}


def _result(name: str, state: JobState, work: FunctionWork) -> StepResult:
    step = state.steps[name]
    status = _STATUS.get(step.status, "not_run")
    if step.success is not None and status in ("succeeded", "skipped"):
        return StepResult(
            id=name,
            status=status,
            output=work.output(step.success),
            duration_s=step.success.duration_s,
            files=step.success.files,
        )
    error = step.fault.message if step.fault is not None else step.reason
    return StepResult(id=name, status=status, error=error, duration_s=step.work_s)


__all__ = ["DAG", "DAGNode", "StepResult", "run_dag"]
