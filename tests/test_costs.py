"""What calls cost, as users see it: a real server on loopback, prices from a file."""

from decimal import Decimal

import pytest

from orchestrator.testing import serve
from userkit import User, events

PRICES = """
    [providers.openai.models."small"]
    tokens_in = 0.25
    tokens_out = 2
"""
SPEC = """
    project: priced
    provider: openai
    model: small
    steps:
      one: {llm: {prompt: "Say one."}}
      two: {needs: [one], llm: {prompt: "Say two."}}
      free: {llm: {provider: offline, model: echo, prompt: "Say three."}}
"""


@pytest.fixture(scope="module")
def server():
    with serve() as running:
        yield running


@pytest.fixture
def user(tmp_path, server):
    server.reset()
    user = User(tmp_path, **server.environ(), ORCH_PRICES="prices.toml")
    user.write("prices.toml", PRICES)
    user.write("job.yaml", SPEC)
    return user


def test_a_call_carries_what_it_cost_and_a_hit_what_it_saved(user):
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml")
    first, second = user.jobs()
    for event in events(first, "llm.response"):
        data = event["data"]
        if data["provider"] == "offline":
            assert "cost_usd" not in data
            continue
        expected = data["tokens_in"] * Decimal("0.25") + data["tokens_out"] * 2
        assert Decimal(data["cost_usd"]) * 1_000_000 == expected
        assert data["prices"].startswith("prices.toml ")
    saved = {e["step"]: e["data"].get("saved_usd") for e in events(second, "cache.hit")}
    cost = {e["step"]: e["data"].get("cost_usd") for e in events(first, "llm.response")}
    assert saved == cost
    assert cost["free"] is None


def test_totals_say_what_is_known_and_what_is_not(user):
    user.write("other.yaml", SPEC.replace("model: small", "model: large", 1))
    user.orch("run", "job.yaml")
    user.orch("run", "other.yaml", "--runs-dir", "others")
    known = user.orch("show", "latest", "--json").json["totals"]
    unknown = user.orch("show", "latest", "--json", "--runs-dir", "others").json["totals"]
    assert known["unpriced"] == 0
    assert float(known["cost_usd"]) > 0
    assert unknown["unpriced"] == 2
    assert unknown["cost_usd"] is None
    assert f"cost ${known['cost_usd']}" in user.orch("show", "latest").out
    assert "cost of 2 calls not known" in user.orch("show", "latest", "--runs-dir", "others").out


def test_prices_that_can_t_be_read_are_told_before_anything_runs(user):
    done = user.orch("run", "job.yaml", "--prices", "none.toml", code=2)
    assert "can't read the prices" in done.err
    assert user.jobs() == []
