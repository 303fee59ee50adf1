"""Budgets as users meet them: a real server on loopback, many calls at once, over all legs."""

from decimal import Decimal

import pytest

from orchestrator.testing import serve
from userkit import User, events, types

PRICES = """
    [providers.openai.models."small"]
    tokens_in = 1000
    tokens_out = 2000
"""
MANY = """
    project: many
    provider: openai
    model: small
    concurrency: 16
    options: {max_tokens: 20}
    BUDGET
    steps:
      ask: {for_each: "{{ range(20) | list }}", llm: {prompt: "Say {{ item }}."}}
"""


@pytest.fixture(scope="module")
def server():
    with serve(delay_s=0.02) as running:
        yield running


@pytest.fixture
def user(tmp_path, server):
    server.reset()
    user = User(tmp_path, **server.environ(), ORCH_PRICES="prices.toml")
    user.write("prices.toml", PRICES)
    return user


def job(user, budget):
    user.write("job.yaml", MANY.replace("BUDGET", budget))


def cost(folders):
    found = [e["data"].get("cost_usd", "0") for f in folders for e in events(f, "llm.response")]
    return sum(map(Decimal, found))


def test_calls_at_once_stop_before_the_budget_of_calls_is_passed_and_later_legs_too(user, server):
    job(user, "budget: {calls: 7}")
    done = user.orch("run", "job.yaml", "--keep-going", code=7)
    assert len(server.calls()) == 7
    assert "failed (budget): the budget of 7 calls does not allow another call: 7 are" in done.err
    (event,) = events(user.job(), "budget.exceeded")
    assert event["data"] == {"limit": "calls", "allowed": "7", "spent": "7", "needed": "1"}
    assert event["level"] == "WARN"
    user.orch("run", "job.yaml", "--resume", code=7)
    assert len(server.calls()) == 7
    job(user, "budget: {calls: 30}")
    user.orch("run", "job.yaml", "--resume")
    assert len(server.calls()) == 20


BORNE = {
    "items": "ask: {for_each: [1, 2, 3], max_failures: 3, llm: {prompt: 'Say {{ item }}'}}",
    "a step": """
  one: {llm: {prompt: One}}
  two: {needs: one, llm: {prompt: Two}}
  three: {needs: two, continue_on_error: true, llm: {prompt: Three}}
    """,
}


@pytest.mark.parametrize("steps", BORNE.values(), ids=BORNE)
def test_a_refused_call_ends_with_7_also_where_the_job_can_bear_it(user, server, steps):
    user.write(
        "job.yaml",
        "project: borne\nprovider: openai\nmodel: small\nconcurrency: 1\n"
        f"options: {{max_tokens: 20}}\nbudget: {{calls: 2}}\nsteps:\n  {steps.strip()}\n",
    )
    done = user.orch("run", "job.yaml", code=7)
    assert len(server.calls()) == 2
    assert "Status: succeeded" in done.out
    assert "go on: orch run job.yaml --resume" in done.err


def test_money_is_never_passed_at_any_concurrency_and_a_resume_keeps_the_limit(user, server):
    job(user, "")
    done = user.orch("run", "job.yaml", "--keep-going", "--max-cost", "0.6", code=7)
    spent = cost([user.job()])
    assert Decimal(0) < spent <= Decimal("0.6")
    assert "go on with a higher --max-cost" in done.err
    calls = len(server.calls())
    assert calls < 20
    user.orch("resume", "latest", code=7)  # the limit of the leg before holds
    assert cost([user.job()]) <= Decimal("0.6")
    user.orch("resume", "latest", "--max-cost", "90")
    assert len(server.calls()) == 20
    assert types(user.job())[-1] == "job.succeeded"


def test_what_comes_from_the_cache_costs_nothing(user, server):
    job(user, "")
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml", "--max-cost", "0.000001")
    assert len(server.calls()) == 20


def test_a_budget_in_money_for_a_model_without_a_price_is_refused_before_anything_runs(user):
    job(user, "budget: {cost_usd: 1}")
    user.write("job.yaml", (user.home / "job.yaml").read_text().replace("small", "of-nobody"))
    done = user.orch("run", "job.yaml", code=3)
    assert "no price is known for openai/of-nobody, so a budget in dollars can't be" in done.err
    assert not user.jobs()


def test_a_local_model_without_a_price_is_told_of_and_runs(user):
    user.write(
        "job.yaml",
        "{project: p, provider: ollama, model: m, budget: {cost_usd: 1},"
        " options: {max_tokens: 5}, steps: {a: {llm: {prompt: Hi}}}}",
    )
    done = user.orch("run", "job.yaml")
    assert "note: ollama/m has no price: its calls are not counted in the budget's" in done.err


@pytest.mark.parametrize("amount", ["1e3", "-1", "$2", "much", "nan"])
def test_an_amount_that_is_none_is_refused(user, amount):
    job(user, "")
    assert (
        "is no amount of US dollars"
        in user.orch("run", "job.yaml", f"--max-cost={amount}", code=2).err
    )
