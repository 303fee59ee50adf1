"""A job of Python functions and an equal job file tell the same: event by event."""

import importlib.util
import json
import re
import textwrap

import anyio
import pytest

import orchestrator
from orchestrator import DAG, DAGNode, run_dag
from orchestrator.retry import RetryPolicy

TOOLS = """
import pathlib, time
here = pathlib.Path(__file__).parent

def one():
    return 1

def add(n):
    return n + 1

def fails():
    raise ValueError("no luck")

def flaky():
    tries = here / "tries"
    tries.write_text("x" + (tries.read_text() if tries.exists() else ""))
    if len(tries.read_text()) < 3:
        raise OSError("flaky")
    return "at last"

def slow():
    time.sleep(3)

def odd():
    return {"a": [1, {2}]}

def guarded():
    if not (here / "leg2").exists():
        raise RuntimeError("not yet")
    return "went"
"""
POLICY = {"max_attempts": 3, "initial_s": 0.001, "factor": 1.0, "max_s": 0.001, "jitter": 0.0}


class Side:
    """What makes nodes of the functions that a job file names."""

    def __init__(self, tools):
        self._tools = tools

    def __call__(self, name, fn, *needs, use=None, **more):
        function = getattr(self._tools, fn)

        def step(context, dep_results):
            return function() if use is None else function(dep_results[use].output)

        return DAGNode(id=name, fn=step, needs=needs, **more)


# name: the steps of a job file, the same as nodes, and what the caller says.
EQUAL = {
    "a chain": (
        """
        a: {python: m:one}
        b: {needs: a, python: m:add, with: {n: "{{ steps.a.output }}"}}
        """,
        lambda n: [n("a", "one"), n("b", "add", "a", use="a")],
        {},
    ),
    "a failure, what it keeps from running, and what comes last": (
        """
        a: {python: m:fails}
        b: {needs: a, python: m:one}
        c: {needs: b, python: m:one}
        d: {python: m:one}
        e: {needs: a, if: always(), python: m:one}
        z: {finally: true, python: m:one}
        """,
        lambda n: [
            n("a", "fails"),
            n("b", "one", "a"),
            n("c", "one", "b"),
            n("d", "one"),
            n("e", "one", "a", regardless=True),
            n("z", "one", finally_=True),
        ],
        {},
    ),
    "all failures with keep_going": (
        """
        a: {python: m:fails}
        b: {python: m:fails}
        c: {needs: b, python: m:one}
        d: {python: m:one}
        e: {needs: d, python: m:one}
        """,
        lambda n: [
            n("a", "fails"),
            n("b", "fails"),
            n("c", "one", "b"),
            n("d", "one"),
            n("e", "one", "d"),
        ],
        {"keep_going": True},
    ),
    "retries": (
        f"a: {{python: m:flaky, retry: {json.dumps({**POLICY, 'on': ['exception']})}}}",
        lambda n: [n("a", "flaky", retry=RetryPolicy(**POLICY, on=("exception",)))],
        {},
    ),
    "the limit of an attempt": (
        "a: {python: m:slow, timeout_s: 0.2}",
        lambda n: [n("a", "slow", timeout_s=0.2)],
        {},
    ),
    "an output that is no JSON": ("a: {python: m:odd}", lambda n: [n("a", "odd")], {}),
    "a failure that is borne": (
        """
        a: {python: m:fails, continue_on_error: true}
        b: {needs: a, python: m:one}
        """,
        lambda n: [n("a", "fails", continue_on_error=True), n("b", "one", "a")],
        {},
    ),
    "a condition": (
        """
        a: {python: m:one}
        b: {needs: a, if: steps.a.output == 2, python: m:one}
        c: {needs: b, python: m:one}
        """,
        lambda n: [
            n("a", "one"),
            n("b", "one", "a", when=lambda _, deps: deps["a"].output == 2),
            n("c", "one", "b"),
        ],
        {},
    ),
    "a second leg": (
        """
        a: {python: m:one}
        b: {needs: a, python: m:guarded}
        c: {needs: b, python: m:one}
        """,
        lambda n: [n("a", "one"), n("b", "guarded", "a"), n("c", "one", "b")],
        {"legs": 2},
    ),
    "a finished job": (
        "a: {python: m:one}\nb: {needs: a, python: m:one}",
        lambda n: [n("a", "one"), n("b", "one", "a")],
        {"legs": 2},
    ),
}
OF_A_FILE = {"spec_path", "spec_sha256", "inputs", "provider", "model"}
NEVER_THE_SAME = {"key", "parts", "idempotency_key", "duration_s"}
ITS_OWN = {"condition", "hint", "abandoned"}
"""An expression or a function's name; where the traceback is; a thread can only be left alone."""


def plain(value):
    """Return what both sides have in common of an event's data."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    left = OF_A_FILE | NEVER_THE_SAME | ITS_OWN
    told = {name: plain(item) for name, item in value.items() if name not in left}
    if "kind" in told:
        told["kind"] = told["kind"].replace("function", "python")
    if "message" in told:
        told["message"] = re.sub(r" \(.*\)$", "", told["message"])
    if "reason" in told:
        told["reason"] = re.sub(r"(its condition is false): .*", r"\1", told["reason"])
    return told


def told(path):
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        (event["type"], event["level"], event.get("step"), plain(event["data"]))
        for event in events
        if event["type"] != "log.opened"
    ]


def of_a_file(folder, steps, legs, **said):
    text = textwrap.indent(textwrap.dedent(steps), "  ")
    spec = folder / "job.yaml"
    spec.write_text(f"project: j\nconcurrency: 1\nsteps:\n{text}\n")
    for leg in range(1, legs + 1):
        (folder / f"leg{leg}").touch()
        done = orchestrator.run(spec, runs_dir=str(folder / "runs"), resume=leg > 1, **said)
    return told(folder / "runs" / done.job_id / "events.jsonl")


def of_a_program(folder, nodes, legs, **said):
    found = importlib.util.spec_from_file_location("m", folder / "m.py")
    tools = importlib.util.module_from_spec(found)
    found.loader.exec_module(tools)
    log = folder / "runs" / "j" / "events.jsonl"

    async def run(resume):
        dag = DAG(nodes(Side(tools)))
        await run_dag(dag, "j", None, log, concurrency=1, resume=resume, **said)

    for leg in range(1, legs + 1):
        (folder / f"leg{leg}").touch()
        anyio.run(run, leg > 1)
    return told(log)


@pytest.mark.parametrize("name", EQUAL)
def test_functions_and_a_job_file_tell_the_same(tmp_path, monkeypatch, name):
    steps, nodes, said = EQUAL[name]
    said = {"legs": 1, **said}
    sides = []
    for side in ("file", "program"):
        folder = tmp_path / side
        folder.mkdir()
        (folder / "m.py").write_text(TOOLS)
        monkeypatch.chdir(folder)
        run, what = (of_a_file, steps) if side == "file" else (of_a_program, nodes)
        sides.append(run(folder, what, **said))
    assert sides[0] == sides[1]
    assert sides[0][-1][0].startswith("job.")
