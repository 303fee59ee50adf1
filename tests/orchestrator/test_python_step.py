import hashlib
import json
import os
import signal
import sys
import textwrap

import anyio
import pytest
from stepworld import World, alive, pids_in

from orchestrator.errors import FailureKind, StepError
from orchestrator.jsonvalue import fault_of
from orchestrator.steps import ending, process
from orchestrator.steps import python as python_step
from orchestrator.steps.python import PythonStep

PYTHON = PythonStep()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def write(world, source, name="tools.py"):
    path = world.spec / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return path


def call(world, source, function="tools:f", **options):
    write(world, source)
    return world.run(PYTHON, python=function, **options)


def failure(world, source, function="tools:f", **options):
    with pytest.raises(StepError) as caught:
        call(world, source, function, **options)
    return caught.value


# --- calling ------------------------------------------------------------------------------------


def test_a_function_gets_its_arguments_by_name_and_its_value_is_the_output(world):
    values = {"steps": {"a": {"output": [1, {"n": None}]}}}
    with_ = {"a": "{{ steps.a.output }}", "b": "text"}
    result = call(
        world, "def f(a, b, c=3): return {'a': a, 'bc': (b, c)}", with_=with_, values=values
    )
    assert result.output == {"a": [1, {"n": None}], "bc": ["text", 3]}


@pytest.mark.parametrize("value", ["None", "True", "0", "-1.5e300", "'ü\\n'", "2**64 - 1", "[[]]"])
def test_any_json_value_is_an_output(world, value):
    assert call(world, f"def f(): return {value}").output == eval(value)


def test_ctx_tells_what_the_attempt_is(world):
    source = """
        def f(x, *, ctx):
            (ctx.outputs / "a.txt").write_text(x)
            return [ctx.job_id, ctx.step, ctx.attempt, ctx.idempotency_key, ctx.needs, repr(ctx)]
    """
    result = call(world, source, with_={"x": "hi"}, needs={"a": {"n": 1}})
    assert result.output[:5] == ["job_1", "s", 1, "key-1", {"a": {"n": 1}}]
    assert "step s" in result.output[5]
    assert [file.path for file in result.files] == ["a.txt"]
    assert world.outputs.read_text("a.txt") == "hi"


def test_ctx_reaches_through_a_decorator_and_yields_to_with(world):
    source = """
        import functools
        def plain(fn):
            @functools.wraps(fn)
            def inner(*args, **kwargs): return fn(*args, **kwargs)
            return inner
        @plain
        def f(ctx): return getattr(ctx, "step", ctx)
    """
    assert call(world, source).output == "s"
    assert call(world, source, with_={"ctx": "mine"}).output == "mine"


def test_an_async_function_is_awaited(world):
    source = """
        import anyio
        async def f(x):
            await anyio.sleep(0)
            return x
    """
    assert call(world, source, with_={"x": 1}).output == 1


def test_what_it_prints_goes_to_the_log_and_stdin_is_empty(world):
    source = """
        import sys
        def f():
            print("out \\udc80")
            print("err", file=sys.stderr)
            return sys.stdin.read()
    """
    assert call(world, source).output == ""
    assert sorted(world.log.read_text().splitlines()) == ["err", "out \\udc80"]


def test_it_starts_in_the_specs_folder_which_is_first_on_the_path(world):
    write(world, "NAME = 'mine'", "anyio_helper.py")
    source = """
        import os, sys, anyio_helper
        def f(): return [os.getcwd(), sys.path[0], anyio_helper.NAME, sys.argv, __name__]
    """
    folder = str(world.spec)
    assert call(world, source).output == [folder, folder, "mine", ["tools:f"], "tools"]


def test_a_child_starts_without_the_orchestrators_modules(world):
    source = "import sys\ndef f(): return sorted(m.split('.')[0] for m in sys.modules)"
    loaded = set(call(world, source).output)
    assert loaded.isdisjoint({"orchestrator", "eventlog", "msgspec", "anyio", "asyncio", "typing"})


def test_the_environment_is_the_steps(world, monkeypatch):
    monkeypatch.setenv("SECRET", "of the orchestrator")
    source = "import os\ndef f(): return [os.environ.get(n) for n in ('A', 'SECRET', 'ORCH_STEP')]"
    assert call(world, source, env={"A": "{{ 1 + 1 }}"}).output == ["2", None, "s"]


def test_children_of_the_function_do_not_hold_up_the_result(world):
    source = """
        import subprocess
        def f(): return subprocess.Popen(["sleep", "1000"]).pid
    """
    assert not alive(call(world, source).output)


