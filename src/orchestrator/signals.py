"""Drive a leg, and stop it in good order when the process is told to."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio
from anyio.abc import TaskStatus

from . import events as ev
from .runner import Runner, Stop
from .state import JobStatus


async def drive(
    runner: Runner,
    started: ev.Started,
    adopted: Sequence[ev.StepAdopted],
    beside: Callable[[], Coroutine[Any, Any, None]] | None,
    warn: Callable[[str], None] | None,
) -> None:
    """Run a leg to its end; SIGINT, SIGTERM and SIGHUP end it early, and that is recorded.

    Args:
        runner: of the leg.
        started: what the leg sets out to do.
        adopted: results that a forked job begins with.
        beside: runs until the leg ends: what looks for requests, for instance.
        warn: told of a signal; None to leave signals alone.

    Raises:
        EventLogError: the log can't be written; as itself, not in a group.
    """
    failed: list[Exception] = []
    async with anyio.create_task_group() as group:
        if warn is not None:  # a signal in the leg's first moments is one, too
            await group.start(_obey, runner, warn)
        if beside is not None:
            group.start_soon(beside)
        try:
            await runner.drive(started, adopted)
        except Exception as error:  # noqa: BLE001 - a task group would wrap it
            failed.append(error)
        group.cancel_scope.cancel()
    if failed:
        raise failed[0]


async def _obey(
    runner: Runner,
    warn: Callable[[str], None],
    *,
    task_status: TaskStatus[None],
) -> None:
    """Stop at the first signal, abort at the second."""
    # Whoever started it with nohup does not want it to end with the terminal.
    hung_up = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, *hung_up) as received:
        task_status.started()
        async for number in received:
            if runner.stopped is not None:
                os._exit(128 + number)  # the log is as a crash would leave it: whole
            name = signal.Signals(number).name
            runner.stop(Stop(verdict=JobStatus.CANCELLED, reason=name, signal=number))
            warn(f"{name}: what runs is ended and recorded; a second one aborts now")
