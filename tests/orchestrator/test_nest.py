"""Steps inside another one: when they come, what keeps them out, and how it ends with them."""

import pytest
from given import (
    BORNE,
    LAST,
    REGARDLESS,
    drop,
    failed,
    given,
    job_resumed,
    job_started,
    not_run,
    reused,
    started,
    succeeded,
    then,
)
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from rig import Rig, Script, fails, takes

from orchestrator import events as ev
from orchestrator.answers import Refused, Request, answer
from orchestrator.decisions import HandMade
from orchestrator.errors import StepError
from orchestrator.graph import Graph, GraphError
from orchestrator.nest import borne_around, broken, has_run
from orchestrator.plan import Policy, decide
from orchestrator.plan import not_run as not_run_event
from orchestrator.retry import RetryPolicy
from orchestrator.state import SETTLED, JobStatus, StepStatus
from orchestrator.steps.base import Result

FOUR = Policy(concurrency=4)
ON = Policy(concurrency=4, keep_going=True)


def inside(name, **more):
    return {"inside": name, **more}


STEPS = {
    "first": (),
    "file": ("first",),
    "file/a": (inside("file"),),
    "file/b": ("file/a", inside("file")),
    "after": ("file",),
}


def entered(name="file", steps=2):
    return ev.StepExpanded(step=name, data=ev.Expanded(steps=steps))


def begun(*events, steps=STEPS):
    return given(job_started(steps), *events)


def starts(state, policy=FOUR):
    return decide(state, 0.0, policy).starts


def test_what_is_inside_comes_when_the_step_around_it_is_entered():
    state = begun()
    assert starts(state) == ("first",)
    assert starts(then(state, succeeded("first"))) == ("file",)
    assert starts(then(state, entered())) == ("file/a",)
    assert state.steps["file"].status is StepStatus.EXPANDED
    assert starts(then(state, started("file/a"), succeeded("file/a"))) == ("file/b",)
    assert starts(then(state, succeeded("file/b"))) == ("file",)
    assert starts(then(state, succeeded("file"))) == ("after",)
    assert decide(then(state, succeeded("after")), 0.0, FOUR).verdict is JobStatus.SUCCEEDED


def test_a_step_that_is_not_run_keeps_all_out_that_is_inside():
    state = then(begun(succeeded("first")), not_run("file"))
    assert starts(state) == ("after", "file/a", "file/b")
    said = not_run_event(state, "file/a")
    assert said.data.reason == "it is part of file, which was skipped"
    then(state, said, not_run_event(state, "file/b"), not_run("after"))
    assert decide(state, 0.0, FOUR).verdict is JobStatus.SUCCEEDED


def test_a_failure_inside_is_that_of_the_step_around_it_and_of_the_job():
    state = begun(succeeded("first"), entered(), failed("file/a"))
    assert [failure.step for failure in state.failures] == ["file/a"]
    said = drop(state, FOUR)
    assert said == {
        "file/b": "it needs file/a, which failed",
        "file": "1 of its 2 steps failed: file/a",
        "after": "it needs file, which failed",
    }
    assert [failure.step for failure in state.failures] == ["file/a", "file"]


def test_a_job_that_stops_before_a_step_is_entered_begins_nothing_in_it():
    steps = {**STEPS, "file/b": ("file/a", inside("file", **REGARDLESS)), "bad": ()}
    state = begun(succeeded("first"), failed("bad"), steps=steps)
    said = drop(state, FOUR)
    assert said["file"] == "the job stopped when bad failed"
    assert starts(state) == ("file/b",)  # it is asked, for its condition decides alone …
    said = not_run_event(state, "file/b")
    assert said.data.reason == "it is part of file, which was skipped"  # … but it is shut out


BEARS = {**STEPS, "file": ("first", BORNE)}


def test_what_a_step_bears_is_not_the_jobs_wherever_it_is_inside():
    steps = {
        **BEARS,
        "file/b": (inside("file"),),
        "file/b/c": (inside("file/b"),),
        "file/b/d": ("file/b/c", inside("file/b")),
    }
    state = begun(
        succeeded("first"), entered(), succeeded("file/a"), entered("file/b"), steps=steps
    )
    then(state, failed("file/b/c"))
    assert (state.failures, len(state.tolerated)) == ([], 1)
    assert borne_around(state, state.graph.steps["file/b/c"])
    assert not_run_event(state, "file/b/d").data.reason == "it needs file/b/c, which failed"
    then(state, not_run("file/b/d"))
    assert starts(state) == ("file/b",)
    assert broken(state, "file/b").message == "1 of its 2 steps failed: file/b/c"
    then(state, failed("file/b"), failed("file"))
    assert starts(state) == ("after",)  # and it can run
    assert state.steps["after"].lacking == 0
    assert state.failures == []


