"""Jobs of version 1, migrated: every answer stays the same, and they go on where they stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import Lock
from eventlog.migrate import migrate
from orchestrator import events as ev
from orchestrator.ask import VIEWS, database
from orchestrator.blobs import BlobStore
from orchestrator.history import fold_job
from userkit import User, events

DATA = Path(__file__).parent / "data"
LOGS = sorted(DATA.glob("*/events.jsonl"))


def folded(path):
    """Return all that the fold says of a job."""
    state = fold_job(str(path), BlobStore(str(path.parent / "artifacts")))
    return {name: msgspec.to_builtins(getattr(state, name)) for name in FIELDS}


FIELDS = (
    *("status", "started", "started_at", "finished_at", "leg_started_at", "last_ts", "legs"),
    *("seq", "steps", "running", "ready", "open_steps", "past", "former", "cut_off", "files"),
    *("failures", "totals", "unknown", "published"),
)


@pytest.mark.parametrize("source", LOGS, ids=lambda path: path.parent.name)
def test_the_state_of_each_old_job_is_the_same_before_and_after(tmp_path, source):
    path = tmp_path / "events.jsonl"
    shutil.copyfile(source, path)
    before = folded(path)
    migrate(path)
    assert folded(path) == before


def test_sql_says_the_same_of_old_logs_before_and_after(tmp_path):
    for source in LOGS:
        (tmp_path / source.parent.name).mkdir()
        shutil.copyfile(source, tmp_path / source.parent.name / "events.jsonl")

    def answers():
        with database([str(tmp_path)]) as found:
            return {
                name: sorted(map(repr, found.query(f"select * from {name}").rows)) for name in VIEWS
            } | {
                "events": found.query(
                    "select job_id, seq, ts, level, type, step, data from events order by all"
                ).rows
            }

    before = answers()
    for source in LOGS:
        migrate(tmp_path / source.parent.name / "events.jsonl")
    assert answers() == before


# --- generated jobs ---------------------------------------------------------------------------

TAGS = [str(kind.__struct_config__.tag) for kind in get_args(ev.AnyJobEvent)]
JOB_TAGS = [tag for tag in TAGS if not tag.startswith("log.")]
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "project": st.sampled_from(["p", 3]),
        "steps": st.sampled_from([["a", "b"], [{"id": "a", "kind": "run"}], 7]),
        "attempt": st.integers(0, 3),
        "kind": st.sampled_from(["llm", "timeout"]),
        "duration_s": st.sampled_from([0, 1.5, 2, "long"]),
        "output": st.sampled_from([None, "text", {"a": [1.0]}, "é🌱"]),
        "message": st.text(max_size=5),
        "reason": st.sampled_from(["first", "already succeeded"]),
        "from_step": st.sampled_from(["a", "b"]),
        "tokens_in": st.integers(0, 9),
        "success": st.booleans(),
        "path": st.just("main.py"),
        "sha256": st.just("aa"),
        "x_mine": st.sampled_from([{"timestamp": "x"}, [None], 1e2]),
    },
)


@st.composite
def jobs(draw):
    """Return a log of lines of all versions, one event each 20 ms."""
    lines = []
    for number, (kind, data, form) in enumerate(
        draw(
            st.lists(
                st.tuples(
                    st.sampled_from([*JOB_TAGS, "their.own"]),
                    PAYLOADS,
                    st.sampled_from(["v1", "v1 flat", "v2.0", "v2.1", "blank"]),
                ),
                max_size=14,
            )
        )
    ):
        stamp = f"2025-10-22T10:00:00.{number * 20_000:06d}"
        rest = {"level": "INFO", "job_id": "job_1", "type": kind}
        if not kind.startswith("job."):
            rest["step"] = draw(st.sampled_from(["a", "b"]))
        key = {"v1": "timestamp", "v1 flat": "timestamp"}.get(form, "ts")
        zone = "" if key == "timestamp" else "Z"
        members = {key: stamp + zone, **rest}
        members |= data if form in ("v1 flat", "v2.0") else {"data": data}
        separators = (", ", ": ") if draw(st.booleans()) else (",", ":")
        lines.append("" if form == "blank" else json.dumps(members, separators=separators))
    torn = draw(st.sampled_from(["", '{"ts":"2025-']))
    return "".join(line + "\n" for line in lines) + torn


@settings(max_examples=50, deadline=None)
@given(text=jobs())
def test_the_state_of_any_job_is_the_same_before_and_after(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("job") / "events.jsonl"
    path.write_text(text)
    before = folded(path)
    assert migrate(path).left == 0
    assert folded(path) == before


# --- going on with a job that version 1 began -------------------------------------------------

JOB = """
project: four
steps:
  one: {run: "echo one >> ran.txt; echo 1"}
  two: {needs: [one], run: "echo two >> ran.txt; echo 2"}
  three:
    needs: [one, two]
    env: {GOT: "{{ steps.one.output.text }}, {{ steps.two.output.text }}"}
    run: "echo three >> ran.txt; echo got $GOT"
