"""Steps that are functions of this process: what `run_dag` gives the runner."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import re
from collections.abc import Callable, Mapping
from tokenize import TokenError
from types import CellType, CodeType, FunctionType
from typing import Any

import msgspec

from eventlog import Event

from .blobs import BlobStore
from .errors import FailureKind, StepError
from .events import FileRef
from .fence import Fence
from .filestore import FileStore
from .outputs import Outputs
from .recovery import ANY, Recovery
from .retry import RetryPolicy, own_code
from .state import DONE, JobState, StepState, StepStatus, Success
from .steps.base import Attempt, EmitFor, Prepared, Result
from .threads import Threads

_WRAPPED = 8
"""Functions around each other that are looked into: decorators, and what calls itself."""
_EMPTY = CellType()
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Node(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A function and how it is run."""

    fn: Callable[..., Any]
    is_async: bool
    needs: tuple[str, ...]
    key: Any
    timeout_s: float | None
    retry: RetryPolicy
    recovery: Recovery = ANY
    when: Callable[[Any, Mapping[str, Any]], bool] | None = None


class StepResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a step.

    Attributes:
        status: `succeeded`, `skipped` (an earlier result was taken, which is `output`),
            `failed`, or `not_run` (something it needs has no result, its `when` said no, or the
            job stopped).
        output: what it returned.
        duration_s: of the attempt that brought the result.
        error: why it failed or was not run.
    """

    id: str
    status: str
    output: Any = None
    duration_s: float = 0.0
    error: str = ""
    files: tuple[FileRef, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.status in ("succeeded", "skipped")


class FunctionWork:
    """The functions of a DAG, as the runner sees them.

    Sync functions run in threads, as many as run at once; async ones in the event loop.

    Args:
        nodes: by id.
        context: handed to every function.
        blobs: for outputs too large for a line.
        folder: where the job's files are.
        job_id: the job's.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        context: Any,
        blobs: BlobStore,
        folder: str,
        job_id: str,
    ) -> None:
        self._nodes = nodes
        self._context = context
        self._outputs = Outputs(blobs)
        self._store = FileStore(os.path.join(folder, "outputs"))
        self._threads = Threads()
        self._job_id = job_id
        self._versions = _Versions()

    def close(self) -> None:
        """Let go of the threads; one that still runs ends when its function returns."""
        self._threads.close()

    def prepare(self, name: str, state: JobState) -> Prepared:
        """Return the function's source as what its key depends on."""
        node = self._nodes[name]
        parts: dict[str, Any] = {"code_version": self._versions(node.fn)}
        if node.key is not None:
            parts["key"] = node.key
        needs = {need: _found(need, state) for need in node.needs} if node.needs else {}
        return Prepared(parts=parts, params=needs, abandons=not node.is_async)

    def unwanted(self, name: str, state: JobState) -> str:
        """Return the name of the node's `when` if it says no.

        Raises:
            StepError: it raised, or returned neither True nor False.
        """
        node = self._nodes[name]
        if node.when is None:
            return ""
        shown = getattr(node.when, "__qualname__", "when")
        deps = {need: self._dep(need, _found(need, state)) for need in node.needs}
        try:
            said = node.when(self._context, deps)
        except Exception as error:
            raise StepError(
                f"its condition raised {type(error).__name__}: {error}",
                kind=FailureKind.EXCEPTION,
                place=shown,
            ) from error
        if not isinstance(said, bool):
            raise StepError(
                f"its condition returned {type(said).__name__}, neither True nor False",
                kind=FailureKind.OUTPUT,
                place=shown,
            )
        return "" if said else shown

    def recovery(self, name: str) -> Recovery:
        """Return what the node says of its cut-off attempts."""
        return self._nodes[name].recovery

    def answered(self, name: str, prepared: Prepared) -> bool:  # noqa: ARG002 - Work's
        """Return False: nothing keeps a function's answer but its step."""
        return False

    def attempt(
        self,
        name: str,
        number: int,
        idempotency_key: str,
        emit_for: EmitFor,  # noqa: ARG002 - Work's
    ) -> Attempt:
        """Return what an attempt may touch; a function gets none of it but by its context."""
        return Attempt(
            job_id=self._job_id,
            step=name,
            number=number,
            idempotency_key=idempotency_key,
            timeout_s=self._nodes[name].timeout_s,
            work_dir="",
            log_path="",
            outputs=self._store,
            environ={},
            emit=_emit_nothing,
            publish=_publish_nothing,
        )

    async def perform(self, name: str, prepared: Prepared, attempt: Attempt) -> Result:
        """Call the function with the context and the results of what it needs."""
        node = self._nodes[name]
        needs: dict[str, Success] = prepared.params
        dep_results = {need: self._dep(need, success) for need, success in needs.items()}
        with Fence(self._job_id, name, attempt.number):
            if node.is_async:
                output = await node.fn(self._context, dep_results)
            else:
                output = await self._threads.run(node.fn, self._context, dep_results)
                if inspect.isawaitable(output):
                    output = await output
        return Result(output=output)

    def holds(self, success: Success) -> str:
        """Return why a recorded output can't be had any more, or nothing."""
        return self._outputs.holds(success)

    def keep(self, name: str, result: Result, encoded: bytes) -> object:  # noqa: ARG002 - Work's
        """Return the output, or a blob's reference."""
        return self._outputs.keep(result.output, encoded)

    def retry(self, name: str) -> RetryPolicy:
        """Return how the step is retried."""
        return own_code(self._nodes[name].retry)

    def timeout_s(self, name: str) -> float | None:
        """Return the limit of one attempt in seconds."""
        return self._nodes[name].timeout_s

    def output(self, success: Success) -> Any:
        """Return a recorded result's real output."""
        return self._outputs.load(success.output)

    def _dep(self, name: str, found: Success | StepState) -> StepResult:
        if isinstance(found, StepState):
            failed = found.status is StepStatus.FAILED
            error = found.fault.message if found.fault is not None else found.reason
            return StepResult(id=name, status="failed" if failed else "not_run", error=error)
        return StepResult(
            id=name,
            status="succeeded",
            output=self.output(found),
            duration_s=found.duration_s,
            files=found.files,
        )


