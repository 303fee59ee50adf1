import pytest
from given import failed as a_failure
from given import (
    given,
    interrupted,
    job_cancelled,
    job_resumed,
    job_started,
    retrying,
    started,
    then,
)
from rig import Rig, Script, fails, state_of, stop_after, takes
from rig import TestLog as Log

from orchestrator import events as ev
from orchestrator.recovery import Recovery, in_doubt, recover
from orchestrator.state import JobStatus, StepStatus

ONE = {"a": ()}
ONCE = Recovery(once=True)


def crashed(times, **more):
    """Return a log of a job whose process ended so many times in step a."""
    log = Log(**more)
    for number in range(1, times + 1):
        leg = job_resumed(ONE) if number > 1 else job_started(ONE)
        cut = [interrupted("a")] if number > 1 else []
        log.append(leg, *cut, started("a", attempt=number))
    return log


def failure(rig):
    (event,) = rig.log.events(ev.StepFailed)
    return event.data


# --- what the events tell -------------------------------------------------------------------------


def test_a_step_is_in_doubt_until_an_attempt_after_the_one_that_was_cut_off():
    state = given(job_started(ONE), started("a", attempt=1), job_resumed(ONE), interrupted("a"))
    assert in_doubt(state.steps["a"])
    then(state, started("a", attempt=2))
    assert not in_doubt(state.steps["a"])


def test_only_the_end_of_a_process_counts_as_a_crash_and_an_outcome_ends_the_count():
    state = given(job_started(ONE), started("a", attempt=1), job_resumed(ONE), interrupted("a"))
    then(state, started("a", attempt=2), interrupted("a"), job_cancelled())
    assert (state.steps["a"].interrupted, state.steps["a"].crashes) == (2, 1)
    then(state, job_resumed(ONE), started("a", attempt=3), retrying("a", in_s=1))
    assert state.steps["a"].crashes == 0


def test_a_step_that_is_not_tried_again_keeps_its_count():
    state = given(job_started(ONE), started("a", attempt=1), job_resumed(ONE), interrupted("a"))
    then(state, a_failure("a", kind="interrupted"))
    assert state.steps["a"].crashes == 1
    then(state, job_resumed(ONE))
    assert in_doubt(state.steps["a"])


@pytest.mark.parametrize(
    ("rule", "said", "then_"),
    [
        (Recovery(), "", None),
        (Recovery(), "skip", None),  # it says of itself that it may run twice
        (ONCE, "", "failed"),
        (ONCE, "rerun", None),
        (ONCE, "skip", "skipped"),
        (ONCE, "fail", "failed"),
        (Recovery(once=True, on_interrupted="rerun"), "", None),
        (Recovery(once=True, on_interrupted="skip"), "", "skipped"),
        (Recovery(once=True, on_interrupted="skip"), "rerun", None),
        (Recovery(max_recoveries=0), "", "failed"),
        (Recovery(max_recoveries=0), "rerun", None),
    ],
)
def test_what_becomes_of_a_step_that_was_cut_off(rule, said, then_):
    state = given(job_started(ONE), started("a", attempt=1), job_resumed(ONE), interrupted("a"))
    event = recover("j", "a", state.steps["a"], rule, said)
    assert (event and type(event).__struct_config__.tag) == (then_ and f"step.{then_}")


# --- what the runner does -------------------------------------------------------------------------


def test_a_step_whose_effects_must_not_happen_twice_stops_and_asks():
    rig = Rig({"a": (), "b": ("a",)}, Script(recoveries={"a": ONCE}), log=crashed(1)).run()
    assert not rig.script.calls
    assert rig.state.status is JobStatus.FAILED
    assert failure(rig).kind == "interrupted"
    assert "attempt 1 was cut off and may have done its work" in failure(rig).message
    assert "orch resume j --on-interrupted rerun, skip or fail" in failure(rig).hint


def test_it_asks_again_and_is_tried_with_the_same_idempotency_key_when_told_to():
    log = crashed(1)
    Rig(ONE, Script(recoveries={"a": ONCE}), log=log).run()
    rig = Rig(ONE, Script(recoveries={"a": ONCE}), log=log, on_interrupted="rerun").run()
    assert rig.state.status is JobStatus.SUCCEEDED
    (attempt,) = rig.script.attempts
    plain = Rig(ONE, Script(), log=crashed(1)).run()
    assert attempt.idempotency_key == plain.script.attempts[0].idempotency_key


def test_a_step_whose_answer_is_there_is_not_asked_about():
    script = Script(recoveries={"a": ONCE}, answers=("a",))
    assert Rig(ONE, script, log=crashed(1)).run().state.status is JobStatus.SUCCEEDED


