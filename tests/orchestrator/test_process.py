import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import anyio
import pytest
from stepworld import PATIENCE_S, alive, pids_in, settled

from orchestrator.steps import ending, process, steplog
from orchestrator.steps.guardian import Guardian
from orchestrator.steps.process import RESULT_FD, Command, run_command

PATH = {"PATH": os.environ["PATH"]}


@pytest.fixture
def log(tmp_path):
    return tmp_path / "logs" / "step.log"


def run(log, script, *, argv=("/bin/sh", "-c"), **options):
    command = Command(
        argv=(*argv, script),
        cwd=options.pop("cwd", "/"),
        environ=options.pop("environ", PATH),
        log_path=str(log),
        **options,
    )
    return anyio.run(run_command, command)


def wait_for(condition):
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.01)


def test_output_is_kept_logged_and_the_exit_code_told(log):
    outcome = run(log, "echo out; echo err >&2; exit 3")
    assert (outcome.exit_code, outcome.stdout, outcome.stderr_tail) == (3, b"out\n", b"err\n")
    assert sorted(log.read_text().splitlines()) == ["err", "out"]
    assert log.stat().st_mode & 0o777 == 0o600


def test_attempts_follow_each_other_in_the_log(log):
    run(log, "echo one")
    run(log, "echo two")
    assert log.read_text() == "one\ntwo\n"


def test_a_signal_is_a_negative_exit_code(log):
    assert run(log, "kill -9 $$").exit_code == -signal.SIGKILL


def test_standard_input_is_given_and_then_ends(log):
    data = os.urandom(300_000)
    assert run(log, "cat", stdin=data).stdout == data
    assert run(log, "cat").stdout == b""


def test_input_that_nobody_reads_is_no_error(log):
    assert run(log, "exec <&-; echo done", stdin=b"x" * 1_000_000).stdout == b"done\n"


def test_output_over_its_limits_is_counted_and_the_log_says_so(log, monkeypatch):
    monkeypatch.setattr(process, "KEEP_BYTES", 1000)
    monkeypatch.setattr(process, "TAIL_BYTES", 10)
    script = "head -c 200000 /dev/zero | tr '\\0' x; head -c 100 /dev/zero >&2"
    outcome = run(log, script, log_bytes=5000)
    assert (len(outcome.stdout), outcome.stdout_bytes) == (1000, 200_000)
    assert len(outcome.stderr_tail) == 10
    written, note = log.read_bytes().split(b"\n")[:2]
    assert len(written) == 5000
    assert note == b"[orch] 195100 more bytes not written: the limit is 5000"


def test_a_result_comes_on_its_own_descriptor(log):
    script = f'echo logged; printf result >"/dev/fd/$1"; : {RESULT_FD}'
    command = Command(
        argv=("/bin/sh", "-c", script, "x", RESULT_FD),
        cwd="/",
        environ=PATH,
        log_path=str(log),
        wants_result=True,
    )
    outcome = anyio.run(run_command, command)
    assert (outcome.result, outcome.result_bytes) == (b"result", 6)
    assert log.read_text() == "logged\n"


def test_a_child_inherits_no_descriptor_and_leads_a_session_of_its_own(log, tmp_path):
    held = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(held, True)
    try:
        script = (
            "import os; print(os.getsid(0) == os.getpid(), [fd for fd in range(3, 200) "
            "if os.path.exists(f'/dev/fd/{fd}') and os.get_inheritable(fd)])"
        )
        outcome = run(log, script, argv=(sys.executable, "-c"))
    finally:
        os.close(held)
    assert outcome.stdout == b"True []\n"


def test_a_program_that_is_not_there_fails_like_in_a_shell(log):
    assert run(log, "x", argv=("/no/such/program",)).exit_code == 127


def test_a_folder_that_is_not_there_is_an_error(log, tmp_path):
    with pytest.raises(OSError, match="missing"):
        run(log, "true", cwd=str(tmp_path / "missing"))


def test_a_log_that_is_a_link_is_not_written(log, tmp_path):
    log.parent.mkdir()
    log.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        run(log, "echo x")
    assert not (tmp_path / "elsewhere").exists()


