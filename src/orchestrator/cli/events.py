"""`orch events …`: the log commands of `eventlog`, told what a job is."""

from __future__ import annotations

import os
from typing import Any

import typer

from eventlog.cli import Mount, build, migrate_command
from eventlog.errors import LogNotFound
from eventlog.find import LogRef, find_logs, lock_beside

from .. import ask

RUNS = "ORCH_RUNS_DIR"


def mount() -> Mount:
    """Return what the log commands need to know of this program."""
    return Mount(
        prog="orch events",
        default=runs_dir(),
        resolve=_resolve,
        views=ask.views,
        folders=ask.query_folders,
        fields=_fields,
        ended=_ended,
    )


def events_app() -> typer.Typer:
    """Return `orch events`."""
    return build(mount())


def migrate_app() -> typer.Typer:
    """Return `orch migrate-events`."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(migrate_command(mount()))
    return app


def runs_dir() -> str:
    """Return where run folders are, if no option says it."""
    return os.environ.get(RUNS) or "runs"


def _resolve(target: str) -> list[LogRef]:
    """Return the logs of a path, or of a job: its id, a unique prefix, or `latest`."""
    from ..errors import OrchestratorError
    from ..ids import is_name
    from ..jobs import Jobs

    if os.path.exists(target):
        return [_named(path) for path in find_logs(target)]
    if target == runs_dir():
        raise LogNotFound("there is no job yet", path=target, hint="start one: orch run SPEC")
    if not is_name(target):
        raise LogNotFound("there is no such log or folder", path=target)
    try:
        return [_named(Jobs(runs_dir()).find(target).log)]
    except OrchestratorError as error:
        raise LogNotFound(error.message, path=error.place, hint=error.hint) from error


def _named(path: str) -> LogRef:
    """Return a log with the job that lines without a `job_id` belong to: its run folder's."""
    folder, name = os.path.split(os.path.abspath(path))
    job = os.path.basename(folder)
    return LogRef(path, job_id=job if name == "events.jsonl" and job.startswith("job_") else None)


def _fields(path: str) -> dict[str, Any]:
    """Return the top-level members that a repair's lines carry, as the job's own do."""
    return {"level": "WARN", "job_id": os.path.basename(os.path.dirname(os.path.abspath(path)))}


def _ended(path: str) -> bool:
    from eventlog import is_held

    return not is_held(lock_beside(path))
