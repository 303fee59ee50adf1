"""A signal while the log is being written: the append is whole, and then the signal is obeyed."""

import os
import signal
import subprocess
import sys

import anyio
import pytest
from given import CHAIN, declared
from rig import Script, takes

from eventlog import Log
from eventlog.fs import Files
from orchestrator import read_events, signals
from orchestrator.history import fold_job
from orchestrator.journal import Journal, line_fields
from orchestrator.plan import Policy
from orchestrator.runner import Runner
from orchestrator.state import JobStatus

APPENDS = 4
"""Of an undisturbed chain of three; each is a write and a sync."""


class Struck(Files):
    """The real calls; in the middle of some of them signals come.

    Args:
        strikes: by the number of the call, from 1: the signals.
    """

    def __init__(self, strikes):
        self.strikes = strikes
        self.calls = 0
        self.armed = False

    def write(self, fd, data):
        done = super().write(fd, data[: len(data) // 2]) if self._strikes() else 0
        self._strike()
        return done + super().write(fd, data[done:])

    def sync_data(self, fd):
        self._strikes()
        self._strike()
        super().sync_data(fd)

    def _strikes(self):
        self.calls += self.armed
        return self.armed and self.calls in self.strikes

    def _strike(self):
        for number in self.strikes.get(self.calls, ()) if self.armed else ():
            os.kill(os.getpid(), number)


def folded(path):
    return fold_job(str(path), None, job_id="j")


def leg(path, strikes=None):
    """Run a leg of a chain; return the script and the state."""
    # If the end is not what is struck, it does not come before the signal is obeyed.
    waits = strikes and min(strikes) <= 2 * (APPENDS - 1)
    files, script = Struck(strikes or {}), Script({"c": takes(60)} if waits else {})

    async def main():
        with Log(path, fields=line_fields("j"), files=files) as log:
            assert log.recovered is None
            state = folded(path)
            runner = Runner(Journal(log, state), script, Policy(), parts=script)
            files.armed = True
            await signals.drive(runner, declared(CHAIN), (), None, lambda text: None)
            files.armed = False
            return state

    return script, anyio.run(main), files


def recorded(path):
    with Log(path, fields=line_fields("j")) as log:
        assert log.recovered is None  # no line is torn
    return {e["step"] for e in read_events(path) if e["type"] == "step.succeeded"}


def check_goes_on(path):
    done = recorded(path)
    script, state, _ = leg(path)
    assert state.status is JobStatus.SUCCEEDED
    assert set(script.calls) == set(CHAIN) - done


def test_an_undisturbed_leg_has_the_appends_that_are_struck_below(tmp_path):
    assert leg(tmp_path / "events.jsonl")[2].calls == 2 * APPENDS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("call", range(1, 2 * APPENDS + 1))
def test_a_signal_in_any_append_ends_the_job_after_it_and_is_recorded(tmp_path, call, number):
    path = tmp_path / "events.jsonl"
    _, state, _ = leg(path, {call: [number]})
    if call <= 2 * (APPENDS - 1):
        assert (state.status, state.ended_because) == (
            JobStatus.CANCELLED,
            signal.Signals(number).name,
        )
    else:  # it came while the end was being written
        assert state.status is JobStatus.SUCCEEDED
    assert folded(path).status is state.status
    check_goes_on(path)


def child(path, strikes):
    """Run a leg as a process of its own does; a second signal ends it."""
    os._exit(3 if leg(path, strikes)[1].status is JobStatus.CANCELLED else 4)


@pytest.mark.parametrize(("first", "later"), [(2, 0), (5, 0), (5, 1), (6, 2)])
def test_a_second_signal_in_an_append_aborts_after_it_and_the_log_is_whole(tmp_path, first, later):
    path = tmp_path / "events.jsonl"
    strikes = {first: [int(signal.SIGTERM)]}
    strikes.setdefault(first + later, []).append(int(signal.SIGINT))
    program = f"import test_signal_appends as t; t.child({str(path)!r}, {strikes!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=os.path.dirname(__file__),
        timeout=60,
        check=False,
    )
    # One that comes while the end is being written may find all of it done.
    assert done.returncode in ((130, 3) if later else (130,))
    check_goes_on(path)
