"""What the runner asks of a kind of step.

A kind first *prepares* a step (renders its templates, reads the files it depends on: quick,
and without any effect), so that its key is known before anything is done; then it
*performs* one attempt. It tells what happened by returning a `Result` or raising a
`StepError`; it emits no step events of its own.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

import msgspec

from ..events import FileRef
from ..filestore import FileStore
from ..masking import NOTHING, Masker

LOG_BYTES = 8 << 20
"""Written to a step's log by one attempt, where the spec does not say; the rest is counted."""
OUTPUT_BYTES = 64 << 20
"""Of a step's output as JSON, where the spec does not say."""

Emit = Callable[..., Awaitable[None]]
"""`await emit(*events)`: appended in this order, durable on return.

With `wait=False` it returns at once: the events are in the log before the attempt's outcome, and
nothing else may depend on them.
"""

EmitFor = Callable[[str, int], Emit]
"""Makes the `Emit` of one attempt, by its step's name and its number."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A step whose parameters are known.

    Attributes:
        parts: what the step's key depends on beside what it needs: component name to any JSON
            value (`prompt`, `command`, `env`, `code_version`, …). Stored as hashes, so that
            a changed key can be explained by the name of the part that changed.
        params: what `perform` wants to be given; never stored.
        reusable: False for an attempt that must never be skipped, whatever its key says.
        passed: needs whose outputs do not count for the key: they only said which items there are.
        abandons: True if a timeout can't end the attempt (a thread), only stop waiting for it.
        limits_itself: True if `perform` keeps the timeout itself, because it does not count all
            that passes (waiting for a turn is no work).
        asks: what a person is asked to approve, of a step that is never performed.
    """

    parts: dict[str, Any]
    params: Any = None
    reusable: bool = True
    abandons: bool = False
    passed: tuple[str, ...] = ()
    limits_itself: bool = False
    asks: str | None = None


def _nothing_there(path: str) -> bytes:
    raise FileNotFoundError(errno.ENOENT, "no such file", path)


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a step can see of its job when it is prepared.

    Attributes:
        step: the step's name.
        values: the top-level names of its templates: `steps`, `inputs`, `env`, and the spec's
            own `project`, `task_description`, …; plain JSON values only. `steps` holds what
            the step needs, directly or through others, and nothing else.
        needs: the outputs of the direct needs, by step name.
        folder: the spec's folder (absolute), where shell and python steps start.
        read: returns a file's content, by its path: one that the spec names, or below outputs/;
            raises FileNotFoundError, or StorageError for a path that leads elsewhere.
    """

    step: str
    values: dict[str, Any]
    needs: dict[str, Any]
    folder: str
    read: Callable[[str], bytes] = _nothing_there


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt brought: a JSON value, and the files it published to outputs/."""

    output: Any
    files: tuple[FileRef, ...] = ()


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a step, and the parts of the world it may touch.

    Attributes:
        job_id: of the job it belongs to.
        step: the step's name.
        number: from 1, over all legs.
        idempotency_key: the same for a re-try after a crash as for the try that was cut off.
        timeout_s: for this attempt, None without a limit. The runner enforces it by
            cancellation, unless the kind says that it limits itself.
        work_dir: a private folder of this attempt, made by the runner, empty, removed afterwards;
            empty for an llm step that saves nothing.
        log_path: where stdout and stderr go (`logs/<step>.log`), opened for append by the kind.
        outputs: the job's FileStore; the only way into outputs/.
        environ: the environment that child processes get.
        masker: takes known secrets out of what they say.
        unanswered: the cache's key of an earlier call of the step whose end is not recorded.
        emit: appends events to the job's log; returns when they are durable.
        log_bytes, output_bytes: how much it may say, and how large its output may be.
        publish: moves what a step left in a folder to outputs/ and records each file; raises
            StepError of kind `output` for a symlink, a special file, an unsafe name, or a
            path that another step of the job has published.
    """

    job_id: str
    step: str
    number: int
    idempotency_key: str
    timeout_s: float | None
    work_dir: str
    log_path: str
    outputs: FileStore
    environ: dict[str, str]
    emit: Emit
    publish: Callable[[str], Awaitable[tuple[FileRef, ...]]]
    log_bytes: int = LOG_BYTES
    output_bytes: int = OUTPUT_BYTES
    masker: Masker = NOTHING
    unanswered: str = ""


@runtime_checkable
class Answers(Protocol):
    """A kind of step that may have the answer to what an attempt would ask."""

    def answered(self, step: str, prepared: Prepared) -> bool:
        """Tell whether an attempt would have no effect: what it asks for is there."""
        ...


class StepKind(Protocol):
    """One kind of step, keyed by the name it has in a spec (`llm`, `run`, `python`, …)."""

    def prepare(self, step: Any, scope: Scope) -> Prepared:
        """Render and read all that the step's key depends on.

        Raises:
            StepError: kind `template` for a value that can't be rendered, or any other kind
                that shows before the step begins.
        """
        ...

    async def perform(self, prepared: Prepared, attempt: Attempt) -> Result:
        """Do the work once.

        Raises:
            StepError: with the failure's kind; never any other exception but cancellation.
        """
        ...
