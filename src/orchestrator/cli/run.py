"""`orch run`: run a spec, or go on with a job."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog.table import visible

from ..errors import ExitCode
from ..report import manifest
from ..spec.model import Spec
from ..status import Totals
from . import out
from .flags import Flags, check_refreshed, settings
from .out import elsewhere

if TYPE_CHECKING:
    from ..folder import RunFolder
    from ..options import Options
    from ..planning import Forecast
    from ..results import JobResult
    from ..state import JobState
    from .display import Plain


def again(
    path: str,
    runs_dir: str,
    provider: str,
    model: str,
    pairs: list[str],
    *,
    resume: bool = True,
    job: str = "",
    more: Sequence[str] = (),
) -> str:
    """Return the command that runs a spec as it was asked for, or goes on with its newest job.

    Args:
        path: of the spec.
        runs_dir: as it was given.
        provider: as it was given, if it was.
        model: the same.
        pairs: of `--set`.
        resume: go on with the newest job.
        job: go on with this one, in place of a spec's.
        more: words that it has beside these.
    """
    words = ["orch", "resume", job] if job else ["orch", "run", path]
    words += ["--resume"] if resume and not job else []
    if provider:  # a spec that names none could not be read without it
        words += ["--provider", provider]
    if model:
        words += ["--model", model]
    for pair in pairs:
        words += ["--set", pair]
    words += more
    if runs_dir != "runs":
        words += ["--runs-dir", runs_dir]
    return shlex.join(words)


def resume_job(
    ref: str,
    runs_dir: str,
    flags: Flags,
    *,
    provider: str = "",
    model: str = "",
    pairs: Sequence[str] = (),
    dry_run: bool = False,
    **shown: Any,
) -> int:
    """Go on with a job, with its frozen spec, and return the exit code.

    What is given here holds for later legs, too, so that the command to go on needs no word of it.
    """
    from ..frozen import frozen_spec
    from ..jobs import Jobs
    from .planned import plan

    inputs = settings(list(pairs))
    options = flags.options()
    jobs = Jobs(runs_dir)
    folder = jobs.find(ref)
    spec = frozen_spec(folder, jobs.load(folder))
    options |= {"job": folder.job_id, "inputs": inputs, "runs_dir": runs_dir}
    options |= {"provider": provider or None, "model": model or None}
    if dry_run:
        more = flags.words()
        command = again("", runs_dir, provider, model, list(pairs), job=folder.job_id, more=more)
        plan(spec, command, as_json=shown["as_json"], **options)
        return 0
    command = f"orch resume {folder.job_id}{elsewhere(runs_dir)}"
    return run_spec(spec, command, **options, **shown)


def retry_job(ref: str, runs_dir: str, flags: Flags, **options: Any) -> int:
    """Go on with a job if a step of it has failed, and return the exit code."""
    from ..jobs import Jobs

    jobs = Jobs(runs_dir)
    folder = jobs.find(ref)
    state = jobs.load(folder)
    if not state.failures and not state.tolerated:
        out.talk(f"nothing failed in job {folder.job_id} ({state.status}); nothing was done")
        out.talk(f"next: orch show {folder.job_id}{elsewhere(runs_dir)}")
        return 0
    return resume_job(folder.job_id, runs_dir, flags, **options)


def fork_job(
    ref: str, runs_dir: str, from_step: str, path: str, dry_run: bool, **options: Any
) -> int:
    """Begin a new job from another one, and return the exit code."""
    from eventlog.recover import refuse, scan
    from eventlog.source import LogFile

    from ..forking import Fork
    from ..forking import again as run_again
    from ..frozen import frozen_spec
    from ..jobs import Jobs
    from ..preflight import read_spec
    from .planned import plan

    jobs = Jobs(runs_dir)
    folder = jobs.find(ref)
    with LogFile(folder.log) as file:
        refuse(scan(file), folder.log)  # what is taken over has to be what was recorded
    state = jobs.load(folder)
    spec = read_spec(path) if path else frozen_spec(folder, state)
    fork = Fork(folder=folder, state=state, from_step=from_step)
    run_again(fork, spec)  # a wrong name is told before all else
    if dry_run:
        words = ["orch", "fork", folder.job_id]
        words += ["--from", from_step] if from_step else []
        words += ["--spec", path] if path else []
        as_json = options["as_json"]
        plan(spec, shlex.join(words), as_json=as_json, runs_dir=runs_dir, fork=fork)
        return 0
    where = elsewhere(runs_dir)
    out.talk(f"a new job from {folder.job_id}, as it was at seq {state.seq}")
    return run_spec(spec, f"orch resume latest{where}", runs_dir=runs_dir, fork=fork, **options)


def run_spec(spec: Spec, again: str, *, display: str, as_json: bool, **options: Any) -> int:
    """Run a spec and return the exit code.

    Args:
        spec: checked.
        again: the command that goes on with the job, to be named if it does not succeed.
        display: `full`, `plain`, `json` or `none`; empty for `full` on a terminal, else `plain`.
        as_json: print the manifest on stdout instead of one line.
        options: of `orchestrator.options.Options`.
    """
    import anyio

    from ..options import Options
    from .display import Json, Plain, closing_lines, opening_line
    from .live import Full
    from .planned import short

    check_refreshed(spec, options.get("refresh", ()))
    before = Totals()
    given = Options(signals=True, warn=out.talk, **options)
    display = display or ("full" if sys.stderr.isatty() else "plain")
    shown = {"full": Full, "plain": Plain}.get(display)
    progress = shown(len(spec.steps)) if shown else None

    def opened(folder: RunFolder, state: JobState) -> None:
        nonlocal before
        legs_s = state.totals.legs_s + state.open_leg_s
        before = msgspec.structs.replace(state.totals, legs_s=legs_s)
        given.listen = Json(folder.job_id) if display == "json" else progress
        if progress is not None:
            out.talk(opening_line(folder, state, len(spec.steps), spec.concurrency))

    def foretold(found: Forecast) -> None:
        if progress is not None:
            for line in short(found):
                out.talk(line)

    given.opened, given.foretold = opened, foretold if progress is not None else None
    if isinstance(progress, Full):
        given.warn = progress.warn
        given.progress = progress.progress
    try:
        result = anyio.run(_watched, spec, given, progress)
    except KeyboardInterrupt:  # before the leg began, or when it had ended
        out.talk("SIGINT: no step was running")
        out.talk(f"go on: {again}")
        return int(ExitCode.SIGINT)
    if progress is not None:
        for line in closing_lines(result.state, before):
            out.talk(line)
    if as_json:
        out.document(
            {
                **manifest(result.state),
                "outputs": result.outputs,
                "exit_code": result.exit_code,
            }
        )
    elif display != "json":
        out.data(f"Job: {result.job_id}, Status: {result.status}")
    if display != "none":
        _what_next(result, again, given.runs_dir)
    return result.exit_code


async def _watched(spec: Spec, given: Options, progress: Plain | None) -> JobResult:
    """Run the spec, with the terminal's last line kept true meanwhile."""
    import anyio

    from ..wiring import execute
    from .live import Full

    if not isinstance(progress, Full):
        return await execute(spec, given)
    raised: Exception | None = None
    result: JobResult | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(progress.tick)
        try:
            result = await execute(spec, given)
        except Exception as error:  # noqa: BLE001 - a task group would wrap it
            raised = error
        group.cancel_scope.cancel()
    if raised is not None:
        raise raised
    assert result is not None
    return result