def test_a_failure_that_is_borne_inside_breaks_nothing_around():
    steps = {**STEPS, "file/a": (inside("file", **BORNE),)}
    state = begun(succeeded("first"), entered(), failed("file/a"), steps=steps)
    assert starts(state) == ("file/b",)
    then(state, succeeded("file/b"))
    assert broken(state, "file") is None
    assert state.failures == []


LATE = {
    **STEPS,
    "file/b": (inside("file", **LAST),),
    "file/c": ("file/b", inside("file", **LAST)),
}


def test_what_comes_last_inside_comes_when_all_others_inside_have_settled():
    state = begun(succeeded("first"), entered(steps=3), steps=LATE)
    assert starts(state) == ("file/a",)
    assert starts(then(state, started("file/a"), failed("file/a")), ON) == ("file/b",)
    assert drop(state, FOUR) == {}  # also in a job that has failed
    assert starts(then(state, succeeded("file/b"))) == ("file/c",)
    assert starts(then(state, succeeded("file/c")), ON) == ("file",)


def test_a_file_of_last_steps_alone_is_not_held_up():
    steps = {"file": (), "file/a": (inside("file", **LAST),)}
    assert starts(begun(entered(steps=1), steps=steps)) == ("file/a",)


def test_a_step_that_comes_last_takes_all_with_it_that_is_inside():
    steps = {**STEPS, "file": (LAST,), "after": ()}
    state = begun(started("first"), steps=steps)
    assert state.held == 3
    then(state, failed("first"), succeeded("after"))
    assert starts(state) == ("file",)
    assert starts(then(state, entered())) == ("file/a",)
    assert drop(state, FOUR) == {}
    then(state, succeeded("file/a"), succeeded("file/b"), succeeded("file"))
    assert decide(state, 0.0, FOUR).verdict is JobStatus.FAILED


def test_what_is_inside_a_step_that_decides_alone_comes_in_a_job_that_has_failed():
    steps = {**STEPS, "file": ("first", REGARDLESS)}
    state = begun(failed("first"), steps=steps)
    assert starts(state) == ("file",)
    then(state, entered(), failed("file/a"))
    assert drop(state, FOUR) == {}
    assert starts(state) == ("file/b",)  # it is looked at, and skipped: it lacks what it needs
    assert state.steps["file/b"].lacking
    assert "file/b" not in state.graph.anyhow


def test_a_result_by_hand_stands_for_all_that_is_inside():
    made = ev.StepSet(step="file", data=HandMade(by="me", reason="I know", output=1))
    state = begun(succeeded("first"), made)
    assert starts(state) == ("after", "file/a", "file/b")
    said = not_run_event(state, "file/a").data.reason
    assert said == "it is part of file, which has its result already"


def test_no_result_by_hand_while_what_is_inside_is_under_way():
    request = Request(id="1", kind="set", by="me", step="file", note="x", output=1)
    state = begun(succeeded("first"), entered())
    with pytest.raises(Refused, match="steps of file are under way"):
        answer(state, request, lambda output, encoded: output, live=True)


def test_a_leg_that_goes_on_enters_it_anew():
    state = begun(succeeded("first"), entered(), started("file/a"), succeeded("file/a"))
    then(state, job_resumed(STEPS), reused("first"))
    assert starts(state) == ("file",)
    assert starts(then(state, entered())) == ("file/a",)
    assert starts(then(state, reused("file/a"))) == ("file/b",)


def test_what_has_run_inside_is_known_but_for_what_comes_last():
    state = begun(succeeded("first"), entered(steps=3), steps=LATE)
    assert not has_run(state, "file")
    then(state, reused("file/a"), started("file/b"))
    assert not has_run(state, "file")
    state = begun(succeeded("first"), entered(steps=3), started("file/a"), steps=LATE)
    assert has_run(state, "file")


# --- the graph --------------------------------------------------------------------------------


def graph(steps=STEPS):
    return Graph(job_started(steps).data.steps)


def test_a_first_step_inside_is_given_what_the_step_around_it_needs():
    deep = {**STEPS, "file/a/x": (inside("file/a"),)}
    assert graph(deep).given("file/a/x") == ("first",)
    assert graph(deep).given("file/b") == ("file/a",)
    assert graph().roots == ("first",)


