"""Run a graph of no-op nodes with LangGraph and its SQLite checkpointer.

    python langgraph_run.py FOLDER GRAPH CONCURRENCY

GRAPH is a JSON file: step to the steps it needs. Each node does nothing and keeps its result in
the state, under its name; every super-step is on the disk before the next one (`durability` is
`sync`). Prints the seconds of the run, the graph being compiled already.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
import sys
import time
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    """What each step returned, by its name."""

    results: Annotated[dict[str, Any], operator.or_]


def node(name: str) -> Any:
    """Return a node that does nothing."""

    async def noop(_: State) -> dict[str, Any]:
        return {"results": {name: None}}

    return noop


def graph(needs: dict[str, list[str]]) -> Any:
    """Return the graph of these steps, not compiled yet."""
    built = StateGraph(State)
    for name in needs:
        built.add_node(name, node(name))
    needed = {need for wanted in needs.values() for need in wanted}
    for name, wanted in needs.items():
        if len(wanted) > 1:
            built.add_edge(wanted, name)  # waits for all of them
        else:
            built.add_edge(wanted[0] if wanted else START, name)
        if name not in needed:
            built.add_edge(name, END)
    return built


async def main(folder: str, path: str, concurrency: int) -> float:
    """Return the seconds of one run."""
    with open(path, encoding="utf-8") as file:  # noqa: ASYNC230 - once, before the run
        needs = json.load(file)
    config = {
        "configurable": {"thread_id": "bench"},
        "max_concurrency": concurrency,
        "recursion_limit": len(needs) + 10,
    }
    async with AsyncSqliteSaver.from_conn_string(os.path.join(folder, "langgraph.sqlite")) as saver:
        compiled = graph(needs).compile(checkpointer=saver)
        begun = time.perf_counter()
        state = await compiled.ainvoke({"results": {}}, config, durability="sync")
        taken = time.perf_counter() - begun
    if len(state["results"]) != len(needs):
        raise SystemExit(f"{len(state['results'])} of {len(needs)} steps have a result")
    return taken


if __name__ == "__main__":
    taken = asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    print(json.dumps({"seconds": taken}))
