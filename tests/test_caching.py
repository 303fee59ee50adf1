"""The cache as users see it: policies in a job file, flags, and whole steps that are reused."""

import os
import shutil

import pytest

from orchestrator.testing import serve
from userkit import User, events, outputs

CACHED = """
    project: whole
    output_dir: site
    steps:
      make:
        run: |
          echo ran >> {seen}
          mkdir -p $ORCH_OUTPUTS/deep
          echo one > $ORCH_OUTPUTS/deep/one.txt
          seq 1 5000
        cache: true
      use:
        needs: [make]
        run: 'cat > $ORCH_OUTPUTS/n.txt; echo "$TEXT" | wc -l'
        env: {{TEXT: "{{{{ steps.make.output.text }}}}"}}
"""
ASK = """
    project: ask
    provider: openai
    model: m
    steps:
      one: {llm: {prompt: "Say one."}%s}
      two: {llm: {prompt: "Say two."}}
"""


@pytest.fixture
def user(tmp_path):
    return User(tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache-home"))


@pytest.fixture(scope="module")
def server():
    with serve() as running:
        yield running


@pytest.fixture
def asking(tmp_path, server):
    server.reset()
    return User(tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache-home"), **server.environ())


def ran(user):
    path = user.home / "seen"
    return path.read_text().count("ran") if path.exists() else 0


def whole(user, text=CACHED):
    user.write("job.yaml", text.format(seen=user.home / "seen"))
    return user


# --- whole steps ------------------------------------------------------------------------------


def test_a_step_that_says_so_is_reused_by_the_next_job_with_its_files_and_output(user):
    whole(user).orch("run", "job.yaml")
    second = user.orch("run", "job.yaml")
    first_job, second_job = user.jobs()
    assert ran(user) == 1
    assert outputs(first_job) == outputs(second_job)
    assert outputs(second_job)["site/deep/one.txt"] == "one\n"
    (hit,) = events(second_job, "cache.hit")
    assert (hit["step"], hit["data"]["from_job"]) == ("make", first_job.name)
    assert len(events(second_job, "step.succeeded", "use")) == 1
    assert "cache hit" in second.err
    first, again = (events(job, "step.succeeded", "make")[0]["data"] for job in user.jobs())
    assert first["output_sha256"] == again["output_sha256"]
    assert "$blob" in again["output"]


def test_a_hit_carries_on_when_the_job_that_made_it_is_gone(user):
    whole(user).orch("run", "job.yaml")
    user.orch("run", "job.yaml")
    first, _ = user.jobs()
    shutil.rmtree(first)
    user.orch("run", "job.yaml")
    assert ran(user) == 1


def test_another_output_dir_gets_the_files_at_its_own_place(user):
    whole(user).orch("run", "job.yaml")
    whole(user, CACHED.replace("output_dir: site", "output_dir: other")).orch("run", "job.yaml")
    assert ran(user) == 1
    assert outputs(user.jobs()[1])["other/deep/one.txt"] == "one\n"


@pytest.mark.parametrize("kept", ["output", "file"])
@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_result_whose_bytes_are_not_what_they_were_is_not_used(user, kept, harm):
    whole(user).orch("run", "job.yaml")
    (job,) = user.jobs()
    data = events(job, "step.succeeded", "make")[0]["data"]
    digest = data["output"]["$blob"][7:] if kept == "output" else data["files"][0]["sha256"]
    blob = job / "artifacts" / digest
    if harm == "gone":
        blob.unlink()
    else:
        blob.write_bytes(blob.read_bytes()[::-1])
    user.orch("run", "job.yaml")
    assert ran(user) == 2
    assert outputs(user.jobs()[1]) == outputs(job)
    (miss,) = events(user.jobs()[1], "cache.miss")
    assert miss["data"]["reason"] == "gone"


def test_a_failure_is_never_kept(user):
    user.write(
        "job.yaml", "project: f\nsteps:\n  s: {run: 'echo x >> seen; exit 3', cache: true}\n"
    )
    user.orch("run", "job.yaml", code=1)
    user.orch("run", "job.yaml", code=1)
    assert (user.home / "seen").read_text() == "x\nx\n"


def test_the_flags_hold_for_whole_steps_too(user):
    whole(user).orch("run", "job.yaml", "--no-cache")
    user.orch("run", "job.yaml")
    assert ran(user) == 2
    user.orch("run", "job.yaml", "--refresh=make")
    assert ran(user) == 3
    user.orch("run", "job.yaml")
    assert ran(user) == 3


def test_a_step_that_says_nothing_runs_every_time(user):
    whole(user, CACHED.replace("cache: true", "cwd: .")).orch("run", "job.yaml")
    user.orch("run", "job.yaml")
    assert ran(user) == 2


def test_a_python_step_is_reused_until_its_source_changes(user):
    source = "def f(n):\n    open('seen', 'a').write('ran\\n')\n    return n + 1\n"
    user.write("mod.py", source)
    spec = "project: y\nsteps:\n  s: {python: 'mod:f', with: {n: 1}, cache: {ttl_s: 3600}}\n"
    user.write("job.yaml", spec)
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml")
    assert ran(user) == 1
    user.write("mod.py", source + "# changed\n")
    user.orch("run", "job.yaml")
    assert ran(user) == 2
    (miss,) = events(user.jobs()[2], "cache.miss")
    assert miss["data"]["reason"] == "code_version"


# --- answers ----------------------------------------------------------------------------------


def test_a_step_can_keep_out_of_the_cache(asking, server):
    asking.write("job.yaml", ASK % ", cache: false")
    asking.orch("run", "job.yaml")
    asking.orch("run", "job.yaml")
    assert len(server.calls()) == 3
    asking.orch("run", "job.yaml", "--cache-only", "--keep-going", code=6)
    (failed,) = events(asking.jobs()[2], "step.failed")
    assert (failed["step"], failed["data"]["kind"]) == ("one", "cache_miss")


def test_the_top_level_speaks_for_all_calls_and_a_step_for_itself(asking, server):
    text = ASK.replace("model: m", "model: m\n    cache: false") % ", cache: {scope: project}"
    asking.write("job.yaml", text)
    asking.orch("run", "job.yaml")
    asking.orch("run", "job.yaml")
    assert [call.body["messages"][-1]["content"] for call in server.calls()].count("Say two.") == 2
    assert len(server.calls()) == 3


def test_one_step_is_asked_again(asking, server):
    asking.write("job.yaml", ASK % "")
    asking.orch("run", "job.yaml")
    asking.orch("run", "job.yaml", "--refresh=two")
    assert len(server.calls()) == 3
    assert [e["data"]["reason"] for e in events(asking.jobs()[1], "cache.miss")] == ["refresh"]
    assert "no step 'three'" in asking.orch("run", "job.yaml", "--refresh=three", code=2).err
    clash = asking.orch("run", "job.yaml", "--refresh=two", "--no-cache", code=2)
    assert "exclude each other" in clash.err


def test_the_user_s_cache_serves_another_folder(asking, server, tmp_path):
    text = ASK % ", cache: {scope: user}"
    asking.write("job.yaml", text)
    asking.orch("run", "job.yaml")
    other = User(
        tmp_path / "other", XDG_CACHE_HOME=asking.env["XDG_CACHE_HOME"], **server.environ()
    )
    other.write("job.yaml", text)
    other.orch("run", "job.yaml")
    assert len(server.calls()) == 3
    assert [e["step"] for e in events(other.job(), "cache.hit")] == ["one"]


def test_an_old_answer_is_asked_for_again(asking, server):
    asking.write("job.yaml", ASK % ", cache: {ttl_s: 0}")
    asking.orch("run", "job.yaml")
    asking.orch("run", "job.yaml")
    reasons = {e["step"]: e["data"]["reason"] for e in events(asking.jobs()[1], "cache.miss")}
    assert reasons == {"one": "expired"}
    assert len(server.calls()) == 3


def test_a_poisoned_entry_is_called_for_again_with_a_warning(asking, server):
    asking.write("job.yaml", ASK % "")
    asking.orch("run", "job.yaml")
    for path in (asking.job() / ".cache").glob("*.json"):
        os.chmod(path, 0o666)
    done = asking.orch("run", "job.yaml")
    assert done.err.count("every user can write it") == 2
    assert len(server.calls()) == 4
