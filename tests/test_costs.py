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
STRUCTURED = """
    project: rates
    provider: openai
    model: small
    steps:
      rate:
        llm:
          prompt: Rate this
          output: {type: object, properties: {n: {type: integer}}, required: [n]}
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


def test_costs_are_summed_by_what_is_asked_for(user):
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml")
    done = user.orch("cost", "--json").json
    first, second = done["rows"]
    assert (first["calls"], first["hits"], second["calls"], second["hits"]) == (2, 0, 0, 2)
    assert first["cost_usd"] == second["saved_usd"] == done["total"]["cost_usd"]
    assert done["total"]["simulated"] == 2
    assert (done["estimate"], done["prices"]) == (False, "as recorded")
    (row,) = user.orch("cost", "--by", "model,day", "--json").json["rows"]
    assert (row["model"], row["calls"], row["hits"]) == ("openai/small", 2, 2)
    steps = user.orch("cost", "latest", "--json").json["rows"]
    assert [row["step"] for row in steps] == ["one", "two"]


def test_past_jobs_are_recomputed_at_other_prices_and_called_an_estimate(user):
    user.orch("run", "job.yaml", "--prices", "built-in")
    unknown = user.orch("cost")
    assert "2 calls without a known price" in unknown.err
    user.write("dear.toml", PRICES.replace("0.25", "1000000").replace("= 2", "= 0"))
    done = user.orch("cost", "--prices", "dear.toml", "--json").json
    assert done["estimate"] is True
    assert done["prices"].startswith("dear.toml ")
    assert done["total"]["cost_usd"] == str(done["total"]["tokens_in"])
    assert "an estimate" in user.orch("cost", "--prices", "dear.toml").err


def test_the_vendors_prices_estimate_nothing_of_another_server_not_even_a_hit(user):
    user.write("job.yaml", SPEC.replace("model: small", "model: gpt-5-mini", 1))
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml")
    total = user.orch("cost", "--prices", "built-in", "--json").json["total"]
    assert (total["cost_usd"], total["saved_usd"], total["unpriced"]) == (None, None, 2)


def test_a_failed_call_is_counted_apart(user, server):
    server.fail(status=400)
    user.orch("run", "job.yaml", "--keep-going", code=1)
    done = user.orch("cost", "--json")
    assert (done.json["total"]["failed"], done.json["total"]["cost_usd"]) == (1, None)
    assert "1 failed call: what they cost is not known" in done.err


def test_an_unknown_dimension_is_refused(user):
    assert "job, step, model, day" in user.orch("cost", "--by", "moon", code=2).err


def test_an_answer_whose_record_was_cut_off_is_adopted_and_paid_once(user, server):
    user.orch("run", "job.yaml")
    job = user.job()
    spent = user.orch("show", "latest", "--json").json["totals"]
    lines = (job / "events.jsonl").read_bytes().split(b"\n")
    (cut,) = (i for i, line in enumerate(lines) if b'"llm.response","step":"one"' in line)
    (job / "events.jsonl").write_bytes(b"\n".join(lines[:cut]) + b"\n")
    user.orch("run", "job.yaml", "--resume")
    assert len(server.calls()) == 2
    (adopted,) = events(job, "llm.response", "one")
    assert adopted["data"]["adopted"] is True
    assert events(job, "cache.hit", "one") == []
    again = user.orch("show", "latest", "--json").json["totals"]
    assert again["calls"] + again["hits"] == 3
    assert events(job, "step.succeeded", "one")[0]["data"]["attempt"] == 2
    cost = user.orch("cost", "latest", "--json").json["rows"][0]
    assert (cost["step"], cost["calls"], cost["hits"]) == ("one", 1, 0)
    assert spent["tokens_in"] >= again["tokens_in"]


def test_a_mended_answer_whose_record_was_cut_off_is_adopted_too(user, server):
    user.write("job.yaml", STRUCTURED)
    unfit = {"role": "assistant", "content": "no number"}
    usage = {"prompt_tokens": 50, "completion_tokens": 5}
    body = {"choices": [{"message": unfit, "finish_reason": "stop"}], "usage": usage}
    server.fail(status=200, body=body)
    user.orch("run", "job.yaml")
    job = user.job()
    spent = user.orch("cost", "latest", "--json").json["total"]
    assert spent["calls"] == 2
    lines = (job / "events.jsonl").read_bytes().split(b"\n")
    cut = [i for i, line in enumerate(lines) if b'"llm.response","step":"rate"' in line][1]
    (job / "events.jsonl").write_bytes(b"\n".join(lines[:cut]) + b"\n")
    user.orch("run", "job.yaml", "--resume")
    assert len(server.calls()) == 2
    assert events(job, "llm.response", "rate")[1]["data"]["adopted"] is True
    assert events(job, "cache.hit", "rate") == []
    assert user.orch("cost", "latest", "--json").json["total"] == spent