def _found(name: str, state: JobState) -> Success | StepState:
    """Return a need's result, or what became of it instead."""
    step = state.steps[name]
    return step.success if step.success is not None and step.status in DONE else step


class _Versions:
    """Remembers what `code_version` said: closures made in a loop share one source."""

    def __init__(self) -> None:
        self._sources: dict[CodeType, str] = {}
        self._plain: dict[CodeType, str] = {}

    def __call__(self, fn: Callable[..., Any]) -> str:
        if type(fn) is not FunctionType:
            return code_version(fn)
        code = fn.__code__
        fixed = _fixed(fn) if fn.__defaults__ or fn.__kwdefaults__ or fn.__closure__ else []
        known = None if fixed else self._plain.get(code)
        if known is None:
            source = self._sources.get(code)
            if source is None:
                source = self._sources[code] = _source(fn)
            known = _digest([*fixed, source])
            if not fixed:
                self._plain[code] = known
        return known


def code_version(fn: Callable[..., Any]) -> str:
    """Return the hash of a function's source, its default arguments and what a `partial` fixes.

    A lambda's source is the lines it stands in. Where there is no source (a builtin, code typed
    at a prompt) its bytecode or its name has to do. Of what a closure brings only functions are
    in it, those below a decorator for instance; its values and what a global brings are not:
    that is what a node's `key` is for.
    """
    parts: list[str] = []
    while isinstance(fn, functools.partial):
        parts.append(_shown((fn.args, sorted(fn.keywords.items()))))
        fn = fn.func
    target = fn
    if not inspect.isroutine(fn) and not inspect.isclass(fn):
        target = type(fn).__call__
    return _digest([*parts, *_fixed(target), _source(target)])


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()


def _source(target: Any) -> str:
    try:
        return inspect.getsource(target)
    except (OSError, TypeError, SyntaxError, TokenError):  # some lambdas begin amid a text
        code = target if isinstance(target, CodeType) else getattr(target, "__code__", None)
        if code is not None:
            return f"{code.co_qualname} {_bytecode(code)}"
        return str(getattr(target, "__qualname__", repr(target)))


def _bytecode(code: CodeType) -> str:
    """Return what a function does without its source: not where it stands."""
    values = [_bytecode(c) if isinstance(c, CodeType) else _shown(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {values}"


def _fixed(target: Any, depth: int = 0) -> list[str]:
    """Return what a function has beside its source.

    The values of default arguments: `lambda c, d, i=i: …` differs by them alone. And the
    functions of its closure: what stands below a decorator is one of them.
    """
    defaults = getattr(target, "__defaults__", None)
    named = getattr(target, "__kwdefaults__", None)
    found = [_shown((defaults, named))] if defaults or named else []
    for cell in getattr(target, "__closure__", None) or ():
        inner = cell.cell_contents if depth < _WRAPPED and cell != _EMPTY else None
        if type(inner) is FunctionType:
            found += [_source_of(inner.__code__), *_fixed(inner, depth + 1)]
    return found


@functools.lru_cache(maxsize=1024)
def _source_of(code: CodeType) -> str:
    """Return a source that many functions of a loop may have around them, read once."""
    return _source(code)


def _shown(value: Any) -> str:
    """Return a value's `repr` without addresses, which differ from process to process."""
    return _ADDRESS.sub("", repr(value))


def is_async(fn: Callable[..., Any]) -> bool:
    """Return whether calling it gives something to await."""
    if type(fn) is FunctionType and fn.__code__.co_flags & inspect.CO_COROUTINE:
        return True
    while isinstance(fn, functools.partial):
        fn = fn.func
    if inspect.isroutine(fn):
        return inspect.iscoroutinefunction(fn)
    return inspect.iscoroutinefunction(type(fn).__call__)


async def _emit_nothing(*events: Event, wait: bool = True) -> None:
    raise StepError(
        f"a function reports no events of its attempt ({len(events)}, wait={wait})",
        kind=FailureKind.EXCEPTION,
        hint="emit with the EventEmitter that `run_dag` was given",
    )


async def _publish_nothing(folder: str) -> tuple[FileRef, ...]:
    raise StepError(
        f"a function publishes no folder ({folder})",
        kind=FailureKind.OUTPUT,
        hint="write with FileStore.safe_write",
    )
