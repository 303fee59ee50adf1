"""What a server's refusal means: status, error code and headers, as one failure kind.

Tables, not guesses: a message text is shown to the user and never decides anything. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import FailureKind
from ..retry import RETRY_AFTER_MAX_S

KIND_OF_STATUS: dict[int, FailureKind] = {
    400: FailureKind.BAD_REQUEST,
    401: FailureKind.AUTH,
    402: FailureKind.BUDGET,
    403: FailureKind.AUTH,
    404: FailureKind.BAD_REQUEST,
    408: FailureKind.TIMEOUT,
    409: FailureKind.PROVIDER,
    413: FailureKind.CONTEXT_LENGTH,
    422: FailureKind.BAD_REQUEST,
    425: FailureKind.OVERLOADED,
    429: FailureKind.RATE_LIMIT,
    500: FailureKind.PROVIDER,
    502: FailureKind.PROVIDER,
    503: FailureKind.OVERLOADED,
    504: FailureKind.TIMEOUT,
    529: FailureKind.OVERLOADED,
}

KIND_OF_CODE: dict[str, FailureKind] = {
    # openai and servers that follow it
    "context_length_exceeded": FailureKind.CONTEXT_LENGTH,
    "exceed_context_size_error": FailureKind.CONTEXT_LENGTH,
    "string_above_max_length": FailureKind.CONTEXT_LENGTH,
    "content_filter": FailureKind.CONTENT_FILTER,
    "content_policy_violation": FailureKind.CONTENT_FILTER,
    "insufficient_quota": FailureKind.BUDGET,
    "billing_hard_limit_reached": FailureKind.BUDGET,
    "billing_not_active": FailureKind.BUDGET,
    "model_not_found": FailureKind.BAD_REQUEST,
    # anthropic
    "billing_error": FailureKind.BUDGET,
    "rate_limit_error": FailureKind.RATE_LIMIT,
    "overloaded_error": FailureKind.OVERLOADED,
    "timeout_error": FailureKind.TIMEOUT,
    "authentication_error": FailureKind.AUTH,
    "permission_error": FailureKind.AUTH,
    "not_found_error": FailureKind.BAD_REQUEST,
}

MESSAGE_MAX = 500


class Complaint(msgspec.Struct, frozen=True):
    """What the body of a refusal said: its message, and its codes, the most telling first."""

    message: str = ""
    codes: tuple[str, ...] = ()


def kind_of(status: int, codes: tuple[str, ...] = ()) -> FailureKind:
    """Return the failure kind of a refusal: by its code if the table has it, else by status."""
    for code in codes:
        if code in KIND_OF_CODE:
            return KIND_OF_CODE[code]
        # Some gateways answer 200 and put the status into the error object.
        if status < 400 and code.isdecimal() and int(code) in KIND_OF_STATUS:
            return KIND_OF_STATUS[int(code)]
    if status in KIND_OF_STATUS:
        return KIND_OF_STATUS[status]
    return FailureKind.BAD_REQUEST if 300 <= status < 500 else FailureKind.PROVIDER


def complaint(value: Any) -> Complaint | None:
    """Return what a JSON body complains of, or None if it holds no error.

    Knows `{"error": "text"}` (ollama) and `{"error": {"message", "type", "code"}}` (openai,
    anthropic, and gateways).
    """
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, str) and error:
        return Complaint(clean(error))
    if not isinstance(error, dict) or not error:
        return None
    message = error.get("message")
    codes = [str(error[name]) for name in ("code", "type") if error.get(name)]
    return Complaint(clean(message) if isinstance(message, str) else "", tuple(codes))


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait that the headers ask for, capped, or None if they ask for none.

    Args:
        headers: with lower-case names. `retry-after-ms` goes before `retry-after`.
        now: Unix seconds, for the form that names a date.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _capped(milliseconds / 1000)
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = _number(text)
    if seconds is not None:
        return _capped(seconds)
    from email.utils import parsedate_to_datetime  # costs 12 ms, and dates are rare

    try:
        return _capped(parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def clean(text: str, limit: int = MESSAGE_MAX) -> str:
    """Return a server's text as one bounded line without control characters."""
    line = " ".join(text[: 4 * limit].split())
    line = "".join(char for char in line if char.isprintable())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _capped(seconds: float) -> float:
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)
