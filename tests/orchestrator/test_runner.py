import asyncio

import anyio
import pytest
from given import CHAIN, DIAMOND, WIDE
from rig import Rig, Script, TestLog, fails, leaping, state_of, stop_after, takes

from eventlog import LogWriteFailed
from orchestrator import events as ev
from orchestrator.blobs import BlobStore
from orchestrator.errors import FailureKind
from orchestrator.retry import RetryPolicy
from orchestrator.runner import STOP_WAIT_S, Stop
from orchestrator.state import JobStatus, StepStatus
from orchestrator.written import as_written

THRICE = RetryPolicy(max_attempts=3, initial_s=2.0, factor=2, jitter=0)


# --- order --------------------------------------------------------------------------------------


def test_a_diamond_runs_in_the_order_of_its_needs():
    rig = Rig(DIAMOND).run()
    assert rig.log.told() == [
        "job.started",
        "started architect",
        "succeeded architect",
        "started builder",
        "started docs",
        "succeeded builder",
        "succeeded docs",
        "started qa",
        "succeeded qa",
        "job.succeeded",
    ]


def test_independent_steps_overlap():
    script = Script({name: takes(5) for name in DIAMOND})
    rig = Rig(DIAMOND, script).run()
    assert rig.took_s == 15
    assert script.began_at == {"architect": 0, "builder": 5, "docs": 5, "qa": 10}


def test_a_step_starts_the_moment_its_needs_are_met_and_waits_for_no_wave():
    steps = {"slow": (), "quick": (), "after": ("quick",), "last": ("after", "slow")}
    script = Script({"slow": takes(100), "quick": takes(1), "after": takes(1)})
    rig = Rig(steps, script).run()
    assert script.began_at == {"slow": 0, "quick": 0, "after": 1, "last": 100}
    assert rig.took_s == 100


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_no_more_run_at_once_than_was_asked_for(concurrency):
    names = [f"s{i}" for i in range(20)]
    script = Script({name: takes(1) for name in names})
    rig = Rig(dict.fromkeys(names, ()), script, concurrency=concurrency).run()
    assert script.most_at_once == min(concurrency, 20)
    assert rig.took_s == -(-20 // concurrency)


def test_a_job_without_steps_succeeds():
    assert Rig({}).run().log.told() == ["job.started", "job.succeeded"]


# --- commits ------------------------------------------------------------------------------------


def test_an_outcome_and_the_starts_that_follow_from_it_are_one_append():
    rig = Rig(CHAIN).run()
    assert rig.log.batches == [
        ["job.started", "step.started"],
        ["step.succeeded", "step.started"],
        ["step.succeeded", "step.started"],
        ["step.succeeded", "job.succeeded"],
    ]


def test_outcomes_that_come_together_are_one_append():
    names = [f"s{i}" for i in range(50)]
    rig = Rig(dict.fromkeys(names, ()), concurrency=50).run()
    assert len(rig.log.batches) <= 3


def test_a_start_is_in_the_log_before_its_effect_begins():
    seen = []

    def act(name):
        async def look(attempt):
            seen.append(f"started {name}" in rig.log.told())

        return look

    rig = Rig(DIAMOND, Script({name: act(name) for name in DIAMOND}))
    rig.run()
    assert seen == [True] * 4


def test_what_a_step_emits_is_in_the_log_when_emit_returns_and_before_its_outcome():
    async def act(attempt):
        await attempt.emit(ev.CacheMiss(step="a", data=ev.CacheMissData(reason="first")))
        seen.append(len(rig.log.events(ev.CacheMiss)))

    seen = []
    rig = Rig({"a": ()}, Script({"a": act}))
    rig.run()
    assert seen == [1]
    kinds = [type(event).__name__ for event in rig.log.events()]
    assert kinds[2:] == ["StepStarted", "CacheMiss", "StepSucceeded", "JobSucceeded"]


# --- failures -----------------------------------------------------------------------------------


def test_a_failure_starts_nothing_more_and_what_runs_may_end():
    steps = {"bad": (), "long": (), "next": ("long",), "free": ()}
    script = Script({"bad": fails("exception"), "long": takes(5)})
    rig = Rig(steps, script, concurrency=2).run()
    assert rig.state.status is JobStatus.FAILED
    assert set(script.calls) == {"bad", "long"}
    assert rig.state.steps["long"].status is StepStatus.SUCCEEDED
    reasons = {event.step: event.data.reason for event in rig.log.events(ev.StepSkipped)}
    assert reasons == dict.fromkeys(("next", "free"), "the job stopped when bad failed")


def test_keep_going_runs_all_that_does_not_depend_on_a_failure_and_tells_every_failure():
    steps = {"a": (), "b": (), "a2": ("a",), "a3": ("a2",), "b2": ("b",), "c": (), "c2": ("c",)}
    script = Script({"a": fails("exception"), "b2": fails("exception")})
    rig = Rig(steps, script, keep_going=True, concurrency=1).run()
    assert set(script.calls) == {"a", "b", "b2", "c", "c2"}
    (end,) = rig.log.events(ev.JobFailed)
    assert [failure.step for failure in end.data.failures] == ["a", "b2"]
    reasons = {event.step: event.data.reason for event in rig.log.events(ev.StepSkipped)}
    assert reasons == dict.fromkeys(("a2", "a3"), "it needs a, which failed")


def test_a_step_that_can_not_be_prepared_fails_and_stops_the_others_of_its_batch():
    script = Script(parts={"a": fails(FailureKind.TEMPLATE, "no such name")})
    rig = Rig(WIDE, script).run()
    (event,) = rig.log.events(ev.StepFailed)
    assert (event.step, event.data.kind, event.data.attempt) == ("a", "template", 1)
    assert not script.calls


def test_a_retry_that_can_not_be_prepared_is_a_failure_and_no_endless_loop():
    tries = []

    def part():
        tries.append(1)
        if len(tries) > 1:
            raise fails(FailureKind.TEMPLATE)
        return 1

    script = Script({"a": fails("network")}, parts={"a": part}, retries={"a": THRICE})
    rig = Rig(WIDE, script, keep_going=True).run()
    assert [failure.kind for failure in rig.state.failures] == ["template"]
    assert len(tries) == 2


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (ValueError(), "ValueError"),
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit("x"), "GeneratorExit: x"),
        (ValueError("lone \udc80 surrogate"), "ValueError: lone \\udc80 surrogate"),
        (ExceptionGroup("two", [ValueError("x")]), "ExceptionGroup: two"),
        (BaseExceptionGroup("two", [SystemExit(1)]), "BaseExceptionGroup: two"),
        (RecursionError("deep"), "RecursionError: deep"),
    ],
)
def test_whatever_a_step_raises_is_a_failure_of_the_step(raised, message):
    rig = Rig({"a": ()}, Script({"a": raised})).run()
    (event,) = rig.log.events(ev.StepFailed)
    assert event.data.kind == "exception"
    assert event.data.message.startswith(message)
    assert "rig.Script.perform, line" in event.data.message


