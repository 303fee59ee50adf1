"""One child process of a step: started in its own group, listened to, and always ended.

A thread does all of it with blocking calls, so that nothing depends on the event loop once
the child runs; the event loop's part is to wait, and to say stop. Ended means: the child is
reaped, and every process that is still in its group has been killed, also when the child
ended by itself and left some behind in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import IO

import anyio

from ..masking import NOTHING, Masker
from .base import LOG_BYTES, OUTPUT_BYTES
from .ending import End, bury, exit_watch
from .guardian import GUARDIAN, MARK
from .steplog import StepLog
from .strays import end_strays

KEEP_BYTES = 1 << 20
"""Of stdout, kept in memory for the step's output."""
TAIL_BYTES = 8 << 10
"""Of the end of stderr, kept for the error's text."""
RESULT_BYTES = 64 << 20
"""On the descriptor on which a child hands over its result."""
_READ_BYTES = 1 << 16

# Waits for one line before it becomes the command: by then the guardian knows the group.
# If the orchestrator dies first, nothing of the command has run.
_GATE = 'IFS= read -r _orch_go || exit 125; exec "$@"'


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run.

    Attributes:
        argv: program (looked up in the environment's PATH) and arguments.
        cwd: an absolute folder.
        environ: the whole environment.
        stdin: given to the child; then its standard input ends.
        log_path: gets stdout and stderr, appended.
        log_bytes: written to the log.
        output_bytes: kept of stdout, if fewer than `KEEP_BYTES`.
        wants_result: give the child a descriptor for a result; its number replaces
            `RESULT_FD` in `argv`.
        masker: takes secrets out of what the child says on stdout and stderr.
    """

    argv: tuple[str, ...]
    cwd: str
    environ: dict[str, str]
    log_path: str
    stdin: bytes = b""
    wants_result: bool = False
    log_bytes: int = LOG_BYTES
    output_bytes: int = OUTPUT_BYTES
    masker: Masker = NOTHING


RESULT_FD = "{result_fd}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a child ended by itself.

    Attributes:
        exit_code: negative for the number of a signal.
        stdout: its first MiB.
        stdout_bytes: how much there was.
        stderr_tail: its last 8 KiB.
        result: what came on the result's descriptor.
        result_bytes: how much there was; more than `result` holds if it was over the limit.
    """

    exit_code: int
    stdout: bytes
    stdout_bytes: int
    stderr_tail: bytes
    result: bytes
    result_bytes: int


async def run_command(command: Command) -> Outcome:
    """Run a child to its end, or end it when cancelled (see `ending` for how long that takes).

    Raises:
        OSError: if it can't be started, or its log not written.
    """
    loop = asyncio.get_running_loop()
    finished = anyio.Event()
    child = _Child(command)

    def work() -> None:
        try:
            child.run()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(finished.set)

    # Daemon: an interpreter that is told to exit at once must not wait; the guardian kills.
    threading.Thread(target=work, name="orch-child", daemon=True).start()
    try:
        await finished.wait()
    except BaseException:
        child.stop()
        with anyio.CancelScope(shield=True):
            await finished.wait()
        raise
    return child.outcome()


class _Kept:
    """The beginning of a stream, or its end, and how long all of it was."""

    def __init__(self, limit: int, *, tail: bool = False) -> None:
        self.data = bytearray()
        self.total = 0
        self._limit = limit
        self._tail = tail

    def add(self, chunk: bytes) -> None:
        self.total += len(chunk)
        if self._tail:
            self.data += chunk
            del self.data[: -self._limit]
        elif len(self.data) < self._limit:
            self.data += chunk[: self._limit - len(self.data)]


class _Child:
    """The thread's side. `stop` may be called from another thread at any moment."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._stdout = _Kept(min(KEEP_BYTES, command.output_bytes))
        self._stderr = _Kept(TAIL_BYTES, tail=True)
        self._result = _Kept(RESULT_BYTES)
        self._mark = GUARDIAN.mark()
        self._stopping = threading.Event()
        self._wake_r, self._wake_w = os.pipe()
        self._wake_lock = threading.Lock()
        self._error: BaseException | None = None
        self._exit_code: int | None = None

    def stop(self) -> None:
        """Have the child ended; returns at once."""
        self._stopping.set()
        with self._wake_lock:
            if self._wake_w >= 0:
                os.write(self._wake_w, b"!")

    def outcome(self) -> Outcome:
        if self._error is not None:
            raise self._error
        assert self._exit_code is not None
        return Outcome(
            exit_code=self._exit_code,
            stdout=bytes(self._stdout.data),
            stdout_bytes=self._stdout.total,
            stderr_tail=bytes(self._stderr.data),
            result=bytes(self._result.data),
            result_bytes=self._result.total,
        )

    def run(self) -> None:
        """Start the child and return when it and its group are gone."""
        try:
            with StepLog(self._command.log_path, self._command.log_bytes) as log:
                if not self._stopping.is_set():
                    self._live(log)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error
        finally:
            with self._wake_lock:
                os.close(self._wake_r)
                os.close(self._wake_w)
                self._wake_w = -1

    def _live(self, log: StepLog) -> None:
        with contextlib.ExitStack() as stack:
            begun = time.monotonic()
            process, result_r = self._start(stack)
            try:
                GUARDIAN.watch(process.pid)
                self._listen(process, result_r, log)
            finally:
                if self._stopping.is_set():  # what came between the kill and now
                    lasted_s = time.monotonic() - begun
                    end_strays(self._mark, child=process.pid, lasted_s=lasted_s)
                self._exit_code = bury(process)
                GUARDIAN.release(process.pid)

    def _start(self, stack: contextlib.ExitStack) -> tuple[subprocess.Popen[bytes], int | None]:
        command = self._command
        argv = command.argv
        result_r = result_w = None
        if command.wants_result:
            result_r, result_w = os.pipe()
            stack.callback(os.close, result_r)
            argv = tuple(str(result_w) if arg == RESULT_FD else arg for arg in argv)
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "orch", *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=command.cwd,
                env={**command.environ, MARK: self._mark},
                bufsize=0,
                start_new_session=True,
                pass_fds=() if result_w is None else (result_w,),
            )
        finally:
            if result_w is not None:
                os.close(result_w)
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            stack.enter_context(pipe)
        return process, result_r

    def _listen(self, process: subprocess.Popen[bytes], result_r: int | None, log: StepLog) -> None:
        """Take in what the child says until it has ended and its pipes have too."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        sinks = {process.stdout.fileno(): self._stdout, process.stderr.fileno(): self._stderr}
        masks = {fd: self._command.masker.stream() for fd in sinks}
        said = dict(sinks)
        if result_r is not None:
            sinks[result_r] = self._result
        end = End(process.pid, self._mark)
        with selectors.DefaultSelector() as selector, exit_watch(process.pid) as exit_fd:
            for fd in (*sinks, self._wake_r, *exit_fd):
                selector.register(fd, selectors.EVENT_READ)
            feed = _Feed(process.stdin, b"go\n" + self._command.stdin, selector)
            while not end.reached(stopping=self._stopping.is_set(), quiet=not sinks):
                for key, _ in selector.select(end.wait_s(watched=bool(exit_fd))):
                    fd = key.fd
                    if fd == feed.fd:
                        feed.push()
                    elif fd in sinks:
                        chunk = os.read(fd, _READ_BYTES)
                        if not chunk:
                            selector.unregister(fd)
                            del sinks[fd]
                            continue
                        if fd not in masks:
                            sinks[fd].add(chunk)
                        elif chunk := masks[fd].feed(chunk):
                            sinks[fd].add(chunk)
                            log.add(chunk)
                    else:  # told to stop, or ended: `reached` looks at it; once is enough
                        selector.unregister(fd)
            for fd, mask in masks.items():
                if rest := mask.end():
                    said[fd].add(rest)
                    log.add(rest)
            if sinks:
                log.note("a process that left the step's group still holds its output open")


class _Feed:
    """What is still to be written to the child's standard input."""

    def __init__(self, stdin: IO[bytes], data: bytes, selector: selectors.BaseSelector) -> None:
        self.fd = stdin.fileno()
        self._stdin = stdin
        self._left = memoryview(data)
        self._selector = selector
        os.set_blocking(self.fd, False)
        selector.register(self.fd, selectors.EVENT_WRITE)

    def push(self) -> None:
        """Write what fits; at the end, or when nobody reads it, close."""
        try:
            self._left = self._left[os.write(self.fd, self._left) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = memoryview(b"")
        if not self._left:
            self._selector.unregister(self.fd)
            self._stdin.close()
            self.fd = -1
