import json

import pytest
from given import CHAIN, declared, job_started, started, succeeded

from eventlog import EventInvalid, Log, LogNotFound
from orchestrator import events as ev
from orchestrator.blobs import BlobStore
from orchestrator.history import fold_job, records
from orchestrator.journal import Journal, line_fields
from orchestrator.state import JobState, JobStatus, StepStatus
from orchestrator.written import as_written


@pytest.fixture
def log(tmp_path):
    return tmp_path / "events.jsonl"


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path / "artifacts")


def write(log, blobs, *events, job_id="j"):
    state = JobState(job_id=job_id)
    with Log(log, fields=line_fields(job_id)) as opened:
        journal = Journal(opened, state, written=as_written(blobs))
        for event in events:
            journal.record(event)
    return state


def status(state):
    return {name: str(step.status) for name, step in state.steps.items()}


def test_a_log_folds_to_the_state_that_wrote_it(log, blobs):
    live = write(log, blobs, job_started(CHAIN), started("a"), succeeded("a", output={"x": 1}))
    read = fold_job(log, blobs)
    assert status(read) == status(live) == {"a": "succeeded", "b": "pending", "c": "pending"}
    assert read.steps["a"].success == live.steps["a"].success
    assert (read.seq, read.sum, list(read.ready)) == (live.seq, live.sum, ["b"])
    assert read.started_at == live.started_at != ""


def test_only_one_jobs_lines_are_read_from_a_shared_log(log, blobs):
    write(log, blobs, job_started(CHAIN), started("a"), job_id="one")
    write(log, blobs, job_started({"x": ()}), started("x"), job_id="two")
    assert status(fold_job(log, blobs, job_id="one")) == {
        "a": "started",
        "b": "pending",
        "c": "pending",
    }
    assert status(fold_job(log, blobs, job_id="two")) == {"x": "started"}
    assert fold_job(log, blobs, job_id="three").status is JobStatus.NEW


def test_a_job_id_inside_an_events_data_is_not_the_lines(log, blobs):
    note = {"type": "note", "data": {"job_id": "other", "x": '"job_id":"other",'}}
    with Log(log, fields=line_fields("mine")) as opened:
        opened.append(note)
        opened.append({"type": "note", "data": {"job_id": "mine"}, "job_id": "other"})
    assert fold_job(log, blobs, job_id="mine").unknown == 1
    assert fold_job(log, blobs, job_id="other").unknown == 1


def test_lines_without_a_job_id_belong_to_any_job(log, blobs):
    with Log(log) as opened:
        opened.append({"type": "step.started", "step": "a", "data": {}})
    assert status(fold_job(log, blobs, job_id="j")) == {"a": "started"}


def test_reading_stops_where_it_is_told(log, blobs):
    write(log, blobs, job_started(CHAIN), started("a"), succeeded("a"))
    assert status(fold_job(log, blobs, up_to=2))["a"] == "started"
    assert [record.seq for record in records(log, blobs, up_to=1)] == [0, 1]


def test_a_large_graph_comes_back_from_its_blob(log, blobs):
    steps = {f"step-{i:04}": () for i in range(1_000)}
    write(log, blobs, job_started(steps))
    assert b"step-0999" not in log.read_bytes()
    assert list(fold_job(log, blobs).steps) == list(steps)


def test_a_graph_that_is_gone_leaves_the_steps_that_events_name(log, blobs, tmp_path):
    steps = {f"step-{i:04}": () for i in range(1_000)}
    write(log, blobs, job_started(steps), started("step-0007"), succeeded("step-0007", output=7))
    for blob in (tmp_path / "artifacts").iterdir():
        blob.unlink()
    state = fold_job(log, blobs)
    assert status(state) == {"step-0007": "succeeded"}
    assert state.steps["step-0007"].success.output == 7


