"""`orch cache`: what is in the cache, why something was not, and how to clear or carry it over."""

from __future__ import annotations

import os
import time
from typing import Annotated, Any

import msgspec
import typer

from eventlog.cli_base import emit_rows
from eventlog.output import Format as Rows
from eventlog.table import visible

from .. import cachecare
from ..cachecare import USER, Holding
from ..cachefile import Entry, Refused
from ..errors import UsageError
from ..jobs import Jobs
from ..usercache import UserCache, user_folder
from . import out
from .base import AsJson, Format, JobRef, ListFormat, Output, RunsDir

DAY_S = 86_400
_SHOWN = 12
_TEXT = "\n\t"

cache_app = typer.Typer(
    name="cache",
    help="Look into the cache, clear it, carry it over.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would go.")]
COLUMNS = (
    *("key", "kind", "project", "step", "model", "created_at", "tokens_out", "bytes"),
    *("scope", "holders"),
)


def _user() -> UserCache:
    return UserCache(user_folder(os.environ), out.talk)


def _all(runs_dir: str) -> list[Holding]:
    return list(cachecare.holdings(runs_dir, _user()))


def _by_key(found: list[Holding]) -> dict[str, list[Holding]]:
    groups: dict[str, list[Holding]] = {}
    for holding in found:
        if isinstance(holding.found, Entry):
            groups.setdefault(holding.key, []).append(holding)
    return groups


@cache_app.command(name="list")
def list_(
    step: Annotated[str, typer.Option(help="Only of this step.")] = "",
    project: Annotated[str, typer.Option(help="Only of this project.")] = "",
    number: Annotated[int, typer.Option("-n", min=1, help="At most so many, newest first.")] = 20,
    format_: ListFormat = Format.TABLE,
    as_json: AsJson = False,
    output: Output = "",
    runs_dir: RunsDir = "runs",
) -> None:
    """List entries, the newest first, each once however many jobs hold it."""
    out.end_with_reader()
    rows = []
    for key, holders in _by_key(_all(runs_dir)).items():
        entry = holders[0].found
        assert isinstance(entry, Entry)
        if (step and entry.step != step) or (project and entry.project != project):
            continue
        rows.append(_row(key, entry, holders))
    rows.sort(key=lambda row: str(row[5]), reverse=True)
    form = Rows("json" if as_json else format_.value)
    emit_rows(COLUMNS, rows[:number], form, output or None)
    count = "1 entry" if len(rows) == 1 else f"{len(rows)} entries"
    out.talk(f"{count}; next: orch cache show {str(rows[0][0])[:_SHOWN] if rows else 'KEY'}")


def _row(key: str, entry: Entry, holders: list[Holding]) -> list[Any]:
    call = entry.result is None
    return [
        key,
        "answer" if call else "step",
        entry.project,
        entry.step,
        _model(entry) if call else None,
        entry.created_at,
        entry.reply.usage.tokens_out if call else None,
        holders[0].size_bytes,
        entry.scope or "runs",
        len(holders),
    ]


def _model(entry: Entry) -> str:
    prefix = f"{entry.provider}/"
    return entry.model if entry.model.startswith(prefix) else prefix + entry.model


@cache_app.command()
def show(
    key: Annotated[str, typer.Argument(help="A key, or the beginning of one.")],
    runs_dir: RunsDir = "runs",
) -> None:
    """Print an entry, and who holds it, as one JSON document."""
    out.end_with_reader()
    groups = _by_key(_all(runs_dir))
    matches = [found for found in groups if found.startswith(key)]
    if len(matches) != 1:
        many = f"{len(matches)} entries begin" if matches else "no entry begins"
        raise UsageError(f"{many} with {key!r}", hint="orch cache list shows the keys")
    holders = groups[matches[0]]
    entry = holders[0].found
    out.document({**msgspec.to_builtins(entry), "holders": [h.holder for h in holders]})


@cache_app.command()
def stats(as_json: AsJson = False, runs_dir: RunsDir = "runs") -> None:
    """Sum up what the cache holds, and how often it was asked."""
    out.end_with_reader()
    found = _all(runs_dir)
    good = [holding for holding in found if isinstance(holding.found, Entry)]
    left = list(cachecare.leftovers(runs_dir))
    jobs = Jobs(runs_dir).rows() if os.path.isdir(runs_dir) else []
    document = {
        "entries": len(_by_key(found)),
        "copies": len(good),
        "bytes": sum(holding.size_bytes for holding in good),
        "user_entries": sum(holding.holder == USER for holding in good),
        "not_believed": len(found) - len(good),
        "leftovers": len(left),
        "leftover_bytes": sum(item.size_bytes for item in left),
        "jobs": len(jobs),
        "hits": sum(row.hits for row in jobs),
        "calls": sum(row.calls for row in jobs),
    }
    if as_json:
        out.document(document)
    else:
        emit_rows(["what", "how much"], [list(item) for item in document.items()], Rows.TABLE, None)
    out.talk("next: orch cache prune --dry-run" if left else "next: orch cache list")


