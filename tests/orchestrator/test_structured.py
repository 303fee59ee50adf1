"""Structured answers: what fits is a value, what does not is asked for once more, or a failure."""

import json

import anyio
import pytest

from orchestrator import run
from orchestrator.errors import SpecError
from orchestrator.providers import Message, Reply, Request
from orchestrator.providers.offline import Offline
from orchestrator.spec import parse_spec
from orchestrator.steps.structured import mended, read, schema_fault
from orchestrator.testing import serve

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
GOOD = '{"name":"Rhine","count":3}'
BAD = '{"name":7,"size":"large"}'

# Reading


@pytest.mark.parametrize(
    "text", [GOOD, f" {GOOD}\n", f"```json\n{GOOD}\n```", f"```\n{GOOD}\n``` \n"]
)
def test_an_answer_that_fits_is_its_value(text):
    assert read(text, SCHEMA).value == {"name": "Rhine", "count": 3}
    assert not read(text, SCHEMA).problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no JSON"),
        ("The Rhine.", "no JSON"),
        (f"Here you are: {GOOD}", "no JSON"),
        (GOOD + GOOD, "no JSON"),
        ('{"name": NaN}', "no JSON"),
        ("[" * 100_000, "no JSON"),
        (BAD, 'at name: 7 is not of type "string"'),
        (BAD, "'size' was unexpected"),
        ("null", "does not fit"),
    ],
)
def test_an_answer_that_does_not_fit_says_why(text, problem):
    assert problem in read(text, SCHEMA).problem


def test_a_problem_is_one_bounded_line():
    problem = read(json.dumps({"name": ["\x1b[31m\n" + "x" * 100_000]}), SCHEMA).problem
    assert problem.isprintable()
    assert len(problem) < 1500


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"$defs": {"n": {"minimum": 3}}, "$ref": "#/$defs/n"}, "3", "2"),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": False}, '["a"]', "[1]"),
        ({"properties": {"a": True}, "unevaluatedProperties": False}, '{"a":1}', '{"b":1}'),
        ({"if": {"minimum": 5}, "then": {"multipleOf": 5}}, "10", "7"),
        ({"pattern": "^(a+)+$"}, '"aaa"', '"b"'),
        ({"enum": ["a", 2]}, "2", '"b"'),
    ],
)
def test_the_newest_draft_is_known(schema, good, bad):
    assert not read(good, schema).problem
    assert read(bad, schema).problem


def test_a_pattern_that_would_take_for_ever_is_given_up():
    problem = read(json.dumps("a" * 5000 + "b"), {"pattern": "^(?=(a+)+$)(a|a)*\\1$"}).problem
    assert problem


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"properties": []},
        {"$ref": "#/$defs/gone"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"pattern": "("},
    ],
)
def test_a_schema_that_can_not_be_used_is_told_with_the_spec(schema):
    assert schema_fault(schema)
    step = {"llm": {"prompt": "x", "output": schema}}
    text = json.dumps({"project": "p", "steps": {"a": step}})
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    assert "`output` is no JSON Schema" in caught.value.render()


def test_a_schema_fetches_nothing():
    with serve() as server:
        fault = schema_fault({"$ref": f"{server.url}/v1/models"})
        assert "would have to be fetched" in fault


def test_the_request_for_a_better_answer_shows_the_first_and_what_is_wrong():
    request = Request(model="m", messages=(Message("user", "Name a river"),), schema=SCHEMA)
    again = mended(request, BAD, "it does not fit")
    assert [message.role for message in again.messages] == ["user", "assistant", "user"]
    assert again.messages[1].content == BAD
    assert "it does not fit" in again.messages[2].content
    assert '"additionalProperties":false' in again.messages[2].content
    assert again.schema == SCHEMA


def test_an_answer_that_was_cut_is_never_complete():
    assert not Reply(text=GOOD, model="m", stop_reason="length").complete


# In a job


def spec(*responses, **llm):
    options = {"responses": list(responses)}
    step = {"llm": {"prompt": "Name a river", "output": SCHEMA, "options": options, **llm}}
    return {"project": "rivers", "provider": "offline", "model": "script", "steps": {"a": step}}


AGAIN = "can't be used"


def lines(tmp_path):
    path = max(tmp_path.glob("job_*/events.jsonl"))
    return [json.loads(line) for line in path.read_text().splitlines()]


def types(tmp_path, prefix=("llm.", "cache.")):
    return [line["type"] for line in lines(tmp_path) if line["type"].startswith(prefix)]


def entries(tmp_path):
    return list(tmp_path.glob("job_*/.cache/*.json"))


