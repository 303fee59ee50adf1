"""The words and values that a job's state is made of. Pure."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Any

import msgspec

from . import events as ev
from . import money
from .decisions import Shown


class JobStatus(enum.StrEnum):
    """How far the events say a job got; `running` is not among them, a lock tells that."""

    NEW = "new"
    OPEN = "open"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WAITING = "waiting"


class StepStatus(enum.StrEnum):
    """What the events of this leg say of a step."""

    PENDING = "pending"
    RUNNING = "started"
    WAITING = "retrying"
    ASKING = "waiting"
    EXPANDED = "expanded"
    SUCCEEDED = "succeeded"
    REUSED = "reused"
    FAILED = "failed"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"


FUNCTION = "function"
"""The kind of what `run_dag` runs."""

DONE = frozenset({StepStatus.SUCCEEDED, StepStatus.REUSED})
SETTLED = DONE | {StepStatus.FAILED, StepStatus.SKIPPED}
"""Nothing more becomes of such a step in this leg."""


class Success(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A recorded result. `output` is a JSON value, or a BlobRef's object for a large one.

    `by` is who gave it by hand, or `older.OLDER`: such a result stands whatever the step's key.
    """

    step: str
    seq: int
    key: str
    output: Any
    output_sha256: str
    files: tuple[ev.FileRef, ...] = ()
    duration_s: float = 0.0
    by: str = ""


class StepState(msgspec.Struct, kw_only=True, gc=False):
    """What is known of one step.

    Attributes:
        attempt: number of the last attempt, over all legs.
        tries: attempts in this leg, which is what `retry` counts.
        unmet: needs that have not settled yet.
        lacking: needs that have settled without a result, so that it can't run as it stands.
        interrupted: attempts that were cut off, over all legs.
        asked: what somebody is asked to approve, or has been.
        cut: the number of the last attempt that was cut off, or whose result is gone.
        gone: whether the latter.
        crashes: attempts in a row that ended with their process.
        because: of a step that was skipped: the step that it all began with.
    """

    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    tries: int = 0
    unmet: int = 0
    lacking: int = 0
    interrupted: int = 0
    cut: int = 0
    gone: bool = False
    crashes: int = 0
    success: Success | None = None
    fault: ev.StepFault | None = None
    reason: str = ""
    because: str = ""
    kind: str = ""
    started_at: str = ""
    work_s: float = 0.0
    asked: Shown | None = None


class Totals(msgspec.Struct, kw_only=True):
    """Sums over all attempts and legs; tokens are None until a provider counted some.

    Attributes:
        cost_usd, saved_usd: of what has a known price; None until something had one. Calls of
            the `offline` provider cost nothing and are left out.
        unpriced: calls that were answered and whose cost is not known.
    """

    work_s: float = 0.0
    legs_s: float = 0.0
    calls: int = 0
    failed_calls: int = 0
    llm_s: float = 0.0
    hits: int = 0
    misses: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    simulated: int = 0
    simulated_hits: int = 0
    cost_usd: Decimal | None = None
    saved_usd: Decimal | None = None
    unpriced: int = 0

    def since(self, before: Totals) -> Totals:
        """Return what was added after `before`."""

        def more(name: str) -> Any:
            now = getattr(self, name)
            if isinstance(now, Decimal):
                return money.less(now, getattr(before, name) or Decimal(0))
            return None if now is None else now - (getattr(before, name) or 0)

        return Totals(**{name: more(name) for name in self.__struct_fields__})
