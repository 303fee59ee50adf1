"""Approvals, cancellations and hand-made results, as their users type them."""

import os
import pwd
import signal

import pytest

from orchestrator.testing import serve
from userkit import User, alive, ended, events, types, until

ME = pwd.getpwuid(os.getuid()).pw_name
GATE = """
    project: gate
    steps:
      draft: {run: "cat draft.txt", files: [draft.txt]}
      review:
        needs: draft
        approve: {message: "Publish this? {{ steps.draft.output.text }}"}
      publish:
        needs: review
        run: echo "published, says $WHO"
        env: {WHO: "{{ steps.review.output.by }}"}
"""


def gate(folder, text="one"):
    user = User(folder)
    user.write("job.yaml", GATE)
    user.write("draft.txt", text)
    return user


def output(user, step):
    return user.orch("show", "latest", step, "--json").json["output"]


def status(user):
    return user.orch("list", "--json").json["rows"][0]["status"]


def test_an_approval_pauses_the_job_survives_the_process_and_is_recorded(tmp_path):
    user = gate(tmp_path)
    done = user.orch("run", "job.yaml", code=75)
    job = user.job().name
    assert done.out == f"Job: {job}, Status: waiting\n"
    assert "error:" not in done.err
    assert "step review asks:\nPublish this? one\n" in done.err
    assert f"next: orch approve {job} review" in done.err
    assert types(user.job())[-2:] == ["step.waiting", "job.waiting"]
    assert status(user) == "waiting"
    shown = user.orch("show", "latest").out
    assert "waiting: step review asks:\nPublish this? one" in shown

    said = user.orch("approve", job, "review", "--note", "read twice")
    assert said.out == f"Job: {job}, Step: review, approved by {ME}\n"
    assert f"go on: orch resume {job}" in said.err
    (approved,) = events(user.job(), "step.approved")
    assert (approved["data"]["by"], approved["data"]["note"]) == (ME, "read twice")
    assert approved["data"]["key"] == events(user.job(), "step.waiting")[0]["data"]["key"]
    assert status(user) == "interrupted"

    user.orch("resume", job)
    assert output(user, "publish")["text"] == f"published, says {ME}"
    assert [e["step"] for e in events(user.job(), "step.started")] == ["draft", "publish"]
    assert status(user) == "succeeded"


def test_a_rejection_fails_the_job_and_the_next_leg_asks_again(tmp_path):
    user = gate(tmp_path)
    user.orch("run", "job.yaml", code=75)
    user.orch("approve", "latest", "--reject", "--note", "too long")
    shown = user.orch("show", "latest", "--json").json
    assert shown["failures"][0]["message"] == f"rejected by {ME}: too long"
    assert f"rejected by {ME}: too long" in user.orch("resume", "latest", code=1).err
    user.orch("resume", "latest", code=75)
    user.orch("approve", "latest")
    assert user.orch("resume", "latest").code == 0


CROWD = """
    project: crowd
    steps:
      each: {for_each: [a, b], approve: {message: "{{ item }}?"}}
      undo: {needs: each, if: failed(), run: echo undone}
      end: {finally: true, run: echo end}
"""


