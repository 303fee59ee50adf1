"""A job file that a step runs, as its user sees it: one job, one log, and nothing done twice."""

import json
import os
import signal

import pytest

from userkit import EXAMPLES, User, alive, ended, events, outputs, plain, until

JOB = """
    project: papers
    inputs: {topic: {default: bees}}
    env: {SEASON: spring}
    steps:
      draft: {run: 'echo draft >> tally; echo "on $TOPIC"', env: {TOPIC: "{{ inputs.topic }}"}}
      review:
        needs: draft
        workflow: parts/review.yaml
        with: {text: "{{ steps.draft.output.text }}", times: "{{ 1 + 1 }}"}
      print:
        needs: review
        run: 'echo print >> tally; echo "$V"'
        env: {V: "{{ steps.review.output.verdict }}"}
    outputs:
      verdict: "{{ steps.review.output.verdict }}"
      counted: "{{ steps.review.output.counted }}"
"""
REVIEW = """
    inputs:
      text: {type: string, required: true}
      times: {type: integer, default: 1}
    steps:
      ask: {llm: {prompt: "file://ask.md"}, save_as: asked.md}
      count:
        for_each: "{{ range(inputs.times) | list }}"
        run: 'echo "count$I" >> ../tally; echo "$I $SEASON"'
        env: {I: "{{ item }}"}
      shout: {needs: ask, workflow: shout.yaml, with: {it: "{{ steps.ask.output.text }}"}}
    outputs:
      verdict: "{{ steps.shout.output.up.text }}"
      counted: "{{ steps.count.output | length }}"
"""
SHOUT = """
    inputs: {it: {type: string, required: true}}
    steps:
      up:
        run: 'echo up >> ../tally; cat marks.txt; echo "$IT" | tr a-z A-Z'
        env: {IT: "{{ inputs.it }}"}
        files: [marks.txt]
"""


