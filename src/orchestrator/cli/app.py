"""All commands, put together; what they do is in the modules beside, loaded when needed."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from . import legs, looking, models  # noqa: F401 - the order of their commands in the help
from .base import PASS_ON, RunsDir, app


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


__all__ = ["app"]