def test_a_skipped_step_is_not_run_nor_what_needs_it():
    script = Script(recoveries={"a": ONCE})
    rig = Rig({"a": (), "b": ("a",)}, script, log=crashed(1), on_interrupted="skip").run()
    assert rig.state.status is JobStatus.SUCCEEDED
    assert {step.status for step in rig.state.steps.values()} == {StepStatus.SKIPPED}


def test_a_step_that_ends_its_process_each_time_is_given_up_and_tried_when_told_to():
    three = Recovery(max_recoveries=3)
    log = crashed(3)
    assert Rig(ONE, Script(recoveries={"a": three}), log=log).run().state.status is (
        JobStatus.SUCCEEDED
    )
    log = crashed(4)
    rig = Rig(ONE, Script(recoveries={"a": three}), log=log).run()
    assert not rig.script.calls
    assert "has ended 4 times in a row while it ran" in failure(rig).message
    again = Rig(ONE, Script(recoveries={"a": three}), log=log).run()
    assert not again.script.calls  # however often it is resumed
    told = Rig(ONE, Script(recoveries={"a": three}), log=log, on_interrupted="rerun").run()
    assert told.state.status is JobStatus.SUCCEEDED


def test_an_attempt_that_failed_is_not_one_that_was_cut_off():
    log = Log()
    script = Script({"a": fails("exception")}, recoveries={"a": ONCE})
    Rig(ONE, script, log=log).run()
    assert not in_doubt(state_of(log).steps["a"])
    assert Rig(ONE, Script(recoveries={"a": ONCE}), log=log).run().state.status is (
        JobStatus.SUCCEEDED
    )


# --- under another name ---------------------------------------------------------------------------


def renamed(old, new, log, part="p", **more):
    """Go on with a job whose step has another name now, and the same key."""
    script = Script(recoveries={new: ONCE}, parts={old: part, new: "p"})
    return Rig({new: ()}, script, log=log, **more).run()


def cut_off_as(name, **more):
    """Return the log of a job that was stopped while its one step ran, and the attempt."""
    script = Script({name: takes(60)}, recoveries={name: ONCE}, parts={name: "p"})
    rig = Rig({name: ()}, script, meanwhile=stop_after(1), **more).run()
    return rig.log, rig.script.attempts[0]


def test_a_renamed_step_that_must_not_happen_twice_stops_and_asks_again_and_again():
    log, first = cut_off_as("old")
    rig = renamed("old", "new", log)
    assert not rig.script.calls
    assert "attempt 1 was cut off and may have done its work" in failure(rig).message
    assert rig.log.told()[-3] == "interrupted new"
    (found,) = [e for e in rig.log.events(ev.StepInterrupted) if e.step == "new"]
    assert found.data.reason == "attempt 1 of old, as it was called, was cut off"
    # Whatever it is called next: also as at first.
    for was, now in (("new", "newest"), ("newest", "old")):
        assert not renamed(was, now, log).script.calls
    again = renamed("old", "last", log, on_interrupted="rerun")
    (attempt,) = again.script.attempts
    assert (attempt.number, attempt.idempotency_key) == (2, first.idempotency_key)
    assert again.state.status is JobStatus.SUCCEEDED


def test_a_crash_is_remembered_under_the_new_name():
    log, _ = cut_off_as("old")
    crash = Log()
    for event in log.events()[1:3]:  # begun, and no more
        crash.append(event)
    assert not renamed("old", "new", crash).script.calls
    assert state_of(crash).steps["new"].crashes == 1


def test_a_step_is_another_one_if_its_key_is_or_if_the_one_that_was_cut_off_is_still_there():
    log, _ = cut_off_as("old")
    other = Script(recoveries={"new": ONCE}, parts={"new": "q"})
    assert Rig({"new": ()}, other, log=log).run().state.status is JobStatus.SUCCEEDED
    log, _ = cut_off_as("old")
    both = Script(recoveries={"old": ONCE, "new": ONCE}, parts={"old": "p", "new": "p"})
    rig = Rig({"new": (), "old": ()}, both, log=log, keep_going=True).run()
    assert set(rig.script.calls) == {"new"}
    assert failure(rig).kind == "interrupted"


def test_what_was_done_at_last_is_in_doubt_under_no_name():
    log, _ = cut_off_as("old")
    again = Script(recoveries={"old": ONCE}, parts={"old": "p"})
    Rig({"old": ()}, again, log=log, on_interrupted="rerun").run()
    rig = renamed("old", "new", log)
    assert not rig.script.calls
    assert rig.state.steps["new"].status is StepStatus.REUSED
