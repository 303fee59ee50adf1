"""The diamond's four calls with httpx and nothing else: `python bare_calls.py FILE`.

FILE holds a JSON list of four calls: `url`, `headers`, `body`. The first one is made, then the
two in the middle side by side, then the last. Prints the seconds from the first call to the end
of the last one.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import anyio
import httpx


async def _diamond(calls: list[dict[str, Any]]) -> float:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:

        async def ask(call: dict[str, Any]) -> None:
            answer = await client.post(call["url"], headers=call["headers"], json=call["body"])
            answer.raise_for_status()
            answer.json()

        begun = time.perf_counter()
        await ask(calls[0])
        async with anyio.create_task_group() as group:
            group.start_soon(ask, calls[1])
            group.start_soon(ask, calls[2])
        await ask(calls[3])
        return time.perf_counter() - begun


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as _file:
        print(anyio.run(_diamond, json.load(_file)))
