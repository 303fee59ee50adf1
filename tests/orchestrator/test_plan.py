import msgspec
from given import (
    BORNE,
    CHAIN,
    DIAMOND,
    LAST,
    REGARDLESS,
    WIDE,
    declared,
    drop,
    failed,
    given,
    invalidated,
    job_failed,
    job_resumed,
    job_started,
    job_succeeded,
    not_run,
    retrying,
    reused,
    started,
    succeeded,
    then,
)

from eventlog import Record
from orchestrator import events as ev
from orchestrator.plan import TOLD, Policy, closing, decide, opening, reusable
from orchestrator.plan import not_run as not_run_event
from orchestrator.state import JobState, JobStatus, evolve

FOUR = Policy(concurrency=4)
ONE = Policy(concurrency=1)
ON = Policy(concurrency=4, keep_going=True)


def test_what_needs_nothing_starts_first():
    assert decide(given(job_started()), 0.0, FOUR).starts == ("architect",)


def test_a_step_starts_when_all_it_needs_has_succeeded():
    state = given(job_started(), started("architect"), succeeded("architect"))
    assert decide(state, 0.0, FOUR).starts == ("builder", "docs")


def test_a_step_starts_at_once_while_others_of_its_level_still_run():
    steps = {"slow": (), "quick": (), "after": ("quick",)}
    state = given(job_started(steps), started("slow"), started("quick"), succeeded("quick"))
    assert decide(state, 0.0, FOUR).starts == ("after",)


def test_no_more_start_than_there_are_slots():
    state = given(job_started(WIDE))
    assert decide(state, 0.0, Policy(concurrency=3)).starts == ("a", "b", "c")
    then(state, started("a"), started("b"))
    assert decide(state, 0.0, Policy(concurrency=3)).starts == ("c",)
    assert decide(state, 0.0, Policy(concurrency=2)).starts == ()


def test_nothing_to_do_while_steps_run():
    plan = decide(given(job_started(), started("architect")), 0.0, FOUR)
    assert (plan.starts, plan.verdict, plan.wake_after_s) == ((), None, None)


def test_all_done_is_success():
    state = given(job_started({"a": ()}), started("a"), succeeded("a"))
    assert decide(state, 0.0, FOUR).verdict is JobStatus.SUCCEEDED


def test_no_steps_at_all_is_success():
    assert decide(given(job_started({})), 0.0, FOUR).verdict is JobStatus.SUCCEEDED


def test_after_a_failure_nothing_starts_and_what_runs_is_waited_for():
    state = given(job_started(WIDE), started("a"), started("b"), failed("a"))
    plan = decide(state, 0.0, FOUR)
    assert (plan.starts, plan.verdict) == ((), None)
    assert drop(state, FOUR) == dict.fromkeys("cd", "the job stopped when a failed")
    plan = decide(state, 0.0, FOUR)
    assert (plan.starts, plan.verdict) == ((), None)
    then(state, succeeded("b"))
    assert decide(state, 0.0, FOUR).verdict is JobStatus.FAILED


def test_keep_going_starts_what_does_not_depend_on_the_failure():
    steps = {"a": (), "b": (), "after-a": ("a",), "after-b": ("b",)}
    state = given(job_started(steps), started("a"), failed("a"), started("b"), succeeded("b"))
    assert decide(state, 0.0, ON).starts == ("after-a", "after-b")
    skipped = not_run_event(state, "after-a")
    assert (skipped.data.reason, skipped.data.because) == ("it needs a, which failed", "a")
    then(state, skipped, started("after-b"), succeeded("after-b"))
    assert decide(state, 0.0, ON).verdict is JobStatus.FAILED


def test_a_retry_waits_until_it_is_due():
    state = given(job_started({"a": ()}), started("a"))
    then(state, retrying("a", in_s=5.0), at_s=100.0)
    plan = decide(state, 101.0, FOUR)
    assert (plan.starts, plan.wake_after_s, plan.verdict) == ((), 4.0, None)
    assert decide(state, 105.0, FOUR).starts == ("a",)


