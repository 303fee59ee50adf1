"""The command line: `orch`, and `orchestrator` as the same program."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a command; every error ends in one clear block on stderr and its exit code."""
    _standard_streams()
    # An option with or without a value: the parser knows only one or the other.
    valued = "--refresh="
    sys.argv[1:] = [
        word.replace(valued, "--refresh-step=", 1) if word.startswith(valued) else word
        for word in sys.argv[1:]
    ]

    try:
        from .app import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("ORCH_DEBUG"):
            raise
        from eventlog.streams import forget
        from eventlog.table import visible

        block = _block(error)
        if block is None:
            raise
        text, code = block
        # A frame quotes the job file, and a message what others said: neither moves the cursor.
        print(visible(text, keep="\n"), file=sys.stderr)  # noqa: T201 - this is the command line
        forget(sys.stdout)
        sys.exit(code)


def _block(error: Exception) -> tuple[str, int] | None:
    """Return what to say of an error and the exit code; None for one that nobody foresaw."""
    from ..errors import ExitCode, exit_code_of

    render = getattr(error, "render", None)
    if render is not None:
        return render(), int(exit_code_of(error)) or int(ExitCode.STEP_FAILED)
    if isinstance(error, OSError) and error.errno is not None:
        # Most likely stdout is a file on a full disk: what else is written has errors of its own.
        place = f"\n  --> {error.filename}" if error.filename else ""
        said = f"error: the system refused: {error.strerror}{place}"
        return f"{said}\n  hint: ORCH_DEBUG=1 shows where", int(ExitCode.LOG)
    return None


def _standard_streams() -> None:
    """See to it that descriptors 0 to 2 are open, and that no text can't be printed."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        from eventlog.streams import open_standard

        open_standard()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
