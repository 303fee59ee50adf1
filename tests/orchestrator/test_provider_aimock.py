"""Our providers against a model server that others wrote: the npm package `@copilotkit/aimock`.

It is installed only when asked to: `ORCH_TEST_INSTALL=1 pytest tests/orchestrator/test_provider_aimock.py`
"""  # noqa: E501 - a command

import json
import os
import re
import select
import shutil
import subprocess

import anyio
import pytest

from orchestrator import run
from orchestrator.errors import FailureKind, StepError
from orchestrator.providers import Message, Request, Usage, connect

K = FailureKind
SERVED = ("ollama", "openai", "anthropic", "mlx")
PACKAGE = "@copilotkit/aimock@1.43.0"
INSTALL_MAX_S = 120
START_MAX_S = 30
TEXT = "Rhine, Elbe and Danube, and some more words, so that it is sent in several pieces."
COUNTS = {"prompt_tokens": 11, "completion_tokens": 7, "input_tokens": 11, "output_tokens": 7}
FIXTURES = [
    {"match": {"userMessage": "rivers"}, "response": {"content": TEXT, "usage": COUNTS}},
    {"match": {"userMessage": "long"}, "response": {"content": TEXT, "finishReason": "length"}},
    {"match": {"userMessage": "cut"}, "response": {"content": TEXT}, "truncateAfterChunks": 2},
    {
        "match": {"userMessage": "too fast"},
        "response": {"error": {"message": "slow down"}, "status": 429, "retryAfter": 7},
    },
    {
        "match": {"userMessage": "no quota"},
        "response": {
            "error": {"message": "pay first", "code": "insufficient_quota"},
            "status": 429,
        },
    },
]


def installed():
    """Return the server's script, or skip."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = PACKAGE.rpartition("/")[2]
    folder = os.path.join(cache, "unified-orchestrator-tests", name)
    script = os.path.join(folder, "node_modules", "@copilotkit", "aimock", "dist", "cli.js")
    if not os.path.exists(script):
        if os.environ.get("ORCH_TEST_INSTALL") != "1":
            pytest.skip(f"{PACKAGE} is not installed; ORCH_TEST_INSTALL=1 installs it")
        os.makedirs(folder, exist_ok=True)
        command = [npm, "install", "--prefix", folder, "--ignore-scripts", "--no-audit"]
        command += ["--no-fund", "--loglevel=error", PACKAGE]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, timeout=INSTALL_MAX_S, text=True
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"{PACKAGE} took more than {INSTALL_MAX_S} s to install")
        if done.returncode or not os.path.exists(script):
            pytest.skip(f"{PACKAGE} can't be installed: {done.stderr[-300:]}")
    return [node, script]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    command = installed()
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    command += ["--port", "0", "--fixtures", str(fixtures), "--chunk-size", "10"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        os.set_blocking(process.stdout.fileno(), False)
        said = b""
        while not (found := re.search(rb"listening on (http://127\.0\.0\.1:\d+)", said)):
            ready, _, _ = select.select([process.stdout], [], [], START_MAX_S)
            more = process.stdout.read() if ready else b""
            if not more:
                pytest.skip(f"aimock did not start: {said.decode()[-300:]}")
            said += more
        yield found[1].decode()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.fixture
def environ(url):
    return {
        "OLLAMA_HOST": url,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "test-key-openai",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "test-key-anthropic",
        "MLX_BASE_URL": f"{url}/v1",
    }


def ask(name, environ, prompt, *, stream=True, report=None):
    provider = connect(name, environ=environ)
    messages = (Message("system", "Be short."), Message("user", prompt))
    model = "claude-haiku-4-5" if name == "anthropic" else "gpt-5-mini"
    request = Request(model=model, messages=messages, stream=stream)

    async def once():
        try:
            return await provider.complete(
                request, timeout_s=20, idempotency_key="k", report=report
            )
        finally:
            await provider.aclose()

    return anyio.run(once)


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("stream", [True, False])
def test_another_s_server_is_understood(environ, name, stream):
    told = []
    reply = ask(name, environ, "Name three rivers", stream=stream, report=told.append)
    assert reply.text == TEXT
    assert reply.complete
    assert bool(told) is stream
    # It counts no tokens of its own for ollama.
    counted = Usage(tokens_in=0, tokens_out=0) if name == "ollama" else None
    assert reply.usage == (counted or Usage(tokens_in=11, tokens_out=7))


# For ollama it always says `stop`.
@pytest.mark.parametrize("name", ["openai", "anthropic", "mlx"])
@pytest.mark.parametrize("stream", [True, False])
def test_another_s_cut_answer_is_not_complete(environ, name, stream):
    reply = ask(name, environ, "a long one", stream=stream)
    assert reply.stop_reason == "length"
    assert not reply.complete


@pytest.mark.parametrize("name", SERVED)
def test_another_s_broken_stream_is_a_network_failure(environ, name):
    with pytest.raises(StepError) as caught:
        ask(name, environ, "a cut one")
    assert caught.value.kind is K.NETWORK


@pytest.mark.parametrize("name", SERVED)
def test_another_s_refusals_are_told_apart(environ, name):
    with pytest.raises(StepError, match="slow down") as caught:
        ask(name, environ, "too fast")
    assert caught.value.kind is K.RATE_LIMIT
    assert caught.value.retry_after_s == 7
    with pytest.raises(StepError) as caught:
        ask(name, environ, "never heard of")
    assert caught.value.kind is K.BAD_REQUEST


@pytest.mark.parametrize("name", ["openai", "mlx"])
def test_another_s_used_up_quota_is_not_a_matter_of_waiting(environ, name):
    with pytest.raises(StepError) as caught:
        ask(name, environ, "no quota")
    assert caught.value.kind is K.BUDGET


def test_a_job_runs_on_another_s_server(environ, tmp_path):
    steps = {
        name: {"llm": {"provider": name, "model": "gpt-5-mini", "prompt": "Name three rivers"}}
        for name in SERVED
    }
    result = run({"project": "p", "steps": steps}, runs_dir=str(tmp_path), environ=environ)
    assert result.ok
    assert {output["text"] for output in result.steps.values()} == {TEXT}
