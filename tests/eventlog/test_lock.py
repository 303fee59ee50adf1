"""One writer per log: refused by name, freed by the kernel, never stale."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from logkit import FaultyFiles, types

from eventlog import Durability, Lock, Log, LogLocked, LogWriteFailed, is_held
from eventlog.fs import Files

HOLDER = """
import sys
from eventlog import Log
log = Log(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "events.jsonl")


@pytest.fixture
def holder(path):
    """Another process that writes the log; it is killed at the end."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        yield child
        child.kill()


def test_a_second_writer_is_told_who_the_first_one_is(path, holder):
    with pytest.raises(LogLocked) as caught:
        Log(path)
    text = str(caught.value)
    assert f"another process (pid {holder.pid} on {socket.gethostname()}, since 20" in text
    assert caught.value.path == path + ".lock"
    assert caught.value.hint


def test_kill_9_frees_the_lock(path, holder):
    assert is_held(path + ".lock")
    holder.kill()
    holder.wait()
    assert not is_held(path + ".lock")
    with Log(path) as log:
        assert log.epoch == 2


def test_the_lock_is_held_as_long_as_the_log_is_open_and_its_file_stays(path):
    assert not is_held(path + ".lock")
    with Log(path):
        assert is_held(path + ".lock")
    assert not is_held(path + ".lock")
    assert os.path.exists(path + ".lock")


def test_two_that_look_do_not_see_each_other(path):
    with Lock(path, started="now"):
        pass
    files = Files()
    fd = files.open(path, os.O_RDONLY)
    assert files.lock(fd, shared=True)
    assert not is_held(path)
    files.close(fd)


def test_a_look_at_the_lock_turns_no_writer_away(path):
    class Looked(Files):
        tries = 0

        def lock(self, fd, *, shared=False):
            self.tries += 1
            return self.tries > 2 and super().lock(fd, shared=shared)

    with Lock(path, started="now", files=Looked()):
        assert is_held(path)


def test_a_child_does_not_inherit_the_lock(path):
    lock = Lock(path, started="now")
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    )
    with child:
        # (The system closes what is not inherited a moment after the call above returns.)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert is_held(path)
        lock.release()
        lock.release()
        assert not is_held(path)


@pytest.mark.parametrize("owner", [b"", b"{", b"[]", b'{"pid":"x"}', b"\xff\xfe"])
def test_an_unreadable_name_of_the_holder_is_no_obstacle(path, owner):
    with Lock(path, started="now"):
        with open(path, "wb") as file:
            file.write(owner)
        with pytest.raises(LogLocked, match="its name is not known yet"):
            Lock(path, started="now")


def test_a_full_disk_does_not_keep_a_writer_from_the_lock(path):
    class Full(FaultyFiles):
        def truncate(self, fd, size):
            raise OSError(errno.ENOSPC, "full")

    with Lock(path, started="now", files=Full()):
        assert is_held(path)


def test_a_file_system_without_locks_is_told(path):
    class Lockless(Files):
        def lock(self, fd, *, shared=False):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with pytest.raises(LogWriteFailed, match="must support flock"):
        Lock(path, started="now", files=Lockless())


def test_a_lock_file_that_is_a_link_is_refused(path, tmp_path):
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(LogWriteFailed, match="can't open the lock file"):
        Lock(path, started="now")
    assert not (tmp_path / "elsewhere").exists()


def forked(work) -> str:
    """Run `work` in a fork of this process; return what it returned, or its error."""
    end, pipe = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            said = str(work())
        except BaseException as error:  # noqa: BLE001 - it is looked at there
            said = f"{type(error).__name__}: {error}"
        os.write(pipe, said.encode())
        os._exit(0)
    os.close(pipe)
    os.waitpid(pid, 0)
    with open(end, encoding="utf-8") as told:
        return told.read()


@pytest.mark.parametrize("durability", list(Durability))
def test_a_forked_process_writes_nothing_to_its_parent_s_log(path, durability):
    with Log(path, durability=durability) as log:
        log.append({"type": "a"})
        for work in (lambda: log.append({"type": "b"}), log.sync):
            assert forked(work).startswith("LogPoisoned: the log is another process's")
        assert forked(log.close) == "None"
        assert log.append({"type": "c"}) == range(2, 3)
    assert types(path) == ["log.opened", "a", "c"]


def test_a_fork_while_a_thread_appends_can_not_hang_in_it(path):
    class Held(Files):
        def sync_data(self, fd):
            if threading.current_thread() is not threading.main_thread():
                held.set()
                assert go.wait(10)
            super().sync_data(fd)

    held, go = threading.Event(), threading.Event()
    with Log(path, files=Held()) as log:
        thread = threading.Thread(target=log.append, args=({"type": "a"},))
        thread.start()
        assert held.wait(10)
        told = forked(lambda: log.append({"type": "b"}))
        go.set()
        thread.join(10)
    assert told.startswith("LogPoisoned: ")
    assert types(path) == ["log.opened", "a"]


def test_a_forked_process_does_not_keep_a_lock_whose_owner_died(path):
    end, pipe = os.pipe()
    ready, orphan_s = os.pipe()
    owner = os.fork()
    if not owner:
        log = Log(path)  # open until this process ends
        if os.fork():
            os.kill(os.getpid(), signal.SIGKILL)
        os.close(pipe)
        os.write(orphan_s, str(log.next_seq).encode())
        os.read(end, 1)  # lives on until the test is done
        os._exit(0)
    os.waitpid(owner, 0)
    os.close(end)
    assert os.read(ready, 1) == b"1"
    assert not is_held(path + ".lock")
    Log(path).close()
    for fd in (pipe, ready, orphan_s):
        os.close(fd)
