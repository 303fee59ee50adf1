"""The graphs that are run: a chain, a fan-out, and a random one, of steps that do nothing."""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import msgspec
from harness import clock

from eventlog.fs import FILES
from orchestrator import DAG, DAGNode, EventEmitter, run_dag

Needs = Mapping[str, tuple[str, ...]]

RUN_MAX_S = 120.0
"""A run that takes longer is broken: it is stopped."""


def chain(count: int) -> Needs:
    """Return steps of which each needs the one before."""
    return {f"s{i}": ((f"s{i - 1}",) if i else ()) for i in range(count)}


def wide(count: int) -> Needs:
    """Return steps that need nothing."""
    return {f"s{i}": () for i in range(count)}


def tangle(count: int) -> Needs:
    """Return steps that need up to three of the fifty before them; always the same ones."""
    dice = random.Random(12)
    needs: dict[str, tuple[str, ...]] = {}
    for i in range(count):
        near = range(max(0, i - 50), i)
        few = dice.sample(near, min(len(near), dice.randint(0, 3)))
        needs[f"s{i}"] = tuple(f"s{n}" for n in sorted(few))
    return needs


async def noop(context: Any, dep_results: Any) -> None:
    """Do nothing."""


def graph(needs: Needs) -> DAG:
    """Return the steps as a DAG of ours."""
    return DAG([DAGNode(id=name, fn=noop, needs=wanted) for name, wanted in needs.items()])


async def run_ours(dag: DAG, path: str, concurrency: int, *, resume: bool = False) -> float:
    """Run a DAG with its log at `path` and return the seconds, opening and closing included."""
    with anyio.fail_after(RUN_MAX_S), clock() as elapsed:
        with EventEmitter(path) as emitter:
            results = await run_dag(
                dag, "bench", None, emitter, concurrency=concurrency, resume=resume
            )
        seconds = elapsed()
    wanted = "skipped" if resume else "succeeded"
    bad = [result for result in results.values() if result.status != wanted]
    if bad or len(results) != len(dag.nodes):
        raise RuntimeError(f"{len(bad)} of {len(dag.nodes)} steps did not end as {wanted}")
    return seconds


async def sample_lines(path: str, needs: Needs) -> dict[str, dict[str, Any]]:
    """Return what our lines of a step look like, by type: what the bare loop writes as well."""
    few = dict(list(needs.items())[:4])
    await run_ours(graph(few), path, 4)
    with open(path, "rb") as file:  # noqa: ASYNC230 - four steps' lines, unmeasured
        lines = [msgspec.json.decode(line) for line in file]
    found = {line["type"]: line for line in lines}
    return {kind: found[kind] for kind in ("step.started", "step.succeeded")}


async def run_bare(
    needs: Needs, path: str, concurrency: int, lines: Mapping[str, dict[str, Any]]
) -> float:
    """Run the same steps in the bare loop and return the seconds.

    A task group, as many no-op steps at once, two msgspec lines a step, one write and sync for
    whatever has come, nothing else: no state, no hashes, no keys, no limits, no errors.
    """
    with anyio.fail_after(RUN_MAX_S), clock() as elapsed:
        loop = _Bare(needs, concurrency, _line_maker(lines))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            await loop.run(fd)
        finally:
            os.close(fd)
        return elapsed()


class _Bare:
    def __init__(self, needs: Needs, concurrency: int, line: Callable[[str, str], bytes]) -> None:
        self._concurrency = concurrency
        self._line = line
        self._unmet = {name: len(wanted) for name, wanted in needs.items()}
        self._dependents: dict[str, list[str]] = {name: [] for name in needs}
        for name, wanted in needs.items():
            for need in wanted:
                self._dependents[need].append(name)
        self._ready = deque(name for name, count in self._unmet.items() if not count)
        self._came: deque[str] = deque()
        self._wake = anyio.Event()

    async def run(self, fd: int) -> None:
        left, running = len(self._unmet), 0
        async with anyio.create_task_group() as group:
            while True:
                batch = []
                while self._came:
                    name = self._came.popleft()
                    batch.append(self._line("step.succeeded", name))
                    left, running = left - 1, running - 1
                    for dependent in self._dependents[name]:
                        self._unmet[dependent] -= 1
                        if not self._unmet[dependent]:
                            self._ready.append(dependent)
                starts = []
                while self._ready and running < self._concurrency:
                    starts.append(self._ready.popleft())
                    batch.append(self._line("step.started", starts[-1]))
                    running += 1
                os.write(fd, b"".join(batch))
                FILES.sync_data(fd)
                if not left:
                    return
                for name in starts:
                    group.start_soon(self._step, name)
                await self._wake.wait()
                self._wake = anyio.Event()

    async def _step(self, name: str) -> None:
        await noop(None, None)
        self._came.append(name)
        self._wake.set()


def _line_maker(lines: Mapping[str, dict[str, Any]]) -> Callable[[str, str], bytes]:
    """Return what encodes a step's line: our line's members, with this step's name and seq."""
    encode = msgspec.json.encode
    shapes = {kind: dict(line) for kind, line in lines.items()}
    seq = 0

    def line(kind: str, name: str) -> bytes:
        nonlocal seq
        seq += 1
        shape = shapes[kind]
        shape["seq"], shape["step"] = seq, name
        return encode(shape) + b"\n"

    return line
