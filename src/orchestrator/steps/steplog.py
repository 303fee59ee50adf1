"""The file that gets what a step's child says: `logs/<step>.log`, capped."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from eventlog.fs import FILES, write_all

from .base import LOG_BYTES


class StepLog:
    """An open log of one attempt; attempts of a step follow each other in the same file.

    Args:
        path: made with its folder if need be, for its owner alone.
        limit: bytes that are written; what comes after is counted.

    Raises:
        OSError: from any method, as the system said it.
    """

    def __init__(self, path: str, limit: int = LOG_BYTES) -> None:
        self._path = path
        self._limit = self._room = limit
        self._dropped = 0
        self._fresh_line = True

    def __enter__(self) -> Self:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        self._fd = FILES.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        return self

    def add(self, chunk: bytes) -> None:
        """Append what there is room for."""
        taken = chunk[: self._room]
        self._dropped += len(chunk) - len(taken)
        self._room -= len(taken)
        if taken:
            write_all(FILES, self._fd, taken)
            self._fresh_line = taken.endswith(b"\n")

    def note(self, text: str) -> None:
        """Append a line of our own, whatever room is left."""
        start = "" if self._fresh_line else "\n"
        write_all(FILES, self._fd, f"{start}[orch] {text}\n".encode())
        self._fresh_line = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._dropped:
                self.note(f"{self._dropped} more bytes not written: the limit is {self._limit}")
        finally:
            FILES.close(self._fd)
