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


KINDS = ("run", "run", "llm", "llm", "python", "list", "each", "matrix", "file")
FLOW = ("approve", "skipped", "borne", "retried", "once", "cached", "looks")
LAST = "f"
"""How the names of steps begin that come last; they come again whenever anything else did."""
LOOKS = "k"
"""The same of steps that look at what became of others: another status is another key."""
ONCE = "o"
"""The same of steps whose effects must not happen twice without an answer."""


PREFIX = {"finally": LAST, "looks": LOOKS, "once": ONCE}


def may_come_again(name: str) -> bool:
    """Return whether a step that has succeeded may be run again: things may have changed."""
    return comes_last(name) or name.startswith(LOOKS)


def comes_last(name: str) -> bool:
    """Return whether a step comes last: of the job, or of the job file that it is in."""
    return name.startswith(LAST) or name.endswith("/last")


def spec(seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Return a random job: what each step says depends on all that it needs."""
    rng = Random(seed)
    made: dict[str, Any] = {}
    lists: list[str] = []
    texts: list[str] = []
    bearers: list[str] = []
    for number in range(steps):
        # The last two come last; of the others, one in three is of a kind that bends the flow.
        kind = rng.choice(FLOW if rng.random() < 1 / 3 else KINDS)
        kind = "finally" if steps > 4 and number >= steps - 2 else kind
        if kind == "each" and not lists:
            kind = "list"
        if kind == "looks" and not bearers:
            kind = "borne"
        name = f"{PREFIX.get(kind, 's')}{number}"
        if kind == "finally":  # it comes after a failure, too, when others have no output
            made[name] = _step(kind, name, "end", "")
            continue
        needs = rng.sample(texts[-8:], min(len(texts[-8:]), rng.choice((0, 1, 1, 2, 3))))
        seen = " ".join(["start", *(f"{{{{ steps.{need}.output.text }}}}" for need in needs)])
        over = rng.choice(lists) if kind == "each" else ""
        other = rng.choice(bearers) if kind == "looks" else ""
        made[name] = {"needs": [*needs, *filter(None, (over, other))]}
        made[name] |= _step(kind, name, seen, over or other)
        if kind != "file":  # it may be cut off more often than a step is tried by itself
            made[name]["max_recoveries"] = 1000
        if kind == "list":
            lists.append(name)
        elif kind in ("borne", "skipped"):
            bearers.append(name)
        elif kind in ("run", "llm", "python", "file", "retried", "once", "cached"):
            texts.append(name)
    return {
        "project": f"story-{seed}",
        "provider": "ollama",
        "model": "test-model",
        "concurrency": rng.choice((1, 3, 6)),
        "inputs": {
            "tally": {"type": "string", "required": True},
            "marks": {"type": "string", "required": True},
        },
        "steps": made,
        "outputs": {name: f"{{{{ steps.{name}.output }}}}" for name in made},
    }


def _step(kind: str, name: str, seen: str, other: str) -> dict[str, Any]:
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
        case "approve":
            return {"approve": {"message": f"{name}: {seen}?"}}
        case "each":
            over = {"for_each": f"{{{{ steps.{other}.output }}}}", "max_parallel": 2}
            return {**_shell(f"{name}[$ORCH_ITEM]", seen), **over}
        case "matrix":
            over = {"matrix": {"x": ["p", "q"], "y": [1, 2]}, "max_parallel": 3}
            return {**_shell(f"{name}[$ORCH_ITEM]", seen), **over}
        case "skipped":
            return {**_shell(name, seen), "if": "inputs.tally == ''"}
        case "borne":
            return {**_shell(name, seen, "exit 3"), "continue_on_error": True}
        case "looks":
            settled = f"steps.{other}.status in ['failed', 'skipped']"
            return {**_shell(name, seen), "if": settled}
        case "retried":
            fails = 'test -e "$MARKS/$ME" || { touch "$MARKS/$ME"; exit 1; }'
            retry = {"max_attempts": 4, "initial_s": 0.01, "on": ["exit"]}
            return {**_shell(name, seen, fails), "retry": retry}
        case "once":
            return {**_shell(name, seen), "effects": "once"}
        case "cached":
            return {**_shell(name, seen), "cache": True}
        case "finally":
            return {**_shell(name, f"{seen} {{{{ job.status }}}}"), "finally": True}
        case _:
            return _shell(name, seen)


def _shell(me: str, seen: str, then: str = "") -> dict[str, Any]:
    """Return a command that tells of itself, maybe fails, and leaves a file."""
    command = f'ME="{me}"; echo "$ME" >> "$TALLY"; {then}\n'
    command += 'echo "$SEEN" | tee "$ORCH_OUTPUTS/$ME.txt"'
    env = {"TALLY": "{{ inputs.tally }}", "MARKS": "{{ inputs.marks }}", "SEEN": seen}
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
    judge = _Judge()
    for number, line in enumerate(lines):
        if line["seq"] != number:
            judge.wrong.append(f"seq {line['seq']} at line {number}")
        judge.take(line)
    wrong = judge.wrong
    wrong += [f"{name} has an attempt without an end" for name in judge.open]
    if lines[-1]["type"] != "job.succeeded":
        wrong.append(f"the last line is {lines[-1]['type']}")
    wrong += _effects(tally, judge.starts, judge.cut_off + judge.failed)
    wrong += [
        f"{name} was asked {count} times of the server, {judge.requests[name]} of the log"
        for name, count in asked.items()
        if count > judge.requests[name]
    ]
    return wrong


class _Judge:
    """Reads a log line by line, and notes what may not be."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.starts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.cut_off: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.open: set[str] = set()
        self._done: dict[str, str] = {}
        self._answered: set[str] = set()
        self._asked_about: set[str] = set()
        self._question = False  # whether one was put in this leg
        self._told = False  # and in the one before
        # The job ("") and the job files in it of which the leg has run anything else than what
        # comes last.
        self._begun: set[str] = set()

    def take(self, line: dict[str, Any]) -> None:
        """Take in the next line."""
        kind, data = line["type"], line.get("data", {})
        name = line.get("step", "") + (f"[{line['item']}]" if "item" in line else "")
        at = f"(seq {line['seq']})"
        match kind:
            case "job.started" | "job.resumed":
                self._begun.clear()
                self._told, self._question = self._question, False
            case "step.started":
                self._started(name, data.get("key", ""), at)
            case "step.succeeded" | "step.approved":
                self.open.discard(name)
                self._done[name] = data.get("key", "")
            case "step.failed" | "step.retrying":
                if data.get("kind") == "interrupted":
                    self._asked_about.add(name)
                    self._question = True
                else:
                    self.failed[name] += 1
                self.open.discard(name)
            case "step.waiting" if name in self._done:
                self.wrong.append(f"{name} was asked about again {at}")
            case "step.interrupted":
                self.cut_off[name] += 1
                self.open.discard(name)
            case "step.invalidated":
                self._done.pop(name, None)
            case "llm.request":
                self.requests[name] += 1
                if data["cache_key"] in self._answered:
                    self.wrong.append(f"{name} asked again what was answered {at}")
            case "llm.response" if data.get("success"):
                self._answered.add(data["cache_key"])
            case _:
                pass

    def _started(self, name: str, key: str, at: str) -> None:
        inside = name.partition("/")[0] if "/" in name else ""
        # What comes last sees how the job ended: that is a part of its key.
        again = comes_last(name) and inside in self._begun
        again = again or (may_come_again(name) and self._done.get(name) != key)
        self._begun |= {inside, ""} if not comes_last(name) else {""} if inside else set()
        if name in self._done and not again:
            self.wrong.append(f"{name} was run again after its success {at}")
        if name in self.open:
            self.wrong.append(f"{name} was started with an attempt open {at}")
        # An answer is for all steps that were cut off, also for one that was not reached.
        asked = self._told or name in self._asked_about
        if name.startswith(ONCE) and self.cut_off[name] and not asked:
            self.wrong.append(f"{name} was run again without a question {at}")
        self._asked_about.discard(name)
        self.starts[name] += 1
        self.open.add(name)


def _effects(tally: str, starts: Counter[str], again: Counter[str]) -> list[str]:
    """Return what is wrong with the effects; `again` are attempts that had no success."""
    with open(tally, encoding="utf-8") as file:
        happened = Counter(file.read().split())
    wrong = []
    for name, count in happened.items():
        if count > starts[name]:
            wrong.append(f"{name} had {count} effects in {starts[name]} attempts")
        if count > 1 + again[name] and not may_come_again(name):
            wrong.append(f"{name} had {count} effects, and was cut off {again[name]} times")
    return wrong
