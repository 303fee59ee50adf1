"""What runs inside the child of a python step: call one function, hand over what it returned.

Started by path, not as a module of the package: it imports nothing of the orchestrator, so
that the user's function starts soon and sees no module but those it imports itself. The
request comes on stdin as JSON; the answer leaves by a descriptor of its own, because stdout
belongs to the function and goes to the step's log.
"""

from __future__ import annotations

import json
import math
import os
import sys
from types import CoroutineType

TYPE_CHECKING = False  # importing typing would take a tenth of the time to start
if TYPE_CHECKING:
    from typing import Any

MAX_DEPTH = 100
"""Of an output's lists and dicts."""
MIN_INT = -(1 << 63)
MAX_INT = (1 << 64) - 1
"""Larger integers become floats, or errors, in other readers of JSON."""


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


def fault_of(value: Any, path: str = "$", depth: int = 0) -> str:
    """Return why a value is no JSON value, with the path inside it; nothing if it is one.

    Tuples are taken as lists. Limits: 100 levels, integers of 64 bits.
    """
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, str):
        return "" if value.isascii() else _fault_of_text(value, path)
    if isinstance(value, int):
        return "" if MIN_INT <= value <= MAX_INT else f"{path} is an integer of over 64 bits"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{path} is {_float_name(value)}"
    if depth >= MAX_DEPTH:
        return f"{path} is deeper than {MAX_DEPTH} levels, or contains itself"
    if isinstance(value, dict):
        return _fault_of_dict(value, path, depth)
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if fault := fault_of(item, f"{path}[{index}]", depth + 1):
                return fault
        return ""
    return f"{path} is a value of type {type(value).__name__}"


def _fault_of_dict(value: dict[Any, Any], path: str, depth: int) -> str:
    for key, item in value.items():
        if not isinstance(key, str):
            return f"{path} has the key {key!r}, which is no string"
        if not key.isascii() and (fault := _fault_of_text(key, f"a key of {path}")):
            return fault
        below = f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]"
        if fault := fault_of(item, below, depth + 1):
            return fault
    return ""


def _fault_of_text(text: str, path: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{path} holds half a surrogate pair at character {error.start}"
    return ""


def _float_name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def main(result_fd: int) -> int:
    """Serve one request; return the process's exit code."""
    os.set_inheritable(result_fd, False)
    request = json.loads(sys.stdin.buffer.read())
    sys.path[:] = request["sys_path"]
    sys.argv = [request["function"]]
    # A killed child loses no line it has printed. (stderr is like this anyway.)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
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
    if fault := fault_of(value):
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
