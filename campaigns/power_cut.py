"""Power cuts on a real file system: ext4 on a loop device, shut down without a flush.

The shutdown ioctl stops the file system as a cut does: what it has not sent to its device is
lost. The same harness runs four other ways to keep events beside ours. It shows what our calls
ask of the system; what a disk does with what it was sent is beyond it.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import struct
import tempfile
import termios
import time
from collections import Counter
from random import Random

from .children import acks, drain, fork, kill
from .ext4 import Mounted, disk, missing
from .rivals import WRITERS, quietly

__all__ = ["main", "missing"]

_SET_PIPE_SIZE = 1031
_PIPE_BYTES = 1 << 20
_TRIALS_PER_DISK = 100


def trial(mounted: Mounted, writer: str, rng: Random, counts: Counter[str]) -> str:
    """Let a writer write, cut the power, look at what is left; return what is wrong with it.

    Lost events are counted, not told: a writer that promises less loses more.
    """
    write, look = WRITERS[writer]
    folder = os.path.join(mounted.path, "job")
    os.mkdir(folder)
    mounted.sync()
    end, pipe = os.pipe()
    fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE_BYTES)
    seed = rng.randrange(1 << 40)
    pid = fork(lambda: quietly(write, folder, pipe, Random(seed)))
    os.close(pipe)
    time.sleep(rng.uniform(0, 0.05))
    if rng.random() < 0.25:
        mounted.sync()  # so that some of what was not synced is there, and some is not
        time.sleep(rng.uniform(0, 0.005))
    # What is told once the cut has begun does not count: nobody hears it from a machine that is
    # off, and a sync that is under way then may return as if all were well.
    told = acks(os.read(end, _waiting(end)))
    mounted.cut()
    kill(pid)
    drain(end)
    mounted.unmount()
    mounted.mount()
    lost, wrong = look(folder, told) if os.path.isdir(folder) else (len(told), "no folder")
    shutil.rmtree(folder, ignore_errors=True)
    counts["trials"] += 1
    counts["acknowledged"] += len(told)
    counts["lost"] += lost
    counts["trials with a loss"] += lost > 0
    counts["damaged"] += bool(wrong)
    return wrong


def _waiting(pipe: int) -> int:
    """Return how many bytes are in a pipe now."""
    (size,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(size)


def _work(task: tuple[str, int, int]) -> tuple[str, Counter[str], list[str]]:
    writer, trials, seed = task
    rng = Random(f"{writer} {seed}")
    counts: Counter[str] = Counter()
    where = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=where) as folder, disk(folder) as mounted:
        told = (trial(mounted, writer, rng, counts) for _ in range(trials))
        wrong = [why for why in told if why]
    return writer, counts, wrong


def main(trials: int, seed: int, workers: int, writers: list[str] | None) -> int:
    """Run the trials and print all rows; return how many of ours lost anything or were refused."""
    print(f"power cuts: seed {seed}, {workers} disks at once, kernel {os.uname().release}, ext4")
    names = writers or list(WRITERS)
    tasks = [
        (name, min(_TRIALS_PER_DISK, trials - first), seed + first)
        for first in range(0, trials, _TRIALS_PER_DISK)
        for name in names
    ]
    rows: dict[str, Counter[str]] = {name: Counter() for name in names}
    told: list[str] = []
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for name, counts, wrong in pool.imap_unordered(_work, tasks):
            rows[name] += counts
            told += [f"{name}: {why}" for why in wrong]
    heads = ("trials", "with a loss", "acknowledged", "lost", "damaged")
    print(f"{'writer':<18}" + "".join(f" {head:>13}" for head in heads))
    keys = ("trials", "trials with a loss", "acknowledged", "lost", "damaged")
    for name, row in rows.items():
        print(f"{name:<18}" + "".join(f" {row[key]:>13,}" for key in keys))
    print(f"in {time.perf_counter() - began:.0f} s")
    for why in told[:5]:
        print(f"damaged: {why}")
    return sum(row["lost"] + row["damaged"] for name, row in rows.items() if "eventlog" in name)
