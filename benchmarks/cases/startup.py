"""How long a user waits before anything happens."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import time

from harness import Bar, Case, Context, Row, interleave, paired, single

_MAX_S = 30.0
_POLL_S = 0.0005
_SPEC = "project: bench\ntask_description: Say hello.\nprovider: offline\nmodel: echo\n"


def orch() -> list[str]:
    """Return the command that users run: the script beside this Python, or the module."""
    script = os.path.join(os.path.dirname(sys.executable), "orch")
    return [script] if os.path.exists(script) else [sys.executable, "-m", "orchestrator"]


def run(context: Context) -> list[Row]:
    rounds = context.times(21, 7)

    def timed(*command: str) -> float:
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, timeout=_MAX_S)
        return time.perf_counter() - begun

    def help_() -> float:
        return timed(*orch(), "--help")

    def nothing() -> float:
        return timed(sys.executable, "-c", "pass")

    help_(), nothing()
    seconds = interleave(rounds, {"help": help_, "pass": nothing})
    first = [_first_event(context) for _ in range(context.times(9, 3))]
    return [
        paired(
            "orch --help",
            seconds["help"],
            "python -c pass",
            seconds["pass"],
            unit="ms",
            scale=lambda second: second * 1000,
            bar=Bar("<=", 7),
        ),
        single(
            "first event of orch run",
            [second * 1000 for second in first],
            unit="ms",
            bar=Bar("<=", 300, of="value", unit="ms"),
            note="from the start of the process until job.started stands in the log",
        ),
    ]


def _first_event(context: Context) -> float:
    """Return the seconds from the start of `orch run` until its first event can be read."""
    folder = context.folder()
    spec = os.path.join(folder, "spec.yaml")
    with open(spec, "w", encoding="utf-8") as file:
        file.write(_SPEC)
    runs = os.path.join(folder, "runs")
    command = [*orch(), "run", spec, "--runs-dir", runs, "--display", "none"]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while time.perf_counter() - begun < _MAX_S:
            if _is_started(runs):
                return time.perf_counter() - begun
            time.sleep(_POLL_S)
        raise RuntimeError(f"no event came within {_MAX_S} s")
    finally:
        process.wait(_MAX_S)


def _is_started(runs: str) -> bool:
    for path in glob.glob(os.path.join(runs, "*", "events.jsonl")):
        with open(path, "rb") as file:
            return b'"type":"job.started"' in file.read(1 << 16)
    return False


CASE = Case(
    name="startup",
    about="the command line's start, in processes of their own",
    bar="orch --help <= 7x python -c pass; first event of orch run <= 300 ms, quiet machine",
    run=run,
)
