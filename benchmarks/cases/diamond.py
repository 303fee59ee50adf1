"""Real concurrency: the built-in workflow against a server that takes half a second a call."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from typing import Any

import msgspec
from harness import Bar, Case, Context, Row, single

from orchestrator.testing import Call, ModelServer, serve

from .startup import orch

_DELAY_S = 0.5
_IDEAL_S = 3 * _DELAY_S  # four calls, three deep
_RUN_MAX_S = 60.0
_SPEC = """\
project: bench
task_description: Say hello, round {}.
provider: {}
model: bench
concurrency: 4
"""
_CREDENTIALS = {"anthropic": {"x-api-key": "test-key"}, "openai": {"authorization": "Bearer test"}}


def run(context: Context) -> list[Row]:
    rows = []
    rounds = context.times(3, 1)
    with serve(delay_s=_DELAY_S) as server:
        for provider in ("ollama",) if context.quick else ("ollama", "openai", "anthropic"):
            rows += _provider(context, server, provider, rounds)
    return rows


def _provider(context: Context, server: ModelServer, provider: str, rounds: int) -> list[Row]:
    first, second, bare, counts = [], [], [], []
    for number in range(rounds):
        folder = context.folder()
        spec = os.path.join(folder, "spec.yaml")
        with open(spec, "w", encoding="utf-8") as file:
            file.write(_SPEC.format(number, provider))
        server.reset()
        first.append(_job_s(server, folder, spec))
        calls = server.calls()
        second.append(_job_s(server, folder, spec))
        counts.append((len(calls), len(server.calls()) - len(calls)))
        bare.append(_bare_s(server, folder, calls, provider))
    made = ", ".join(f"{a} then {b}" for a, b in counts)
    ratios = [ours / other for ours, other in zip(first, bare, strict=True)]
    again = statistics.median(second)
    return [
        single(f"{provider}, first run", first, unit="s", bar=Bar("<=", 1.6, of="value", unit="s")),
        Row(
            what=f"{provider}, the same",
            value=statistics.median(first),
            unit="s",
            beside="bare httpx script",
            beside_value=statistics.median(bare),
            ratio=statistics.median(ratios),
            spread=(min(ratios), max(ratios)),
            note=f"the ideal is {_IDEAL_S} s; calls in the first, then in the second run: {made}",
        ),
        Row(
            what=f"{provider}, second run",
            value=again,
            unit="s",
            beside="first run",
            beside_value=statistics.median(first),
            ratio=again / statistics.median(first),
            spread=(
                min(b / a for a, b in zip(first, second, strict=True)),
                max(b / a for a, b in zip(first, second, strict=True)),
            ),
            bar=Bar("<=", 0.05),
            note=f"its share of the first: {again / statistics.median(first):.2%}",
        ),
    ]


def _job_s(server: ModelServer, folder: str, spec: str) -> float:
    """Run the spec through the command line and return the job time its manifest tells."""
    told = subprocess.run(
        [*orch(), "run", spec, "--json", "--display", "none"],
        cwd=folder,
        env={**os.environ, **server.environ(), "ORCH_RUNS_DIR": os.path.join(folder, "runs")},
        check=False,
        capture_output=True,
        timeout=_RUN_MAX_S,
    )
    if told.returncode:
        raise RuntimeError(f"orch run ended with {told.returncode}: {told.stderr.decode()}")
    manifest = msgspec.json.decode(told.stdout)
    if manifest["status"] != "succeeded":
        raise RuntimeError(f"the job is {manifest['status']}")
    return float(manifest["duration_s"])


def _bare_s(server: ModelServer, folder: str, calls: list[Call], provider: str) -> float:
    """Make the same four calls in the same shape from a bare script; return its seconds."""
    path = os.path.join(folder, "calls.json")
    with open(path, "wb") as file:
        file.write(msgspec.json.encode([_replayed(server, call, provider) for call in calls]))
    script = os.path.join(
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bare_calls.py"
    )
    told = subprocess.run(
        [sys.executable, script, path], check=True, capture_output=True, timeout=_RUN_MAX_S
    )
    return float(told.stdout)


def _replayed(server: ModelServer, call: Call, provider: str) -> dict[str, Any]:
    kept = ("content-type", "anthropic-version")
    headers = {name: call.headers[name] for name in kept if name in call.headers}
    return {
        "url": server.url + call.path,
        "headers": headers | _CREDENTIALS.get(provider, {}),
        "body": call.body,
    }


CASE = Case(
    name="diamond",
    about="architect -> {builder, docs} -> qa through the command line, each call taking 0.5 s",
    bar="job time <= 1.6 s where 1.5 s is ideal; the second run makes no call, <= 5 % of the first",
    run=run,
)
