"""What is sent can be seen before and after; or nothing of it is kept, where a job says so."""

import json

import pytest

from orchestrator.testing import serve
from userkit import User, events, outputs

SPEC = """
    project: seen
    provider: openai
    model: m
    inputs: {topic: {default: bees}}
    steps:
      get: {run: 'echo forty-two'}
      ask:
        needs: [get]
        llm:
          system: Be brief.
          prompt: "Of {{ inputs.topic }}: {{ steps.get.output.text }}"
          options: {temperature: 0.5}
      tell: {needs: [ask], run: 'echo "$A" | wc -c', env: {A: "{{ steps.ask.output.text }}"}}
"""


@pytest.fixture(scope="module")
def server():
    with serve() as running:
        yield running


@pytest.fixture
def user(tmp_path, server):
    server.reset()
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache-home")}
    user = User(tmp_path, **server.environ(), **home)
    user.write("job.yaml", SPEC)
    return user


def test_the_printed_prompt_is_what_is_sent_byte_for_byte_of_meaning(user, server):
    needs = user.orch("prompt", "job.yaml", "ask", code=2)
    assert "--job latest" in needs.err
    user.orch("run", "job.yaml")
    sent = server.calls()[0]
    printed = user.orch("prompt", "job.yaml", "ask", "--job", "latest")
    assert json.loads(printed.out) == sent.body
    assert f"POST {server.url}{sent.path}" in printed.err
    document = user.orch("prompt", "job.yaml", "ask", "--job", "latest", "--json").json
    assert document["cache_key"] == events(user.job(), "llm.request")[0]["data"]["cache_key"]
    other = user.orch("prompt", "job.yaml", "ask", "--job", "latest", "--set", "topic=ants").out
    assert "Of ants: forty-two" in other
    assert len(server.calls()) == 1
    assert len(user.jobs()) == 1


def test_a_step_that_asks_nothing_has_no_prompt(user):
    assert "asks no model" in user.orch("prompt", "job.yaml", "get", code=2).err
    assert "did you mean `ask`" in user.orch("prompt", "job.yaml", "asc", code=2).err


def test_what_was_asked_and_answered_is_shown_also_where_the_cache_answered(user):
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml")
    for job in user.jobs():
        asked = user.orch("show", job.name, "ask", "--request").out
        assert "Of bees: forty-two" in asked
        answered = user.orch("show", job.name, "ask", "--response").json
        output = events(job, "step.succeeded", "ask")[0]["data"]["output"]
        assert answered["text"] == output["text"]
    assert "asked no model" in user.orch("show", "latest", "get", "--request", code=2).err


SECRET_PROMPT = SPEC.replace("project: seen", "project: seen\n    record: hashes")


def test_with_hashes_no_text_of_prompt_or_answer_is_in_the_run_folder(user, server):
    user.write("job.yaml", SECRET_PROMPT.replace("A: ", "B: x, A: "))
    done = user.orch("run", "job.yaml")
    said = server.calls()[0].body["messages"][-1]["content"]
    assert said == "Of bees: forty-two"
    answer = outputs_of_call(server)
    tell = events(user.job(), "step.succeeded", "tell")[0]["data"]["output"]
    assert int(tell["text"]) == len(answer) + 1
    texts = [said.encode(), answer.encode()]
    for path in user.home.rglob("*"):
        if path.is_file():
            assert not any(text in path.read_bytes() for text in texts), path
    asked = events(user.job(), "llm.request")[0]["data"]["request"]
    assert asked["$blob"].startswith("sha256:")
    assert done.code == 0
    shown = user.orch("show", "latest", "ask")
    assert "not kept" in shown.err
    assert "not kept" in user.orch("show", "latest", "ask", "--request", code=2).err
    assert list((user.job() / ".cache").iterdir()) == []


def outputs_of_call(server):
    """Return what the double answers to the prompt of the spec, without the cache."""
    import httpx

    (call,) = server.calls()[:1]
    body = {**call.body, "stream": False}
    body.pop("stream_options", None)
    reply = httpx.post(f"{server.url}{call.path}", json=body).json()
    return reply["choices"][0]["message"]["content"]


def test_with_hashes_a_resume_asks_again_and_goes_on(user, server):
    text = SECRET_PROMPT + "      last: {needs: [tell], run: 'test -e go'}\n"
    user.write("job.yaml", text)
    user.orch("run", "job.yaml", code=1)
    user.write("go", "")
    user.orch("run", "job.yaml", "--resume")
    assert len(server.calls()) == 2
    (gone,) = events(user.job(), "step.invalidated")
    assert gone["step"] == "ask"
    assert len(events(user.job(), "step.started", "tell")) == 1


def test_with_hashes_an_error_of_the_server_is_told_without_its_words(user, server):
    server.fail(status=400, body={"error": {"message": "your prompt: Of bees: forty-two"}})
    user.write("job.yaml", SECRET_PROMPT)
    done = user.orch("run", "job.yaml", code=1)
    assert "the call failed (bad_request)" in done.err
    assert b"Of bees: forty" not in (user.job() / "events.jsonl").read_bytes()


def test_with_hashes_the_answers_of_other_jobs_are_used_and_not_copied(user, server):
    user.orch("run", "job.yaml")
    user.write("job.yaml", SECRET_PROMPT)
    user.orch("run", "job.yaml")
    assert len(server.calls()) == 1
    assert list((user.jobs()[1] / ".cache").iterdir()) == []
    assert outputs(user.jobs()[1]) == {}


def test_another_word_for_record_is_refused(user):
    user.write("job.yaml", SPEC.replace("project: seen", "project: seen\n    record: none"))
    assert "write `full` or `hashes`" in user.orch("validate", "job.yaml", code=2).err


NESTED = """
    project: seen
    record: hashes
    provider: openai
    model: test-model
    steps:
      get: {run: echo forty-two}
      file:
        needs: [get]
        workflow: in.yaml
        with: {topic: "bees: {{ steps.get.output.text }}"}
      tell: {needs: [file], run: 'printf %s "$A" | wc -c', env: {A: "{{ steps.file.output }}"}}
"""
INSIDE = """
    inputs: {topic: {type: string, required: true}}
    steps: {ask: {llm: {prompt: "Of {{ inputs.topic }}"}}}
"""


def test_with_hashes_no_answer_comes_out_of_a_job_file_that_a_step_runs(user, server):
    user.write("job.yaml", NESTED)
    user.write("in.yaml", INSIDE)
    user.orch("run", "job.yaml")
    words = outputs_of_call(server).split()[-1].encode()
    (done,) = events(user.job(), "step.succeeded", "file")
    assert done["data"]["output"].keys() == {"$blob", "bytes"}
    assert int(events(user.job(), "step.succeeded", "tell")[0]["data"]["output"]["text"]) > 20
    assert not any(words in path.read_bytes() for path in user.job().rglob("*") if path.is_file())
    user.orch("run", "job.yaml", "--resume")
    assert [e["step"] for e in events(user.job(), "step.started")].count("tell") == 1
