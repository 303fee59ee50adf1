"""A job's folder is enough to run it again: no network, and the same bytes."""

import os
import shutil

import pytest

from orchestrator.testing import serve
from userkit import User, events, outputs

SPEC = """
    project: again
    provider: openai
    model: m
    output_dir: site
    inputs: {topic: {default: bees}}
    cache: {scope: job, ttl_s: 1}
    steps:
      get: {run: 'date +%N; date +%N > $ORCH_OUTPUTS/when.txt'}
      ask:
        needs: [get]
        llm: {prompt: "Of {{ inputs.topic }}: {{ steps.get.output.text }}"}
        save_as: answer.txt
      own: {needs: [get], llm: {prompt: "Never kept {{ steps.get.output.text }}"}, cache: false}
      size: {needs: [ask], run: 'printf %s "$A" | wc -c', env: {A: "{{ steps.ask.output.text }}"}}
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A job that was run with a server that is gone now."""
    base = tmp_path_factory.mktemp("recorded")
    with serve() as server:
        user = User(base, XDG_CACHE_HOME=str(base / "none"), **server.environ())
        user.write("job.yaml", SPEC)
        user.orch("run", "job.yaml", "--set", "topic=ants")
    return user


@pytest.fixture
def copied(recorded, tmp_path):
    """The job's folder alone, for a user without keys, addresses and the job file."""
    user = User(tmp_path / "elsewhere", XDG_CACHE_HOME=str(tmp_path / "none"))
    shutil.copytree(recorded.job(), user.home / "runs" / recorded.job().name)
    return user


def test_a_copied_folder_gives_the_same_bytes_without_a_network(copied):
    before = {p: p.stat().st_mtime_ns for p in copied.job().rglob("*")}
    done = copied.orch("replay", "latest")
    assert "6 of 6 steps and files are byte for byte the same" in done.out
    assert {p: p.stat().st_mtime_ns for p in copied.job().rglob("*")} == before
    assert len(copied.jobs()) == 1


def test_a_folder_is_replayed_by_its_path_and_the_replay_can_be_kept(copied, tmp_path):
    done = copied.orch("replay", copied.job(), "--into", tmp_path / "kept", "--json").json
    assert (done["equal"], done["compared"], done["differences"]) == (True, 6, [])
    again = next(job for job in copied.jobs(tmp_path / "kept") if (job / "events.jsonl").exists())
    assert outputs(again) == outputs(copied.job())
    assert len(events(again, "cache.hit")) == 2
    assert events(again, "llm.request") == []


def test_what_differs_is_named(copied):
    done = copied.orch("replay", "latest", "--execute", code=6)
    assert "step get: " in done.out
    assert "outputs/site/when.txt: " in done.out
    assert "step ask: the answer is not in the cache" in done.err


def test_a_changed_output_file_is_named(copied):
    (copied.job() / "outputs" / "site" / "when.txt").write_text("changed")
    done = copied.orch("replay", "latest", code=1)
    assert "outputs/site/when.txt: " in done.out


def test_without_its_answers_a_job_can_t_be_replayed(copied):
    shutil.rmtree(copied.job() / ".cache")
    shutil.rmtree(copied.job() / "artifacts")
    assert "not in the cache" in copied.orch("replay", "latest", code=6).err


def test_a_job_without_results_is_told(copied):
    copied.write("bad.yaml", "project: bad\nsteps: {s: {run: 'exit 3'}}\n")
    copied.orch("run", "bad.yaml", code=1)
    assert "no result to compare with" in copied.orch("replay", "latest", code=2).err
    assert not any(os.path.isdir(p) for p in copied.home.glob("orch-replay-*"))


UNFIT = """
    project: unfit
    provider: openai
    model: m
    steps:
      mended: {llm: {prompt: Mended, output: {required: [n], properties: {n: {}}}}, cache: false}
      never: {llm: {prompt: Never, output: {type: object}}}
      broken: {llm: {prompt: Broken}}
"""


def test_answers_that_did_not_fit_and_failed_steps_are_replayed_without_a_network(tmp_path):
    unfit = {"choices": [{"message": {"role": "assistant", "content": "no"}}]}
    unfit["choices"][0]["finish_reason"] = "stop"
    with serve() as server:
        user = User(tmp_path, **server.environ())
        user.write("job.yaml", UNFIT)
        server.fail(status=200, body=unfit, match="Mended")
        server.fail(status=200, body=unfit, match="Never", times=2)
        server.fail(status=400, match="Broken")
        user.orch("run", "job.yaml", "--keep-going", code=1)
        server.reset()
        done = user.orch("replay", "latest")
        assert server.calls() == []
    assert "1 of 1 steps and files are byte for byte the same" in done.out
    told = "had no result when it was recorded, and has none now"
    assert done.err == f"step never {told}\nstep broken {told}\n"
