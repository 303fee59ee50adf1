"""Run a graph of no-op steps with DBOS over SQLite, in one workflow.

    python dbos_run.py FOLDER GRAPH CONCURRENCY

GRAPH is a JSON file: step to the steps it needs. Each step is an async DBOS step that does
nothing; a semaphore keeps as many under way as CONCURRENCY says. Prints the seconds from the
start of the workflow to its result, DBOS being launched already.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time

from dbos import DBOS, SetWorkflowID


@DBOS.step()
async def noop(name: str) -> None:
    """Do nothing."""


@DBOS.workflow()
async def job(path: str, concurrency: int) -> int:
    """Run every step as soon as what it needs has ended, and return how many ended."""
    with open(path, encoding="utf-8") as file:  # noqa: ASYNC230 - once, before the first step
        needs: dict[str, list[str]] = json.load(file)
    free = asyncio.Semaphore(concurrency)
    ended: dict[str, asyncio.Task[None]] = {}

    async def one(name: str) -> None:
        for need in needs[name]:
            await ended[need]
        async with free:
            await noop(name)

    for name in needs:
        ended[name] = asyncio.create_task(one(name))
    await asyncio.gather(*ended.values())
    return len(ended)


async def main(path: str, concurrency: int) -> float:
    """Return the seconds of one workflow."""
    begun = time.perf_counter()
    with SetWorkflowID("bench"):
        count = await job(path, concurrency)
    taken = time.perf_counter() - begun
    recorded = len(await DBOS.list_workflow_steps_async("bench"))
    if recorded != count:
        raise SystemExit(f"{recorded} of {count} steps were recorded")
    return taken


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{sys.argv[1]}/dbos.sqlite",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    logging.disable(logging.WARNING)
    DBOS.launch()
    seconds = asyncio.run(main(sys.argv[2], int(sys.argv[3])))
    DBOS.destroy()
    print(json.dumps({"seconds": seconds}))
