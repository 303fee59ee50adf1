"""The log commands that read: cat, tail, stats."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Annotated

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
    guard,
    say,
    terminal_width,
)
from .errors import EventInvalid, LogRewritten
from .follower import Follower
from .output import Format
from .reader import Line, as_dict, read_lines
from .table import cut, visible
from .upcast import upcast

Command = Callable[..., None]


def cat_command(mount: Mount) -> Command:
    """Return the command `cat`."""

    def cat(
        targets: Targets = None,
        kind: Annotated[
            list[str] | None, typer.Option("--type", help="Only these types; `*` is a wildcard.")
        ] = None,
        raw: Annotated[bool, typer.Option("--raw", help="Lines as they stand.")] = False,
    ) -> None:
        """Print whole lines, those of older versions in today's form."""
        with guard():
            bad = 0
            for ref in mount.logs(targets):
                for line in read_lines(ref.path):
                    try:
                        shown = _shown(line, kind, raw=raw)
                    except EventInvalid as error:
                        bad += 1
                        say(f"  {ref.path}:{line.seq + 1} (offset {line.offset}): {error.message}")
                        continue
                    if shown is not None:
                        _print_line(shown)
            if bad:
                say(f"warning: {bad} line{'s' if bad != 1 else ''} could not be read")

    return cat


def _shown(line: Line, kinds: list[str] | None, *, raw: bool) -> bytes | None:
    if kinds and not any(fnmatchcase(str(as_dict(line).get("type")), kind) for kind in kinds):
        return None
    if raw:
        return line.raw
    if not line.raw.strip():
        return None
    return line.raw if line.sealed else upcast(line.raw, seq=line.seq, offset=line.offset)


def _print_line(line: bytes) -> None:
    if sys.stdout.isatty():
        emit(visible(line.decode("utf-8", "replace"), keep="\t") + "\n", None)
    else:
        sys.stdout.buffer.write(line + b"\n")


def tail_command(mount: Mount) -> Command:
    """Return the command `tail`."""

    def tail(
        target: Target = None,
        lines: Annotated[int, typer.Option("-n", "--lines", min=0, max=100_000)] = 10,
        follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print lines as JSON.")] = False,
    ) -> None:
        """Print the last events of a log, and with -f those that come."""
        with guard():
            ref = mount.log(target)
            follower = Follower(ref.path)
            try:
                for line in deque(follower.poll(), maxlen=lines):
                    _print_event(line, as_json=as_json)
                while follow:
                    sys.stdout.flush()
                    try:
                        for line in follower.follow(lambda: mount.ended(ref.path)):
                            _print_event(line, as_json=as_json)
                            sys.stdout.flush()
                    except LogRewritten as error:
                        say(error.render())  # and go on with what stands there now
                    else:
                        break
            finally:
                follower.close()

    return tail


def _print_event(line: Line, *, as_json: bool) -> None:
    if not line.raw.strip():
        return
    try:
        event = as_dict(line)
        if as_json:
            shown = _shown(line, None, raw=False)
            if shown is not None:
                _print_line(shown)
            return
    except EventInvalid as error:
        say(f"line {line.seq + 1}: {error.message}")
        return
    names = [str(event[name]) for name in ("level", "type", "step", "item") if event.get(name)]
    data = msgspec.json.encode(event.get("data")).decode() if event.get("data") else ""
    text = visible("  ".join([f"{line.seq:>5}", str(event.get("ts") or ""), *names, data]))
    width = terminal_width()
    emit((cut(text, width) if width else text).rstrip() + "\n", None)


def stats_command(mount: Mount) -> Command:
    """Return the command `stats`."""

    def stats(
        targets: Targets = None,
        form: FormatOption = Format.TABLE,
        as_json: JsonOption = False,
        out: OutOption = None,
    ) -> None:
        """Count lines, versions and types."""
        from .check import count_all
        from .output import document

        form = chosen(form, as_json=as_json)
        with guard():
            logs, types = count_all(ref.path for ref in mount.logs(targets))
            if form is Format.JSON:
                emit(document({"logs": msgspec.to_builtins(logs), "types": types}), out)
                return
            versions = ["v1", "v2.0", "v2.1", "other", "unreadable"]
            columns = ["log", "lines", "bytes", *versions, "sealed", "first", "last"]
            rows = [
                [log.file, log.lines, log.bytes]
                + [log.versions.get(name, 0) for name in versions]
                + [log.sealed, log.first_ts, log.last_ts]
                for log in logs
            ]
            emit_rows(columns, rows, form, out)
            if form is Format.TABLE and out is None and types:
                emit("\n", None)
                emit_rows(["type", "lines"], [*types.items()], form, out)

    return stats
