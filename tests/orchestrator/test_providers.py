"""Providers over a real socket: addresses and keys, wire formats, and calls that overlap."""

import subprocess
import sys

import anyio
import pytest

from orchestrator.errors import ConfigError, ExitCode, FailureKind, StepError
from orchestrator.providers import NAMES, Message, Request, connect
from orchestrator.providers.base import Usage
from orchestrator.testing import serve

SERVED = ("ollama", "openai", "anthropic", "mlx")
KEYS = {"OPENAI_API_KEY": "sk-canary-1", "ANTHROPIC_API_KEY": "sk-canary-2"}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["name", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def running():
    with serve() as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


def hello(prompt="Name three rivers", **fields):
    messages = (Message("system", "Be short."), Message("user", prompt))
    return Request(**{"model": "test-model", "messages": messages, **fields})


def ask(provider, request, timeout_s=10.0):
    async def once():
        try:
            return await provider.complete(request, timeout_s=timeout_s, idempotency_key="idem-1")
        finally:
            await provider.aclose()

    return anyio.run(once)


# Addresses


@pytest.mark.parametrize(
    ("name", "environ", "base_url"),
    [
        ("ollama", {}, "http://127.0.0.1:11434"),
        ("ollama", {"OLLAMA_HOST": "localhost"}, "http://localhost:11434"),
        ("ollama", {"OLLAMA_HOST": "127.0.0.1:8000"}, "http://127.0.0.1:8000"),
        ("ollama", {"OLLAMA_HOST": "0.0.0.0"}, "http://127.0.0.1:11434"),
        ("ollama", {"OLLAMA_HOST": ":9000"}, "http://127.0.0.1:9000"),
        ("ollama", {"OLLAMA_HOST": "::1"}, "http://[::1]:11434"),
        ("ollama", {"OLLAMA_HOST": "[::1]:9000/base/"}, "http://[::1]:9000/base"),
        ("ollama", {"OLLAMA_HOST": "https://models.example.org"}, "https://models.example.org"),
        ("ollama", {"OLLAMA_HOST": ""}, "http://127.0.0.1:11434"),
        ("openai", {}, "https://api.openai.com/v1"),
        ("openai", {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1/"}, "http://127.0.0.1:1/v1"),
        ("openai", {"OPENAI_BASE_URL": "http://127.0.0.1:1"}, "http://127.0.0.1:1/v1"),
        ("openai", {"OPENAI_BASE_URL": "https://h.example/api/v2"}, "https://h.example/api/v2"),
        ("anthropic", {}, "https://api.anthropic.com"),
        ("anthropic", {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1/v1"}, "http://127.0.0.1:1"),
        ("mlx", {}, "http://127.0.0.1:8080/v1"),
        ("mlx", {"MLX_BASE_URL": "http://localhost:9"}, "http://localhost:9/v1"),
        ("mlx", {"MLX_BASE_URL": "http://localhost:9/v1"}, "http://localhost:9/v1"),
    ],
)
def test_a_server_is_where_the_environment_or_the_vendor_says(name, environ, base_url):
    assert connect(name, environ=environ).base_url == base_url


def test_the_base_url_of_a_spec_goes_first():
    environ = {"OLLAMA_HOST": "127.0.0.1:1"}
    provider = connect("ollama", base_url="http://127.0.0.1:2", environ=environ)
    assert provider.base_url == "http://127.0.0.1:2"


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "nonsense",
        "ftp://127.0.0.1",
        "https://",
        "https://exa mple.org",
        "https://host:port",
        "https://host:99999",
        "https://user:hunter2@api.openai.com/v1",
        "https://api.openai.com/v1?key=hunter2",
        "https://api.openai.com/v1#hunter2",
        "https://api.openai.com/../x",
        "https://api.openai.com/v1\r\nx: y",
    ],
)
def test_a_malformed_address_is_refused_without_being_quoted(base_url):
    with pytest.raises(ConfigError) as caught:
        connect("openai", base_url=base_url, environ={})
    assert caught.value.exit_code is ExitCode.PROVIDER
    assert "base_url" in caught.value.place
    assert "hunter2" not in caught.value.render()


@pytest.mark.parametrize("name", SERVED)
def test_plain_http_leaves_this_machine_only_when_allowed(name):
    with pytest.raises(ConfigError, match="plain http") as caught:
        connect(name, base_url="http://192.0.2.7:1/v1", environ={})
    assert "ORCH_ALLOW_HTTP=1" in caught.value.hint
    environ = {"ORCH_ALLOW_HTTP": "1"}
    assert connect(name, base_url="http://192.0.2.7:1/v1", environ=environ)


def test_an_unknown_provider_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError) as caught:
        connect("olama", environ={})
    assert "`ollama`" in caught.value.hint
    assert all(name in caught.value.hint for name in NAMES)


# Keys


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_missing_key_is_told_before_any_call(name):
    provider = connect(name, environ={})
    with pytest.raises(ConfigError) as caught:
        provider.check()
    assert f"{name.upper()}_API_KEY" in caught.value.message
    assert "provider: offline" in caught.value.hint
    assert caught.value.exit_code is ExitCode.PROVIDER


def test_a_local_server_of_openai_s_protocol_needs_no_key(server):
    provider = connect("openai", base_url=server.url, environ={})
    provider.check()
    assert ask(provider, hello()).text
    assert "authorization" not in server.calls()[0].headers


@pytest.mark.parametrize("name", ["offline", "ollama", "mlx"])
def test_some_providers_need_no_key_at_all(name):
    connect(name, environ={}).check()


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_spec_can_not_send_a_key_elsewhere(name):
    with pytest.raises(ConfigError, match=f"{name.upper()}_API_KEY") as caught:
        connect(name, base_url="https://collector.example.org/v1", environ=KEYS)
    assert "sk-canary" not in caught.value.render()


@pytest.mark.parametrize(
    ("name", "base_url", "variable"),
    [
        ("openai", "https://api.openai.com/v1", None),
        ("openai", "http://127.0.0.1:1/v1", None),
        ("openai", "https://mine.example.org/other", "OPENAI_BASE_URL"),
        ("anthropic", "https://mine.example.org", "ANTHROPIC_BASE_URL"),
    ],
)
def test_a_key_goes_to_the_vendor_to_this_machine_and_where_the_user_says(name, base_url, variable):
    environ = KEYS | ({variable: "https://mine.example.org/v1"} if variable else {})
    connect(name, base_url=base_url, environ=environ).check()


def test_a_server_elsewhere_that_needs_no_key_may_be_called_without_one():
    connect("openai", base_url="https://free.example.org/v1", environ={}).check()


def test_a_key_with_a_line_break_is_refused_without_being_quoted():
    with pytest.raises(ConfigError) as caught:
        connect("openai", environ={"OPENAI_API_KEY": "sk-canary-1\nx-evil: 1"})
    assert "canary" not in caught.value.render()


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_key_shows_in_the_header_and_nowhere_else(server, name):
    environ = server.environ() | KEYS
    provider = connect(name, environ=environ)
    assert "canary" not in repr(provider)
    assert "canary" not in repr(vars(provider))
    assert "canary" not in str(provider.body(hello()))
    said = f"bad key {environ[name.upper() + '_API_KEY']}"
    server.fail(status=401, body={"error": {"message": said}})
    with pytest.raises(StepError) as caught:
        ask(provider, hello())
    shown = [repr(caught.value), caught.value.render(), repr(caught.value.__context__)]
    assert "canary" not in "".join(shown)
    assert "bad key [key]" in caught.value.message
    header = {"openai": "authorization", "anthropic": "x-api-key"}[name]
    assert server.calls()[0].headers[header] == "[key]"


def test_a_stand_in_for_a_key_is_not_cut_out_of_what_errors_say(server):
    server.fail(status=401, body={"error": {"message": "broken"}})
    with pytest.raises(StepError) as caught:
        ask(connect("openai", environ=server.environ() | {"OPENAI_API_KEY": "k"}), hello())
    assert "broken" in caught.value.message


def test_no_other_provider_sends_a_key(server):
    for name in ("ollama", "mlx"):
        ask(connect(name, environ=server.environ()), hello())
    for call in server.calls():
        assert "[key]" not in call.headers.values()


# Wire formats


@pytest.mark.parametrize("name", SERVED)
def test_a_call_brings_text_usage_and_the_model_s_name(server, name):
    reply = ask(connect(name, environ=server.environ()), hello())
    assert reply.text.startswith("Answer to: Name three rivers")
    assert reply.complete
    assert not reply.simulated
    assert reply.model == "test-model"
    assert reply.usage.tokens_in == 5
    assert reply.usage.tokens_out == (len(reply.text) + 3) // 4
    ids = {"openai": "req_000000", "mlx": "req_000000", "anthropic": "req_000000"}
    assert reply.request_id == ids.get(name)


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("schema", [None, SCHEMA])
def test_body_is_exactly_what_is_sent(server, name, schema):
    options = {"temperature": 0.5, "max_tokens": 50, "stop": "END", "seed": 7, "top_p": 0.9}
    provider = connect(name, environ=server.environ())
    request = hello(options=options, schema=schema)
    ask(provider, request)
    assert server.calls()[0].body == provider.body(request)


def test_ollama_s_body():
    options = {"temperature": 0, "max_tokens": 9, "stop": "END", "keep_alive": "5m", "num_ctx": 99}
    body = connect("ollama", environ={}).body(hello(options=options, schema=SCHEMA))
    assert body == {
        "model": "test-model",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Name three rivers"},
        ],
        "stream": True,
        "format": SCHEMA,
        "options": {"temperature": 0, "num_predict": 9, "stop": ["END"], "num_ctx": 99},
        "keep_alive": "5m",
    }


def test_openai_s_body():
    here = connect("openai", base_url="http://127.0.0.1:1", environ={})
    body = here.body(hello(options={"max_tokens": 9, "stop": "END"}, schema=SCHEMA))
    assert body["max_tokens"] == 9
    assert body["stop"] == "END"
    assert body["messages"][0] == {"role": "system", "content": "Be short."}
    form = {"name": "answer", "strict": True, "schema": SCHEMA}
    assert body["response_format"] == {"type": "json_schema", "json_schema": form}


def test_the_vendor_itself_gets_the_newer_name_of_max_tokens():
    body = connect("openai", environ={}).body(hello(options={"max_tokens": 9}))
    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body


@pytest.mark.parametrize(
    "change",
    [
        {"required": ["name"]},
        {"additionalProperties": True},
        {"properties": {"name": {"type": "object"}, "count": {}}},
    ],
)
def test_a_schema_that_openai_would_refuse_as_strict_is_sent_as_a_wish(change):
    body = connect("openai", environ={}).body(hello(schema=SCHEMA | change))
    assert body["response_format"]["json_schema"]["strict"] is False


def test_anthropic_s_body():
    schema = {"type": "object", "properties": {"inner": {"type": "object"}}}
    options = {"stop": "END", "output_config": {"effort": "low"}}
    body = connect("anthropic", environ={}).body(hello(options=options, schema=schema))
    inner = {"type": "object", "additionalProperties": False}
    closed = {"type": "object", "properties": {"inner": inner}, "additionalProperties": False}
    assert body == {
        "model": "test-model",
        "messages": [{"role": "user", "content": "Name three rivers"}],
        "stream": True,
        "system": "Be short.",
        "max_tokens": 4096,
        "stop_sequences": ["END"],
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": closed}},
    }


def test_mlx_always_gets_a_limit_and_is_told_the_schema_in_words():
    provider = connect("mlx", environ={})
    assert provider.body(hello())["max_tokens"] == 1024
    assert provider.body(hello(options={"max_tokens": 5}))["max_tokens"] == 5
    body = provider.body(hello(schema=SCHEMA))
    assert "response_format" not in body
    assert '"count"' in body["messages"][0]["content"]
    assert body["messages"][0]["content"].startswith("Be short.")


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("option", ["model", "messages", "stream"])
def test_an_option_can_not_replace_what_the_request_says(name, option):
    with pytest.raises(StepError, match=option) as caught:
        connect(name, environ={}).body(hello(options={option: True}))
    assert caught.value.kind is FailureKind.BAD_REQUEST


@pytest.mark.parametrize("name", SERVED)
def test_an_option_without_a_value_means_the_default(name):
    provider = connect(name, environ={})
    assert provider.body(hello(options={"max_tokens": None})) == provider.body(hello())


def test_the_idempotency_key_goes_to_those_that_take_one(server):
    for name in SERVED:
        ask(connect(name, environ=server.environ()), hello())
    sent = {call.path: call.headers.get("idempotency-key") for call in server.calls()}
    assert sent == {
        "/api/chat": None,
        "/v1/chat/completions": "idem-1",
        "/v1/messages": "idem-1",
    }


@pytest.mark.parametrize("name", SERVED)
def test_a_cut_answer_is_not_complete(server, name):
    reply = ask(connect(name, environ=server.environ()), hello(options={"max_tokens": 3}))
    assert reply.stop_reason == "length"
    assert reply.usage.tokens_out == 3
    assert not reply.complete


def test_anthropic_s_input_tokens_count_what_its_cache_read_and_took(server):
    usage = {
        "input_tokens": 10,
        "output_tokens": 4,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]
    content.append({"type": "text", "text": "b"})
    server.fail(status=200, body={"content": content, "stop_reason": "end_turn", "usage": usage})
    reply = ask(connect("anthropic", environ=server.environ()), hello())
    assert reply.text == "ab"
    assert reply.usage == Usage(
        tokens_in=130,
        tokens_out=4,
        tokens_cache_read=100,
        tokens_cache_write=20,
        tokens_reasoning=3,
    )


def test_openai_s_usage_details_are_kept(server):
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 6},
    }
    choice = {"message": {"content": [{"type": "text", "text": "a"}]}, "finish_reason": "stop"}
    server.fail(status=200, body={"choices": [choice], "usage": usage})
    reply = ask(connect("openai", environ=server.environ()), hello())
    assert reply.text == "a"
    assert reply.usage == Usage(tokens_in=9, tokens_out=8, tokens_cache_read=7, tokens_reasoning=6)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ollama", {"message": {"content": "a"}, "done": True}),
        ("openai", {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}),
        ("anthropic", {"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}),
    ],
)
def test_tokens_that_nobody_counted_are_unknown(server, name, body):
    server.fail(status=200, body=body)
    reply = ask(connect(name, environ=server.environ()), hello())
    assert reply.complete
    assert reply.usage == Usage()


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("ollama", {"message": {"tool_calls": [{}]}, "done": True}, "tool_calls"),
        ("openai", {"choices": [{"message": {}, "finish_reason": "tool_calls"}]}, "tool_calls"),
        ("openai", {"choices": [{"message": {}}]}, None),
        ("anthropic", {"content": [], "stop_reason": "tool_use"}, "tool_calls"),
        ("anthropic", {"content": [], "stop_reason": "stop_sequence"}, "stop"),
        ("anthropic", {"content": [], "stop_reason": "pause_turn"}, "pause_turn"),
    ],
)
def test_stop_reasons_are_told_in_our_words(server, name, body, reason):
    server.fail(status=200, body=body)
    assert ask(connect(name, environ=server.environ()), hello()).stop_reason == reason


