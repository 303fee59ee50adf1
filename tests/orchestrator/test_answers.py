"""What people ask of a job: recorded once, for what they were shown, or refused with a reason."""

import pytest
from given import given, job_started, started, succeeded, then

from orchestrator import events as ev
from orchestrator.answers import Refused, Request, answer
from orchestrator.decisions import Shown
from orchestrator.plan import Policy, decide
from orchestrator.state import JobStatus, StepStatus

STEPS = {"draft": (), "review": ("draft",), "publish": ("review",), "other": ()}


def shows(step="review", key="k1"):
    return ev.StepWaiting(step=step, data=Shown(key=key, message="Publish?"))


def asking():
    return given(job_started(STEPS), started("draft"), succeeded("draft"), shows())


def kept(output, encoded):
    return output


def request(kind, **members):
    return Request(id="r1", kind=kind, by="ann", **members)


def answered(state, asked, *, live=True):
    return then(state, *answer(state, asked, kept, live=live))


def test_other_branches_go_on_while_a_step_waits():
    state = asking()
    plan = decide(state, 0.0, Policy())
    assert plan.starts == ("other",)
    assert plan.verdict is None


def test_the_leg_ends_when_nothing_but_an_approval_is_missing():
    state = then(asking(), started("other"), succeeded("other"))
    assert decide(state, 0.0, Policy()).verdict is JobStatus.WAITING


def test_an_approval_lets_what_follows_start():
    state = answered(asking(), request("approve", step="review", key="k1", note="fine"))
    assert state.steps["review"].status is StepStatus.SUCCEEDED
    output = {"approved": True, "by": "ann", "note": "fine"}
    assert state.steps["review"].success.output == output
    assert state.steps["review"].success.key == "k1"
    assert "publish" in state.ready
    assert not state.asking


def test_a_rejection_fails_the_step():
    state = answered(asking(), request("reject", step="review", key="k1", note="too long"))
    assert state.steps["review"].status is StepStatus.FAILED
    assert [f.message for f in state.failures] == ["rejected by ann: too long"]
    assert state.failures[0].kind == "rejected"


def test_an_approval_of_what_is_no_longer_shown_is_refused():
    with pytest.raises(Refused, match="has changed since"):
        answer(asking(), request("approve", step="review", key="k0"), kept, live=True)


@pytest.mark.parametrize("step", ["publish", "draft", "nowhere"])
def test_a_step_that_does_not_ask_can_not_be_approved(step):
    with pytest.raises(Refused, match="does not wait for an approval"):
        answer(asking(), request("approve", step=step, key="k1"), kept, live=True)


def test_a_result_made_by_hand_is_used_by_what_follows():
    state = answered(asking(), request("set", step="review", note="agreed", output=[1]))
    made = state.steps["review"]
    assert (made.status, made.success.output, made.success.by) == ("succeeded", [1], "ann")
    assert made.reason == "set by ann: agreed"
    assert "publish" in state.ready


def test_a_result_made_by_hand_takes_a_failure_back():
    state = given(job_started(STEPS), started("draft"))
    fault = ev.StepFault(kind="exit", message="no")
    state = then(state, ev.StepFailed(step="draft", data=fault))
    state = answered(state, request("set", step="draft", note="by hand", output=1), live=False)
    assert state.failures == []
    assert state.steps["draft"].success.output == 1


@pytest.mark.parametrize(
    ("step", "why"), [("other", "is running"), ("draft", "has ended"), ("nowhere", "no step")]
)
def test_a_running_leg_takes_no_result_for_a_step_that_has_one_under_way(step, why):
    state = then(asking(), started("other"))
    with pytest.raises(Refused, match=why):
        answer(state, request("set", step=step, note="x", output=1), kept, live=True)


def test_a_result_that_is_no_json_is_refused():
    asked = request("set", step="review", note="x", output=float("nan"))
    with pytest.raises(Refused, match="no JSON"):
        answer(asking(), asked, kept, live=True)


def test_a_cancellation_of_a_job_that_nobody_holds_tells_what_was_cut_off():
    state = then(asking(), started("other", attempt=1))
    events = answer(state, request("cancel"), kept, live=False)
    tags = [type(event).__struct_config__.tag for event in events]
    assert tags == ["step.interrupted", "job.cancelled"]
    state = then(state, *events)
    assert (state.status, state.finished) == (JobStatus.CANCELLED, True)
    assert state.requests == {"r1"}
    with pytest.raises(Refused, match="ended already: cancelled"):
        answer(state, request("cancel"), kept, live=False)


def test_an_attempt_in_a_job_that_died_was_cut_off_by_a_crash_whoever_records_it():
    state = then(asking(), started("other", attempt=1))
    before_s = state.open_leg_s
    state = then(state, *answer(state, request("cancel"), kept, live=False))
    assert (state.steps["other"].crashes, state.steps["other"].interrupted) == (1, 1)
    # It died when nobody looked: the time until somebody cancelled it was no work of its leg.
    assert state.totals.legs_s == before_s > 0


def test_a_pause_is_no_time_of_a_leg():
    state = then(asking(), ev.JobWaiting(data=ev.Ended(duration_s=2.0)))
    state = then(state, *answer(state, request("cancel"), kept, live=False))
    assert state.totals.legs_s == 2.0


def test_every_recorded_request_leaves_its_id():
    for asked in (
        request("approve", step="review", key="k1"),
        request("reject", step="review", key="k1"),
        request("set", step="review", note="x", output=1),
        request("cancel"),
    ):
        assert answered(asking(), asked, live=False).requests == {"r1"}
