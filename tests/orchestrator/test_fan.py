"""Groups of instances: how they open, what runs at once, what they bear, and how they close."""

import pytest
from given import drop, failed, given, interrupted, job_resumed, reused, started, succeeded, then
from rig import Rig, Script, fails, state_of, takes
from rig import TestLog as Log

from eventlog import Record
from orchestrator import events as ev
from orchestrator.errors import StepError
from orchestrator.expand import items_of
from orchestrator.instances import apart, base_of, identities, instance, item_of, joined
from orchestrator.plan import Policy, decide, reusable
from orchestrator.spec.model import Step
from orchestrator.state import JobStatus, StepStatus
from orchestrator.steps.base import Result
from orchestrator.work import Expansion
from orchestrator.written import as_written

FOUR = Policy(concurrency=4)
GROUP = (
    ev.StepDecl(id="list", kind="t"),
    ev.StepDecl(id="each", kind="t", needs=("list",), each=True),
    ev.StepDecl(id="after", kind="t", needs=("each",)),
)


def begun(*events, first=ev.JobStarted):
    return given(first(data=ev.Started(steps=GROUP)), succeeded("list"), *events)


def opened(*items, **limits):
    return ev.StepExpanded(step="each", data=ev.Expanded(items=items, **limits))


# --- identities -------------------------------------------------------------------------------


def test_an_identity_follows_from_the_value_and_not_from_its_place():
    assert identities(["a", 7, True]) == ("a", "7", "true")
    assert identities(["b", "a"]) == tuple(reversed(identities(["a", "b"])))
    assert identities([{"n": 1}, {"n": 2}])[1] == identities([{"n": 2}])[0]


def test_equal_values_are_told_apart():
    assert identities(["a", "a", "a"]) == ("a", "a~2", "a~3")


@pytest.mark.parametrize("text", ["", "../x", "a/b", "a b", "é", "x" * 500, "a[1]", "\0", "-x"])
def test_an_identity_is_always_a_good_file_name(text):
    (name,) = identities([text])
    assert 0 < len(name) <= 64
    assert name[0].isalnum()
    assert not set(name) & set("/\\[] \0")
    assert name != text


def test_an_instance_is_one_name_in_memory_and_two_members_in_a_line():
    event = started(instance("each", "a"))
    line = apart(event)
    assert (line.step, line.item) == ("each", "a")
    assert joined(line) == event
    assert apart(started("list")) == started("list") == joined(started("list"))
    assert (base_of("each[a=1]"), item_of("each[a=1]")) == ("each", "a=1")
    assert (base_of("each"), item_of("each")) == ("each", "")


# --- the items of a step ----------------------------------------------------------------------


def items(**step):
    values = {"steps": {"list": {"output": [{"id": "x", "n": 1}, {"id": "y", "n": 2}]}}}
    return items_of(Step(name="s", run="true", **step), values)


def test_the_items_are_those_of_the_list_in_its_order():
    found = items(for_each="{{ steps.list.output }}", key="{{ item.id }}")
    assert found == {"x": {"item": {"id": "x", "n": 1}}, "y": {"item": {"id": "y", "n": 2}}}
    assert items(for_each=["b", "{{ steps.list.output[0].id }}"]) == {
        "b": {"item": "b"},
        "x": {"item": "x"},
    }
    assert items(for_each=[]) == {}


def test_a_matrix_is_each_combination_but_the_excluded_and_the_included_too():
    found = items(
        matrix={
            "a": [1, 2],
            "b": ["{{ steps.list.output[0].id }}", "z"],
            "exclude": [{"a": 2, "b": "z"}],
            "include": [{"a": 9, "c": True}],
        }
    )
    assert list(found) == ["a=1,b=x", "a=1,b=z", "a=2,b=x", "a=9,c=true"]
    assert found["a=2,b=x"] == {"matrix": {"a": 2, "b": "x"}}
    assert list(items(matrix={"include": [{"a": 1}]})) == ["a=1"]


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"for_each": "{{ steps.list.output[0] }}"}, "must be a list"),
        ({"for_each": ["a", "b", "c"], "max_items": 2}, "3 items, and `max_items` is 2"),
        ({"matrix": {"a": [1, 2], "b": [1, 2]}, "max_items": 3}, "4 items"),
        ({"matrix": {"a": list(range(1000)), "b": list(range(1000)), "c": [1, 2]}}, "2,000,000"),
        ({"for_each": ["a", "b"], "key": "k"}, "two items have the key 'k'"),
        ({"for_each": ["a"], "key": "{{ [item] }}"}, "a key must be"),
    ],
)
def test_what_makes_no_items_is_a_failure_that_says_so(step, says):
    with pytest.raises(StepError, match=says.replace("[", r"\[")):
        items(**step)


