"""The crash model as a command: many lives on all cores, counted by write path."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from . import crash, mutants, replaced
from .tally import Tally

SAMPLES = 20
"""States drawn after each call of a life."""
LIVES = 10
"""In one task of a worker."""

Life = Callable[[int, int, Tally, str], None]


def _log(seed: int, samples: int, tally: Tally, _: str) -> None:
    crash.run(seed, samples, tally)


def _whole(seed: int, samples: int, tally: Tally, _: str) -> None:
    replaced.run_whole(seed, samples, tally)


def _store(seed: int, samples: int, tally: Tally, scratch: str) -> None:
    from . import stored

    stored.run(seed, samples, tally, scratch)


LIVES_OF: dict[str, Life] = {
    "the log": _log,
    "write_whole": _whole,
    "migration": replaced.run_migration,
    "FileStore": _store,
}
SHARES = {"the log": 1.0, "write_whole": 0.05, "migration": 0.05, "FileStore": 0.1}
"""States of each, as a part of those asked for."""


class _Task(NamedTuple):
    name: str
    seed: int
    scratch: str


def _work(task: _Task) -> Tally:
    tally = Tally()
    for seed in range(task.seed, task.seed + LIVES):
        LIVES_OF[task.name](seed, SAMPLES, tally, task.scratch)
    return tally


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder in memory, where the system has one."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def has_store() -> bool:
    """Return whether the orchestrator, whose file store this is about, can be imported."""
    try:
        import orchestrator  # noqa: F401 - only whether it is there
    except ImportError:
        return False
    return True


def explore(name: str, states: int, seed: int, workers: int) -> Tally:
    """Live lives of one kind until so many states were looked at."""
    total = Tally()
    with scratch_folder() as scratch:
        if workers < 2:
            while total.total < states:
                total.add(_work(_Task(name, seed, scratch)))
                seed += LIVES
            return total
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for tally in pool.imap_unordered(_work, _tasks(name, seed, scratch, states)):
                total.add(tally)
                if total.total >= states:
                    break
    return total


def _tasks(name: str, seed: int, scratch: str, states: int) -> Iterator[_Task]:
    # (The pool takes all tasks at once; a life has never less than a few states.)
    for first in range(seed, seed + states, LIVES):
        yield _Task(name, first, scratch)


def main(states: int, seed: int, workers: int) -> int:
    """Run the model and print what it saw; return how many states were got wrong."""
    print(f"crash model: seed {seed}, {SAMPLES} states drawn after each call, {workers} processes")
    print(f"{'write path':<28} {'states':>10} {'wrong':>7}")
    began = time.perf_counter()
    everything = Tally()
    for name, share in SHARES.items():
        if name == "FileStore" and not has_store():
            print("FileStore: skipped, the orchestrator is not installed")
            continue
        tally = explore(name, max(1, int(states * share)), seed, workers)
        for phase, count in sorted(tally.states.items()):
            print(f"{phase:<28} {count:>10,} {tally.wrong[phase]:>7,}", flush=True)
        everything.add(tally)
    seconds = time.perf_counter() - began
    wrong = everything.wrong.total()
    print(
        f"{'all':<28} {everything.total:>10,} {wrong:>7,}   in {seconds:.0f} s,"
        f" {everything.lives:,} lives, {everything.repeats:,} repeats not counted"
    )
    for failure in everything.failures:
        print(
            f"WRONG: life {failure.seed}, leg {failure.leg}, after call {failure.call},"
            f" {failure.phase}: {failure.why}"
        )
    return wrong


def main_mutants(seed: int, budget: int) -> int:
    """Hunt each mutant and print the score; return how many live."""
    print(f"mutants: seed {seed}, up to {budget:,} states each")
    verdicts = []
    with scratch_folder() as scratch:
        for mutant in mutants.all_mutants():
            verdict = mutants.hunt(mutant, seed, budget, scratch)
            verdicts.append(verdict)
            said = "caught" if verdict.caught else "LIVES"
            print(
                f"{said:<7} {verdict.states:>7,} states  {verdict.name}: {verdict.why[:70]}",
                flush=True,
            )
    caught = sum(verdict.caught for verdict in verdicts)
    print(f"score: {caught} of {len(verdicts)} caught")
    return len(verdicts) - caught
