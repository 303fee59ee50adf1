"""The page about migration: its commands run as it stands, and its errors are those that come."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from eventlog import Lock, Log
from eventlog.upcast import convert
from userkit import User, needs_bash

pytestmark = needs_bash

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

OLD_LOG = """\
{"timestamp": "2025-10-22T10:00:00", "level": "INFO", "job_id": "job_a1", "type": "job.started", \
"step": null, "data": {"project": "release"}}
{"timestamp": "2025-10-22T10:00:00.250000", "level": "INFO", "job_id": "job_a1", "type": \
"step.started", "step": "collect"}
{"timestamp": "2025-10-22T10:00:02", "level": "INFO", "job_id": "job_a1", "type": \
"step.succeeded", "step": "collect", "duration_s": 1.75, "output": "notes of version 1"}
{"timestamp": "2025-10-22T10:00:02.100000", "level": "INFO", "job_id": "job_a1", "type": \
"step.started", "step": "draft"}
{"timestamp": "2025-10-22T10:00:09", "level": "INFO", "job_id": "job_a1", "type": \
"step.succeeded", "step": "draft", "duration_s": 6.90, "output": "a draft of version 1"}
{"timestamp": "2025-10-22T10:00:09.200000", "level": "INFO", "job_id": "job_a1", "type": \
"step.started", "step": "publish"}
"""

OLD_CODE = """\
from orchestrator import FileStore, read_events

store = FileStore("out")


def write(text):
    path, sha256, size = store.safe_write("report.md", text)
    return path


def total(log):
    first = None
    seconds = 0.0
    for event in read_events(log):
        first = first or event["timestamp"]
        seconds += event.get("duration_s", 0.0)
    return first, seconds
"""

JOB = """
project: release
steps:
  collect: {run: "echo collect >> ran.txt; echo notes"}
  draft: {needs: [collect], run: "echo draft >> ran.txt; echo text"}
  publish:
    needs: [draft]
    env: {TEXT: "{{ steps.draft.output.text }}"}
    run: "echo publish >> ran.txt; echo published: $TEXT"
"""


@pytest.fixture
def user(tmp_path):
    user = User(tmp_path)
    for name, text in (
        ("runs/job_a1/events.jsonl", OLD_LOG),
        ("src/report.py", OLD_CODE),
        ("job.yaml", JOB),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return user


def normal(text):
    """Return the lines without times, sorted: the terminal mixes stdout and stderr."""
    text = re.sub(r"\d+\.\d+ s\b", "T s", text)
    text = re.sub(r"(?m)( +|,)\d+(\.\d{1,3})?$", r"\1T", text)
    return sorted(re.sub(r" +T$", " T", line) for line in text.splitlines())


def test_the_code_of_the_page_runs_in_its_order_and_prints_what_it_shows(user):
    found = BLOCK.findall(PAGE)
    assert PAGE.count("```") == 2 * len(found)
    ran = 0
    for (language, code), (after, shown) in zip(found, [*found[1:], ("", "")], strict=True):
        if language == "bash":
            done = user.sh(code)
        elif language == "python":
            done = user.python(code)
        else:
            continue
        ran += 1
        assert after == "text", f"nothing is shown of:\n{code}"
        assert normal(done.out + done.err) == normal(shown), code
    assert ran >= 10


# --- errors -----------------------------------------------------------------------------------

STAMP = '"2025-10-22T10:00:00Z"'


def migrating(user, line="", *, path="runs/job_a1/events.jsonl", code=None):
    log = user.home / "runs/job_a1/events.jsonl"
    log.write_text(OLD_LOG + line)
    return user.sh(f"{code or 'true'} && orch migrate-events {shlex.quote(path)}", code=None)


def locked(user):
    with Lock(str(user.home / "runs/job_a1/.lock"), started="now"):
        return migrating(user)


def kept(user):
    (user.home / "runs/job_a1/events.jsonl.v1").write_text("another\n")
    return migrating(user)


def sealed(user):
    with Log(user.home / "runs/job_a1/events.jsonl", lock_path=None):
        pass
    return user.sh("orch migrate-events runs", code=None)


def damaged(user):
    sealed(user)
    log = user.home / "runs/job_a1/events.jsonl"
    log.write_bytes(log.read_bytes().replace(b"6.90", b"6.80"))
    return user.sh("orch migrate-events runs", code=None)


def code(*lines):
    def run(user):
        program = "\n".join(("import sys; sys.path.insert(0, 'src'); import report", *lines))
        (user.home / "program.py").write_text(program)
        return user.sh("python program.py", code=None)

    return run


EVENT = 'event = next(iter(report.read_events("runs/job_a1/events.jsonl")))'

CAUSES = {
    "TypeError: 'WriteResult' object is not iterable": code("report.write('x')"),
    "KeyError: 'timestamp'": code(EVENT, "event['timestamp']"),
    "KeyError: 'duration_s'": code(EVENT, "event['duration_s']"),
    "is writing this log": locked,
    "the old log can't be kept, because another file has its name": kept,
    "of an older version, but a later leg has sealed them as they are": sealed,
    "the log is damaged": damaged,
    "it has neither ts nor timestamp": lambda user: migrating(user, '{"a":1}\n'),
    "it has both timestamp and ts": lambda user: migrating(
        user, f'{{"ts":{STAMP},"timestamp":{STAMP}}}\n'
    ),
    "is no time": lambda user: migrating(user, '{"ts":1}\n'),
    "it is no JSON object": lambda user: migrating(user, "INFO started\n"),
    "this file was set aside, it is no log any more": lambda user: migrating(
        user, path="a.jsonl.v1", code="cp runs/job_a1/events.jsonl a.jsonl.v1"
    ),
    "this is no plain file": lambda user: migrating(
        user, path="link", code="ln -s runs/job_a1/events.jsonl link"
    ),
    "no logs are here: no events.jsonl was found": lambda user: migrating(user, path="src"),
    "the log can't be migrated: File too large [EFBIG]": lambda user: migrating(
        user, "{}\n" * 100_000, code="ulimit -f 100 && trap '' XFSZ"
    ),
}

TOLD = re.findall(r"^\*\*`(.+?)`\*\*(?: \(exit (\d)\))?", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("text", "exit_code"), TOLD)
def test_each_error_of_the_page_comes_from_what_the_page_says(user, text, exit_code):
    done = CAUSES[text](user)
    assert text in (done.out + done.err).replace("`", "")
    if exit_code:
        assert done.code == int(exit_code), done


def test_each_error_that_is_tried_is_on_the_page():
    assert [text for text, _ in TOLD] == list(CAUSES)


def test_what_the_page_says_of_a_line_is_so():
    line = b'{"ts": "2025-10-22T12:00:00+02:00", "n": 6.90, "a": "\\u00e9"}'
    due = b'{"ts": "2025-10-22T10:00:00Z", "data": {"n": 6.90, "a": "\\u00e9"}}'
    assert convert(line).line == due
