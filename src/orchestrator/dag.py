"""Jobs written in Python: functions, what they need, and the same log as any other job."""

from __future__ import annotations

import functools
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from eventlog.find import LOG_NAME

from . import __version__, signals
from . import events as ev
from .blobs import BlobStore
from .emitter import EventEmitter
from .errors import StepError, UsageError
from .function import FunctionWork, Node, StepResult, is_async
from .graph import Graph
from .history import fold_job
from .ids import check_name
from .inbox import Inbox, settle, watch
from .journal import Journal
from .keys import encode_output
from .outputs import Outputs
from .plan import Policy
from .recovery import ANSWERS, MAX_RECOVERIES, Effects, Recovery
from .retry import NO_RETRY, RetryPolicy
from .runner import Runner
from .state import JobState, StepStatus
from .status import FUNCTION
from .written import as_written


@dataclass(kw_only=True)
class DAGNode:
    """A step.

    Attributes:
        id: its name.
        fn: takes `(context, dep_results)`; sync or async; returns a JSON value.
        needs: ids of steps whose results it is given, in `dep_results`, by id.
        key: what its result depends on beside its source, its default arguments and its needs:
            what a closure, a global or the context brings. Any JSON value.
        timeout_s: limit of one attempt.
        retry: how it is tried again; not at all by default. One that names no kinds in `on`
            retries exceptions too.
        effects: `once` for what must not happen twice: a run that resumes then asks what to do
            with an attempt that was cut off (`on_interrupted`).
        max_recoveries: how often in a row it is tried again after its process has ended.
        when: takes `(context, dep_results)` and returns whether the step is run; else it is
            skipped, and what needs it.
        regardless: `when` is asked whatever became of what the step needs, also in a job that
            has failed; without `when`, the step is run then.
        continue_on_error: its failure is not the job's, and what needs it goes on.
        finally_: it comes last, whatever happened; its `dep_results` are those it needs.
    """

    id: str
    fn: Callable[..., Any]
    needs: Sequence[str] = ()
    key: Any = None
    timeout_s: float | None = None
    retry: RetryPolicy = NO_RETRY
    effects: Effects = "idempotent"
    max_recoveries: int = MAX_RECOVERIES
    when: Callable[[Any, Mapping[str, Any]], bool] | None = None
    regardless: bool = False
    continue_on_error: bool = False
    finally_: bool = False


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
    on_interrupted: Literal["", "rerun", "skip", "fail"] = "",
) -> dict[str, StepResult]:
    """Run the steps, each as soon as what it needs has succeeded, and return their results.

    Outputs are JSON values: each step is given its own copies, the same in the run that made
    them and in one that resumes.

    A cancelled run (Ctrl-C too) records at once what it leaves behind, then gives its async
    functions the time that they take to clean up. A second Ctrl-C gives them none: it is the
    event loop's KeyboardInterrupt. SIGTERM is the program's own matter; if it ends the process,
    the job is interrupted, as by any crash. Each of them can be resumed.

    Args:
        dag: the steps.
        job_id: what the log calls the job.
        context: handed to every function as it is; never written anywhere.
        events: an EventEmitter, or the path of a log. One that is not open yet is closed
            again at the end.
        concurrency: how many steps run at once.
        timeout_s: limit of the whole run.
        resume: read the log that `events` writes, and run only what has not succeeded yet or
            has changed: its source, its `key`, or an output that it needs.
        keep_going: go on with what does not depend on a failed step.
        on_interrupted: what to do with steps with `effects="once"` that were cut off: `rerun`,
            `skip` or `fail`; without it they fail with the question.

    Raises:
        UsageError, GraphError: a bad id, an unknown need, a cycle; nothing has run.
        EventLogError: the log can't be read or written.
    """
    check_name(job_id, "job id")
    if not isinstance(dag, DAG):
        raise UsageError(f"the dag must be a DAG, not {type(dag).__name__}", hint="DAG([…])")
    if not isinstance(concurrency, int) or concurrency < 1:
        raise UsageError(f"concurrency must be a whole number of at least 1, not {concurrency!r}")
    _check_limit(timeout_s, "timeout_s")
    if on_interrupted not in ("", *ANSWERS):
        known = ", ".join(ANSWERS)
        raise UsageError(f"on_interrupted must be one of {known}, not {on_interrupted!r}")
    nodes = {node.id: _node(node) for node in dag.nodes.values()}
    steps = tuple(map(_decl, nodes, nodes.values(), dag.nodes.values()))
    # Before the log is touched: what is wrong with it is an error of the caller's.
    graph = Graph(steps)
    started = ev.Started(
        project=job_id,
        steps=steps,
        concurrency=concurrency,
        timeout_s=timeout_s,
        version=__version__,
        keep_going=keep_going,
    )
    emitter = events if isinstance(events, EventEmitter) else EventEmitter(events)
    ours = not emitter.is_open
    policy = Policy(concurrency=concurrency, keep_going=keep_going, on_interrupted=on_interrupted)
    try:
        return await _run(nodes, graph, context, emitter, policy, started, resume=resume)
    finally:
        if ours:
            emitter.close()


