"""`orch events …`: the log commands of `eventlog`, told what a job is."""

from __future__ import annotations

import functools
import os
from typing import Any

import typer

from eventlog.cli import Mount, build, migrate_command
from eventlog.errors import LogNotFound
from eventlog.find import LOG_NAME, LogRef, find_logs, lock_beside

from .. import ask


def mount(runs_dir: str) -> Mount:
    """Return what the log commands need to know of this program."""
    return Mount(
        prog="orch events",
        default=runs_dir,
        resolve=functools.partial(_resolve, runs_dir),
        views=ask.views,
        folders=ask.query_folders,
        hot=lambda: ask.HOT,
        kept=lambda _targets: ask.index_of(runs_dir),
        schemas=ask.schemas,
        lock_of=_lock_of,
        fields=_fields,
        ended=_ended,
    )


def events_app(runs_dir: str) -> typer.Typer:
    """Return `orch events`."""
    return build(mount(runs_dir))


def migrate_app(runs_dir: str) -> typer.Typer:
    """Return `orch migrate-events`."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(migrate_command(mount(runs_dir)))
    return app


def _lock_of(path: str) -> str:
    """Return the lock that a leg of the log's job would take, whether it is there yet or not."""
    folder, name = os.path.split(path)
    return os.path.join(folder, ".lock") if name == LOG_NAME else lock_beside(path)


def _resolve(runs_dir: str, target: str) -> list[LogRef]:
    """Return the logs of a path, or of a job: its id, a unique prefix, or `latest`."""
    from ..errors import OrchestratorError
    from ..ids import is_name
    from ..jobs import Jobs

    if os.path.exists(target):
        return [ask.named(path) for path in find_logs(target)]
    if target == runs_dir:
        raise LogNotFound("there is no job yet", path=target, hint="start one: orch run SPEC")
    if not is_name(target):
        raise LogNotFound("there is no such log or folder", path=target)
    try:
        return [ask.named(Jobs(runs_dir).find(target).log)]
    except OrchestratorError as error:
        raise LogNotFound(error.message, path=error.place, hint=error.hint) from error


def _fields(path: str) -> dict[str, Any]:
    """Return the top-level members that a repair's lines carry, as the job's own do."""
    return {"level": "WARN", "job_id": os.path.basename(os.path.dirname(os.path.abspath(path)))}


def _ended(path: str) -> bool:
    from eventlog import is_held

    return not is_held(_lock_of(path))