@cache_app.command()
def why(
    job: JobRef,
    step: Annotated[str, typer.Argument(help="A step of it.")],
    as_json: AsJson = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Tell why a step was answered from the cache or not, and what differs."""
    from ..why import why as explained

    out.end_with_reader()
    jobs = Jobs(runs_dir)
    said = explained(jobs, jobs.find(job), step)
    if as_json:
        out.document(msgspec.to_builtins(said))
        return
    out.data(f"{said.job_id} / {said.step}: {said.result}" + _because(said.result, said.reason))
    if said.compared_with:
        verb = "from" if said.result == "hit" else "compared with"
        out.data(f"{verb} {said.compared_with}")
    for difference in said.differences:
        out.data(f"  {difference.component}")
        for line in difference.diff:
            out.data(visible(f"    {line}"))
    out.talk(f"next: orch cache show {said.key[:_SHOWN]}" if said.key else "next: orch cache list")


def _because(result: str, reason: str) -> str:
    words = {
        "first": "no job ever kept an answer of this step",
        "cleared": "the same was asked before, and its entry is gone",
        "expired": "the entry is older than ttl_s",
        "scope": "the entry may not be used here: scope",
        "gone": "the entry's files are gone, or changed",
        "refresh": "it was to be asked again",
        "not asked for": "the cache was off for it",
    }
    if not reason:
        return ""
    differs = f"these differ from the nearest entry: {reason}"
    return f" ({words.get(reason, reason if result == 'none' else differs)})"


@cache_app.command()
def verify(as_json: AsJson = False, runs_dir: RunsDir = "runs") -> None:
    """Check every entry; exit 1 if one can't be believed."""
    found = _all(runs_dir)
    bad = [
        {"path": holding.path, "why": holding.found.why}
        for holding in found
        if isinstance(holding.found, Refused)
    ]
    if as_json:
        out.document({"checked": len(found), "bad": bad})
    for item in () if as_json else bad:
        out.data(f"{item['path']}: {item['why']}")
    out.talk(f"{len(found)} checked, {len(bad)} bad; next: orch cache prune --bad")
    raise typer.Exit(1 if bad else 0)


@cache_app.command()
def prune(
    bad: Annotated[bool, typer.Option("--bad", help="Also what can't be believed.")] = False,
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, help="Also entries older than DAYS.")
    ] = None,
    max_mb: Annotated[
        float | None, typer.Option("--max-mb", min=0, help="Also the oldest, down to this size.")
    ] = None,
    dry_run: DryRun = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Remove files that were set aside or half written, and what the options name.

    An entry that is gone is a miss: its question is asked again.
    """
    paths = [item.path for item in cachecare.leftovers(runs_dir)]
    found = _all(runs_dir)
    if bad:
        paths += [holding.path for holding in found if isinstance(holding.found, Refused)]
    good = [holding for holding in found if isinstance(holding.found, Entry)]
    if older_than is not None:
        old = cachecare.too_old(good, time.time(), older_than * DAY_S)
        paths += [holding.path for holding in old]
    if max_mb is not None:
        paths += [holding.path for holding in cachecare.too_many(good, int(max_mb * 1e6))]
    _remove(paths, dry_run=dry_run)


@cache_app.command()
def clear(
    jobs: Annotated[list[str] | None, typer.Argument(help="Jobs whose entries go.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="The entries of every job.")] = False,
    user: Annotated[bool, typer.Option("--user", help="The user's own cache folder.")] = False,
    dry_run: DryRun = False,
    runs_dir: RunsDir = "runs",
) -> None:
    """Remove entries; what else the jobs hold stays."""
    if not (jobs or all_ or user):
        raise UsageError("clear what?", hint="name jobs, or --all, or --user")
    names: list[str] | None = [] if not all_ else None
    if jobs and names is not None:
        known = Jobs(runs_dir)
        names = [
            ref if ref.startswith(cachecare.IMPORTED) else known.find(ref).job_id for ref in jobs
        ]
    found = cachecare.holdings(runs_dir, _user() if user else None, names)
    _remove([holding.path for holding in found], dry_run=dry_run)


@cache_app.command()
def export(
    file: Annotated[str, typer.Argument(help="A .tar or .tar.gz file; it is replaced.")],
    jobs: Annotated[list[str] | None, typer.Argument(help="Only of these jobs.")] = None,
    runs_dir: RunsDir = "runs",
) -> None:
    """Write entries to a file that `orch cache import` takes in elsewhere."""
    known = Jobs(runs_dir)
    names = [known.find(ref).job_id for ref in jobs] if jobs else None
    user = None if jobs else _user()
    good, bad = cachecare.export(cachecare.holdings(runs_dir, user, names), runs_dir, file)
    left = f", {bad} left out (bad)" if bad else ""
    out.talk(f"{good} entries written to {file}{left}; next, elsewhere: orch cache import {file}")


@cache_app.command(name="import")
def import_(
    file: Annotated[str, typer.Argument(help="What `orch cache export` wrote.")],
    runs_dir: RunsDir = "runs",
) -> None:
    """Take in exported entries, each verified; exit 1 if one was left out."""
    name, good, bad = cachecare.imported(file, runs_dir, out.talk)
    out.talk(f"{good} entries are in {os.path.join(runs_dir, name)}, {bad} were left out")
    out.talk(f"next: orch cache list; they go with: orch cache clear {name}")
    raise typer.Exit(1 if bad else 0)


def _remove(paths: list[str], *, dry_run: bool) -> None:
    unique = list(dict.fromkeys(paths))
    for path in unique if dry_run else ():
        out.data(path)
    count = cachecare.removed(unique, really=not dry_run)
    out.talk(f"{count} files {'would go' if dry_run else 'are gone'}; next: orch cache stats")
