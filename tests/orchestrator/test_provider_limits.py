"""What a provider may be asked: never more in any minute, first come first served, and no more of
a server that fails. Time leaps; only the jobs at the end have real sockets."""

import json
import math

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import leaping

from orchestrator import run
from orchestrator.errors import FailureKind, SpecError, StepError
from orchestrator.providers import Message, Reply, Request, Usage, limits
from orchestrator.providers.gate import Gates, NotCalled, estimate
from orchestrator.providers.limits import (
    COOLDOWN_S,
    OPEN_AFTER,
    PATIENCE,
    Breaker,
    Limits,
    ProviderLimits,
    Window,
)
from orchestrator.spec import parse_spec
from orchestrator.testing import serve

K = FailureKind

# The window


@given(
    st.integers(1, 5),
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 60)), max_size=30),
)
def test_no_minute_holds_more_than_the_limits(requests, tokens, calls):
    window = Window(Limits(requests_per_minute=requests, tokens_per_minute=tokens))
    now = 0.0
    begun = []
    for gap, size in calls:
        now += gap
        wait = window.wait_s(now, size)
        assert 0 <= wait <= 60 + 1e-6
        now += wait
        assert window.wait_s(now, size) < 1e-6, "a call that has waited may go"
        window.enter(now, size)
        begun.append((now, size))
    for at, size in begun:
        inside = [s for t, s in begun if at - 60 + 1e-6 < t <= at]
        assert len(inside) <= requests
        # A call that is larger than the limit goes alone.
        assert sum(inside) <= tokens or inside == [size]


def test_without_limits_nothing_waits_and_nothing_is_kept():
    window = Window(Limits())
    for number in range(1000):
        assert window.wait_s(0.0, 10**9) == 0
        window.enter(float(number), 10**9)
    assert not window._calls


def test_what_a_call_really_took_replaces_the_estimate():
    window = Window(Limits(tokens_per_minute=100))
    call = window.enter(0.0, 90)
    assert window.wait_s(1.0, 20) == 59
    window.settle(call, 30)
    assert window.wait_s(1.0, 20) == 0
    assert window.wait_s(61.0, 100) == 0
    window.settle(call, 10**6)  # long forgotten
    assert window.wait_s(61.0, 100) == 0


# The breaker


def opened(kind=K.OVERLOADED):
    breaker = Breaker()
    for number in range(OPEN_AFTER):
        assert not breaker.open
        breaker.enter()
        assert breaker.leave(0.0, kind, probe=False) is (number == OPEN_AFTER - 1)
    return breaker


@pytest.mark.parametrize("kind", [K.TIMEOUT, K.OVERLOADED, K.NETWORK, K.PROVIDER])
def test_a_breaker_opens_after_failures_in_a_row(kind):
    breaker = opened(kind)
    assert breaker.wait_s(0.0) == COOLDOWN_S
    assert breaker.wait_s(COOLDOWN_S) == 0


@pytest.mark.parametrize("kind", [None, K.BAD_REQUEST, K.RATE_LIMIT, K.INVALID_OUTPUT])
def test_any_answer_begins_the_count_anew(kind):
    breaker = Breaker()
    for _ in range(OPEN_AFTER * 2):
        breaker.leave(0.0, K.NETWORK, probe=False)
        breaker.leave(0.0, kind, probe=False)
    assert not breaker.open


def test_half_open_lets_one_probe_out_and_its_answer_closes():
    breaker = opened()
    assert breaker.enter()
    assert breaker.wait_s(COOLDOWN_S) == math.inf
    assert not breaker.leave(COOLDOWN_S, None, probe=True)
    assert not breaker.open
    assert breaker.wait_s(COOLDOWN_S) == 0


def test_a_probe_in_vain_doubles_the_wait_and_a_cancelled_one_says_nothing():
    breaker = opened()
    assert breaker.enter()
    assert not breaker.leave(COOLDOWN_S, K.CANCELLED, probe=True)
    assert breaker.wait_s(COOLDOWN_S) == 0
    assert breaker.enter()
    assert breaker.leave(COOLDOWN_S, K.NETWORK, probe=True)
    assert breaker.wait_s(COOLDOWN_S) == 2 * COOLDOWN_S