def test_without_graphs_a_state_knows_what_a_next_leg_needs(log, blobs):
    write(log, blobs, job_started(CHAIN), started("a"), succeeded("a"), started("b", attempt=3))
    write(log, blobs, ev.JobResumed(data=declared(CHAIN)), started("c", attempt=2))
    state = fold_job(log, blobs, graphs=False)
    assert set(state.past) == {"a"}
    assert state.steps["c"].status is StepStatus.RUNNING
    assert state.former["b"].attempt == 3


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"step.succeeded","data":{}}',
        '{"type":"step.succeeded","step":5,"data":{}}',
        '{"type":"step.dreamt","step":"a","data":{}}',
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_another_programs_line_is_an_unknown_event(log, blobs, line, sealed):
    if sealed:
        with Log(log, fields=line_fields("j")) as opened:
            opened.append(json.loads(line))
    else:
        log.write_text(line + "\n")
    for job_id in ("j", None):
        state = fold_job(log, blobs, job_id=job_id)
        assert (state.unknown, state.steps) == (1, {})


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('{"type":"job.started","data":{"steps":["a","b"],"project":"p"}}', "pending"),
        ('{"type":"step.failed","step":"a","data":{"attempt":"first","kind":"x"}}', "failed"),
        ('{"type":"step.succeeded","step":"a","data":[1]}', "succeeded"),
        ('{"type":"step.started","step":"a"}', "started"),
    ],
)
def test_what_does_not_fit_is_left_out_and_the_rest_is_understood(log, blobs, line, status):
    log.write_text(line + "\n")
    state = fold_job(log, blobs)
    assert (state.unknown, str(state.steps["a"].status)) == (0, status)


@pytest.mark.parametrize("line", ["not json", "[1]", '"text"', '{"type":"x"', '{"a":"\\ud800"}'])
def test_a_line_that_is_no_event_is_an_error_or_set_aside(log, blobs, line):
    good = '{"type":"step.started","step":"a","data":{}}'
    log.write_text(f"{good}\n{line}\n{good.replace('started', 'succeeded')}\n")
    with pytest.raises(EventInvalid) as caught:
        fold_job(log, blobs)
    assert caught.value.path == str(log)
    assert caught.value.seq == 1
    rejected = []
    assert status(fold_job(log, blobs, rejected=rejected)) == {"a": "succeeded"}
    assert [(line.seq, line.offset) for line in rejected] == [(1, len(good) + 1)]


def test_blank_lines_are_passed_over(log, blobs):
    log.write_text('\n{"type":"step.started","step":"a","data":{}}\n\n')
    assert status(fold_job(log, blobs)) == {"a": "started"}


VERSIONS = {
    "v1": '{"timestamp":"2025-10-22T10:00:00","job_id":"j","type":"step.succeeded",'
    '"step":"a","duration_s":1.5}',
    "v2.0": '{"ts":"2025-10-22T10:00:00Z","level":"INFO","job_id":"j","type":"step.succeeded",'
    '"step":"a","duration_s":1.5}',
    "v2.1": '{"ts":"2025-10-22T10:00:00Z","level":"INFO","job_id":"j","type":"step.succeeded",'
    '"step":"a","data":{"duration_s":1.5}}',
}


@pytest.mark.parametrize("version", VERSIONS)
def test_lines_of_every_version_fold_to_the_same(log, blobs, version):
    log.write_text(VERSIONS[version] + "\n")
    state = fold_job(log, blobs, job_id="j")
    assert status(state) == {"a": "succeeded"}
    assert state.totals.work_s == 1.5
    assert [record.ts for record in records(log, blobs)] == ["2025-10-22T10:00:00Z"]


def test_no_log_is_an_error(log, blobs):
    with pytest.raises(LogNotFound):
        fold_job(log, blobs)


def test_a_torn_tail_is_not_read(log, blobs):
    write(log, blobs, job_started(CHAIN), started("a"), succeeded("a"))
    data = log.read_bytes()
    log.write_bytes(data[:-5])
    assert status(fold_job(log, blobs))["a"] == "started"
