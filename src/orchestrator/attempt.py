"""One attempt of a step: perform, classify, report."""

from __future__ import annotations

import asyncio
import math
import random
import traceback
from collections.abc import Callable, Sequence

import anyio
import anyio.lowlevel
import msgspec

from . import events as ev
from . import retry
from .errors import FailureKind, OrchestratorError, StepError
from .keys import canonical, encode_output, output_hash, sha256, step_key
from .nest import Limit
from .steps.base import Attempt, Prepared, Result
from .work import Work

OUTPUT_FRAME = 256
"""Bytes that a step's kind may put around what was limited already."""
GROUP_MAX = 8
"""Of the errors that a step raised together."""
MESSAGE_MAX = 4000
HINT_MAX = 1000

_OUTCOMES = (Exception, SystemExit, GeneratorExit, BaseExceptionGroup)
"""What a step may raise as its own; a Ctrl-C is not among it."""


class Launch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An attempt that was recorded as started.

    Attributes:
        tries: how many attempts of this leg it makes, itself included: what `retry` counts.
        limit: of a step around it.
    """

    step: str
    prepared: Prepared
    attempt: Attempt
    key: str
    tries: int
    limit: Limit | None = None


async def carry_out(
    work: Work, launch: Launch, monotonic: Callable[[], float]
) -> ev.StepSucceeded | ev.StepFailed | ev.StepRetrying:
    """Perform one attempt and return the event that tells its outcome.

    Whatever the step raises becomes an outcome; only a cancellation from outside passes through.
    """
    started_s = monotonic()
    limit_s = None if launch.prepared.limits_itself else launch.attempt.timeout_s
    if launch.limit is not None and (limit_s is None or launch.limit.left_s < limit_s):
        limit_s = launch.limit.left_s
    scope = None if limit_s is None else anyio.move_on_after(limit_s)
    try:
        if scope is None:
            return await _performed(work, launch, monotonic, started_s)
        with scope:
            return await _performed(work, launch, monotonic, started_s)
        error = _too_late(launch, limit_s)
    except anyio.get_cancelled_exc_class():
        if anyio.current_effective_deadline() == -math.inf:
            raise
        error = StepError(
            "the step was cancelled from within: nobody asked for it",
            kind=FailureKind.CANCELLED,
            hint="let no CancelledError out of the step",
        )
    except _OUTCOMES as failed:
        if _was_cancelled():
            await anyio.lowlevel.checkpoint_if_cancelled()
        late = scope is not None and scope.cancel_called
        error = _too_late(launch, limit_s) if late else _classified(failed)
    abandoned = scope is not None and scope.cancel_called and launch.prepared.abandons
    return _fault(work, launch, error, monotonic() - started_s, abandoned=abandoned)


async def _performed(
    work: Work, launch: Launch, monotonic: Callable[[], float], started_s: float
) -> ev.StepSucceeded:
    result = await work.perform(launch.step, launch.prepared, launch.attempt)
    if _was_cancelled():
        await anyio.lowlevel.checkpoint_if_cancelled()
    data = _success(work, launch, result, monotonic() - started_s)
    return ev.StepSucceeded(step=launch.step, data=data)


def _too_late(launch: Launch, limit_s: float | None) -> StepError:
    if launch.limit is not None and limit_s == launch.limit.left_s:
        return launch.limit.passed
    return StepError(
        f"attempt {launch.attempt.number} took longer than {launch.attempt.timeout_s} s",
        kind=FailureKind.TIMEOUT,
        hint="raise the step's timeout_s, or make the step quicker",
    )


def _classified(failed: BaseException) -> StepError:
    if isinstance(failed, StepError):
        return failed
    if isinstance(failed, OrchestratorError):
        return StepError(
            failed.message, kind=FailureKind.OUTPUT, place=failed.place, hint=failed.hint
        )
    return StepError(_told(failed), kind=FailureKind.EXCEPTION, place=_where(failed))


def failed_before(step: str, attempt: int, error: OrchestratorError) -> ev.StepFailed:
    """Return the event of an attempt that failed before it could be started."""
    kind = error.kind if isinstance(error, StepError) else FailureKind.EXCEPTION
    data = ev.StepFault(
        attempt=attempt, kind=kind, message=_message(error), hint=_clean(error.hint, HINT_MAX)
    )
    return ev.StepFailed(step=step, data=data)


def _was_cancelled() -> bool:
    """Return whether a step was given a cancellation that it may have kept for itself.

    A step that swallows it and returns has been cut off all the same: what it returned is no
    result. One that had returned before the cancellation came keeps its result.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # another kind of event loop than asyncio's
        return False
    return task is not None and task.cancelling() > 0