async def _run(
    nodes: dict[str, Node],
    graph: Graph,
    context: Any,
    emitter: EventEmitter,
    policy: Policy,
    started: ev.Started,
    *,
    resume: bool,
) -> dict[str, StepResult]:
    job_id = started.project
    folder = os.path.dirname(os.path.abspath(emitter.path))
    blobs = BlobStore(os.path.join(folder, "artifacts"))
    log = emitter.for_job(job_id)
    emitter.sync()  # opens it: a log that can't be written stops the run before it begins
    state = JobState(job_id=job_id)
    if resume:
        state = fold_job(emitter.path, blobs, job_id=job_id, graphs=False)
    state.ahead = graph
    work = FunctionWork(nodes, context, blobs, folder, job_id)
    journal = Journal(log, state, written=as_written(blobs))
    runner = Runner(journal, work, policy, timeout_s=started.timeout_s)
    look = None
    if os.path.basename(emitter.path) == LOG_NAME:  # a run folder: other commands may ask
        inbox = Inbox(os.path.join(folder, "inbox"), warnings.warn)
        settle(inbox, journal, Outputs(blobs).keep)
        look = functools.partial(watch, inbox, runner)
    try:
        await signals.drive(runner, started, (), look, None)
    finally:
        work.close()
    return {name: _result(name, state, work) for name in nodes}


def _decl(name: str, checked: Node, node: DAGNode) -> ev.StepDecl:
    return ev.StepDecl(
        id=name,
        kind=FUNCTION,
        needs=checked.needs,
        regardless=node.regardless or node.finally_,
        last=node.finally_,
        continue_on_error=node.continue_on_error,
    )


_EFFECTS = get_args(Effects)


def _needs(node: DAGNode) -> tuple[str, ...]:
    needs = node.needs
    try:
        if not isinstance(needs, str):
            found = tuple(dict.fromkeys(needs)) if needs else ()
            "".join(found)
            return found
    except TypeError:
        pass
    raise UsageError(
        f"the needs of step {node.id} must be a list of ids, not {needs!r}"[:200],
        hint="write needs=['a', 'b']",
    )


def _check_kinds(node: DAGNode) -> None:
    if (
        node.when is None
        and node.retry is NO_RETRY
        and node.effects == "idempotent"
        and node.max_recoveries == MAX_RECOVERIES
        and callable(node.fn)
    ):
        return  # what is frequent comes first
    fits = {
        "fn": (callable(node.fn), "something that can be called"),
        "when": (node.when is None or callable(node.when), "something that can be called"),
        "retry": (isinstance(node.retry, RetryPolicy), "a RetryPolicy"),
        "effects": (node.effects in _EFFECTS, " or ".join(_EFFECTS)),
        "max_recoveries": (
            type(node.max_recoveries) is int and node.max_recoveries >= 0,
            "a whole number, 0 or more",
        ),
    }
    for name, (good, wanted) in fits.items():
        if not good:
            value = f"{getattr(node, name)!r}"[:80]
            raise UsageError(f"the {name} of step {node.id} must be {wanted}, not {value}")


def _node(node: DAGNode) -> Node:
    """Return a node as it will be run.

    Raises:
        UsageError: something of it is of the wrong kind.
    """
    _check_limit(node.timeout_s, f"the timeout_s of step {node.id}")
    _check_kinds(node)
    if node.key is not None:
        try:
            encode_output(node.id, node.key)
        except StepError as error:
            cause = error.message.partition(": ")[2]
            raise UsageError(
                f"the key of step {node.id} is no JSON value: {cause}", hint=error.hint
            ) from error
    return Node(
        fn=node.fn,
        is_async=is_async(node.fn),
        needs=_needs(node),
        key=node.key,
        timeout_s=node.timeout_s,
        retry=node.retry,
        when=node.when,
        recovery=_recovery(node.effects == "once", node.max_recoveries),
    )


@functools.lru_cache(maxsize=64)
def _recovery(once: bool, max_recoveries: int) -> Recovery:
    return Recovery(once=once, max_recoveries=max_recoveries)


def _check_limit(seconds: float | None, what: str) -> None:
    if seconds is None:
        return
    number = isinstance(seconds, int | float)
    if not number or not (seconds > 0 and math.isfinite(seconds)):
        raise UsageError(
            f"{what} must be a number of seconds above 0, not {seconds!r}",
            hint="leave it out, or give None, for no limit",
        )


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