def test_an_error_without_a_text_is_a_failure_all_the_same():
    class BadError(Exception):
        def __str__(self):
            raise RuntimeError

    rig = Rig({"a": ()}, Script({"a": BadError()})).run()
    (event,) = rig.log.events(ev.StepFailed)
    assert event.data.message.startswith("BadError: its text can't be had")


def test_a_long_message_is_cut():
    rig = Rig({"a": ()}, Script({"a": ValueError("x" * 1_000_000)})).run()
    (event,) = rig.log.events(ev.StepFailed)
    assert len(event.data.message) == 4000


def test_an_output_that_is_no_json_names_step_and_place():
    rig = Rig({"a": ()}, Script({"a": [{"x": [1, {"y": object()}]}]})).run()
    (event,) = rig.log.events(ev.StepFailed)
    assert event.data.kind == "output"
    assert "the output of step a is no JSON value: $.x[1].y" in event.data.message


# --- cancellation from within -------------------------------------------------------------------


def test_a_step_that_raises_cancelled_has_failed():
    rig = Rig(CHAIN, Script({"a": asyncio.CancelledError()})).run()
    (event,) = rig.log.events(ev.StepFailed)
    assert (event.step, event.data.kind) == ("a", "cancelled")
    assert rig.state.status is JobStatus.FAILED


def test_a_step_that_cancels_its_own_task_has_failed():
    async def act(attempt):
        asyncio.current_task().cancel()
        await anyio.sleep(1)

    rig = Rig({"a": (), "b": ()}, Script({"a": act}), keep_going=True).run()
    assert [failure.kind for failure in rig.state.failures] == ["cancelled"]
    assert rig.state.steps["b"].status is StepStatus.SUCCEEDED


# --- retries ------------------------------------------------------------------------------------