def gathered(
    work: Work, name: str, result: Result, key: str, members: Sequence[str | None]
) -> ev.StepEnd:
    """Return what a group's `step.succeeded` says: no attempt was made for it.

    Its hash is that of its instances' hashes, and so of their files, which stay theirs.

    Raises:
        StepError: the outputs of its instances make no JSON value together.
    """
    encoded = encode_output(name, result.output)
    return ev.StepEnd(
        output=work.keep(name, result, encoded),
        output_sha256=sha256(canonical(members)),
        key=key,
    )


def left(work: Work, name: str, result: Result) -> ev.StepEnd:
    """Return what `step.succeeded` says of a step around others, for which no attempt was made.

    The files of the steps inside stay theirs: they count for its hash, and so for its key.

    Raises:
        StepError: its outputs are no JSON value.
    """
    encoded = encode_output(name, result.output)
    digest = output_hash(encoded, [(file.path, file.sha256) for file in result.files])
    return ev.StepEnd(
        output=work.keep(name, result, encoded),
        output_sha256=digest,
        key=step_key("workflow", {"outputs": digest}, ()),
    )


def _success(work: Work, launch: Launch, result: Result, duration_s: float) -> ev.StepEnd:
    encoded = encode_output(launch.step, result.output)
    allowed = launch.attempt.output_bytes + OUTPUT_FRAME
    if len(encoded) > allowed:
        raise StepError(
            f"its output has {len(encoded):,} bytes, and may have {launch.attempt.output_bytes:,}",
            kind=FailureKind.OUTPUT,
            hint="write large results to files; or raise output_bytes in the limits",
        )
    files = [(file.path, file.sha256) for file in result.files] if result.files else ()
    return ev.StepEnd(
        attempt=launch.attempt.number,
        duration_s=round(duration_s, 6),
        output=work.keep(launch.step, result, encoded),
        output_sha256=output_hash(encoded, files),
        files=result.files,
        key=launch.key,
    )


def _fault(
    work: Work, launch: Launch, error: StepError, duration_s: float, *, abandoned: bool
) -> ev.StepFailed | ev.StepRetrying:
    delay_s = retry.delay_s(
        work.retry(launch.step),
        launch.tries,
        error.kind,
        error.retry_after_s,
        random.random(),  # noqa: S311 - jitter is no secret
    )
    limit = launch.limit
    if delay_s is not None and limit is not None and duration_s + delay_s >= limit.left_s:
        delay_s = None  # there is no time for another one
    data = ev.StepFault(
        attempt=launch.attempt.number,
        kind=error.kind,
        message=_message(error),
        hint=_clean(error.hint, HINT_MAX),
        duration_s=round(duration_s, 6),
        retry_in_s=None if delay_s is None else round(delay_s, 6),
        abandoned=abandoned,
    )
    if delay_s is None:
        return ev.StepFailed(step=launch.step, data=data)
    return ev.StepRetrying(step=launch.step, data=data)


def _told(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the user's own class
        text = "its text can't be had"
    if isinstance(error, BaseExceptionGroup):
        text = "; ".join([text, *map(_told, error.exceptions[:GROUP_MAX])])
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _where(error: BaseException) -> str:
    """Return the function and line that raised: no path, which is another on other machines."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames or frames[-1][0].f_globals.get("__name__") == f"{__package__}.threads":
        return ""  # raised by the call itself
    frame, line = frames[-1]
    return f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}, line {line}"


def _message(error: OrchestratorError) -> str:
    text = error.message if not error.place else f"{error.message} ({error.place})"
    return _clean(text, MESSAGE_MAX)


def _clean(text: str, limit: int) -> str:
    """Return text that a line can hold: of limited length, and UTF-8 whatever it came from."""
    return text[:limit].encode("utf-8", "backslashreplace").decode("utf-8")
