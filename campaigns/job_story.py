"""Random jobs of all kinds of steps, and what must be true of their logs whoever was killed.

The judge reads lines, not states: it shares nothing with the runner that it judges but the names
of events.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from random import Random
from typing import Any

STEPS = 30
ITEMS = 4

HELPER = """\
import os


def work(name, tally, seen):
    with open(tally, "a") as file:
        file.write(name + "\\n")
    with open(os.path.join(os.environ["ORCH_OUTPUTS"], name + ".txt"), "w") as file:
        file.write(seen)
    return {"text": f"{name} saw {len(seen)}"}


def listing(name, tally, seen):
    work(name, tally, seen)
    return [f"{name}-{number}" for number in range(4)]
"""


INNER = "inner.json"
"""The job file that steps of the random jobs run, beside the job's own."""


def inner() -> dict[str, Any]:
    """Return that file: four steps, of which two wait for others, and one comes last."""
    me = {"NAME": "{{ inputs.name }}", "TALLY": "{{ inputs.tally }}", "SEEN": "{{ inputs.seen }}"}

    def run(step: str, **more: Any) -> dict[str, Any]:
        command = (
            f'echo "$NAME/{step}" >> "$TALLY"; echo "$SEEN" | tee "$ORCH_OUTPUTS/$NAME-{step}.txt"'
        )
        return {"run": command, "env": {**me, **more.pop("env", {})}, **more}

    asked = {"prompt": "{{ inputs.name }}/ask: {{ inputs.seen }}"}
    told = {"SEEN": "{{ steps.ask.output.text }}"}
    return {
        "inputs": {
            name: {"type": "string", "required": True} for name in ("name", "tally", "seen")
        },
        "steps": {
            "one": run("one"),
            "ask": {"llm": asked},
            "two": run("two", needs=["one", "ask"], env=told),
            "last": run("last", **{"finally": True}),
        },
        "outputs": {"text": "{{ steps.two.output.text }}"},
    }


def spec(seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Return a random job: what each step says depends on all that it needs."""
    rng = Random(seed)
    made: dict[str, Any] = {}
    lists: list[str] = []
    texts: list[str] = []
    for number in range(steps):
        name = f"s{number}"
        needs = rng.sample(texts[-8:], min(len(texts[-8:]), rng.choice((0, 1, 1, 2, 3))))
        seen = " ".join(["start", *(f"{{{{ steps.{need}.output.text }}}}" for need in needs)])
        kind = rng.choice(("run", "run", "llm", "llm", "python", "list", "each", "file"))
        if kind == "each" and not lists:
            kind = "list"
        made[name] = {"needs": needs, **_step(kind, name, seen)}
        if kind == "list":
            lists.append(name)
        elif kind == "each":
            over = rng.choice(lists)
            made[name]["needs"] = [*needs, over]
            made[name]["for_each"] = f"{{{{ steps.{over}.output }}}}"
            made[name]["max_parallel"] = 2
        else:
            texts.append(name)
    return {
        "project": f"story-{seed}",
        "provider": "ollama",
        "model": "test-model",
        "concurrency": rng.choice((1, 3, 6)),
        "inputs": {"tally": {"type": "string", "required": True}},
        "steps": made,
        "outputs": {name: f"{{{{ steps.{name}.output }}}}" for name in made},
    }


def _step(kind: str, name: str, seen: str) -> dict[str, Any]:
    match kind:
        case "file":
            given = {"name": name, "tally": "{{ inputs.tally }}", "seen": seen}
            return {"workflow": INNER, "with": given}
        case "llm":
            return {"llm": {"prompt": f"{name}: {seen}"}, "save_as": f"{name}.md"}
        case "python" | "list":
            function = "work" if kind == "python" else "listing"
            given = {"name": name, "tally": "{{ inputs.tally }}", "seen": seen}
            return {"python": f"helper:{function}", "with": given}
        case _:
            me = f"{name}[{{{{ item }}}}]" if kind == "each" else name
            command = 'echo "$ME" >> "$TALLY"; echo "$SEEN" | tee "$ORCH_OUTPUTS/$ME.txt"'
            env = {"TALLY": "{{ inputs.tally }}", "SEEN": seen, "ME": me}
            return {"run": command, "env": env}


def result(folder: str, outputs: dict[str, Any]) -> str:
    """Return a hash of all that a job leaves for its user: outputs, and every published file."""
    found = [json.dumps(outputs, sort_keys=True)]
    root = os.path.join(folder, "outputs")
    for path, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            with open(os.path.join(path, name), "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            found.append(f"{os.path.relpath(os.path.join(path, name), root)} {digest}")
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def faults(folder: str, tally: str, asked: Counter[str]) -> list[str]:
    """Return what is wrong with a finished job's log, its effects and the calls it made.

    Args:
        folder: the job's.
        tally: the file into which each step wrote its name as its effect.
        asked: how often the server was asked each prompt.
    """
    with open(os.path.join(folder, "events.jsonl"), "rb") as file:
        lines = [json.loads(line) for line in file]
    wrong = [f"seq {line['seq']} at line {n}" for n, line in enumerate(lines) if line["seq"] != n]
    starts: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    cut_off: Counter[str] = Counter()
    open_: set[str] = set()
    done: set[str] = set()
    requests: Counter[str] = Counter()
    answered: set[str] = set()
    for line in lines:
        kind, data = line["type"], line.get("data", {})
        name = line.get("step", "") + (f"[{line['item']}]" if "item" in line else "")
        match kind:
            case "step.started":
                if name in done:
                    wrong.append(f"{name} was run again after its success (seq {line['seq']})")
                if name in open_:
                    wrong.append(f"{name} was started with an attempt open (seq {line['seq']})")
                starts[name] += 1
                open_.add(name)
            case "step.succeeded" | "step.failed" | "step.retrying":
                ends[name] += 1
                open_.discard(name)
                done |= {name} if kind == "step.succeeded" else set()
            case "step.interrupted":
                cut_off[name] += 1
                open_.discard(name)
            case "step.invalidated":
                done.discard(name)
            case "llm.request":
                requests[name] += 1
                if data["cache_key"] in answered:
                    wrong.append(f"{name} asked again what was answered (seq {line['seq']})")
            case "llm.response" if data.get("success"):
                answered.add(data["cache_key"])
            case _:
                pass
    wrong += [f"{name} has an attempt without an end" for name in open_]
    if lines[-1]["type"] != "job.succeeded":
        wrong.append(f"the last line is {lines[-1]['type']}")
    wrong += _effects(tally, starts, cut_off)
    wrong += [
        f"{name} was asked {count} times of the server, {requests[name]} of the log"
        for name, count in asked.items()
        if count > requests[name]
    ]
    return wrong


def _effects(tally: str, starts: Counter[str], cut_off: Counter[str]) -> list[str]:
    with open(tally, encoding="utf-8") as file:
        happened = Counter(file.read().split())
    wrong = []
    for name, count in happened.items():
        if count > starts[name]:
            wrong.append(f"{name} had {count} effects in {starts[name]} attempts")
        if count > 1 + cut_off[name]:
            wrong.append(f"{name} had {count} effects, and was cut off {cut_off[name]} times")
    return wrong