def test_background_children_die_when_the_command_ends(log, tmp_path):
    pids = tmp_path / "pids"
    outcome = run(log, f"sleep 1000 & echo $! > {pids}; echo done")
    assert outcome.stdout == b"done\n"
    assert not alive(pids_in(pids)[0])
    assert log.read_text() == "done\n"  # it held the output open, and was not waited for


def test_a_log_that_fails_while_the_command_runs_ends_it(log, tmp_path, monkeypatch):
    def full(self, chunk):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(steplog.StepLog, "add", full)
    pids = tmp_path / "pids"
    with pytest.raises(OSError, match="full"):
        run(log, f"sleep 1000 & echo $$ $! > {pids}; echo x; wait")
    assert [pid for pid in pids_in(pids) if alive(pid)] == []


def test_a_process_that_left_the_group_is_not_waited_for_long(log, tmp_path, monkeypatch):
    monkeypatch.setattr(ending, "DRAIN_S", 0.05)
    pids = tmp_path / "pids"
    script = textwrap.dedent(f"""
        import os, time
        if os.fork() == 0:
            os.setsid()
            open({str(pids)!r}, "w").write(str(os.getpid()))
            time.sleep(1000)
        while not os.path.exists({str(pids)!r}) or not open({str(pids)!r}).read():
            time.sleep(0.01)
    """)
    try:
        assert run(log, script, argv=(sys.executable, "-c")).exit_code == 0
        assert "left the step's group" in log.read_text()
    finally:
        os.kill(pids_in(pids)[0], signal.SIGKILL)


# --- stopping -----------------------------------------------------------------------------------


def stop_when_ready(log, tmp_path, script):
    """Start a script, cancel it when `ready` has a line, return the seconds the end took."""
    ready = tmp_path / "ready"
    command = Command(
        argv=("/bin/sh", "-c", script), cwd=str(tmp_path), environ=PATH, log_path=str(log)
    )

    async def main():
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(run_command, command)
                with anyio.fail_after(PATIENCE_S):
                    await settled(ready)
                began = time.monotonic()
                scope.cancel()
        return time.monotonic() - began

    return anyio.run(main)


def test_cancelling_kills_the_whole_tree(log, tmp_path):
    tree = "sh -c 'sleep 1000 & echo $$ $! >> pids; wait' & sleep 1000 & echo $$ $! >> pids;"
    settled = "while [ $(wc -w < pids) -lt 4 ]; do sleep 0.01; done; echo > ready; wait"
    took = stop_when_ready(log, tmp_path, tree + settled)
    pids = pids_in(tmp_path / "pids")
    assert len(pids) == 4
    assert [pid for pid in pids if alive(pid)] == []
    assert took < ending.GRACE_S + ending.DRAIN_S + ending.GONE_S + 2


def test_a_child_may_clean_up_on_sigterm(log, tmp_path):
    stop_when_ready(
        log, tmp_path, "trap 'echo bye > cleaned; exit' TERM; echo > ready; while :; do :; done"
    )
    assert (tmp_path / "cleaned").read_text() == "bye\n"


def test_the_others_of_the_group_may_clean_up_too(log, tmp_path):
    other = "trap 'sleep 0.1; echo bye > cleaned; exit' TERM; echo > ready; while :; do :; done"
    stop_when_ready(log, tmp_path, f'sh -c "{other}" & wait')
    assert (tmp_path / "cleaned").read_text() == "bye\n"


def test_a_child_that_ignores_sigterm_is_killed(log, tmp_path, monkeypatch):
    monkeypatch.setattr(ending, "GRACE_S", 0.1)
    stop_when_ready(
        log, tmp_path, "trap '' TERM; sleep 1000 & echo $$ $! > pids; echo > ready; wait; wait"
    )
    assert [pid for pid in pids_in(tmp_path / "pids") if alive(pid)] == []


def test_a_stopped_child_is_killed_too(log, tmp_path, monkeypatch):
    monkeypatch.setattr(ending, "GRACE_S", 0.1)
    stop_when_ready(log, tmp_path, "echo $$ > pids; echo > ready; kill -STOP $$")
    assert not alive(pids_in(tmp_path / "pids")[0])


