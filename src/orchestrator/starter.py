"""How a step is begun: skipped, reused, asked of a person, opened as a group, or started.

Nothing is done here but to look and to stage: what a `Launch` says is performed once it is
durable.
"""

from __future__ import annotations

from . import events as ev
from . import nest
from .attempt import Launch, failed_before, gathered, left
from .decisions import Shown
from .errors import OrchestratorError
from .instances import base_of, instance
from .journal import Journal
from .keys import encode_output, part_hashes, sha256, step_key
from .moves import rejection
from .plan import not_run, reusable
from .recovery import doubted_as, in_doubt, recover
from .state import DONE, JobState, StepState, StepStatus
from .steps.base import EmitFor, Prepared, Result
from .work import SpecParts, Work

LAPSED = "its approval has lapsed: what was shown has changed"
NEEDS_TOLD = 1000
"""A step that needs more leaves them out of its `step.started`: a line has a limit, and the
graph in the job's first event has them all."""

CONDITION_TOLD = 200
"""Characters of a condition that the reason repeats; the event has all of it."""


class Starter:
    """Begins the steps that the plan names, for one leg.

    Args:
        journal: the job's log and state.
        work: its steps.
        parts: of a spec: its groups.
        on_interrupted: what the user said of steps whose effect is in doubt.
        emit_for: makes what an attempt reports with.
    """

    def __init__(
        self,
        journal: Journal,
        work: Work,
        parts: SpecParts | None,
        on_interrupted: str,
        emit_for: EmitFor,
    ) -> None:
        self._journal = journal
        self._work = work
        self._parts = parts
        self._on_interrupted = on_interrupted
        self._emit_for = emit_for

    def begin(self, name: str) -> Launch | None:
        """Prepare a step, and stage that it was skipped, failed at once, or started."""
        state = self._journal.state
        step = state.steps[name]
        decl = state.graph.steps.get(name) or state.graph.steps[base_of(name)]
        if not step.tries and not self._wanted(name, step, decl):
            return None
        if decl.id in state.graph.members:
            self._nest(name)
            return None
        if decl.each and decl.id == name:
            self._fan(name)
            return None
        try:
            prepared = self._work.prepare(name, state)
            kind = decl.kind
            key = step_key(kind, prepared.parts, _need_hashes(state, decl.id, prepared.passed))
        except OrchestratorError as error:
            self._journal.stage(failed_before(name, step.attempt + 1, error))
            return None
        # What comes last comes again whenever anything has run.
        fresh = not prepared.reusable or self._comes_again(decl)
        if not step.tries and not fresh and self._reuse(name, key):
            return None
        if prepared.asks is not None:
            self._ask_person(name, key, prepared)
            return None
        if state.doubts and not step.tries and not in_doubt(step):
            self._recognize(name, key)
        if step.cut and not self._recovers(name, step, prepared):
            return None
        limit = self._limit(decl) if decl.inside else None
        if limit is not None and limit.left_s <= 0:
            self._journal.stage(failed_before(name, step.attempt + 1, limit.passed))
            return None
        number = step.attempt + 1
        # An attempt that was cut off may have reached the other side: the next one carries the
        # same idempotency key. One that failed gets a new one.
        ordinal = number - step.interrupted
        called = state.renamed.get(name, name)
        idempotency_key = _idempotency_key(state, called, key, ordinal)
        needs = state.graph.given(decl.id)
        self._journal.stage(
            ev.StepStarted(
                step=name,
                data=ev.StepStart(
                    attempt=number,
                    kind=kind,
                    needs=needs if len(needs) <= NEEDS_TOLD else (),
                    key=key,
                    parts=part_hashes(prepared.parts),
                    idempotency_key=idempotency_key,
                ),
            )
        )
        attempt = self._work.attempt(name, number, idempotency_key, self._emit_for)
        return Launch(
            step=name, prepared=prepared, attempt=attempt, key=key, tries=step.tries, limit=limit
        )

    def _limit(self, decl: ev.StepDecl) -> nest.Limit | None:
        """Return how long what is around a step may yet take."""
        now_s = self._journal.monotonic()
        return nest.limit(self._journal.state, decl, self._work.timeout_s, now_s)

    def _wanted(self, name: str, step: StepState, decl: ev.StepDecl) -> bool:
        """Return whether a step is to run, or stage why it is not."""
        state = self._journal.state
        if step.status is StepStatus.EXPANDED:  # a group that was wanted, to be gathered
            return True
        if (step.lacking and name not in state.graph.anyhow) or nest.shut_out(state, decl):
            self._journal.stage(not_run(state, name))
            return False
        try:
            condition = self._work.unwanted(name, state)
        except OrchestratorError as error:
            self._journal.stage(failed_before(name, step.attempt + 1, error))
            return False
        if condition:
            self._journal.stage(_unwanted(name, condition))
        return not condition

    def _recovers(self, name: str, step: StepState, prepared: Prepared) -> bool:
        """Return whether a step is tried (again), or stage what becomes of it instead."""
        if not in_doubt(step) or self._work.answered(name, prepared):
            return True
        rule, said = self._work.recovery(name), self._on_interrupted
        event = recover(self._journal.state.job_id, name, step, rule, said)
        if event is not None:
            self._journal.stage(event)
        return event is None

    def _recognize(self, name: str, key: str) -> None:
        """Stage that an attempt of this step was cut off when it had another name."""
        state = self._journal.state
        former = doubted_as(state, key)
        if former:
            called = state.renamed.get(former, former)
            attempt, cut = state.former[former].attempt, state.former[former].interrupted
            note = ev.Note(
                reason=f"attempt {attempt} of {former}, as it was called, was cut off",
                attempt=attempt,
                from_step=former,
                idempotency_key=_idempotency_key(state, called, key, attempt + 1 - cut),
            )
            self._journal.stage(ev.StepInterrupted(step=name, data=note))

    def _fan(self, name: str) -> None:
        """Stage a group's expansion, or its result once all its instances have settled."""
        journal, state = self._journal, self._journal.state
        fan = state.fans.get(name)
        assert self._parts is not None, "only a spec declares groups"
        try:
            if fan is None:
                opened = self._parts.expand(name, state)
                data = ev.Expanded(
                    items=opened.items,
                    max_parallel=opened.max_parallel,
                    max_failures=opened.max_failures,
                )
                journal.stage(ev.StepExpanded(step=name, data=data))
                return
            members = [state.steps[instance(name, item)].success for item in fan.items]
            hashes = [member.output_sha256 if member else None for member in members]
            key = step_key("each", {"items": fan.items}, hashes)
            fresh = self._comes_again(state.graph.steps[name])
            if not fresh and self._reuse(name, key):
                return
            end = gathered(self._work, name, self._parts.gather(name, state), key, hashes)
        except OrchestratorError as error:
            journal.stage(failed_before(name, state.steps[name].attempt, error))
            return
        journal.stage(ev.StepSucceeded(step=name, data=end))

    def _nest(self, name: str) -> None:
        """Stage that a step around others is entered; or its result, once these have settled."""
        journal, state = self._journal, self._journal.state
        assert self._parts is not None, "only a spec names other job files"
        try:
            if name not in state.nests:
                past = state.past.get(name)
                if past is not None and past.by and self._reuse(name, past.key):
                    return  # its result was given by hand
                self._parts.enter(name, state)
                steps = len(state.graph.members[name])
                journal.stage(ev.StepExpanded(step=name, data=ev.Expanded(steps=steps)))
                return
            if fault := nest.broken(state, name):
                journal.stage(ev.StepFailed(step=name, data=fault))
                return
            end = left(self._work, name, self._parts.leave(name, state))
        except OrchestratorError as error:
            journal.stage(failed_before(name, state.steps[name].attempt, error))
            return
        fresh = self._comes_again(state.graph.steps[name])
        if fresh or not self._reuse(name, end.key):
            journal.stage(ev.StepSucceeded(step=name, data=end))

    def _comes_again(self, decl: ev.StepDecl) -> bool:
        """Return whether a step comes again though its result may hold: anything else has run.

        So does what comes last, in the job or in a job file inside of it.
        """
        state = self._journal.state
        if decl.id in state.graph.held:
            return state.begun
        return decl.last and nest.has_run(state, decl.inside)

    def _reuse(self, name: str, key: str) -> bool:
        """Stage the skip of a step whose earlier success still holds."""
        success = reusable(self._journal.state, name, key)
        if success is None:
            return False
        if gone := self._work.holds(success):
            self._journal.stage(ev.StepInvalidated(step=success.step, data=ev.Note(reason=gone)))
            return False
        self._journal.stage(
            ev.StepSkipped(
                step=name,
                data=ev.Skip(
                    reason="already succeeded",
                    key=key,
                    from_step=success.step,
                    from_seq=success.seq,
                    output_sha256=success.output_sha256,
                ),
            )
        )
        return True

    def _ask_person(self, name: str, key: str, prepared: Prepared) -> None:
        """Stage that the step waits for a person, and what the person is shown.

        If somebody has said no since the last leg ended, the step fails: the job has to come to
        its end, with what is final, before it asks again.
        """
        said = self._journal.state.refused.get(name)
        if said is not None and said.key == key:
            self._journal.stage(ev.StepFailed(step=name, data=rejection(said)))
            return
        approved = self._journal.state.past.get(name)
        if approved is not None and approved.key != key:
            self._journal.stage(ev.StepInvalidated(step=name, data=ev.Note(reason=LAPSED)))
        message = prepared.asks
        needs = self._journal.state.graph.given(base_of(name))
        shown = Shown(
            key=key,
            message=self._work.keep(name, Result(output=message), encode_output(name, message)),
            needs=needs if len(needs) <= NEEDS_TOLD else (),
            parts=part_hashes(prepared.parts),
        )
        self._journal.stage(ev.StepWaiting(step=name, data=shown))


def _idempotency_key(state: JobState, called: str, key: str, ordinal: int) -> str:
    return sha256(f"{state.job_id}/{called}/{key}/{ordinal}".encode())[:32]


def _need_hashes(state: JobState, name: str, passed: tuple[str, ...]) -> list[str]:
    hashes = []
    for need in state.keyed.get(name) or state.graph.given(name):
        if need in passed:
            continue
        step = state.steps[need]
        success = step.success if step.status in DONE else None
        hashes.append(str(step.status) if success is None else success.output_sha256)
    return hashes


def _unwanted(name: str, condition: str) -> ev.StepSkipped:
    shown = condition if len(condition) <= CONDITION_TOLD else f"{condition[:CONDITION_TOLD]}…"
    reason = f"its condition is false: {shown}"
    return ev.StepSkipped(step=name, data=ev.Skip(reason=reason, condition=condition))
