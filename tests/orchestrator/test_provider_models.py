"""Which model is meant: aliases of a spec, and `model: auto`, which asks what is there."""

import json

import pytest

from orchestrator import run
from orchestrator.errors import ConfigError, SpecError
from orchestrator.spec import parse_spec
from orchestrator.testing import serve


@pytest.fixture(scope="module")
def running():
    with serve() as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


def lines(tmp_path, name):
    path = max(tmp_path.glob("job_*/events.jsonl"))
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [line["data"] for line in found if line["type"] == name]


# Aliases

ALIASES = {
    "fast": "ollama/qwen3:0.6b",
    "long": "mlx/mlx-community/Qwen3-4B-4bit",
    "exact": {
        "provider": "openai",
        "model": "m",
        "base_url": "http://127.0.0.1:1/v1",
        "options": {"temperature": 0, "seed": 1},
    },
}


def spec(**fields):
    steps = {"a": {"llm": {"prompt": "x"}}}
    return json.dumps({"project": "p", "models": ALIASES, "steps": steps, **fields})


def meant(text):
    llm = parse_spec(text).steps["a"].llm
    return llm.provider, llm.model, llm.base_url, llm.options


def test_an_alias_is_the_model_with_its_provider_and_options():
    step = {"llm": {"prompt": "x", "model": "exact", "options": {"seed": 2}}}
    options = {"temperature": 0, "seed": 2}
    assert meant(spec(steps={"a": step})) == ("openai", "m", "http://127.0.0.1:1/v1", options)


def test_an_alias_can_be_the_spec_s_own_model():
    assert meant(spec(model="long"))[:2] == ("mlx", "mlx-community/Qwen3-4B-4bit")


def test_the_command_line_can_name_an_alias():
    changed = parse_spec(spec(model="long")).with_overrides(model="exact")
    llm = changed.steps["a"].llm
    assert (llm.provider, llm.model, llm.base_url) == ("openai", "m", "http://127.0.0.1:1/v1")
    assert llm.options == {"temperature": 0, "seed": 1}


def test_a_model_that_is_no_alias_is_itself():
    assert meant(spec(provider="ollama", model="faster"))[:2] == ("ollama", "faster")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"models": {"a": "qwen3"}}, "`qwen3` names no provider"),
        ({"models": {"a": {"provider": "ollama"}}}, "`a` has no `model`"),
        ({"models": {"a": {"provider": "olama", "model": "m"}}}, "did you mean `ollama`?"),
        ({"models": {"a": 3}}, "must be a map"),
        ({"models": {"a": "offline/nothing"}}, "offline has no model `nothing`"),
        ({"provider": "ollama", "model": "fast"}, "`provider` is said twice"),
    ],
)
def test_a_wrong_alias_is_told(fields, said):
    with pytest.raises(SpecError) as caught:
        parse_spec(spec(**fields))
    assert said in caught.value.render()


# Auto


def job(provider, **fields):
    steps = {name: {"llm": {"prompt": name}} for name in "ab"}
    return {"project": "p", "provider": provider, "model": "auto", "steps": steps, **fields}


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("ollama", "test-model:latest"),
        ("openai", "test-model"),
        ("anthropic", "test-model"),
        ("mlx", "test-model"),
    ],
)
def test_auto_takes_what_is_there_and_records_it(server, tmp_path, provider, model):
    result = run(job(provider), runs_dir=str(tmp_path), environ=server.environ())
    assert result.ok
    assert {call.body["model"] for call in server.calls()} == {model}
    (started,) = lines(tmp_path, "job.started")
    assert started["models"] == {provider: model}
    assert {asked["model"] for asked in lines(tmp_path, "llm.request")} == {model}


def test_a_resumed_job_keeps_its_choice_and_asks_nobody(tmp_path):
    with serve() as server:
        environ = server.environ()
        assert run(job("openai"), runs_dir=str(tmp_path), environ=environ).ok
    # The server has gone: nobody could be asked.
    again = run(job("openai"), runs_dir=str(tmp_path), environ=environ, resume=True)
    assert again.ok
    (resumed,) = lines(tmp_path, "job.resumed")
    assert resumed["models"] == {"openai": "test-model"}


def test_auto_never_asks_a_vendor(tmp_path):
    with pytest.raises(ConfigError, match="servers of your own"):
        run(job("openai"), runs_dir=str(tmp_path), environ={"OPENAI_API_KEY": "test-key-1"})
    assert not list(tmp_path.glob("job_*"))


def test_auto_says_how_to_start_a_server_that_is_not_there(tmp_path):
    environ = {"OLLAMA_HOST": "127.0.0.1:9"}
    with pytest.raises(ConfigError) as caught:
        run(job("ollama"), runs_dir=str(tmp_path), environ=environ)
    assert "which models it has" in caught.value.message
    assert "ollama serve" in caught.value.hint


def test_offline_has_no_auto(tmp_path):
    with pytest.raises((ConfigError, SpecError)) as caught:
        run(job("offline"), runs_dir=str(tmp_path))
    assert "offline has no model `auto`" in caught.value.render()
