"""Names that may become part of a path, and job ids that sort by age."""

from __future__ import annotations

import re

from .errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
"""What a job id or a step name looks like; `..` is no part of a path with it."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def is_name(text: str) -> bool:
    """Return whether `text` may be a job id or a step name."""
    return NAME.fullmatch(text) is not None


def check_name(text: str, what: str) -> str:
    """Return `text` if it may be a name.

    Raises:
        UsageError: naming what it is.
    """
    if not is_name(text):
        raise UsageError(
            f"{text!r} is no {what}",
            hint="up to 64 letters, digits, dots, dashes and underscores, not beginning with a dot",
        )
    return text


def new_job_id(time_ns: int, entropy: bytes) -> str:
    """Return `job_` and 16 characters: 10 of milliseconds since 1970, 6 of chance.

    Args:
        time_ns: nanoseconds since 1970.
        entropy: at least 4 random bytes.
    """
    number = (time_ns // 1_000_000) << 30 | int.from_bytes(entropy[:4], "big") >> 2
    digits = []
    for _ in range(16):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "job_" + "".join(reversed(digits))
