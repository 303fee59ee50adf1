"""`orch events` is `python -m eventlog`: the same commands, options, help and answers."""

from __future__ import annotations

import json
import shlex

import pytest
from typer.testing import CliRunner

from eventlog import Log
from eventlog.cli import _COMMANDS, build
from orchestrator.cli.events import events_app

QUERY = "query --json 'select seq, type from events'"


def both(words: list[str]) -> list[tuple[int, str, str]]:
    """Run a command of the toolkit and of `orch events`; return codes, stdout and stderr."""
    told = []
    for app, prog in ((build(), "python -m eventlog"), (events_app("runs"), "orch events")):
        done = CliRunner().invoke(app, words, prog_name=prog)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        told.append(
            (done.exit_code, *(text.replace(prog, "PROG") for text in (done.stdout, done.stderr)))
        )
    return told


@pytest.mark.parametrize("command", ["", *_COMMANDS])
def test_help_is_the_same(command):
    ours, theirs = both([*command.split(), "--help"])
    assert ours == theirs
    assert ours[0] == 0
    assert command in ours[1]


@pytest.mark.parametrize(
    "command",
    [
        "cat",
        "cat --type note*",
        "tail -n 2",
        "tail --json",
        "stats --json",
        "verify",
        "verify --head AAAAAAAAAAAAAAAA",
        "export --format csv",
        "repair",
        "migrate --dry-run",
        QUERY,
    ],
)
@pytest.mark.parametrize("torn", [b"", b'{"seq":3,"ts"'])
def test_answers_are_the_same(command, torn, tmp_path):
    path = tmp_path / "events.jsonl"
    with Log(path) as log:
        log.append({"type": "noted", "data": 1}, {"type": "noted", "data": {"a": None}})
    if command != "repair":  # the second would find nothing to do
        path.write_bytes(path.read_bytes() + torn)
    ours, theirs = both([*shlex.split(command), str(path)])
    if "migrate" in command:  # (how long it took differs)
        ours, theirs = (
            (*told[:1], told[1].splitlines()[2].split()[:-1]) for told in (ours, theirs)
        )
    elif command == QUERY:
        ours, theirs = ((told[0], json.loads(told[1])["rows"]) for told in (ours, theirs))
    assert ours == theirs
