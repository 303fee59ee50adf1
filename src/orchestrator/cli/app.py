"""The commands and their options; what they do is in the modules beside, loaded when needed."""

from __future__ import annotations

import enum
import os
from typing import Annotated

import typer

app = typer.Typer(
    name="orch",
    help="Run multi-step LLM jobs as a file: kill it anywhere, resume it anywhere, query it.",
    epilog="Start here: orch init demo, then orch run demo/job.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Display(enum.StrEnum):
    """How progress is shown."""

    FULL = "full"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


class Format(enum.StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    MARKDOWN = "markdown"


class OnInterrupted(enum.StrEnum):
    """What becomes of a step whose effects must not happen twice, when it was cut off."""

    RERUN = "rerun"
    SKIP = "skip"
    FAIL = "fail"


Interrupted = Annotated[
    OnInterrupted | None,
    typer.Option(
        "--on-interrupted", help="What to do with a cut-off step that says effects: once."
    ),
]
MaxCost = Annotated[
    str, typer.Option("--max-cost", help="US dollars that the job may spend, over all its legs.")
]
RunsDir = Annotated[
    str, typer.Option("--runs-dir", envvar="ORCH_RUNS_DIR", help="Where the run folders are.")
]
JobRef = Annotated[str, typer.Argument(help="Job id, a unique prefix of one, or 'latest'.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ListFormat = Annotated[Format, typer.Option("--format", "-F", help="How to print it.")]
Prices = Annotated[
    str, typer.Option("--prices", help="A file of prices that goes before those that ship.")
]
Output = Annotated[str, typer.Option("--output", "-o", help="Write to this file.")]


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        typer.echo(f"unified-orchestrator {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    spec: Annotated[str, typer.Argument(help="The job file; - reads it from stdin.")] = "",
    spec_option: Annotated[str, typer.Option("--spec", help="The job file.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest job.")] = False,
    provider: Annotated[str, typer.Option(help="In place of the spec's provider.")] = "",
    model: Annotated[str, typer.Option(help="In place of the spec's model.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="An input: name=value.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would run.")
    ] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="Run what does not need a failed step.")
    ] = False,
    on_interrupted: Interrupted = None,
    max_cost: MaxCost = "",
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither read nor write the cache.")
    ] = False,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh", help="Ask again, and keep the new answers; --refresh=STEP: of one step."
        ),
    ] = False,
    refresh_step: Annotated[list[str] | None, typer.Option("--refresh-step", hidden=True)] = None,
    cache_only: Annotated[
        bool, typer.Option("--cache-only", help="Fail rather than call a model.")
    ] = False,
    prices: Prices = "",
    display: Annotated[
        Display | None,
        typer.Option(envvar="ORCH_DISPLAY", help="Progress: full on a terminal, else plain."),
    ] = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Run a job file, or go on with --resume.

    With --resume its newest job goes on where it stopped; a step that holds is not run again.

    Example: orch run examples/tiny_spec.yaml
    """
    from ..errors import UsageError
    from ..preflight import read_spec
    from . import run as command

    if bool(spec) == bool(spec_option):
        raise UsageError(
            "name the job file once: orch run SPEC, or orch run --spec SPEC"
            if spec
            else "which job file?",
            hint="" if spec else "orch run SPEC; orch init demo writes one to start with",
        )
    path = spec or spec_option
    inputs = command.settings(set_ or [])
    checked = read_spec(path, provider or None)
    again = command.again(path, runs_dir, provider, model, set_ or [])
    cache = command.cache_mode(no_cache=no_cache, refresh=refresh, cache_only=cache_only)
    if dry_run:
        from .planned import plan

        given = {"resume": resume, "provider": provider or None, "model": model or None}
        again = again if resume else again.replace(" --resume", "", 1)
        plan(
            checked, again, as_json=as_json, runs_dir=runs_dir, inputs=inputs, cache=cache, **given
        )
        return
    code = command.run_spec(
        checked,
        again,
        display=display.value if display else "",
        as_json=as_json,
        runs_dir=runs_dir,
        resume=resume,
        provider=provider or None,
        model=model or None,
        inputs=inputs,
        keep_going=keep_going,
        on_interrupted=on_interrupted.value if on_interrupted else "",
        max_cost=max_cost or None,
        cache=cache,
        refresh=command.refreshed(checked, refresh_step or [], plain=not (no_cache or cache_only)),
        prices=prices,
    )
    raise typer.Exit(code)


@app.command()
def resume(
    job: JobRef = "latest",
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="Run what does not need a failed step.")
    ] = False,
    on_interrupted: Interrupted = None,
    max_cost: MaxCost = "",
    prices: Prices = "",
    display: Annotated[
        Display | None,
        typer.Option(envvar="ORCH_DISPLAY", help="Progress: full on a terminal, else plain."),
    ] = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Go on with a job where it stopped.

    The spec is the one that was frozen when the job last began.

    Example: orch resume latest
    """
    from . import run as command

    raise typer.Exit(
        command.resume_job(
            job,
            runs_dir,
            display=display.value if display else "",
            as_json=as_json,
            keep_going=keep_going,
            on_interrupted=on_interrupted.value if on_interrupted else "",
            max_cost=max_cost or None,
            prices=prices,
        )
    )


@app.command(name="plan")
def plan_(
    spec: Annotated[str, typer.Argument(help="The job file; - reads it from stdin.")],
    resume: Annotated[bool, typer.Option("--resume", help="Of the newest job's next leg.")] = False,
    provider: Annotated[str, typer.Option(help="In place of the spec's provider.")] = "",
    model: Annotated[str, typer.Option(help="In place of the spec's model.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="An input: name=value.")] = None,
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

    checked = read_spec(spec, provider or None)
    again = command.again(spec, runs_dir, provider, model, set_ or [])
    planned.plan(
        checked,
        again if resume else again.replace(" --resume", "", 1),
        as_json=as_json,
        runs_dir=runs_dir,
        resume=resume,
        provider=provider or None,
        model=model or None,
        inputs=command.settings(set_ or []),
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
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="Run what does not need a failed step.")
    ] = False,
    display: Annotated[
        Display | None,
        typer.Option(envvar="ORCH_DISPLAY", help="Progress: full on a terminal, else plain."),
    ] = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Try a job's failed steps again, and what waited for them.

    Where nothing failed, nothing is done.

    Example: orch retry latest
    """
    from . import run as command

    shown = display.value if display else ""
    raise typer.Exit(
        command.retry_job(job, runs_dir, display=shown, as_json=as_json, keep_going=keep_going)
    )


@app.command()
def fork(
    job: JobRef = "latest",
    from_step: Annotated[
        str, typer.Option("--from", help="Run this step again, and all that comes after it.")
    ] = "",
    spec: Annotated[str, typer.Option("--spec", help="In place of the job's frozen file.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would run.")
    ] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="Run what does not need a failed step.")
    ] = False,
    display: Annotated[
        Display | None,
        typer.Option(envvar="ORCH_DISPLAY", help="Progress: full on a terminal, else plain."),
    ] = None,
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


@app.command(name="list")
def list_(
    status: Annotated[str, typer.Option(help="Only jobs of this status.")] = "",
    number: Annotated[
        int, typer.Option("-n", min=1, help="At most so many, the newest first.")
    ] = 20,
    format_: ListFormat = Format.TABLE,
    as_json: AsJson = False,
    output: Output = "",
    runs_dir: RunsDir = "runs",
) -> None:
    """List jobs, the newest first.

    Example: orch list --status failed
    """
    from . import jobs as command

    command.list_jobs(runs_dir, status, number, "json" if as_json else format_.value, output)


app.command(name="list-runs", hidden=True)(list_)


@app.command()
def show(
    job: JobRef = "latest",
    step: Annotated[str, typer.Argument(help="A step: its attempts, key and output.")] = "",
    request: Annotated[bool, typer.Option("--request", help="What its model was asked.")] = False,
    response: Annotated[bool, typer.Option("--response", help="What it answered.")] = False,
    at: Annotated[
        int | None, typer.Option("--at", help="As it stood after the event of this seq.")
    ] = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Show a job, or one step of it.

    Of a job: its steps, files, failures and totals. Of a step: its events, key and output. With
    --at it is the state at any event: orch tail shows their numbers.

    Example: orch show latest --at 12
    """
    from . import jobs as command

    if request or response:
        from .prompts import show_exchange

        show_exchange(runs_dir, job, step, request=request, response=response)
        return
    command.show_job(runs_dir, job, step, as_json=as_json, at=at)


@app.command()
def logs(
    job: JobRef = "latest",
    step: Annotated[str, typer.Argument(help="Only this step.")] = "",
    runs_dir: RunsDir = "runs",
) -> None:
    """Print what shell and python steps said.

    Example: orch logs latest collect
    """
    from . import jobs as command

    command.print_logs(runs_dir, job, step)


@app.command()
def tail(
    job: JobRef = "latest",
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the job ends.")
    ] = False,
    number: Annotated[
        int, typer.Option("-n", min=0, max=100_000, help="Begin with the last so many events.")
    ] = 10,
    raw: Annotated[bool, typer.Option("--raw", help="Print the lines as they are.")] = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Print a job's last events, and with -f those that come.

    Example: orch tail -f latest
    """
    from . import jobs as command

    command.tail_job(runs_dir, job, follow=follow, number=number, raw=raw)


@app.command()
def validate(
    specs: Annotated[list[str], typer.Argument(help="Job files.")],
    as_json: AsJson = False,
) -> None:
    """Check job files and tell every fault with its place.

    Example: orch validate job.yaml
    """
    from . import specs as command

    raise typer.Exit(command.validate(specs, as_json=as_json))


class Document(enum.StrEnum):
    """What there is a schema of."""

    JOB = "job"
    EVENT = "event"


@app.command()
def schema(
    of: Annotated[Document, typer.Argument(help="job: a job file; event: a line of a log.")],
    output: Output = "",
) -> None:
    """Print the JSON Schema of a job file, or of events.

    The first line of a job file makes editors use it:
    # yaml-language-server: $schema=job.schema.json

    Example: orch schema job -o job.schema.json
    """
    from . import specs as command

    command.schema(of.value, output)


@app.command()
def init(
    folder: Annotated[str, typer.Argument(help="Where to; it is made if it is not there.")] = ".",
    example: Annotated[
        str, typer.Option(help="digest, tiny, release-notes, or workflow.")
    ] = "digest",
) -> None:
    """Write a job to start with; nothing is ever overwritten.

    Example: orch init demo
    """
    from . import specs as command

    command.init(folder, example)


# The log commands bring their own options. They are built when one of them is called, so that no
# other command waits for them; completion needs them all.
PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

from . import models as _models  # noqa: E402, F401 - its commands need the names above


@app.command(name="migrate-events", context_settings=PASS_ON)
def migrate_events(context: typer.Context, runs_dir: RunsDir = "runs") -> None:
    """Bring logs of v1 and v2.0 to v2.1, in place."""
    from .events import migrate_app

    migrate_app(runs_dir)(context.args, prog_name="orch migrate-events")


@app.command(context_settings=PASS_ON)
def events(context: typer.Context, runs_dir: RunsDir = "runs") -> None:
    """Query, check and repair event logs."""
    from .events import events_app

    events_app(runs_dir)(context.args, prog_name="orch events")


def _complete() -> None:
    from .events import events_app

    app.add_typer(events_app("runs"), name="events")


if "_ORCH_COMPLETE" in os.environ:
    _complete()
