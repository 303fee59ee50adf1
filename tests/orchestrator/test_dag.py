import asyncio
import datetime as dt
import decimal
import functools
import json
import linecache
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import anyio
import pytest

from eventlog import LogDamaged, LogLocked, LogNotFound
from eventlog.fs import Files
from orchestrator.dag import DAG, DAGNode, StepResult, run_dag
from orchestrator.emitter import EventEmitter, read_events
from orchestrator.errors import FailureKind, StepError, UsageError
from orchestrator.fence import AttemptOver
from orchestrator.filestore import FileStore
from orchestrator.graph import GraphError
from orchestrator.retry import RetryPolicy

PATIENCE_S = 20.0


@pytest.fixture
def log(tmp_path):
    return tmp_path / "events.jsonl"


def dag_of(**nodes):
    """Return a DAG: `name=fn` or `name=(fn, need, …)`."""
    dag = DAG()
    for name, given in nodes.items():
        fn, *needs = given if isinstance(given, tuple) else (given,)
        dag.add_node(DAGNode(id=name, fn=fn, needs=needs))
    return dag


def go(dag, log, job_id="j", context=None, **options):
    return anyio.run(functools.partial(run_dag, dag, job_id, context, log, **options))


def outputs(results):
    return {name: result.output for name, result in results.items()}


def statuses(results):
    return {name: result.status for name, result in results.items()}


def types(log):
    return Counter(event["type"] for event in read_events(log))


class Word(str):
    """A text of a class of the user's."""

    __slots__ = ()


class Number(float):
    """A number of a class of the user's, as NumPy's are."""


class Calls:
    """Step functions that count how often they ran."""

    def __init__(self):
        self.count = Counter()

    def step(self, name, output=None, key=None):
        def fn(context, dep_results):
            self.count[name] += 1
            if callable(output):
                return output(dep_results)
            return name if output is None else output

        return fn


# --- the guide ----------------------------------------------------------------------------------


def test_the_guides_example(log):
    def run_architect(context, dep_results):
        return {"plan": context["task"]}

    def run_builder(context, dep_results):
        return dep_results["architect"].output["plan"] + ", built"

    async def run_docs(context, dep_results):
        return dep_results["architect"].output["plan"] + ", described"

    def run_qa(context, dep_results):
        return sorted(result.output for result in dep_results.values())

    async def main():
        events = EventEmitter(log)
        context = {"task": "a shed"}
        job_id = "job_1"
        dag = DAG()
        dag.add_node(DAGNode(id="architect", fn=run_architect, needs=[]))
        dag.add_node(DAGNode(id="builder", fn=run_builder, needs=["architect"]))
        dag.add_node(DAGNode(id="docs", fn=run_docs, needs=["architect"]))
        dag.add_node(DAGNode(id="qa", fn=run_qa, needs=["builder", "docs"]))
        first = await run_dag(dag, job_id, context, events)
        again = await run_dag(dag, job_id, context, events, resume=True)
        return first, again

    first, again = anyio.run(main)
    assert first["qa"].output == ["a shed, built", "a shed, described"]
    assert set(statuses(first).values()) == {"succeeded"}
    assert set(statuses(again).values()) == {"skipped"}
    assert outputs(again) == outputs(first)
    assert all(result.duration_s >= 0 for result in first.values())
    assert types(log)["step.skipped"] == 4
    assert types(log)["step.succeeded"] == 4


def test_each_line_names_the_job_and_the_step(log):
    go(dag_of(a=lambda c, d: 1), log, job_id="job-7")
    events = read_events(log)
    assert {event["job_id"] for event in events} == {"job-7"}
    assert [e["step"] for e in events if e["type"].startswith("step.")] == ["a", "a"]


# --- functions ----------------------------------------------------------------------------------


class Adder:
    def __init__(self, number):
        self.number = number

    def __call__(self, context, dep_results):
        return self.number + 1

    async def later(self, context, dep_results):
        return self.number + 2

    @staticmethod
    def alone(context, dep_results):
        return 7

    @classmethod
    async def of_class(cls, context, dep_results):
        return cls.__name__


class AsyncCallable:
    async def __call__(self, context, dep_results):
        return "async"


async def with_extra(extra, context, dep_results):
    return extra


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda context, dep_results: "sync", "sync"),
        (Adder(1), 2),
        (Adder(1).later, 3),
        (Adder.alone, 7),
        (Adder.of_class, "Adder"),
        (AsyncCallable(), "async"),
        (functools.partial(with_extra, "extra"), "extra"),
        (functools.partial(functools.partial(with_extra, "twice")), "twice"),
        (lambda context, dep_results: with_extra("awaited", context, dep_results), "awaited"),
        (operator.eq, True),
    ],
)
def test_any_callable_is_a_step(log, fn, expected):
    results = go(dag_of(a=fn), log, context={})
    assert results["a"] == StepResult(
        id="a", status="succeeded", output=expected, duration_s=results["a"].duration_s
    )


def test_sync_functions_run_at_once_as_many_as_concurrency_says(log):
    together = threading.Barrier(3, timeout=PATIENCE_S)

    def meet(context, dep_results):
        together.wait()

    results = go(dag_of(a=meet, b=meet, c=meet), log, concurrency=3)
    assert set(statuses(results).values()) == {"succeeded"}