# Overlap


@pytest.mark.parametrize("name", SERVED)
def test_two_calls_overlap(name):
    with serve(delay_s=0.2) as server:
        anyio.run(many, connect(name, environ=server.environ()), 2)
        assert server.max_concurrency() == 2


def test_a_hundred_calls_overlap():
    with serve(delay_s=0.05) as server:
        provider = connect("openai", environ=server.environ())
        anyio.run(many, provider, 100)
        assert len(server.calls()) == 100
        assert server.max_concurrency() >= 50


async def many(provider, count):
    async def one(number):
        await provider.complete(hello(f"call {number}"), timeout_s=30, idempotency_key="k")

    async with anyio.create_task_group() as calls:
        for number in range(count):
            calls.start_soon(one, number)
    await provider.aclose()


def test_calls_one_after_another_share_a_connection(server):
    provider = connect("openai", environ=server.environ())

    async def three():
        for _ in range(3):
            await provider.complete(hello(), timeout_s=10, idempotency_key="k")
        await provider.aclose()

    anyio.run(three)
    assert len({call.connection for call in server.calls()}) == 1


def test_a_provider_can_be_used_in_one_loop_after_another(server):
    provider = connect("ollama", environ=server.environ())
    assert ask(provider, hello()).text == ask(provider, hello()).text


def test_a_cancelled_call_leaves_the_provider_usable(server):
    server.fail(kind="hang")
    provider = connect("ollama", environ=server.environ())

    async def cancel_then_ask():
        with anyio.move_on_after(0.05) as scope:
            await provider.complete(hello(), timeout_s=10, idempotency_key="k")
        assert scope.cancelled_caught
        try:
            return await provider.complete(hello(), timeout_s=10, idempotency_key="k")
        finally:
            await provider.aclose()

    assert anyio.run(cancel_then_ask).complete


# Imports


def test_httpx_is_loaded_by_the_first_call_and_not_before():
    code = (
        "import sys\n"
        "from orchestrator.providers import connect, Request, Message\n"
        "for name in ('offline', 'ollama', 'openai', 'anthropic', 'mlx'):\n"
        "    provider = connect(name, environ={})\n"
        "    provider.body(Request(model='echo', messages=(Message('user', 'x'),)))\n"
        "print('httpx' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
