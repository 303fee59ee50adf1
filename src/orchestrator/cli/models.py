"""The commands about calls of models: what they cost, what is kept of them, what would be sent."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from .base import (
    PASS_ON,
    AsJson,
    Format,
    Inputs,
    JobFile,
    ListFormat,
    Model,
    Output,
    Provider,
    RunsDir,
    app,
)


@app.command()
def prompt(
    spec: JobFile,
    step: Annotated[str, typer.Argument(help="A step that asks a model.")],
    job: Annotated[str, typer.Option(help="Take what the prompt refers to from this job.")] = "",
    provider: Provider = "",
    model: Model = "",
    set_: Inputs = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Print the exact request of a step; nothing is sent.

    Example: orch prompt job.yaml notes --job latest
    """
    from ..preflight import read_spec
    from . import prompts as command
    from .flags import settings

    checked = read_spec(spec, provider or None).with_overrides(
        provider=provider or None, model=model or None, inputs=settings(set_ or [])
    )
    checked.check_inputs()
    command.prompt(checked, step, job, runs_dir, as_json=as_json)


@app.command()
def cost(
    jobs: Annotated[list[str] | None, typer.Argument(help="Jobs; none for all.")] = None,
    by: Annotated[str, typer.Option(help="job, step, model, day; several with commas.")] = "",
    prices: Annotated[
        str, typer.Option(help="Estimate at the prices of this file, or 'built-in'.")
    ] = "",
    format_: ListFormat = Format.TABLE,
    as_json: AsJson = False,
    output: Output = "",
    runs_dir: RunsDir = "runs",
) -> None:
    """Sum up what calls cost and what the cache saved.

    Simulated answers are left out. A price that is not known is told, and never counted as 0.

    Example: orch cost --by model,day
    """
    from . import cost as command

    command.cost(
        runs_dir,
        jobs or [],
        by,
        prices,
        dict(os.environ),
        form="json" if as_json else format_.value,
        output=output,
    )


@app.command()
def replay(
    job: Annotated[str, typer.Argument(help="A job, or the path of its folder.")] = "latest",
    into: Annotated[str, typer.Option(help="Keep the replay in this runs/ folder.")] = "",
    execute: Annotated[
        bool, typer.Option("--execute", help="Run Python and shell steps too.")
    ] = False,
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Run a recorded job again from its folder alone.

    The outputs are compared byte by byte. Answers are the recorded ones: no model is called, no
    network touched. Python, shell and approve steps bring their recorded results, unless --execute
    runs them.

    Example: orch replay latest
    """
    from . import replaying as command

    raise typer.Exit(command.replay_job(runs_dir, job, into, execute=execute, as_json=as_json))


@app.command(context_settings=PASS_ON)
def cache(context: typer.Context, runs_dir: RunsDir = "runs") -> None:
    """Look into the cache, clear it, carry it over."""
    from .caches import cache_app

    os.environ["ORCH_RUNS_DIR"] = runs_dir  # for whichever of its commands it is
    cache_app(context.args, prog_name="orch cache")