def test_threads_are_used_again(log):
    seen = set()

    def note(context, dep_results):
        seen.add(threading.current_thread())

    go(dag_of(a=note, b=(note, "a"), c=(note, "b")), log)
    assert len(seen) == 1
    (thread,) = seen
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_context_of_any_kind_is_handed_out_and_written_nowhere(log):
    lock = threading.Lock()
    context = {"lock": lock, "password": "hunter2", "self": None}
    context["self"] = context

    def use(given, dep_results):
        with given["lock"]:
            return given is context

    assert go(dag_of(a=use), log, context=context)["a"].output is True
    assert b"hunter2" not in log.read_bytes()


def test_a_function_sees_results_by_need_with_output_and_status(log):
    def look(context, dep_results):
        (name,) = dep_results
        return [name, dep_results["a"].status, dep_results["a"].ok, dep_results["a"].output]

    results = go(dag_of(a=lambda c, d: {"x": 1}, b=(look, "a"), c=lambda c, d: 1), log)
    assert results["b"].output == ["a", "succeeded", True, {"x": 1}]


def test_a_failing_function_is_a_result_and_names_its_line(log):
    def boom(context, dep_results):
        raise ValueError("boom")

    results = go(dag_of(a=boom, b=(lambda c, d: 1, "a")), log)
    assert statuses(results) == {"a": "failed", "b": "not_run"}
    assert results["a"].error.startswith("ValueError: boom (test_dag.")
    assert "boom, line" in results["a"].error
    assert results["b"].error == "it needs a, which failed"
    assert not results["a"].ok


def test_keep_going_runs_the_rest(log):
    def boom(context, dep_results):
        raise ValueError

    dag = dag_of(a=boom, b=(lambda c, d: 1, "a"), c=lambda c, d: 2, d=(lambda c, d: 3, "c"))
    results = go(dag, log, concurrency=1, keep_going=True)
    assert statuses(results) == {"a": "failed", "b": "not_run", "c": "succeeded", "d": "succeeded"}


def test_all_errors_that_a_function_raises_together_are_told(log):
    async def bad(text):
        raise ValueError(text)

    async def both(context, dep_results):
        async with anyio.create_task_group() as group:
            group.start_soon(bad, "one")
            group.start_soon(bad, "two")

    assert "ValueError: one; ValueError: two" in go(dag_of(a=both), log)["a"].error


def test_a_function_that_takes_no_arguments_is_told_without_a_place_of_ours(log):
    error = go(dag_of(a=lambda: 1), log)["a"].error
    assert error.endswith("takes 0 positional arguments but 2 were given")


def test_a_function_that_exits_has_failed(log):
    assert go(dag_of(a=lambda c, d: sys.exit(3)), log)["a"].error.startswith("SystemExit: 3")


def test_a_function_that_is_cancelled_has_failed(log):
    def cancelled(context, dep_results):
        raise asyncio.CancelledError

    results = go(dag_of(a=cancelled, b=(lambda c, d: 1, "a")), log)
    assert statuses(results) == {"a": "failed", "b": "not_run"}


def test_a_retry_that_was_asked_for_means_exceptions_too(log):
    tries = []

    def flaky(context, dep_results):
        tries.append(1)
        if len(tries) < 3:
            raise OSError("flaky")
        return len(tries)

    policy = RetryPolicy(max_attempts=3, initial_s=0.001, max_s=0.001)
    assert go(DAG([DAGNode(id="a", fn=flaky, retry=policy)]), log)["a"].output == 3
    assert types(log)["step.retrying"] == 2


# --- outputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {"b": object()}]}, "$.a[1].b"),
        ({"ok": 1, "x": float("nan")}, "$.x"),
        ([1, float("inf")], "$[1]"),
        ({"t": "\ud800"}, "$.t"),
        ({"a": [{3: 1}]}, "$.a[0] has the key 3"),
        ({"a": {4}}, "$.a is a value of type set"),
        ([b"x"], "$[0] is a value of type bytes"),
        ({"at": dt.datetime(2025, 1, 2, tzinfo=dt.UTC)}, "$.at is a value of type datetime"),
        ({"path": Path("x")}, "$.path is a value of type PosixPath"),
        ([decimal.Decimal(1)], "$[0] is a value of type Decimal"),
        (DAGNode(id="a", fn=print), "$ is a value of type DAGNode"),
        ({"big": -(2**63) - 1}, "$.big is an integer of over 64 bits"),
        (object(), "$"),
    ],
)
def test_an_output_that_is_no_json_is_an_error_naming_step_and_path(log, value, where):
    result = go(dag_of(thinker=lambda c, d: value), log)["thinker"]
    assert result.status == "failed"
    assert f"the output of step thinker is no JSON value: {where}" in result.error


@pytest.mark.parametrize("depth", range(58, 70))
def test_an_output_nests_as_deep_as_a_line_may_or_is_an_error(log, depth):
    value = []
    for _ in range(depth):
        value = [value]
    result = go(dag_of(a=lambda c, d: value), log)["a"]
    assert result.status == ("failed" if depth > 62 else "succeeded")
    assert types(log)["job.failed" if depth > 62 else "job.succeeded"] == 1


def test_an_output_is_the_same_value_live_and_after_a_resume(log):
    def odd(context, dep_results):
        return {"z": (1, 2), "a": Word("x"), "big": 2**63, "f": 1.0, "t": True, "n": Number(2.5)}

    def look(context, dep_results):
        return repr(dep_results["a"].output)

    first = go(dag_of(a=odd, b=(look, "a")), log)
    again = go(
        DAG([DAGNode(id="a", fn=odd), DAGNode(id="c", fn=look, needs=["a"])]), log, resume=True
    )
    assert again["a"].status == "skipped"
    assert again["c"].output == first["b"].output
    assert repr(again["a"].output) == repr(first["a"].output)
    assert first["a"].output["z"] == [1, 2]


