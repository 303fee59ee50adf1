"""The commands that run nothing: they look at jobs and job files, and write one to begin with."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from .base import AsJson, Format, JobRef, ListFormat, Output, RunsDir, app


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
        str, typer.Option(help="digest, tiny, release-notes, pages, or workflow.")
    ] = "digest",
) -> None:
    """Write a job to start with; nothing is ever overwritten.

    Example: orch init demo
    """
    from . import specs as command

    command.init(folder, example)