def test_after_enough_probes_in_vain_calls_are_refused_until_one_is_due():
    breaker = opened()
    now = 0.0
    for _ in range(PATIENCE):
        assert not breaker.refuses(now)
        now += breaker.wait_s(now)
        assert breaker.enter()
        assert breaker.leave(now, K.NETWORK, probe=True)
    assert breaker.refuses(now)
    now += breaker.due_in_s(now)
    assert not breaker.refuses(now)
    assert breaker.enter()
    assert breaker.refuses(now), "while the probe is out"
    breaker.leave(now, None, probe=True)
    assert not breaker.refuses(now)


# The gate


class Fake:
    name = "openai"
    base_url = "http://127.0.0.1:1/v1"
    simulated = False


REQUEST = Request(model="m", messages=(Message("user", "x" * 40),))
ANSWER = Reply(text="", model="m", stop_reason="stop")


def error(kind, retry_after_s=None):
    return StepError("no", kind=kind, retry_after_s=retry_after_s)


class Calls:
    """Calls through one set of gates, each with its begin, and what it had waited for."""

    def __init__(self, **limits):
        self.warned = []
        self.gates = Gates({"openai": ProviderLimits(**limits)}, self.warned.append)
        self.begun = []
        self.waits = []
        self.now = 0
        self.most = 0

    async def one(self, seconds=1.0, outcome=ANSWER, request=REQUEST):
        async with self.gates.passage(Fake(), request) as passage:
            self.begun.append(anyio.current_time())
            self.waits.append((passage.waited_s, passage.waited_for))
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await anyio.sleep(seconds)
                passage.ended(outcome)
            finally:
                self.now -= 1

    async def many(self, count, **how):
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(lambda: self.one(**how))
        self.begun = [round(at - began, 6) for at in self.begun]


def test_without_limits_all_go_at_once():
    calls = Calls()
    leaping(lambda: calls.many(50))
    assert calls.most == 50
    assert set(calls.waits) == {(0.0, "")}


def test_no_more_calls_than_the_limit_are_out_at_once():
    calls = Calls(concurrency=3)
    leaping(lambda: calls.many(7))
    assert calls.most == 3
    assert calls.begun == [0, 0, 0, 1, 1, 1, 2]
    assert calls.waits[3:] == [(pytest.approx(1), "concurrency")] * 3 + [
        (pytest.approx(2), "concurrency")
    ]


def test_calls_beyond_a_minute_s_number_wait_for_the_next_in_order():
    calls = Calls(requests_per_minute=2)
    leaping(lambda: calls.many(5))
    assert calls.begun == [0, 0, 60, 60, 120]
    assert [cause for _, cause in calls.waits] == ["", "", "rate", "rate", "rate"]
    assert calls.waits[-1][0] == pytest.approx(120)


def test_tokens_are_estimated_and_then_counted():
    assert estimate(REQUEST) == 11
    limited = Request(model="m", messages=(), options={"max_tokens": 50})
    assert estimate(limited) == 51
    calls = Calls(tokens_per_minute=30)
    small = Reply(text="", model="m", usage=Usage(tokens_in=1, tokens_out=4))
    leaping(lambda: calls.many(6, outcome=small))
    # Two estimates of 11 fit at once; when they turn out to be 5 there is room for more.
    assert calls.begun[:2] == [0, 0]
    assert calls.begun[2] == 60 or calls.begun[2] == 1
    assert len([at for at in calls.begun if at < 60]) > 2


def test_a_model_s_own_limit_keeps_no_other_model_waiting():
    other = Request(model="other", messages=())
    calls = Calls(models={"m": Limits(concurrency=1)})

    async def both():
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for request in (REQUEST, REQUEST, other, other):
                group.start_soon(lambda request=request: calls.one(request=request))
        calls.begun = [round(at - began, 6) for at in calls.begun]

    leaping(both)
    assert calls.begun == [0, 0, 0, 1]


def test_a_cancelled_call_leaves_its_place_to_the_next():
    calls = Calls(concurrency=1)

    async def cancelled():
        async with anyio.create_task_group() as group:
            with anyio.move_on_after(0.5):
                await calls.one(100)
            group.start_soon(calls.one)
            await anyio.sleep(0.1)
            with anyio.move_on_after(0.1):  # this one is cancelled in the line
                await calls.one()
        await calls.one()

    leaping(cancelled)
    assert len(calls.begun) == 3