def test_a_daemon_of_the_function_does_not_hold_up_the_result(world):
    source = """
        import subprocess
        def f():
            null = subprocess.DEVNULL
            return subprocess.Popen(["sleep", "1000"], stdin=null, stdout=null, stderr=null,
                                    close_fds=False, start_new_session=True).pid
    """
    pid = call(world, source).output
    try:
        assert alive(pid)
        assert world.log.read_text() == ""
    finally:
        os.kill(pid, signal.SIGKILL)


# --- failing ------------------------------------------------------------------------------------


def test_an_exception_is_told_with_its_place_and_its_traceback_is_in_the_log(world):
    source = """
        import json
        def f():
            return g()
        def g():
            raise ValueError("not \\x1b[31mgood")
    """
    error = failure(world, source)
    assert error.kind == FailureKind.EXCEPTION
    assert error.message == "ValueError: not \\x1b[31mgood"
    assert error.place == f"{world.spec / 'tools.py'}:6"
    assert error.hint == "the traceback: orch logs job_1 s"
    log = world.log.read_text()
    assert "in g" in log
    assert "_child.py" not in log


def test_the_place_is_in_the_users_module_though_a_library_raised(world):
    error = failure(world, "import json\ndef f():\n    return json.loads('{')\n")
    assert error.message.startswith("JSONDecodeError: Expecting")
    assert error.place == f"{world.spec / 'tools.py'}:3"


def test_a_wrong_argument_is_told(world):
    error = failure(world, "def f(a): pass", with_={"b": 1})
    assert error.message == "TypeError: f() got an unexpected keyword argument 'b'"
    assert error.place == "tools:f"


def test_a_module_that_fails_on_import_is_told(world):
    error = failure(world, "def f(): pass\n1/0\n")
    assert (error.message, error.place) == (
        "ZeroDivisionError: division by zero",
        f"{world.spec / 'tools.py'}:2",
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os; os._exit(7)", "exited with status 7"),
        ("import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        (
            "import os, sys; print('last words', file=sys.stderr); os._exit(0)",
            "status 0: last words",
        ),
    ],
)
def test_ending_the_process_is_no_success(world, body, said):
    error = failure(world, f"def f(): {body}")
    assert error.kind == FailureKind.EXCEPTION
    assert said in error.message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{'items': [1, 2, 3, {'price': float('nan')}]}", "$.items[3].price is NaN"),
        ("[float('-inf')]", "$[0] is -Infinity"),
        ("{'a b': {1, 2}}", "$['a b'] is a value of type set"),
        ("{'a': b'x'}", "$.a is a value of type bytes"),
        ("{'a': {1: 2}}", "$.a has the key 1, which is no string"),
        ("{'a': object()}", "$.a is a value of type object"),
        ("2**64", "$ is an integer of over 64 bits"),
        ("['\\ud800']", "$[0] holds half a surrogate pair at character 0"),
        ("{'\\ud800': 1}", "a key of $ holds half a surrogate pair at character 0"),
    ],
)
def test_a_value_that_is_no_json_is_named_by_its_path(world, value, said):
    error = failure(world, f"def f(): return {value}")
    assert error.kind == FailureKind.OUTPUT
    assert error.message == f"the output of step s is no JSON value: {said}"


def test_a_value_that_contains_itself_is_refused():
    value = []
    value.append(value)
    assert "deeper than 63 levels" in fault_of(value)
    deep = 1
    for _ in range(63):
        deep = [deep]
    assert fault_of(deep) == ""
    assert "deeper" in fault_of([deep])


def test_a_value_over_the_limit_is_refused(world, monkeypatch):
    monkeypatch.setattr(process, "RESULT_BYTES", 100)
    monkeypatch.setattr(python_step, "RESULT_BYTES", 100)
    error = failure(world, "def f(): return 'x' * 1000")
    assert error.kind == FailureKind.OUTPUT
    assert "limit is 100" in error.message


# --- finding the code ---------------------------------------------------------------------------


def prepare(world, function, **fields):
    return world.prepare(PYTHON, python=function, **fields)


def test_the_code_version_is_the_hash_of_the_modules_file_which_is_not_run(world):
    path = write(world, "raise SystemExit('imported')\ndef f(): pass\n")
    parts = prepare(world, "tools:f").parts
    assert parts["code_version"] == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(path.read_text() + "# changed\n")
    changed = prepare(world, "tools:f").parts
    assert [name for name in parts if parts[name] != changed[name]] == ["code_version"]


def test_the_key_depends_on_function_arguments_environment_and_declared_files(world):
    write(world, "def f(a): pass")
    (world.spec / "data.json").write_text("{}")
    fields = {"with_": {"a": "{{ x }}"}, "env": {"A": "1"}, "files": ("data.json",)}
    prepared = prepare(world, "tools:f", values={"x": [1]}, needs={"n": "not in it"}, **fields)
    assert prepared.parts.keys() == {"function", "code_version", "with", "env", "cwd", "files"}
    assert prepared.parts["with"] == {"a": [1]}
    assert str(world.spec) not in json.dumps(prepared.parts)
    assert "not in it" not in json.dumps(prepared.parts)


