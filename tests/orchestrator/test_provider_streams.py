"""Answers that come piece by piece: what one body brings, told while they come, or a failure."""

import itertools
import time

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import run
from orchestrator.errors import FailureKind, StepError
from orchestrator.providers import Message, Request, connect
from orchestrator.providers.base import Usage
from orchestrator.providers.stream import JsonLines, ServerSentEvents
from orchestrator.testing import serve

K = FailureKind
SERVED = ("ollama", "openai", "anthropic", "mlx")


@pytest.fixture(scope="module")
def running():
    with serve() as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


def ask(server, name, *, timeout_s=10.0, stream=True, **how):
    provider = connect(name, environ=server.environ())
    request = Request(
        model="test-model", messages=(Message("user", "Name three rivers"),), stream=stream
    )

    async def once():
        try:
            return await provider.complete(request, timeout_s=timeout_s, idempotency_key="k", **how)
        finally:
            await provider.aclose()

    return anyio.run(once)


def failure(server, name, **how):
    with pytest.raises(StepError) as caught:
        ask(server, name, **how)
    return caught.value


# Cutting a body into events

BODY = (
    b": keep-alive\r\n\r\nevent: a\r\ndata: 1\r\n\r\n"
    b"data: two\rdata:lines\r\revent: lonely\n\nid: 7\ndata:  x\ny: z\n\ndata: cut off"
)
EVENTS = [("a", b"1"), ("", b"two\nlines"), ("", b" x")]


@given(st.lists(st.integers(0, len(BODY)), max_size=12))
def test_events_are_the_same_however_the_network_cuts_them(places):
    cuts = [0, *sorted(places), len(BODY)]
    splitter = ServerSentEvents()
    events = []
    for begin, end in itertools.pairwise(cuts):
        events += splitter.feed(BODY[begin:end])
    assert [*events, *splitter.end()] == EVENTS


@given(st.lists(st.integers(0, 20), max_size=8))
def test_the_last_line_of_json_needs_no_line_break(places):
    body = b'{"a":1}\n\r\n{"b":2}\n{"c":3}'
    cuts = [0, *sorted(places), len(body)]
    splitter = JsonLines()
    lines = []
    for begin, end in itertools.pairwise(cuts):
        lines += splitter.feed(body[begin:end])
    assert [data for _, data in [*lines, *splitter.end()]] == body.split()


# Whole answers


@pytest.mark.parametrize("name", SERVED)
def test_a_stream_brings_what_one_body_brings(server, name):
    streamed, whole = ask(server, name), ask(server, name, stream=False)
    assert server.calls()[0].body["stream"] is True
    assert not server.calls()[1].body.get("stream")
    assert streamed.text.startswith("Answer to: Name three rivers")
    for field in ("model", "stop_reason"):
        assert getattr(streamed, field) == getattr(whole, field)
    assert streamed.usage.tokens_in == whole.usage.tokens_in == 5
    assert streamed.usage.tokens_out == (len(streamed.text) + 3) // 4


@pytest.mark.parametrize("name", SERVED)
def test_a_server_that_does_not_stream_is_understood(server, name):
    server.fail(kind="whole")
    reply = ask(server, name)
    assert reply.complete
    assert reply.usage.tokens_in == 5


def test_a_server_that_sends_no_usage_leaves_it_unknown(server):
    server.fail(kind="no_usage")
    reply = ask(server, "openai")
    assert reply.complete
    assert reply.usage == Usage()


def test_streams_one_after_another_share_a_connection(server):
    provider = connect("anthropic", environ=server.environ())
    request = Request(model="test-model", messages=(Message("user", "x"),))

    async def three():
        for _ in range(3):
            await provider.complete(request, timeout_s=10, idempotency_key="k")
        await provider.aclose()

    anyio.run(three)
    assert len({call.connection for call in server.calls()}) == 1


SSE = {"content-type": "text/event-stream"}


def chunks(*values):
    """A stream as a text: each value is one event's data."""
    texts = [v if isinstance(v, str) else msgspec.json.encode(v).decode() for v in values]
    return "".join(f"data: {text}\n\n" for text in texts)