def test_a_step_can_not_change_what_another_one_is_given(log):
    def spoil(context, dep_results):
        dep_results["a"].output["list"].append("spoilt")

    def look(context, dep_results):
        return dep_results["a"].output

    for big in ("", "x" * 20_000):
        dag = dag_of(
            a=lambda c, d, big=big: {"list": [1], "big": big},
            b=(spoil, "a"),
            c=(look, "a", "b"),
        )
        results = go(dag, log, resume=True)
        assert results["c"].output["list"] == [1]
        assert results["a"].output["list"] == [1]


def test_a_large_output_is_a_blob_and_real_again_after_a_resume(log):
    large = {"text": "x" * 20_000, "z": 1, "a": 2}
    calls = Calls()
    first = go(DAG([DAGNode(id="a", fn=calls.step("a", large))]), log)
    assert first["a"].output == large
    (event,) = [e for e in read_events(log) if e["type"] == "step.succeeded"]
    digest = event["data"]["output"]["$blob"].removeprefix("sha256:")
    assert (log.parent / "artifacts" / digest).exists()
    assert os.path.getsize(log) < 10_000

    dag = dag_of(
        a=calls.step("a", large), b=(calls.step("b", lambda d: len(d["a"].output["text"])), "a")
    )
    again = go(dag, log, resume=True)
    assert statuses(again) == {"a": "skipped", "b": "succeeded"}
    assert again["a"].output == large
    assert again["b"].output == 20_000


@pytest.mark.parametrize(
    "value", [{"$blob": "sha256:" + "0" * 64, "bytes": 3}, {"$blob": 5}, {"$blob": None, "x": 1}]
)
def test_an_output_that_looks_like_a_blob_is_what_it_is(log, value):
    dag = dag_of(a=lambda c, d: value, b=(lambda c, d: d["a"].output, "a"))
    first = go(dag, log)
    again = go(dag, log, resume=True)
    assert statuses(again) == {"a": "skipped", "b": "skipped"}
    assert outputs(first) == outputs(again) == {"a": value, "b": value}


def test_a_lost_blob_is_told_and_its_step_run_again(log):
    calls = Calls()
    large = "x" * 20_000
    dag = dag_of(a=calls.step("a", large), b=(calls.step("b"), "a"))
    go(dag, log)
    for blob in (log.parent / "artifacts").iterdir():
        blob.unlink()
    again = go(dag, log, resume=True)
    assert statuses(again) == {"a": "succeeded", "b": "skipped"}
    assert again["a"].output == large
    (event,) = [e for e in read_events(log) if e["type"] == "step.invalidated"]
    assert event["step"] == "a"
    assert "gone" in event["data"]["reason"]


def test_a_damaged_blob_is_no_output(log):
    dag = dag_of(a=lambda c, d: "x" * 20_000)
    go(dag, log)
    (blob,) = (log.parent / "artifacts").iterdir()
    blob.write_bytes(b"y" * 20_002)
    assert go(dag, log, resume=True)["a"].status == "succeeded"
    assert go(dag, log, resume=True)["a"].status == "skipped"


def test_a_job_whose_graph_was_a_blob_resumes_without_it(log):
    dag = DAG([DAGNode(id=f"a-step-of-some-length-{i}", fn=lambda c, d: 1) for i in range(600)])
    go(dag, log, concurrency=64)
    (graph,) = (log.parent / "artifacts").iterdir()
    graph.unlink()
    assert set(statuses(go(dag, log, resume=True, concurrency=64)).values()) == {"skipped"}


# --- resume -------------------------------------------------------------------------------------


def chain(calls, keys=(), **outputs):
    names = ["a", "b", "c"]
    return DAG(
        [
            DAGNode(
                id=name,
                fn=calls.step(name, outputs.get(name)),
                needs=names[max(i - 1, 0) : i],
                key=dict(keys).get(name),
            )
            for i, name in enumerate(names)
        ]
    )


def test_resume_without_an_earlier_job_starts_one(log):
    assert go(chain(Calls()), log, resume=True)["c"].status == "succeeded"
    assert types(log)["job.started"] == 1


def test_resume_of_a_finished_job_skips_every_step(log):
    calls = Calls()
    go(chain(calls), log)
    again = go(chain(calls), log, resume=True)
    assert outputs(again) == {"a": "a", "b": "b", "c": "c"}
    assert set(calls.count.values()) == {1}
    assert read_events(log)[-1]["type"] == "job.succeeded"


def test_a_failed_job_resumes_where_it_failed(log):
    calls = Calls()

    def boom(dep_results):
        raise ValueError

    go(chain(calls, b=boom), log)
    again = go(chain(calls, b=lambda dep_results: dep_results["a"].output + "!"), log, resume=True)
    assert statuses(again) == {"a": "skipped", "b": "succeeded", "c": "succeeded"}
    assert calls.count == {"a": 1, "b": 2, "c": 1}
    assert again["b"].output == "a!"


def test_without_resume_everything_runs_again(log):
    calls = Calls()
    go(chain(calls), log)
    go(chain(calls), log)
    assert set(calls.count.values()) == {2}
    again = go(chain(calls), log, resume=True)
    assert set(statuses(again).values()) == {"skipped"}


