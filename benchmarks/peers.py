"""Other projects to measure beside, each in a virtual environment of its own.

`setup.py` makes the environments. A peer's driver is a script in `drivers/`: it runs in the
peer's environment, does the work once, and prints one JSON object with its `seconds`.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

PEERS: dict[str, tuple[str, ...]] = {
    "eventsourcing": ("eventsourcing==9.5.6",),
    "dbos": ("dbos==3.4.0",),
    "langgraph": ("langgraph==1.2.24", "langgraph-checkpoint-sqlite==3.1.2", "aiosqlite"),
}
"""What is installed for each, by name."""

TIMEOUT_S = 600.0
"""For one run of a driver."""

_HERE = os.path.dirname(os.path.abspath(__file__))


class PeerError(Exception):
    """A driver ended with an error, or printed no figures."""


def home() -> str:
    """Return the folder of the environments: outside of the checkout, as caches are."""
    told = os.environ.get("ORCH_BENCH_PEERS")
    if told:
        return os.path.abspath(told)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "unified-orchestrator-benchmarks")


def environment(name: str) -> str:
    """Return the folder of a peer's environment; what was made for other versions is another."""
    versions = "-".join(package.replace("==", "-") for package in PEERS[name])
    return os.path.join(home(), versions)


def python_of(name: str) -> str:
    """Return the path of the Python in a peer's environment, there or not."""
    return os.path.join(environment(name), "bin", "python")


def is_ready(name: str) -> bool:
    """Return whether a peer's environment was made, to its end."""
    return os.path.exists(os.path.join(environment(name), "ready"))


def not_ready(name: str) -> str:
    """Return why a peer can't be measured, or nothing."""
    if is_ready(name):
        return ""
    return f"skipped: {name} is not installed (python benchmarks/setup.py {name})"


def drive(name: str, driver: str, *arguments: object) -> dict[str, Any]:
    """Run a peer's driver once and return what it printed.

    Args:
        name: of the peer, which must be ready.
        driver: the script's name in `drivers/`.
        arguments: for the script.

    Raises:
        PeerError: it ended with an error, took longer than TIMEOUT_S, or printed no figures.
    """
    script = os.path.join(_HERE, "drivers", driver)
    command = [python_of(name), script, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{name}: {error}") from error
    last = done.stderr.strip().rpartition("\n")[2]
    if done.returncode:
        raise PeerError(f"{name}: {driver} ended with {done.returncode}: {last}")
    try:
        told = json.loads(done.stdout)
        float(told["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise PeerError(f"{name}: {driver} printed no figures: {done.stdout[:200]}") from error
    return dict(told)