def test_retries_that_are_due_go_first_and_the_longest_due_before_the_others():
    state = given(job_started({**WIDE, "e": (), "f": ()}))
    then(state, *(started(name) for name in "abcd"))
    then(state, retrying("a", 3), retrying("b", 1), retrying("c", 9), retrying("d", 2))
    assert decide(state, 5.0, FOUR).starts == ("b", "d", "a", "e")
    assert decide(state, 5.0, Policy(concurrency=2)).starts == ("b", "d")


def test_no_wake_up_is_planned_for_a_retry_that_has_no_slot():
    state = given(
        job_started({"a": (), "b": ()}), started("a"), retrying("a", in_s=1), started("b")
    )
    assert decide(state, 5.0, ONE).wake_after_s is None


def test_a_retry_that_is_waited_for_does_not_end_a_failed_job_later():
    state = given(
        job_started(WIDE), started("a"), retrying("a", in_s=60), started("b"), failed("b")
    )
    assert decide(state, 0.0, ON).verdict is None
    assert "a" in drop(state, FOUR)
    assert decide(state, 0.0, FOUR).verdict is JobStatus.FAILED


def test_deciding_changes_nothing():
    state = given(job_started(WIDE), started("a"), retrying("a", in_s=1), started("b"))
    before = msgspec.json.encode((list(state.ready), state.retries, list(state.running)))
    decide(state, 9.0, FOUR)
    assert msgspec.json.encode((list(state.ready), state.retries, list(state.running))) == before


# --- reusable -----------------------------------------------------------------------------------


def test_a_success_is_reusable_by_name_and_key():
    state = given(job_started(CHAIN), succeeded("a", output=7), job_resumed(CHAIN))
    assert reusable(state, "a", "key-a").output == 7


def test_a_changed_key_is_not_reusable():
    state = given(job_started(CHAIN), succeeded("a"), job_resumed(CHAIN))
    assert reusable(state, "a", "another") is None


def test_a_step_does_not_take_the_success_of_another_that_is_still_there():
    state = given(job_started(WIDE), succeeded("a", key="same"), job_resumed(WIDE))
    assert reusable(state, "b", "same") is None


def test_a_renamed_step_is_found_by_its_key():
    state = given(job_started({"old": ()}), succeeded("old", output=7), job_resumed({"new": ()}))
    assert reusable(state, "new", "key-old").output == 7


def test_each_success_is_used_once():
    state = given(job_started({"old": ()}), succeeded("old"), job_resumed({"x": (), "y": ()}))
    then(state, reused("x", from_step="old"))
    assert reusable(state, "y", "key-old") is None


def test_two_gone_names_with_one_key_serve_two_new_names():
    state = given(job_started({"a": (), "b": ()}), succeeded("a", 1, key="k"))
    then(state, succeeded("b", 2, key="k"), job_resumed({"x": (), "y": ()}))
    assert reusable(state, "x", "k").output == 1
    then(state, reused("x", from_step="a"))
    assert reusable(state, "y", "k").output == 2


def test_the_newest_success_of_a_name_counts():
    state = given(job_started({"a": ()}), succeeded("a", 1, key="k1"), job_resumed({"a": ()}))
    then(state, started("a"), succeeded("a", 2, key="k2"), job_resumed({"a": ()}))
    assert reusable(state, "a", "k1") is None
    assert reusable(state, "a", "k2").output == 2


def test_a_success_survives_a_leg_that_did_not_get_to_it():
    state = given(job_started(CHAIN), succeeded("a"), succeeded("b", output=7))
    then(state, job_resumed(CHAIN), started("a"), failed("a"), not_run("b"), job_failed())
    then(state, job_resumed(CHAIN))
    assert reusable(state, "b", "key-b").output == 7


def test_an_invalidated_success_is_not_reusable_by_any_name():
    state = given(job_started({"old": ()}), succeeded("old"), job_resumed({"new": ()}))
    then(state, invalidated("old"))
    assert reusable(state, "new", "key-old") is None


