"""`orch plan`: for each step whether it runs, and why; and that a leg then does just that."""

import re

import pytest

from orchestrator.recovery import ANSWERS
from userkit import User, events, plain

SPEC = """
    project: planned
    model: echo
    steps:
      collect: {run: "cat in.txt", files: [in.txt]}
      first:
        needs: collect
        run: echo "$X" | head -n1
        env: {X: "{{ steps.collect.output.text }}"}
      notes:
        needs: first
        llm:
          system: Be brief
          prompt: |
            Write notes
            about {{ steps.first.output.text }}
            in ten points
          options: {temperature: 0}
        save_as: notes.md
      count:
        needs: notes
        python: steps:count
        with: {text: "{{ steps.notes.output.text }}", limit: 5}
      left: {needs: collect, run: 'echo left > "$ORCH_OUTPUTS/left.txt"'}
"""
STEPS = "def count(text, limit):\n    return [len(text), limit]\n"


@pytest.fixture
def user(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", SPEC)
    user.write("in.txt", "bees\nmore\n")
    user.write("steps.py", STEPS)
    return user


def ran(user, *more, code=0):
    """Run or resume, and return which steps were started in this leg."""
    before = len(events(user.jobs()[-1])) if user.jobs() else 0
    user.orch("run", "job.yaml", *more, code=code)
    log = events(user.jobs()[-1])[before:]
    return [e["step"] for e in log if e["type"] == "step.started"]


def edit(user, old, new, file="job.yaml"):
    path = user.home / file
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new))


def planned(user, *more):
    rows = user.orch("plan", "job.yaml", "--json", *more).json["steps"]
    return {row["step"]: row["action"] for row in rows}


def row(user, step):
    found = user.orch("plan", "job.yaml", "--resume", "--json").json["steps"]
    return next(row for row in found if row["step"] == step)


def test_a_plan_of_a_new_job_says_what_is_not_known_yet_and_writes_nothing(user, snapshot):
    before = user.files()
    done = user.orch("plan", "job.yaml")
    assert done.out == snapshot
    assert "nothing was run" in done.err
    assert user.orch("run", "job.yaml", "--dry-run").out == done.out
    assert user.files() == before


def test_nothing_changed_is_all_skipped(user):
    ran(user)
    assert set(planned(user, "--resume").values()) == {"skipped"}
    assert ran(user, "--resume") == []


def test_what_is_in_the_cache_is_told_and_what_follows_from_it_too(user):
    ran(user)
    edit(user, "cat in.txt", "cat  in.txt")  # for a new job the shell steps run again
    assert planned(user)["collect"] == "run"
    user.write("job.yaml", "project: other\nmodel: echo\nsteps:\n  a: {llm: {prompt: hello}}\n")
    user.orch("run", "job.yaml")
    user.write(
        "job.yaml",
        "project: third\nmodel: echo\nsteps:\n  a: {llm: {prompt: hello}, save_as: a.md}\n"
        "  b: {needs: a, llm: {prompt: 'and {{ steps.a.output.text }}'}}\n",
    )
    assert planned(user) == {"a": "cached", "b": "run"}


EDITS = {
    "a line of the prompt": ("job.yaml", "in ten points", "in five points"),
    "an option": ("job.yaml", "temperature: 0", "temperature: 1"),
    "an argument": ("job.yaml", "limit: 5", "limit: 6"),
    "a file": ("in.txt", "more", "much more"),
    "the code": ("steps.py", "return [", "return  ["),
    "a command": ("job.yaml", "echo left", "echo  left"),
    "where it is saved": ("job.yaml", "notes.md", "note.md"),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_has_changed_is_named_and_shown(user, snapshot, name):
    ran(user)
    file, old, new = EDITS[name]
    edit(user, old, new, file)
    done = user.orch("plan", "job.yaml", "--resume")
    shown = re.sub(r"[0-9a-f]{12}…", "HASH…", plain(done.out))
    assert re.sub(r"seq \d+", "seq N", shown) == snapshot
    told = planned(user, "--resume")
    started = ran(user, "--resume")
    sure = {step for step, action in told.items() if action == "run"}
    perhaps = {step for step, action in told.items() if action in ("depends", "cached")}
    assert sure <= set(started) <= sure | perhaps


def test_a_step_that_brings_an_equal_output_stops_the_change(user):
    ran(user)
    edit(user, "more", "much more", "in.txt")  # the second line: `first` prints the first
    assert planned(user, "--resume")["notes"] == "depends"
    assert ran(user, "--resume") == ["collect", "first", "left"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("first", "premier"),
        ("project: planned\n", "project: planned\nconcurrency: 2\ntimeout_s: 60\n"),
        ("save_as:", "retry: {max_attempts: 5}\n    timeout_s: 30\n    save_as:"),
        ("project:", "# a remark\nproject:"),
        ("save_as: notes.md", "description: notes\n    save_as: notes.md"),
    ],
    ids=["a renamed step", "concurrency", "retries and timeouts", "a remark", "a description"],
)
def test_what_no_result_depends_on_reruns_nothing(user, old, new):
    ran(user)
    edit(user, old, new)
    assert set(planned(user, "--resume").values()) == {"skipped"}
    assert ran(user, "--resume") == []


