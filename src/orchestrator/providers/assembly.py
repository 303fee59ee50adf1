"""What a streamed answer has in common in all wire formats: pieces are put together, and told.

A provider's own `Assembly` reads its events; here are the limits and the live counts.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ..errors import FailureKind, StepError
from . import failures
from .base import Progress, Reply, Report

T = TypeVar("T")

TEXT_MAX_CHARS = 32 * 1024 * 1024
REPORT_EVERY_S = 0.1


class Assembly(abc.ABC):
    """One answer that is coming in.

    Args:
        model: what was asked.
        report: told of what has come, ten times a second at most; None for nobody.

    Attributes:
        done: the wire format's own end mark was seen; without it the answer was cut off.
    """

    def __init__(self, model: str, report: Report | None) -> None:
        self.model = model
        self.done = False
        self._report = report
        self._told_s = 0.0
        self._texts: list[str] = []
        self._chars = 0

    @abc.abstractmethod
    def feed(self, name: str, data: bytes) -> None:
        """Take in one event.

        Raises:
            StepError: it is an error, or nothing that can be read.
            msgspec.MsgspecError: it has another form than the wire format says.
        """

    def ended(self) -> None:  # noqa: B027 - most formats have an end mark that is always there
        """Learn that the body has come to its end, without an error of the connection."""

    @abc.abstractmethod
    def reply(self, headers: Mapping[str, str]) -> Reply:
        """Return the whole answer.

        Raises:
            StepError: the model refused, or there is no answer in it.
        """

    @property
    def text(self) -> str:
        """All pieces so far."""
        return "".join(self._texts)

    @property
    def begun(self) -> bool:
        """Whether any piece of text has come."""
        return bool(self._texts)

    def add(self, text: str | None) -> None:
        """Take in a piece of the answer's text."""
        if not text:
            return
        self._chars += len(text)
        if self._chars > TEXT_MAX_CHARS:
            raise StepError(
                f"the answer is longer than {TEXT_MAX_CHARS:,} characters",
                kind=FailureKind.PROVIDER,
                hint="set `max_tokens` in the options",
            )
        self._texts.append(text)
        if self._report is not None:
            now_s = time.monotonic()
            if now_s - self._told_s >= REPORT_EVERY_S:
                self._told_s = now_s
                self._report(Progress(pieces=len(self._texts), characters=self._chars))


def parsed(data: bytes, form: type[T]) -> T:
    """Return an event's data as `form`, whose fields all have defaults.

    Raises:
        StepError: it is no JSON.
        msgspec.ValidationError: it is of another form.
    """
    try:
        return msgspec.json.decode(data, type=form, strict=False)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StepError(
            "the answer can't be read: an event of the stream is no valid JSON",
            kind=FailureKind.PROVIDER,
        ) from None


def complained(error: Any) -> StepError:
    """Return what an error inside a stream means; it began with status 200."""
    told = failures.complaint({"error": error}) or failures.Complaint()
    code = f" ({failures.clean(told.codes[0], 60)})" if told.codes else ""
    said = f": {told.message}" if told.message else ""
    return StepError(
        f"the server broke off the answer{code}{said}", kind=failures.kind_of(200, told.codes)
    )