def test_a_success_without_a_key_is_never_reusable():
    # Logs of version 1 and 2.0 have no keys: nobody knows what their results depended on.
    keyless = ev.StepSucceeded(step="a", data=ev.StepEnd(output=7))
    state = given(job_started({"a": ()}), keyless, job_resumed({"b": ()}))
    assert reusable(state, "b", "") is None
    assert reusable(state, "b", "key-a") is None


# --- opening and closing ------------------------------------------------------------------------


def test_a_new_job_opens_with_job_started():
    plan = declared(DIAMOND)
    assert opening(JobState(), plan) == [ev.JobStarted(data=plan)]


def test_a_leg_opens_by_telling_which_attempts_were_cut_off():
    state = given(job_started(WIDE), started("a", attempt=1), started("b", attempt=2))
    resumed, first, second = opening(state, declared(WIDE))
    assert [(e.step, e.data.attempt) for e in (first, second)] == [("a", 1), ("b", 2)]
    assert isinstance(first, ev.StepInterrupted)
    assert isinstance(resumed, ev.JobResumed)


def test_what_was_cut_off_is_told_though_a_crash_came_between():
    state = given(job_started(WIDE), started("a", attempt=3))
    again, *_ = opening(state, declared(WIDE))
    evolve(state, Record(seq=9, ts="", event=again, offset=0))  # and then the process died
    assert not state.running
    _, first = opening(state, declared(WIDE))
    assert (first.step, first.data.attempt) == ("a", 3)


def test_a_finished_job_is_reopened():
    state = given(job_started({"a": ()}), started("a"), succeeded("a"), job_succeeded())
    assert [type(e) for e in opening(state, declared(CHAIN))] == [ev.JobResumed]


def test_success_closes_with_one_event():
    state = given(job_started({"a": ()}), started("a"), succeeded("a"))
    (end,) = closing(state, JobStatus.SUCCEEDED, 1.5, "")
    assert isinstance(end, ev.JobSucceeded)
    assert end.data.duration_s == 1.5


def test_cancellation_closes_with_its_reason_and_says_nothing_of_steps():
    (end,) = closing(given(job_started(CHAIN)), JobStatus.CANCELLED, 1.0, "SIGINT")
    assert isinstance(end, ev.JobCancelled)
    assert end.data.reason == "SIGINT"


def test_each_step_that_is_not_run_after_a_failure_is_told_why():
    steps = {"a": (), "b": ("a",), "c": ("b",), "other": ()}
    state = given(job_started(steps), started("a"), failed("a"))
    assert drop(state, FOUR) == {
        "b": "it needs a, which failed",
        "c": "it needs a, which failed",
        "other": "the job stopped when a failed",
    }
    (end,) = closing(state, JobStatus.FAILED, 1.0, "")
    assert isinstance(end, ev.JobFailed)
    assert [f.step for f in end.data.failures] == ["a"]


def test_all_failures_are_told_at_the_end():
    state = given(job_started(WIDE), started("a"), started("b"), failed("a"), failed("b"))
    assert [f.step for f in closing(state, JobStatus.FAILED, 1.0, "")[-1].data.failures] == [
        "a",
        "b",
    ]


def test_a_step_that_waited_for_another_attempt_has_failed_as_its_last_one_did():
    graph = {**WIDE, "undo": ("a", {"regardless": True})}
    state = given(job_started(graph), started("a"), retrying("a", 60), started("b"), failed("b"))
    work_s = state.steps["a"].work_s
    assert drop(state, FOUR)["a"] == "no"
    assert not state.retries
    assert [failure.step for failure in state.failures] == ["b", "a"]
    assert state.failures[1].hint == "not tried again: the job stopped when b failed"
    assert state.steps["a"].work_s == work_s
    assert decide(state, 0.0, FOUR).starts == ("undo",)


def test_what_a_leg_that_ends_at_once_leaves_is_told_as_not_run():
    state = given(job_started(CHAIN), started("a"))
    *left, end = closing(state, JobStatus.FAILED, 1.0, "timeout_s: 5 is over")
    assert {e.step: e.data.reason for e in left} == dict.fromkeys("bc", "timeout_s: 5 is over")
    assert end.data.reason == "timeout_s: 5 is over"


