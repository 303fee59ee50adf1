"""State as a fold over events."""

from __future__ import annotations

import pytest
from logkit import Noted, note

from eventlog import MemoryLog, Projection, Record


def add(state: int, record: Record) -> int:
    return state + record.event.data["n"] if isinstance(record.event, Noted) else state


def collect(state: list[int], record: Record) -> list[int]:
    state.append(record.seq)
    return state


TOTAL = Projection(initial=lambda: 0, evolve=add)
SEEN = Projection(initial=list, evolve=collect)


@pytest.fixture
def log():
    log = MemoryLog()
    log.append(*(note(n) for n in (1, 2, 4, 8)))
    return log


def test_a_fold_begins_at_the_initial_state(log):
    assert TOTAL.fold([]) == 0
    assert TOTAL.fold(log.read(Noted)) == 15


def test_a_fold_can_go_on_from_any_point(log):
    records = list(log.read(Noted))
    for point in range(len(records) + 1):
        assert TOTAL.fold(records[point:], TOTAL.fold(records[:point])) == 15


def test_each_fold_from_the_start_gets_a_state_of_its_own(log):
    assert SEEN.fold(log.read(Noted)) == SEEN.fold(log.read(Noted)) == [0, 1, 2, 3, 4]


def test_a_state_that_is_false_is_a_state(log):
    assert TOTAL.fold(log.read(Noted), 0) == 15
    kept: list[int] = []
    assert SEEN.fold(log.read(Noted), kept) is kept