def test_cancelling_at_once_runs_nothing_or_leaves_nothing(log, tmp_path):
    async def main():
        for _ in range(20):
            command = Command(
                argv=("/bin/sh", "-c", "echo $$ >> pids; exec sleep 1000"),
                cwd=str(tmp_path),
                environ=PATH,
                log_path=str(log),
            )
            with anyio.CancelScope() as scope:
                scope.cancel()
                await run_command(command)

    anyio.run(main)
    pids = tmp_path / "pids"
    assert [pid for pid in (pids_in(pids) if pids.exists() else []) if alive(pid)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the process's open files")
def test_many_children_leave_no_descriptor_and_no_zombie(log):
    def count():
        return len(os.listdir("/proc/self/fd"))

    run(log, "true")
    before = count()
    for _ in range(20):
        run(log, "true")
    assert count() == before
    # The guardian is the only child there is, and it lives.
    assert os.waitpid(-1, os.WNOHANG) == (0, 0)


def test_it_works_where_the_system_cannot_watch_a_child(log, monkeypatch):
    def refuse(pid):
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    assert run(log, "sleep 0.1; echo x").stdout == b"x\n"
    assert run(log, "exec >&- 2>&-; sleep 0.1; exit 4").exit_code == 4


# --- the orchestrator's death -------------------------------------------------------------------

_PARENT = """
import os, sys
import anyio
from orchestrator.steps.process import Command, run_command
folder = sys.argv[1]
script = "sleep 1000 & a=$!; sleep 1000 & echo $$ $a $! $PPID > pids; echo >> pids; wait"
anyio.run(run_command, Command(
    argv=("/bin/sh", "-c", script), cwd=folder, environ=dict(os.environ), log_path=folder + "/log",
))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_child_survives_the_death_of_the_orchestrator(tmp_path, number):
    pids = tmp_path / "pids"
    with subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path)]) as parent:
        try:
            wait_for(lambda: pids.exists() and pids.read_text().endswith("\n\n"))
            *children, its_parent = pids_in(pids)
            assert its_parent == parent.pid
            assert [alive(pid) for pid in children] == [True, True, True]
        finally:
            parent.send_signal(number)
    wait_for(lambda: not any(alive(pid) for pid in children))


def test_a_command_does_not_begin_before_its_guardian_knows_it(tmp_path):
    """The gate: a child whose orchestrator died before saying go ends without running."""
    ran = tmp_path / "ran"
    argv = ["/bin/sh", "-c", process._GATE, "orch", "/bin/sh", "-c", f"echo x > {ran}"]
    assert subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode == 125
    assert not ran.exists()
    assert subprocess.run(argv, input=b"go\n", check=False).returncode == 0
    assert ran.exists()


def sleeper():
    return subprocess.Popen(["sleep", "1000"], start_new_session=True)


def test_a_guardian_kills_what_was_not_released():
    guardian = Guardian()
    with sleeper() as kept, sleeper() as released, sleeper() as other:
        for child in (kept, released, other):
            guardian.watch(child.pid)
        guardian.release(released.pid)
        guardian.close()
        assert kept.wait(PATIENCE_S) == other.wait(PATIENCE_S) == -signal.SIGKILL
        assert released.poll() is None
        released.kill()


def test_a_guardian_that_was_killed_is_replaced_with_all_it_knew():
    guardian = Guardian()
    with sleeper() as one, sleeper() as two:
        guardian.watch(one.pid)
        assert guardian._process is not None
        guardian._process.kill()
        guardian._process.wait()
        guardian.watch(two.pid)
        guardian.close()
        assert one.wait(PATIENCE_S) == two.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_forked_copy_of_the_program_does_not_hold_the_guardians_pipe(tmp_path):
    script = textwrap.dedent("""
        import os, sys, subprocess, time
        from orchestrator.steps.guardian import GUARDIAN
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        GUARDIAN.watch(child.pid)
        copy = os.fork()
        if copy == 0:
            time.sleep(1000)
        with open(sys.argv[1], "w") as file:
            file.write(f"{child.pid} {copy}\\n")
        os.kill(os.getpid(), 9)
    """)
    pids = tmp_path / "pids"
    subprocess.run([sys.executable, "-c", script, str(pids)], check=False)
    child, its_copy = pids_in(pids)
    try:
        wait_for(lambda: not alive(child))
    finally:
        os.kill(its_copy, signal.SIGKILL)