def test_the_last_event_fits_a_line_however_many_steps_failed():
    names = [f"s{i}" for i in range(5_000)]
    state = given(job_started(dict.fromkeys(names, ())))
    then(state, *(failed(name, message="\x01" * 4_000) for name in names))
    end = closing(state, JobStatus.FAILED, 1.0, "")[-1]
    assert len(end.data.failures) == TOLD
    assert len(msgspec.json.encode(end)) < 900_000


def test_a_long_chain_behind_a_failure_closes_without_recursion():
    names = [f"s{i}" for i in range(20_000)]
    steps = {name: names[i - 1 : i] if i else () for i, name in enumerate(names)}
    state = given(job_started(steps), started("s0"), failed("s0"))
    reasons = drop(state, FOUR)
    assert set(reasons.values()) == {"it needs s0, which failed"}
    assert len(reasons) == 19_999


# --- conditions, failures that are borne, and what comes last ------------------------------------


def test_a_step_that_looks_at_statuses_is_looked_at_whatever_became_of_its_needs():
    steps = {"a": (), "plain": ("a",), "own": ("a", REGARDLESS)}
    state = given(job_started(steps), started("a"), failed("a"))
    assert drop(state, FOUR) == {"plain": "it needs a, which failed"}
    assert decide(state, 0.0, FOUR).starts == ("own",)
    then(state, started("own"), succeeded("own"))
    assert decide(state, 0.0, FOUR).verdict is JobStatus.FAILED


def test_a_failure_that_is_borne_stops_nothing_and_what_needs_it_runs():
    steps = {"a": (BORNE,), "b": ("a",), "c": ()}
    state = given(job_started(steps), started("a"), failed("a"))
    assert not state.failures
    assert [failure.step for failure in state.tolerated] == ["a"]
    assert decide(state, 0.0, FOUR).starts == ("c", "b")
    assert not state.steps["b"].lacking
    then(state, started("b"), succeeded("b"), started("c"), succeeded("c"))
    assert decide(state, 0.0, FOUR).verdict is JobStatus.SUCCEEDED
    (end,) = closing(state, JobStatus.SUCCEEDED, 1.0, "")
    assert [failure.step for failure in end.data.tolerated] == ["a"]


def test_a_skip_spreads_and_names_the_step_that_it_began_with_and_fails_nothing():
    state = given(job_started(CHAIN), not_run("a", reason="its condition is false: x"))
    assert decide(state, 0.0, FOUR).starts == ("b",)
    assert state.steps["b"].lacking == 1  # so it is not run
    then(state, not_run_event(state, "b"))
    event = not_run_event(state, "c")
    assert event.data.reason == "it needs a, which was skipped"
    then(state, event)
    assert decide(state, 0.0, FOUR).verdict is JobStatus.SUCCEEDED


def test_of_two_needs_without_result_the_one_that_failed_is_named():
    steps = {"skip": (), "fail": (), "both": ("skip", "fail")}
    state = given(job_started(steps), not_run("skip", reason="no"), started("fail"), failed("fail"))
    assert not_run_event(state, "both").data.reason == "it needs fail, which failed"


def test_what_comes_last_starts_when_all_others_have_settled_however():
    steps = {"end": (LAST,), "a": (), "b": ("a",), "c": ()}
    state = given(job_started(steps), started("a"), started("c"), failed("a"))
    assert drop(state, FOUR) == {"b": "it needs a, which failed"}
    assert decide(state, 0.0, FOUR).starts == ()
    then(state, succeeded("c"))
    plan = decide(state, 0.0, FOUR)
    assert (plan.starts, plan.verdict) == (("end",), None)
    then(state, started("end"), succeeded("end"))
    assert decide(state, 0.0, FOUR).verdict is JobStatus.FAILED


def test_what_comes_last_may_have_an_order_and_a_failure_in_it_stops_none_of_it():
    steps = {"a": (), "first": (LAST,), "second": ("first", LAST)}
    state = given(job_started(steps), started("a"), succeeded("a"))
    assert decide(state, 0.0, FOUR).starts == ("first",)
    then(state, started("first"), failed("first"))
    assert decide(state, 0.0, FOUR).starts == ("second",)
    then(state, started("second"), succeeded("second"))
    assert decide(state, 0.0, FOUR).verdict is JobStatus.FAILED


