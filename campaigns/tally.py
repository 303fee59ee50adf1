"""Counts of a campaign: states by write path, and what went wrong."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

KEPT_FAILURES = 5


class Failure(NamedTuple):
    """A state that recovery got wrong, and where it came from."""

    seed: int
    leg: int
    call: int
    phase: str
    why: str


class Tally:
    """How many states were looked at on each write path, and which were got wrong."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.repeats = 0
        self.lives = 0
        self.wrong: Counter[str] = Counter()
        self.failures: list[Failure] = []

    def add(self, other: Tally) -> None:
        """Take in what another process counted."""
        self.states += other.states
        self.repeats += other.repeats
        self.lives += other.lives
        self.wrong += other.wrong
        self.failures = (self.failures + other.failures)[:KEPT_FAILURES]

    def fail(self, failure: Failure) -> None:
        """Note a violation."""
        self.wrong[failure.phase] += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(failure)

    @property
    def total(self) -> int:
        """How many states there were; those seen twice under one promise count once."""
        return self.states.total()
