"""What runs inside the child of a python step: call one function, hand over what it returned.

Started by path, not as a module of the package: it imports nothing of the orchestrator, so
that the user's function starts soon and sees no module but those it imports itself. The
request comes on stdin as JSON; the answer leaves by a descriptor of its own, because stdout
belongs to the function and goes to the step's log.
"""

from __future__ import annotations

import json
import os
import sys
from types import CoroutineType

TYPE_CHECKING = False  # importing typing would take a tenth of the time to start
if TYPE_CHECKING:
    from typing import Any


class Context:
    """What a function gets that has a parameter named `ctx`.

    Attributes:
        job_id: of the job.
        step: the step's name.
        attempt: from 1.
        idempotency_key: the same when an attempt that was cut off is tried again.
        outputs: Path of the folder whose files are published when the function returns.
        needs: the outputs of the steps this one needs, by name.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        from pathlib import Path

        self.job_id: str = values["job_id"]
        self.step: str = values["step"]
        self.attempt: int = values["attempt"]
        self.idempotency_key: str = values["idempotency_key"]
        self.outputs = Path(values["outputs"])
        self.needs: dict[str, Any] = values["needs"]

    def __repr__(self) -> str:
        return f"<ctx of step {self.step}, attempt {self.attempt}, job {self.job_id}>"


def _fault_of(value: Any) -> str:
    """Return why a value is no JSON value, by the rule that holds for every kind of step."""
    if value is None or isinstance(value, bool):
        return ""
    # By its path, under no name: the function may have a module of any name.
    path = os.path.join(os.path.dirname(os.path.dirname(__file__)), "jsonvalue.py")
    rule: dict[str, Any] = {}
    with open(path, encoding="utf-8") as file:
        exec(compile(file.read(), path, "exec"), rule)  # noqa: S102 - a file of this package
    fault: str = rule["fault_of"](value)
    return fault


def main(result_fd: int) -> int:
    """Serve one request; return the process's exit code."""
    os.set_inheritable(result_fd, False)
    request = json.loads(sys.stdin.buffer.read())
    sys.path[:] = request["sys_path"]
    sys.argv = [request["function"]]
    # A killed child loses no line it has printed. (stderr is like this anyway.)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]  # a pipe
    answer = _answer(request)
    sys.stdout.flush()
    sys.stderr.flush()
    with open(result_fd, "wb") as file:
        file.write(json.dumps(answer, ensure_ascii=False).encode())
    return 0


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        value = _call(request)
    except BaseException as error:  # noqa: BLE001 - told to the parent, traceback to the log
        return _raised(error, request["module_file"])
    if fault := _fault_of(value):
        return {"fault": fault}
    return {"value": value}


def _call(request: dict[str, Any]) -> Any:
    import importlib

    module, _, path = request["function"].partition(":")
    function: Any = importlib.import_module(module)
    for name in path.split("."):
        function = getattr(function, name)
    arguments = dict(request["kwargs"])
    if _wants_ctx(function) and "ctx" not in arguments:
        arguments["ctx"] = Context(request["ctx"])
    value = function(**arguments)
    if isinstance(value, CoroutineType):
        import asyncio

        return asyncio.run(value)
    return value


def _wants_ctx(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    if code is not None and not hasattr(function, "__wrapped__"):
        return "ctx" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    import inspect  # slow to import, and rarely needed

    try:
        return "ctx" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins tell nothing
        return False


def _raised(error: BaseException, module_file: str) -> dict[str, Any]:
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    shown = error.with_traceback(trace)
    traceback.print_exception(shown)
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(trace)
        if not frame.f_code.co_filename.startswith("<frozen")
    ]
    # The last line of the user's own module tells more than one deep in a library.
    own = [place for place in frames if place[0] == module_file]
    file, line = (own or frames or [("", 0)])[-1]
    text = str(error)
    if isinstance(error, SyntaxError) and error.filename:
        file, line = error.filename, error.lineno or 0
    return {
        "error": type(error).__qualname__,
        "message": text.encode("utf-8", "backslashreplace").decode()[:8000],
        "file": file,
        "line": line,
    }


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