def test_what_comes_after_a_step_knows_inside_from_around():
    assert graph().after("first") == set(STEPS)
    assert graph().after("file") == set(STEPS) - {"first"}
    assert graph().after("file/b") == {"file/b", "file", "after"}
    assert graph().after("after") == {"after"}


def test_a_step_is_declared_after_the_one_around_it():
    with pytest.raises(GraphError, match="is inside 'file', which does not come before it"):
        graph({"file/a": (inside("file"),), "file": ()})


# --- the runner -------------------------------------------------------------------------------


class Files(Script):
    """A script whose step `file` has others inside."""

    def __init__(self, acts=None, **more):
        self.refuses = more.pop("refuses", None)
        super().__init__(acts, **more)

    def enter(self, name, state):
        if self.refuses is not None:
            raise self.refuses

    def leave(self, name, state):
        found = {member: state.steps[member].success for member in state.graph.members[name]}
        return Result(output={name: one.output for name, one in found.items() if one})


def run(script, steps=STEPS, **options):
    return Rig(steps, script, **options).run()


def test_a_leg_runs_what_is_inside_and_leaves_with_its_outputs():
    rig = run(Files({"file/a": ["A"], "file/b": ["B"]}))
    assert rig.state.status is JobStatus.SUCCEEDED
    assert rig.state.steps["file"].success.output == {"file/a": "A", "file/b": "B"}
    assert list(rig.script.calls) == ["first", "file/a", "file/b", "after"]


def test_a_step_that_can_not_be_entered_fails_and_nothing_inside_is_run():
    script = Files(refuses=StepError("no number", kind="template"))
    rig = run(script, keep_going=True)
    assert [failure.step for failure in rig.state.failures] == ["file"]
    assert list(rig.script.calls) == ["first"]
    assert rig.state.steps["file/b"].reason == "it is part of file, which failed"


def test_a_condition_that_says_no_is_asked_once_and_for_all_that_is_inside():
    rig = run(Files(conditions={"file": "false"}))
    assert rig.state.steps["file"].reason == "its condition is false: false"
    assert list(rig.script.calls) == ["first"]
    assert rig.state.status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_failure_inside_fails_the_step_around_it(keep_going):
    rig = run(Files({"file/a": fails("exit")}), keep_going=keep_going)
    assert rig.state.status is JobStatus.FAILED
    assert [(f.step, f.kind) for f in rig.state.failures] == [("file/a", "exit"), ("file", "steps")]
    assert rig.state.steps["after"].reason == "it needs file, which failed"


def test_a_step_inside_does_not_decide_alone_because_the_one_around_it_does():
    steps = {**STEPS, "file": ("first", REGARDLESS)}
    rig = run(Files({"first": fails("exit"), "file/a": fails("exit")}), steps)
    assert list(rig.script.calls) == ["first", "file/a"]
    assert rig.state.steps["file/b"].reason == "it needs file/a, which failed"


def test_what_comes_last_inside_waits_for_nobody_in_a_job_that_has_failed():
    steps = {**STEPS, "file/b": (inside("file"),), "file/z": (inside("file", **LAST),), "bad": ()}
    state = begun(succeeded("first"), entered(steps=3), started("file/a"), steps=steps)
    asks = ev.StepWaiting(step="file/b", data=ev.Shown(key="k", message="?"))
    then(state, asks, failed("bad"), succeeded("file/a"))
    assert drop(state, FOUR) == {"file/b": "the job stopped when bad failed"}
    assert starts(state) == ("file/z",)


TIMED = {
    **STEPS,
    "file/z": (inside("file", **LAST),),
    "file/deep": (inside("file"),),
    "file/deep/x": (inside("file/deep"),),
}


def test_the_time_of_a_step_is_that_of_all_that_is_inside():
    acts = {"file/a": takes(3), "file/b": takes(3), "file/deep/x": takes(4)}
    rig = run(Files(acts, timeouts={"file": 5.0, "file/b": 30.0}), TIMED, keep_going=True)
    fault = rig.state.steps["file/b"].fault
    assert (fault.kind, fault.message) == ("timeout", "the time of file is over (timeout_s: 5)")
    assert rig.state.steps["file"].fault.message == "1 of its 4 steps failed: file/b"
    assert list(rig.script.calls)[-1] == "file/z"  # it comes whatever happened
    assert rig.took_s == 5.0


