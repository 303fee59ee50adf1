"""The loop: take in outcomes, decide, append outcomes and new starts in one batch, perform.

Everything runs in one event loop, and only this loop writes the log. An attempt never touches
the state; it hands events in and waits until they are durable. Appending is done in place and
not in a thread: a sync costs less than the way to a thread and back, and nothing could be
decided meanwhile anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import anyio
import msgspec

from eventlog import Event, EventLogError

from . import events as ev
from .answers import Refused, Request, answer
from .attempt import Launch, carry_out, failed_before
from .crew import Crew, crew
from .errors import FailureKind, OrchestratorError
from .journal import Journal
from .plan import Plan, Policy, closing, decide, not_run, opening, why_stopped
from .starter import Starter
from .state import JobState, JobStatus, StepStatus
from .steps.base import Emit, Result
from .work import SpecParts, Work

STOP_WAIT_S = 5.0
"""How long a stopped leg waits for its attempts to clean up before it records the end."""

AFTERWARDS_S = 60.0
"""How long steps that run regardless may take, all together, when the leg's time is over."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Why a leg ends before its work is done."""

    verdict: JobStatus
    reason: str
    signal: int = 0
    by: str = ""
    request: str = ""


class _Report(NamedTuple):
    """Events of an attempt under way, and whom to tell that they are durable."""

    events: tuple[Event, ...]
    durable: anyio.Event | None


class _Asked(NamedTuple):
    request: Request
    answered: Callable[[str], None]


