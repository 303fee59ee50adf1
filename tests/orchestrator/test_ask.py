"""What the views and the named queries say of old and new logs, with the numbers worked out."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from decimal import Decimal
from pathlib import Path

import pytest

from eventlog import Log
from eventlog.output import Format, rows_as
from eventlog.query import find_query, named_queries
from orchestrator.ask import VIEWS, database, query_folders, schemas, views

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def logs():
    with database([DATA]) as found:
        yield found


def at(text):
    return dt.datetime.fromisoformat(text)


def test_every_view_begins_with_one_sentence():
    assert sorted(name for name, _ in views()) == sorted(VIEWS)
    for _, sql in views():
        first = sql.partition("\n")[0]
        assert first.startswith("-- ")
        assert first.endswith(".")


def test_jobs_total_over_legs_and_versions(logs):
    answer = logs.query(
        "select job_id, project, status, started_at, finished_at, duration_s, legs, steps,"
        " succeeded, failed from jobs order by job_id"
    )
    assert answer.rows == [
        # v1 tells no durations: from the first stamp to the last.
        (
            *("job_a1", "tiny", "failed", at("2025-10-22T10:00:00"), at("2025-10-22T10:00:06")),
            *(6.0, 1, 2, 1, 1),
        ),
        (
            *("job_a2", "flat", "succeeded", at("2025-10-22T10:00:00"), at("2025-10-22T10:00:03")),
            *(3.0, 1, 1, 1, 0),
        ),
        (
            *("job_b1", "tiny", "succeeded", at("2025-10-23T08:00:00.000001")),
            *(at("2025-10-23T08:00:04.7"), 4.7, 1, 2, 2, 0),
        ),
        # The first leg was cut off after 6.0 s by its stamps, the second one says 0.8 s.
        (
            *("job_c1", "tiny", "succeeded", at("2025-11-01T09:00:00")),
            *(at("2025-11-01T10:00:00.8"), 6.8, 2, 2, 2, 0),
        ),
        ("job_m1", "mixed", "interrupted", at("2025-10-22T10:00:00"), None, 172_800.0, 1, 1, 1, 0),
    ]


def test_steps_total_over_attempts_and_legs(logs):
    answer = logs.query(
        "select job_id, step, status, kind, attempts, duration_s, skipped, message from steps"
        " order by job_id, step"
    )
    assert answer.rows == [
        ("job_a1", "architect", "succeeded", None, 1, 3.25, None, None),  # by its stamps
        ("job_a1", "builder", "failed", None, 1, 2.1, None, "model gone"),
        ("job_a2", "architect", "succeeded", None, 1, 1.5, None, None),
        ("job_b1", "architect", "succeeded", None, 1, 3.4, None, None),
        ("job_b1", "builder", "succeeded", None, 1, 1.0, None, None),
        # 2.1 s failed, 3.1 s succeeded; the second leg skipped it.
        ("job_c1", "architect", "succeeded", "llm", 2, 5.2, "already succeeded", None),
        ("job_c1", "builder", "succeeded", "llm", 2, 0.4, None, None),
        ("job_m1", "a", "succeeded", None, 1, 2.5, None, None),
    ]


def test_one_row_for_each_call_of_a_model(logs):
    answer = logs.query(
        "select job_id, provider, model, duration_s, success, tokens_in, tokens_out, kind,"
        " simulated from llm_calls order by job_id, seq"
    )
    assert answer.rows == [
        ("job_a1", "ollama", "llama3", 3.2, None, 120, 340, None, False),
        ("job_b1", "ollama", "llama3", 3.2, True, 100, 50, None, False),
        ("job_c1", "ollama", "llama3", 2.0, False, None, None, "timeout", False),
        ("job_c1", "ollama", "llama3", 3.0, True, 10, 20, None, False),
    ]


def test_one_row_for_each_look_into_the_cache(logs):
    answer = logs.query(
        "select step, hit, cache_key, reason, from_job, from_seq, tokens_out, saved_s from cache"
        " order by seq"
    )
    assert answer.rows == [
        ("architect", False, "k1", "first", None, None, None, None),
        ("builder", True, "k2", None, "job_b1", 3, 6, 1.25),
    ]


def test_a_file_is_what_was_written_last(logs):
    answer = logs.query(
        "select job_id, path, sha256, size_bytes, wrote, reason, step, writes from files"
        " order by job_id"
    )
    assert answer.rows == [
        ("job_a1", "main.py", "0d1e", 42, None, None, "builder", 1),
        ("job_c1", "main.py", "bb", 12, True, "overwritten", "builder", 2),
    ]


def test_copies_of_a_job_are_jobs_of_their_own(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.jsonl").write_bytes((DATA / "v2_1/events.jsonl").read_bytes())
    with database([tmp_path]) as found:
        assert found.query("select count(*), sum(steps) from jobs").rows == [(2, 4)]


def test_payloads_of_any_shape_give_nulls_and_no_errors(tmp_path):
    with Log(tmp_path / "events.jsonl", fields={"job_id": "job_1"}) as log:
        types = ["job.started", "step.started", "step.succeeded", "llm.response", "cache.hit"]
        types += ["cache.miss", "file.written", "step.skipped", "job.succeeded"]
        odd = ["text", None, [], 1.5, {}, {"duration_s": "long", "tokens_in": {}, "success": 3}]
        log.append(*({"type": kind, "step": "s", "data": data} for kind in types for data in odd))
    with database([tmp_path]) as found:
        for view in VIEWS:
            assert found.query(f"from {view}").columns


def sealed(folder, *events, job="job_1"):
    """Write a log of (type, step, data, …), a second apart; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = iter(range(1_800_000_000, 1_900_000_000))
    with Log(
        folder / "events.jsonl",
        fields={"level": "INFO", "job_id": job},
        clock=lambda: next(seconds) * 1_000_000_000,
    ) as log:
        for kind, step, data in events:
            log.append({"type": kind, **({"step": step} if step else {}), "data": data})
    return folder / "events.jsonl"


