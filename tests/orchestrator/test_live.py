"""The line at the bottom of a terminal: what runs now, and for how long."""

import os

import pytest

from eventlog import Record
from orchestrator import events as ev
from orchestrator.cli.live import NAMED, Full
from orchestrator.providers import Progress


@pytest.fixture
def screen(monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((70, 20)))

    def read():
        """Return the lines that are left to see, as a terminal would show them."""
        lines = [""]
        for part in capsys.readouterr().err.split("\n"):
            lines[-1] += part.rpartition("\r\x1b[K")[2] if "\r\x1b[K" in part else part
            lines.append("")
        return [line for line in lines if line]

    return read


def told(event):
    return Record(seq=0, ts="", event=event, offset=0)


def test_what_runs_stands_last_with_its_seconds(screen):
    now = [0.0]
    full = Full(2, lambda: now[0])
    full(told(ev.StepStarted(step="a", data=ev.StepStart(attempt=1))))
    now[0] = 1.25
    full(told(ev.StepStarted(step="b", data=ev.StepStart(attempt=1))))
    assert screen() == ["  running: a 1.2 s, b 0.0 s"]


def test_an_answer_that_is_coming_in_is_counted_until_its_step_ends(screen):
    full = Full(2, lambda: 0.0)
    full(told(ev.StepStarted(step="a", data=ev.StepStart(attempt=1))))
    full.progress("a", Progress(pieces=1234, characters=5000))
    full.draw()
    assert screen() == ["  running: a 0.0 s, ~1,234 tokens"]
    full(told(ev.StepRetrying(step="a", data=ev.StepFault(attempt=1, kind="network"))))
    full(told(ev.StepStarted(step="a", data=ev.StepStart(attempt=2))))
    assert screen()[-1] == "  running: a 0.0 s"


def test_a_step_that_ended_makes_room_for_its_line(screen):
    full = Full(2, lambda: 0.0)
    full(told(ev.StepStarted(step="a", data=ev.StepStart(attempt=1))))
    full(told(ev.StepStarted(step="b", data=ev.StepStart(attempt=1))))
    full(told(ev.StepSucceeded(step="a", data=ev.StepEnd(attempt=1, duration_s=0.5))))
    assert screen() == ["[1/2] ok      a  0.50 s", "  running: b 0.0 s"]
    full(told(ev.StepFailed(step="b", data=ev.StepFault(attempt=1, kind="exit", message="no"))))
    assert screen() == ["[2/2] failed  b  exit: no"]


def test_many_steps_are_counted_and_the_line_fits(screen):
    full = Full(20, lambda: 0.0)
    for number in range(NAMED + 3):
        full(told(ev.StepStarted(step=f"s{number}", data=ev.StepStart(attempt=1))))
    (line,) = screen()
    assert line.endswith("and 3 more")
    full(told(ev.StepStarted(step="x" * 64, data=ev.StepStart(attempt=1))))
    assert all(len(line) < 70 for line in screen())


def test_a_warning_is_not_written_over(screen):
    full = Full(1, lambda: 0.0)
    full(told(ev.StepStarted(step="a", data=ev.StepStart(attempt=1))))
    full.warn("warning: look here")
    full.draw()
    assert screen() == ["warning: look here", "  running: a 0.0 s"]
