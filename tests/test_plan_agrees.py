"""A plan and the leg that follows it say the same, whatever the spec and what was edited."""

import json
import tempfile
from pathlib import Path

import anyio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from orchestrator import run
from orchestrator.preflight import read_spec
from orchestrator.state import JobStatus
from orchestrator.wiring import Options, forecast

LISTS = [["a", "b", "c"], ["c", "a"], ["a", "b", "d", None, 1.5, {"k": ["x"]}], [], "no list"]
IFS = ["", "inputs.go", "not inputs.go", "steps.{need}.status == 'succeeded'", "failed()"]
ITEM_IFS = ["", "", "item != 'a'", "item.k"]


@st.composite
def specs(draw):
    """Draw the choices that make up a spec; `built` makes them one."""
    steps = []
    for index in range(draw(st.integers(1, 5))):
        need = draw(st.integers(-1, index - 1))
        steps.append(
            {
                "need": need,
                "if": draw(st.sampled_from(IFS if need >= 0 else IFS[:3])),
                "fan": draw(st.booleans()),
                "file": draw(st.integers(0, 3)) == 0,
                "item_if": draw(st.sampled_from(ITEM_IFS)),
                "by_output": draw(st.booleans()),
                "max_failures": draw(st.integers(0, 2)),
                "max_parallel": draw(st.integers(0, 2)),
                "borne": draw(st.integers(0, 3)) == 0,
                "cache": draw(st.booleans()),
                "text": "say",
                "name": f"s{index}",
            }
        )
    return steps


@st.composite
def edits(draw):
    """Draw what is changed between two legs."""
    what = draw(st.sampled_from(["nothing", "text", "name", "order", "need"]))
    return what, draw(st.integers(0, 4)), draw(st.sampled_from(LISTS)), draw(st.booleans())


def edited(steps, what, which):
    steps = [dict(step) for step in steps]
    step = steps[which % len(steps)]
    if what == "text":
        step["text"] += " more"
    elif what == "name":
        step["name"] += "x"
    elif what == "need":
        step["need"] = -1
        step["if"] = ""
    return steps


def built(steps, listed, go, *, backwards, limits):
    """Return the spec of these choices."""
    made = {}
    for choice in steps:
        need = steps[choice["need"]]["name"] if choice["need"] >= 0 else ""
        step = {"llm": {"prompt": f"{choice['name'][:2]} {choice['text']}"}}
        if choice["file"] and not choice["fan"]:
            step = {"workflow": INNER, "with": {"text": choice["text"], "name": choice["name"][:2]}}
        elif not choice["cache"]:
            step["cache"] = False
        if choice["borne"]:
            step["continue_on_error"] = True
        condition = choice["if"].format(need=need)
        if choice["fan"]:
            step["for_each"] = "{{ inputs.list }}"
            step["max_failures"] = choice["max_failures"]
            if choice["max_parallel"]:
                step["max_parallel"] = choice["max_parallel"]
            step["llm"]["prompt"] += " {{ item }}"
            condition = condition or choice["item_if"]
        if need:
            step["needs"] = [need]
            where, key = (step["llm"], "prompt") if "llm" in step else (step["with"], "text")
            if choice["by_output"]:
                where[key] += f" {{{{ steps.{need}.output }}}}"
        if condition:
            step["if"] = condition
        made[choice["name"]] = step
    if backwards:
        made = dict(reversed(made.items()))
    inputs = {"list": {"default": listed}, "go": {"default": go}}
    return {"project": "agree", "inputs": inputs, "steps": made, **limits}


def happened(path, first_seq):
    """Return what became of each step in the leg that begins at a seq: name to event types."""
    found = {}
    for line in Path(path, "events.jsonl").read_bytes().splitlines():
        event = json.loads(line)
        if event["seq"] >= first_seq and event.get("step"):
            item = event.get("item")
            name = event["step"] if item is None else f"{event['step']}[{item}]"
            found.setdefault(name, []).append(event["type"])
    return found


def disagreement(row, types, *, group):
    """Return whether a row of the plan is not what happened."""
    began, ended = "step.started" in types, types[-1]
    match row.action:
        case "run" if row.kind == "workflow":  # what comes out may be as it was
            return "step.expanded" not in types
        case "run" if group:
            return ended == "step.skipped"
        case "run":
            return not began or "cache.hit" in types
        case "cached":
            return not began or "cache.hit" not in types
        case "skipped":
            return ended not in ("step.skipped", "step.succeeded" if group else "")
        case "fails":
            return began or ended != "step.failed"
        case "depends":
            return False
    return True


def cut_short(name, state, rows):
    """Return whether a step was dropped because one failed that had to wait for what runs.

    No plan can know of that failure; what it says holds unless something fails.
    """
    first = state.failures[0].step if state.failures else ""
    if first in rows and (rows[first].action != "depends" or "only if" in rows[first].why):
        return False
    step = state.steps.get(name)
    return step is not None and step.reason == f"the job stopped when {first} failed"


INNER = "inner.json"
LIMITS = [{}, {"concurrency": 1}, {"concurrency": 2}, {"limits": {"llm": 1}}]
FILE = {
    "inputs": {"text": {"type": "string", "required": True}, "name": {"required": True}},
    "steps": {
        "ask": {"llm": {"prompt": "{{ inputs.name }} {{ inputs.text }}"}},
        "each": {"for_each": ["x", "y"], "llm": {"prompt": "{{ inputs.name }} {{ item }}"}},
        "more": {"needs": "ask", "llm": {"prompt": "more {{ steps.ask.output.text }}"}},
        "off": {"needs": "ask", "if": "failed()", "llm": {"prompt": "never"}},
        "last": {"finally": True, "llm": {"prompt": "{{ inputs.name }} last"}, "cache": False},
    },
    "outputs": {"more": "{{ steps.more.output.text }}"},
}


@settings(max_examples=30, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    specs(),
    st.lists(edits(), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 3).map(lambda index: LIMITS[index]),
)
def test_a_leg_does_what_its_plan_says(steps, changes, keep_going, limits):
    with tempfile.TemporaryDirectory() as runs_dir:
        seq, what = 0, ("nothing", 0, LISTS[0], True)
        for change in (what, *changes):
            steps = edited(steps, *change[:2])
            spec = built(steps, *change[2:], backwards=change[0] == "order", limits=limits)
            path = Path(runs_dir, "job.json")
            path.write_text(json.dumps(spec))
            Path(runs_dir, INNER).write_text(json.dumps(FILE))
            options = {"runs_dir": runs_dir, "resume": True, "warn": lambda _: None, "environ": {}}
            options["keep_going"] = keep_going
            plan = anyio.run(forecast, read_spec(path), Options(**options))
            done = run(path, **options)
            told = happened(done.path, seq)
            seq = done.state.seq + 1
            rows = {row.step: row for row in plan.steps}
            for row in plan.steps:
                types = told.get(row.step, ["nothing"])
                said = spec["steps"].get(row.step, {})
                group = "for_each" in said or "workflow" in said or row.step.endswith("/each")
                if not cut_short(row.step, done.state, rows):
                    assert not disagreement(row, types, group=group), (row, types)
                if row.action == "depends" and not row.depends_on and "comes last" not in row.why:
                    assert "stop" in row.why
                    assert (done.state.status, keep_going) == (JobStatus.FAILED, False), row
            for name in told.keys() - rows.keys():  # only items of what was not known yet
                assert rows[name.partition("[")[0]].action == "depends"