def test_a_row_for_each_leg(logs):
    answer = logs.query(
        "select job_id, leg, status, project, duration_s, attempts, succeeded, failed, skipped,"
        " first_seq, last_seq from legs order by job_id, leg"
    )
    assert answer.rows == [
        ("job_a1", 1, "failed", "tiny", 6.0, 2, 1, 1, 0, 0, 7),
        ("job_a2", 1, "succeeded", "flat", 3.0, 1, 1, 0, 0, 0, 4),
        ("job_b1", 1, "succeeded", "tiny", 4.7, 2, 2, 0, 0, 0, 7),
        # Cut off: from 09:00:00.0 to the last thing it said, at 09:00:06.0.
        ("job_c1", 1, "interrupted", "tiny", 6.0, 3, 1, 0, 0, 0, 8),
        ("job_c1", 2, "succeeded", "tiny", 0.8, 1, 1, 0, 1, 9, 17),
        ("job_m1", 1, "interrupted", "mixed", 172_800.0, 1, 1, 0, 0, 0, 2),
    ]


def test_a_row_for_each_attempt(logs):
    answer = logs.query(
        "select job_id, step, attempt, kind, status, retried, duration_s, failure, message,"
        " retry_in_s from attempts order by job_id, seq"
    )
    assert answer.rows == [
        # v1 tells no durations: 3.25 s and 2.1 s are between its stamps.
        ("job_a1", "architect", 1, None, "succeeded", False, 3.25, None, None, None),
        ("job_a1", "builder", 1, None, "failed", False, 2.1, None, "model gone", None),
        ("job_a2", "architect", 1, None, "succeeded", False, 1.5, None, None, None),
        ("job_b1", "architect", 1, None, "succeeded", False, 3.4, None, None, None),
        ("job_b1", "builder", 1, None, "succeeded", False, 1.0, None, None, None),
        ("job_c1", "architect", 1, "llm", "failed", True, 2.1, "timeout", "no answer", 0.5),
        ("job_c1", "architect", 2, "llm", "succeeded", False, 3.1, None, None, None),
        ("job_c1", "builder", 1, "llm", "interrupted", False, None, None, None, None),
        ("job_c1", "builder", 2, "llm", "succeeded", False, 0.4, None, None, None),
        ("job_m1", "a", 1, None, "succeeded", False, 2.5, None, None, None),
    ]


def test_an_attempt_that_no_line_ends_was_cut_off_by_the_next(tmp_path):
    sealed(tmp_path, ("step.started", "a", {}), ("step.started", "a", {}))
    with database([tmp_path]) as found:
        rows = found.query("select attempt, status, finished_at from attempts order by seq").rows
    assert rows == [(1, "interrupted", None), (2, "interrupted", None)]


CALL = {"provider": "openai", "model": "m", "success": True, "tokens_in": 10, "tokens_out": 5}


