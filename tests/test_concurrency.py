"""Independent calls overlap, and none is made twice: through the command line, with each vendor."""

import shutil

import pytest

from orchestrator.testing import serve
from userkit import User, events, outputs

VENDORS = ("ollama", "openai", "anthropic")


@pytest.fixture(scope="module")
def slow():
    with serve(delay_s=0.5) as server:
        yield server


@pytest.fixture(scope="module")
def quick():
    with serve(delay_s=0.1) as server:
        yield server


@pytest.fixture
def server(quick):
    quick.reset()
    return quick


def user_of(folder, server, spec):
    user = User(folder, **server.environ())
    user.write("job.yaml", spec)
    return user


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_diamond_is_three_calls_deep_and_free_the_second_time(tmp_path, slow, vendor):
    slow.reset()
    spec = f"{{project: d, task_description: Count, provider: {vendor}, model: test-model}}"
    user = user_of(tmp_path, slow, spec)
    user.orch("run", "job.yaml")
    calls = slow.calls()
    assert len(calls) == 4
    assert all(call.status == 200 for call in calls)
    assert slow.max_concurrency() == 2
    design, code, text, review = calls  # in the order in which they came in
    assert max(code.started_s, text.started_s) < min(code.ended_s, text.ended_s)
    assert design.ended_s <= min(code.started_s, text.started_s)
    assert review.started_s >= max(code.ended_s, text.ended_s)

    user.orch("run", "job.yaml")
    assert len(slow.calls()) == 4
    first, second = user.jobs()
    assert len(events(second, "cache.hit")) == 4
    assert not events(second, "llm.request")
    assert outputs(first) == outputs(second)
    times = [job["duration_s"] for job in user.orch("list", "--json").json["rows"]]
    print(f"{vendor}: first {times[1]:.3f} s, second {times[0]:.3f} s of job time")


def test_ten_independent_steps_go_out_as_many_at_once_as_allowed(tmp_path, server):
    steps = "\n".join(f"  s{n}: {{llm: {{prompt: 'Question {n}'}}}}" for n in range(10))
    head = "project: wide\nprovider: openai\nmodel: test-model\nconcurrency: 5\nsteps:\n"
    user = user_of(tmp_path, server, head + steps)
    user.orch("run", "job.yaml")
    assert len(server.calls()) == 10
    assert server.max_concurrency() == 5


def test_equal_calls_in_flight_at_once_are_made_once(tmp_path, server):
    steps = "\n".join(f"  s{n}: {{llm: {{prompt: 'The same'}}}}" for n in range(4))
    head = "project: same\nprovider: ollama\nmodel: test-model\nsteps:\n"
    user = user_of(tmp_path, server, head + steps)
    user.orch("run", "job.yaml")
    assert len(server.calls()) == 1
    assert len(events(user.job(), "cache.hit")) == 3


def test_answers_are_reused_while_the_key_is_gone(tmp_path, server):
    spec = "{project: d, task_description: Count, provider: anthropic, model: test-model}\n"
    user = user_of(tmp_path, server, spec)
    user.orch("run", "job.yaml")
    del user.env["ANTHROPIC_API_KEY"]
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml", "--resume")
    assert len(server.calls()) == 4

    user.write("job.yaml", spec.replace("Count", "Count and sort"))
    done = user.orch("run", "job.yaml", code=3)
    assert "error: step architect failed (auth): ANTHROPIC_API_KEY is not set" in done.err
    assert not events(user.jobs()[-1], "llm.request")
    before = user.files()
    user.write("other.yaml", spec.replace("project: d", "project: other"))
    done = user.orch("run", "other.yaml", code=3)
    assert "error: ANTHROPIC_API_KEY is not set" in done.err
    assert user.files() == sorted([*before, "other.yaml"])  # known before a folder was made
    assert len(server.calls()) == 4

    shutil.rmtree(user.home / "runs" / ".index")
    for job in user.jobs():
        shutil.rmtree(job / ".cache")
    user.orch("resume", user.jobs()[0].name)  # its steps have succeeded: no answer is needed
    assert len(server.calls()) == 4
