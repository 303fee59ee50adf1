"""A runner without a disk and without waiting: scripted steps, a log in memory, leaping time."""

import asyncio
import selectors
from collections import Counter

import anyio
from given import declared

from eventlog import MemoryLog
from orchestrator import events as ev
from orchestrator.errors import StepError
from orchestrator.journal import Journal, line_fields
from orchestrator.outputs import Outputs
from orchestrator.plan import Policy
from orchestrator.recovery import Recovery
from orchestrator.retry import NO_RETRY
from orchestrator.runner import Runner, Stop
from orchestrator.state import JobState, JobStatus, evolve
from orchestrator.steps.base import Attempt, Prepared, Result


class _Leap(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout=None):
        if timeout is not None and timeout > 0:
            self.now += timeout
            timeout = 0
        return super().select(timeout)


class LeapLoop(asyncio.SelectorEventLoop):
    """An event loop whose time leaps to the next timer whenever nothing else can be done."""

    def __init__(self):
        self.leap = _Leap()
        super().__init__(self.leap)

    def time(self):
        return self.leap.now


def leaping(fn, *args):
    return anyio.run(fn, *args, backend_options={"loop_factory": LeapLoop})


class TestLog(MemoryLog):
    """Counts batches; fails at the one that it is told, and ever after."""

    __test__ = False

    def __init__(self, fail_at=None):
        self.batches = []
        self.fail_at = None
        super().__init__(fields=line_fields("j"))
        self.fail_at = fail_at

    def append(self, *events, time_ns=None):
        if self.fail_at is not None and len(self.batches) >= self.fail_at:
            from eventlog import LogWriteFailed

            raise LogWriteFailed("write failed: no space left [ENOSPC]", path="events.jsonl")
        self.batches.append([type(event).__struct_config__.tag for event in events])
        return super().append(*events, time_ns=time_ns)

    def events(self, *types):
        found = [record.event for record in self.read(ev.AnyJobEvent)]
        return [event for event in found if not types or isinstance(event, types)]

    def told(self):
        """Return each step event as `type step`, in order, and the job's as their type."""
        names = []
        for event in self.events()[1:]:
            tag = type(event).__struct_config__.tag
            names.append(f"{tag.removeprefix('step.')} {event.step}" if "step." in tag else tag)
        return names


class Script:
    """Steps that do what they are told: a function of the attempt, for each step and try."""

    def __init__(
        self, acts=None, *, timeouts=None, retries=None, parts=None, abandons=False, **more
    ):
        self.acts = acts or {}
        self.timeouts = timeouts or {}
        self.retries = retries or {}
        self.parts = parts or {}
        self.abandons = abandons
        self.conditions = more.pop("conditions", {})
        self.recoveries = more.pop("recoveries", {})
        self.answers = more.pop("answers", ())
        assert not more
        self.calls = Counter()
        self.attempts = []
        self.began_at = {}
        self.at_once = 0
        self.most_at_once = 0
        self.lost = {}
        self._outputs = Outputs(None)

    def outputs(self, state):
        return None

    def prepare(self, name, state):
        part = self.parts.get(name, name)
        if isinstance(part, Exception):
            raise part
        if callable(part):
            part = part()
        return Prepared(parts={"part": part}, abandons=self.abandons)

    def unwanted(self, name, state):
        said = self.conditions.get(name, "")
        return said(state) if callable(said) else said

    def recovery(self, name):
        return self.recoveries.get(name, Recovery())

    def answered(self, name, prepared):
        return name in self.answers

    def attempt(self, name, number, idempotency_key, emit_for):
        return Attempt(
            job_id="j",
            step=name,
            number=number,
            idempotency_key=idempotency_key,
            timeout_s=self.timeouts.get(name),
            work_dir="",
            log_path="",
            outputs=None,
            environ={},
            emit=emit_for(name, number),
            publish=None,
        )

    async def perform(self, name, prepared, attempt):
        self.calls[name] += 1
        self.attempts.append(attempt)
        self.began_at[name] = anyio.current_time()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            act = self.acts.get(name, name)
            if isinstance(act, list):
                act = act[min(self.calls[name], len(act)) - 1]
            if isinstance(act, BaseException):
                raise act
            if callable(act):
                act = await act(attempt)
            return Result(output=act)
        finally:
            self.at_once -= 1

    def holds(self, success):
        return self.lost.get(success.step, "")

    def keep(self, name, result, encoded):
        return self._outputs.keep(result.output, encoded)

    def retry(self, name):
        return self.retries.get(name, NO_RETRY)

    def timeout_s(self, name):
        return self.timeouts.get(name)


def takes(seconds, value=None):
    async def act(attempt):
        await anyio.sleep(seconds)
        return value

    return act


def fails(kind, text="no"):
    return StepError(text, kind=kind)


def state_of(log):
    state = JobState(job_id="j")
    for record in log.read(ev.AnyJobEvent):
        state = evolve(state, record)
    return state


class Rig:
    """One leg of a job, and afterwards what it left."""

    def __init__(self, steps, script=None, *, log=None, concurrency=4, **options):
        self.steps = steps
        self.script = script or Script()
        self.log = log or TestLog()
        self.policy = Policy(
            concurrency=concurrency,
            keep_going=options.pop("keep_going", False),
            on_interrupted=options.pop("on_interrupted", ""),
        )
        self.timeout_s = options.pop("timeout_s", None)
        self.meanwhile = options.pop("meanwhile", None)
        self.clocks = {"monotonic": anyio.current_time, "clock": lambda: 0}
        self.written = options.pop("written", None)
        assert not options
        self.state = None
        self.took_s = 0.0

    async def _main(self):
        state = state_of(self.log)
        journal = Journal(self.log, state, written=self.written, **self.clocks)
        self.runner = Runner(
            journal, self.script, self.policy, timeout_s=self.timeout_s, parts=self.script
        )
        begun = anyio.current_time()
        try:
            if self.meanwhile is None:
                self.state = await self.runner.drive(declared(self.steps))
                return
            async with anyio.create_task_group() as group:
                group.start_soon(self.meanwhile, self)
                self.state = await self.runner.drive(declared(self.steps))
        finally:
            self.took_s = round(anyio.current_time() - begun, 6)

    def run(self):
        leaping(self._main)
        assert state_view(self.state) == state_view(state_of(self.log)), "not what the log tells"
        return self


def state_view(state):
    steps = {
        name: (step.status, step.attempt, step.interrupted, step.success, step.reason)
        for name, step in state.steps.items()
    }
    return state.status, steps, state.failures, state.totals, state.seq, state.legs


def stop_after(seconds, reason="SIGINT"):
    async def meanwhile(rig):
        await anyio.sleep(seconds)
        rig.runner.stop(Stop(verdict=JobStatus.CANCELLED, reason=reason, signal=2))

    return meanwhile
