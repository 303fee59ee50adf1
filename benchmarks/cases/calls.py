"""A thousand calls, a hundred at once, of a server that takes 50 ms: what stands between them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from harness import Bar, Case, Context, Row, interleave, paired, single

from orchestrator.testing import serve

_DELAY_S = 0.05
_AT_ONCE = 100
_RUN_MAX_S = 300.0
_SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "many_calls.py")


class _Runs:
    """What each way told of each of its rounds."""

    def __init__(self, environ: dict[str, str], number: int) -> None:
        self.told: dict[str, list[dict[str, float]]] = {}
        self._environ = environ
        self._number = number

    def once(self, how: str, number: int | None = None) -> float:
        """Make the calls in a process of its own and return their seconds."""
        command = [sys.executable, _SCRIPT, how, str(number or self._number), str(_AT_ONCE)]
        told = subprocess.run(
            command, env=self._environ, check=False, capture_output=True, timeout=_RUN_MAX_S
        )
        if told.returncode:
            raise RuntimeError(f"{how} ended with {told.returncode}: {told.stderr.decode()}")
        found = json.loads(told.stdout)
        self.told.setdefault(how, []).append(found)
        return float(found["seconds"])

    def median(self, how: str, field: str) -> float:
        return statistics.median(told[field] for told in self.told[how])


def run(context: Context) -> list[Row]:
    number = context.pick(1000, 100)
    ideal_s = number * _DELAY_S / _AT_ONCE
    with serve(delay_s=_DELAY_S) as server:
        runs = _Runs({**os.environ, **server.environ()}, number)
        ways = ("provider", "httpx-1", "httpx-10")
        works = {way: (lambda way=way: runs.once(way)) for way in ways}
        seconds = interleave(context.times(3, 1), works)
        small_mib = runs.median("provider", "peak_mib")
        runs.once("job")
        job = runs.told["job"][0]
        runs.once("provider", 5 * number)
    grown_mib = runs.told["provider"][-1]["peak_mib"] - small_mib
    what = f"{number:,} calls, {_AT_ONCE} at once"
    ours = seconds["provider"]
    alone_s = statistics.median(ours)
    bar = Bar("<=", 3 * ideal_s, of="value", unit="s")
    note = f"the ideal is {ideal_s:g} s"
    beside = ((1, bar, note), (10, None, ""))
    return [
        *(
            paired(
                what,
                ours,
                f"{count} httpx client{'s' if count > 1 else ''}",
                seconds[f"httpx-{count}"],
                unit="s",
                scale=lambda seconds: seconds,
                bar=bar,
                note=note,
            )
            for count, bar, note in beside
        ),
        Row(
            what=f"a job of {number:,} calls",
            value=job["seconds"],
            unit="s",
            beside="the calls alone",
            beside_value=alone_s,
            ratio=job["seconds"] / alone_s,
            note=f"the log's share: {job['log_s']:.2f} of {job['seconds']:.2f} s",
        ),
        single(
            f"memory, {5 * number:,} calls over {number:,}",
            [grown_mib],
            unit="MiB",
            bar=Bar("<=", 2.0, of="value", unit="MiB"),
        ),
    ]


CASE = Case(
    name="calls",
    about="1,000 calls of a loopback server that takes 50 ms, 100 at once, beside bare httpx",
    bar="<= 3x the ideal 0.5 s; memory flat",
    run=run,
)
