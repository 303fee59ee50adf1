"""Progress on a terminal: the lines of `plain`, and below them what runs now, and for how long."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import anyio

from eventlog import Event, Record
from eventlog.table import cut, visible

from .. import events as ev
from ..providers.base import Progress
from . import out
from .display import Plain

TICK_S = 0.2
NAMED = 4
"""Steps that are named; of the others only the number is told."""


class Full(Plain):
    """Prints what ended, and keeps the last line for what runs.

    Args:
        total: steps of the job.
        monotonic: seconds.
    """

    def __init__(self, total: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(total)
        self._monotonic = monotonic
        self._running: dict[str, float] = {}
        self._coming: dict[str, int] = {}
        self._drawn = ""

    def __call__(self, record: Record[Event]) -> None:
        """Take in one durable event."""
        match record.event:
            case ev.StepStarted(step=step):
                self._running[step] = self._monotonic()
            case (
                ev.StepSucceeded(step=step)
                | ev.StepFailed(step=step)
                | ev.StepRetrying(step=step)
                | ev.StepInterrupted(step=step)
            ):
                self._running.pop(step, None)
                self._coming.pop(step, None)
            case _:
                pass
        self.clear()
        super().__call__(record)
        self.draw()

    def progress(self, step: str, progress: Progress) -> None:
        """Take in how much of a model's answer has come; the next tick shows it."""
        self._coming[step] = progress.pieces

    def draw(self) -> None:
        """Write the last line anew."""
        now_s = self._monotonic()
        named = list(self._running.items())[:NAMED]
        parts = [
            f"{visible(step)} {now_s - since_s:.1f} s{self._so_far(step)}"
            for step, since_s in named
        ]
        if len(self._running) > NAMED:
            parts.append(f"and {len(self._running) - NAMED} more")
        text = f"  running: {', '.join(parts)}" if parts else ""
        text = cut(text, shutil.get_terminal_size().columns - 1)
        if text != self._drawn:
            out.show(f"\r\x1b[K{out.paint(text, 'dim')}")
            self._drawn = text

    def _so_far(self, step: str) -> str:
        pieces = self._coming.get(step)
        return f", ~{pieces:,} tokens" if pieces else ""

    def clear(self) -> None:
        """Take the last line away, so that another one can be printed in its place."""
        if self._drawn:
            out.show("\r\x1b[K")
            self._drawn = ""

    def warn(self, text: str) -> None:
        """Print what the user should know, above the last line."""
        self.clear()
        out.talk(text)

    async def tick(self) -> None:
        """Keep the last line true; until it is cancelled."""
        try:
            while True:
                self.draw()
                await anyio.sleep(TICK_S)
        finally:
            self.clear()
