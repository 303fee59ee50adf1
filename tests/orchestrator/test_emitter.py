import json
import os
import threading
import typing

import pytest

from eventlog import EventInvalid, Log, LogLocked, LogNotFound, read, scan
from eventlog.source import LogFile
from orchestrator import events as ev
from orchestrator.emitter import EventEmitter, event_logger, filter_events, read_events
from orchestrator.fence import AttemptOver, Fence
from orchestrator.filestore import FileStore
from orchestrator.folder import RunFolder


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def test_emit_appends_and_returns_the_seq(path):
    with EventEmitter(path, "j") as emitter:
        assert emitter.emit({"type": "my.event", "data": {"x": 1}}) == 1
        assert emitter.emit({"type": "my.event", "step": "a", "data": {"x": 2}}) == 2
    opened, one, two = read_events(path)
    assert opened["type"] == "log.opened"
    assert {k: one[k] for k in ("seq", "level", "job_id", "type", "data")} == {
        "seq": 1,
        "level": "INFO",
        "job_id": "j",
        "type": "my.event",
        "data": {"x": 1},
    }
    assert two["step"] == "a"
    assert one["ts"].endswith("Z")


def test_what_is_emitted_is_in_the_file_on_return(path):
    with EventEmitter(path) as emitter:
        emitter.emit({"type": "x"})
        assert [event["type"] for event in read_events(path)] == ["log.opened", "x"]


def test_the_lines_are_sealed(path):
    with EventEmitter(path) as emitter:
        for i in range(5):
            emitter.emit({"type": "x", "data": {"i": i}})
    with LogFile(path) as file:
        assert (scan(file).lines, str(scan(file).verdict)) == (6, "whole")


TYPED = [
    ("job_started", (), {"project": "p"}, "INFO"),
    ("job_succeeded", (), {"duration_s": 1.5}, "INFO"),
    ("job_failed", (), {"reason": "r"}, "ERROR"),
    ("step_started", ("a",), {"attempt": 1}, "INFO"),
    ("step_succeeded", ("a",), {"output": {"x": 1}}, "INFO"),
    ("step_failed", ("a",), {"message": "m"}, "ERROR"),
    ("step_retrying", ("a",), {"message": "m"}, "WARN"),
    ("step_skipped", ("a",), {"reason": "r"}, "INFO"),
    ("llm_request", ("a",), {"provider": "ollama"}, "INFO"),
    ("llm_response", ("a",), {"duration_s": 3.2}, "INFO"),
    ("cache_hit", ("a",), {"cache_key": "abc"}, "INFO"),
    ("cache_miss", ("a",), {"cache_key": "abc"}, "INFO"),
    ("job_resumed", (), {"project": "p"}, "INFO"),
    ("job_cancelled", (), {"reason": "r"}, "INFO"),
    ("job_waiting", (), {"reason": "r"}, "INFO"),
    ("step_expanded", ("a",), {"items": ["x"]}, "INFO"),
    ("step_interrupted", ("a",), {"reason": "r"}, "WARN"),
    ("step_invalidated", ("a",), {"reason": "r"}, "WARN"),
    ("step_adopted", ("a",), {"key": "k"}, "INFO"),
    ("step_waiting", ("a",), {"message": "m"}, "INFO"),
    ("step_approved", ("a",), {"by": "b"}, "INFO"),
    ("step_rejected", ("a",), {"by": "b"}, "ERROR"),
    ("step_set", ("a",), {"by": "b"}, "INFO"),
    ("budget_exceeded", ("a",), {"limit": "calls"}, "WARN"),
    ("artifact_created", ("a",), {"sha256": "0"}, "INFO"),
]


def test_no_event_of_a_job_is_without_its_method(path):
    tags = {kind.__struct_config__.tag for kind in typing.get_args(ev.AnyJobEvent)}
    named = {tag.replace(".", "_", 1) for tag in tags if not tag.startswith("log.")}
    assert named == {row[0] for row in TYPED} | {"file_written"}
    with EventEmitter(path) as emitter:
        assert all(callable(getattr(emitter, name)) for name in named)


