"""The log command `migrate`: what it shows while it works, and what it reports."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, timedelta, timezone, tzinfo
from typing import Annotated, Any, TextIO

import msgspec
import typer

from .cli_base import (
    FormatOption,
    JsonOption,
    Mount,
    OutOption,
    chosen,
    emit,
    emit_rows,
    exit_code,
    guard,
    say,
)
from .cli_read import Command
from .errors import EventLogError
from .migrate import FileReport, Where, migrate_all
from .output import Format, document
from .table import visible

_NAMED = 20
_ROWS = 40
_COUNTS = ("lines", "migrated", "already_new", "left", "blank", "torn_bytes")
_BYTES = ("bytes_before", "bytes_after")
_QUIET_S = 1.0
_EVERY_S = 0.1


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
            began = time.monotonic()
            paths = _paths(targets, mount)
            progress = Progress(sys.stderr, time.monotonic)
            try:
                found = list(
                    migrate_all(
                        paths, dry_run=dry_run, tz=zone, lock_of=mount.lock_of, tell=progress
                    )
                )
            finally:
                progress.clear()
            reports = [report for report, _ in found]
            total = _total(reports, time.monotonic() - began)
            if form is Format.JSON:
                files = [msgspec.to_builtins(report) for report in reports]
                emit(document({"dry_run": dry_run, "files": files, "total": total}), out)
            else:
                _print_reports(reports, form, out)
            _tell(reports, [error for _, error in found if error])
            say(summary(reports, total))
            if total["backups"]:
                say(f"next: {mount.prog} query log-versions")
            codes = [exit_code(error) for _, error in found if error]
            codes += [1 for report in reports if report.left]
            if codes:
                raise typer.Exit(max(codes))

    return migrate


def _paths(targets: Iterable[str], mount: Mount) -> list[str]:
    """Return paths as they are, and what else the program knows by these names."""
    paths: list[str] = []
    for target in targets:
        if os.path.lexists(target):
            paths.append(target)
        else:
            paths += [ref.path for ref in mount.resolve(target)]
    return paths


# --- while it works ---------------------------------------------------------------------------


class Progress:
    """A line on a terminal that says how far a migration is, once it takes more than a second.

    Args:
        out: where to; nothing is shown where that is no terminal.
        clock: seconds that only grow.
    """

    def __init__(self, out: TextIO, clock: Callable[[], float]) -> None:
        self._out = out
        self._clock = clock
        self._began = clock()
        self._next = self._began + _QUIET_S if out.isatty() else float("inf")
        self._is_shown = False
        self._before = 0
        self._log = ("", 0)

    def __call__(self, where: Where) -> None:
        """Take in how far it is, and show it if it is time to."""
        if where.path != self._log[0]:
            self._before += self._log[1]
        self._log = (where.path, where.read)
        now = self._clock()
        if now < self._next:
            return
        self._next = now + _EVERY_S
        self._is_shown = True
        width = shutil.get_terminal_size().columns
        text = self._text(where, now - self._began)
        self._out.write(f"\r\x1b[2K{visible(text)[: max(width - 1, 1)]}")
        self._out.flush()

    def _text(self, where: Where, seconds: float) -> str:
        done = self._before + where.read
        rate = size_of(int(done / seconds)) if seconds > 0 else "0 B"
        share = 100 * where.read // where.size if where.size else 100
        return (
            f"migrating log {where.number} of {where.logs}: {size_of(done)} read, {rate}/s;"
            f" {share}% of {where.path}"
        )

    def clear(self) -> None:
        """Take the line away."""
        if self._is_shown:
            self._out.write("\r\x1b[2K")
            self._out.flush()


def size_of(count: int) -> str:
    """Return bytes as people read them: `12.3 MB`, in powers of 1,000."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


# --- when it is done --------------------------------------------------------------------------


def _total(reports: Sequence[FileReport], seconds: float) -> dict[str, Any]:
    counts = {
        name: sum(getattr(report, name) for report in reports) for name in (*_COUNTS, *_BYTES)
    }
    return {
        "files": len(reports),
        "states": dict(sorted(Counter(report.state for report in reports).items())),
        "backups": sum(bool(report.backup) for report in reports),
        **counts,
        "seconds": round(seconds, 3),
    }


def _print_reports(reports: Sequence[FileReport], form: Format, out: str | None) -> None:
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
    more = len(rows) - _ROWS if form is Format.TABLE else 0
    if more > 0:
        rows = rows[:_ROWS]
    if rows or form is not Format.TABLE:
        emit_rows(columns, rows, form, out)
    if more > 0:
        say(f"and {more} logs more: --format csv or --json has them all")


def _tell(reports: Sequence[FileReport], errors: Sequence[EventLogError]) -> None:
    for error in errors[:_NAMED]:
        say(error.render())
    if len(errors) > _NAMED:
        say(f"error: {len(errors) - _NAMED} logs more: --json has them all")
    for report in reports:
        for line in report.named[:_NAMED]:
            say(f"left: {report.path}:{line.line}: {line.reason}")
        if report.left > _NAMED:
            say(f"left: {report.path}: {report.left - _NAMED} lines more")
        if report.torn_bytes:
            say(f"{report.path}: {report.torn_bytes} bytes of a cut-off last line stay as they are")


def summary(reports: Sequence[FileReport], total: dict[str, Any]) -> str:
    """Return what was done, in two sentences."""
    if not reports:
        return "no logs are here: no events.jsonl was found"
    states = ", ".join(f"{count} {state}" for state, count in total["states"].items())
    lines = f"{total['lines']:,} line{'' if total['lines'] == 1 else 's'}"
    seconds = total["seconds"]
    text = (
        f"{_logs(len(reports))}: {states}; {lines}: {total['migrated']:,} migrated,"
        f" {total['already_new']:,} already new, {total['left']:,} left;"
        f" {size_of(total['bytes_before'])} in {seconds:.1f} s"
    )
    if total["backups"]:
        names = {os.path.basename(report.path) for report in reports if report.backup}
        name = names.pop() if len(names) == 1 else "LOG"
        text += f"\n{_logs(total['backups'], 'old ')} kept as {name}.v1"
    return text


def _logs(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}log{'' if count == 1 else 's'}"


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