def test_a_failed_attempt_is_tried_again_after_its_wait():
    script = Script(
        {"a": [fails("network"), fails("rate_limit"), "at last"]}, retries={"a": THRICE}
    )
    rig = Rig({"a": ()}, script).run()
    assert rig.took_s == 2 + 4
    assert rig.state.steps["a"].success.output == "at last"
    assert [event.data.retry_in_s for event in rig.log.events(ev.StepRetrying)] == [2.0, 4.0]
    assert [attempt.number for attempt in script.attempts] == [1, 2, 3]


def test_attempts_have_an_end():
    script = Script({"a": fails("network")}, retries={"a": THRICE})
    rig = Rig({"a": ()}, script).run()
    assert script.calls["a"] == 3
    assert len(rig.log.events(ev.StepFailed)) == 1


def test_a_failure_of_a_kind_that_is_not_retried_is_final():
    script = Script({"a": fails("auth")}, retries={"a": THRICE})
    Rig({"a": ()}, script).run()
    assert script.calls["a"] == 1


def test_a_step_that_waits_for_its_retry_leaves_its_slot_to_others():
    script = Script(
        {"a": [fails("network"), 1], "b": takes(1), "c": takes(1)}, retries={"a": THRICE}
    )
    rig = Rig({"a": (), "b": (), "c": ()}, script, concurrency=1).run()
    assert rig.took_s == 2
    assert rig.state.status is JobStatus.SUCCEEDED


def test_each_attempt_has_its_own_idempotency_key():
    script = Script({"a": [fails("network"), 1]}, retries={"a": THRICE})
    Rig({"a": ()}, script).run()
    first, second = (attempt.idempotency_key for attempt in script.attempts)
    assert first != second


# --- limits -------------------------------------------------------------------------------------


def test_an_attempt_that_takes_too_long_is_cancelled_and_fails():
    script = Script({"a": takes(60)}, timeouts={"a": 1.5})
    rig = Rig({"a": ()}, script).run()
    (event,) = rig.log.events(ev.StepFailed)
    assert (event.data.kind, event.data.duration_s, event.data.abandoned) == ("timeout", 1.5, False)
    assert rig.took_s == 1.5


def test_a_timeout_is_retried_where_the_policy_says_so():
    script = Script({"a": [takes(60), takes(1, "x")]}, timeouts={"a": 5}, retries={"a": THRICE})
    rig = Rig({"a": ()}, script).run()
    assert rig.took_s == 5 + 2 + 1
    assert rig.state.steps["a"].success.output == "x"


def test_what_can_only_be_left_alone_is_told_as_abandoned():
    script = Script({"a": takes(60)}, timeouts={"a": 1}, abandons=True)
    rig = Rig({"a": ()}, script).run()
    assert rig.log.events(ev.StepFailed)[0].data.abandoned


def test_a_step_that_swallows_its_timeout_has_not_succeeded():
    async def act(attempt):
        try:
            await anyio.sleep(60)
        except BaseException:  # noqa: BLE001 - what a careless step does
            return "as if nothing had happened"

    rig = Rig({"a": ()}, Script({"a": act}, timeouts={"a": 1})).run()
    assert [failure.kind for failure in rig.state.failures] == ["timeout"]


def test_a_step_that_turns_its_timeout_into_an_error_has_timed_out():
    async def act(attempt):
        try:
            await anyio.sleep(60)
        except BaseException as error:
            raise ValueError("could not clean up") from error

    rig = Rig({"a": ()}, Script({"a": act}, timeouts={"a": 1})).run()
    assert [failure.kind for failure in rig.state.failures] == ["timeout"]


def test_the_limit_of_a_leg_ends_it_and_fails_what_runs():
    script = Script({"a": takes(1), "b": takes(60)})
    rig = Rig(CHAIN, script, timeout_s=10.0).run()
    assert rig.took_s == 10.0
    (event,) = rig.log.events(ev.StepFailed)
    assert (event.step, event.data.kind) == ("b", "timeout")
    assert rig.log.told()[-2:] == ["skipped c", "job.failed"]
    assert rig.log.events(ev.JobFailed)[0].data.reason == "timeout_s: 10.0 is over"


def test_the_limit_of_a_leg_does_not_wait_for_a_retry():
    patient = RetryPolicy(max_attempts=2, initial_s=60, max_s=60, jitter=0)
    script = Script({"a": fails("network")}, retries={"a": patient})
    rig = Rig({"a": ()}, script, timeout_s=10.0).run()
    assert (rig.took_s, rig.state.status) == (10.0, JobStatus.FAILED)


# --- stop ---------------------------------------------------------------------------------------


