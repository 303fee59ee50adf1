"""Steps of kind `python`: `module:function`, called in a child process that can be killed.

The function gets the values under `with:` as keyword arguments, and `ctx` if it has a
parameter of this name (see `_child.Context`). What it returns is the step's output.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec

from .. import templates
from ..errors import FailureKind, StepError
from ..jsonvalue import HINT
from . import _child
from .base import Attempt, Prepared, Result, Scope
from .common import (
    environ_of,
    folder_of,
    hash_files,
    how_it_ended,
    last_lines,
    log_command,
    render_env,
    visible,
)
from .process import RESULT_BYTES, RESULT_FD, Command, Outcome, run_command
from .source import locate


class PythonStep:
    """Calls a function; its output is the JSON value that the function returns."""

    def prepare(self, step: Any, scope: Scope) -> Prepared:
        """Find the function's source without importing it; render its arguments."""
        search = search_path(scope.folder)
        found = locate(step.python, scope.folder, search)
        kwargs = templates.render_value(
            dict(step.with_ or {}), scope.values, place=f"steps.{scope.step}.with"
        )
        env = render_env(step, scope)
        return Prepared(
            parts={
                "function": step.python,
                "code_version": found.sha256,
                "with": kwargs,
                "env": env,
                "cwd": step.cwd or "",
                "files": hash_files(step, scope, FailureKind.EXCEPTION),
            },
            params={
                "function": step.python,
                "module_file": found.file,
                "kwargs": kwargs,
                "env": env,
                "cwd": step.cwd,
                "folder": scope.folder,
                "needs": scope.needs,
                "sys_path": search,
            },
        )

    async def perform(self, prepared: Prepared, attempt: Attempt) -> Result:
        """Call the function in a child, publish what it left in ORCH_OUTPUTS."""
        params = prepared.params
        command = Command(
            # -P: the folder of the script is not the user's; sys.path comes with the request.
            argv=(sys.executable, "-P", _child.__file__, RESULT_FD),
            cwd=folder_of(params["cwd"], params["folder"], FailureKind.EXCEPTION),
            environ=environ_of(attempt, params["env"]),
            log_path=attempt.log_path,
            masker=attempt.masker,
            log_bytes=attempt.log_bytes,
            output_bytes=attempt.output_bytes,
            stdin=_request(params, attempt),
            wants_result=True,
        )
        try:
            outcome = await run_command(command)
        except (OSError, ValueError) as error:
            raise StepError(
                f"can't run {params['function']}: {error}",
                kind=FailureKind.EXCEPTION,
                place=attempt.log_path,
            ) from error
        output = _output(outcome, params["function"], attempt)
        return Result(output=output, files=await attempt.publish(attempt.work_dir))


def search_path(folder: str) -> list[str]:
    """Return where a child looks for modules: the spec's folder, then where this program does.

    One list for both, so that the source that is hashed is the source that runs.
    """
    ours = [os.path.abspath(entry) for entry in sys.path]
    return list(dict.fromkeys([folder, *ours]))


def _request(params: dict[str, Any], attempt: Attempt) -> bytes:
    return msgspec.json.encode(
        {
            "function": params["function"],
            "module_file": params["module_file"],
            "kwargs": params["kwargs"],
            "sys_path": params["sys_path"],
            "ctx": {
                "job_id": attempt.job_id,
                "step": attempt.step,
                "attempt": attempt.number,
                "idempotency_key": attempt.idempotency_key,
                "outputs": attempt.work_dir,
                "needs": params["needs"],
            },
        }
    )


def _output(outcome: Outcome, function: str, attempt: Attempt) -> Any:
    """Return the function's value.

    Raises:
        StepError: kind `exception` if it raised or ended the process, `output` if its value
            is no JSON or too large.
    """
    if outcome.result_bytes > RESULT_BYTES:
        raise StepError(
            f"{function} returned {outcome.result_bytes} bytes: the limit is {RESULT_BYTES}",
            kind=FailureKind.OUTPUT,
            place=function,
            hint="write large results to files in ctx.outputs",
        )
    try:
        answer = msgspec.json.decode(outcome.result, type=dict[str, Any])
    except msgspec.DecodeError:
        said = last_lines(outcome.stderr_tail)
        what = f"{function} ended its process, which {how_it_ended(outcome.exit_code)}"
        raise StepError(
            f"{what}: {said}" if said else what,
            kind=FailureKind.EXCEPTION,
            place=function,
            hint=f"all it said: {log_command(attempt)}",
        ) from None
    if "error" in answer:
        file, line = answer["file"], answer["line"]
        message = visible(answer["message"])
        raise StepError(
            f"{answer['error']}: {message[:2000]}" if message else answer["error"],
            kind=FailureKind.EXCEPTION,
            place=f"{file}:{line}" if file else function,
            hint=f"the traceback: {log_command(attempt)}",
        )
    if "fault" in answer:
        raise StepError(
            f"the output of step {attempt.step} is no JSON value: {visible(answer['fault'])}",
            kind=FailureKind.OUTPUT,
            hint=HINT,
        )
    return answer["value"]
