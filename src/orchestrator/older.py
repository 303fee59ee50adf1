"""Results that an older version recorded: without a key, and in a form of its own. Pure.

Nothing can tell whether such a result belongs to the step as it is written today. It stands by
the step's name, as one that a person gave by hand does: what is recorded is not run again.
"""

from __future__ import annotations

import msgspec

from . import events as ev
from .keys import canonical, output_hash
from .status import Success

OLDER = "an older version"
"""Stands for who gave such a result."""


def given_by(data: ev.StepEnd, total: str) -> str:
    """Return OLDER for a result that an older version recorded, nothing for any other.

    Args:
        data: of its `step.succeeded`.
        total: the line's sum; older versions had none.
    """
    is_older = not total and not data.key and data.output is not None
    return OLDER if is_older else ""


def as_now(success: Success, kind: str) -> Success:
    """Return an older version's result as a step of this kind gives it now: a text as `text`."""
    output = success.output
    if isinstance(output, str) and kind in ("llm", "run"):
        output = {"text": output, "exit_code": 0} if kind == "run" else {"text": output}
    digest = success.output_sha256 or output_hash(canonical(output), ())
    return msgspec.structs.replace(success, output=output, output_sha256=digest)