def test_a_changed_source_runs_again(log):
    go(dag_of(a=lambda c, d: 1, b=lambda c, d: 2), log)
    # fmt: off
    again = go(dag_of(a=lambda c, d: 1 + 0,
                      b=lambda c, d: 2), log, resume=True)
    # fmt: on
    assert again["a"].status == "succeeded"


def test_a_changed_key_runs_again_and_so_does_what_needs_its_new_output(log):
    calls = Calls()
    go(chain(calls, {"a": 1}, a=1), log)
    again = go(chain(calls, {"a": 2}, a=2), log, resume=True)
    assert statuses(again) == {"a": "succeeded", "b": "succeeded", "c": "skipped"}
    assert calls.count == {"a": 2, "b": 2, "c": 1}


def test_what_follows_is_skipped_when_the_output_is_the_same(log):
    calls = Calls()
    go(chain(calls, {"a": 1}), log)
    again = go(chain(calls, {"a": 2}), log, resume=True)
    assert statuses(again) == {"a": "succeeded", "b": "skipped", "c": "skipped"}


def test_a_renamed_step_is_skipped(log):
    calls = Calls()
    fn = calls.step("a")
    go(DAG([DAGNode(id="old", fn=fn)]), log)
    again = go(DAG([DAGNode(id="new", fn=fn)]), log, resume=True)
    assert again["new"].status == "skipped"
    assert again["new"].output == "a"
    (skip,) = [e for e in read_events(log) if e["type"] == "step.skipped"]
    assert (skip["step"], skip["data"]["from_step"]) == ("new", "old")


def test_a_new_need_with_another_output_runs_again(log):
    calls = Calls()
    go(dag_of(a=calls.step("a"), b=calls.step("b")), log)
    again = go(dag_of(a=calls.step("a"), b=(calls.step("b"), "a")), log, resume=True)
    assert statuses(again) == {"a": "skipped", "b": "succeeded"}


def test_default_arguments_and_what_a_partial_fixes_count(log):
    def scaled(by, context, dep_results):
        return by

    def run(one, two):
        dag = DAG(
            [
                DAGNode(id="default", fn=lambda c, d, one=one: one),
                DAGNode(id="partial", fn=functools.partial(scaled, two)),
            ]
        )
        return go(dag, log, resume=True)

    run(1, 1)
    assert statuses(run(1, 1)) == {"default": "skipped", "partial": "skipped"}
    assert statuses(run(2, 1)) == {"default": "succeeded", "partial": "skipped"}
    assert statuses(run(2, 2)) == {"default": "skipped", "partial": "succeeded"}


def decorated(source, log):
    """Run a program's functions below a decorator that hides them."""
    text = """
def plain(fn):
    def called(context, dep_results):
        return fn(context, dep_results)
    return called

@plain
def step(context, dep_results):
    return BODY
"""
    folder = log.parent / f"at-{len(list(log.parent.iterdir()))}"
    folder.mkdir()
    (folder / "tools.py").write_text(text.replace("BODY", source))
    names = {}
    path = str(folder / "tools.py")
    exec(compile((folder / "tools.py").read_text(), path, "exec"), names)
    return go(DAG([DAGNode(id="a", fn=names["step"])]), log, resume=True)["a"]


def test_a_change_below_a_decorator_counts(log):
    assert decorated("1", log).output == 1
    assert decorated("1", log).status == "skipped"
    assert decorated("2", log).output == 2


def test_a_function_whose_source_can_not_be_read_is_known_by_what_it_does(log):
    def run(text):
        (log.parent / "m.py").write_text(text)
        names = {}
        exec(compile(text, str(log.parent / "m.py"), "exec"), names)
        linecache.checkcache()
        return go(DAG([DAGNode(id="a", fn=names["f"])]), log, resume=True)["a"]

    amid = 'x = ("""\n""", lambda c, d: [n for n in CALL((1, 2))])\nf = x[1]\n'
    assert run(amid.replace("CALL", "list")).output == [1, 2]
    assert run("\n\n" + amid.replace("CALL", "list")).status == "skipped"  # on another line
    assert run(amid.replace("CALL", "reversed")).output == [2, 1]


def test_closures_of_one_source_differ_by_their_key_alone(log):
    def make(value):
        return lambda context, dep_results: value

    go(DAG([DAGNode(id=f"s{i}", fn=make(i)) for i in range(3)]), log)
    unkeyed = go(DAG([DAGNode(id=f"s{i}", fn=make(i * 10)) for i in range(3)]), log, resume=True)
    assert set(statuses(unkeyed).values()) == {"skipped"}
    keyed = DAG([DAGNode(id=f"s{i}", fn=make(i * 10), key=i * 10) for i in range(3)])
    assert [r.output for r in go(keyed, log, resume=True).values()] == [0, 10, 20]


def test_a_second_leg_that_fails_early_keeps_the_results_of_the_first(log):
    calls = Calls()

    def boom(dep_results):
        raise ValueError

    go(chain(calls), log)
    second = go(chain(calls, {"a": 2}, a=boom), log, resume=True)
    assert statuses(second) == {"a": "failed", "b": "not_run", "c": "not_run"}
    assert outputs(second) == {"a": None, "b": None, "c": None}
    third = go(chain(calls), log, resume=True)
    assert set(statuses(third).values()) == {"skipped"}


