"""What every case uses: the context, rows, bars, and timing side by side in one run."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Timed = Callable[[], float]
"""Does the work once and returns its seconds: it decides itself what is inside the clock."""


@dataclass(frozen=True)
class Bar:
    """A figure to reach. `of` says which of a row's numbers it is about."""

    sign: str  # "<=" or ">="
    limit: float
    of: str = "ratio"  # or "value"
    unit: str = "x"

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}{'' if self.unit == 'x' else ' '}{self.unit}"

    def met(self, row: Row) -> bool | None:
        number = row.ratio if self.of == "ratio" else row.value
        if number is None:
            return None
        return number <= self.limit if self.sign == "<=" else number >= self.limit


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        what: was measured.
        value: the median, in `unit`; None if it was not measured.
        beside: what it stands beside.
        beside_value: its median, in the same unit.
        ratio: of the two; of paired rounds it is the median of each round's ratio.
        spread: lowest and highest of what `ratio`, or without one `value`, is the median of.
        note: why it was skipped, or what a reader should know.
    """

    what: str
    value: float | None = None
    unit: str = ""
    beside: str = ""
    beside_value: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    bar: Bar | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.bar is None else self.bar.met(self)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A thing to measure. `bar` is the figure to reach in words; `run` brings the rows."""

    name: str
    about: str
    bar: str
    run: Callable[[Context], Sequence[Row]]


@dataclass
class Context:
    """What a case is given.

    Attributes:
        root: the one temporary folder; nothing is written elsewhere.
        quick: take fewer rounds and smaller sizes.
        rounds: how often to repeat, in place of each case's own number.
    """

    root: str
    quick: bool = False
    rounds: int | None = None
    _made: int = field(default=0, repr=False)

    def pick(self, full: int, quick: int) -> int:
        """Return a size: the full one, or the quick one."""
        return quick if self.quick else full

    def times(self, full: int, quick: int) -> int:
        """Return how many rounds to take."""
        return self.rounds or self.pick(full, quick)

    def folder(self) -> str:
        """Return a new empty folder."""
        self._made += 1
        path = os.path.join(self.root, f"{self._made:05d}")
        os.mkdir(path)
        return path


@contextmanager
def temporary() -> Iterator[str]:
    """Yield the one temporary folder and remove it, whatever happens."""
    root = tempfile.mkdtemp(prefix="orch-benchmarks-")
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def clock() -> Iterator[Callable[[], float]]:
    """Yield a function that tells the seconds since entry; garbage is collected before."""
    gc.collect()
    begun = time.perf_counter()
    yield lambda: time.perf_counter() - begun


def interleave(rounds: int, works: Mapping[str, Timed]) -> dict[str, list[float]]:
    """Return each one's seconds by round: all take turns, each round in the other order."""
    names = list(works)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            seconds[name].append(works[name]())
    return seconds


def paired(
    what: str,
    ours: Sequence[float],
    beside: str,
    other: Sequence[float],
    *,
    unit: str,
    scale: Callable[[float], float],
    bar: Bar | None = None,
    note: str = "",
) -> Row:
    """Return the row of two things that took turns.

    Args:
        what: was measured.
        ours, other: seconds by round.
        beside: the other thing's name.
        unit: of what `scale` makes of seconds.
        scale: seconds to the value; the ratio is of these values.
        bar: about the ratio.
        note: for the reader.
    """
    ratios = [scale(a) / scale(b) for a, b in zip(ours, other, strict=True)]
    return Row(
        what=what,
        value=scale(statistics.median(ours)),
        unit=unit,
        beside=beside,
        beside_value=scale(statistics.median(other)),
        ratio=statistics.median(ratios),
        spread=(min(ratios), max(ratios)),
        bar=bar,
        note=note,
    )


def single(
    what: str, values: Sequence[float], *, unit: str, bar: Bar | None = None, note: str = ""
) -> Row:
    """Return the row of a thing that stands alone: the median and its spread."""
    return Row(
        what=what,
        value=statistics.median(values),
        unit=unit,
        spread=(min(values), max(values)),
        bar=bar,
        note=note,
    )


def missing(*modules: str) -> str:
    """Return why something can't be measured here, or nothing: the first module not there."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            return f"skipped: {module} is not installed"
    return ""


def as_dict(row: Row) -> dict[str, Any]:
    """Return a row as JSON has it."""
    return {
        "what": row.what,
        "value": row.value,
        "unit": row.unit,
        "beside": row.beside,
        "beside_value": row.beside_value,
        "ratio": row.ratio,
        "spread": row.spread,
        "bar": None if row.bar is None else str(row.bar),
        "met": row.met,
        "note": row.note,
    }