def test_a_rejection_is_seen_by_what_looks_at_failures_and_by_what_is_final(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", CROWD)
    asked = user.orch("run", "job.yaml", code=75)
    assert f"next: orch approve {user.job().name} 'each[a]'" in asked.err
    user.orch("approve", "latest", "each[a]", "--reject")
    planned = user.orch("plan", "job.yaml", "--resume", "--json").json["steps"]
    assert {row["step"]: row["action"] for row in planned}["each[a]"] == "fails"
    user.orch("resume", "latest", code=1)
    assert [e["step"] for e in events(user.job(), "step.started")] == ["undo", "end"]
    user.orch("resume", "latest", code=75)
    for step in ("each[a]", "each[b]"):
        user.orch("approve", "latest", step)
    user.orch("resume", "latest")
    asked = "select item, status, message, skipped from steps where item is not null"
    rows = user.orch("events", "query", asked, "--json").json["rows"]
    assert [(row["status"], row["message"]) for row in rows] == [("succeeded", None)] * 2


def test_an_approval_lapses_when_what_was_shown_has_changed(tmp_path):
    user = gate(tmp_path)
    user.orch("run", "job.yaml", code=75)
    user.orch("approve", "latest")
    user.write("draft.txt", "two")
    done = user.orch("run", "job.yaml", "--resume", code=75)
    assert "Publish this? two" in done.err
    lapsed = "its approval has lapsed: what was shown has changed"
    assert f"again   review  {lapsed}" in done.err
    (told,) = events(user.job(), "step.invalidated")
    assert (told["step"], told["data"]["reason"]) == ("review", lapsed)
    assert not events(user.job(), step="publish")
    user.write("draft.txt", "one")  # an approval that has lapsed does not come back
    user.orch("run", "job.yaml", "--resume", code=75)
    assert not events(user.job(), step="publish")


def test_a_fork_takes_over_an_approval_for_what_was_shown_and_no_other(tmp_path):
    user = gate(tmp_path)
    user.orch("run", "job.yaml", code=75)
    user.orch("approve", "latest")
    user.orch("resume", "latest")
    user.orch("fork", "latest")
    assert not events(user.jobs()[-1], "step.waiting")
    user.write("draft.txt", "two")
    done = user.orch("fork", "latest", "--spec", "job.yaml", code=75)
    assert "Publish this? two" in done.err
    assert events(user.jobs()[-1], "step.invalidated", "review")


def test_what_waits_for_nobody_can_not_be_approved(tmp_path):
    user = gate(tmp_path)
    user.orch("run", "job.yaml", code=75)
    before = (user.job() / "events.jsonl").read_bytes()
    done = user.orch("approve", "latest", "draft", code=2)
    assert "step 'draft' of job" in done.err
    assert "waiting are: review" in done.err
    assert (user.job() / "events.jsonl").read_bytes() == before
    assert os.listdir(user.job() / "inbox") == []


SLOW = """
    project: slow
    steps:
      slow:
        run: |
          touch begun
          while ! test -e go_on; do sleep 0.02; done
          echo slow
      review: {approve: {message: "Now?"}}
      after: {needs: review, run: "touch approved; echo $$"}
      hand: {needs: slow, run: "exit 9"}
      last: {needs: hand, run: 'echo "got $IT"', env: {IT: "{{ steps.hand.output.text }}"}}
"""


@pytest.fixture
def running(tmp_path, request):
    user = User(tmp_path)
    record = getattr(request, "param", "full")
    user.write("job.yaml", SLOW.replace("project: slow", f"project: slow\n    record: {record}"))
    process = user.start("run", "job.yaml")
    until((tmp_path / "begun").exists, "the step", process)
    yield user, process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("running", ["full", "hashes"], indirect=True)
def test_a_running_job_is_approved_through_its_inbox_and_goes_on_at_once(running):
    user, process = running
    user.orch("approve", "latest", "review")
    until((user.home / "approved").exists, "what follows the approval", process)
    assert process.poll() is None
    assert os.listdir(user.job() / "inbox") == []
    user.orch("step", "set", "latest", "hand", "-o", "job.yaml", "--reason", "by hand")
    (user.home / "go_on").touch()
    assert ended(process).code == 0
    assert output(user, "last")["text"].startswith("got project: slow")
    assert len(events(user.job(), "log.opened")) == 1


def test_a_job_is_cancelled_from_another_terminal(running):
    user, process = running
    done = user.orch("cancel", "latest")
    assert done.out == f"Job: {user.job().name}, Status: cancelled\n"
    assert ended(process).code == 143
    end = events(user.job())[-1]
    assert (end["type"], end["data"]["by"]) == ("job.cancelled", ME)
    assert len(events(user.job(), "log.opened")) == 1
    (user.home / "go_on").touch()
    user.orch("resume", "latest", code=1)
    assert [e["step"] for e in events(user.job(), "step.interrupted")] == ["slow"]


def test_a_job_that_waits_is_cancelled_without_a_process(tmp_path):
    user = gate(tmp_path)
    user.orch("run", "job.yaml", code=75)
    user.orch("cancel", "latest")
    assert events(user.job())[-1]["data"]["reason"] == f"cancelled by {ME}"
    assert status(user) == "cancelled"
    user.orch("resume", "latest", code=75)


def test_a_request_dropped_for_a_job_that_dies_is_recorded_once_by_the_next_leg(running):
    user, process = running
    os.kill(process.pid, signal.SIGSTOP)  # the holder will never look again
    asking = user.start("approve", "latest", "review")
    until(lambda: list((user.job() / "inbox").glob("*.json")), "the request", asking)
    os.kill(asking.pid, signal.SIGKILL)
    asking.communicate()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not events(user.job(), "step.approved")
    (user.home / "go_on").touch()
    user.orch("resume", "latest", code=1)
    assert len(events(user.job(), "step.approved")) == 1
    assert (user.home / "approved").exists()
    assert os.listdir(user.job() / "inbox") == []


def test_a_finished_job_can_not_be_cancelled(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", "project: p\nsteps: {a: {run: echo 1}}\n")
    user.orch("run", "job.yaml")
    done = user.orch("cancel", "latest", code=2)
    assert "can't cancel: the job has ended already: succeeded" in done.err
    assert types(user.job())[-1] in ("job.succeeded", "log.opened")
    assert status(user) == "succeeded"


def test_a_result_by_hand_stands_until_the_step_is_changed_no_more(tmp_path):
    user = User(tmp_path)
    user.write(
        "job.yaml",
        """
        project: hand
        steps:
          a: {run: exit 3}
          b: {needs: a, run: 'echo "$IT"', env: {IT: "{{ steps.a.output.text }}"}}
        """,
    )
    user.orch("run", "job.yaml", code=1)
    user.write("a.txt", "made by hand\n")
    user.orch("step", "set", "latest", "a", "--output", "a.txt", "--reason", "the disk was full")
    shown = user.orch("show", "latest").out
    assert f"set by {ME}: the disk was full" in shown
    user.orch("resume", "latest")
    assert output(user, "b")["text"] == "made by hand"
    (made,) = events(user.job(), "step.set")
    assert made["data"]["by"] == ME
    assert len(events(user.job(), "step.started", "a")) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nothing", "-o", "job.yaml", "--reason", "x"], "has no step 'nothing'"),
        (["a", "-o", "gone.json", "--reason", "x"], "no such file"),
        (["a", "-o", "job.yaml", "--reason", " "], "needs a reason"),
        (["p", "-o", "job.yaml", "--reason", "x"], "is no JSON"),
        (["ask", "-o", "job.yaml", "--reason", "x"], "orch approve"),
        (["each", "-o", "job.yaml", "--reason", "x"], "set an item's: each[u], each[v]"),
    ],
)
def test_a_bad_result_by_hand_changes_nothing(tmp_path, args, said):
    user = User(tmp_path)
    user.write("m.py", "def f():\n    return 1\n")
    user.write(
        "job.yaml",
        "project: p\nsteps:\n  a: {run: exit 1}\n  p: {python: m:f}\n"
        "  ask: {approve: {message: m}}\n  each: {for_each: [u, v], run: 'true'}\n",
    )
    user.orch("run", "job.yaml", "--keep-going", code=75)
    before = (user.job() / "events.jsonl").read_bytes()
    assert said in user.orch("step", "set", "latest", *args, code=2).err
    assert (user.job() / "events.jsonl").read_bytes() == before


def test_a_call_that_is_waited_for_is_dropped_when_the_job_is_cancelled(tmp_path):
    with serve() as server:
        server.fail(kind="hang")
        user = User(tmp_path, **server.environ())
        user.write(
            "job.yaml",
            "project: m\nprovider: ollama\nmodel: t\nsteps: {a: {llm: {prompt: hello}}}\n",
        )
        process = user.start("run", "job.yaml")
        until(server.calls, "the call", process)
        user.orch("cancel", "latest")
        assert ended(process).code == 143
        assert types(user.job())[-2:] == ["step.interrupted", "job.cancelled"]
        assert not alive(process.pid)
