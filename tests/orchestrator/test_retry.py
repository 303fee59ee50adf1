"""The retry table, and the waits that follow from a policy."""

import pytest

from orchestrator.errors import FailureKind
from orchestrator.retry import LLM_RETRY, NO_RETRY, RETRIED, RetryPolicy, delay_s

PATIENT = RetryPolicy(max_attempts=10, initial_s=1, factor=2, max_s=30, jitter=0)


def test_every_kind_is_in_the_table():
    assert set(RETRIED) == set(FailureKind)


def test_only_what_may_pass_by_itself_is_retried():
    retried = {kind.value for kind, again in RETRIED.items() if again}
    assert retried == {"rate_limit", "overloaded", "timeout", "network", "provider"}


def test_the_wait_doubles_up_to_its_maximum():
    waits = [delay_s(PATIENT, attempt, FailureKind.NETWORK, None, 0.0) for attempt in range(1, 8)]
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_the_last_attempt_is_the_last():
    assert delay_s(PATIENT, 9, FailureKind.NETWORK, None, 0.0) is not None
    assert delay_s(PATIENT, 10, FailureKind.NETWORK, None, 0.0) is None
    assert delay_s(NO_RETRY, 1, FailureKind.NETWORK, None, 0.0) is None


def test_a_kind_that_is_not_retried_gives_up_at_once():
    assert delay_s(PATIENT, 1, FailureKind.AUTH, None, 0.0) is None


def test_a_policy_may_name_its_own_kinds():
    policy = RetryPolicy(on=(FailureKind.EXIT,), jitter=0)
    assert delay_s(policy, 1, FailureKind.EXIT, None, 0.0) == 0.5
    assert delay_s(policy, 1, FailureKind.NETWORK, None, 0.0) is None


@pytest.mark.parametrize(("random", "wait"), [(0.0, 0.5), (0.5, 0.25), (0.75, 0.125)])
def test_full_jitter_takes_any_part_of_the_wait(random, wait):
    assert delay_s(LLM_RETRY, 1, FailureKind.PROVIDER, None, random) == wait


def test_half_jitter_keeps_half_of_the_wait():
    policy = RetryPolicy(initial_s=2, jitter=0.5)
    assert delay_s(policy, 1, FailureKind.PROVIDER, None, 0.999) == pytest.approx(1, abs=0.01)


def test_what_the_server_asks_for_is_the_least_wait():
    assert delay_s(PATIENT, 1, FailureKind.RATE_LIMIT, 7.0, 0.0) == 7.0
    assert delay_s(PATIENT, 4, FailureKind.RATE_LIMIT, 7.0, 0.0) == 8.0


def test_what_the_server_asks_for_is_capped():
    assert delay_s(PATIENT, 1, FailureKind.RATE_LIMIT, 86400.0, 0.0) == 300.0


def test_a_huge_attempt_number_does_not_overflow():
    policy = RetryPolicy(max_attempts=1000, factor=100, jitter=0)
    assert delay_s(policy, 999, FailureKind.NETWORK, None, 0.0) == 30.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": 1001},
        {"factor": 0.5},
        {"factor": 101},
        {"jitter": 1.5},
        {"initial_s": -1},
        {"initial_s": 31},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)