# --- the state --------------------------------------------------------------------------------


def test_an_expanded_group_makes_its_instances_ready():
    state = begun(opened("a", "b"))
    assert decide(state, 0.0, FOUR).starts == ("each[a]", "each[b]")
    assert state.steps["each"].status is StepStatus.EXPANDED
    assert list(state.names()) == ["list", "each", "each[a]", "each[b]", "after"]


def test_no_more_instances_are_under_way_than_the_group_says():
    state = begun(opened("a", "b", "c", max_parallel=2))
    assert decide(state, 0.0, FOUR).starts == ("each[a]", "each[b]")
    then(state, started("each[a]"), started("each[b]"))
    assert decide(state, 0.0, FOUR).starts == ()
    then(state, succeeded("each[b]"))
    assert decide(state, 0.0, FOUR).starts == ("each[c]",)


def test_a_group_is_ready_again_when_its_last_instance_has_settled():
    state = begun(opened("a", "b"), started("each[a]"), succeeded("each[a]"))
    assert decide(state, 0.0, FOUR).starts == ("each[b]",)
    then(state, started("each[b]"), succeeded("each[b]"))
    assert decide(state, 0.0, FOUR).starts == ("each",)
    then(state, succeeded("each", output=[1, 2]))
    assert decide(state, 0.0, FOUR).starts == ("after",)


def test_a_group_without_items_is_ready_at_once():
    assert decide(begun(opened()), 0.0, FOUR).starts == ("each",)


def test_failures_that_the_group_bears_do_not_stop_the_job():
    state = begun(opened("a", "b", "c", max_failures=1), started("each[a]"), failed("each[a]"))
    assert decide(state, 0.0, FOUR).starts == ("each[b]", "each[c]")
    assert not state.failures
    then(state, started("each[b]"), failed("each[b]"))
    assert [failure.step for failure in state.failures] == ["each[b]"]
    assert set(drop(state, FOUR)) == {"each", "each[c]", "after"}
    assert decide(state, 0.0, FOUR).verdict is JobStatus.FAILED


def test_a_group_that_is_not_gathered_has_failed_if_its_items_have():
    state = begun(opened("a", "b"), started("each[a]"), failed("each[a]"))
    assert drop(state, FOUR) == {
        "each": "1 of 2 items failed (max_failures is 0)",
        "each[b]": "the job stopped when each[a] failed",
        "after": "it needs each, which failed",
    }


def test_an_attempt_that_was_cut_off_is_counted_when_its_group_is_expanded_again():
    state = begun(opened("a", "b"), started("each[a]", attempt=1))
    then(state, ev.JobResumed(data=ev.Started(steps=GROUP)), interrupted("each[a]"))
    assert "each[a]" not in state.steps
    then(state, reused("list"), opened("a", "b"))
    step = state.steps["each[a]"]
    assert (step.attempt, step.interrupted, step.status) == (1, 1, StepStatus.PENDING)


def test_a_step_that_left_the_spec_while_it_ran_does_not_keep_the_job_open():
    state = given(
        ev.JobStarted(data=ev.Started(steps=(ev.StepDecl(id="old", kind="t"),))), started("old")
    )
    then(state, job_resumed({"new": ()}), interrupted("old"), started("new"), succeeded("new"))
    assert decide(state, 0.0, FOUR).verdict is JobStatus.SUCCEEDED


def test_an_item_keeps_its_success_when_others_come_and_go():
    state = begun(opened("a", "b"), started("each[a]"), succeeded("each[a]", key="k"))
    then(state, ev.JobResumed(data=ev.Started(steps=GROUP)), reused("list"))
    assert reusable(state, "after", "k") is None  # not before it is known who is left
    then(state, opened("c", "a"))
    assert reusable(state, "each[a]", "k").step == "each[a]"
    then(state, ev.JobResumed(data=ev.Started(steps=GROUP)), reused("list"), opened("c"))
    assert reusable(state, "each[c]", "k").step == "each[a]"  # its key is the same: a new name


# --- the runner -------------------------------------------------------------------------------


