"""Folders of jobs' logs, made fast: sealed lines of the types and sizes that jobs write."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import islice

from eventlog.codec import GENESIS, seal_all

_PER_STEP = 8


_AT_ONCE = 10_000


def events(job: str, count: int, seed: int) -> Iterator[bytes]:
    """Yield the members of so many events of a job, about 210 bytes each."""
    chance = random.Random(seed)
    spec = '"level":"INFO","job_id":"%s","type":"job.started","data":{"project":"p%d"}'
    yield (spec % (job, seed % 50)).encode()
    for number in range(0, count - 2, _PER_STEP):
        step = f"step-{number // _PER_STEP % 40:02d}"
        key = f"{chance.getrandbits(128):032x}"
        call = f'"provider":"ollama","model":"m{chance.randrange(3)}","cache_key":"{key}"'
        seconds = chance.random() * 5
        tokens = f'"tokens_in":{chance.randrange(900)},"tokens_out":{chance.randrange(900)}'
        for kind, data in (
            ("step.started", f'"attempt":1,"kind":"llm","key":"{key}{key}"'),
            ("cache.miss", f'{call},"reason":"first"'),
            ("llm.request", f'{call},"attempt":1'),
            (
                "llm.response",
                f'{call},"duration_s":{seconds:.6f},"success":true,{tokens}',
            ),
            ("file.written", f'"path":"{step}.md","sha256":"{key}{key}","size_bytes":900'),
            ("artifact.created", f'"sha256":"{key}{key}","size_bytes":17000'),
            ("log.noted", f'"text":"{"a few words " * 4}"'),
            ("step.succeeded", f'"attempt":1,"duration_s":{seconds:.6f},"key":"{key}{key}"'),
        ):
            yield (
                f'"level":"INFO","job_id":"{job}","type":"{kind}","step":"{step}",'
                f'"data":{{{data}}}'.encode()
            )
    end = '"level":"INFO","job_id":"%s","type":"job.succeeded","data":{"duration_s":9.5}'
    yield (end % job).encode()


def write_jobs(runs: str, jobs: int, each: int) -> int:
    """Write so many run folders with so many events each; return the bytes of their logs."""
    total = 0
    for number in range(jobs):
        job = f"job_{number:016x}"
        folder = os.path.join(runs, job)
        os.makedirs(folder, mode=0o700)
        clock = f"{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}"
        stamp = f"2026-11-23T{clock}.000000Z"
        made, seq, prev = events(job, each, number), 0, GENESIS
        with open(os.path.join(folder, "events.jsonl"), "wb") as file:
            while batch := list(islice(made, _AT_ONCE)):
                lines, prev = seal_all(seq, stamp, batch, prev)
                file.writelines(lines)
                seq += len(lines)
                total += sum(map(len, lines))
    return total