def test_steps_in_another_order_rerun_nothing(user):
    ran(user)
    lines = (user.home / "job.yaml").read_text().splitlines(keepends=True)
    (user.home / "job.yaml").write_text("".join([*lines[:3], lines[-1], *lines[3:-1]]))
    assert next(iter(planned(user, "--resume").items())) == ("left", "skipped")
    assert ran(user, "--resume") == []


JOINED = """
    project: joined
    steps:
      left: {run: echo 1}
      right: {run: echo 2}
      both:
        needs: [left, right]
        run: echo $X $Y
        env: {X: "{{ steps.left.output.text }}", Y: "{{ steps.right.output.text }}"}
"""


def test_needs_in_another_order_rerun_nothing_in_the_job_and_in_a_fork(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", JOINED)
    ran(user)
    edit(user, "[left, right]", "[right, left]")
    assert set(planned(user, "--resume").values()) == {"skipped"}
    assert ran(user, "--resume") == []
    user.orch("fork", "latest", "--spec", "job.yaml")
    assert events(user.jobs()[-1], "step.started") == []
    edit(user, "[right, left]", "[left, right]")
    user.orch("fork", user.jobs()[0].name, "--spec", "job.yaml")
    assert events(user.jobs()[-1], "step.started") == []
    assert ran(user, "--resume") == []


def test_what_changed_is_told_of_a_step_that_was_renamed_and_of_one_whose_need_was(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", JOINED)
    ran(user)
    edit(user, "both:", "all:")
    edit(user, "left", "first")  # and what needs it
    assert ran(user, "--resume") == []
    edit(user, "echo $X", "echo  $X")
    (change,) = row(user, "all")["changes"]
    assert (change["part"], change["before"]) == ("command", "echo $X $Y")


def test_another_kind_of_step_is_told_as_that(tmp_path):
    user = User(tmp_path)
    user.write("steps.py", STEPS)
    user.write("job.yaml", JOINED)
    ran(user)
    edit(user, "left: {run: echo 1}", "left: {python: 'steps:count', with: {text: x, limit: 1}}")
    done = user.orch("plan", "job.yaml", "--resume")
    assert re.search(r"run +left +kind changed\n +kind: run -> python\n", done.out)


def test_components_that_came_or_went_are_told_as_none(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", "project: p\nsteps: {a: {run: echo 1}}\n")
    ran(user)
    user.write("job.yaml", "project: p\nenv: {A: b}\nsteps: {a: {run: echo 1, cwd: .}}\n")
    done = user.orch("plan", "job.yaml", "--resume")
    assert "env: (none) -> " in done.out
    assert "null" not in done.out


def test_the_reason_is_what_became_of_it_where_nothing_changed(user):
    edit(user, "echo left", "exit 3; echo left")
    ran(user, "--keep-going", code=1)
    assert row(user, "left")["why"] == "it failed (exit: the command exited with status 3)"
    edit(user, "exit 3;", f"echo {'x' * 100} >&2; exit 3;")
    ran(user, "--resume", "--keep-going", code=1)
    assert row(user, "left")["why"].endswith("xx…)")
    edit(user, f"echo {'x' * 100} >&2; exit 3; ", "")
    left = row(user, "left")
    assert left["why"].endswith("; command changed")
    assert (left["changes"][0]["before"][:6], left["action"]) == ("echo x", "run")
    ran(user, "--resume")
    (user.job() / "outputs" / "left.txt").unlink()
    assert row(user, "left")["why"] == "outputs/left.txt is gone"
    assert ran(user, "--resume") == ["left"]


def test_a_value_that_was_not_kept_is_told_by_its_hashes(user):
    ran(user)
    edit(user, "limit: 5", "limit: 6")
    for path in (user.job() / "inputs").rglob("spec.yaml"):
        path.unlink()
    (change,) = row(user, "count")["changes"]
    assert (change["part"], change["hashes"]) == ("with", True)
    assert re.fullmatch(r"[0-9a-f]{16}", change["before"])


def test_a_resume_tells_its_plan_first(user):
    ran(user)
    edit(user, "in ten", "in five")
    done = user.orch("run", "job.yaml", "--resume")
    first = done.err.splitlines()[1:3]
    assert first[0] == "plan: 5 steps: 1 run, 3 skipped, 1 depending on them"
    assert first[1] == "  run      notes  prompt changed"


FAILING = """
    project: failing
    steps:
      early: {run: echo 1}
      bad: {if: inputs.word, run: echo 2}
      late: {run: echo 3}
      after: {needs: early, run: echo 4}
      clean: {finally: true, run: echo 5}
    inputs: {word: {default: no boolean}}
"""


def test_a_plan_stops_where_a_run_with_the_same_flags_would(tmp_path, snapshot):
    user = User(tmp_path)
    user.write("job.yaml", FAILING)
    assert user.orch("plan", "job.yaml").out == snapshot
    assert planned(user)["late"] == "skipped"
    assert planned(user, "--keep-going")["late"] == "run"
    assert user.orch("run", "job.yaml", "--dry-run", "-k", "--json").json["summary"]["run"] == 2
    user.orch("run", "job.yaml", code=1)
    assert not events(user.job(), "step.started", "late")


def test_a_plan_knows_what_is_forbidden_to_be_asked(tmp_path):
    user = User(tmp_path)
    user.write(
        "job.yaml",
        "project: p\nmodel: echo\nsteps:\n  a: {llm: {prompt: hello}}\n"
        "  b: {needs: a, llm: {prompt: 'and {{ steps.a.output.text }}'}}\n",
    )
    assert planned(user, "--cache-only") == {"a": "fails", "b": "skipped"}
    done = user.orch("plan", "job.yaml", "--cache-only")
    assert "the answer is not in the cache (first)" in done.out
    assert done.err.endswith("next: orch run job.yaml --cache-only\n")
    user.orch("run", "job.yaml", "--cache-only", code=6)
    user.orch("run", "job.yaml")
    assert planned(user, "--cache-only") == {"a": "cached", "b": "cached"}
    assert planned(user, "--refresh=b") == {"a": "cached", "b": "run"}
    assert "has no step 'c'" in user.orch("plan", "job.yaml", "--refresh=c", code=2).err


def test_a_plan_takes_the_answer_about_what_was_cut_off(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", "project: p\nsteps: {a: {run: 'kill -9 $PPID', effects: once}}\n")
    user.start("run", "job.yaml").communicate()
    told = {
        answer: planned(user, "--resume", "--on-interrupted", answer)["a"] for answer in ANSWERS
    }
    assert told == {"rerun": "run", "skip": "skipped", "fail": "fails"}
    assert planned(user, "--resume") == {"a": "fails"}


def test_a_plan_needs_what_a_run_needs(user):
    edit(user, "project: planned", "project: planned\ninputs: {topic: {type: string}}")
    assert "no value for the input topic" in user.orch("plan", "job.yaml", code=2).err
    assert planned(user, "--set", "topic=x")["collect"] == "run"
    edit(user, "needs: notes", "needs: nites")
    assert "nites" in user.orch("plan", "job.yaml", "--set", "topic=x", code=2).err


def test_a_result_by_hand_and_a_question_are_told(tmp_path):
    user = User(tmp_path)
    user.write(
        "job.yaml",
        "project: p\nsteps:\n  a: {run: exit 1}\n  b: {needs: a, approve: {message: 'ok?'}}\n",
    )
    user.orch("run", "job.yaml", code=1)
    user.write("a.txt", "x")
    user.orch("step", "set", "latest", "a", "-o", "a.txt", "--reason", "it is known")
    assert planned(user, "--resume") == {"a": "skipped", "b": "asks"}
    assert "it is known" in row(user, "a")["why"]


def test_items_of_a_group_are_told_one_by_one(tmp_path):
    user = User(tmp_path)
    spec = (
        "project: p\nsteps:\n  each:\n    for_each: [1, 2, 3]\n    key: '{{ item }}'\n"
        "    max_parallel: 1\n    run: 'echo $I'\n    env: {I: '{{ item }}'}\n"
        "  after: {needs: each, run: echo done}\n"
    )
    user.write("job.yaml", spec)
    user.orch("run", "job.yaml")
    user.write("job.yaml", spec.replace("[1, 2, 3]", "[3, 4, 1, 5]"))
    actions = planned(user, "--resume")
    assert actions == {
        "each": "run",
        "each[3]": "skipped",
        "each[4]": "run",
        "each[1]": "skipped",
        "each[5]": "run",
        "after": "depends",
    }


def test_a_whole_step_that_may_be_reused_is_told_as_cached(tmp_path):
    user = User(tmp_path)
    spec = (
        "project: p\nsteps:\n  a: {run: 'echo 1; echo 2 > $ORCH_OUTPUTS/x.txt', cache: true}\n"
        "  b: {needs: a, run: 'echo $X', env: {X: '{{ steps.a.output.text }}'}}\n"
    )
    user.write("job.yaml", spec)
    user.orch("run", "job.yaml")
    files = user.files()
    assert planned(user) == {"a": "cached", "b": "run"}
    assert user.files() == files


BAD = "  bad: {for_each: [1], if: item.k, run: echo bad}\n"


def stopped(tmp_path, head, steps):
    """Return what the plan of a job says that stops at `bad`, and how its steps ended."""
    user = User(tmp_path)
    user.write("job.yaml", f"project: p\n{head}steps:\n{steps}")
    rows = user.orch("plan", "job.yaml", "--json").json["steps"]
    user.orch("run", "job.yaml", code=1)
    log = [e for e in events(user.jobs()[-1]) if e.get("step")]
    ends = {
        e["step"] if e.get("item") is None else f"{e['step']}[{e['item']}]": e["type"] for e in log
    }
    return {row["step"]: row for row in rows}, ends


def test_whether_a_stopped_job_gathers_a_group_depends_on_what_comes_first(tmp_path):
    steps = "  each: {for_each: [1, 2], run: echo each}\n" + BAD
    rows, ends = stopped(tmp_path, "", steps)
    assert rows["each[1]"]["action"] == rows["each[2]"]["action"] == "run"
    assert ends["each[1]"] == ends["each[2]"] == "step.succeeded"
    assert rows["bad[1]"]["action"] == "fails"
    assert rows["each"]["action"] == "depends"
    assert rows["each"]["why"] == "some of its items run, and the job stopped when bad[1] failed"
    assert ends["each"] == "step.skipped"


def test_with_limits_it_depends_on_its_turn_whether_a_step_begins_before_the_job_stops(tmp_path):
    bad = BAD.replace("run: echo bad", "llm: {prompt: bad}")
    steps = "  a: {run: echo a}\n  b: {run: echo b}\n" + bad + "  c: {llm: {prompt: c}}\n"
    rows, ends = stopped(tmp_path, "model: echo\nlimits: {run: 1}\n", steps)
    assert ends["b"] == "step.skipped", "a stands before it"
    assert ends["c"] == "step.succeeded", "it stands beside them"
    assert {row["action"] for row in rows.values()} == {"depends"}
    turn = "its turn comes before bad[1] fails, which stops the job"
    assert rows["b"]["why"] == f"it has not run yet; only if {turn}"
    assert rows["bad[1]"]["why"].endswith("; only if nothing else stops the job before")


def test_what_a_leg_begins_first_is_sure_though_a_group_holds_items_back(tmp_path):
    steps = (
        "  a: {run: echo a}\n  each: {for_each: [1, 2], max_parallel: 1, run: echo each}\n"
        "  off: {if: 'false', run: echo off}\n" + BAD + "  c: {run: echo c}\n"
    )
    rows, ends = stopped(tmp_path, "concurrency: 2\n", steps)
    assert rows["a"]["action"] == "run"
    assert ends["a"] == "step.succeeded"
    assert rows["each[2]"]["action"] == "depends"
    assert rows["off"]["action"] == "skipped"


LISTS = "inputs: {list: {default: no list}}\n"


def test_what_runs_regardless_may_stop_a_job_before_what_stands_ahead_of_it(tmp_path):
    steps = (
        "  off: {if: 'false', run: echo off}\n  a: {run: echo a}\n"
        "  bad: {needs: off, if: always(), for_each: '{{ inputs.list }}', run: echo bad}\n"
    )
    rows, ends = stopped(tmp_path, f"concurrency: 1\n{LISTS}", steps)
    assert ends["a"] == "step.skipped"
    assert rows["a"]["action"] == "depends"


def test_a_person_may_be_asked_before_what_stands_ahead_of_it_stops_the_job(tmp_path):
    steps = (
        "  none: {for_each: [], run: echo none}\n"
        "  bad: {needs: none, for_each: '{{ inputs.list }}', run: echo bad}\n"
        "  ask: {needs: none, approve: {message: 'ok?'}}\n"
    )
    rows, ends = stopped(tmp_path, f"concurrency: 1\n{LISTS}", steps)
    assert ends["ask"] == "step.waiting"
    assert rows["ask"]["action"] == "depends"
