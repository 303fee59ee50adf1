"""The log commands that look after logs: verify, repair, salvage."""

from __future__ import annotations

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
)
from .cli_read import Command
from .find import LogRef
from .output import Format, document
from .recover import Verdict


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
