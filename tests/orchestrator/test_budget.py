"""What a job has spent, as its events tell it, and what the purse lets go."""

from decimal import Decimal

import anyio
import pytest
from given import given, job_resumed, job_started, started, then
from rig import leaping

from orchestrator import events as ev
from orchestrator.budget import Amounts, Budget
from orchestrator.errors import FailureKind, StepError
from orchestrator.money import dollars
from orchestrator.prices import built_in
from orchestrator.providers.base import Message, Reply, Request, Usage
from orchestrator.providers.gate import NotCalled
from orchestrator.purse import OUT_TOKENS, Purse, most_out

ONE = {"a": ()}


def asked(step="a", tokens=None, usd=None, **more):
    data = ev.Asked(reserved_tokens=tokens, reserved_usd=usd, **more)
    return ev.LLMRequest(step=step, data=data)


def answered(step="a", **more):
    return ev.LLMResponse(step=step, data=ev.Answered(**{"success": True, **more}))


def spent(*events):
    total = given(job_started(ONE), started("a"), *events).spending.total()
    return total.calls, total.tokens, total.usd


@pytest.mark.parametrize(
    ("events", "total"),
    [
        ([], (0, 0, 0)),
        ([asked(), answered(tokens_in=3, tokens_out=4, cost_usd="0.25")], (1, 7, Decimal("0.25"))),
        # Not counted by the provider: then it is what was reserved.
        ([asked(tokens=90, usd="0.5"), answered()], (1, 90, Decimal("0.5"))),
        ([asked(tokens=90, usd="0.5"), answered(success=False, kind="rate_limit")], (1, 0, 0)),
        (
            [asked(tokens=90, usd="0.5"), answered(success=False, kind="timeout")],
            (1, 90, Decimal("0.5")),
        ),
        # Under way, or lost with its process: it may have been paid for.
        ([asked(tokens=90, usd="0.5")], (1, 90, Decimal("0.5"))),
        ([asked(tokens=90), job_resumed(ONE), asked(tokens=80)], (2, 170, 0)),
        ([asked(simulated=True), answered(simulated=True, tokens_in=9, tokens_out=9)], (0, 0, 0)),
    ],
    ids=["nothing", "counted", "uncounted", "refused", "unsure", "open", "lost", "simulated"],
)
def test_what_is_spent_follows_from_the_events(events, total):
    assert spent(*events) == total


def test_what_is_spent_counts_over_all_legs():
    state = given(job_started(ONE), started("a"), asked(), answered(tokens_in=3, tokens_out=4))
    then(state, job_resumed(ONE), asked(), answered(tokens_in=1, tokens_out=1))
    assert state.spending.total().tokens == 9


# --- the purse ------------------------------------------------------------------------------------


class Wire:
    """A provider by name; nothing is called."""

    base_url = "http://127.0.0.1:1"
    simulated = False

    def __init__(self, name="openai"):
        self.name = name


class Attempt:
    step = "a"

    def __init__(self):
        self.events = []

    async def emit(self, *events, wait=True):
        self.events += events


REQUEST = Request(model="m", messages=(Message("user", "hi"),), options={"max_tokens": 100})
BODY = {"messages": "x" * 600}  # with what is beside it 876 bytes at most are tokens


async def call(purse, attempt, tokens, *, takes_s=1.0, outcome=None, model="m", request=REQUEST):
    """Make one call that takes so many tokens; return whether it was let go."""
    try:
        async with purse.hold(Wire(), request, model, BODY, attempt) as hold:
            hold.told(ev.Asked())
            await anyio.sleep(takes_s)
            usage = Usage(tokens_in=tokens, tokens_out=0)
            hold.outcome = outcome or Reply(text="", model=model, usage=usage)
    except NotCalled as refused:
        return refused.error
    return None


def calls(budget, count, tokens, *, spent=Amounts, **more):
    """Make calls at once; return the purse, what was refused, and what was told."""
    said = []
    purse = Purse(budget, spent, built_in(), said.append)
    attempt = Attempt()
    refused = []

    async def one():
        refused.append(await call(purse, attempt, tokens, **more))

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(one)

    leaping(main)
    return purse, [error for error in refused if error is not None], attempt.events, said