def test_a_good_answer_takes_one_call(tmp_path):
    result = run(spec({"text": GOOD}), runs_dir=str(tmp_path))
    assert result.steps["a"] == {"text": GOOD, "data": {"name": "Rhine", "count": 3}}
    assert types(tmp_path) == ["cache.miss", "llm.request", "llm.response"]


def test_a_bad_answer_is_asked_for_once_more_and_both_calls_are_recorded(tmp_path):
    job = spec({"match": AGAIN, "text": GOOD}, {"text": BAD})
    result = run(job, runs_dir=str(tmp_path))
    assert result.steps["a"]["data"]["name"] == "Rhine"
    assert types(tmp_path) == ["cache.miss", *["llm.request", "llm.response"] * 2]
    first, second = [e["data"] for e in lines(tmp_path) if e["type"] == "llm.request"]
    assert "mends" not in first
    assert "at name: 7 is not of type" in second["mends"]
    assert first["cache_key"] != second["cache_key"]
    assert result.state.totals.calls == 2


def test_the_better_answer_is_kept_as_that_to_the_first_request(tmp_path):
    job = spec({"match": AGAIN, "text": GOOD}, {"text": BAD})
    before = run(job, runs_dir=str(tmp_path))
    after = run(job, runs_dir=str(tmp_path))
    assert after.steps == before.steps
    assert types(tmp_path) == ["cache.hit"]


def test_two_bad_answers_are_a_failure_that_is_not_retried_and_not_kept(tmp_path):
    result = run(spec({"text": BAD}), runs_dir=str(tmp_path))
    assert not result.ok
    (failure,) = result.state.failures
    assert failure.kind == "invalid_output"
    assert "neither the answer nor a second one" in failure.message
    assert "at name: 7 is not of type" in failure.message
    assert types(tmp_path) == ["cache.miss", *["llm.request", "llm.response"] * 2]
    assert not entries(tmp_path)


def test_an_answer_that_ended_early_is_not_asked_for_again(tmp_path):
    result = run(spec({"text": '{"name": "Rh', "stop_reason": "length"}), runs_dir=str(tmp_path))
    (failure,) = result.state.failures
    assert failure.kind == "invalid_output"
    assert "ended early (length)" in failure.message
    assert "max_tokens" in failure.hint
    assert types(tmp_path) == ["cache.miss", "llm.request", "llm.response"]
    assert not entries(tmp_path)


def test_a_failure_of_the_second_call_is_that_call_s_and_retried(tmp_path):
    job = spec({"match": AGAIN, "error": 503}, {"text": BAD})
    job["steps"]["a"]["retry"] = {"max_attempts": 2, "initial_s": 0}
    result = run(job, runs_dir=str(tmp_path))
    (failure,) = result.state.failures
    assert failure.kind == "overloaded"
    assert types(tmp_path).count("llm.request") == 4


@pytest.mark.parametrize("name", ["ollama", "openai", "anthropic"])
def test_a_provider_is_asked_natively_and_the_answer_checked_all_the_same(tmp_path, name):
    wrong = {
        "ollama": {"message": {"content": BAD}, "done": True},
        "openai": {"choices": [{"message": {"content": BAD}, "finish_reason": "stop"}]},
        "anthropic": {"content": [{"type": "text", "text": BAD}], "stop_reason": "end_turn"},
    }
    job = {
        "project": "rivers",
        "provider": name,
        "model": "test-model",
        "steps": {"a": {"llm": {"prompt": "Name a river", "output": SCHEMA}}},
    }
    with serve() as server:
        server.fail(status=200, body=wrong[name])
        result = run(job, runs_dir=str(tmp_path), environ=server.environ())
        assert result.steps["a"]["data"] == {"name": "text", "count": 1}
        assert len(server.calls()) == 2
        native = [
            c.body.get("format") or c.body.get("response_format") or c.body.get("output_config")
            for c in server.calls()
        ]
        assert all(native)
        assert len({c.headers.get("idempotency-key") for c in server.calls()}) == (
            1 if name == "ollama" else 2
        )


def test_both_calls_share_the_time_of_an_attempt(tmp_path, monkeypatch):
    real, limits = Offline.complete, []

    async def slow(self, request, *, timeout_s, **more):
        limits.append(timeout_s)
        await anyio.sleep(0.05)
        return await real(self, request, timeout_s=timeout_s, **more)

    monkeypatch.setattr(Offline, "complete", slow)
    job = spec({"match": AGAIN, "text": GOOD}, {"text": BAD})
    job["steps"]["a"]["timeout_s"] = 20
    assert run(job, runs_dir=str(tmp_path)).ok
    first, second = limits
    assert first == 20
    assert 0 < second < 19.96
