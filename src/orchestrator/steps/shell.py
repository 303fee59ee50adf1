"""Steps of kind `run`: a command for the system's shell.

The command is given to `/bin/sh -c` as it stands in the spec: no template is rendered in it,
so that no data can become code. Data reaches it by the environment: what `env:` says, and
`ORCH_OUTPUTS`, `ORCH_JOB_ID`, `ORCH_STEP`, `ORCH_ATTEMPT`, `ORCH_IDEMPOTENCY_KEY`.
"""

from __future__ import annotations

from typing import Any

from ..errors import FailureKind, StepError
from .base import Attempt, Prepared, Result, Scope
from .common import (
    environ_of,
    folder_of,
    hash_files,
    how_it_ended,
    last_lines,
    log_command,
    render_env,
)
from .process import TAIL_BYTES, Command, Outcome, run_command

SHELL = "/bin/sh"
ESCAPED = 6
"""How many characters of JSON a byte may take."""
_HINTS = {
    126: "the command was found but can't be executed: check its mode",
    127: "a command was not found: check its spelling and the PATH",
}


class ShellStep:
    """Runs a command; its output is `{"text": stdout, "exit_code": 0}`.

    `text` is stdout as UTF-8 without its last newline. `"truncated": true` is added if stdout
    was over 1 MiB (the first MiB is kept), `"undecodable": true` if it was not all UTF-8.
    """

    def prepare(self, step: Any, scope: Scope) -> Prepared:
        """Render the environment and hash the declared files."""
        env = render_env(step, scope)
        files = hash_files(step, scope, FailureKind.EXIT)
        return Prepared(
            parts={"command": step.run, "env": env, "cwd": step.cwd or "", "files": files},
            params={"command": step.run, "env": env, "cwd": step.cwd, "folder": scope.folder},
        )

    async def perform(self, prepared: Prepared, attempt: Attempt) -> Result:
        """Run the command, publish what it left in ORCH_OUTPUTS."""
        params = prepared.params
        command = Command(
            argv=(SHELL, "-c", params["command"]),
            cwd=folder_of(params["cwd"], params["folder"], FailureKind.EXIT),
            environ=environ_of(attempt, params["env"]),
            log_path=attempt.log_path,
            masker=attempt.masker,
            log_bytes=attempt.log_bytes,
            output_bytes=attempt.output_bytes // ESCAPED,
        )
        try:
            outcome = await run_command(command)
        except (OSError, ValueError) as error:
            raise StepError(
                f"can't run the command: {error}", kind=FailureKind.EXIT, place=attempt.log_path
            ) from error
        if outcome.exit_code != 0:
            raise _failure(outcome, attempt)
        output = _output(outcome)
        return Result(output=output, files=await attempt.publish(attempt.work_dir))


def _failure(outcome: Outcome, attempt: Attempt) -> StepError:
    said = last_lines(outcome.stderr_tail)
    if not said and len(outcome.stdout) == outcome.stdout_bytes:  # its end, then
        said = last_lines(outcome.stdout[-TAIL_BYTES:])
    what = f"the command {how_it_ended(outcome.exit_code)}"
    return StepError(
        f"{what}: {said}" if said else what,
        kind=FailureKind.EXIT,
        hint=_HINTS.get(outcome.exit_code, f"all it said: {log_command(attempt)}"),
    )


def _output(outcome: Outcome) -> dict[str, Any]:
    data = outcome.stdout
    truncated = outcome.stdout_bytes > len(data)
    if truncated:
        data = _without_cut_character(data)
    output: dict[str, Any] = {}
    try:
        output["text"] = data.decode()
    except UnicodeDecodeError:
        output["text"] = data.decode("utf-8", "replace")
        output["undecodable"] = True
    if not truncated:
        output["text"] = output["text"].removesuffix("\n")
    else:
        output["truncated"] = True
    output["exit_code"] = outcome.exit_code
    return output


def _without_cut_character(data: bytes) -> bytes:
    """Drop the beginning of a UTF-8 character at the end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if length > back else data
        if byte < 0x80:
            break
    return data