"""


def v1(kind, step, second, **data):
    return json.dumps(
        {
            "timestamp": f"2025-10-22T10:00:{second:02d}",
            "level": "INFO",
            "job_id": "job_old1",
            "type": kind,
            "step": step,
            "data": data,
        }
    )


def half_done(user, **two):
    """Make the folder of a job of version 1 whose third step was cut off."""
    (user.home / "job.yaml").write_text(JOB)
    path = user.home / "runs" / "job_old1" / "events.jsonl"
    path.parent.mkdir(parents=True)
    lines = [
        v1("job.started", None, 0, project="four"),
        v1("step.started", "one", 1),
        v1("step.succeeded", "one", 2, output="from v1"),
        v1("step.started", "two", 3),
        v1("step.succeeded", "two", 4, **two),
        v1("step.started", "three", 5),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("is_migrated", [True, False])
def test_a_job_that_version_1_began_goes_on_and_runs_no_recorded_step_again(tmp_path, is_migrated):
    user = User(tmp_path)
    path = half_done(user, output={"text": "two of v1"})
    if is_migrated:
        user.orch("migrate-events", "runs")
    user.orch("run", "job.yaml", "--resume")
    assert (user.home / "ran.txt").read_text() == "three\n"
    done = {line["step"]: line for line in events(path.parent) if line["type"] == "step.skipped"}
    assert {name: line["data"]["from_seq"] for name, line in done.items()} == {"one": 2, "two": 4}
    shown = user.orch("show", "job_old1", "three", "--json").json
    assert "got from v1, two of v1" in json.dumps(shown)
    again = user.orch("run", "job.yaml", "--resume")
    assert (user.home / "ran.txt").read_text() == "three\n"
    assert again.code == 0
    user.orch("events", "verify", "runs")


def test_a_step_whose_output_version_1_did_not_record_runs_again(tmp_path):
    user = User(tmp_path)
    half_done(user)
    user.orch("migrate-events", "runs")
    user.orch("run", "job.yaml", "--resume")
    assert (user.home / "ran.txt").read_text() == "two\nthree\n"


def test_a_job_that_is_running_is_not_migrated(tmp_path):
    user = User(tmp_path)
    path = half_done(user)
    before = path.read_bytes()
    with Lock(str(path.parent / ".lock"), started="now"):
        done = user.orch("migrate-events", "runs", code=5)
    assert "is writing this log" in done.err
    assert path.read_bytes() == before


def test_a_job_is_migrated_by_its_id(tmp_path):
    user = User(tmp_path)
    path = half_done(user)
    total = user.orch("migrate-events", "job_old", "--json").json["total"]
    assert (total["files"], total["migrated"], total["left"]) == (1, 6, 0)
    assert path.read_bytes().startswith(b'{"ts": "2025-10-22T10:00:00Z"')
    user.orch("migrate-events", "no_such", code=2)


def test_the_old_log_is_seen_by_no_command(tmp_path):
    user = User(tmp_path)
    half_done(user)
    user.orch("migrate-events", "runs")
    shutil.copy(
        user.home / "runs/job_old1/events.jsonl.v1", user.home / "runs/job_old1/events.jsonl.v1.v1"
    )
    counted = user.orch("events", "query", "select count(*) as n from events", "--json").json
    assert counted["rows"] == [{"n": 6}]
    assert user.orch("list", "--format", "csv").out.count("job_old1") == 1
    assert user.orch("events", "stats", "--json").json["logs"][0]["lines"] == 6
    assert user.orch("migrate-events", "runs", "--json").json["total"]["files"] == 1
