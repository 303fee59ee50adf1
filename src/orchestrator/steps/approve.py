"""Steps of kind `approve`: a person is shown something, and says yes or no.

Such a step is prepared and never performed. Its key is the hash of what is shown (the rendered
message, and the outputs of what it needs): an approval is for that and lapses with it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .. import templates
from .base import Attempt, Prepared, Result, Scope


class ApproveStep:
    """Asks; its output is `{"approved": true, "by": …, "note": …}`."""

    def prepare(self, step: Any, scope: Scope) -> Prepared:
        """Render the message."""
        place = f"steps.{scope.step}.approve.message"
        message = templates.render(step.approve.message, scope.values, place=place)
        text = message if isinstance(message, str) else _pretty(message)
        return Prepared(parts={"message": text}, asks=text)

    async def perform(self, prepared: Prepared, attempt: Attempt) -> Result:
        """Not reached: the runner starts no attempt of a step that asks."""
        raise AssertionError(f"step {attempt.step} asks a person ({prepared.asks})")


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
