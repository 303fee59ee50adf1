"""A new job from an old one, which is only read; a job as it stood at any event; retrying."""

import hashlib
import os
import signal

import pytest

from userkit import User, ended, events, outputs, types, until

SPEC = """
    project: forked
    model: echo
    steps:
      a: {run: 'echo a | tee "$ORCH_OUTPUTS/a.txt"'}
      b: {needs: a, run: 'echo "b $X"', env: {X: "{{ steps.a.output.text }}"}}
      large: {python: "steps:large"}
      notes: {needs: b, llm: {prompt: "About {{ steps.b.output.text }}"}, save_as: notes.md}
      c: {needs: [b, notes], run: "echo c >> tally; echo c"}
"""


@pytest.fixture
def user(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", SPEC)
    user.write("steps.py", 'def large():\n    return "x" * 20000\n')
    user.orch("run", "job.yaml")
    return user


def everything(folder):
    """Return the hash of each file of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def started(folder):
    return [e["step"] for e in events(folder, "step.started")]


def test_a_fork_reuses_what_holds_and_leaves_the_old_job_as_it_was(user):
    old = user.job()
    before = everything(old)
    done = user.orch("fork", old.name)
    new = user.jobs()[-1]
    assert done.out == f"Job: {new.name}, Status: succeeded\n"
    assert everything(old) == before
    assert started(new) == []
    assert outputs(new) == outputs(old)
    parent = events(new, "job.started")[0]["data"]["parent"]
    assert (parent["job_id"], parent["seq"]) == (old.name, len(events(old)) - 1)
    shown = user.orch("show", new.name)
    assert f"forked from {old.name} at seq {parent['seq']}" in shown.out
    assert user.orch("show", new.name, "--json").json["parent"]["job_id"] == old.name


def test_from_a_step_on_all_is_run_again(user):
    old = user.job()
    done = user.orch("fork", "latest", "--from", "b")
    new = user.jobs()[-1]
    assert started(new) == ["b", "notes", "c"]
    assert "plan: 5 steps: 1 run, 2 skipped, 2 depending on them" in done.err
    assert (user.home / "tally").read_text() == "c\nc\n"
    assert sorted(started(old)) == ["a", "b", "c", "large", "notes"]


def test_from_an_item_on_the_other_items_of_its_group_are_kept(tmp_path):
    user = User(tmp_path)
    user.write(
        "job.yaml",
        """
        project: forked
        steps:
          each: {for_each: [x, y, z], run: echo $ORCH_ITEM}
          then: {needs: each, run: echo then}
          beside: {run: echo beside}
        """,
    )
    user.orch("run", "job.yaml")
    done = user.orch("fork", "latest", "--from", "each[y]")
    again = [(e["step"], e.get("item")) for e in events(user.jobs()[-1], "step.started")]
    assert again == [("each", "y"), ("then", None)]
    assert "run      each[y]  all from each[y] on is run again" in done.err
    user.orch("fork", "latest", "--from", "each[y]")  # of a fork
    assert len(events(user.jobs()[-1], "step.started")) == 2
    assert (
        "did you mean `each[z]`?" in user.orch("fork", "latest", "--from", "each[zz]", code=2).err
    )


def test_another_spec_runs_what_differs(user):
    user.write("new.yaml", SPEC.replace("echo c >> tally; echo c", "echo d"))
    user.orch("fork", "latest", "--spec", "new.yaml")
    assert started(user.jobs()[-1]) == ["c"]


def test_a_fork_shares_no_file_that_can_change_and_needs_its_parent_no_more(user):
    old = user.job()
    user.orch("fork", old.name, "--from", "c")
    new = user.jobs()[-1]
    for path in (new / "outputs").rglob("*"):
        if path.is_file():
            assert path.stat().st_nlink == 1, path
    (old / "outputs" / "a.txt").write_text("changed\n")
    assert (new / "outputs" / "a.txt").read_text() == "a\n"
    os.rename(old, user.home / "away")
    assert user.orch("resume", new.name).code == 0
    assert started(new) == ["c"]
    assert len(user.orch("show", new.name, "large", "--json").json["output"]) == 20000


def test_what_is_gone_from_the_parent_is_run_again(user):
    (user.job() / "outputs" / "a.txt").unlink()
    user.orch("fork", "latest")
    new = user.jobs()[-1]
    assert started(new) == ["a"]  # its output is equal: what follows is not run
    assert events(new, "step.invalidated")[0]["data"]["reason"] == "outputs/a.txt is gone"


def test_a_fork_can_be_planned_and_makes_nothing_then(user):
    files = user.files()
    done = user.orch("fork", "latest", "--from", "notes", "--dry-run", "--json")
    actions = {row["step"]: row["action"] for row in done.json["steps"]}
    assert actions["notes"] in ("run", "cached")
    assert (actions["a"], actions["b"]) == ("skipped", "skipped")
    assert user.files() == files


def test_a_fork_from_a_step_that_is_none_is_refused(user):
    done = user.orch("fork", "latest", "--from", "nites", code=2)
    assert "no step 'nites'" in done.err
    assert "did you mean `notes`?" in done.err
    assert len(user.jobs()) == 1


def test_nothing_is_taken_over_from_a_damaged_log(user):
    log = user.job() / "events.jsonl"
    log.write_text(log.read_text().replace('"text":"a"', '"text":"z"', 1))
    done = user.orch("fork", "latest", code=4)
    assert "the log is damaged" in done.err
    assert len(user.jobs()) == 1


def read_logs(user):
    return "".join(
        path.read_text() for path in user.home.glob("runs/job_*/events.jsonl") if path.exists()
    )


def test_a_job_that_runs_can_be_forked_and_goes_on(tmp_path):
    user = User(tmp_path)
    user.write(
        "job.yaml",
        """
        project: p
        steps:
          a:
            for_each: [x, y]
            timeout_s: 20
            run: |
              echo $ORCH_ITEM >> ran
              while test $ORCH_ITEM = y && ! test -e go; do sleep 0.02; done
          b: {needs: a, run: "true"}
        """,
    )
    process = user.start("run", "job.yaml")
    until(lambda: "step.succeeded" in read_logs(user), "x is done", process)
    (user.home / "go").touch()
    user.orch("fork", "latest")
    assert ended(process).code == 0
    assert (user.home / "ran").read_text().count("x") == 1


def test_a_fork_of_a_fork_and_a_renamed_step(user):
    user.orch("fork", "latest", "--from", "c")
    user.write("new.yaml", SPEC.replace("\n      large:", "\n      big:"))
    user.orch("fork", "latest", "--spec", "new.yaml")
    assert started(user.jobs()[-1]) == []


def test_the_state_at_every_event_can_be_shown(user):
    job = user.job()
    log = events(job)
    for seq in range(0, len(log), 4):
        shown = user.orch("show", "latest", "--at", seq, "--json").json
        done = [e["step"] for e in log[: seq + 1] if e["type"] == "step.succeeded"]
        assert sorted(shown["completed_steps"]) == sorted(done)
        assert shown["seq"] == seq
        assert shown["status"] == ("running" if seq < len(log) - 1 else "succeeded")
    last = user.orch("show", "latest", "--at", len(log) - 1, "--json").json
    assert last == user.orch("show", "latest", "--json").json
    begun = user.orch("show", "latest", "b", "--at", 2, "--json").json
    assert begun["status"] == "pending"
    done = user.orch("show", "latest", "--at", len(log), code=2)
    assert f"its events are 0 to {len(log) - 1}" in done.err
    assert types(job)[-1] == "job.succeeded"


def test_only_a_job_with_failed_steps_is_retried(tmp_path):
    user = User(tmp_path)
    user.write(
        "job.yaml",
        "project: p\nsteps:\n  a: {run: echo 1}\n  b: {needs: a, run: test -e go}\n"
        "  c: {needs: b, run: echo 3}\n",
    )
    user.orch("run", "job.yaml", code=1)
    user.orch("retry", "latest", code=1)
    user.write("go", "")
    user.orch("retry", "latest")
    assert started(user.job()) == ["a", "b", "b", "b", "c"]
    size = (user.job() / "events.jsonl").stat().st_size
    assert "nothing failed" in user.orch("retry", "latest").err
    assert (user.job() / "events.jsonl").stat().st_size == size


ONCE = "{project: p, steps: {a: {run: 'true'}, b: {needs: a, effects: once, run: COMMAND}}}"


def test_a_fork_asks_before_it_does_what_a_cut_off_attempt_may_have_done(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", ONCE.replace("COMMAND", "'echo b >> done; sleep 60'"))
    process = user.start("run", "job.yaml")
    until((user.home / "done").exists, "the step began", process)
    os.killpg(process.pid, signal.SIGKILL)
    ended(process)
    job = user.job().name
    user.write("new.yaml", ONCE.replace("COMMAND", "'echo b >> done'"))
    for more in ((), ("--dry-run",)):
        done = user.orch("fork", "latest", "--spec", "new.yaml", *more, code=2)
        assert f"step b was cut off in {job} and may have done its work" in done.err
        assert f"orch fork {job} --from b" in done.err
    assert (user.home / "done").read_text() == "b\n"
    assert user.jobs() == [user.job()]
    user.orch("fork", job, "--spec", "new.yaml", "--from", "b")
    assert (user.home / "done").read_text() == "b\nb\n"
