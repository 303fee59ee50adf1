"""Broken writers and recoveries: the crash model must catch every one of them.

Each mutant leaves out, or turns around, one thing that the promises rest on. One that lives for
its whole budget of states would show that the model does not look there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest import mock

from .tally import Tally

SAMPLES = 20
Run = Callable[[int, int, Tally, str], None]


class Mutant(NamedTuple):
    """One planted mistake.

    Attributes:
        name: what is wrong.
        plant: makes it so while it is entered.
        run: the lives that must end badly.
        life: where the tests begin, so that they need not look for long.
    """

    name: str
    plant: Callable[[], AbstractContextManager[Any]]
    run: Run
    life: int = 0


class Verdict(NamedTuple):
    """Whether a mutant was caught, after how many states, and by what."""

    name: str
    caught: bool
    states: int
    why: str


def hunt(mutant: Mutant, seed: int, budget: int, scratch: str) -> Verdict:
    """Run lives of a mutant until one ends badly, or `budget` states were looked at."""
    tally = Tally()
    with mutant.plant():
        while not tally.failures and tally.total < budget:
            mutant.run(seed, SAMPLES, tally, scratch)
            seed += 1
    why = tally.failures[0].why if tally.failures else ""
    return Verdict(mutant.name, bool(tally.failures), tally.total, why)


def without(
    files: type, call: str, caller: str, *, nth: int = 0
) -> Callable[[], AbstractContextManager[Any]]:
    """Leave out a call that a function of this name makes; all, or of each two the `nth`."""

    def plant() -> AbstractContextManager[Any]:
        real = getattr(files, call)
        count = 0

        def made(self: Any, *args: Any) -> Any:
            nonlocal count
            if sys._getframe(1).f_code.co_name == caller:
                count += 1
                if nth in (0, 2 - count % 2):
                    return None
            return real(self, *args)

        return mock.patch.object(files, call, made)

    return plant


def replacing(owner: Any, name: str, new: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Put another function in one's place."""
    return lambda: mock.patch.object(owner, name, new)


def all_mutants() -> list[Mutant]:
    """Return all mutants; those of the file store only where the orchestrator is installed."""
    from .log_mutants import LOG
    from .replaced_mutants import REPLACED

    try:
        from .stored_mutants import STORED
    except ImportError:
        return [*LOG, *REPLACED]
    return [*LOG, *REPLACED, *STORED]