def test_calls_at_once_never_pass_a_budget_of_calls():
    purse, refused, events, _ = calls(Budget(calls=7), 20, 10)
    assert purse.spent.calls == 7
    assert len(refused) == 13
    assert {error.kind for error in refused} == {FailureKind.BUDGET}
    (event,) = events  # told once
    assert (event.data.limit, event.data.allowed, event.data.spent) == ("calls", "7", "7")


def test_a_call_waits_when_it_fits_once_the_others_have_settled():
    # Each may take about a thousand: three at once. Each takes ten: in the end all fit.
    purse, refused, _, _ = calls(Budget(tokens=3200), 50, 10)
    assert not refused
    assert purse.spent == Amounts(calls=50, tokens=500)


def test_tokens_are_never_passed_though_the_calls_take_all_they_may():
    purse, refused, _, _ = calls(Budget(tokens=3200), 50, 970)
    assert purse.spent.tokens == 2910
    assert len(refused) == 47


def test_what_earlier_legs_spent_counts():
    _, refused, _, _ = calls(Budget(calls=3), 5, 10, spent=lambda: Amounts(calls=2))
    assert len(refused) == 4


def test_what_a_failed_call_reserved_is_given_back_unless_it_may_have_been_paid_for():
    busy = StepError("busy", kind=FailureKind.OVERLOADED)
    purse, _, _, _ = calls(Budget(tokens=10**6), 3, 0, outcome=busy)
    assert purse.spent == Amounts(calls=3, tokens=0)
    late = StepError("late", kind=FailureKind.TIMEOUT)
    purse, _, _, _ = calls(Budget(tokens=10**6), 3, 0, outcome=late)
    assert purse.spent.tokens > 3 * 900


def test_a_call_that_is_cancelled_keeps_what_it_reserved_and_one_that_never_began_does_not():
    async def main():
        purse = Purse(Budget(tokens=10**6), Amounts, built_in(), print)
        for sent in (False, True):
            with anyio.move_on_after(1):
                async with purse.hold(Wire(), REQUEST, "m", BODY, Attempt()) as hold:
                    hold.sent = sent
                    await anyio.sleep(9)
            assert (purse.spent.tokens > 0) is sent

    leaping(main)


def test_money_is_kept_exactly_and_a_model_without_a_price_is_refused():
    options = Request(model="gpt-5-mini", messages=(), options={"max_tokens": 100})

    async def main():
        wire = Wire()
        wire.base_url = ""
        purse = Purse(Budget(cost_usd="0.001"), Amounts, built_in(), print)
        async with purse.hold(wire, options, "gpt-5-mini", BODY, Attempt()) as hold:
            told = hold.told(ev.Asked())
            usage = Usage(tokens_in=10, tokens_out=1)
            hold.outcome = Reply(text="", model="gpt-5-mini", usage=usage)
        quote = built_in().quote("openai", "gpt-5-mini", usage)
        assert purse.spent.usd == quote.usd
        assert told.reserved_usd == dollars(hold.amounts.usd)
        assert hold.amounts.usd > quote.usd
        with pytest.raises(NotCalled) as caught:
            async with purse.hold(wire, options, "of-nobody", BODY, Attempt()):
                raise AssertionError("it was let go")
        assert "no price is known for openai/of-nobody" in caught.value.error.message

    leaping(main)


def test_a_call_without_max_tokens_reserves_a_guess_and_says_so_once():
    bare = Request(model="m", messages=())
    purse, _, _, said = calls(Budget(tokens=10**6), 3, 10, request=bare, takes_s=0)
    assert purse.spent.calls == 3
    (line,) = said
    assert f"sets no max_tokens: the budget reserves {OUT_TOKENS:,} output tokens" in line


@pytest.mark.parametrize(
    ("options", "body", "most"),
    [
        ({"max_tokens": 7}, {}, 7),
        ({}, {"options": {"max_completion_tokens": 8}}, 8),
        ({}, {"options": {"options": {"num_predict": 9}}}, 9),
        ({"max_tokens": True}, {"options": {}}, None),
        ({}, {"options": None}, None),
    ],
)
def test_the_most_an_answer_may_have_is_found_where_the_request_says_it(options, body, most):
    assert most_out(Request(model="m", messages=(), options=options), body) == most
