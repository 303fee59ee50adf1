"""Child processes that write a log and are killed: forked, so that one costs a millisecond."""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple, NoReturn

_ACK = struct.Struct("<qqq")


class Ack(NamedTuple):
    """An append that returned: the event's seq, who appended it, and its number there."""

    seq: int
    who: int
    number: int


def event(who: int, number: int, rng: Random) -> dict[str, Any]:
    """Return an event that says whose it is; now and then a large one."""
    size = rng.choice((0, 0, 10, 100, 400, 3000, 20_000))
    return {"type": "noted", "data": {"who": who, "n": number, "pad": "p" * size}}


def tell(pipe: int, ack: Ack) -> None:
    """Tell the parent of an append that returned; one short write is never torn."""
    os.write(pipe, _ACK.pack(*ack))


def acks(data: bytes) -> list[Ack]:
    """Return what children told."""
    return [Ack(*found) for found in _ACK.iter_unpack(data[: len(data) // _ACK.size * _ACK.size])]


_parent = 0


def is_orphan() -> bool:
    """Return whether the process that forked this one is gone: then there is nothing to prove."""
    return os.getppid() != _parent


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a child, which ends with it; return its pid."""
    global _parent  # noqa: PLW0603 - it is the child's alone
    sys.stdout.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    _parent = parent
    return _be_child(work)


def _be_child(work: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        work()
        code = 0
    except BrokenPipeError:
        code = 0  # the parent has heard enough
    except BaseException:  # noqa: BLE001 - it is told, and the child ends
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def kill(pid: int) -> int:
    """Kill a child of ours; return how it ended, as `os.waitstatus_to_exitcode` says it."""
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def drain(pipe: int) -> bytes:
    """Return all that is in a pipe whose writers are gone, and close it."""
    pieces = []
    while piece := os.read(pipe, 1 << 16):
        pieces.append(piece)
    os.close(pipe)
    return b"".join(pieces)
