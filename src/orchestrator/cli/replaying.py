"""`orch replay`: run a recorded job again without a network, and compare."""

from __future__ import annotations

import functools
import os
import tempfile
from contextlib import ExitStack

import anyio
import msgspec

from ..errors import ExitCode, UsageError
from ..jobs import Jobs
from ..replay import Replayed, replay
from . import out


def replay_job(runs_dir: str, ref: str, into: str, *, execute: bool, as_json: bool) -> int:
    """Replay a job and return the exit code: 0 only if everything came out the same.

    Args:
        runs_dir: where the job is.
        ref: the job, or the path of its folder.
        into: a runs/ folder that keeps the replay; empty for one that is removed.
        execute: also run Python and shell steps.
        as_json: print one document.
    """
    if os.path.isdir(ref) and os.path.isfile(os.path.join(ref, "events.jsonl")):
        runs_dir, ref = os.path.split(os.path.abspath(ref))
    jobs = Jobs(runs_dir)
    source = jobs.find(ref)
    with ExitStack() as stack:
        place = into or stack.enter_context(tempfile.TemporaryDirectory(prefix="orch-replay-"))
        if os.path.isdir(os.path.join(place, source.job_id)):
            raise UsageError("the replay can't be kept beside its job", place=place)
        done = anyio.run(
            functools.partial(replay, jobs, source, place, execute_steps=execute, warn=out.talk)
        )
    _print(source.job_id, done, as_json=as_json)
    if into:
        out.talk(f"next: orch show {done.result.job_id} --runs-dir {into}")
    if done.lost:
        return int(ExitCode.CACHE_MISS)
    return int(ExitCode.STEP_FAILED) if done.differences else 0


def _print(job_id: str, done: Replayed, *, as_json: bool) -> None:
    if as_json:
        out.document(
            {
                "job_id": job_id,
                "equal": not done.differences,
                "compared": done.compared,
                "differences": msgspec.to_builtins(done.differences),
            }
        )
    for failure in done.result.state.failures:
        if failure.step not in done.failed:
            out.talk(f"step {failure.step}: {failure.message}")
    for step in done.failed:
        out.talk(f"step {step} had no result when it was recorded, and has none now")
    for difference in () if as_json else done.differences:
        new = difference.replayed[:12] or "nothing"
        out.data(f"{difference.what}: {difference.recorded[:12] or 'nothing'} -> {new}")
    if not as_json:
        equal = done.compared - len(done.differences)
        out.data(f"{job_id}: {equal} of {done.compared} steps and files are byte for byte the same")