def test_two_jobs_share_a_log(log):
    calls = Calls()
    go(chain(calls), log, job_id="one")
    other = go(chain(calls), log, job_id="two", resume=True)
    assert set(statuses(other).values()) == {"succeeded"}
    for job_id in ("one", "two"):
        again = go(chain(calls), log, job_id=job_id, resume=True)
        assert set(statuses(again).values()) == {"skipped"}
    assert set(calls.count.values()) == {2}


def test_two_jobs_share_an_emitter_at_the_same_time(log):
    calls = Calls()

    async def slow(context, dep_results):
        await anyio.sleep(0.001)
        return context

    async def main():
        dag = dag_of(a=slow, b=(slow, "a"), c=(slow, "b"))
        with EventEmitter(log) as events:
            async with anyio.create_task_group() as group:
                for job_id in ("one", "two"):
                    group.start_soon(run_dag, dag, job_id, job_id, events)

    anyio.run(main)
    ours = [event for event in read_events(log) if event["type"] != "log.opened"]
    for job_id in ("one", "two"):
        mine = [event["type"] for event in ours if event["job_id"] == job_id]
        assert mine == ["job.started", *["step.started", "step.succeeded"] * 3, "job.succeeded"]
    again = go(dag_of(a=slow, b=(slow, "a"), c=(slow, "b")), log, "two", "two", resume=True)
    assert outputs(again) == dict.fromkeys("abc", "two")
    assert not calls.count


def test_another_programs_events_do_not_keep_a_job_from_resuming(log):
    calls = Calls()
    with EventEmitter(log, "j") as events:
        events.job_started(steps=["a", "b"], concurrency="many")
        events.step_started("a", attempt="first")
        events.emit({"type": "my.note", "data": [1]})
        anyio.run(run_dag, chain(calls), "j", None, events)
        events.step_succeeded("elsewhere", output=1)
        events.emit({"type": "step.started", "step": "ghost"})
    again = go(chain(calls), log, resume=True)
    assert set(statuses(again).values()) == {"skipped"}


def test_a_log_of_version_2_0_is_continued(log):
    log.write_text(
        '{"ts":"2025-10-22T10:00:00Z","level":"INFO","job_id":"j","type":"job.started","steps":1}\n'
        '{"ts":"2025-10-22T10:00:01Z","level":"INFO","job_id":"j","type":"step.succeeded",'
        '"step":"a","duration_s":1.5}\n'
    )
    results = go(chain(Calls()), log, resume=True)
    assert set(statuses(results).values()) == {"succeeded"}  # it kept no outputs: nothing to take
    assert set(statuses(go(chain(Calls()), log, resume=True)).values()) == {"skipped"}


# --- crashes ------------------------------------------------------------------------------------


def small_dag(calls):
    return DAG(
        [
            DAGNode(id="a", fn=calls.step("a", {"n": 1})),
            DAGNode(id="b", fn=calls.step("b", lambda d: "b" * 20_000), needs=["a"]),
            DAGNode(
                id="c",
                fn=calls.step("c", lambda d: [d["a"].output["n"], len(d["b"].output)]),
                needs=["a", "b"],
            ),
        ]
    )


EVERY = int(os.environ.get("ORCH_TEST_CUT_EVERY", "17"))
"""Bytes from cut to cut, beside the ends of lines; 1 cuts at every byte and takes 20 s."""


def cuts(data):
    ends = [index for index, byte in enumerate(data) if byte == ord("\n")]
    around = {end + offset for end in ends for offset in (-1, 0, 1, 2)}
    return sorted({*range(0, len(data), EVERY), *around} - {len(data), len(data) + 1})


def test_a_log_cut_anywhere_resumes_to_the_same_outputs_and_repeats_nothing_recorded(
    log, monkeypatch
):
    for name in ("sync", "sync_data", "sync_dir"):  # hundreds of runs: the cuts are made by hand
        monkeypatch.setattr(Files, name, lambda *args: None)
    whole = go(small_dag(Calls()), log, concurrency=1)
    data = log.read_bytes()
    expected = outputs(whole)
    resumed = 0
    for size in cuts(data):
        log.write_bytes(data[:size])
        for torn in log.parent.glob("events.jsonl.torn-*"):
            torn.unlink()
        whole_lines = data[:size].split(b"\n")[:-1]
        if data[size : size + 1] == b"\n":  # of the last line only its newline is missing
            whole_lines = data[:size].split(b"\n")
        lines = [json.loads(line) for line in whole_lines]
        done = {line["step"] for line in lines if line["type"] == "step.succeeded"}
        begun = {line["step"] for line in lines if line["type"] == "step.started"}
        calls = Calls()
        results = go(small_dag(calls), log, concurrency=1, resume=True)
        assert outputs(results) == expected, size
        assert set(calls.count) == set(expected) - done, size
        assert set(calls.count.values()) <= {1}, size
        after = read_events(log)
        cut_off = {event["step"] for event in after if event["type"] == "step.interrupted"}
        assert cut_off == begun - done, size
        resumed += any(event["type"] == "job.resumed" for event in after)
    assert resumed > len(cuts(data)) // 2


