"""What SQL says of jobs and what the fold says are two ways to the same answer."""

import shutil
from pathlib import Path

import pytest

from orchestrator import EventEmitter
from userkit import User

DATA = Path(__file__).parent / "data"
OLD = sorted(path.name for path in DATA.iterdir() if (path / "events.jsonl").is_file())
DONE = ("succeeded", "reused")


def both(user, job):
    """Return the job as `show` folds it, and as the views tell it."""
    shown = user.orch("show", job, "--json").json
    (row,) = user.orch("events", "query", "from jobs", job, "--json").json["rows"]
    steps = user.orch("events", "query", "from steps", job, "--json").json["rows"]
    return shown, row, {step["step"]: step for step in steps}


@pytest.mark.parametrize("name", OLD)
def test_views_and_fold_agree_on_old_logs(tmp_path, name):
    user = User(tmp_path)
    folder = tmp_path / "runs" / "job_old"
    folder.mkdir(parents=True)
    shutil.copy(DATA / name / "events.jsonl", folder)
    shown, row, steps = both(user, "job_old")
    assert row["status"] == shown["status"]
    assert row["duration_s"] == pytest.approx(shown["duration_s"])
    assert sorted(steps) == sorted(step["step"] for step in shown["steps"])
    for step in shown["steps"]:
        assert steps[step["step"]]["attempts"] == step["attempts"]
        assert (steps[step["step"]]["status"] == "succeeded") == (step["status"] in DONE)


def test_views_and_fold_agree_on_a_job_that_was_resumed(tmp_path):
    user = User(tmp_path)
    spec = "project: p\nsteps:\n  a: {run: echo 1}\n  b: {needs: a, run: test -e go}\n"
    user.write("job.yaml", spec)
    user.orch("run", "job.yaml", code=1)
    user.write("go", "")
    user.orch("run", "job.yaml", "--resume")
    shown, row, steps = both(user, "latest")
    assert (row["status"], row["legs"]) == (shown["status"], shown["legs"]) == ("succeeded", 2)
    assert row["duration_s"] == pytest.approx(shown["duration_s"])
    assert {name: step["attempts"] for name, step in steps.items()} == {"a": 1, "b": 2}


def test_views_and_fold_agree_where_only_some_lines_name_the_job(tmp_path):
    user = User(tmp_path)
    user.write(
        "runs/job_old/events.jsonl",
        """
        {"ts": "2025-10-22T10:00:00Z", "type": "job.started", "job_id": "job_old"}
        {"ts": "2025-10-22T10:00:01Z", "type": "step.started", "step": "a"}
        {"ts": "2025-10-22T10:00:02Z", "type": "step.succeeded", "step": "a", "duration_s": 1.0}
        {"ts": "2025-10-22T10:00:03Z", "type": "job.succeeded", "duration_s": 3.0}
        """,
    )
    for target in ("job_old", "runs", "runs/job_old/events.jsonl"):
        shown, row, steps = both(user, "job_old")
        assert row["status"] == shown["status"] == "succeeded"
        assert list(steps) == ["a"]
        rows = user.orch("events", "query", "select distinct job_id from events", target, "--json")
        assert rows.json["rows"] == [{"job_id": "job_old"}]


def test_a_job_is_running_for_sql_while_its_lock_is_held(tmp_path):
    user = User(tmp_path)
    with EventEmitter(tmp_path / "runs" / "job_1" / "events.jsonl", "job_1") as emitter:
        emitter.job_started(project="p")
        _, row, _ = both(user, "job_1")
        assert row["status"] == user.orch("show", "job_1", "--json").json["status"] == "running"
    shown, row, _ = both(user, "job_1")
    assert row["status"] == shown["status"] == "interrupted"


GROUPS = {
    "waiting": ("approve: {message: Yes?}", 75),
    "failed": ("run: test $ORCH_ITEM != b", 1),
    "succeeded": ("run: 'true'", 0),
}


@pytest.mark.parametrize("status", GROUPS)
def test_views_and_fold_agree_on_what_a_group_of_items_is(tmp_path, status):
    what, code = GROUPS[status]
    user = User(tmp_path)
    user.write("job.yaml", f"project: p\nsteps:\n  all:\n    for_each: [a, b]\n    {what}\n")
    user.orch("run", "job.yaml", code=code)
    (shown, *_), query = user.orch("show", "latest", "--json").json["steps"], "from steps"
    rows = user.orch("events", "query", query, "latest", "--json").json["rows"]
    (told,) = [row for row in rows if row["item"] is None]
    assert shown["status"] == told["status"] == status
