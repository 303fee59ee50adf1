"""What the views and the named queries say of old and new logs, with the numbers worked out."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from eventlog import Log
from eventlog.query import Database, find_query, named_queries
from orchestrator.ask import VIEWS, query_folders, views

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def logs():
    with Database([DATA], views=views()) as database:
        yield database


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
        ("job_c1", "architect", "succeeded", "llm", 2, 5.2, "already succeeded", "no answer"),
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
    with Database([tmp_path], views=views()) as database:
        assert database.query("select count(*), sum(steps) from jobs").rows == [(2, 4)]


def test_payloads_of_any_shape_give_nulls_and_no_errors(tmp_path):
    with Log(tmp_path / "events.jsonl", fields={"job_id": "job_1"}) as log:
        types = ["job.started", "step.started", "step.succeeded", "llm.response", "cache.hit"]
        types += ["cache.miss", "file.written", "step.skipped", "job.succeeded"]
        odd = ["text", None, [], 1.5, {}, {"duration_s": "long", "tokens_in": {}, "success": 3}]
        log.append(*({"type": kind, "step": "s", "data": data} for kind in types for data in odd))
    with Database([tmp_path], views=views()) as database:
        for view in VIEWS:
            assert database.query(f"from {view}").columns


# --- named queries ----------------------------------------------------------------------------


def test_the_guides_questions_are_there_with_a_sentence_each():
    known = named_queries(query_folders())
    assert {"cache-hit-rate", "llm-time", "log-versions"} <= set(known)
    assert all(known.values())


@pytest.mark.parametrize("name", named_queries(query_folders()))
def test_every_named_query_runs_over_old_logs_and_over_none(name, logs):
    sql = find_query(name, query_folders())
    assert logs.query(sql).columns
    with Database([], views=views()) as empty:
        assert empty.query(sql).rows == []


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
    with Database([path], views=views()) as database:
        ((state, *_),) = database.query(
            f"select state from ({find_query('log-versions', query_folders())})"
        ).rows
    assert state == "old lines, sealed: kept as they are"


def test_queries_lie_where_the_wheel_or_the_checkout_has_them():
    assert query_folders()
    assert all(os.path.isdir(folder) for folder in query_folders())