class Runner:
    """Drives one leg of a job.

    Args:
        journal: the job's log and state.
        work: its steps.
        policy: what the user asked for.
        timeout_s: limit of the leg in seconds, None without one.
        parts: of a spec: its groups, and the job's outputs.
    """

    def __init__(
        self,
        journal: Journal,
        work: Work,
        policy: Policy,
        *,
        timeout_s: float | None = None,
        parts: SpecParts | None = None,
    ) -> None:
        self._journal = journal
        self._work = work
        self._policy = policy
        self._timeout_s = timeout_s
        self._parts = parts
        self._inbox: deque[_Report | Event] = deque()  # an event: the outcome of an attempt
        self._wake = anyio.Event()
        self._roused = False
        self._alive: set[str] = set()
        self._stop: Stop | None = None
        self._begun_s = 0.0
        self._asked: deque[_Asked] = deque()
        self._answered: list[tuple[Callable[[str], None], str]] = []
        self._late = False
        self._starter = Starter(journal, work, parts, policy.on_interrupted, self._emit_for)

    @property
    def stopped(self) -> Stop | None:
        """What ended the leg early, if anything did."""
        return self._stop

    def stop(self, why: Stop) -> None:
        """Start nothing more, cancel what runs, record it. The first reason counts."""
        if self._stop is None:
            self._stop = why
            self._rouse()

    def ask(self, request: Request, answered: Callable[[str], None]) -> None:
        """Take in what a person asks of the job.

        Args:
            request: from inbox/.
            answered: called once it is durable, or with the reason why it is refused.
        """
        self._asked.append(_Asked(request, answered))
        self._rouse()

    async def drive(self, started: ev.Started, adopted: Sequence[ev.StepAdopted] = ()) -> JobState:
        """Run the leg to its end and return the state.

        Args:
            started: what it sets out to do.
            adopted: results that a new job takes over from the one it was forked from.

        Raises:
            EventLogError: the log can't be written; nothing was started after the last commit.
        """
        state = self._journal.state
        self._begun_s = self._journal.monotonic()
        self._journal.stage(*opening(state, started), *adopted)
        while not state.finished:
            async with crew() as attempts:
                try:
                    await self._stretch(attempts)
                except anyio.get_cancelled_exc_class() as cancelled:
                    # Not if an error of our own ends it; before any step has cleaned up.
                    if not isinstance(attempts.failure, Exception):
                        self._record_cancelled(cancelled)
                    raise
        return state

    def _record_cancelled(self, cause: BaseException) -> None:
        """Record that the caller gave up (Ctrl-C too), at once.

        How long its steps take to clean up nobody knows, and a second Ctrl-C waits for none.
        """
        if self._journal.state.finished:
            return
        why = self._stop or Stop(verdict=JobStatus.CANCELLED, reason="cancelled by its caller")
        self._stop = why
        try:
            self._stage_stop(why)
            self._journal.commit()
        except EventLogError as error:
            cause.add_note(f"the cancellation could not be recorded: {error}")

    async def _stretch(self, attempts: Crew) -> None:
        """Run until the leg has ended, or until what runs was cut off because its time is over."""
        while not self._journal.state.finished:
            await self._turn(attempts)
            if self._late:
                self._late = False
                await self._cut_off(attempts)
                return

    async def _turn(self, attempts: Crew) -> None:
        journal = self._journal
        acknowledged = self._take_in()
        if self._asked:
            self._take_requests()
        launches: list[Launch] = []
        plan = Plan()
        if self._stop is None:
            plan = self._advance(launches)
        if plan.verdict is not None:
            self._stage_end(plan.verdict, self._policy.over)
        journal.commit()
        if self._answered and self._stop is None:
            self._tell()
        for waiting in acknowledged:
            waiting.set()
        for launch in launches:
            self._alive.add(launch.step)
            attempts.start(self._attempt, launch)
        if self._stop is not None:
            await self._wind_up(self._stop, attempts)
        elif not journal.state.finished:
            await self._arrivals(plan.wake_after_s)

    def _take_in(self) -> list[anyio.Event]:
        acknowledged = []
        arrived: list[Event] = []
        while self._inbox:
            report = self._inbox.popleft()
            if not isinstance(report, _Report):
                arrived.append(report)
                continue
            arrived += report.events
            if report.durable is not None:
                acknowledged.append(report.durable)
        if arrived:
            self._journal.stage(*arrived)
        return acknowledged

    def _take_requests(self) -> None:
        """Stage what people ask, each request once; a cancellation stops the leg."""
        state = self._journal.state
        while self._asked:
            request, answered = self._asked.popleft()
            why = ""
            if request.id in state.requests:
                pass  # recorded by a process that died before it took the request away
            elif request.kind == "cancel":
                reason = f"cancelled by {request.by}"
                stop = Stop(
                    verdict=JobStatus.CANCELLED, reason=reason, by=request.by, request=request.id
                )
                self.stop(stop)
                why = "" if self._stop is stop else "the job is being stopped already"
            else:
                try:
                    self._journal.stage(*answer(state, request, self._kept, live=True))
                except Refused as refused:
                    why = str(refused)
            self._answered.append((answered, why))

    def _kept(self, output: object, encoded: bytes) -> object:
        return self._work.keep("", Result(output=output), encoded)

    def _tell(self) -> None:
        """Tell who asked that it is durable, or refused."""
        told, self._answered = self._answered, []
        for answered, why in told:
            answered(why)

    def _advance(self, launches: list[Launch]) -> Plan:
        """Decide until nothing more can start; a step that is skipped makes others ready."""
        state = self._journal.state
        while True:
            plan = decide(state, self._journal.monotonic(), self._policy)
            if plan.drops:
                why = why_stopped(state, self._policy)
                for name in plan.drops:
                    self._journal.stage(not_run(state, name, why))
                continue
            if not plan.starts:
                return plan
            for name in plan.starts:
                failed = len(state.failures)
                launch = self._starter.begin(name)
                if launch is not None:
                    launches.append(launch)
                elif len(state.failures) > failed:
                    break  # a failure may mean that nothing more starts

    def _emit_for(self, name: str, number: int) -> Emit:
        async def emit(*events: Event, wait: bool = True) -> None:
            step = self._journal.state.steps[name]
            over = name not in self._alive or step.attempt != number
            if over or step.status is not StepStatus.RUNNING:
                return  # an attempt that is over can't write any more
            durable = anyio.Event() if wait else None
            self._report(events, durable)
            if durable is not None:
                await durable.wait()

        return emit

    def _report(self, events: tuple[Event, ...], durable: anyio.Event | None) -> None:
        self._inbox.append(_Report(events, durable))
        self._rouse()

    def _rouse(self) -> None:
        """Let the loop go on, if it waits: there is something to take in."""
        if not self._roused:
            self._roused = True
            self._wake.set()

    def _sleep_again(self) -> None:
        self._roused = False
        self._wake = anyio.Event()

    async def _attempt(self, launch: Launch) -> None:
        try:
            outcome = await carry_out(self._work, launch, self._journal.monotonic)
            self._inbox.append(outcome)
        finally:
            self._alive.discard(launch.step)
            self._rouse()

    async def _arrivals(self, wake_after_s: float | None) -> None:
        """Wait for a report, a stop, a retry that is due, or the leg's limit."""
        limit_s = wake_after_s
        if self._timeout_s is not None:
            left_s = self._timeout_s - (self._journal.monotonic() - self._begun_s)
            if left_s <= 0:
                self._time_is_over()
                return
            limit_s = left_s if limit_s is None else min(limit_s, left_s)
        if limit_s is None:
            await self._wake.wait()
        else:
            with anyio.move_on_after(limit_s):
                await self._wake.wait()
        if self._roused:
            self._sleep_again()

    def _time_is_over(self) -> None:
        """End what runs; what runs regardless may come yet, within a limit of its own."""
        reason = f"timeout_s: {self._timeout_s} is over"
        if self._policy.over:  # a second time
            self.stop(Stop(verdict=JobStatus.FAILED, reason=self._policy.over))
            return
        passed_s = self._journal.monotonic() - self._begun_s
        self._policy = msgspec.structs.replace(self._policy, over=reason)
        self._timeout_s = passed_s + AFTERWARDS_S
        self._late = True

    async def _cut_off(self, attempts: Crew) -> None:
        """Cancel what runs, wait for it to clean up, and record that it took too long."""
        acknowledged = await self._ended(attempts)
        self._journal.stage(*self._too_late(self._policy.over))
        self._journal.commit()
        for waiting in acknowledged:
            waiting.set()

    async def _ended(self, attempts: Crew) -> list[anyio.Event]:
        """Cancel what runs, wait for it to clean up, and take in what it reports."""
        attempts.cancel()
        with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_WAIT_S):
            await attempts.wait()
        return self._take_in()

    def _too_late(self, reason: str) -> list[ev.JobEvent]:
        state = self._journal.state
        return [
            ev.StepFailed(
                step=name,
                data=ev.StepFault(
                    attempt=state.steps[name].attempt,
                    kind=FailureKind.TIMEOUT,
                    message=f"the job's {reason}",
                ),
            )
            for name in list(state.running)
        ]

    async def _wind_up(self, why: Stop, attempts: Crew) -> None:
        """Cancel what runs, wait for it to clean up, and record what became of it."""
        acknowledged = [*await self._ended(attempts), *self._stage_stop(why)]
        self._journal.commit()
        self._tell()
        for waiting in acknowledged:
            waiting.set()

    def _stage_stop(self, why: Stop) -> list[anyio.Event]:
        """Stage what has come in, what became of each attempt under way, and the end."""
        acknowledged = self._take_in()
        state = self._journal.state
        if why.verdict is JobStatus.FAILED:
            self._journal.stage(*self._too_late(why.reason))
        for name in list(state.running):
            note = ev.Note(reason=why.reason, attempt=state.steps[name].attempt)
            self._journal.stage(ev.StepInterrupted(step=name, data=note))
        self._stage_end(why.verdict, why.reason, by=why.by, request=why.request)
        return acknowledged

    def _stage_end(
        self, verdict: JobStatus, reason: str, *, by: str = "", request: str = ""
    ) -> None:
        duration_s = round(self._journal.monotonic() - self._begun_s, 6)
        state = self._journal.state
        outputs: Any = None
        if verdict is JobStatus.SUCCEEDED and self._parts is not None:
            try:
                outputs = self._parts.outputs(state)
            except OrchestratorError as error:
                fault = failed_before("", 0, error).data
                failure = ev.Failure(
                    step="", kind=fault.kind, message=fault.message, hint=fault.hint
                )
                ended = ev.Ended(duration_s=duration_s, failures=(failure,))
                self._journal.stage(ev.JobFailed(data=ended))
                return
        self._journal.stage(
            *closing(state, verdict, duration_s, reason, by=by, request=request, outputs=outputs)
        )
