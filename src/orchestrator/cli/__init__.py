"""The command line: `orch`, and `orchestrator` as the same program."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a command; every error ends in one clear block on stderr and its exit code."""
    from .app import app

    try:
        app()
    except BrokenPipeError:
        # Who read our output has gone: nothing is wrong. Python would complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from ..errors import ExitCode, OrchestratorError, exit_code_of

        render = getattr(error, "render", None)
        if render is None or os.environ.get("ORCH_DEBUG"):
            raise
        code = exit_code_of(error) if not isinstance(error, OrchestratorError) else error.exit_code
        print(render(), file=sys.stderr)  # noqa: T201 - this is the command line
        sys.exit(int(code) or int(ExitCode.STEP_FAILED))


if __name__ == "__main__":
    main()