def test_when_a_server_asks_for_a_wait_nobody_calls_it_before():
    calls = Calls()

    async def asked():
        await calls.one(outcome=error(K.RATE_LIMIT, 20.0))
        began = anyio.current_time()
        await calls.many(2)
        assert anyio.current_time() - began == pytest.approx(21)

    leaping(asked)
    assert calls.waits[1:] == [(pytest.approx(20), "retry_after")] * 2


def test_an_ailing_server_is_left_alone_then_probed_and_then_refused():
    calls = Calls()
    refused = []

    async def ailing():
        await calls.many(OPEN_AFTER, outcome=error(K.OVERLOADED))
        calls.begun.clear()

        async def knock():
            try:
                await calls.one(outcome=error(K.OVERLOADED))
            except NotCalled as not_called:
                refused.append(not_called.error)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(knock)

    leaping(ailing)
    assert len(calls.begun) == PATIENCE, "one probe at a time"
    assert len(refused) == 10 - PATIENCE
    assert refused[0].kind is K.OVERLOADED
    assert "openai at http://127.0.0.1:1/v1, model m: not called" in refused[0].message
    assert refused[0].retry_after_s > 0
    assert len(calls.warned) == 1 + PATIENCE
    assert "5 calls in a row have failed (overloaded)" in calls.warned[0]


# In a job

SPEC = {
    "project": "limits",
    "provider": "openai",
    "model": "test-model",
    "concurrency": 8,
    "steps": {f"s{n}": {"llm": {"prompt": f"p{n}"}} for n in range(8)},
}


@pytest.fixture
def server():
    with serve() as running:
        yield running


def events(folder, name):
    (path,) = folder.glob("job_*/events.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["type"] == name]


def test_a_breaker_opens_and_closes_in_a_real_job(server, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "COOLDOWN_S", 1.0)  # longer than any disk keeps the calls apart
    server.fail(status=503, times=OPEN_AFTER + 1)
    warned = []
    spec = SPEC | {
        "steps": {
            n: {**s, "retry": {"initial_s": 0.01, "max_attempts": 4}}
            for n, s in SPEC["steps"].items()
        }
    }
    result = run(spec, runs_dir=str(tmp_path), environ=server.environ(), warn=warned.append)
    assert result.ok
    assert any("calls in a row have failed (overloaded)" in text for text in warned)
    waited = [e["data"] for e in events(tmp_path, "llm.request") if "waited_s" in e["data"]]
    assert "breaker" in {data["waited_for"] for data in waited}
    assert all(data["waited_s"] > 0 for data in waited)


def test_waiting_for_a_turn_does_not_run_into_the_step_s_timeout(tmp_path):
    with serve(delay_s=0.3) as server:
        spec = SPEC | {
            "limits": {"providers": {"openai": {"concurrency": 1}}},
            "steps": {
                n: {**SPEC["steps"][n], "timeout_s": 0.55, "retry": {"max_attempts": 1}}
                for n in ("s0", "s1", "s2")
            },
        }
        result = run(spec, runs_dir=str(tmp_path), environ=server.environ())
        assert result.ok
        assert server.max_concurrency() == 1
    waited = [e["data"].get("waited_s", 0) for e in events(tmp_path, "llm.request")]
    assert max(waited) > 0.55


def test_limits_of_a_spec_are_checked():
    text = """
project: p
task_description: t
limits:
  providers:
    openai: {rpm: 3, concurrency: 0, models: {m: {tokens_per_minute: x}, n: 3}}
    olama: {concurrency: 1}
"""
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    told = caught.value.render()
    for part in ("requests_per_minute", "must be from 1", "`tokens_per_minute`", "`n`", "`ollama`"):
        assert part in told


def test_limits_of_a_spec_are_read():
    limits = {"concurrency": 2, "models": {"m": {"requests_per_minute": 9}}}
    text = f"{{project: p, task_description: t, limits: {{providers: {{openai: {limits}}}}}}}"
    found = parse_spec(text.replace("'", "")).limits.providers["openai"]
    assert found.concurrency == 2
    assert found.models["m"].requests_per_minute == 9