@pytest.mark.parametrize(("method", "args", "data", "level"), TYPED)
def test_there_is_a_method_for_each_event(path, method, args, data, level):
    with EventEmitter(path) as emitter:
        getattr(emitter, method)(*args, **data)
        emitter.emit({"type": method.replace("_", ".", 1)})
    event, plain = read_events(path)[1:]
    assert event["type"] == method.replace("_", ".", 1)
    assert event["data"] == data
    assert event.get("step") == (args[0] if args else None)
    assert event["level"] == plain["level"] == level


@pytest.mark.parametrize(("method", "args", "data", "level"), TYPED)
def test_what_a_method_writes_can_be_folded(path, method, args, data, level):
    with EventEmitter(path) as emitter:
        getattr(emitter, method)(*args, **data)
    (record,) = list(read(path, ev.AnyJobEvent))[1:]
    assert type(record.event).__struct_config__.tag == method.replace("_", ".", 1)


def test_a_written_file_is_told_as_filestore_tells_it(path):
    store = FileStore(path.parent / "outputs")
    with EventEmitter(path) as emitter:
        emitter.file_written("a", store.safe_write("x.txt", "hello"))
        emitter.file_written("a", store.safe_write("x.txt", "hello"))
    one, two = (event["data"] for event in read_events(path)[1:])
    assert (one["size_bytes"], one["wrote"], one["reason"]) == (5, True, "created")
    assert (two["wrote"], two["reason"]) == (False, "nochange")
    assert one["path"] == str(path.parent / "outputs" / "x.txt")


def test_an_event_may_say_its_own_level_and_job(path):
    with EventEmitter(path, "j") as emitter:
        emitter.emit({"type": "x", "level": "WARN", "job_id": "other"})
    (event,) = read_events(path)[1:]
    assert (event["level"], event["job_id"]) == ("WARN", "other")


@pytest.mark.parametrize("event", [{}, {"type": 5}, {"data": {}}])
def test_an_event_without_a_type_is_refused(path, event):
    with EventEmitter(path) as emitter, pytest.raises(ValueError, match="needs a 'type'"):
        emitter.emit(event)
    assert not path.exists()


@pytest.mark.parametrize(
    "event", [{"type": "x", "seq": 1}, {"type": "log.opened"}, {"type": "x", "data": object()}]
)
def test_an_event_that_can_not_be_a_line_is_refused_and_the_emitter_goes_on(path, event):
    with EventEmitter(path) as emitter:
        with pytest.raises(EventInvalid):
            emitter.emit(event)
        emitter.emit({"type": "good"})
    assert [event["type"] for event in read_events(path)] == ["log.opened", "good"]


def test_nothing_is_opened_before_the_first_event(path):
    emitter = EventEmitter(path / "deep" / "events.jsonl")
    assert not path.exists()
    emitter.emit({"type": "x"})
    assert os.stat(path / "deep").st_mode & 0o777 == 0o700
    emitter.close()


def test_closing_lets_go_of_the_log_and_the_next_event_takes_it_again(path):
    emitter = EventEmitter(path)
    emitter.emit({"type": "x"})
    with pytest.raises(LogLocked):
        Log(path)
    emitter.close()
    emitter.close()
    Log(path).close()
    emitter.emit({"type": "y"})
    emitter.close()
    assert [event["type"] for event in read_events(path)] == [
        "log.opened",
        "x",
        "log.opened",
        "log.opened",
        "y",
    ]


