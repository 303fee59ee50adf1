"""Each fault of a server, over a real socket: one failure kind, a clear error, no hang."""

import socket
import time
import tracemalloc
from email.utils import formatdate

import anyio
import pytest

from orchestrator.errors import FailureKind, StepError
from orchestrator.providers import Message, Request, connect, failures
from orchestrator.retry import RETRIED
from orchestrator.testing import serve

K = FailureKind
SERVED = ("ollama", "openai", "anthropic")


@pytest.fixture(scope="module")
def running():
    with serve() as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


def failure(provider, timeout_s=10.0):
    request = Request(model="test-model", messages=(Message("user", "x"),))

    async def once():
        try:
            await provider.complete(request, timeout_s=timeout_s, idempotency_key="k")
        finally:
            await provider.aclose()

    with pytest.raises(StepError) as caught:
        anyio.run(once)
    return caught.value


def refused_port():
    """A port that nobody listens on: bound once, and closed again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


STATUSES = [
    (302, K.BAD_REQUEST),
    (400, K.BAD_REQUEST),
    (401, K.AUTH),
    (402, K.BUDGET),
    (403, K.AUTH),
    (404, K.BAD_REQUEST),
    (408, K.TIMEOUT),
    (413, K.CONTEXT_LENGTH),
    (418, K.BAD_REQUEST),
    (422, K.BAD_REQUEST),
    (429, K.RATE_LIMIT),
    (500, K.PROVIDER),
    (502, K.PROVIDER),
    (503, K.OVERLOADED),
    (504, K.TIMEOUT),
    (507, K.PROVIDER),
    (529, K.OVERLOADED),
]


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_a_status_is_one_failure_kind(server, name, status, kind):
    server.fail(status=status)
    error = failure(connect(name, environ=server.environ()))
    assert error.kind is kind
    # Who, what and where; and what the server said.
    for part in (name, "test-model", f"HTTP {status}", f"status {status} was asked for"):
        assert part in error.message
    assert error.place.startswith(server.url)


EXCHANGES = [
    ("reset", K.NETWORK, "connection broke"),
    ("half", K.NETWORK, "connection broke"),
    ("html", K.PROVIDER, "text/html"),
    ("content_type", K.PROVIDER, "text/plain"),
    ("bad_json", K.PROVIDER, "no valid JSON"),
    ("gzip_bomb", K.PROVIDER, "longer than 32 MiB"),
    ("endless", K.PROVIDER, "longer than 32 MiB"),
    ("endless_headers", K.NETWORK, "connection broke"),
    ("endless_line", K.PROVIDER, "longer than 8 MiB"),
]


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize(("fault", "kind", "said"), EXCHANGES)
def test_a_broken_exchange_is_one_failure_kind(server, name, fault, kind, said):
    server.fail(kind=fault)
    error = failure(connect(name, environ=server.environ()))
    assert error.kind is kind
    assert said in error.message
    assert RETRIED[error.kind]


@pytest.mark.parametrize("fault", ["drip", "hang"])
def test_an_answer_that_does_not_end_meets_the_deadline(server, fault):
    server.fail(kind=fault)
    began = time.monotonic()
    error = failure(connect("openai", environ=server.environ()), timeout_s=0.3)
    assert error.kind is K.TIMEOUT
    assert "0.3 s" in error.message
    # Far below what either fault would take.
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("fault", ["gzip_bomb", "endless", "endless_headers", "endless_line"])
def test_an_answer_of_any_length_takes_little_memory(server, fault):
    server.fail(kind=fault)
    provider = connect("openai", environ=server.environ())
    tracemalloc.start()
    try:
        failure(provider)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The bomb unpacks to 300 MiB, the others don't end; what is kept stops at 32.
    assert peak < 80 * 2**20


@pytest.mark.parametrize(
    ("name", "variable", "hint"),
    [
        ("ollama", "OLLAMA_HOST", "ollama serve"),
        ("openai", "OPENAI_BASE_URL", "start the server"),
        ("anthropic", "ANTHROPIC_BASE_URL", "start the server"),
        ("mlx", "MLX_BASE_URL", "mlx_lm.server"),
    ],
)
def test_a_refused_connection_says_how_to_start_the_server(name, variable, hint):
    url = f"http://127.0.0.1:{refused_port()}"
    error = failure(connect(name, environ={variable: url}))
    assert error.kind is K.NETWORK
    assert "connection refused" in error.message
    assert hint in error.hint
    assert variable in error.hint
    assert error.place.startswith(url)


def test_a_host_that_does_not_exist_is_a_network_failure():
    # Names under .invalid never exist; nothing has to leave this machine to know it.
    error = failure(connect("openai", base_url="https://nowhere.invalid/v1", environ={}))
    assert error.kind is K.NETWORK
    assert "no connection" in error.message or "host name is not known" in error.message


def test_a_name_that_the_resolver_does_not_know_is_told_as_that(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = failure(connect("openai", base_url="https://nowhere.invalid/v1", environ={}))
    assert error.kind is K.NETWORK
    assert "host name is not known" in error.message


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("context_length_exceeded", 400, K.CONTEXT_LENGTH),
        ("insufficient_quota", 429, K.BUDGET),
        ("content_filter", 400, K.CONTENT_FILTER),
        ("model_not_found", 404, K.BAD_REQUEST),
        ("rate_limit_exceeded", 429, K.RATE_LIMIT),
    ],
)
def test_openai_s_error_code_decides_before_the_status(server, code, status, kind):
    server.fail(status=status, code=code)
    error = failure(connect("openai", environ=server.environ()))
    assert error.kind is kind
    assert code in error.message


def test_the_text_of_a_refusal_decides_nothing(server):
    said = "context_length_exceeded: insufficient_quota, please retry, rate limit"
    server.fail(status=400, body={"error": {"message": said}})
    assert failure(connect("openai", environ=server.environ())).kind is K.BAD_REQUEST


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": 429, "message": "slow down"}}, K.RATE_LIMIT),
        ({"error": {"code": "context_length_exceeded"}}, K.CONTEXT_LENGTH),
        ({"error": "out of luck"}, K.PROVIDER),
        ({"choices": []}, K.PROVIDER),
        ({"choices": None}, K.PROVIDER),
        ({"choices": "many"}, K.PROVIDER),
        ([], K.PROVIDER),
        ({}, K.PROVIDER),
    ],
)
def test_a_success_without_an_answer_is_a_failure(server, body, kind):
    server.fail(status=200, body=body)
    assert failure(connect("openai", environ=server.environ())).kind is kind


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("openai", {"choices": [{"message": {"refusal": "I will not"}, "finish_reason": "stop"}]}),
        ("openai", {"choices": [{"message": {}, "finish_reason": "content_filter"}]}),
        ("anthropic", {"content": [], "stop_reason": "refusal"}),
    ],
)
def test_a_withheld_answer_is_a_content_filter(server, name, body):
    server.fail(status=200, body=body)
    error = failure(connect(name, environ=server.environ()))
    assert error.kind is K.CONTENT_FILTER


def test_an_unknown_model_of_ollama_says_how_to_fetch_it(server):
    server.fail(status=404)
    error = failure(connect("ollama", environ=server.environ()))
    assert "ollama pull test-model" in error.hint


def test_a_redirect_is_not_followed(server):
    server.fail(status=307, headers={"location": f"{server.url}/v1/chat/completions"})
    error = failure(connect("openai", environ=server.environ()))
    assert "redirects are not followed" in error.hint
    assert len(server.calls()) == 1


def test_what_a_server_says_is_one_bounded_line(server):
    server.fail(status=500, body={"error": {"message": "\x1b[31mred\nalert " + "x" * 9000}})
    error = failure(connect("openai", environ=server.environ()))
    assert "[31mred alert" in error.message
    assert error.message.isprintable()
    assert len(error.message) < 700


def test_a_refusal_in_plain_text_is_told_and_a_page_is_not(server):
    provider = connect("openai", environ=server.environ())
    server.fail(status=503, body="upstream is asleep")
    assert "upstream is asleep" in failure(provider).message
    page = {"content-type": "text/html"}
    server.fail(status=502, body="<html><b>Bad gateway</b></html>", headers=page)
    error = failure(provider)
    assert error.kind is K.PROVIDER
    assert "<" not in error.message


def test_a_refusal_whose_body_can_not_be_read_keeps_its_status(server):
    provider = connect("openai", environ=server.environ())
    server.fail(status=429, body="x" * 10, headers={"content-encoding": "gzip"})
    assert failure(provider).kind is K.RATE_LIMIT
    server.fail(status=401, body="x" * 200_000)
    assert failure(provider).kind is K.AUTH


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "86400"}, 300),
        ({"retry-after": "1e999"}, 300),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_a_server_asks_for_comes_with_the_error(server, headers, wait):
    server.fail(status=429, headers=headers)
    assert failure(connect("anthropic", environ=server.environ())).retry_after_s == wait


def test_the_wait_may_be_a_date():
    now = 1_800_000_000.0
    headers = {"retry-after": formatdate(now + 20, usegmt=True)}
    assert failures.retry_after_s(headers, now) == 20
    past = {"retry-after": formatdate(now - 20, usegmt=True)}
    assert failures.retry_after_s(past, now) == 0


def test_a_date_is_measured_from_now(server):
    server.fail(status=429, headers={"retry-after": formatdate(time.time() + 100, usegmt=True)})
    wait = failure(connect("openai", environ=server.environ())).retry_after_s
    assert 30 < wait <= 100


def test_after_a_fault_the_same_provider_answers(server):
    provider = connect("openai", environ=server.environ())
    request = Request(model="test-model", messages=(Message("user", "x"),))

    async def each():
        try:
            for fault in ("reset", "half", "html", "bad_json", "gzip_bomb"):
                server.fail(kind=fault)
                with pytest.raises(StepError):
                    await provider.complete(request, timeout_s=10, idempotency_key="k")
                reply = await provider.complete(request, timeout_s=10, idempotency_key="k")
                assert reply.complete
        finally:
            await provider.aclose()

    anyio.run(each)
