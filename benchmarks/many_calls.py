"""Many calls of one server, a hundred at once: `python many_calls.py HOW NUMBER AT_ONCE`.

HOW is `provider` (ours), `job` (a step each, with log, cache and blobs) or `httpx-N` (N bare
clients that share the calls). The server is where OPENAI_BASE_URL says. One JSON object is
printed: the seconds from the first call to the end of the last, the processor's seconds in them,
the peak of memory in MiB, and for a job the seconds in the log.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

MODEL = "test-model"
SYSTEM = "You are brief."


def prompt(number: int) -> str:
    return f"Say something about the number {number}, in a sentence or two."


async def at_once(number: int, width: int, call: Callable[[int, int], Awaitable[Any]]) -> Any:
    """Make the calls from `width` tasks and return seconds and processor seconds."""
    numbers = iter(range(number))

    async def worker(lane: int) -> None:
        for each in numbers:
            await call(each, lane)

    await call(-1, 0)  # imports, and the first connection
    began, began_cpu = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as group:
        for lane in range(width):
            group.start_soon(worker, lane)
    return time.perf_counter() - began, time.process_time() - began_cpu


async def ours(number: int, width: int) -> dict[str, float]:
    from orchestrator.providers import Message, Request, connect

    provider = connect("openai", environ=os.environ)

    async def call(each: int, _: int) -> None:
        messages = (Message("system", SYSTEM), Message("user", prompt(each)))
        request = Request(model=MODEL, messages=messages)
        reply = await provider.complete(request, timeout_s=60, idempotency_key=str(each))
        assert reply.complete

    seconds, cpu = await at_once(number, width, call)
    await provider.aclose()
    return {"seconds": seconds, "cpu_s": cpu}


async def bare(number: int, width: int, clients: int) -> dict[str, float]:
    import httpx

    limits = httpx.Limits(max_connections=width // clients)
    open_ = [httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) for _ in range(clients)]
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"

    async def call(each: int, lane: int) -> None:
        roles = (("system", SYSTEM), ("user", prompt(each)))
        messages = [{"role": role, "content": text} for role, text in roles]
        answer = await open_[lane % clients].post(url, json={"model": MODEL, "messages": messages})
        assert answer.json()["choices"][0]["finish_reason"] == "stop"

    seconds, cpu = await at_once(number, width, call)
    for client in open_:
        await client.aclose()
    return {"seconds": seconds, "cpu_s": cpu}


def job(number: int, width: int) -> dict[str, float]:
    from eventlog import Log
    from orchestrator import run

    in_log = [0.0]
    append = Log.append

    def timed(self: Log, *events: Any, **how: Any) -> range:
        began = time.perf_counter()
        try:
            return append(self, *events, **how)
        finally:
            in_log[0] += time.perf_counter() - began

    Log.append = timed  # type: ignore[method-assign]
    llm = {"system": SYSTEM}
    steps = {f"s{each}": {"llm": {**llm, "prompt": prompt(each)}} for each in range(number)}
    spec = {"project": "calls", "provider": "openai", "model": MODEL, "concurrency": width}
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        result = run(spec | {"steps": steps}, runs_dir=folder)
        assert result.ok
        cpu = time.process_time() - began
        seconds = result.state.totals.legs_s
    return {"seconds": seconds, "cpu_s": cpu, "log_s": in_log[0]}


def main() -> None:
    how, number, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if how == "job":
        told = job(number, width)
    elif how == "provider":
        told = anyio.run(ours, number, width)
    else:
        told = anyio.run(bare, number, width, int(how.partition("-")[2]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told["peak_mib"] = peak / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
