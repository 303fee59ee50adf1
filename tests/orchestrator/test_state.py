from given import (
    CHAIN,
    DIAMOND,
    WIDE,
    declared,
    failed,
    given,
    interrupted,
    invalidated,
    job_cancelled,
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

from eventlog import LogOpened, LogRecovered, UnknownEvent
from eventlog.event import Opened, Recovered
from orchestrator import events as ev
from orchestrator.state import DONE, JobStatus, StepStatus


def status(state):
    return {name: str(step.status) for name, step in state.steps.items()}


def test_a_new_job_knows_its_steps_and_which_of_them_are_ready():
    state = given(job_started())
    assert state.status is JobStatus.OPEN
    assert list(state.ready) == ["architect"]
    assert status(state) == dict.fromkeys(DIAMOND, "pending")
    assert state.open_steps == 4
    assert not state.finished


def test_a_step_becomes_ready_with_the_last_of_its_needs():
    state = given(job_started(), started("architect"), succeeded("architect"))
    assert list(state.ready) == ["builder", "docs"]
    then(state, started("builder"), succeeded("builder"), started("docs"))
    assert list(state.ready) == []
    then(state, succeeded("docs"))
    assert list(state.ready) == ["qa"]


def test_a_started_step_is_running_and_not_ready():
    state = given(job_started(WIDE), started("b", attempt=3))
    assert list(state.running) == ["b"]
    assert list(state.ready) == ["a", "c", "d"]
    assert state.steps["b"].attempt == 3


def test_a_success_is_kept_with_its_seq_key_and_output():
    state = given(job_started(CHAIN), started("a"), succeeded("a", output={"x": 1}))
    success = state.steps["a"].success
    assert (success.seq, success.key, success.output) == (2, "key-a", {"x": 1})
    assert state.steps["a"].status is StepStatus.SUCCEEDED
    assert (state.open_steps, state.totals.work_s) == (2, 1.0)
    assert not state.running


def test_a_second_success_of_a_step_makes_nothing_ready_early():
    # As when a step function emits the event itself, too.
    state = given(job_started(), started("architect"), succeeded("architect"))
    then(state, started("builder"), succeeded("builder"), succeeded("builder"))
    assert "qa" not in state.ready
    assert state.open_steps == 2


def test_a_failure_is_listed_and_frees_its_slot():
    state = given(job_started(WIDE), started("a"), failed("a", message="boom"))
    assert [(f.step, f.message) for f in state.failures] == [("a", "boom")]
    assert not state.running
    assert state.steps["a"].fault.message == "boom"
    assert state.open_steps == 3


def test_a_failed_attempt_waits_until_its_retry_is_due():
    state = given(job_started(CHAIN), started("a"), at_s=100.0)
    then(state, retrying("a", in_s=2.5), at_s=101.0)
    assert state.retries == [(103.5, "a")]
    assert state.steps["a"].status is StepStatus.WAITING
    assert not state.running
    assert not state.failures
    then(state, started("a", attempt=2), at_s=103.5)
    assert state.retries == []
    assert state.steps["a"].tries == 2


def test_a_retry_that_fails_before_it_starts_waits_no_more():
    state = given(job_started(WIDE), started("a"), retrying("a", in_s=1), failed("a"))
    assert state.retries == []


def test_a_waiting_step_that_will_not_be_run_waits_no_more():
    state = given(job_started(WIDE), started("a"), retrying("a", in_s=1), not_run("a"))
    assert state.retries == []
    assert state.steps["a"].status is StepStatus.SKIPPED


def test_retries_that_are_started_out_of_order_leave_the_others_waiting():
    state = given(job_started(WIDE), started("a"), started("b"), started("c"))
    then(state, retrying("a", 3), retrying("b", 1), retrying("c", 2), started("c"))
    assert sorted(state.retries) == [(1.0, "b"), (3.0, "a")]


def test_a_resumed_leg_offers_the_successes_of_earlier_legs():
    state = given(
        job_started(CHAIN), started("a"), succeeded("a"), started("b"), job_resumed(CHAIN)
    )
    assert set(state.past) == {"a"}
    assert list(state.ready) == ["a"]
    assert status(state) == {"a": "pending", "b": "pending", "c": "pending"}
    assert (state.legs, state.open_steps) == (2, 3)


def test_a_reused_step_has_its_earlier_output_and_makes_others_ready():
    state = given(job_started(CHAIN), started("a"), succeeded("a", output=7), job_resumed(CHAIN))
    then(state, reused("a"))
    assert state.steps["a"].status is StepStatus.REUSED
    assert state.steps["a"].success.output == 7
    assert list(state.ready) == ["b"]
    assert state.past == {}
    assert state.totals.work_s == 1.0  # it was not worked on again


def test_a_renamed_step_takes_the_success_of_its_former_name():
    state = given(job_started({"old": ()}), started("old"), succeeded("old", output=7))
    then(state, job_resumed({"new": ()}))
    assert state.gone == {"key-old": ["old"]}
    then(state, reused("new", from_step="old"))
    assert state.steps["new"].success.output == 7
    assert state.steps["new"].success.step == "new"
    assert state.gone == {"key-old": []}


def test_a_step_that_was_not_run_is_not_done_and_keeps_its_earlier_success_for_later():
    # Leg 2 could not get to c, because a failed: c's old result is no result of this leg.
    state = given(job_started(CHAIN), succeeded("a"), succeeded("b"), succeeded("c", output=7))
    then(state, job_succeeded(), job_resumed(CHAIN), started("a"), failed("a"))
    then(state, not_run("b"), not_run("c"), job_failed())
    assert state.steps["c"].status is StepStatus.SKIPPED
    assert state.steps["c"].success is None
    assert state.open_steps == 0
    then(state, job_resumed(CHAIN))
    assert state.past["c"].output == 7


def test_an_interrupted_attempt_is_counted_and_numbers_go_on():
    state = given(job_started(CHAIN), started("a", attempt=1), interrupted("a"), job_resumed(CHAIN))
    assert (state.steps["a"].attempt, state.steps["a"].interrupted) == (1, 1)
    assert state.steps["a"].tries == 0


def test_a_step_that_left_the_spec_and_came_back_goes_on_counting():
    state = given(job_started(CHAIN), started("c", attempt=4), failed("c"), job_failed())
    then(state, job_resumed({"a": ()}), job_failed(), job_resumed(CHAIN))
    assert state.steps["c"].attempt == 4
    assert state.former == {}


def test_a_success_that_was_renamed_away_is_not_there_again_in_the_next_leg():
    state = given(job_started({"old": ()}), succeeded("old"), job_resumed({"new": ()}))
    then(state, reused("new", from_step="old"), job_succeeded(), job_resumed({"x": ()}))
    assert set(state.past) == {"new"}


def test_an_invalidated_success_is_no_longer_offered():
    state = given(job_started(CHAIN), succeeded("a"), job_resumed(CHAIN), invalidated("a"))
    assert state.past == {}


def test_a_job_that_starts_afresh_forgets_what_the_log_held_of_it():
    state = given(job_started(CHAIN), succeeded("a"), job_succeeded(), job_started(CHAIN))
    assert state.past == {}
    assert state.steps["a"].attempt == 0


def test_the_end_of_a_leg_is_the_jobs_status_and_adds_to_its_time():
    state = given(job_started(WIDE), job_cancelled())
    assert (state.status, state.finished) == (JobStatus.CANCELLED, True)
    then(state, job_resumed(WIDE))
    assert (state.status, state.finished) == (JobStatus.OPEN, False)
    then(state, job_succeeded())
    assert state.status is JobStatus.SUCCEEDED
    assert (state.totals.legs_s, state.legs) == (4.0, 2)


def test_failures_are_those_of_the_steps_and_not_the_shortened_list_of_the_end():
    told = ev.Failure(step="a", kind="exception", message="n")
    state = given(job_started(WIDE), failed("a", "no, because"), failed("b"), job_failed(told))
    assert [f.message for f in state.failures] == ["no, because", "no"]


def test_a_log_without_step_events_still_tells_its_failures():
    state = given(job_started({}), job_failed(ev.Failure(step="a", kind="k", message="m")))
    assert [f.step for f in state.failures] == ["a"]


def test_files_and_who_published_them():
    ref = ev.FileRef(path="a.txt", sha256="0" * 64, size_bytes=1, media_type="text/plain")
    state = given(job_started(CHAIN), ev.FileWritten(step="a", data=ev.Written(path="b.txt")))
    then(state, succeeded("a", files=(ref,)))
    assert state.published == {"b.txt": "a", "a.txt": "a"}
    assert state.files == {"a.txt": ref}


def test_totals_count_calls_tokens_and_the_cache():
    state = given(
        job_started(CHAIN),
        ev.CacheMiss(step="a", data=ev.CacheMissData()),
        ev.LLMRequest(step="a", data=ev.Asked()),
        ev.LLMResponse(step="a", data=ev.Answered(success=False, duration_s=1.0)),
    )
    assert (state.totals.tokens_in, state.totals.tokens_out) == (None, None)
    then(
        state,
        ev.LLMResponse(
            step="a",
            data=ev.Answered(success=True, tokens_in=3, tokens_out=0, duration_s=2, simulated=True),
        ),
        ev.CacheHit(step="b", data=ev.CacheHitData()),
    )
    totals = state.totals
    assert (totals.calls, totals.failed_calls, totals.hits, totals.misses) == (2, 1, 1, 1)
    assert (totals.tokens_in, totals.tokens_out, totals.llm_s, totals.simulated) == (3, 0, 3.0, 1)


def test_unknown_events_are_counted_and_change_nothing_else():
    state = given(job_started(WIDE), UnknownEvent(type="step.dreamt", data={"step": "a"}))
    assert state.unknown == 1
    assert status(state) == dict.fromkeys(WIDE, "pending")


def test_events_of_the_log_itself_are_no_events_of_the_job():
    opened = LogOpened(data=Opened(format=1, log_id="x", epoch=1, pid=1, host="h"))
    torn = LogRecovered(data=Recovered(offset=1, bytes=2, sha256="", moved_to="x"))
    state = given(opened, torn)
    assert (state.status, state.recovered, state.unknown) == (JobStatus.NEW, 1, 0)


def test_an_old_log_without_a_graph_still_folds():
    state = given(ev.JobStarted(data=ev.Started()), started("a"), succeeded("a"), started("b"))
    assert status(state) == {"a": "succeeded", "b": "started"}
    assert state.open_steps == 1
    then(state, failed("b"), job_failed())
    assert state.status is JobStatus.FAILED


def test_every_type_of_the_union_is_folded_without_being_unknown():
    # A type that is added to the union must be given a meaning, or none, on purpose.
    values = {"step": "a"}
    data = {
        "started": declared(CHAIN),
        "resumed": declared(CHAIN),
        "log.opened": Opened(format=1, log_id="x", epoch=1, pid=1, host="h"),
        "log.recovered": Recovered(offset=1, bytes=2, sha256="", moved_to="x"),
    }
    state = given(job_started(CHAIN))
    for member in ev.AnyJobEvent.__args__:
        tag = member.__struct_config__.tag
        field = next(f for f in member.__struct_fields__ if f == "data")
        own = data.get(tag) or data.get(tag.removeprefix("job."))
        if own is None:
            own = member.__annotations__[field]
            own = getattr(ev, own)() if isinstance(own, str) else own()
        named = values if "step" in member.__struct_fields__ else {}
        then(state, member(data=own, **named))
    assert state.unknown == 0


def test_done_is_what_has_a_result():
    assert {StepStatus.SUCCEEDED, StepStatus.REUSED} == DONE


def test_a_fold_is_linear_in_its_events():
    # 20,000 steps that each wait for a retry: a scan per event would take minutes.
    names = [f"s{i}" for i in range(20_000)]
    state = given(job_started(dict.fromkeys(names, ())))
    then(
        state,
        *(started(name) for name in names),
        *(retrying(name, i) for i, name in enumerate(names)),
    )
    then(state, *(started(name) for name in names), *(succeeded(name) for name in names))
    assert state.open_steps == 0
