from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import prices
from orchestrator.errors import UsageError
from orchestrator.money import add, amount, dollars, less
from orchestrator.prices import cost
from orchestrator.providers.base import Usage

MILLION = Usage(tokens_in=1_000_000, tokens_out=1_000_000)


def table(tmp_path, text, name="prices.toml"):
    path = tmp_path / name
    path.write_text(text)
    return prices.table({}, str(path))


def test_a_call_costs_its_tokens_at_the_models_rates():
    usage = Usage(tokens_in=1234, tokens_out=567)
    assert cost("openai", "gpt-5-mini", usage) == Decimal("0.0014425")
    assert cost("anthropic", "claude-haiku-4-5-20251001", usage) == Decimal("0.004069")


def test_tokens_of_the_vendors_cache_have_rates_of_their_own():
    usage = Usage(tokens_in=1000, tokens_out=0, tokens_cache_read=600, tokens_cache_write=300)
    expected = (100 * Decimal(3) + 600 * Decimal("0.3") + 300 * Decimal("3.75")) / 1_000_000
    assert cost("anthropic", "claude-sonnet-4-6", usage) == expected


def test_a_long_prompt_is_billed_at_the_higher_rates_throughout():
    assert cost("openai", "gpt-6-sol", Usage(tokens_in=272_000, tokens_out=1)) == Decimal("0.54401")
    assert cost("openai", "gpt-6-sol", Usage(tokens_in=272_001, tokens_out=1)) == Decimal(
        "1.088019"
    )


@pytest.mark.parametrize(
    ("provider", "model", "usage"),
    [
        ("openai", "gpt-unheard-of", MILLION),
        ("openai", "gpt-5-mini-turbo", MILLION),
        ("ollama", "qwen3:0.6b", MILLION),
        ("offline", "echo", MILLION),
        ("openai", "gpt-5-mini", Usage(tokens_in=5)),
        ("openai", "gpt-5-mini", Usage(tokens_out=5)),
        ("openai", "gpt-5", Usage(tokens_in=9, tokens_out=1, tokens_cache_write=5)),
        ("openai", "gpt-5", Usage(tokens_in=9, tokens_out=1, tokens_cache_read=10)),
    ],
)
def test_what_is_not_known_is_none_and_never_nought(provider, model, usage):
    assert cost(provider, model, usage) is None


def test_the_vendors_prices_hold_at_the_vendors_server_alone():
    usage = Usage(tokens_in=1, tokens_out=1)
    assert cost("openai", "gpt-5", usage, base_url="https://api.openai.com/v1") is not None
    assert cost("openai", "gpt-5", usage, base_url="http://127.0.0.1:8000/v1") is None


def test_another_service_tier_has_no_known_price():
    shipped = prices.built_in()
    assert shipped.quote("openai", "gpt-5", MILLION, options={"service_tier": "flex"}).usd is None
    assert shipped.quote("openai", "gpt-5", MILLION, options={"service_tier": "default"}).usd


def test_every_figure_that_ships_has_a_source_and_a_date():
    shipped = prices.built_in()
    for vendor in shipped.vendors.values():
        assert vendor.source.startswith("https://")
        assert vendor.as_of.startswith("20")
        assert vendor.origin.startswith("https://")
    assert shipped.name == "built-in 2026-11-10"


def test_a_users_file_goes_before_what_ships_model_by_model(tmp_path):
    own = table(
        tmp_path,
        '[providers.openai.models."gpt-5"]\ntokens_in = 7\ntokens_out = 0.000001\n'
        '[providers.ollama.models."*"]\ntokens_in = 0\ntokens_out = 0\n',
    )
    quote = own.quote("openai", "gpt-5", MILLION, base_url="http://127.0.0.1:1/v1")
    assert quote.usd == Decimal("7.000001")
    assert quote.table.startswith("prices.toml ")
    assert own.quote("ollama", "anything", MILLION).usd == 0
    below = own.quote("openai", "gpt-5-mini", MILLION)
    assert below == (Decimal("2.25"), "built-in 2026-11-10")


def test_a_json_file_is_read_as_exactly(tmp_path):
    text = '{"providers":{"openai":{"models":{"m":{"tokens_in":0.1,"tokens_out":0.2}}}}}'
    own = table(tmp_path, text, "p.json")
    assert own.quote("openai", "m", Usage(tokens_in=3, tokens_out=3)).usd == Decimal("0.0000009")


def test_the_table_in_the_documents_is_one(tmp_path):
    page = Path(__file__).parents[2] / "docs" / "costs.md"
    (block,) = page.read_text().split("```toml\n")[1:]
    own = table(tmp_path, block.split("```")[0])
    assert own.quote("ollama", "any", MILLION).usd == 0
    assert own.quote("openai", "gpt-5-mini", MILLION, base_url="https://models.example.org/v1").usd


def test_the_environment_names_a_file_too(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[providers.x.models."*"]\ntokens_in = 1\ntokens_out = 1\n')
    assert prices.table({"ORCH_PRICES": str(path)}).quote("x", "y", MILLION).usd == 2
    assert prices.table({"ORCH_PRICES": " "}) is prices.built_in()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("providers = 3", "Expected `object`"),
        ("[providers.a.models.b]\ntokens_in = 1", "tokens_out"),
        ("[providers.a.models.b]\ntokens_in = -1\ntokens_out = 1", "from 0 to"),
        ("[providers.a.models.b]\ntokens_in = nan\ntokens_out = 1", "from 0 to"),
        ("[providers.a.models.b]\ntokens_in = 0.0000001\ntokens_out = 1", "decimal places"),
        ("[providers.a.models.b]\ntokens_in = 1\ntokens_out = 1\ntypo = 1", "typo"),
        ("[providers.a.models.b]\ntokens_in = 1\ntokens_out = 1\nabove_tokens_in = 1", "together"),
        ("no toml [", "Expected"),
    ],
)
def test_a_file_that_is_no_table_of_prices_is_refused_with_the_cause(tmp_path, text, told):
    with pytest.raises(UsageError, match=told) as caught:
        table(tmp_path, text)
    assert caught.value.place.endswith("prices.toml")


def test_a_file_that_is_not_there_is_one_error(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        prices.table({}, str(tmp_path / "none.toml"))


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_nothing_is_ever_rounded(tokens_in, tokens_out):
    spent = cost("openai", "gpt-5-nano", Usage(tokens_in=tokens_in, tokens_out=tokens_out))
    assert spent * 10**12 == tokens_in * 50_000 + tokens_out * 400_000
    assert amount(dollars(spent)) == spent
    assert "E" not in dollars(spent)


def test_what_is_no_amount_is_none():
    assert [amount(text) for text in ("", "NaN", "one", "1e999999999", "-1", None)] == [None] * 6
    assert add(None, None) is None
    assert add(None, Decimal(1)) == add(Decimal(1), None) == 1
    assert less(Decimal("0.3"), Decimal("0.1")) == Decimal("0.2")
    assert less(None, Decimal(1)) is None
