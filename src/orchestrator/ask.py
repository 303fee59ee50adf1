"""What the SQL of `orch events query` finds beside `events` and `logs`: views, named queries."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from eventlog.find import LOG_NAME, LogRef, find_logs
from eventlog.jail import DEFAULT, Limits
from eventlog.query import Database, View, load_views
from eventlog.stock import Kept

VIEWS = ("legs", "attempts", "steps", "llm_calls", "cache", "jobs", "files", "costs")
"""In the order in which they are made: `jobs` reads the others."""

HOT = {
    "attempt": "BIGINT",
    "duration_s": "DOUBLE",
    "kind": "VARCHAR",
    "reason": "VARCHAR",
    "provider": "VARCHAR",
    "model": "VARCHAR",
    "success": "BOOLEAN",
    "tokens_in": "BIGINT",
    "tokens_out": "BIGINT",
    "cache_key": "VARCHAR",
    "cost_usd": "DECIMAL(38,12)",
    "saved_usd": "DECIMAL(38,12)",
    "saved_s": "DOUBLE",
    "simulated": "BOOLEAN",
    "from_seq": "BIGINT",
    "path": "VARCHAR",
    "size_bytes": "BIGINT",
    "project": "VARCHAR",
}
"""Fields of `data` that views and people ask for most: columns of `events`, kept as such."""

_HERE = os.path.dirname(os.path.abspath(__file__))


def views() -> list[View]:
    """Return the name and SQL of each view."""
    return load_views(os.path.join(_HERE, "views"), VIEWS)


def database(
    logs: Iterable[str | os.PathLike[str] | LogRef],
    *,
    runs_dir: str | None = None,
    limits: Limits = DEFAULT,
) -> Database:
    """Return jobs' logs as a database with all views, to be asked and closed.

    Args:
        logs: logs, or folders of them.
        runs_dir: keep what was read in this folder's index; None reads everything again.
        limits: what each statement may use.

    Raises:
        LogNotFound, QueryError: as `eventlog.query.Database`.
    """
    kept = None if runs_dir is None else Kept(*index_of(runs_dir))
    refs: list[LogRef] = []
    for log in logs:
        refs += [log] if isinstance(log, LogRef) else map(named, find_logs(log))
    return Database(refs, views=views(), limits=limits, kept=kept, hot=HOT)


def named(path: str) -> LogRef:
    """Return a log with the job that lines without a `job_id` belong to: its run folder's."""
    folder, name = os.path.split(os.path.abspath(path))
    job = os.path.basename(folder)
    return LogRef(path, job_id=job if name == LOG_NAME and job.startswith("job_") else None)


def query_folders() -> list[str]:
    """Return where named queries lie: in the package when installed, else in the checkout."""
    checkout = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "queries")
    return [
        folder for folder in (os.path.join(_HERE, "queries"), checkout) if os.path.isdir(folder)
    ]


def index_of(runs_dir: str) -> tuple[str, str]:
    """Return folder and root of the index of the jobs below a folder."""
    return os.path.join(runs_dir, ".index", "events"), runs_dir


def schemas() -> dict[str, Any]:
    """Return the JSON Schema of each event type of a job."""
    from .events import AnyJobEvent

    kinds = [kind for kind in get_args(AnyJobEvent) if kind.__struct_config__.tag]
    found, shared = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    schemas: dict[str, Any] = {}
    for kind, reference in zip(kinds, found, strict=True):
        name = reference["$ref"].rpartition("/")[2]
        needed = {name: shared[name] for name in _needed(shared, name) - {name}}
        schemas[kind.__struct_config__.tag] = shared[name] | ({"$defs": needed} if needed else {})
    return dict(sorted(schemas.items()))


def _needed(shared: dict[str, Any], name: str) -> set[str]:
    """Return the names of all schemas that one refers to, itself included."""
    found: set[str] = set()
    rest = [name]
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            text = msgspec.json.encode(shared[name]).decode()
            rest += re.findall(r'"#/\$defs/([^"]+)"', text)
    return found