def test_the_nearest_end_counts_and_a_steps_own_limit_if_it_is_nearer():
    timeouts = {"file": 5.0, "file/deep": 2.0, "file/a": 1.0}
    acts = {"file/a": takes(9), "file/deep/x": takes(9)}
    rig = run(Files(acts, timeouts=timeouts), TIMED, keep_going=True)
    said = {name: rig.state.steps[name].fault.message for name in ("file/a", "file/deep/x")}
    assert said["file/deep/x"] == "the time of file/deep is over (timeout_s: 2)"
    assert said["file/a"] == "attempt 1 took longer than 1.0 s"
    assert rig.took_s == 2.0


def test_no_attempt_is_begun_or_waited_for_when_the_time_around_it_is_over():
    again = RetryPolicy(max_attempts=3, initial_s=4, jitter=0)
    script = Files(
        {"file/a": fails("network"), "first": takes(1)},
        timeouts={"file": 6.0},
        retries={"file/a": again},
    )
    rig = run(script)
    assert rig.script.calls["file/a"] == 2  # at 0 s and at 4 s; a third one would come at 12 s
    assert rig.took_s == 5.0
    slow = Files({"file/a": takes(3), "other": takes(9)}, timeouts={"file": 2.0})
    steps = {"other": (), "file": (), "file/a": (inside("file"),), "file/b": (inside("file"),)}
    rig = run(slow, steps, concurrency=2, keep_going=True)
    assert rig.script.calls == {"other": 1, "file/a": 1}
    assert rig.state.steps["file/b"].fault.message == "the time of file is over (timeout_s: 2)"


@st.composite
def jobs(draw, scope="", depth=0):
    """Draw the steps of a file, and of those inside of it: name to needs and flags."""
    steps = {}
    here = []
    for number in range(draw(st.integers(1, 4 if depth else 5))):
        name = f"{scope}/s{number}".removeprefix("/")
        last = draw(st.integers(0, 5)) == 0
        needs = [n for n, is_last in here if (last or not is_last) and draw(st.integers(0, 2)) == 0]
        flags = {
            "last": last,
            "regardless": draw(st.integers(0, 4)) == 0,
            "continue_on_error": draw(st.integers(0, 4)) == 0,
            "inside": scope,
        }
        steps[name] = (*needs, flags)
        here.append((name, last))
        if depth < 2 and draw(st.integers(0, 2)) == 0:
            steps.update(draw(jobs(name, depth + 1)))
    return steps


def around(name):
    """Yield the steps around a step, the nearest first."""
    while name := name.rpartition("/")[0]:
        yield name


@settings(max_examples=80, deadline=None, derandomize=True)
@drawn(jobs(), st.data(), st.booleans())
def test_every_job_comes_to_its_end_and_each_step_in_its_turn(steps, data, keep_going):
    leaves = [name for name in steps if not any(other.startswith(f"{name}/") for other in steps)]
    bad = set(data.draw(st.lists(st.sampled_from(leaves), max_size=2)))
    nos = set(data.draw(st.lists(st.sampled_from(list(steps)), max_size=2)))
    script = Files(dict.fromkeys(bad, fails("exit")), conditions=dict.fromkeys(nos, "no"))
    rig = run(script, steps, keep_going=keep_going)
    state = rig.state
    assert all(step.status in SETTLED for step in state.steps.values())
    borne = {name for name, said in steps.items() if said[-1]["continue_on_error"]}
    ran = set(script.calls)
    broke = {name for name in bad & ran if not {name, *around(name)} & borne}
    assert state.status is (JobStatus.FAILED if broke else JobStatus.SUCCEEDED)
    assert {failure.step for failure in state.failures} >= broke
    assert not ran & nos
    done = (StepStatus.SUCCEEDED, StepStatus.FAILED)
    # A job that stops gathers nothing any more; the next leg does, and runs nothing for it.
    left = (*done, StepStatus.SKIPPED) if state.failures and not keep_going else done
    for name in ran:
        assert all(state.steps[outer].status in left for outer in around(name)), name
        if not steps[name][-1]["regardless"] and not steps[name][-1]["last"]:
            lacking = {n for n in steps[name][:-1] if state.steps[n].status is not done[0]} - borne
            assert not lacking, name
    order = list(script.calls)
    for name in ran & {name for name, said in steps.items() if said[-1]["last"]}:
        scope = steps[name][-1]["inside"]
        others = [n for n in order[order.index(name) :] if steps[n][-1]["inside"] == scope]
        assert all(steps[n][-1]["last"] for n in others), name
    if not bad and not nos:
        assert ran == set(leaves)