def test_event_logger_closes_whatever_happens(path):
    def broken():
        with event_logger(path, "j") as emitter:
            emitter.emit({"type": "x"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    Log(path).close()
    assert read_events(path)[1]["job_id"] == "j"


def test_threads_may_share_an_emitter(path):
    def emit(number):
        for i in range(20):
            emitter.emit({"type": "x", "data": {"thread": number, "i": i}})

    with EventEmitter(path) as emitter:
        threads = [threading.Thread(target=emit, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events = read_events(path)[1:]
    assert [event["seq"] for event in events] == list(range(1, 81))
    for number in range(4):
        mine = [e["data"]["i"] for e in events if e["data"]["thread"] == number]
        assert mine == list(range(20))


def test_an_attempt_that_is_over_can_not_emit(path):
    with EventEmitter(path, "j") as emitter:
        with Fence("other", "a", 2) as fence:
            emitter.emit({"type": "x"})
            fence.over = True
            with pytest.raises(AttemptOver, match="attempt 2 of step a is over"):
                emitter.emit({"type": "y"})
        emitter.emit({"type": "z"})
    told = [(event["type"], event["job_id"]) for event in read_events(path)[1:]]
    assert told == [("x", "other"), ("z", "j")]


# --- reading ------------------------------------------------------------------------------------

V1 = '{"timestamp":"2025-10-22T10:00:00","type":"llm.response","step":"a","duration_s":3.2}'
V2_0 = '{"ts":"2025-10-22T10:00:00Z","type":"llm.response","step":"a","duration_s":3.2}'
V2_1 = '{"ts":"2025-10-22T10:00:00Z","type":"llm.response","step":"a","data":{"duration_s":3.2}}'


@pytest.mark.parametrize("line", [V1, V2_0, V2_1], ids=["v1", "v2.0", "v2.1"])
def test_lines_of_every_version_read_alike(path, line):
    path.write_text(line + "\n")
    (event,) = read_events(path)
    assert event["ts"] == "2025-10-22T10:00:00Z"
    assert event["data"]["duration_s"] == 3.2
    assert (event["seq"], event["type"], event["step"]) == (0, "llm.response", "a")
    assert "timestamp" not in event


def test_unknown_members_survive_reading(path):
    path.write_text(V2_1[:-1] + ',"extra":{"x":[1,null]}}\n')
    assert read_events(path)[0]["extra"] == {"x": [1, None]}


def test_reading_a_log_that_is_being_written(path):
    with EventEmitter(path) as emitter:
        emitter.emit({"type": "x"})
        with open(path, "ab") as file:
            file.write(b'{"half')
        assert [event["type"] for event in read_events(path)] == ["log.opened", "x"]


def test_reading_what_is_not_there(path):
    with pytest.raises(LogNotFound):
        read_events(path)


def test_reading_what_is_no_log(path):
    path.write_text("hello\n")
    with pytest.raises(EventInvalid):
        read_events(path)


EVENTS = [
    {"type": "step.started", "step": "a", "level": "INFO"},
    {"type": "step.failed", "step": "a", "level": "ERROR"},
    {"type": "step.started", "step": "b", "level": "INFO"},
    {"type": "job.failed", "level": "ERROR"},
]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [0, 1, 2, 3]),
        ({"event_type": "step.started"}, [0, 2]),
        ({"step_id": "a"}, [0, 1]),
        ({"level": "ERROR"}, [1, 3]),
        ({"level": "ERROR", "step_id": "a"}, [1]),
        ({"event_type": "job.failed", "step_id": "a"}, []),
    ],
)
def test_filtering_gives_what_matches_all_that_is_asked(asked, found):
    assert filter_events(iter(EVENTS), **asked) == [EVENTS[index] for index in found]


def test_filtering_takes_its_arguments_in_the_old_order(path):
    assert filter_events(EVENTS, "step.failed", "a", "ERROR") == [EVENTS[1]]


def test_a_line_is_what_grep_and_jq_look_for(path):
    with EventEmitter(path, "j") as emitter:
        emitter.cache_hit("a", cache_key="abc")
        emitter.llm_response("a", duration_s=3.2)
    text = path.read_text()
    assert '"type":"cache.hit"' in text
    assert json.loads(text.splitlines()[2])["data"]["duration_s"] == 3.2


def test_a_flat_event_gets_its_payload_under_data(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventEmitter(path, "j") as emitter:
        emitter.emit({"type": "llm.response", "step": "a", "duration_s": 3.2, "provider": "ollama"})
        emitter.emit({"type": "noted", "data": {"x": 1}, "extra": 2})
        emitter.emit({"type": "bare"})
    flat, full, bare = read_events(path)[1:]
    assert (flat["step"], flat["data"]) == ("a", {"duration_s": 3.2, "provider": "ollama"})
    assert (full["data"], full["extra"]) == ({"x": 1}, 2)
    assert "data" not in bare


def test_a_job_s_log_has_the_lock_that_orch_looks_at(tmp_path):
    folder = RunFolder(str(tmp_path), "job_1")
    with EventEmitter(folder.log) as emitter:
        assert not folder.held
        emitter.emit({"type": "noted"})
        assert folder.held
    assert not folder.held