def delta(text=None, reason=None, **fields):
    return {"choices": [{"delta": {"content": text}, "finish_reason": reason}], **fields}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


@pytest.mark.parametrize(
    ("body", "text", "tokens_in"),
    [
        # The usage on the last piece, and no [DONE].
        (chunks(delta("a"), delta("b", "stop", usage=USAGE)), "ab", 3),
        # The usage after it, with `choices: null`.
        (chunks(delta("ab", "stop"), {"choices": None, "usage": USAGE}, "[DONE]"), "ab", 3),
        # The usage all along: the last one counts.
        (chunks(delta("a", usage={}), delta("b", "stop", usage=USAGE), "[DONE]"), "ab", 3),
        # All at once.
        (
            chunks(
                {"choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]}, "[DONE]"
            ),
            "ab",
            None,
        ),
        # Comments, and another choice that nobody asked for.
        (
            ": OPENROUTER PROCESSING\n\n"
            + chunks(delta("ab"), {"choices": [{"index": 1, "delta": {"content": "x"}}]})
            + chunks(delta(None, "stop"), "[DONE]"),
            "ab",
            None,
        ),
    ],
)
def test_the_dialects_of_openai_s_stream(server, body, text, tokens_in):
    server.fail(status=200, body=body, headers=SSE)
    reply = ask(server, "openai")
    assert reply.text == text
    assert reply.complete
    assert reply.usage.tokens_in == tokens_in


def test_anthropic_s_counts_are_put_together_from_its_events(server):
    start = {"input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 1}
    events = [
        {"type": "message_start", "message": {"id": "m", "model": "t", "usage": start}},
        {"type": "content_block_start", "content_block": {"type": "thinking"}},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_start", "content_block": {"type": "text", "text": "a"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "b"}},
        {"type": "something_new", "delta": {"type": "else"}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 4}},
        },
        {"type": "message_stop"},
    ]
    server.fail(status=200, body=chunks(*events), headers=SSE)
    reply = ask(server, "anthropic")
    assert reply.text == "ab"
    assert reply.usage == Usage(
        tokens_in=110, tokens_out=7, tokens_cache_read=100, tokens_reasoning=4
    )


# Broken streams


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("fault", ["cut", "cut_well"])
def test_a_stream_that_is_cut_is_a_network_failure(server, name, fault):
    server.fail(kind=fault)
    error = failure(server, name)
    assert error.kind is K.NETWORK
    assert "broke" in error.message or "cut off before its end" in error.message
    assert name in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [
        ("ollama", None, K.PROVIDER),
        ("openai", None, K.PROVIDER),
        ("openai", "context_length_exceeded", K.CONTEXT_LENGTH),
        ("anthropic", None, K.OVERLOADED),
        ("anthropic", "rate_limit_error", K.RATE_LIMIT),
    ],
)
def test_an_error_inside_a_stream_is_its_own_failure_kind(server, name, code, kind):
    server.fail(kind="error_event", code=code)
    error = failure(server, name)
    assert error.kind is kind
    assert "an error was asked for" in error.message
    assert "broke off the answer" in error.message


@pytest.mark.parametrize("name", SERVED)
def test_an_answer_that_falls_silent_meets_the_idle_timeout(server, name):
    server.fail(kind="stall")
    began = time.monotonic()
    error = failure(server, name, timeout_s=60, idle_timeout_s=0.2)
    assert error.kind is K.TIMEOUT
    assert "nothing came for 0.2 s" in error.message
    assert "idle_timeout_s" in error.hint
    assert time.monotonic() - began < 30


def test_silence_before_the_answer_is_not_idle(server):
    server.fail(kind="slow", delay_s=0.4)
    assert ask(server, "openai", idle_timeout_s=0.2).complete


def test_a_slow_stream_that_goes_on_is_not_idle(server):
    server.fail(kind="slow", piece_s=0.05)
    assert ask(server, "openai", idle_timeout_s=1).complete


