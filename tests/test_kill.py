"""A job that is killed again and again ends as one that nobody disturbed."""

import os
import random
import signal

import pytest

from orchestrator.testing import serve
from userkit import User, alive, ended, events, outputs, types, until

KILLS = 10
SEED = int(os.environ.get("ORCH_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 32)

# Every step leaves a line outside the run folder each time its effect happens: that is what
# the log is compared with.
SPEC = """
    project: killed
    provider: ollama
    model: test-model
    env: {TALLY: "{{ env.TALLY }}"}
    inputs:
      tally: {type: string, required: true}
    steps:
      collect:
        run: |
          echo collect >> "$TALLY"
          printf 'bees\\nants\\n' > "$ORCH_OUTPUTS/names.txt"
          cat "$ORCH_OUTPUTS/names.txt"
        env: {TALLY: "{{ inputs.tally }}"}
      architect:
        needs: [collect]
        llm: {prompt: "Design for {{ steps.collect.output.text }}"}
        save_as: design.md
      builder:
        needs: [architect]
        llm: {prompt: "Build {{ steps.architect.output.text }}"}
      docs:
        needs: [architect]
        llm: {prompt: "Describe {{ steps.architect.output.text }}"}
      count:
        needs: [builder, docs]
        python: counting:count
        with:
          texts: ["{{ steps.builder.output.text }}", "{{ steps.docs.output.text }}"]
          tally: "{{ inputs.tally }}"
      report:
        needs: [count, collect]
        run: |
          echo report >> "$TALLY"
          printf '%s of %s' "$WORDS" "$NAMES" | tee "$ORCH_OUTPUTS/report.txt"
        env:
          TALLY: "{{ inputs.tally }}"
          WORDS: "{{ steps.count.output.words }}"
          NAMES: "{{ steps.collect.output.text }}"
"""
SPEC = SPEC.replace('    env: {TALLY: "{{ env.TALLY }}"}\n', "")

COUNTING = """
    def count(texts, tally, ctx):
        with open(tally, "a") as file:
            file.write("count\\n")
        (ctx.outputs / "words.txt").write_text("\\n".join(texts))
        return {"words": sum(len(text.split()) for text in texts)}
"""


@pytest.fixture(scope="module")
def server():
    with serve(delay_s=0.02) as running:
        yield running


def user_of(folder, server):
    user = User(folder, **server.environ())
    user.write("job.yaml", SPEC)
    user.write("counting.py", COUNTING)
    return user


def run_args(user):
    return ["run", "job.yaml", "--set", f"tally={user.home / 'tally'}", "--runs-dir", "runs"]


def log_size(user):
    try:
        return (user.job() / "events.jsonl").stat().st_size
    except (OSError, ValueError):
        return 0


def kill_at_random(user, args, chance, full):
    """Start a leg and kill it when its log has grown by a random part of a whole job's log."""
    process = user.start(*args)
    goal = log_size(user) + chance.randrange(full)
    until(lambda: log_size(user) >= goal or process.poll() is not None, "the log to grow")
    alive = process.poll() is None
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


def settled(user, name):
    """Return what is comparable of a finished job."""
    shown = user.orch("show", "latest", "--json").json
    results = {
        step: user.orch("show", "latest", step, "--json").json["output"]
        for step in ("count", "report")
    }
    assert shown["status"] == "succeeded", (name, shown)
    return results, outputs(user.job())


def test_a_job_killed_at_random_moments_resumes_to_the_same_end(tmp_path, server):
    print(f"ORCH_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    calm = user_of(tmp_path / "calm", server)
    calm.orch(*run_args(calm))
    full = log_size(calm)
    expected = settled(calm, "calm")
    assert expected[0]["report"]["text"] == f"{expected[0]['count']['words']} of bees\nants"

    server.reset()
    user = user_of(tmp_path / "killed", server)
    kills = legs = 0
    while kills < KILLS and legs < 4 * KILLS:
        legs += 1
        if user.jobs() and "job.succeeded" in types(user.job()):
            check_one(user, server)
            for folder in user.jobs():
                folder.rename(tmp_path / f"done-{legs}")
            (user.home / "tally").unlink()
            server.reset()
        kills += kill_at_random(user, [*run_args(user), "--resume"], chance, full)
    done = user.orch(*run_args(user), "--resume")
    assert "succeeded" in done.out
    print(f"{kills} kills, {legs} legs")
    assert kills == KILLS
    assert settled(user, "killed") == expected
    check_one(user, server)


def check_one(user, server):
    """Compare what happened outside with what the log says: each recorded result once."""
    job = user.job()
    log = events(job)
    started = [e["step"] for e in log if e["type"] == "step.started"]
    done = [e["step"] for e in log if e["type"] == "step.succeeded"]
    assert len(done) == len(set(done)) == 6, done
    for step in set(done):
        recorded = next(
            e["seq"] for e in log if e["type"] == "step.succeeded" and e["step"] == step
        )
        later = [e for e in log if e["type"] == "step.started" and e["step"] == step]
        assert all(e["seq"] < recorded for e in later), step
    tally = (user.home / "tally").read_text().split()
    for step in ("collect", "count", "report"):
        assert 1 <= tally.count(step) <= started.count(step), (step, tally, started)
    asked = [e for e in log if e["type"] == "llm.request"]
    assert 3 <= len(server.calls()) <= len(asked)


def test_a_killed_shell_step_leaves_no_child_and_no_file(tmp_path, server):
    user = User(tmp_path, **server.environ())
    user.write(
        "job.yaml",
        """
        project: killed
        steps:
          long:
            run: |
              echo half > "$ORCH_OUTPUTS/half.txt"
              test -e again || { touch again; sleep 300 & echo $! > child; wait; }
        """,
    )
    process = user.start("run", "job.yaml")
    child = int(
        until(
            lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(),
            "the child",
            process,
        )
    )
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: not alive(child), "the child to die")
    assert outputs(user.job()) == {}
    assert ended(user.start("run", "job.yaml", "--resume")).code == 0
    assert outputs(user.job()) == {"half.txt": "half\n"}
    assert [e["data"]["attempt"] for e in events(user.job(), "step.started")] == [1, 2]
    assert len(events(user.job(), "step.interrupted")) == 1
    assert not list(user.job().glob(".attempt-*"))