def test_a_job_of_nothing_but_last_steps_runs_them():
    state = given(job_started({"x": (LAST,), "y": ("x", LAST)}))
    assert decide(state, 0.0, FOUR).starts == ("x",)


def test_when_the_time_is_over_only_what_runs_regardless_is_begun():
    steps = {"a": (), "b": (), "end": (LAST,)}
    over = Policy(concurrency=1, keep_going=True, over="timeout_s: 5 is over")
    state = given(job_started(steps), started("a"), failed("a", kind="timeout"))
    assert drop(state, over) == {"b": "timeout_s: 5 is over"}
    assert decide(state, 0.0, over).starts == ("end",)
    then(state, started("end"), succeeded("end"))
    assert decide(state, 0.0, over).verdict is JobStatus.FAILED


def test_ten_thousand_steps_behind_a_skipped_one_are_passed_over_one_by_one():
    names = [f"s{i}" for i in range(10_000)]
    state = given(job_started({"a": (), **dict.fromkeys(names, ("a",))}), not_run("a", "no"))
    while starts := decide(state, 0.0, FOUR).starts:
        for name in starts:
            then(state, not_run_event(state, name))
    assert decide(state, 0.0, FOUR).verdict is JobStatus.SUCCEEDED


# --- limits of kinds ------------------------------------------------------------------------------


def of_kinds(limits, **kinds):
    steps = tuple(
        ev.StepDecl(id=f"{kind}{i}", kind=kind) for kind, n in kinds.items() for i in range(n)
    )
    return given(ev.JobStarted(data=ev.Started(steps=steps, limits=limits)))


def test_no_more_of_a_kind_start_than_its_limit_and_the_others_are_not_held_up():
    state = of_kinds({"llm": 2}, llm=10, run=3)
    assert decide(state, 0.0, Policy(concurrency=8)).starts == (
        *("llm0", "llm1"),
        *("run0", "run1", "run2"),
    )
    then(state, started("llm0"), started("llm1"), started("run0"))
    assert decide(state, 0.0, Policy(concurrency=8)).starts == ("run1", "run2")
    then(state, succeeded("llm0"))
    assert decide(state, 0.0, Policy(concurrency=3)).starts == ("llm2",)


def test_a_person_is_asked_at_once_however_much_runs_or_waits():
    state = of_kinds({}, run=3, approve=2)
    two = Policy(concurrency=2)
    assert decide(state, 0.0, two).starts == ("approve0", "approve1", "run0", "run1")
    then(state, started("run0"), started("run1"))
    assert decide(state, 0.0, two).starts == ("approve0", "approve1")
    then(state, *(ev.StepWaiting(step=name) for name in ("approve0", "approve1")))
    assert decide(state, 0.0, two).starts == ()


def test_a_retry_waits_for_room_of_its_kind_without_being_asked_for_all_the_time():
    state = of_kinds({"llm": 1}, llm=2, run=1)
    then(state, started("llm0"), retrying("llm0", in_s=1), started("llm1"), started("run0"))
    plan = decide(state, 5.0, FOUR)
    assert (plan.starts, plan.wake_after_s, plan.verdict) == ((), None, None)
    then(state, succeeded("llm1"))
    assert decide(state, 5.0, FOUR).starts == ("llm0",)


def test_a_retry_that_is_not_due_wakes_the_leg_in_time_though_others_wait_for_room():
    state = of_kinds({"llm": 1}, llm=2, run=1)
    then(state, started("llm0"), retrying("llm0", in_s=1), started("llm1"))
    then(state, started("run0"), retrying("run0", in_s=9))
    assert decide(state, 5.0, FOUR).wake_after_s == 4.0


def test_what_waits_in_a_lane_is_dropped_with_the_others():
    state = of_kinds({"llm": 1}, llm=3, run=1)
    then(state, started("run0"), failed("run0"))
    assert set(drop(state, FOUR)) == {"llm0", "llm1", "llm2"}
    assert decide(state, 0.0, FOUR).verdict is JobStatus.FAILED