def test_stop_cancels_what_runs_and_records_it():
    script = Script({"a": takes(60), "b": takes(60)})
    rig = Rig({"a": (), "b": (), "c": ("a",)}, script, meanwhile=stop_after(3)).run()
    assert rig.took_s == 3
    assert rig.log.told()[-3:] == ["interrupted a", "interrupted b", "job.cancelled"]
    assert rig.log.events(ev.JobCancelled)[0].data.reason == "SIGINT"
    assert set(script.calls) == {"a", "b"}


def test_stop_keeps_what_was_done_at_that_moment():
    script = Script({"a": takes(3, "done"), "b": takes(60)})
    rig = Rig({"a": (), "b": (), "c": ("a",)}, script, meanwhile=stop_after(3)).run()
    told = rig.log.told()
    assert "interrupted b" in told
    assert told[-1] == "job.cancelled"
    assert rig.state.steps["a"].success.output == "done"


def test_stop_while_only_a_retry_is_waited_for():
    patient = RetryPolicy(max_attempts=2, initial_s=60, max_s=60, jitter=0)
    script = Script({"a": fails("network")}, retries={"a": patient})
    rig = Rig({"a": ()}, script, meanwhile=stop_after(3)).run()
    assert rig.took_s == 3
    assert rig.log.told()[-1] == "job.cancelled"


def test_stop_records_the_end_in_time_although_a_step_will_not_end():
    async def meanwhile(rig):
        await stop_after(3)(rig)
        await anyio.sleep(STOP_WAIT_S + 0.1)
        recorded.extend(rig.log.told()[-2:])

    recorded = []
    slept = []

    async def shielded(attempt):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(60)
            slept.append(1)

    Rig({"a": ()}, Script({"a": shielded}), meanwhile=meanwhile).run()
    assert recorded == ["interrupted a", "job.cancelled"]
    assert slept


def test_a_step_that_swallows_the_stop_was_interrupted_all_the_same():
    async def act(attempt):
        try:
            await anyio.sleep(60)
        except BaseException:  # noqa: BLE001 - what a careless step does
            return "as if nothing had happened"

    rig = Rig({"a": ()}, Script({"a": act}), meanwhile=stop_after(3)).run()
    assert rig.log.told()[-2:] == ["interrupted a", "job.cancelled"]


def test_a_step_that_turns_the_stop_into_an_error_was_interrupted_all_the_same():
    async def act(attempt):
        try:
            await anyio.sleep(60)
        except BaseException as error:
            raise ValueError("could not clean up") from error

    rig = Rig({"a": ()}, Script({"a": act}), meanwhile=stop_after(3)).run()
    assert rig.log.told()[-2:] == ["interrupted a", "job.cancelled"]


def test_the_first_reason_to_stop_counts():
    async def meanwhile(rig):
        await anyio.sleep(1)
        for reason in ("first", "second"):
            rig.runner.stop(Stop(verdict=JobStatus.CANCELLED, reason=reason))

    rig = Rig({"a": ()}, Script({"a": takes(60)}), meanwhile=meanwhile).run()
    assert rig.log.events(ev.JobCancelled)[0].data.reason == "first"


def test_an_attempt_that_is_over_can_not_emit_any_more():
    emits = []

    async def act(attempt):
        emits.append(attempt.emit)
        if attempt.number == 1:
            await anyio.sleep(60)

    async def meanwhile(rig):
        await anyio.sleep(4)
        await emits[0](ev.CacheMiss(step="a", data=ev.CacheMissData()))

    script = Script({"a": [act, takes(60)]}, timeouts={"a": 1}, retries={"a": THRICE})

    async def stop_later(rig):
        await meanwhile(rig)
        await stop_after(0)(rig)

    rig = Rig({"a": ()}, script, meanwhile=stop_later).run()
    assert script.calls["a"] == 2
    assert not rig.log.events(ev.CacheMiss)


# --- cancelled by the caller --------------------------------------------------------------------


def test_a_caller_that_gives_up_leaves_a_record():
    rig = Rig({"a": (), "b": ("a",)}, Script({"a": takes(60)}))

    async def main():
        with anyio.move_on_after(3) as scope:
            await rig._main()
        assert scope.cancelled_caught

    leaping(main)
    assert rig.log.told()[-2:] == ["interrupted a", "job.cancelled"]


