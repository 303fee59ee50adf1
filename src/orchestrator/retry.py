"""From the kind of a failure to a wait, or to giving up.

Which kinds are worth another try is the table `RETRIED`; nothing looks at a message text.
Pure: the random number comes in as an argument, and nobody sleeps here.
"""

from __future__ import annotations

import msgspec

from .errors import FailureKind

RETRIED: dict[FailureKind, bool] = {
    FailureKind.TIMEOUT: True,
    FailureKind.RATE_LIMIT: True,
    FailureKind.OVERLOADED: True,
    FailureKind.NETWORK: True,
    FailureKind.PROVIDER: True,
    # The same request would get the same answer.
    FailureKind.AUTH: False,
    FailureKind.BAD_REQUEST: False,
    FailureKind.CONTEXT_LENGTH: False,
    FailureKind.CONTENT_FILTER: False,
    FailureKind.BUDGET: False,
    FailureKind.CACHE_MISS: False,
    FailureKind.ITEMS: False,
    FailureKind.STEPS: False,
    FailureKind.TEMPLATE: False,
    FailureKind.OUTPUT: False,
    # Somebody wanted the end.
    FailureKind.CANCELLED: False,
    FailureKind.INTERRUPTED: False,
    FailureKind.REJECTED: False,
    # The user's own code and the model's own words: another try only where a spec asks for it.
    FailureKind.INVALID_OUTPUT: False,
    FailureKind.EXIT: False,
    FailureKind.EXCEPTION: False,
}

RETRY_AFTER_MAX_S = 300.0
"""The longest wait a server can ask for; a longer one is cut to this."""

ATTEMPTS_MAX = 1000
FACTOR_MAX = 100

# FACTOR_MAX to this power is still a float, and far above any `max_s`.
_EXPONENT_MAX = 64


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often and how patiently a step is tried.

    Attributes:
        max_attempts: in total, the first one included.
        initial_s: the longest wait after the first attempt.
        factor: by which the longest wait grows from attempt to attempt.
        max_s: where it stops growing.
        jitter: the share of a wait that is left to chance: 1 is anything from 0 to the longest
            wait, 0 is always the longest.
        on: the kinds that are tried again; None for the table `RETRIED`.
    """

    max_attempts: int = 3
    initial_s: float = 0.5
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 1.0
    on: tuple[FailureKind, ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= ATTEMPTS_MAX:
            raise ValueError(f"`max_attempts` must lie between 1 and {ATTEMPTS_MAX}")
        if not 0 <= self.initial_s <= self.max_s:
            raise ValueError("`initial_s` must lie between 0 and `max_s`")
        if not 1 <= self.factor <= FACTOR_MAX:
            raise ValueError(f"`factor` must lie between 1 and {FACTOR_MAX}")
        if not 0 <= self.jitter <= 1:
            raise ValueError("`jitter` must lie between 0 and 1")

    def retries(self, kind: FailureKind) -> bool:
        """Tell whether a failure of this kind is tried again at all."""
        return RETRIED[kind] if self.on is None else kind in self.on


LLM_RETRY = RetryPolicy()
"""For calls of a model, where a spec says nothing."""

NO_RETRY = RetryPolicy(max_attempts=1)
"""For the user's own commands and functions, where a spec says nothing."""


def own_code(policy: RetryPolicy) -> RetryPolicy:
    """Return how the user's own code is retried by a policy that was asked for.

    Where it names no kinds, it means what that code fails with too: exceptions and exit codes.
    """
    if policy.on is not None or policy.max_attempts == 1:
        return policy
    kinds = [kind for kind, retried in RETRIED.items() if retried]
    own = (FailureKind.EXCEPTION, FailureKind.EXIT)
    return msgspec.structs.replace(policy, on=(*kinds, *own))


def delay_s(
    policy: RetryPolicy,
    attempt: int,
    kind: FailureKind,
    retry_after_s: float | None,
    random: float,
) -> float | None:
    """Return the seconds to wait before the next attempt, or None to give up.

    Args:
        policy: of the step.
        attempt: the number, from 1, of the attempt that has just failed.
        kind: why it failed.
        retry_after_s: what the other side asked for; the wait is never shorter than this, up
            to `RETRY_AFTER_MAX_S`.
        random: a fresh number from [0, 1).
    """
    if attempt >= policy.max_attempts or not policy.retries(kind):
        return None
    growth = policy.factor ** min(attempt - 1, _EXPONENT_MAX)
    longest = min(policy.max_s, policy.initial_s * growth)
    wait = longest * (1 - policy.jitter * random)
    if retry_after_s is None:
        return wait
    return max(wait, min(retry_after_s, RETRY_AFTER_MAX_S))