KILLED = """
import os, sys, anyio
from orchestrator.dag import DAG, DAGNode, run_dag
from orchestrator.filestore import FileStore

folder = sys.argv[1]
store = FileStore(os.path.join(folder, "outputs"))

def step(name):
    def fn(context, dep_results):
        fd = os.open(os.path.join(folder, "calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, f"{name}\\n".encode())
        os.close(fd)
        total = 1 + sum(result.output["total"] for result in dep_results.values())
        store.safe_write(f"{name}.txt", f"{name} {total}" * 3000)
        return {"total": total, "pad": "x" * (18000 if name == "s3" else 3)}
    return fn

dag = DAG([
    DAGNode(id=f"s{i}", fn=step(f"s{i}"), key=i, needs=[f"s{n}" for n in (i - 1, i - 3) if n >= 0])
    for i in range(10)
])
print("go", flush=True)
log = os.path.join(folder, "events.jsonl")
results = anyio.run(lambda: run_dag(dag, "j", None, log, resume=True))
print(results["s9"].output["total"], flush=True)
"""


def test_a_process_that_is_killed_again_and_again_ends_with_the_right_result(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    (tmp_path / "whole").mkdir()
    undisturbed = [*command[:-1], str(tmp_path / "whole")]
    expected = subprocess.run(undisturbed, capture_output=True, text=True, check=True)
    for turn in range(12):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "go\n"
        time.sleep(0.005 * turn)  # anywhere: which moments are met does not matter
        child.kill()
        child.communicate()
    final = subprocess.run(command, capture_output=True, text=True, check=True)
    assert final.stdout == expected.stdout
    events = read_events(tmp_path / "events.jsonl")
    succeeded = Counter(e["step"] for e in events if e["type"] == "step.succeeded")
    started = Counter(e["step"] for e in events if e["type"] == "step.started")
    ran = Counter((tmp_path / "calls").read_text().split())
    assert set(succeeded.values()) == {1}
    assert all(ran[step] <= started[step] for step in ran)
    for i in range(10):
        one, other = (folder / "outputs" / f"s{i}.txt" for folder in (tmp_path, tmp_path / "whole"))
        assert one.read_bytes() == other.read_bytes()


# In the background of a script, Ctrl-C is ignored from the start, and a child inherits that.
INTERRUPTED = """
import asyncio, signal, sys, anyio
from orchestrator.dag import DAG, DAGNode, run_dag

signal.signal(signal.SIGINT, signal.default_int_handler)

async def long(context, dep_results):
    print("running", flush=True)
    await anyio.sleep(60)

dag = DAG([DAGNode(id="a", fn=long)])
{run}
"""


CTRL_C = [
    "asyncio.run(run_dag(dag, 'j', None, sys.argv[1]))",
    "anyio.run(run_dag, dag, 'j', None, sys.argv[1])",
]


@pytest.mark.parametrize("run", CTRL_C)
def test_ctrl_c_is_recorded(log, run):
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(run=run), str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout.readline() == "running\n"
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=PATIENCE_S)
        finally:
            child.kill()
    assert child.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert [event["type"] for event in read_events(log)][-2:] == [
        "step.interrupted",
        "job.cancelled",
    ]


TIDY = INTERRUPTED.replace(
    """    await anyio.sleep(60)
""",
    """    try:
        await anyio.sleep(60)
    finally:
        with anyio.CancelScope(shield=True):
            print("tidying", flush=True)
            await anyio.sleep(60)
""",
)


@pytest.mark.parametrize("run", CTRL_C)
def test_a_second_ctrl_c_waits_for_no_step_and_the_job_goes_on(log, run):
    program = TIDY.format(run=run)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout.readline() == "running\n"
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "tidying\n"
            # The first one is recorded however long the step takes.
            assert [event["type"] for event in read_events(log)][-1] == "job.cancelled"
            assert child.poll() is None
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=PATIENCE_S)
        finally:
            child.kill()
    assert child.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert [event["type"] for event in read_events(log)][-2:] == [
        "step.interrupted",
        "job.cancelled",
    ]
    assert statuses(go(dag_of(a=lambda context, results: 1), log, resume=True)) == {
        "a": "succeeded"
    }


# --- threads that outlive their attempt ---------------------------------------------------------


def test_a_thread_that_outlives_its_timeout_is_abandoned_and_writes_nothing_more(log):
    release, finished = threading.Event(), threading.Event()
    refused = []

    def hang(context, dep_results):
        release.wait(PATIENCE_S)
        for write in (
            lambda: context["events"].emit({"type": "my.note"}),
            lambda: context["store"].safe_write("late.txt", "late"),
        ):
            try:
                write()
            except AttemptOver as error:
                refused.append(error.message)
        finished.set()

    with EventEmitter(log) as events:
        store = FileStore(log.parent / "outputs")
        dag = DAG([DAGNode(id="a", fn=hang, timeout_s=0.01)])
        results = go(dag, events, context={"events": events, "store": store})
        release.set()
        assert finished.wait(PATIENCE_S)
    assert results["a"].status == "failed"
    assert "took longer than 0.01 s" in results["a"].error
    assert refused == [
        "can't emit an event: attempt 1 of step a is over",
        "can't write a file: attempt 1 of step a is over",
    ]
    (event,) = [e for e in read_events(log) if e["type"] == "step.failed"]
    assert (event["data"]["kind"], event["data"]["abandoned"]) == ("timeout", True)
    assert types(log)["my.note"] == 0
    assert not store.exists("late.txt")


def test_a_step_may_emit_and_write_while_it_runs(log):
    def busy(context, dep_results):
        seq = context["events"].emit({"type": "my.note", "step": "a"})
        return [seq, context["store"].safe_write("a.txt", "x")["reason"]]

    with EventEmitter(log) as events:
        store = FileStore(log.parent / "outputs")
        result = go(dag_of(a=busy), events, context={"events": events, "store": store})["a"]
    assert result.output == [3, "created"]
    (note,) = [event for event in read_events(log) if event["type"] == "my.note"]
    assert (note["seq"], note["job_id"]) == (3, "j")
    again = go(dag_of(a=busy), log, resume=True)["a"]
    assert again.status == "skipped"