def test_costs_are_exact_and_unknown_is_null(tmp_path):
    sealed(
        tmp_path,
        ("llm.response", "a", CALL | {"cost_usd": "0.10"}),
        ("llm.response", "a", CALL | {"cost_usd": "0.20"}),
        ("llm.response", "a", CALL),  # its price is not known
        ("llm.response", "a", CALL | {"success": False}),  # failed: nothing to be priced
        ("llm.response", "b", CALL),
        ("llm.response", "c", CALL | {"cost_usd": "9", "simulated": True}),
        ("cache.hit", "a", {"provider": "openai", "model": "m", "saved_usd": "0.000000000001"}),
        ("cache.hit", "c", {"saved_usd": "5", "simulated": True}),
    )
    with database([tmp_path]) as found:
        rows = found.query(
            "select step, calls, failed, unpriced, hits, tokens_in, cost_usd, saved_usd from costs"
        ).rows
        total = found.query("select calls, cost_usd, saved_usd from jobs").rows
    # 0.10 + 0.20 is 0.30 to the last digit, which no float is.
    assert rows == [
        ("a", 3, 1, 1, 1, 40, Decimal("0.30"), Decimal("0.000000000001")),
        ("b", 1, 0, 1, 0, 10, None, None),
    ]
    assert total == [(6, Decimal("0.30"), Decimal("0.000000000001"))]


def test_a_job_that_waits_for_people_says_so(tmp_path):
    asked = [("job.started", "", {}), ("step.waiting", "a", {}), ("job.waiting", "", {})]
    sealed(tmp_path / "one", *asked)
    sealed(tmp_path / "two", *asked, ("step.approved", "a", {"by": "me"}), job="job_2")
    with database([tmp_path]) as found:
        jobs = found.query("select job_id, status from jobs order by job_id").rows
        steps = found.query("select job_id, status from steps order by job_id").rows
    assert jobs == [("job_1", "waiting"), ("job_2", "interrupted")]
    assert steps == [("job_1", "waiting"), ("job_2", "succeeded")]


def test_every_event_type_has_its_schema():
    found = schemas()
    assert "step.started" in found
    assert found["llm.response"]["properties"]["type"] == {"enum": ["llm.response"]}
    referred = re.findall(r"#/[$]defs/(\w+)", json.dumps(found["job.started"]))
    assert referred
    assert set(referred) <= set(found["job.started"]["$defs"])


# --- named queries ----------------------------------------------------------------------------


def test_the_guides_questions_are_there_with_a_sentence_each():
    known = named_queries(query_folders())
    assert {"cache-hit-rate", "llm-time", "log-versions"} <= set(known)
    assert all(known.values())


