"""What all log commands share: where logs come from, how results and errors are printed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from .errors import (
    EventLogError,
    LogLocked,
    LogNotFound,
    MigrationRefused,
    QueryError,
)
from .find import LogRef, find_logs, lock_beside
from .output import Format, rows_as
from .streams import forget, result_file


def _find(target: str) -> list[LogRef]:
    return [LogRef(path) for path in find_logs(target, any_jsonl=True)]


def _none() -> Sequence[Any]:
    return ()


def _no_fields() -> Mapping[str, str]:
    return {}


def _no_schemas() -> Mapping[str, Any] | None:
    return None


def _kept_beside(targets: Sequence[str]) -> tuple[str, str] | None:
    """Return folder and root of the index of one folder, or of the folder of one log."""
    if len(targets) != 1:
        return None
    root = targets[0] if os.path.isdir(targets[0]) else os.path.dirname(targets[0]) or "."
    return os.path.join(root, ".index", "events"), root


def _never(_path: str) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Mount:
    """What the commands need to know of the program that they are part of.

    Attributes:
        prog: how the commands are called, for hints.
        default: the target where none is named.
        resolve: turns a target (a path, or an id of the program's own) into logs.
        views: name and SQL of each further view; called only when a query runs.
        folders: where named queries lie.
        hot: fields of `data` that are columns of `events`, with their SQL types; without any,
            every field that the events have is a column.
        kept: folder and root of the index for targets, or None.
        schemas: JSON Schema of each event type; None takes it from the events.
        lock_of: the lock file of a log.
        fields: top-level members of the lines that a repair writes, for a log.
        ended: whether nobody will write this log any more, for `tail -f`.
    """

    prog: str = "python -m eventlog"
    default: str = "."
    resolve: Callable[[str], Sequence[LogRef]] = _find
    views: Callable[[], Sequence[tuple[str, str]]] = _none
    folders: Callable[[], Sequence[str]] = _none
    hot: Callable[[], Mapping[str, str]] = _no_fields
    kept: Callable[[Sequence[str]], tuple[str, str] | None] = _kept_beside
    schemas: Callable[[], Mapping[str, Any] | None] = _no_schemas
    lock_of: Callable[[str], str] = lock_beside
    fields: Callable[[str], Mapping[str, Any] | None] = lambda _path: None
    ended: Callable[[str], bool] = _never

    def logs(self, targets: Sequence[str] | None) -> list[LogRef]:
        """Return the logs of all targets, each once.

        Raises:
            LogNotFound: there is nothing at a target.
        """
        refs = [ref for target in targets or [self.default] for ref in self.resolve(target)]
        return list({ref.path: ref for ref in refs}.values())

    def log(self, target: str | None) -> LogRef:
        """Return the one log of a target.

        Raises:
            LogNotFound: there is none, or more than one.
        """
        refs = self.logs([target] if target else None)
        if len(refs) != 1:
            raise LogNotFound(
                f"{len(refs)} logs are here, where one is wanted" if refs else "no log is here",
                path=target or self.default,
                hint="name one of them" if refs else "name a log",
            )
        return refs[0]


Targets = Annotated[
    list[str] | None, typer.Argument(metavar="[TARGET]...", help="Logs or folders.")
]
Target = Annotated[str | None, typer.Argument(metavar="[TARGET]", help="A log.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How rows are printed.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
OutOption = Annotated[
    str | None, typer.Option("-o", "--output", metavar="FILE", help="Write to a file.")
]


def exit_code(error: EventLogError) -> int:
    """Return the code that a command ends with."""
    match error:
        case MigrationRefused():
            return 1
        case QueryError() | LogNotFound():
            return 2
        case LogLocked():
            return 5
        case _:
            return 4


@contextmanager
def guard() -> Iterator[None]:
    """Print errors as people read them, and end quietly when nobody reads any more."""
    try:
        yield
        sys.stdout.flush()
    except EventLogError as error:
        say(error.render())
        raise typer.Exit(exit_code(error)) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        forget(sys.stdout)
        raise typer.Exit(0) from None
    except OSError as error:
        # Most likely stdout is a file on a full disk: what else is written has errors of its own.
        place = f"\n  --> {error.filename}" if error.filename else ""
        say(f"error: the system refused: {error.strerror}{place}")
        forget(sys.stdout)
        raise typer.Exit(4) from error


def say(text: str) -> None:
    """Talk: to stderr, with control characters made visible."""
    from .table import visible

    typer.echo(visible(text, keep="\n"), err=True)


def emit(text: str, out: str | None) -> None:
    """Print a result, or write it to a file as a whole."""
    if out is None:
        sys.stdout.write(text)
    else:
        emit_bytes([text.encode("utf-8", "replace")], out)


def emit_bytes(parts: Sequence[bytes], out: str | None) -> None:
    """Print a result, or write it to a file as a whole."""
    if out is None:
        sys.stdout.flush()
        for part in parts:
            sys.stdout.buffer.write(part)
        return
    with result_file(out) as write:
        for part in parts:
            write(part)


def emit_rows(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    form: Format,
    out: str | None,
    *,
    types: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Print rows in a format."""
    limit = terminal_width() if out is None else None
    emit(rows_as(form, columns, rows, types=types, extra=extra, limit=limit), out)


def terminal_width() -> int | None:
    """Return the width of the terminal on stdout, None if there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def chosen(form: Format, *, as_json: bool) -> Format:
    """Return the format that the two options name together."""
    return Format.JSON if as_json else form
