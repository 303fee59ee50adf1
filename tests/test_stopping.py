"""Stopped at any moment, a job leaves no process behind, and says soon that it was cancelled."""

import os
import signal
import subprocess
import sys
import time

import pytest

from userkit import User, alive, ended, events, types, until

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells environments")

# Children in every way that shells and programs have to leave: each writes its number.
STRAYS = """
    import os, signal, subprocess, sys, time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note = "import os,signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN);" \\
        "open('pid-%s' % os.environ['WHO'], 'w').write(str(os.getpid())); time.sleep(300)"

    def child(who, **options):
        subprocess.Popen([sys.executable, "-c", note], env={**os.environ, "WHO": who}, **options)

    child("plain")
    child("session", start_new_session=True)
    child("group", process_group=0)
    if os.fork() == 0:  # a grandchild whose parent is gone
        os.setsid()
        child("orphan")
        os._exit(0)
    while len([n for n in os.listdir() if n.startswith("pid-")]) < 4:
        time.sleep(0.01)
    open("all", "w").close()
    if sys.argv[1:] == ["stay"]:
        time.sleep(300)
"""


def strays(user):
    return [int(path.read_text()) for path in user.home.glob("pid-*")]


def job_with_strays(folder, stay):
    user = User(folder)
    user.write("strays.py", STRAYS)
    user.write(
        "job.yaml", f"project: s\nsteps: {{a: {{run: '{sys.executable} strays.py {stay}'}}}}\n"
    )
    return user


def check_gone(user):
    pids = strays(user)
    assert len(pids) == 4
    for pid in pids:
        until(lambda pid=pid: not alive(pid), f"{pid} to end")


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_step_leaves_no_process_in_whatever_session(tmp_path, number):
    user = job_with_strays(tmp_path, "stay")
    process = user.start("run", "job.yaml")
    until((tmp_path / "all").exists, "the children", process)
    os.kill(process.pid, number)
    assert ended(process).code == 128 + number
    assert [pid for pid in strays(user) if alive(pid)] == []
    assert types(user.job())[-2:] == ["step.interrupted", "job.cancelled"]


@LINUX
def test_what_a_step_left_in_a_session_of_its_own_ends_with_the_job(tmp_path):
    user = job_with_strays(tmp_path, "")
    assert user.orch("run", "job.yaml").code == 0
    check_gone(user)


@LINUX
def test_a_killed_program_leaves_no_process_in_whatever_session(tmp_path):
    user = job_with_strays(tmp_path, "stay")
    process = user.start("run", "job.yaml")
    until((tmp_path / "all").exists, "the children", process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    check_gone(user)


PHASES = {
    "a busy loop": (
        "a: {python: 'steps:busy'}",
        "def busy():\n    open('begun', 'w').close()\n    while True:\n        pass\n",
    ),
    "a step that will not end": (
        "a: {run: \"trap '' TERM INT; touch begun; while :; do sleep 0.1; done\"}",
        "",
    ),
    "a backoff": (
        "a: {run: 'touch begun; exit 1', retry: {max_attempts: 9, initial_s: 30, on: [exit]}}",
        "",
    ),
    "an approval beside a step": (
        "a: {run: 'touch begun; sleep 300'}\n  b: {approve: {message: ok?}}",
        "",
    ),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_job_is_stopped_and_resumed_in_every_phase(tmp_path, phase):
    steps, module = PHASES[phase]
    user = User(tmp_path)
    user.write("steps.py", module)
    user.write("job.yaml", f"project: p\nsteps:\n  {steps}\n  last: {{needs: a, run: echo 1}}\n")
    process = user.start("run", "job.yaml")
    until((tmp_path / "begun").exists, "the step", process)
    if phase == "a backoff":
        until(lambda: "step.retrying" in types(user.job()), "the backoff", process)
    asked = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    done = ended(process)
    print(f"{phase}: {time.monotonic() - asked:.2f} s")
    assert done.code == 143, done
    assert types(user.job())[-1] == "job.cancelled"
    assert not events(user.job(), step="last")
    user.write(
        "job.yaml", "project: p\nsteps:\n  a: {run: echo 0}\n  last: {needs: a, run: echo 1}\n"
    )
    assert user.orch("run", "job.yaml", "--resume").code == 0


def test_run_dag_with_a_thread_that_does_not_end_is_stopped_and_recorded(tmp_path):
    user = User(tmp_path)
    user.write(
        "dag.py",
        """
        import sys, time
        import anyio
        from orchestrator import DAG, DAGNode, run_dag

        def busy(context, results):
            open("begun", "w").close()
            while True:
                time.sleep(0.01)

        dag = DAG([DAGNode(id="busy", fn=busy)])
        anyio.run(run_dag, dag, "job_1", {}, "runs/job_1/events.jsonl")
        """,
    )
    process = subprocess.Popen(
        [sys.executable, "dag.py"], cwd=tmp_path, env=user.env, stderr=subprocess.DEVNULL
    )
    until((tmp_path / "begun").exists, "the step")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert types(tmp_path / "runs" / "job_1")[-2:] == ["step.interrupted", "job.cancelled"]


def test_a_job_in_python_is_cancelled_from_another_terminal(tmp_path):
    user = User(tmp_path)
    user.write(
        "dag.py",
        """
        import anyio
        from orchestrator import DAG, DAGNode, run_dag

        async def slow(context, results):
            open("begun", "w").close()
            await anyio.sleep(300)

        dag = DAG([DAGNode(id="slow", fn=slow), DAGNode(id="last", fn=slow, needs=["slow"])])
        results = anyio.run(run_dag, dag, "job_1", {}, "runs/job_1/events.jsonl")
        print({name: result.status for name, result in results.items()})
        """,
    )
    process = subprocess.Popen(
        [sys.executable, "dag.py"], cwd=tmp_path, env=user.env, stdout=subprocess.PIPE, text=True
    )
    until((tmp_path / "begun").exists, "the step")
    user.orch("cancel", "job_1")
    out, _ = process.communicate(timeout=30)
    assert out == "{'slow': 'not_run', 'last': 'not_run'}\n"
    assert types(tmp_path / "runs" / "job_1")[-2:] == ["step.interrupted", "job.cancelled"]
