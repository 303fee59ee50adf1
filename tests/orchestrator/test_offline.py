"""The provider that calls no model: what it answers, and that it says so."""

import socket

import anyio
import msgspec
import pytest

from orchestrator.errors import ConfigError, FailureKind, StepError
from orchestrator.providers import Message, Request, check_model, connect
from orchestrator.providers.base import Usage

REPORT = """# Quarterly report

The warehouse moved to Lyon in March. Moving the warehouse cost less than planned.
It rained. Staff at the warehouse asked for better shelves and better light.

Author: Ada Lovelace
Pages: 1,204
Final: yes
Due date: see 2026-11-30
Tags:
- storage
- lyon
"""


def ask(model, prompt, timeout_s=5.0, **fields):
    request = Request(model=model, messages=(Message("user", prompt),), **fields)

    async def once():
        provider = connect("offline", environ={})
        return await provider.complete(request, timeout_s=timeout_s, idempotency_key="k")

    return anyio.run(once)


def script(*responses, prompt="Say hello", timeout_s=5.0):
    options = {"responses": list(responses)}
    return ask("offline/script", prompt, timeout_s, options=options)


@pytest.mark.parametrize("model", ["", "echo", "offline/echo"])
def test_echo_answers_with_the_prompt_as_it_is(model):
    reply = ask(model, "  What is up?\n")
    assert reply.text == "  What is up?\n"
    assert reply.model == "offline/echo"


def test_echo_answers_with_the_last_message_of_the_user():
    messages = (Message("system", "Be short."), Message("user", "a"), Message("assistant", "b"))
    request = Request(model="echo", messages=messages)
    provider = connect("offline", environ={})
    reply = anyio.run(lambda: provider.complete(request, timeout_s=1, idempotency_key="k"))
    assert reply.text == "a"


def test_a_reply_says_that_no_model_was_called_and_counts_nothing():
    reply = ask("extract", REPORT)
    assert reply.simulated
    assert reply.complete
    assert reply.usage == Usage()


def test_nothing_is_connected(monkeypatch):
    def refuse(*args):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert ask("extract", REPORT).text


def test_extract_finds_title_leading_sentences_and_keywords():
    text = ask("extract", REPORT, options={"sentences": 2, "keywords": 3}).text
    blocks = text.split("\n\n")
    assert blocks[0] == "# Quarterly report"
    assert blocks[1:3] == [
        "The warehouse moved to Lyon in March.",
        "Staff at the warehouse asked for better shelves and better light.",
    ]
    assert blocks[3] == "Keywords: warehouse, better, lyon"


def test_extract_gives_the_same_answer_each_time():
    assert ask("extract", REPORT).text == ask("extract", REPORT).text


def test_extract_fills_a_schema_with_what_the_text_says():
    properties = {
        "title": {"type": "string"},
        "author": {"type": "string"},
        "pages": {"type": "integer"},
        "final": {"type": "boolean"},
        "due_date": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "city": {"enum": ["Paris", "Lyon"]},
        "month": {"type": "string", "pattern": "March|April"},
        "publisher": {"type": "string"},
        "isbn": {"type": ["string", "null"]},
    }
    schema = {"type": "object", "properties": properties}
    assert msgspec.json.decode(ask("extract", REPORT, schema=schema).text) == {
        "title": "Quarterly report",
        "author": "Ada Lovelace",
        "pages": 1204,
        "final": True,
        "due_date": "2026-11-30",
        "tags": ["storage", "lyon"],
        "city": "Lyon",
        "month": "March",
        "isbn": None,
    }


def test_extract_takes_a_long_text_too():
    text = ask("extract", "Storage is cheap and storage is slow. " * 5000).text
    assert "Storage is cheap and storage is slow." in text


def test_extract_of_nothing_is_nothing():
    assert ask("extract", "").text == ""


def test_a_script_answers_by_its_first_entry_that_fits():
    responses = [
        {"match": "bye", "text": "no"},
        {"regex": "hel+o$", "text": "yes"},
        {"text": "late"},
    ]
    assert script(*responses).text == "yes"
    assert script(*responses, prompt="Something else").text == "late"


def test_a_script_answers_with_json_and_with_a_cut_text():
    assert script({"text": {"a": [1, 2]}}).text == '{"a":[1,2]}'
    assert not script({"text": "half a", "stop_reason": "length"}).complete


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (429, FailureKind.RATE_LIMIT),
        ("503", FailureKind.OVERLOADED),
        (401, FailureKind.AUTH),
        ("content_filter", FailureKind.CONTENT_FILTER),
        ("network", FailureKind.NETWORK),
    ],
)
def test_a_script_fails_with_the_kind_it_names(error, kind):
    with pytest.raises(StepError) as caught:
        script({"error": error, "retry_after_s": 2})
    assert caught.value.kind is kind
    assert caught.value.retry_after_s == 2


def test_a_scripted_wait_ends_with_the_timeout():
    with pytest.raises(StepError) as caught:
        script({"text": "x", "delay_s": 60}, timeout_s=0.01)
    assert caught.value.kind is FailureKind.TIMEOUT


@pytest.mark.parametrize(
    ("responses", "said"),
    [
        ([], "from 1 to"),
        ([{"match": "nowhere", "text": "x"}], "no entry of `responses` fits"),
        ([{"txet": "x"}], "txet"),
        ([{"regex": "(", "text": "x"}], "no pattern"),
        ([{"error": "grumpy"}], "neither a status nor one of"),
    ],
)
def test_a_script_that_can_not_answer_is_a_bad_request(responses, said):
    with pytest.raises(StepError, match=said) as caught:
        script(*responses)
    assert caught.value.kind is FailureKind.BAD_REQUEST


def test_an_unknown_model_is_refused_with_a_suggestion():
    with pytest.raises(StepError) as caught:
        ask("offline/extrct", "x")
    assert caught.value.kind is FailureKind.BAD_REQUEST
    assert "`extract`" in caught.value.hint
    with pytest.raises(ConfigError, match="extrct"):
        check_model("offline", "extrct")


def test_models_of_others_are_not_judged():
    check_model("ollama", "whatever")


def test_the_body_holds_all_that_the_answer_depends_on():
    schema = {"type": "object"}
    messages = (Message("user", "x"),)
    request = Request(model="", messages=messages, options={"keywords": 1}, schema=schema)
    assert connect("offline", environ={}).body(request) == {
        "model": "offline/echo",
        "messages": [{"role": "user", "content": "x"}],
        "options": {"keywords": 1},
        "schema": schema,
    }