@pytest.fixture
def user(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", JOB)
    user.write("parts/review.yaml", REVIEW)
    user.write("parts/shout.yaml", SHOUT)
    user.write("parts/marks.txt", "!")
    user.write("parts/ask.md", "Is this good: {{ inputs.text }}")
    return user


def started(folder):
    return [
        event["step"] + (f"[{event['item']}]" if "item" in event else "")
        for event in events(folder, "step.started")
    ]


def ran(user):
    """Return what was done since the last time, as the steps' effects tell."""
    path = user.home / "tally"
    done = path.read_text().split() if path.exists() else []
    path.write_text("")
    return sorted(done)


ALL = ["count0", "count1", "draft", "print", "up"]


def test_the_steps_of_the_file_are_steps_of_the_job(user):
    assert "job.yaml: ok, 7 steps" in user.orch("validate", "job.yaml").out
    user.orch("run", "job.yaml")
    assert ran(user) == ALL
    shown = user.orch("show", "latest", "--json").json
    assert shown["outputs"]["counted"] == 2
    assert "IS THIS GOOD: ON BEES" in shown["outputs"]["verdict"]
    assert [row["step"] for row in shown["steps"]] == [
        *("draft", "review", "review/ask", "review/count", "review/count[0]", "review/count[1]"),
        *("review/shout", "review/shout/up", "print"),
    ]
    assert user.orch("logs", "latest", "review/count[1]").out == "1 spring\n"
    assert (user.job() / "logs/review/shout/up.log").is_file()
    assert outputs(user.job()).keys() == {"asked.md"}
    asked = "select step, item, status from steps where step like 'review/%' order by step, item"
    rows = user.orch("events", "query", asked, "--json").json["rows"]
    assert [(row["step"], row["item"]) for row in rows][:3] == [
        ("review/ask", None),
        ("review/count", "0"),
        ("review/count", "1"),
    ]
    assert {row["status"] for row in rows} == {"succeeded"}
    line = (user.job() / "events.jsonl").read_text()
    assert '"step":"review/shout/up"' in line


def test_what_a_person_reads(user, snapshot):
    user.write("job.yaml", JOB.replace("project: papers", "project: papers\n    concurrency: 1"))
    done = user.orch("run", "job.yaml", "--set", "topic=ants")
    job = user.job().name
    assert plain(user.orch("show", job).out, job_ID=job) == snapshot(name="show")
    assert done.out == f"Job: {job}, Status: succeeded\n"
    user.write("parts/ask.md", "Is this bad: {{ inputs.text }}")
    planned = user.orch("plan", "job.yaml", "--resume")
    assert plain(planned.out, job_ID=job) == snapshot(name="plan")


def test_a_resume_runs_nothing_again_and_what_changed_inside_alone(user):
    user.orch("run", "job.yaml")
    ran(user)
    user.orch("run", "job.yaml", "--resume")
    assert ran(user) == []
    user.write("parts/marks.txt", "?")
    user.orch("run", "job.yaml", "--resume")
    assert ran(user) == ["print", "up"]


def test_names_are_in_no_key_whether_a_step_is_renamed_or_moved_into_a_file(user):
    user.orch("run", "job.yaml")
    ran(user)
    renamed = JOB.replace("review:\n", "critique:\n").replace("steps.review", "steps.critique")
    user.write("job.yaml", renamed.replace("needs: review", "needs: critique"))
    planned = user.orch("plan", "job.yaml", "--resume", "--json").json["steps"]
    assert {row["action"] for row in planned} == {"skipped"}
    assert (
        "already succeeded, as review/shout/up"
        in {row["step"]: row["why"].partition(" (")[0] for row in planned}["critique/shout/up"]
    )
    user.orch("run", "job.yaml", "--resume")
    assert ran(user) == []
    user.write("whole.yaml", renamed.replace("needs: review", "needs: critique"))
    user.write(
        "job.yaml",
        """
        project: papers
        steps: {all: {workflow: whole.yaml}}
        """,
    )
    user.orch("run", "job.yaml", "--resume")
    assert ran(user) == []
    assert user.orch("show", "latest", "all", "--json").json["output"]["counted"] == 2


def test_a_copied_job_goes_on_from_what_was_frozen_with_it(user, tmp_path):
    user.write("parts/shout.yaml", SHOUT.replace("cat marks.txt", "test -e ../go || exit 1"))
    user.orch("run", "job.yaml", code=1)
    assert ran(user) == ["count0", "count1", "draft", "up"]
    frozen = {
        str(path.relative_to(user.job())) for path in user.job().glob("inputs/*/files/**/*.*")
    }
    assert {path.partition("/files/")[2] for path in frozen} == {
        *("parts/review.yaml", "parts/shout.yaml", "parts/ask.md", "parts/marks.txt")
    }
    (user.home / "runs").rename(tmp_path / "elsewhere")
    for name in ("job.yaml", "parts/review.yaml", "parts/shout.yaml"):
        (user.home / name).unlink()
    (user.home / "go").touch()
    user.orch("resume", "latest", "--runs-dir", "elsewhere")
    assert ran(user) == ["print", "up"]


def test_a_killed_job_goes_on_inside_the_file(user):
    slow = SHOUT.replace("cat marks.txt", "test -e ../go || { touch ../here; sleep 60; }")
    user.write("parts/shout.yaml", slow)
    process = user.start("run", "job.yaml")
    until((user.home / "here").exists, "the step inside ran", process)
    until(lambda: len(events(user.job(), "step.succeeded")) >= 5, "the others ended", process)
    os.killpg(process.pid, signal.SIGKILL)
    ended(process)
    (user.home / "go").touch()
    user.orch("resume", "latest")
    assert ran(user) == sorted([*ALL, "up"])
    (cut,) = events(user.job(), "step.interrupted")
    assert cut["step"] == "review/shout/up"
    assert started(user.job()).count("review/shout/up") == 2
    assert not alive(process.pid)


def test_a_fork_begins_inside_the_file_or_with_all_of_it(user):
    user.orch("run", "job.yaml")
    ran(user)
    user.orch("fork", "latest", "--from", "review/shout/up")
    assert ran(user) == ["print", "up"]
    user.orch("fork", "latest", "--from", "review")
    assert ran(user) == ["count0", "count1", "print", "up"]
    user.orch("fork", "latest", "--from", "draft")
    assert ran(user) == ALL
    assert "did you mean" in user.orch("fork", "latest", "--from", "review/asc", code=2).err


GATE = """
    project: gate
    steps:
      ready: {run: echo ready}
      gate: {needs: ready, workflow: gate.yaml, with: {what: "{{ steps.ready.output.text }}"}}
      go: {needs: gate, run: echo gone}
"""
ASKS = """
    inputs: {what: {required: true}}
    steps:
      ask: {approve: {message: "Is it {{ inputs.what }}?"}}
      sign: {needs: ask, run: 'echo "by $WHO"', env: {WHO: "{{ steps.ask.output.by }}"}}
"""


def test_somebody_is_asked_inside_the_file(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", GATE)
    user.write("gate.yaml", ASKS)
    done = user.orch("run", "job.yaml", code=75)
    assert "step gate/ask asks:\nIs it ready?" in done.err
    assert f"next: orch approve {user.job().name} gate/ask" in done.err
    user.orch("approve", "latest", "gate/ask")
    user.orch("resume", "latest")
    assert user.orch("show", "latest", "gate", "--json").json["output"]["sign"]["exit_code"] == 0


def test_a_result_by_hand_is_for_a_step_inside_or_for_the_whole_file(user):
    user.write("parts/shout.yaml", SHOUT.replace("cat marks.txt", "exit 1"))
    user.orch("run", "job.yaml", code=1)
    ran(user)
    user.write("by.txt", "BY HAND")
    user.orch("step", "set", "latest", "review/shout/up", "--output", "by.txt", "--reason", "r")
    user.orch("resume", "latest")
    assert ran(user) == ["print"]
    assert user.orch("show", "latest", "--json").json["outputs"]["verdict"] == "BY HAND"
    user.write("all.json", json.dumps({"verdict": "ALL", "counted": 0}))
    user.orch("step", "set", "latest", "review", "--output", "all.json", "--reason", "r")
    user.orch("resume", "latest")
    assert ran(user) == ["print"]
    assert user.orch("show", "latest", "--json").json["outputs"] == {"verdict": "ALL", "counted": 0}
    skip = events(user.job(), "step.skipped", "review/ask")[-1]
    assert skip["data"]["reason"] == "it is part of review, which has its result already"


FAILS = """
    project: fails
    steps:
      tried: {workflow: part.yaml, with: {code: 3}, continue_on_error: true}
      after:
        needs: tried
        run: 'echo "$STATUS; $ERROR"'
        env: {STATUS: "{{ steps.tried.status }}", ERROR: "{{ steps.tried.error }}"}
      off: {if: "false", workflow: part.yaml}
      last: {finally: true, workflow: part.yaml}
"""
PART = """
    inputs: {code: {default: 0}}
    steps:
      a: {run: "exit $CODE", env: {CODE: "{{ inputs.code }}"}}
      b: {needs: a, run: echo b}
      rescue: {needs: a, if: failed(), run: echo rescued}
      z: {finally: true, run: 'echo "$JOB"', env: {JOB: "{{ job }}"}}
"""


def test_conditions_failures_and_last_steps_are_those_of_the_file(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", FAILS)
    user.write("part.yaml", PART)
    user.orch("run", "job.yaml")
    said = user.orch("logs", "latest", "after").out
    assert said == "failed; 1 of its 4 steps failed: tried/a\n"
    seen = json.loads(user.orch("logs", "latest", "tried/z").out)
    assert (seen["status"], [f["step"] for f in seen["failures"]]) == ("failed", ["a"])
    assert json.loads(user.orch("logs", "latest", "last/z").out)["status"] == "succeeded"
    assert set(started(user.job())) == {
        *("tried/a", "tried/rescue", "tried/z", "after", "last/a", "last/b", "last/z")
    }
    reasons = {e["step"]: e["data"]["reason"] for e in events(user.job(), "step.skipped")}
    assert reasons["tried/b"] == "it needs tried/a, which failed"
    assert reasons["off"] == "its condition is false: false"
    assert reasons["off/rescue"] == "it is part of off, which was skipped"
    assert reasons["last/rescue"] == "its condition is false: failed()"


def test_what_is_given_at_last_must_be_of_the_inputs_type(user):
    user.write("job.yaml", JOB.replace("{{ 1 + 1 }}", "{{ steps.draft.output.text }}"))
    done = user.orch("run", "job.yaml", code=1)
    assert "`times` of parts/review.yaml must be of type integer, not a string" in done.err
    assert ran(user) == ["draft"]
    skipped = events(user.job(), "step.skipped", "review/ask")
    assert skipped[0]["data"]["reason"] == "it is part of review, which failed"


def test_a_refresh_of_the_step_around_is_for_all_that_is_inside(user):
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml", "--refresh=review")
    assert not events(user.jobs()[-1], "cache.hit")
    user.orch("run", "job.yaml")
    assert events(user.jobs()[-1], "cache.hit", "review/ask")


def test_a_prompt_inside_can_be_looked_at_and_a_job_replayed(user):
    user.orch("run", "job.yaml")
    shown = user.orch("prompt", "job.yaml", "review/ask", "--job", "latest")
    assert "Is this good: on bees" in shown.out
    asked = user.orch("show", "latest", "review/ask", "--request").out
    assert "Is this good: on bees" in asked


def test_the_example_runs_a_file_twice_without_a_network(tmp_path):
    user = User(tmp_path)
    user.examples()
    user.write("README.md", "# Guide\n\nBees make honey. They live in hives. Honey keeps.\n")
    user.orch("run", "examples/pages.yaml")
    assert outputs(user.job()).keys() == {"guide.md", "changes.md", "overview.txt"}
    said = user.orch("show", "latest", "--json").json["outputs"]["overview"]
    assert said.startswith("11 words: ")
    assert (EXAMPLES / "page.yaml").is_file()


def test_the_time_of_the_file_is_for_all_that_is_inside(tmp_path):
    user = User(tmp_path)
    job = "project: timed\nsteps: {w: {workflow: in.yaml, timeout_s: 0.5}}\n"
    user.write("job.yaml", job)
    slow = "steps:\n  a: {run: sleep 30}\n  b: {finally: true, run: echo b}\n"
    user.write("in.yaml", slow)
    done = user.orch("run", "job.yaml", code=1)
    assert "step w/a failed (timeout): the time of w is over (timeout_s: 0.5)" in done.err
    assert started(user.job()) == ["w/a", "w/b"]
