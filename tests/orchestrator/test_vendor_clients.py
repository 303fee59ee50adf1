"""The vendors' own clients talk to our server double, so that it is checked by others' code."""

import pytest

from orchestrator.testing import serve

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}
ASK = [{"role": "user", "content": "Name three rivers"}]
# Each client has its own way to say it, with its own HTTP library below.
CUT = "closed connection|incomplete|[Cc]onnection error"
WHY = "the vendor's client is a development dependency: pip install -e '.[dev]'"


@pytest.fixture(scope="module")
def running():
    with serve() as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


@pytest.fixture
def openai_client(server):
    openai = pytest.importorskip("openai", reason=WHY)
    url = f"{server.url}/v1"
    with openai.OpenAI(base_url=url, api_key="test-key", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(server):
    anthropic = pytest.importorskip("anthropic", reason=WHY)
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def ollama_client(server):
    ollama = pytest.importorskip("ollama", reason=WHY)
    client = ollama.Client(host=server.url)
    yield client
    client._client.close()


def test_openai_s_client_reads_an_answer(openai_client):
    done = openai_client.chat.completions.create(model="test-model", messages=ASK)
    assert done.choices[0].message.content.startswith("Answer to: Name three rivers")
    assert done.choices[0].finish_reason == "stop"
    assert done.usage.prompt_tokens == 5
    assert done.usage.total_tokens == 5 + done.usage.completion_tokens
    assert done._request_id == "req_000000"


def test_openai_s_client_reads_a_stream(openai_client):
    whole = openai_client.chat.completions.create(model="test-model", messages=ASK)
    chunks = list(
        openai_client.chat.completions.create(
            model="test-model", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len(deltas) > 3
    assert "".join(deltas).startswith("Answer to: Name three rivers")
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


def test_openai_s_client_reads_a_structured_answer(openai_client):
    form = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}
    done = openai_client.chat.completions.create(
        model="test-model", messages=ASK, response_format=form
    )
    assert done.choices[0].message.content == '{"name":"text"}'


def test_openai_s_client_reads_errors_and_models(server, openai_client):
    openai = pytest.importorskip("openai", reason=WHY)
    server.fail(status=429, code="insufficient_quota")
    with pytest.raises(openai.RateLimitError) as caught:
        openai_client.chat.completions.create(model="test-model", messages=ASK)
    assert caught.value.code == "insufficient_quota"
    with pytest.raises(openai.BadRequestError):
        openai_client.chat.completions.create(model="test-model", messages=[])
    assert [model.id for model in openai_client.models.list()] == ["test-model", "test-model-large"]


def test_openai_s_client_reads_a_broken_stream(server, openai_client):
    openai = pytest.importorskip("openai", reason=WHY)

    def read():
        return list(
            openai_client.chat.completions.create(model="test-model", messages=ASK, stream=True)
        )

    server.fail(kind="error_event", code="server_error")
    with pytest.raises(openai.APIError, match="an error was asked for"):
        read()
    server.fail(kind="cut")
    with pytest.raises(Exception, match=CUT):
        read()


def test_openai_s_client_reads_the_wait_that_is_asked_for(server, openai_client):
    openai = pytest.importorskip("openai", reason=WHY)
    server.fail(status=429, headers={"retry-after": "3"})
    with pytest.raises(openai.RateLimitError) as caught:
        openai_client.chat.completions.create(model="test-model", messages=ASK)
    assert caught.value.response.headers["retry-after"] == "3"


def test_anthropic_s_client_reads_an_answer(anthropic_client):
    done = anthropic_client.messages.create(model="test-model", messages=ASK, max_tokens=100)
    assert done.content[0].text.startswith("Answer to: Name three rivers")
    assert done.stop_reason == "end_turn"
    assert done.usage.input_tokens == 5
    assert done.usage.output_tokens == (len(done.content[0].text) + 3) // 4
    assert done._request_id == "req_000000"


def test_anthropic_s_client_reads_a_stream(anthropic_client):
    with anthropic_client.messages.stream(
        model="test-model", messages=ASK, max_tokens=100
    ) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 3
    assert "".join(pieces) == final.content[0].text
    assert final.stop_reason == "end_turn"
    assert final.usage.input_tokens == 5
    assert final.usage.output_tokens == (len(final.content[0].text) + 3) // 4


def test_anthropic_s_client_reads_a_structured_answer(anthropic_client):
    done = anthropic_client.messages.create(
        model="test-model",
        messages=ASK,
        max_tokens=100,
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
    )
    assert done.content[0].text == '{"name":"text"}'


def test_anthropic_s_client_reads_errors_and_models(server, anthropic_client):
    anthropic = pytest.importorskip("anthropic", reason=WHY)
    server.fail(status=529)
    with pytest.raises(anthropic.APIStatusError) as caught:
        anthropic_client.messages.create(model="test-model", messages=ASK, max_tokens=100)
    assert caught.value.status_code == 529
    assert caught.value.body["error"]["type"] == "overloaded_error"
    listed = [model.id for model in anthropic_client.models.list()]
    assert listed == ["test-model", "test-model-large"]


def test_anthropic_s_client_reads_a_broken_stream(server, anthropic_client):
    anthropic = pytest.importorskip("anthropic", reason=WHY)

    def read():
        asked = {"model": "test-model", "messages": ASK, "max_tokens": 100}
        with anthropic_client.messages.stream(**asked) as stream:
            return list(stream.text_stream)

    server.fail(kind="error_event", code="overloaded_error")
    with pytest.raises(anthropic.APIStatusError, match="an error was asked for"):
        read()
    server.fail(kind="cut")
    with pytest.raises(Exception, match=CUT):
        read()


def test_ollama_s_client_reads_an_answer(ollama_client):
    done = ollama_client.chat(model="test-model", messages=ASK)
    assert done.message.content.startswith("Answer to: Name three rivers")
    assert done.done_reason == "stop"
    assert done.prompt_eval_count == 5
    assert done.eval_count == (len(done.message.content) + 3) // 4


def test_ollama_s_client_reads_a_stream(ollama_client):
    parts = list(ollama_client.chat(model="test-model", messages=ASK, stream=True))
    assert len(parts) > 3
    text = "".join(part.message.content for part in parts)
    assert text.startswith("Answer to: Name three rivers")
    assert parts[-1].done
    assert parts[-1].prompt_eval_count == 5


def test_ollama_s_client_reads_a_structured_answer(ollama_client):
    done = ollama_client.chat(model="test-model", messages=ASK, format=SCHEMA)
    assert done.message.content == '{"name":"text"}'


def test_ollama_s_client_reads_errors_and_models(server, ollama_client):
    ollama = pytest.importorskip("ollama", reason=WHY)
    server.fail(status=404, body={"error": "model 'x' not found"})
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        ollama_client.chat(model="x", messages=ASK)
    assert caught.value.status_code == 404
    assert ollama_client.list().models[0].model == "test-model:latest"


def test_ollama_s_client_reads_a_broken_stream(server, ollama_client):
    ollama = pytest.importorskip("ollama", reason=WHY)

    def read():
        return list(ollama_client.chat(model="test-model", messages=ASK, stream=True))

    server.fail(kind="error_event")
    with pytest.raises(ollama.ResponseError, match="an error was asked for"):
        read()
    server.fail(kind="cut")
    with pytest.raises(Exception, match=CUT):
        read()