def test_a_result_keeps_its_seq_although_others_write_the_same_log(log):
    # A thread that emits between the moment an outcome is folded and the append of it.
    def busy(context, dep_results):
        for _ in range(50):
            context.emit({"type": "my.note"})

    with EventEmitter(log) as events:
        dag = DAG([DAGNode(id=f"s{i}", fn=busy) for i in range(12)])
        go(dag, events, context=events, concurrency=4)
        go(dag, events, context=events, resume=True)
    recorded = {e["step"]: e["seq"] for e in read_events(log) if e["type"] == "step.succeeded"}
    skipped = {
        e["step"]: e["data"]["from_seq"] for e in read_events(log) if e["type"] == "step.skipped"
    }
    assert skipped == recorded


HANGING = """
import sys, threading, anyio
from orchestrator.dag import DAG, DAGNode, run_dag

def hang(context, dep_results):
    threading.Event().wait()

dag = DAG([DAGNode(id="a", fn=hang, timeout_s=0.05)])
print(anyio.run(run_dag, dag, "j", None, sys.argv[1])["a"].status)
"""


def test_a_function_that_hangs_for_ever_does_not_keep_the_process_alive(log):
    command = [sys.executable, "-c", HANGING, str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert done.stdout == "failed\n"


def test_an_async_function_is_cancelled_at_its_timeout(log):
    ended = []

    async def long(context, dep_results):
        try:
            await anyio.sleep(60)
        finally:
            ended.append(1)

    result = go(DAG([DAGNode(id="a", fn=long, timeout_s=0.01)]), log)["a"]
    assert result.status == "failed"
    assert ended
    (event,) = [e for e in read_events(log) if e["type"] == "step.failed"]
    assert "abandoned" not in event["data"]


def test_the_limit_of_a_run_ends_it(log):
    async def long(context, dep_results):
        await anyio.sleep(60)

    results = go(dag_of(a=long, b=(long, "a")), log, timeout_s=0.05)
    assert statuses(results) == {"a": "failed", "b": "not_run"}
    assert read_events(log)[-1]["data"]["reason"] == "timeout_s: 0.05 is over"


# --- what is refused before anything runs -------------------------------------------------------


def test_a_cycle_is_refused_before_the_log_is_touched(log):
    dag = dag_of(a=(print, "b"), b=(print, "a"))
    with pytest.raises(GraphError, match="a -> b -> a"):
        go(dag, log)
    assert not log.exists()


def test_an_unknown_need_is_refused(log):
    with pytest.raises(GraphError, match="'a' needs 'b', which is not a step"):
        go(dag_of(a=(print, "b")), log)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-a", "x" * 65, "ä", "a\n"])
def test_a_bad_name_is_refused(log, name):
    with pytest.raises(UsageError, match="is no step id"):
        DAG([DAGNode(id=name, fn=print)])
    with pytest.raises(UsageError, match="is no job id"):
        go(DAG(), log, job_id=name)
    assert not log.exists()


def test_two_nodes_of_one_id_are_refused():
    with pytest.raises(UsageError, match="two nodes have the id 'a'"):
        DAG([DAGNode(id="a", fn=print), DAGNode(id="a", fn=print)])


@pytest.mark.parametrize(
    ("node", "options", "message"),
    [
        ({"needs": "ab"}, {}, "must be a list of ids, not 'ab'"),
        ({"needs": [["b"]]}, {}, "must be a list of ids"),
        ({"needs": [3]}, {}, "must be a list of ids"),
        ({"fn": 3}, {}, "the fn of step a must be something that can be called, not 3"),
        ({"when": True}, {}, "the when of step a must be something that can be called"),
        ({"retry": 3}, {}, "the retry of step a must be a RetryPolicy, not 3"),
        ({"effects": "twice"}, {}, "the effects of step a must be idempotent or once, not 'twice'"),
        ({"max_recoveries": -1}, {}, "the max_recoveries of step a must be a whole number"),
        ({"timeout_s": "5"}, {}, "timeout_s of step a must be a number of seconds above 0"),
        ({}, {"concurrency": 2.5}, "concurrency must be a whole number of at least 1"),
        ({"key": object()}, {}, "the key of step a is no JSON value: \\$"),
        ({"key": {"x": float("nan")}}, {}, "the key of step a is no JSON value: \\$.x"),
        ({"timeout_s": 0}, {}, "timeout_s of step a must be a number of seconds above 0"),
        ({}, {"timeout_s": -1}, "timeout_s must be a number of seconds above 0, not -1"),
        ({}, {"timeout_s": float("nan")}, "timeout_s must be a number"),
        ({}, {"concurrency": 0}, "concurrency must be a whole number of at least 1, not 0"),
        ({}, {"on_interrupted": "again"}, "on_interrupted must be one of rerun, skip, fail"),
    ],
)
def test_values_that_make_no_sense_are_refused(log, node, options, message):
    with pytest.raises(UsageError, match=message):
        go(DAG([DAGNode(**{"id": "a", "fn": print, **node})]), log, **options)
    assert not log.exists()


def test_a_log_that_is_held_is_refused(log):
    with EventEmitter(log) as events:
        events.sync()
        with pytest.raises(LogLocked):
            go(dag_of(a=print), log)


def test_a_damaged_log_is_refused_and_let_go_of(log):
    go(dag_of(a=lambda c, d: 1), log)
    data = log.read_bytes()
    log.write_bytes(data.replace(b'"step":"a"', b'"step":"b"', 1))
    for _ in range(2):
        with pytest.raises(LogDamaged):
            go(dag_of(a=lambda c, d: 1), log, resume=True)


def test_a_folder_in_place_of_the_log_is_refused(tmp_path):
    with pytest.raises(LogNotFound):
        go(dag_of(a=print), tmp_path)


# --- the log is let go of -----------------------------------------------------------------------


def open_files():
    return len(os.listdir("/dev/fd"))


def test_nothing_stays_open_whatever_happened(log):
    async def main(fn):
        with anyio.move_on_after(0.01):
            await run_dag(dag_of(a=fn), "j", None, log)

    async def long(context, dep_results):
        await anyio.sleep(60)

    def boom(context, dep_results):
        raise ValueError

    anyio.run(main, boom)
    before = open_files()
    for fn in (boom, long, lambda c, d: 1, lambda c, d: object()):
        anyio.run(main, fn)
    with pytest.raises(GraphError):
        go(dag_of(a=(boom, "b")), log)
    assert open_files() == before


def test_an_emitter_that_was_not_open_is_closed_again_and_one_that_was_stays_open(log):
    events = EventEmitter(log)
    go(dag_of(a=lambda c, d: 1), events)
    assert not events.is_open
    with events:
        events.emit({"type": "x"})
        go(dag_of(a=lambda c, d: 1), events)
        assert events.is_open


# --- size ---------------------------------------------------------------------------------------


def test_a_long_chain_is_resumed_from_its_middle(log):
    calls = Counter()

    async def step(context, dep_results):
        calls["step"] += 1
        return calls["step"]

    async def boom(context, dep_results):
        raise ValueError

    def long(fail_at):
        names = [f"s{i}" for i in range(1_000)]
        return DAG(
            [
                DAGNode(id=name, fn=boom if i == fail_at else step, needs=names[max(i - 1, 0) : i])
                for i, name in enumerate(names)
            ]
        )

    first = go(long(fail_at=500), log)
    assert Counter(statuses(first).values()) == {"succeeded": 500, "failed": 1, "not_run": 499}
    again = go(long(fail_at=None), log, resume=True)
    assert Counter(statuses(again).values()) == {"skipped": 500, "succeeded": 500}
    assert calls["step"] == 1_000
    assert again["s999"].output == 1_000


def test_a_step_error_of_a_function_keeps_its_kind(log):
    def limited(context, dep_results):
        raise StepError("slow down", kind=FailureKind.RATE_LIMIT, hint="wait")

    go(dag_of(a=limited), log)
    (event,) = [e for e in read_events(log) if e["type"] == "step.failed"]
    assert (event["data"]["kind"], event["data"]["hint"]) == ("rate_limit", "wait")


# --- conditions, failures that are borne, what comes last -----------------------------------------


def boom(context, deps):
    raise ValueError("boom")


def test_a_node_is_run_on_a_condition_and_a_skip_is_told_with_its_reason(log):
    dag = DAG(
        [
            DAGNode(id="a", fn=lambda c, d: 1),
            DAGNode(id="no", fn=boom, needs=["a"], when=lambda c, d: d["a"].output > 1),
            DAGNode(id="yes", fn=lambda c, d: 2, needs=["a"], when=lambda c, d: c == "context"),
            DAGNode(id="after", fn=boom, needs=["no"]),
        ]
    )
    results = asyncio.run(run_dag(dag, "j", "context", log))
    assert statuses(results) == {
        "a": "succeeded",
        "no": "not_run",
        "yes": "succeeded",
        "after": "not_run",
    }
    assert results["after"].error == "it needs no, which was skipped"
    assert "its condition is false" in results["no"].error


@pytest.mark.parametrize("when", [lambda c, d: 1 / 0, lambda c, d: "yes"], ids=["raises", "text"])
def test_a_condition_that_can_not_be_told_fails_its_node(log, when):
    results = go(DAG([DAGNode(id="a", fn=boom, when=when)]), log)
    assert results["a"].status == "failed"
    assert "its condition" in results["a"].error


def test_a_failure_that_is_borne_reaches_what_needs_it_as_a_result(log):
    dag = DAG(
        [
            DAGNode(id="a", fn=boom, continue_on_error=True),
            DAGNode(id="b", fn=lambda c, d: [d["a"].status, d["a"].error], needs=["a"]),
        ]
    )
    status, error = go(dag, log)["b"].output
    assert status == "failed"
    assert error.startswith("ValueError: boom")
    assert types(log)["job.succeeded"] == 1


def test_what_is_regardless_and_what_is_final_run_after_a_failure(log):
    order = []

    def note(name):
        def fn(context, deps):
            order.append(name)

        return fn

    dag = DAG(
        [
            DAGNode(id="end", fn=note("end"), finally_=True),
            DAGNode(id="a", fn=boom),
            DAGNode(id="rescue", fn=note("rescue"), needs=["a"], regardless=True),
            DAGNode(id="never", fn=note("never"), needs=["a"]),
        ]
    )
    results = go(dag, log)
    assert order == ["rescue", "end"]
    assert results["never"].error == "it needs a, which failed"
    assert types(log)["job.failed"] == 1
