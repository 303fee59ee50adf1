"""The command line: `orch`, and `orchestrator` as the same program."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a command; every error ends in one clear block on stderr and its exit code."""
    from .app import app

    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from eventlog.table import visible

        from ..errors import ExitCode, OrchestratorError, exit_code_of

        render = getattr(error, "render", None)
        if render is None or os.environ.get("ORCH_DEBUG"):
            raise
        code = exit_code_of(error) if not isinstance(error, OrchestratorError) else error.exit_code
        # A frame quotes the job file, and a message what others said: neither moves the cursor.
        print(visible(render(), keep="\n"), file=sys.stderr)  # noqa: T201 - this is the command line
        sys.exit(int(code) or int(ExitCode.STEP_FAILED))


if __name__ == "__main__":
    main()
