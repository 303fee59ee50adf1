"""Ctrl-C and SIGTERM: nothing more is started, what runs ends, and it stands in the log."""

import json
import os
import pty
import shlex
import signal
import subprocess
from subprocess import PIPE

import anyio
import pytest

from orchestrator import signals
from orchestrator.testing import serve
from userkit import SCRIPTS, User, alive, ended, events, outputs, types, until

SHELL_JOB = """
    project: shell
    steps:
      first: {run: "echo 1"}
      long:
        needs: [first]
        run: |
          if test -e go_on; then echo done; exit; fi
          sleep 300 & echo $! > child.tmp; mv child.tmp child; wait
      last: {needs: [long], run: "echo 3"}
"""
MODEL_JOB = """
    project: model
    provider: ollama
    model: test-model
    steps:
      first: {run: "echo 1"}
      ask: {needs: [first], llm: {prompt: "Say {{ steps.first.output.text }}"}}
      last: {needs: [ask], run: "echo 3"}
"""
# Ctrl-C in a terminal and a service manager's stop: the code is 128 + the signal's number.
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture(scope="module")
def server():
    with serve() as running:
        yield running


def check_stopped(user, done, code, step):
    job = user.job()
    assert done.code == code, done
    assert done.out == f"Job: {job.name}, Status: cancelled\n"
    assert "go on: orch run job.yaml --resume" in done.err
    assert types(job)[-2:] == ["step.interrupted", "job.cancelled"]
    assert events(job, "step.interrupted")[0]["step"] == step
    assert events(job, "job.cancelled")[0]["data"]["reason"] == signal.Signals(code - 128).name
    assert not [e for e in events(job, "step.started") if e["step"] == "last"]
    assert user.orch("show", "latest", "--json").json["status"] == "cancelled"


def check_resumed(user):
    done = user.orch("run", "job.yaml", "--resume")
    assert done.out == f"Job: {user.job().name}, Status: succeeded\n"
    assert [e["step"] for e in events(user.job(), "step.skipped")] == ["first"]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_shell_step_is_ended_with_its_children(tmp_path, number, code):
    user = User(tmp_path)
    user.write("job.yaml", SHELL_JOB)
    process = user.start("run", "job.yaml")
    until((tmp_path / "child").exists, "the child", process)
    child = int((tmp_path / "child").read_text())
    os.kill(process.pid, number)
    check_stopped(user, ended(process), code, "long")
    until(lambda: not alive(child), "the child to end")
    (tmp_path / "go_on").touch()
    check_resumed(user)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_call_that_is_waited_for_is_dropped(tmp_path, server, number, code):
    server.reset()
    server.fail(kind="hang")
    user = User(tmp_path, **server.environ())
    user.write("job.yaml", MODEL_JOB)
    process = user.start("run", "job.yaml")
    until(server.calls, "the call", process)
    os.kill(process.pid, number)
    check_stopped(user, ended(process), code, "ask")
    check_resumed(user)
    assert [call.status for call in server.calls()] == [None, 200]