def test_a_module_in_a_package_is_found_without_running_the_package(world):
    path = write(world, "def f(): return 1", "pack/sub/tools.py")
    write(world, "raise SystemExit", "pack/__init__.py")
    parts = prepare(world, "pack.sub.tools:f").parts
    assert parts["code_version"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "pack" not in sys.modules


def test_the_specs_folder_goes_before_what_is_installed(world):
    path = write(world, "def f(): return 'mine'", "anyio.py")
    parts = prepare(world, "anyio:f").parts
    assert parts["code_version"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert world.run(PYTHON, python="anyio:f").output == "mine"


def test_installed_and_built_in_modules_are_found(world):
    assert prepare(world, "json:dumps").parts["code_version"]
    assert prepare(world, "anyio.to_thread:run_sync").parts["code_version"]
    assert isinstance(world.run(PYTHON, python="time:time").output, float)


@pytest.mark.parametrize(
    "source",
    [
        "def f(): pass",
        "async def f(): pass",
        "f = print",
        "f: object = print",
        "a, (f, b) = 1, (2, 3)",
        "class f: pass",
        "from os import getcwd as f",
        "from os import *",
        "def __getattr__(name): pass",
        "if 1:\n    pass\nelse:\n    try:\n        pass\n    except E:\n        def f(): pass",
    ],
)
def test_every_way_of_defining_a_name_counts(world, source):
    write(world, source)
    assert prepare(world, "tools:f")


@pytest.mark.parametrize(
    ("function", "said", "hint"),
    [
        ("tools:merge_al", "defines no 'merge_al'", "did you mean 'merge_all'?"),
        ("tools:x", "defines no 'x'", "check the name"),
        ("missing:f", "there is no module missing", "spec's folder"),
        ("tools.sub:f", "there is no module tools.sub", "spec's folder"),
        ("folder:f", "without an __init__.py", "package.module:function"),
        ("tools", "is not module:function", "tools:merge"),
        ("../tools:f", "is not module:function", "tools:merge"),
        ("a b:f", "is not module:function", "tools:merge"),
        ("broken:f", "can't parse", "correct the file"),
        ("json:f", "one of Python's own", "rename"),
    ],
)
def test_what_cannot_be_called_is_told_before_anything_runs(world, function, said, hint):
    write(world, "def merge_all(): x = 1")
    write(world, "def f(:\n", "broken.py")
    write(world, "def f(): pass", "json.py")
    (world.spec / "folder").mkdir()
    with pytest.raises(StepError) as caught:
        prepare(world, function)
    assert caught.value.kind == FailureKind.EXCEPTION
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_a_module_written_a_moment_ago_is_seen(world):
    for number in range(20):
        with pytest.raises(StepError):
            prepare(world, f"new{number}:f")
        write(world, "def f(): pass", f"new{number}.py")
        assert prepare(world, f"new{number}:f")


# --- the end ------------------------------------------------------------------------------------


def test_a_busy_loop_is_killed_with_all_it_started(world, monkeypatch):
    monkeypatch.setattr(ending, "GRACE_S", 0.2)
    write(
        world,
        """
        import multiprocessing, os, signal, subprocess
        def spin():
            while True: pass
        def f():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            other = multiprocessing.get_context("fork").Process(target=spin)
            other.start()
            sleeper = subprocess.Popen(["sleep", "1000"])
            with open("pids", "w") as file:
                file.write(f"{os.getpid()} {other.pid} {sleeper.pid}\\n")
            spin()
        """,
    )
    world.cancel_when(PYTHON, world.spec / "pids", python="tools:f")
    pids = pids_in(world.spec / "pids")
    assert len(pids) == 3
    assert [pid for pid in pids if alive(pid)] == []


def test_steps_run_beside_each_other(world):
    """Each of two functions waits for the other one's file: one after the other would hang."""
    write(
        world,
        """
        import os, time
        def f(me, other):
            open(me, "w").close()
            until = time.monotonic() + 20
            while not os.path.exists(other):
                assert time.monotonic() < until
                time.sleep(0.01)
            return me
        """,
    )
    outputs = []

    async def run(me, other):
        prepared = world.prepare(PYTHON, python="tools:f", with_={"me": me, "other": other})
        outputs.append((await PYTHON.perform(prepared, world.attempt())).output)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(run, "a", "b")
            group.start_soon(run, "b", "a")

    anyio.run(main)
    assert sorted(outputs) == ["a", "b"]