@pytest.mark.parametrize("name", named_queries(query_folders()))
def test_every_named_query_runs_over_old_logs_and_over_none(name, logs):
    sql = find_query(name, query_folders())
    assert logs.query(sql).columns
    with database([]) as empty:
        assert empty.query(sql).rows == []


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two jobs with something for every question: a diamond that was resumed, and a second one."""
    root = tmp_path_factory.mktemp("world")
    call = CALL | {"cache_key": "k1", "duration_s": 2.0, "cost_usd": "0.004"}
    sealed(
        root / "job_1",
        ("job.started", "", {"project": "p"}),
        ("step.started", "a", {"attempt": 1, "kind": "llm"}),
        ("cache.miss", "a", {"cache_key": "k1", "provider": "openai", "model": "m"}),
        ("llm.response", "a", call),
        ("step.succeeded", "a", {"attempt": 1, "duration_s": 2.5}),
        ("step.started", "b", {"attempt": 1, "kind": "run", "needs": ["a"]}),
        ("step.started", "c", {"attempt": 1, "kind": "run", "needs": ["a"]}),
        ("step.succeeded", "b", {"attempt": 1, "duration_s": 2.0}),
        (
            "step.retrying",
            "c",
            {"kind": "timeout", "message": "slow", "duration_s": 2.0, "retry_in_s": 0.5},
        ),
        ("step.started", "c", {"attempt": 2, "kind": "run", "needs": ["a"]}),
        ("job.resumed", "", {"project": "p"}),
        ("step.interrupted", "c", {"attempt": 2}),
        ("step.skipped", "a", {"reason": "already succeeded", "from_step": "a", "from_seq": 5}),
        ("step.skipped", "b", {"reason": "already succeeded", "from_step": "b", "from_seq": 8}),
        ("step.started", "c", {"attempt": 3, "kind": "run", "needs": ["a"]}),
        ("step.succeeded", "c", {"attempt": 3, "duration_s": 1.0}),
        ("step.started", "d", {"attempt": 1, "kind": "llm", "needs": ["b", "c"]}),
        ("step.succeeded", "d", {"attempt": 1, "duration_s": 1.5}),
        ("job.succeeded", "", {"duration_s": 8.0}),
    )
    sealed(
        root / "job_2",
        ("job.started", "", {"project": "p"}),
        ("step.started", "a", {"attempt": 1, "kind": "llm"}),
        (
            "cache.hit",
            "a",
            {
                "cache_key": "k0",
                "provider": "openai",
                "model": "m",
                "saved_s": 3.0,
                "saved_usd": "0.01",
            },
        ),
        ("llm.response", "a", call | {"duration_s": 4.0}),
        (
            "step.failed",
            "a",
            {"attempt": 1, "kind": "invalid_output", "message": "no JSON", "duration_s": 4.5},
        ),
        ("job.failed", "", {"duration_s": 5.0}),
        job="job_2",
    )
    with database([root]) as found:
        yield root, found


@pytest.mark.parametrize("name", named_queries(query_folders()))
def test_every_named_query_answers_as_it_did(name, world, snapshot):
    root, found = world
    answer = found.query(find_query(name, query_folders()))
    rows = [
        [text.replace(f"{root}/", "") if isinstance(text, str) else text for text in row]
        for row in answer.rows
    ]
    rows = [
        [
            value if "bytes" not in column else "…"
            for column, value in zip(answer.columns, row, strict=True)
        ]
        for row in rows
    ]
    assert "\n" + rows_as(Format.TABLE, answer.columns, rows) == snapshot


def test_the_critical_path_of_a_diamond(world):
    # d waited for c, not for b: c's last attempt was done at 16 s, b at 8 s. c needed a.
    rows = (
        world[1]
        .query(
            "select step, waited_s, duration_s from"
            f" ({find_query('critical-path', query_folders())}) where job_id = 'job_1'"
        )
        .rows
    )
    # c's attempt began 10 s after a was done, d's 1 s after c was.
    assert rows == [("a", None, 2.5), ("c", 10.0, 1.0), ("d", 1.0, 1.5)]


def test_what_a_resume_saved(world):
    # a (2.5 s, one call of 0.004 dollars) and b (2.0 s) were not run again.
    rows = world[1].query(find_query("resume-savings", query_folders())).rows
    assert rows == [("job_1", 2, 2, 4.5, 1, 10, 5, Decimal("0.004"))]


def test_what_a_cache_could_have_caught(world):
    # The key k1 was asked in both jobs: the second call, of 4 s, was one too many.
    rows = world[1].query(find_query("duplicate-calls", query_folders())).rows
    assert rows == [
        ("openai", "m", False, "k1", 2, 2, "a", 4.0, 10, 5, Decimal("0.004")),
    ]


def test_the_cache_hit_rate(logs):
    answer = logs.query(find_query("cache-hit-rate", query_folders()))
    assert answer.rows == [("ollama", "llama3", 1, 1, 0.5, 1.25)]


def test_the_time_of_models(logs):
    answer = logs.query(find_query("llm-time", query_folders()))
    assert answer.rows == [("ollama", "llama3", False, 4, 1, 11.4, 2.85, 3.2, 230, 410)]


def test_the_versions_of_logs(logs):
    sql = find_query("log-versions", query_folders())
    rows = [(Path(row[0]).parent.name, *row[1:6]) for row in logs.query(sql).rows]
    old = "old: orch migrate-events"
    assert rows == [
        ("mixed", "job_m1", old, 1, 1, 1),
        ("v1", "job_a1", old, 8, 0, 0),
        ("v1_flat", "job_a2", old, 4, 0, 0),
        ("v2_0", "job_b1", old, 0, 8, 0),
        ("v2_1", "job_c1", "v2.1", 0, 0, 18),
    ]


def test_old_lines_under_a_seal_are_told_apart(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes((DATA / "v1/events.jsonl").read_bytes())
    with Log(path):
        pass
    with database([path]) as found:
        ((state, *_),) = found.query(
            f"select state from ({find_query('log-versions', query_folders())})"
        ).rows
    assert state == "old lines, sealed: kept as they are"


def test_queries_lie_where_the_wheel_or_the_checkout_has_them():
    assert query_folders()
    assert all(os.path.isdir(folder) for folder in query_folders())