def test_a_slow_stream_meets_the_deadline_all_the_same(server):
    server.fail(kind="slow", piece_s=0.1)
    error = failure(server, "openai", timeout_s=0.3, idle_timeout_s=5)
    assert error.kind is K.TIMEOUT
    assert "no complete answer within 0.3 s" in error.message


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (chunks("{"), K.PROVIDER),
        (chunks({"choices": "many"}), K.PROVIDER),
        (chunks("[DONE]"), K.PROVIDER),
        ("", K.NETWORK),
        (chunks({"error": {"code": 429, "message": "slow down"}}), K.RATE_LIMIT),
        (chunks(delta(None, "content_filter"), "[DONE]"), K.CONTENT_FILTER),
    ],
)
def test_a_stream_without_an_answer_is_a_failure(server, body, kind):
    server.fail(status=200, body=body, headers=SSE)
    assert failure(server, "openai").kind is kind


def test_a_key_that_a_stream_s_error_quotes_is_not_told(server):
    key = server.environ()["OPENAI_API_KEY"]
    error = {"error": {"message": f"bad key {key}", "code": "server_error"}}
    server.fail(status=200, body=chunks(delta("a"), error), headers=SSE)
    told = failure(server, "openai")
    assert "bad key [key]" in told.message
    assert key not in told.render() + repr(told.__context__) + repr(told.__cause__)


def test_after_a_broken_stream_the_same_provider_answers(server):
    provider = connect("openai", environ=server.environ())
    request = Request(model="test-model", messages=(Message("user", "x"),))

    async def each():
        try:
            for fault in ("cut", "cut_well", "error_event", "endless_line", "stall"):
                server.fail(kind=fault)
                with pytest.raises(StepError):
                    await provider.complete(
                        request, timeout_s=10, idle_timeout_s=0.1, idempotency_key="k"
                    )
                reply = await provider.complete(request, timeout_s=10, idempotency_key="k")
                assert reply.complete
        finally:
            await provider.aclose()

    anyio.run(each)


# Live counts


@pytest.mark.parametrize("name", SERVED)
def test_an_answer_is_told_while_it_comes_and_seldom(server, name):
    server.fail(kind="slow", piece_s=0.03)
    told = []
    reply = ask(server, name, report=told.append)
    assert told
    assert [progress.pieces for progress in told] == sorted({p.pieces for p in told})
    assert told[-1].characters <= len(reply.text)
    # Some ten pieces, a tenth of a second apart at least.
    assert len(told) <= 6


# In a job


def job(tmp_path, server, **step):
    llm = {"llm": {"prompt": "Name three rivers"}, "retry": {"initial_s": 0}, **step}
    spec = {"project": "p", "provider": "openai", "model": "test-model", "steps": {"a": llm}}
    return run(spec, runs_dir=str(tmp_path), environ=server.environ())


@pytest.mark.parametrize("fault", ["cut", "cut_well", "error_event", "half", "bad_json", "html"])
def test_nothing_half_received_is_kept_and_the_error_says_who_and_what_to_do(
    server, tmp_path, fault
):
    server.fail(kind=fault, times=3)
    result = job(tmp_path, server)
    (failure,) = result.state.failures
    assert failure.kind in ("network", "provider")
    for part in ("openai", "test-model", server.url):
        assert part in failure.message
    assert failure.hint
    assert len(server.calls()) == 3, "three attempts"
    assert not list(tmp_path.glob("job_*/.cache/*.json"))


def test_the_wait_that_a_server_asks_for_is_obeyed(server, tmp_path):
    server.fail(status=429, headers={"retry-after-ms": "400"})
    assert job(tmp_path, server).ok
    first, second = server.calls()
    assert second.started_s - first.ended_s >= 0.4


def test_a_quota_that_does_not_come_back_is_not_tried_again(server, tmp_path):
    server.fail(status=429, code="insufficient_quota", headers={"retry-after": "1"}, times=3)
    result = job(tmp_path, server)
    assert result.state.failures[0].kind == "budget"
    assert len(server.calls()) == 1
