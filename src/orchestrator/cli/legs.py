"""The commands that run, plan or stop a leg of a job, or decide what the next one does."""

from __future__ import annotations

from typing import Annotated

import typer

from .base import (
    AsJson,
    CacheOnly,
    DryRun,
    Inputs,
    Interrupted,
    JobFile,
    JobRef,
    KeepGoing,
    MaxCost,
    Model,
    NoCache,
    Prices,
    Provider,
    Refresh,
    RefreshStep,
    RunsDir,
    Shown,
    app,
)


@app.command()
def run(
    spec: JobFile = "",
    spec_option: Annotated[str, typer.Option("--spec", help="The job file.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest job.")] = False,
    provider: Provider = "",
    model: Model = "",
    set_: Inputs = None,
    dry_run: DryRun = False,
    keep_going: KeepGoing = None,
    on_interrupted: Interrupted = None,
    max_cost: MaxCost = "",
    no_cache: NoCache = False,
    refresh: Refresh = False,
    refresh_step: RefreshStep = None,
    cache_only: CacheOnly = False,
    prices: Prices = "",
    display: Shown = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Run a job file, or go on with --resume.

    With --resume its newest job goes on where it stopped; a step that holds is not run again.

    Example: orch run examples/tiny_spec.yaml
    """
    from ..preflight import read_spec
    from . import run as command
    from .flags import Flags, settings

    path = _named_once(spec, spec_option)
    inputs = settings(set_ or [])
    checked = read_spec(path, provider or None)
    flags = Flags(
        keep_going=keep_going,
        on_interrupted=on_interrupted.value if on_interrupted else None,
        max_cost=max_cost,
        no_cache=no_cache,
        refresh=refresh,
        refresh_step=refresh_step,
        cache_only=cache_only,
        prices=prices,
    )
    options = {
        **flags.options(),
        "resume": resume,
        "provider": provider or None,
        "model": model or None,
        "inputs": inputs,
        "runs_dir": runs_dir,
    }
    given = (path, runs_dir, provider, model, set_ or [])
    if dry_run:
        from .planned import plan

        again = command.again(*given, resume=resume, more=flags.words())
        plan(checked, again, as_json=as_json, **options)
        return
    shown = display.value if display else ""
    code = command.run_spec(
        checked, command.again(*given), display=shown, as_json=as_json, **options
    )
    raise typer.Exit(code)


def _named_once(spec: str, spec_option: str) -> str:
    """Return the job file that was named, as an argument or by --spec."""
    from ..errors import UsageError

    if bool(spec) == bool(spec_option):
        raise UsageError(
            "name the job file once: orch run SPEC, or orch run --spec SPEC"
            if spec
            else "which job file?",
            hint="" if spec else "orch run SPEC; orch init demo writes one to start with",
        )
    return spec or spec_option


@app.command()
def resume(
    job: JobRef = "latest",
    provider: Provider = "",
    model: Model = "",
    set_: Inputs = None,
    dry_run: DryRun = False,
    keep_going: KeepGoing = None,
    on_interrupted: Interrupted = None,
    max_cost: MaxCost = "",
    no_cache: NoCache = False,
    refresh: Refresh = False,
    refresh_step: RefreshStep = None,
    cache_only: CacheOnly = False,
    prices: Prices = "",
    display: Shown = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Go on with a job where it stopped.

    The spec is the one that was frozen when the job last began; the other options are those of
    orch run --resume.

    Example: orch resume latest
    """
    from . import run as command
    from .flags import Flags

    flags = Flags(
        keep_going=keep_going,
        on_interrupted=on_interrupted.value if on_interrupted else None,
        max_cost=max_cost,
        no_cache=no_cache,
        refresh=refresh,
        refresh_step=refresh_step,
        cache_only=cache_only,
        prices=prices,
    )
    code = command.resume_job(
        job,
        runs_dir,
        flags,
        provider=provider,
        model=model,
        pairs=set_ or [],
        dry_run=dry_run,
        display=display.value if display else "",
        as_json=as_json,
    )
    raise typer.Exit(code)


@app.command(name="plan")
def plan_(
    spec: JobFile,
    resume: Annotated[bool, typer.Option("--resume", help="Of the newest job's next leg.")] = False,
    provider: Provider = "",
    model: Model = "",
    set_: Inputs = None,
    keep_going: KeepGoing = None,
    on_interrupted: Interrupted = None,
    max_cost: MaxCost = "",
    no_cache: NoCache = False,
    refresh: Refresh = False,
    refresh_step: RefreshStep = None,
    cache_only: CacheOnly = False,
    prices: Prices = "",
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Say what would run, be cached or skipped, and why.

    With --resume it tells what has changed since the newest job of the file ran: the line of a
    prompt, a parameter, a file. Nothing is run and nothing written.

    Example: orch plan job.yaml --resume
    """
    from ..preflight import read_spec
    from . import planned
    from . import run as command
    from .flags import Flags, settings

    checked = read_spec(spec, provider or None)
    flags = Flags(
        keep_going=keep_going,
        on_interrupted=on_interrupted.value if on_interrupted else None,
        max_cost=max_cost,
        no_cache=no_cache,
        refresh=refresh,
        refresh_step=refresh_step,
        cache_only=cache_only,
        prices=prices,
    )
    given = (spec, runs_dir, provider, model, set_ or [])
    again = command.again(*given, resume=resume, more=flags.words())
    planned.plan(
        checked,
        again,
        **flags.options(),
        as_json=as_json,
        runs_dir=runs_dir,
        resume=resume,
        provider=provider or None,
        model=model or None,
        inputs=settings(set_ or []),
    )


@app.command()
def cancel(
    job: JobRef = "latest",
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Stop a job, also one that runs in another terminal.

    What runs is ended and recorded, as by Ctrl-C; the job can be resumed.

    Example: orch cancel latest
    """
    from . import people as command

    command.cancel(runs_dir, job, as_json=as_json)


@app.command()
def approve(
    job: JobRef,
    step: Annotated[str, typer.Argument(help="The step; not needed if only one waits.")] = "",
    reject: Annotated[bool, typer.Option("--reject", help="Say no: the step fails.")] = False,
    note: Annotated[str, typer.Option(help="What is recorded with it.")] = "",
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Approve, or reject, what a step of a job asks.

    Your account's name and the time are recorded. The approval is for what is shown: when
    that changes, the job asks again.

    Example: orch approve latest review --note "read it twice"
    """
    from . import people as command

    command.approve(runs_dir, job, step, reject=reject, note=note, as_json=as_json)


@app.command()
def retry(
    job: JobRef = "latest",
    keep_going: KeepGoing = None,
    on_interrupted: Interrupted = None,
    max_cost: MaxCost = "",
    no_cache: NoCache = False,
    refresh: Refresh = False,
    refresh_step: RefreshStep = None,
    cache_only: CacheOnly = False,
    prices: Prices = "",
    display: Shown = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Try a job's failed steps again, and what waited for them.

    Where nothing failed, nothing is done.

    Example: orch retry latest
    """
    from . import run as command
    from .flags import Flags

    flags = Flags(
        keep_going=keep_going,
        on_interrupted=on_interrupted.value if on_interrupted else None,
        max_cost=max_cost,
        no_cache=no_cache,
        refresh=refresh,
        refresh_step=refresh_step,
        cache_only=cache_only,
        prices=prices,
    )
    shown = display.value if display else ""
    code = command.retry_job(job, runs_dir, flags, display=shown, as_json=as_json)
    raise typer.Exit(code)


@app.command()
def fork(
    job: JobRef = "latest",
    from_step: Annotated[
        str, typer.Option("--from", help="Run this step again, and all that comes after it.")
    ] = "",
    spec: Annotated[str, typer.Option("--spec", help="In place of the job's frozen file.")] = "",
    dry_run: DryRun = False,
    keep_going: KeepGoing = None,
    display: Shown = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Start a new job from what still holds of another one.

    The old job is only read. The new one names it as its parent, has copies of its results and
    files, and runs what has changed.

    Example: orch fork latest --from notes
    """
    from . import run as command

    shown = display.value if display else ""
    raise typer.Exit(
        command.fork_job(
            job,
            runs_dir,
            from_step,
            spec,
            dry_run,
            display=shown,
            as_json=as_json,
            keep_going=keep_going,
        )
    )


step_app = typer.Typer(no_args_is_help=True, help="Give a step's result by hand.")
app.add_typer(step_app, name="step")


@step_app.command(name="set")
def step_set(
    job: JobRef,
    step: Annotated[str, typer.Argument(help="The step.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The file with its output; - is stdin.")
    ],
    reason: Annotated[str, typer.Option(help="Why; it is recorded with your account's name.")],
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Record a result that was made by hand; what follows uses it.

    The file holds JSON; for an llm or run step it may be the plain text of its answer.

    Example: orch step set latest notes --output notes.md --reason "written by hand"
    """
    from . import people as command

    command.set_output(runs_dir, job, step, file=output, reason=reason, as_json=as_json)