def test_ctrl_c_in_the_terminal_reaches_the_whole_group_and_is_told_once(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", SHELL_JOB)
    process = user.start("run", "job.yaml")
    until((tmp_path / "child").exists, "the child", process)
    os.killpg(process.pid, signal.SIGINT)
    check_stopped(user, ended(process), 130, "long")


@pytest.mark.parametrize("display", ["plain", "full"])
def test_a_job_whose_terminal_is_closed_is_stopped_and_recorded(tmp_path, display):
    user = User(tmp_path)
    user.write("job.yaml", SHELL_JOB)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        orch = os.path.join(SCRIPTS, "orch")
        os.execve(orch, ["orch", "run", "job.yaml", "--display", display], user.env)
    until((tmp_path / "child").exists, "the child")
    child = int((tmp_path / "child").read_text())
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert types(user.job())[-2:] == ["step.interrupted", "job.cancelled"]
    assert json.loads((user.job() / "manifest.json").read_text())["status"] == "cancelled"
    until(lambda: not alive(child), "the child to end")
    (tmp_path / "go_on").touch()
    check_resumed(user)


def test_a_job_that_was_started_with_nohup_outlives_its_terminal(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", SHELL_JOB)
    command = f"trap '' HUP; exec {shlex.quote(os.path.join(SCRIPTS, 'orch'))} run job.yaml"
    process = subprocess.Popen(["sh", "-c", command], cwd=tmp_path, env=user.env, stderr=PIPE)
    until((tmp_path / "child").exists, "the child", process)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)  # which comes after the one that is ignored
    assert process.wait(timeout=30) == 143
    assert events(user.job(), "job.cancelled")[0]["data"]["reason"] == "SIGTERM"
    process.stderr.close()


def test_a_second_signal_aborts_at_once_and_resume_goes_on(tmp_path):
    user = User(tmp_path)
    # The step will not end when it is asked to, so that the first signal has to wait.
    user.write(
        "job.yaml",
        """
        project: stubborn
        steps:
          first: {run: "echo 1"}
          long:
            needs: [first]
            run: |
              trap '' TERM INT
              if test -e go_on; then echo done; exit; fi
              echo $$ > child.tmp; mv child.tmp child
              while :; do sleep 1; done
        """,
    )
    process = user.start("run", "job.yaml")
    until((tmp_path / "child").exists, "the child", process)
    child = int((tmp_path / "child").read_text())
    os.kill(process.pid, signal.SIGTERM)
    # The program says it when it has taken the first one in.
    assert any("a second one aborts now" in line for line in process.stderr)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    done = ended(process)
    assert done.code == 143
    assert "job.cancelled" not in types(user.job())
    assert user.orch("show", "latest", "--json").json["status"] == "interrupted"
    until(lambda: not alive(child), "the child to end")
    (tmp_path / "go_on").touch()
    check_resumed(user)
    assert outputs(user.job()) == {}


class Hasty:
    """A runner in whose first moment, before it waits for anything, a signal comes."""

    stopped = None

    def __init__(self):
        self.over = anyio.Event()

    def stop(self, stop):
        self.stopped = stop
        self.over.set()

    async def drive(self, started, adopted):
        os.kill(os.getpid(), signal.SIGINT)
        await self.over.wait()


def test_a_signal_in_the_first_moment_of_a_leg_is_obeyed():
    async def leg():
        runner = Hasty()
        await signals.drive(runner, None, (), None, lambda text: None)
        return runner.stopped

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert anyio.run(leg).signal == signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("when", ["import typer", "async def execute"])
def test_ctrl_c_before_anything_has_begun_is_no_traceback(tmp_path, when):
    user = User(tmp_path)
    user.write("job.yaml", SHELL_JOB)
    done = user.python(
        f"""
        import os, signal, sys, threading
        import orchestrator.cli

        signal.signal(signal.SIGINT, signal.default_int_handler)
        if {when!r} == "import typer":
            class Finder:
                def find_spec(self, name, path=None, target=None):
                    if name == "typer":
                        os.kill(os.getpid(), signal.SIGINT)
            sys.meta_path.insert(0, Finder())
        else:
            import orchestrator.wiring

            async def execute(spec, options):
                os.kill(os.getpid(), signal.SIGINT)
                await __import__("anyio").sleep(60)

            orchestrator.wiring.execute = execute
        sys.argv = ["orch", "run", "job.yaml"]
        orchestrator.cli.main()
        """,
        code=130,
    )
    assert "Traceback" not in done.err
    if when != "import typer":
        assert done.err == "SIGINT: no step was running\ngo on: orch run job.yaml --resume\n"


def test_what_is_to_be_typed_next_keeps_what_the_job_was_started_with(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", "project: p\nsteps: {a: {run: exit 1}}\n")
    done = user.orch(
        "run", "job.yaml", "--provider", "ollama", "--model", "m", "--runs-dir", "there", code=1
    )
    go_on = "go on: orch run job.yaml --resume --provider ollama --model m --runs-dir there"
    assert go_on in done.err
