"""One attempt of a step: perform, classify, report."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
import msgspec

from . import events as ev
from . import retry
from .errors import FailureKind, OrchestratorError, StepError
from .keys import encode_output, output_hash
from .steps.base import Attempt, Prepared, Result
from .work import Work


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was recorded as started.

    Attributes:
        tries: how many attempts of this leg it makes, itself included: what `retry` counts.
    """

    step: str
    prepared: Prepared
    attempt: Attempt
    key: str
    tries: int


async def carry_out(
    work: Work, launch: Launch, monotonic: Callable[[], float]
) -> ev.StepSucceeded | ev.StepFailed | ev.StepRetrying:
    """Perform one attempt and return the event that tells its outcome.

    Whatever the step raises becomes an outcome; only a cancellation from outside passes through.
    """
    started_s = monotonic()
    abandoned = False
    try:
        with anyio.move_on_after(launch.attempt.timeout_s) as scope:
            result = await work.perform(launch.step, launch.prepared, launch.attempt)
            data = _success(work, launch, result, monotonic() - started_s)
            return ev.StepSucceeded(step=launch.step, data=data)
        abandoned = scope.cancelled_caught and launch.prepared.abandons
        error = StepError(
            f"attempt {launch.attempt.number} took longer than {launch.attempt.timeout_s} s",
            kind=FailureKind.TIMEOUT,
            hint="raise the step's timeout_s, or make the step quicker",
        )
    except StepError as failed:
        error = failed
    except OrchestratorError as failed:
        error = StepError(
            failed.message, kind=FailureKind.OUTPUT, place=failed.place, hint=failed.hint
        )
    except Exception as failed:  # noqa: BLE001 - a step's own error is an outcome, never a crash
        error = StepError(
            f"{type(failed).__name__}: {failed}", kind=FailureKind.EXCEPTION, place=launch.step
        )
    return _fault(work, launch, error, monotonic() - started_s, abandoned=abandoned)


def _success(work: Work, launch: Launch, result: Result, duration_s: float) -> ev.StepEnd:
    encoded = encode_output(launch.step, result.output)
    files = [(file.path, file.sha256) for file in result.files]
    return ev.StepEnd(
        attempt=launch.attempt.number,
        duration_s=round(duration_s, 6),
        output=work.keep(launch.step, result, encoded),
        output_sha256=output_hash(result.output, files),
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
    message = error.message if not error.place else f"{error.message} ({error.place})"
    data = ev.StepFault(
        attempt=launch.attempt.number,
        kind=error.kind,
        message=message[:4000],
        hint=error.hint[:1000],
        duration_s=round(duration_s, 6),
        retry_in_s=None if delay_s is None else round(delay_s, 6),
        abandoned=abandoned,
    )
    if delay_s is None:
        return ev.StepFailed(step=launch.step, data=data)
    return ev.StepRetrying(step=launch.step, data=data)