def test_a_caller_that_cancels_the_task_leaves_a_record():
    rig = Rig({"a": ()}, Script({"a": takes(60)}))

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rig._main(), 3)

    leaping(main)
    assert rig.log.told()[-2:] == ["interrupted a", "job.cancelled"]
    assert rig.log.events(ev.JobCancelled)[0].data.reason == "cancelled by its caller"


def test_that_the_caller_gave_up_is_recorded_before_any_step_has_cleaned_up():
    told = []

    async def tidies(attempt):
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
                told.extend(rig.log.told()[-2:])
                await anyio.sleep(600)

    rig = Rig({"a": ()}, Script({"a": tidies}))

    async def main():
        with anyio.move_on_after(3):
            await rig._main()

    leaping(main)
    assert told == rig.log.told()[-2:] == ["interrupted a", "job.cancelled"]
    assert rig.took_s == 604


def test_a_cancellation_that_can_not_be_recorded_is_still_a_cancellation():
    rig = Rig({"a": ()}, Script({"a": takes(60)}), log=TestLog(fail_at=1))

    async def main():
        with anyio.move_on_after(3) as scope:
            await rig._main()
        assert scope.cancelled_caught

    leaping(main)
    assert rig.log.told() == ["job.started", "started a"]


# --- a log that fails ---------------------------------------------------------------------------


def test_a_log_that_fails_ends_the_run_with_its_error_and_starts_nothing_more():
    script = Script({"long": takes(60)})
    rig = Rig({**CHAIN, "long": ()}, script, log=TestLog(fail_at=2))
    with pytest.raises(LogWriteFailed, match="no space left"):
        rig.run()
    assert set(script.calls) == {"a", "long", "b"}
    assert rig.took_s == 0
    assert rig.log.told()[-1] == "started b"


def test_a_log_that_fails_at_once_starts_nothing():
    script = Script()
    with pytest.raises(LogWriteFailed):
        Rig(CHAIN, script, log=TestLog(fail_at=0)).run()
    assert not script.calls


def test_a_step_that_waits_for_its_event_is_not_told_that_it_was_written():
    told = []

    async def act(attempt):
        await attempt.emit(ev.CacheMiss(step="a", data=ev.CacheMissData()))
        told.append("written")

    with pytest.raises(LogWriteFailed):
        Rig({"a": ()}, Script({"a": act}), log=TestLog(fail_at=1)).run()
    assert not told


# --- resume -------------------------------------------------------------------------------------


def again(rig, script=None, steps=None, **options):
    return Rig(steps or rig.steps, script or Script(), log=rig.log, **options).run()


def test_a_resumed_job_runs_what_failed_and_what_was_not_run():
    first = Rig(CHAIN, Script({"b": fails("exception")})).run()
    second = again(first)
    assert set(second.script.calls) == {"b", "c"}
    (skip,) = [e for e in second.log.events(ev.StepSkipped) if e.data.from_step]
    assert (skip.step, skip.data.reason) == ("a", "already succeeded")
    assert skip.data.from_seq == next(
        r.seq
        for r in second.log.read(ev.AnyJobEvent)
        if isinstance(r.event, ev.StepSucceeded) and r.event.step == "a"
    )


def test_a_finished_job_that_is_resumed_skips_every_step():
    second = again(Rig(DIAMOND).run())
    assert not second.script.calls
    assert second.state.status is JobStatus.SUCCEEDED
    assert second.log.batches[-1] == [
        "job.resumed",
        *["step.skipped"] * 4,
        "job.succeeded",
    ]


def test_a_changed_step_runs_again_and_so_does_what_needs_its_changed_output():
    first = Rig(DIAMOND).run()
    second = again(first, Script({"builder": "new"}, parts={"builder": "new"}))
    assert set(second.script.calls) == {"builder", "qa"}


def test_what_follows_a_changed_step_with_the_same_output_is_skipped():
    first = Rig(DIAMOND).run()
    second = again(first, Script(parts={"architect": "reworded"}))
    assert set(second.script.calls) == {"architect"}
    assert second.state.status is JobStatus.SUCCEEDED


def test_a_renamed_step_is_skipped():
    first = Rig({"old": ()}, Script(parts={"old": "p"})).run()
    second = again(first, Script(parts={"new": "p"}), {"new": ()})
    assert not second.script.calls
    assert second.state.steps["new"].success.output == "old"


SWAPPED = {**DIAMOND, "qa": ("docs", "builder")}