def _what_next(result: JobResult, again: str, runs_dir: str) -> None:
    """Tell what failed and why, and name the next command."""
    for failure in result.state.tolerated:
        said = visible(failure.message.partition("\n")[0])
        out.talk(f"note: step {failure.step} failed, and the job went on ({failure.kind}): {said}")
    for failure in result.state.failures:
        first, *others = visible(failure.message, keep="\n").split("\n")
        who = f"step {failure.step}" if failure.step else "the job's outputs"
        which = f", attempt {failure.attempt}" if failure.attempt > 1 else ""
        out.talk(f"error: {who} failed ({failure.kind}{which}): {first}")
        for line in others:
            out.talk(f"  | {line}")
        if failure.hint:
            out.talk(f"  hint: {visible(failure.hint)}")
    pauses = result.status == "waiting"  # as it should
    if not (result.ok or pauses or result.state.failures) and result.state.ended_because:
        out.talk(f"error: the job ended early: {result.state.ended_because}")
    where = elsewhere(runs_dir)
    if pauses:
        _who_is_waited_for(result, where)
        return
    out.talk(f"next: orch show {result.job_id}{where}" if result.ok else f"go on: {again}")


def _who_is_waited_for(result: JobResult, where: str) -> None:
    """Print what a job that pauses asks, and how it is answered."""
    from ..folder import RunFolder
    from .jobs import TEXT, message_of

    folder = RunFolder(os.path.dirname(result.path), result.job_id)
    for name in result.state.asking:
        out.talk(f"step {name} asks:")
        out.talk(visible(message_of(folder, result.state, name), keep=TEXT))
    name = next(iter(result.state.asking))
    out.talk(f"next: orch approve {result.job_id} {shlex.quote(name)}{where}, or with --reject")
