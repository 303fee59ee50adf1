"""A leg in which nothing is performed: what would run, and what would be skipped.

The runner itself decides, over a state that was folded for this alone and with a log that goes
nowhere. A step that would have to run is started and never ends: what depends on it is not
reached.

All that may begin begins at once here, so that the plan tells of all of it; a leg has limits, and
does things in another order. That matters only where a failure stops the job: what had begun by
then runs, the rest is dropped. A rehearsal therefore tells what is `sure` whatever the limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import anyio
import anyio.lowlevel
import msgspec

from eventlog import Event, Record

from . import events as ev
from .journal import Journal
from .plan import Policy
from .recovery import Recovery
from .retry import NO_RETRY, RetryPolicy
from .runner import Runner
from .state import JobState, Success
from .steps.base import Attempt, EmitFor, Prepared, Result
from .work import Expansion, SpecParts, Work

QUIET_TURNS = 50
"""Turns of the event loop without anything new after which a rehearsal is over: what goes on in
it takes a few."""

Cached = Callable[[str, Prepared], tuple[Result, str] | None]
"""Returns what an attempt would bring without being performed, and where that comes from."""


class Rehearsal:
    """Work that is prepared and not performed.

    Args:
        work: the real steps.
        parts: the real groups.
        cached: looks for results that need no attempt.

    Attributes:
        prepared: the steps that are not skipped, by name.
        keys: of the steps that would be started, by name.
        cached: where results come from that need no attempt, by step.
        told: the events of the leg, in order.
        sure: the steps that a leg begins, skips or fails in the same order.
        by_turns: whether what a leg begins first may follow from its limits, or from how long
            something takes.
    """

    def __init__(self, work: Work, parts: SpecParts, cached: Cached) -> None:
        self._work = work
        self._parts = parts
        self._look = cached
        self.prepared: dict[str, Prepared] = {}
        self.cached: dict[str, str] = {}
        self.told: list[Event] = []
        self.sure: set[str] = set()
        self.by_turns = False
        self._narrow: set[str] = set()
        self._room = 0
        self._moves = 0
        self._over = False

    async def run(
        self, state: JobState, started: ev.Started, policy: Policy, *, limits: bool = False
    ) -> None:
        """Rehearse a leg to where nothing more can be known; `state` is used up.

        Args:
            state: of the job.
            started: the leg's begin, without the limits of kinds.
            policy: of the leg.
            limits: whether there are limits of kinds.
        """
        journal = Journal(_Nowhere(), state, clock=lambda: 0, listen=self._listen)
        self._room = 0 if limits else policy.concurrency
        policy = msgspec.structs.replace(policy, concurrency=1 << 30)
        runner = Runner(journal, self, policy, parts=self)
        async with anyio.create_task_group() as group:
            group.start_soon(self._drive, runner, started)
            quiet, seen = 0, -1
            while quiet < QUIET_TURNS:
                await anyio.lowlevel.checkpoint()
                quiet = quiet + 1 if self._moves == seen else 0
                seen = self._moves
            self._over = True
            self.by_turns = self.by_turns or limits or bool(state.lanes)
            group.cancel_scope.cancel()

    async def _drive(self, runner: Runner, started: ev.Started) -> None:
        await runner.drive(started)

    def _listen(self, record: Record[Event]) -> None:
        if not self._over:
            self._moves += 1
            self.told.append(record.event)
            self._order(record.event)

    def _order(self, event: Event) -> None:
        """Take in how far a leg would do the same, in the same order."""
        match event:
            case ev.StepSucceeded(step=step) if step in self.cached:
                self._room, self.by_turns = 0, True  # how soon it comes nobody knows
            case (
                ev.StepStarted(step=step)
                | ev.StepWaiting(step=step)
                | ev.StepSkipped(step=step)
                | ev.StepFailed(step=step)
                | ev.StepExpanded(step=step)
                | ev.StepSucceeded(step=step)
            ):
                self._begun(step)
                if isinstance(event, ev.StepExpanded) and step in self._narrow:
                    self._room, self.by_turns = 0, True
            case _:
                pass

    def _begun(self, step: str) -> None:
        """Take in that a step was looked at; of the first, no leg can have too many at once."""
        if self._room:
            self._room -= 1
            self.sure.add(step)
        else:
            self.sure.discard(step)

    def prepare(self, name: str, state: JobState) -> Prepared:
        """Prepare the real step."""
        self._moves += 1
        prepared = self.prepared[name] = self._work.prepare(name, state)
        return prepared

    def unwanted(self, name: str, state: JobState) -> str:
        """Ask the real step's condition."""
        self._moves += 1
        return self._work.unwanted(name, state)

    def recovery(self, name: str) -> Recovery:
        """Return the real step's rule."""
        return self._work.recovery(name)

    def answered(self, name: str, prepared: Prepared) -> bool:
        """Ask the real step."""
        return self._work.answered(name, prepared)

    def expand(self, name: str, state: JobState) -> Expansion:
        """Expand the real group, all of it at once."""
        opened = self._parts.expand(name, state)
        if 0 < opened.max_parallel < len(opened.items):
            self._narrow.add(name)
        return msgspec.structs.replace(opened, max_parallel=0)

    def enter(self, name: str, state: JobState) -> None:
        """Enter the real job file."""
        self._moves += 1
        self._parts.enter(name, state)

    def leave(self, name: str, state: JobState) -> Result:
        """Leave the real job file."""
        return self._parts.leave(name, state)

    def gather(self, name: str, state: JobState) -> Result:
        """Gather the real group."""
        return self._parts.gather(name, state)

    def outputs(self, state: JobState) -> None:
        """Return none: they could be large, and nothing is written."""

    def attempt(self, name: str, number: int, idempotency_key: str, emit_for: EmitFor) -> Attempt:
        """Return an attempt that may touch nothing."""
        return Attempt(
            job_id="",
            step=name,
            number=number,
            idempotency_key=idempotency_key,
            timeout_s=None,
            work_dir="",
            log_path="",
            outputs=cast("Any", None),
            environ={},
            emit=emit_for(name, number),
            publish=cast("Any", None),
        )

    async def perform(self, name: str, prepared: Prepared, attempt: Attempt) -> Result:  # noqa: ARG002 - Work's
        """Bring a result that is there already, else never end."""
        self._moves += 1
        found = self._look(name, prepared)
        if found is None:
            await anyio.sleep_forever()
            raise AssertionError("it never ends")
        result, self.cached[name] = found
        return result

    def holds(self, success: Success) -> str:
        """Look at the real blobs and files."""
        return self._work.holds(success)

    def keep(self, name: str, result: Result, encoded: bytes) -> object:  # noqa: ARG002 - Work's
        """Return the output itself: nothing is written."""
        return result.output

    def retry(self, name: str) -> RetryPolicy:  # noqa: ARG002 - Work's
        """Return that nothing is retried."""
        return NO_RETRY

    def timeout_s(self, name: str) -> float | None:  # noqa: ARG002 - Work's
        """Return no limit."""
        return None


class _Nowhere:
    """A log that keeps nothing."""

    head = ""

    def __init__(self) -> None:
        self.next_seq = 0

    def append(self, *events: Any, time_ns: int | None = None) -> range:  # noqa: ARG002 - a log's
        first = self.next_seq
        self.next_seq += len(events)
        return range(first, self.next_seq)