class Fans(Script):
    """A script whose step `each` runs for these items."""

    def __init__(self, items, acts=None, **limits):
        super().__init__(acts)
        self.items, self.limits = items, limits

    def expand(self, name, state):
        if isinstance(self.items, Exception):
            raise self.items
        return Expansion(items=tuple(self.items), **self.limits)

    def gather(self, name, state):
        fan = state.fans[name]
        if fan.failed > fan.max_failures:
            raise StepError("too many", kind="items")
        found = [state.steps[instance(name, item)].success for item in fan.items]
        return Result(output=[success.output if success else None for success in found])


def run(script, **options):
    return Rig(GROUP, script, **options).run()


def test_results_are_in_the_order_of_the_items():
    rig = run(Fans("ab", {"each[a]": takes(2, "A"), "each[b]": takes(1, "B")}))
    assert rig.state.status is JobStatus.SUCCEEDED
    assert rig.state.steps["each"].success.output == ["A", "B"]
    assert rig.script.calls == {"list": 1, "each[a]": 1, "each[b]": 1, "after": 1}


def test_instances_are_tried_again_by_themselves():
    from orchestrator.retry import RetryPolicy

    script = Fans("ab", {"each[a]": [fails("network"), "A"]})
    script.retries = {"each[a]": RetryPolicy(max_attempts=2)}
    assert run(script).script.calls["each[a]"] == 2


def test_a_job_that_goes_on_runs_only_the_items_that_did_not_succeed():
    log = Log()
    first = run(Fans("abc", {"each[b]": fails("exception")}), log=log, keep_going=True)
    assert first.state.status is JobStatus.FAILED
    second = run(Fans("abc"), log=log)
    assert second.state.status is JobStatus.SUCCEEDED
    assert second.script.calls == {"each[b]": 1, "after": 1}


def test_a_finished_group_is_taken_over_as_a_whole():
    log = Log()
    run(Fans("ab"), log=log)
    again = run(Fans("ab"), log=log)
    assert not again.script.calls
    assert "skipped each" in log.told()
    assert not [e for e in log.events(ev.StepSucceeded)[4:] if e.step == "each"]


def test_a_failure_within_the_limit_leaves_a_null():
    rig = run(Fans("ab", {"each[a]": fails("exception")}, max_failures=1))
    assert rig.state.status is JobStatus.SUCCEEDED
    assert rig.state.steps["each"].success.output == [None, "each[b]"]


def test_items_that_cannot_be_had_fail_the_group():
    rig = run(Fans(StepError("no list", kind="template")))
    assert rig.state.status is JobStatus.FAILED
    assert rig.state.failures[0].step == "each"


def test_two_thousand_items_run_as_many_at_once_as_the_job_says():
    script = Fans([f"n{i}" for i in range(2000)], {f"each[n{i}]": takes(1, i) for i in range(2000)})
    rig = run(script, concurrency=50)
    assert rig.state.status is JobStatus.SUCCEEDED
    assert rig.script.most_at_once == 50
    assert rig.took_s == 40


def test_a_long_list_of_items_goes_to_a_blob_and_comes_back(tmp_path):
    from orchestrator.blobs import BlobStore
    from orchestrator.history import _resolve

    blobs = BlobStore(str(tmp_path / "artifacts"))
    names = tuple(f"item-{number}" for number in range(5000))
    written = as_written(blobs)(ev.StepExpanded(step="each", data=ev.Expanded(items=names)))
    assert isinstance(written.data.items, ev.BlobRef)
    record = Record(seq=0, ts="", event=written, offset=0)
    assert _resolve(record, "items", str, blobs).event.data.items == names


def test_every_prefix_of_a_group_s_log_goes_on_to_the_same_end():
    whole = Log()
    run(Fans("abc", {"each[a]": takes(2, "A")}), log=whole, concurrency=2)
    wanted = state_of(whole).steps["each"].success.output
    events = whole.events()
    for cut in range(len(events)):
        log = Log()
        for event in events[:cut]:
            if not isinstance(event, ev.LogOpened):
                log.append(event)
        succeeded_before = {e.step for e in log.events(ev.StepSucceeded)}
        rig = run(Fans("abc", {"each[a]": takes(2, "A")}), log=log)
        assert rig.state.status is JobStatus.SUCCEEDED
        assert rig.state.steps["each"].success.output == wanted
        assert not succeeded_before & rig.script.calls.keys()