def test_needs_in_another_order_rerun_nothing_however_often_they_are_moved():
    rig = Rig(DIAMOND).run()
    for steps in (SWAPPED, SWAPPED, DIAMOND, SWAPPED):
        rig = again(rig, steps=steps)
        assert not rig.script.calls
    # What was made under either order holds.
    rig = again(rig, Script({"builder": "new"}, parts={"builder": "new"}), SWAPPED)
    assert set(rig.script.calls) == {"builder", "qa"}
    assert not again(rig, Script(parts={"builder": "new"}), DIAMOND).script.calls


def test_outputs_that_have_changed_places_are_other_outputs():
    first = Rig(DIAMOND, Script({"builder": 1, "docs": 2})).run()
    other = Script({"builder": 2, "docs": 1}, parts={"builder": "x", "docs": "y"})
    assert "qa" in again(first, other, SWAPPED).script.calls


def test_another_need_is_no_other_order():
    first = Rig(DIAMOND).run()
    second = again(first, steps={**DIAMOND, "qa": ("docs", "architect")})
    assert set(second.script.calls) == {"qa"}


def test_an_interrupted_attempt_keeps_its_idempotency_key():
    first = Rig({"a": ()}, Script({"a": takes(60)}), meanwhile=stop_after(1)).run()
    second = again(first)
    assert second.script.attempts[0].number == 2
    assert second.script.attempts[0].idempotency_key == first.script.attempts[0].idempotency_key


def test_an_attempt_after_a_failure_has_a_new_idempotency_key():
    first = Rig({"a": ()}, Script({"a": fails("network")})).run()
    second = again(first)
    assert second.script.attempts[0].idempotency_key != first.script.attempts[0].idempotency_key


def test_tries_are_counted_anew_in_each_leg_and_attempts_go_on():
    script = Script({"a": fails("network")}, retries={"a": THRICE})
    second = again(Rig({"a": ()}, script).run(), script)
    assert script.calls["a"] == 6
    assert second.state.steps["a"].attempt == 6


def test_a_retry_is_another_attempt_although_an_earlier_success_has_its_key():
    first = Rig({"a": ()}).run()
    parts = iter(["changed", "a"])  # the second attempt finds what the first leg had found
    script = Script({"a": [fails("network"), "new"]}, parts={"a": lambda: next(parts)})
    script.retries = {"a": THRICE}
    second = again(first, script)
    assert script.calls["a"] == 2
    assert second.state.steps["a"].success.output == "new"


def test_a_success_whose_output_is_gone_is_invalidated_and_made_again():
    first = Rig(CHAIN).run()
    script = Script()
    script.lost = {"b": "its output is gone"}
    second = again(first, script)
    assert set(script.calls) == {"b"}
    (event,) = second.log.events(ev.StepInvalidated)
    assert (event.step, event.data.reason) == ("b", "its output is gone")
    assert second.state.status is JobStatus.SUCCEEDED


def test_a_log_cut_after_any_event_resumes_to_the_same_result_and_repeats_nothing_recorded():
    steps = {**DIAMOND, "alone": ()}
    whole = Rig(steps, concurrency=2).run()
    outputs = {name: step.success.output for name, step in whole.state.steps.items()}
    for count in range(1, len(whole.log.lines) + 1):
        log = TestLog()
        log.lines = whole.log.lines[:count]
        before = state_of(log)
        done = {name for name, step in before.steps.items() if step.success is not None}
        in_flight = set(before.running)
        script = Script()
        rig = Rig(steps, script, log=log, concurrency=2).run()
        assert {n: s.success.output for n, s in rig.state.steps.items()} == outputs
        assert set(script.calls) == set(steps) - done
        assert set(script.calls.values()) <= {1}
        assert {event.step for event in log.events(ev.StepInterrupted)} == in_flight


# --- size ---------------------------------------------------------------------------------------


def test_a_chain_of_20_000_steps_runs_without_recursion():
    names = [f"s{i}" for i in range(20_000)]
    steps = {name: names[i - 1 : i] if i else () for i, name in enumerate(names)}
    rig = Rig(steps, Script(dict.fromkeys(names, 1)))
    leaping(rig._main)
    assert rig.state.open_steps == 0


def test_a_step_that_needs_very_many_others_keeps_to_the_limit_of_a_line(tmp_path):
    names = [
        f"a-step-with-a-name-that-is-nearly-as-long-as-a-name-may-be-{i:05}" for i in range(17_000)
    ]
    written = as_written(BlobStore(tmp_path))
    rig = Rig({**dict.fromkeys(names, ()), "join": tuple(names)}, concurrency=2000, written=written)
    leaping(rig._main)
    assert rig.state.status is JobStatus.SUCCEEDED
