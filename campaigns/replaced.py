"""Crashes while a file is replaced as a whole: `write_whole`, and migration in place."""

from __future__ import annotations

import os
import shutil
import tempfile
from random import Random
from typing import NamedTuple

from eventlog import EventLogError
from eventlog.fs import write_whole
from eventlog.migrate import migrate

from .calls import Mark, Op, State
from .disk import Disk, crashes
from .memory import MemoryFiles
from .recorded import RecordedFiles, put_all, read_all
from .tally import Failure, Tally

WHOLE = "/manifest.json"
LINES = (
    b'{"timestamp":"2025-10-22T10:00:%02d","type":"step.started","step":"a","n":%d}\n',
    b'{"ts":"2025-10-22T10:00:%02dZ","type":"llm.response","job_id":"j","tokens":%d}\n',
    b'{"ts":"2025-10-22T10:00:%02dZ","type":"x","data":{"n":%d}}\n',
)
RERUN_EVERY = 10
"""Of so many states of a migration, one is migrated again."""


def run_whole(seed: int, samples: int, tally: Tally) -> None:
    """Write one file as a whole, a few times; after each crash it is an old or the new one."""
    rng = Random(f"whole {seed}")
    ops: list[Op] = []
    files = MemoryFiles(ops=ops)
    content: bytes | None = None
    for _ in range(rng.randint(1, 4)):
        new = rng.randbytes(rng.choice((0, 40, 600, 3000)))
        ops.append(Mark("may be", {content, new}))
        files.step = rng.choice((0, 0, 100))
        write_whole(files, WHOLE, new)
        ops.append(Mark("is", {new}))
        content = new
    tally.lives += 1
    for crash in crashes(Disk(), ops, rng, samples):
        if crash is None:
            tally.repeats += 1
            continue
        tally.states["write_whole"] += 1
        if crash.state.get(WHOLE) not in crash.mark:
            why = f"{len(crash.state.get(WHOLE, b''))} bytes that are neither old nor new"
            tally.fail(Failure(seed, 0, crash.call, "write_whole", why))


class _Due(NamedTuple):
    """What a migration owes: from `told` on the new log and the old one beside it."""

    path: str
    old: bytes
    new: bytes
    told: bool


def run_migration(seed: int, samples: int, tally: Tally, scratch: str) -> None:
    """Migrate one log in place; after each crash it is the old or the new one, and goes on.

    Args:
        seed: decides all of it.
        samples: how many states are drawn after each call.
        tally: takes the counts.
        scratch: a folder for its files.
    """
    rng = Random(f"migration {seed}")
    with tempfile.TemporaryDirectory(dir=scratch) as root:
        path = os.path.join(root, "events.jsonl")
        old = b"".join(
            rng.choice(LINES) % (rng.randrange(60), rng.randrange(10**6))
            for _ in range(rng.choice((1, 3, 10, 40)))
        )
        old += LINES[0] % (1, 1)  # one at least has to change
        with open(path, "wb") as file:
            file.write(old)
        ops: list[Op] = []
        files = RecordedFiles(root, ops)
        disk = Disk(read_all(root))
        disk.adopt(path, files.inos[path])
        new = _migrated(path, files)
        steps: list[Op] = [Mark("may be", _Due(path, old, new, told=False)), *ops]
        steps += [Mark("is", _Due(path, old, new, told=True))]
    tally.lives += 1
    for crash in crashes(disk, steps, rng, samples):
        if crash is None:
            tally.repeats += 1
            continue
        tally.states["migration"] += 1
        why = _wrong(crash.state, crash.mark)
        if not why and rng.randrange(RERUN_EVERY) == 0:
            why = _rerun(crash.state, crash.mark, scratch)
        if why:
            tally.fail(Failure(seed, 0, crash.call, "migration", why))


def _migrated(path: str, files: RecordedFiles) -> bytes:
    migrate(path, files=files)
    with open(path, "rb") as file:
        return file.read()


def _wrong(state: State, due: _Due) -> str:
    log, kept = state.get(due.path), state.get(f"{due.path}.v1")
    if log not in ((due.new,) if due.told else (due.old, due.new)):
        return "the log is neither the old nor the new one" if log else "there is no log"
    if log == due.new and kept != due.old:
        return "the old log is gone"
    return "" if kept in (None, due.old) else "what was kept is not the old log"


def _rerun(state: State, due: _Due, scratch: str) -> str:
    root = os.path.dirname(due.path)
    again = tempfile.mkdtemp(dir=scratch)
    try:
        put_all(state, root, again)
        path = os.path.join(again, "events.jsonl")
        migrate(path)
        moved = {
            os.path.join(root, os.path.relpath(p, again)): d for p, d in read_all(again).items()
        }
    except EventLogError as error:
        return f"migrating again failed: {error}"
    finally:
        shutil.rmtree(again)
    return _wrong(moved, due._replace(told=True))
