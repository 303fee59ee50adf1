"""The log commands that look after logs: verify, repair, salvage, migrate."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone, tzinfo
from typing import Annotated, Any

import msgspec
import typer

from .cli_base import (
    FormatOption,
    JsonOption,
    Mount,
    OutOption,
    Target,
    Targets,
    chosen,
    emit,
    emit_rows,
    exit_code,
    guard,
    say,
)
from .cli_read import Command
from .errors import EventLogError
from .find import LogRef
from .migrate import FileReport, migrate_all
from .output import Format, document
from .recover import Verdict

_NAMED = 20
_COUNTS = ("lines", "migrated", "already_new", "left", "blank", "torn_bytes", "bytes_before")


def verify_command(mount: Mount) -> Command:
    """Return the command `verify`."""

    def verify(
        targets: Targets = None,
        head: Annotated[
            str | None,
            typer.Option("--head", metavar="[SEQ:]SUM", help="A sum that must be in the chain."),
        ] = None,
        form: FormatOption = Format.TABLE,
        as_json: JsonOption = False,
        out: OutOption = None,
    ) -> None:
        """Check every line's sum and the chain; exit 4 if anything that was promised is gone."""
        from .check import verify as look

        form = chosen(form, as_json=as_json)
        with guard():
            refs = _anchored(mount.logs(targets), head)
            found = [look(ref.path, head=head) for ref in refs]
            if form is Format.JSON:
                emit(document({"logs": [msgspec.to_builtins(one) for one in found]}), out)
            else:
                columns = ["log", "verdict", "lines", "unsealed", "epoch", "head", "bytes"]
                columns += ["anchor"] if head else []
                rows = [
                    [getattr(one, "file" if name == "log" else name) for name in columns]
                    for one in found
                ]
                emit_rows(columns, rows, form, out)
            if not refs:
                say("no logs are here")
            for one in found:
                if one.verdict == Verdict.DAMAGED:
                    place = f"{one.file}, seq {one.bad_seq}, offset {one.bad_offset}"
                    say(f"damaged: {one.reason}\n  --> {place}")
                    say(f"next: {mount.prog} salvage {one.file}")
                elif one.verdict == "unknown":
                    say(f"{one.file} has format {one.format}: only a later version can check it")
                elif one.verdict == Verdict.TORN:
                    say(f"torn: {one.bytes - one.end} bytes at offset {one.end} of {one.file}")
                    say("  being written now, or cut off by a crash; the next writer settles it")
                if one.anchor == "missing":
                    say(f"the anchor is missing from {one.file}: {one.missing}")
            if not all(one.ok for one in found):
                raise typer.Exit(4)

    return verify


def _anchored(refs: list[LogRef], head: str | None) -> list[LogRef]:
    """Return the logs, once it is sure that an anchor means something for them."""
    from .check import Anchor

    if head is None:
        return refs
    try:
        Anchor.of(head)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--head") from error
    if len(refs) != 1:
        raise typer.BadParameter(f"it is of one log, and here are {len(refs)}", param_hint="--head")
    return refs


def repair_command(mount: Mount) -> Command:
    """Return the command `repair`."""

    def repair(target: Target = None) -> None:
        """Settle a torn end, as the next writer would; damage is refused."""
        from .check import repair as settle

        with guard():
            path = mount.log(target).path
            done = settle(path, fields=mount.fields(path), lock_path=mount.lock_of(path))
            say(f"{path}: {done}")

    return repair


def salvage_command(mount: Mount) -> Command:
    """Return the command `salvage`."""

    def salvage(
        target: Target = None,
        out: Annotated[
            str, typer.Option("-o", "--output", metavar="FILE", help="By default LOG.salvaged.")
        ] = "",
        as_json: JsonOption = False,
    ) -> None:
        """Copy all lines before the first bad one to a new file; the log is not touched."""
        from .check import salvage as copy

        with guard():
            done = copy(mount.log(target).path, out)
            if as_json:
                emit(document(msgspec.to_builtins(done)), None)
            else:
                emit(f"{done.to}\n", None)
            say(
                f"copied: {done.lines} lines, {done.bytes} bytes; left out: {done.bytes_left} bytes"
            )
            if done.reason:
                say(f"  because {done.reason}")

    return salvage


def migrate_command(mount: Mount) -> Command:
    """Return the command `migrate`."""

    def migrate(
        targets: Annotated[list[str], typer.Argument(metavar="PATH...", help="Logs or folders.")],
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
        tz: Annotated[
            str, typer.Option("--tz", help="Of stamps without offset: Europe/Berlin, +02:00.")
        ] = "UTC",
        form: FormatOption = Format.TABLE,
        as_json: JsonOption = False,
        out: OutOption = None,
    ) -> None:
        """Bring logs of v1 and v2.0 up to date in place; each old one is kept as LOG.v1."""
        form = chosen(form, as_json=as_json)
        zone = _zone(tz)
        with guard():
            found = list(migrate_all(targets, dry_run=dry_run, tz=zone, lock_of=mount.lock_of))
            reports = [report for report, _ in found]
            if form is Format.JSON:
                emit(document(_as_document(reports, dry_run=dry_run)), out)
            else:
                _print_reports(reports, form, out)
            _tell(reports, [error for _, error in found if error], mount)
            codes = [exit_code(error) for _, error in found if error]
            codes += [1 for report in reports if report.left]
            if codes:
                raise typer.Exit(max(codes))

    return migrate


def _as_document(reports: list[FileReport], *, dry_run: bool) -> dict[str, Any]:
    total = {name: sum(getattr(report, name) for report in reports) for name in _COUNTS}
    return {
        "dry_run": dry_run,
        "files": [msgspec.to_builtins(report) for report in reports],
        "total": {"files": len(reports), **total},
    }


def _print_reports(reports: list[FileReport], form: Format, out: str | None) -> None:
    columns = ["log", "state", "lines", "migrated", "already new", "left", "bytes", "seconds"]
    rows = [
        [
            one.path,
            one.state,
            one.lines,
            one.migrated,
            one.already_new,
            one.left,
            one.bytes_before,
            round(one.seconds, 3),
        ]
        for one in reports
    ]
    emit_rows(columns, rows, form, out)


def _tell(reports: list[FileReport], errors: list[EventLogError], mount: Mount) -> None:
    for error in errors:
        say(error.render())
    for report in reports:
        for line in report.named[:_NAMED]:
            say(f"left: {report.path}:{line.line}: {line.reason}")
        if report.left > _NAMED:
            say(f"left: {report.path}: {report.left - _NAMED} lines more")
        if report.torn_bytes:
            say(f"{report.path}: {report.torn_bytes} bytes of a cut-off last line stay as they are")
    if not reports:
        say("no logs are here: no events.jsonl was found")
    kept = sum(bool(report.backup) for report in reports)
    if kept:
        say(f"{kept} old log{'s' if kept != 1 else ''} kept as events.jsonl.v1")
        say(f"next: {mount.prog} query log-versions")


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    if name.upper() in {"UTC", "Z"}:
        return UTC
    if name[:1] in "+-" and len(name) == 6 and name[3] == ":":
        digits = name[1:3] + name[4:]
        if digits.isascii() and digits.isdigit() and int(name[1:3]) < 24 and int(name[4:]) < 60:
            shift = timedelta(hours=int(name[1:3]), minutes=int(name[4:]))
            return timezone(shift if name[0] == "+" else -shift)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise typer.BadParameter(f"{name!r} is no time zone", param_hint="--tz") from error
