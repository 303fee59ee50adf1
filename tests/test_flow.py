"""Conditions, failures, limits and interruptions, with real steps, through `orch`."""

import re
import signal

import pytest

from userkit import User, ended, events, outputs, types, until


@pytest.fixture
def user(tmp_path):
    return User(tmp_path)


def skips(job):
    """Return why each step of the last leg was not run."""
    lines = events(job)
    begin = max(i for i, e in enumerate(lines) if e["type"] in ("job.started", "job.resumed"))
    return {e["step"]: e["data"]["reason"] for e in lines[begin:] if e["type"] == "step.skipped"}


def ran(job):
    return [e["step"] for e in events(job, "step.started")]


# --- conditions ----------------------------------------------------------------------------------

CONDITIONS = """
    project: conditions
    inputs: {publish: {default: false}}
    steps:
      build: {run: "echo built"}
      publish: {needs: build, if: inputs.publish, run: "echo published"}
      announce: {needs: publish, run: "echo told"}
      mirror: {needs: announce, run: "echo mirrored"}
      record:
        needs: [publish, build]
        if: steps.publish.status in ["succeeded", "skipped"]
        run: 'echo "$P" > "$ORCH_OUTPUTS/record.txt"'
        env: {P: "{{ steps.publish.status }}/{{ steps.publish.output }}"}
"""


def test_a_step_whose_condition_is_false_is_skipped_with_what_needs_it_and_the_job_succeeds(user):
    user.write("job.yaml", CONDITIONS)
    done = user.orch("run", "job.yaml")
    job = user.job()
    assert skips(job) == {
        "publish": "its condition is false: inputs.publish",
        "announce": "it needs publish, which was skipped",
        "mirror": "it needs publish, which was skipped",
    }
    (skip,) = events(job, "step.skipped", "publish")
    assert skip["data"]["condition"] == "inputs.publish"
    assert outputs(job) == {"record.txt": "skipped/\n"}
    assert "2 succeeded, 3 skipped" in done.err


def test_a_condition_is_asked_again_on_resume_and_what_changed_runs(user):
    user.write("job.yaml", CONDITIONS)
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml", "--resume", "--set", "publish=true")
    job = user.job()
    assert sorted(ran(job)) == ["announce", "build", "mirror", "publish", "record", "record"]
    user.orch("run", "job.yaml", "--resume", "--set", "publish=false")
    assert "publish" in skips(job)


def test_a_condition_that_can_not_be_told_fails_its_step(user):
    user.write("job.yaml", "{project: p, steps: {a: {if: project, run: 'true'}}}")
    done = user.orch("run", "job.yaml", code=1)
    assert "step a failed (template): the condition `project` is a string, neither true" in done.err
    assert not events(user.job(), "step.started")


# --- failures ------------------------------------------------------------------------------------

BORNE = """
    project: borne
    steps:
      lint: {run: "echo 3 faults >&2; exit 3", continue_on_error: true}
      report:
        needs: lint
        run: 'echo "$S $O: $E"'
        env:
          S: "{{ steps.lint.status }}"
          O: "{{ steps.lint.output is none }}"
          E: "{{ steps.lint.error }}"
      untouched: {needs: lint, if: failed(), run: "echo no"}
"""


def test_a_failure_with_continue_on_error_is_told_and_is_not_the_jobs(user):
    user.write("job.yaml", BORNE)
    done = user.orch("run", "job.yaml", "--json")
    assert "note: step lint failed, and the job went on (exit): the command exited" in done.err
    (report,) = events(user.job(), "step.succeeded", "report")
    text = report["data"]["output"]["text"]
    assert text == "failed true: the command exited with status 3: 3 faults"
    assert done.json["failures"] == []
    assert [failure["step"] for failure in done.json["tolerated"]] == ["lint"]
    (end,) = events(user.job(), "job.succeeded")
    assert [failure["kind"] for failure in end["data"]["tolerated"]] == ["exit"]
    assert skips(user.job()) == {"untouched": "its condition is false: failed()"}


RESCUE = """
    project: rescue
    steps:
      deploy: {run: "echo half; test -e fixed"}
      verify: {needs: deploy, run: "echo fine"}
      rollback:
        needs: verify
        if: failed()
        run: 'echo "$E"'
        env: {E: "{{ steps.verify.status }} after {{ steps.deploy.status }}"}
      audit: {needs: verify, if: always(), run: "echo seen"}
      other: {needs: [], run: "sleep 0.05", timeout_s: 20}
      last: {needs: other, run: "echo last"}
      clean:
        finally: true
        run: 'echo "$S $F"'
        env: {S: "{{ job.status }}", F: "{{ job.failures | length }}"}
      sweep: {finally: true, needs: clean, run: "echo swept"}
"""


def test_after_a_failure_come_the_steps_that_ask_for_it_and_then_what_is_final(user):
    user.write("job.yaml", RESCUE)
    done = user.orch("run", "job.yaml", code=1)
    job = user.job()
    assert ran(job)[-2:] == ["clean", "sweep"]
    assert set(ran(job)) == {"deploy", "other", "rollback", "audit", "clean", "sweep"}
    said = {e["step"]: e["data"]["output"]["text"] for e in events(job, "step.succeeded")}
    assert said["rollback"] == "skipped after failed"
    assert said["clean"] == "failed 1"
    assert skips(job) == {
        "verify": "it needs deploy, which failed",
        "last": "the job stopped when deploy failed",
    }
    assert "go on: orch run job.yaml --resume" in done.err


def test_what_is_final_comes_again_whenever_anything_has_run_and_only_then(user):
    user.write("job.yaml", RESCUE)
    user.orch("run", "job.yaml", code=1)
    (user.home / "fixed").touch()
    user.orch("run", "job.yaml", "--resume")
    job = user.job()
    said = [e["data"]["output"]["text"] for e in events(job, "step.succeeded", "clean")]
    assert said == ["failed 1", "succeeded 0"]
    assert ran(job).count("sweep") == 2  # though its key is the same
    assert skips(job)["rollback"] == "its condition is false: failed()"
    before = len(events(job, "step.started"))
    user.orch("run", "job.yaml", "--resume")
    assert len(events(job, "step.started")) == before
    assert types(job)[-1] == "job.succeeded"


def test_a_failed_job_tells_every_failure_with_the_last_lines_of_its_log(user):
    user.write("mod.py", "def broken():\n    raise ValueError('no bees')\n")
    user.write(
        "job.yaml",
        """
        project: many
        steps:
          silent: {run: "echo the reason is on stdout; exit 4"}
          loud: {run: "echo one >&2; echo two >&2; exit 5"}
          code: {python: "mod:broken"}
          rest: {needs: loud, run: "echo"}
        """,
    )
    done = user.orch("run", "job.yaml", "--keep-going", code=1)
    name = user.job().name
    for line in (
        "error: step silent failed (exit): the command exited with status 4: the reason is on",
        "error: step loud failed (exit): the command exited with status 5: one\n  | two\n",
        f"  hint: all it said: orch logs {name} loud",
        "error: step code failed (exception): ValueError: no bees (",
        "go on: orch run job.yaml --resume",
    ):
        assert line in done.err
    assert skips(user.job()) == {"rest": "it needs loud, which failed"}


# --- retries and time limits ----------------------------------------------------------------------


def test_a_step_is_tried_again_as_its_retry_says_and_each_attempt_is_told(user):
    user.write(
        "job.yaml",
        """
        project: retries
        steps:
          flaky:
            run: 'n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n > n; test $n -ge 3'
            retry: {max_attempts: 3, initial_s: 0.02, factor: 2, max_s: 1, jitter: 0, on: [exit]}
        """,
    )
    user.orch("run", "job.yaml")
    retries = events(user.job(), "step.retrying")
    assert [e["data"]["attempt"] for e in retries] == [1, 2]
    assert [e["data"]["retry_in_s"] for e in retries] == [0.02, 0.04]
    assert [e["level"] for e in retries] == ["WARN", "WARN"]
    (end,) = events(user.job(), "step.succeeded")
    assert end["data"]["attempt"] == 3


def test_a_kind_of_failure_that_retry_does_not_name_is_not_tried_again(user):
    user.write(
        "job.yaml",
        "{project: p, steps: {a: {run: 'exit 1', retry: {max_attempts: 3, on: [timeout]}}}}",
    )
    user.orch("run", "job.yaml", code=1)
    assert not events(user.job(), "step.retrying")


@pytest.mark.parametrize(
    "step",
    ["run: sleep 60", "python: 'slow:nap'", "run: 'while :; do :; done'"],
    ids=["shell", "python", "busy"],
)
def test_an_attempt_that_takes_too_long_is_ended_and_may_be_tried_again(user, step):
    user.write("slow.py", "import time\ndef nap():\n    time.sleep(60)\n")
    user.write(
        "job.yaml",
        f"""
        project: late
        steps:
          slow:
            {step}
            timeout_s: 0.2
            retry: {{max_attempts: 2, initial_s: 0, max_s: 0}}
        """,
    )
    done = user.orch("run", "job.yaml", code=1)
    kinds = [e["data"]["kind"] for e in events(user.job()) if "kind" in e.get("data", {})]
    assert kinds.count("timeout") == 2
    assert "attempt 2 took longer than 0.2 s" in done.err


def test_when_the_jobs_time_is_over_what_runs_is_ended_and_what_is_final_still_comes(user):
    user.write(
        "job.yaml",
        """
        project: late
        timeout_s: 0.3
        steps:
          slow: {run: sleep 60}
          after: {needs: slow, run: "echo no"}
          free: {run: "echo free"}
          clean: {finally: true, run: "echo clean"}
        """,
    )
    done = user.orch("run", "job.yaml", code=1)
    job = user.job()
    assert "step slow failed (timeout): the job's timeout_s: 0.3 is over" in done.err
    assert skips(job) == {"after": "it needs slow, which failed"}
    assert [e["step"] for e in events(job, "step.succeeded")] == ["free", "clean"]
    (end,) = events(job, "job.failed")
    assert end["data"]["reason"] == "timeout_s: 0.3 is over"


# --- interruptions --------------------------------------------------------------------------------

ONCE = """
    project: once
    steps:
      pay:
        run: 'echo paid >> ledger; test -e gate || { touch running; sleep 60; }; echo done'
        effects: once
      thank: {needs: pay, run: "echo thanks"}
"""


@pytest.fixture
def killed(user):
    """A job that was killed in a step whose effects must not happen twice."""
    user.write("job.yaml", ONCE)
    process = user.start("run", "job.yaml")
    until((user.home / "running").exists, "the step runs", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (user.home / "gate").touch()
    return user


def test_a_killed_step_whose_effects_must_not_happen_twice_stops_and_asks(killed):
    done = killed.orch("run", "job.yaml", "--resume", code=1)
    name = killed.job().name
    assert (killed.home / "ledger").read_text() == "paid\n"
    assert "step pay failed (interrupted): attempt 1 was cut off and may have done" in done.err
    assert f"orch resume {name} --on-interrupted rerun, skip or fail" in done.err
    killed.orch("resume", "latest", code=1)  # it goes on asking
    assert (killed.home / "ledger").read_text() == "paid\n"
    first = events(killed.job(), "step.started", "pay")[0]["data"]["idempotency_key"]
    assert first in killed.orch("show", "latest", "pay", "--json").out


def test_it_is_run_again_when_told_to(killed):
    killed.orch("run", "job.yaml", "--resume", "--on-interrupted", "rerun")
    assert (killed.home / "ledger").read_text() == "paid\npaid\n"
    keys = [e["data"]["idempotency_key"] for e in events(killed.job(), "step.started", "pay")]
    assert len(set(keys)) == 1
    assert types(killed.job())[-1] == "job.succeeded"


def test_it_is_the_same_step_under_another_name(killed):
    killed.write("job.yaml", ONCE.replace("pay", "payment"))
    plan = killed.orch("plan", "job.yaml", "--resume").out
    assert re.search(r"fails +payment +attempt 1 was cut off and may have done", plan)
    done = killed.orch("run", "job.yaml", "--resume", code=1)
    assert (killed.home / "ledger").read_text() == "paid\n"
    key = events(killed.job(), "step.started", "pay")[0]["data"]["idempotency_key"]
    look = re.search(r"orch (show \S+ \S+ --json)", done.err)[1]
    assert key in killed.orch(*look.split()).out
    killed.orch("run", "job.yaml", "--resume", "--on-interrupted", "rerun")
    assert (killed.home / "ledger").read_text() == "paid\npaid\n"
    (again,) = events(killed.job(), "step.started", "payment")
    assert (again["data"]["attempt"], again["data"]["idempotency_key"]) == (2, key)


@pytest.mark.parametrize(("answer", "code"), [("skip", 0), ("fail", 1)])
def test_it_is_skipped_or_failed_when_told_to(killed, answer, code):
    killed.orch("resume", "latest", "--on-interrupted", answer, code=code)
    assert (killed.home / "ledger").read_text() == "paid\n"
    why = skips(killed.job())
    if answer == "skip":
        assert "attempt 1 was cut off, and is not made again" in why["pay"]
        assert why["thank"] == "it needs pay, which was skipped"
    else:
        assert why == {"thank": "it needs pay, which failed"}


def test_a_step_that_kills_its_process_each_time_is_given_up(user):
    user.write(
        "job.yaml",
        """
        project: killer
        steps:
          bomb: {run: "kill -9 $ORCH_TEST_PARENT; sleep 60", max_recoveries: 1}
        """.replace("$ORCH_TEST_PARENT", "$PPID"),
    )
    user.write("job.yaml", user.home.joinpath("job.yaml").read_text())
    for _ in range(2):
        assert ended(user.start("run", "job.yaml", "--resume")).code == -signal.SIGKILL
    done = user.orch("run", "job.yaml", "--resume", code=1)
    assert "its process has ended 2 times in a row while it ran" in done.err
    assert "--on-interrupted rerun tries it once more" in done.err
    assert len(events(user.job(), "step.started")) == 2
    assert ended(user.start("resume", "latest", "--on-interrupted", "rerun")).code == -9


def test_a_step_that_has_lost_its_result_and_must_not_happen_twice_stops_and_asks(user):
    user.write(
        "job.yaml",
        """
        project: receipt
        steps:
          pay: {run: 'echo paid >> ledger; echo 1 > $ORCH_OUTPUTS/receipt', effects: once}
          thank: {needs: pay, run: echo thanks}
        """,
    )
    user.orch("run", "job.yaml")
    (user.job() / "outputs" / "receipt").unlink()
    for _ in range(2):  # it goes on asking
        done = user.orch("run", "job.yaml", "--resume", code=1)
        assert "attempt 1 has lost its result and has done its work, which must not" in done.err
    assert ran(user.job()) == ["pay", "thank"]
    user.orch("resume", "latest", "--on-interrupted", "rerun")
    assert (user.home / "ledger").read_text() == "paid\npaid\n"
    assert ran(user.job()) == ["pay", "thank", "pay"]


def test_files_are_made_again_where_another_output_dir_wants_them(user):
    spec = """
        project: moved
        output_dir: first
        steps:
          a: {run: 'echo 1 > $ORCH_OUTPUTS/a.txt'}
          b: {needs: a, run: echo no file}
    """
    user.write("job.yaml", spec)
    user.orch("run", "job.yaml")
    user.write("job.yaml", spec.replace("first", "second"))
    plan = user.orch("plan", "job.yaml", "--resume").out
    assert "outputs/first/a.txt is not below the job's output_dir, second" in plan
    user.orch("run", "job.yaml", "--resume")
    assert outputs(user.job())["second/a.txt"] == "1\n"
    assert ran(user.job())[2:][:1] == ["a"]


def test_a_result_whose_file_was_changed_is_invalid_and_made_again(user):
    user.write(
        "job.yaml",
        "{project: p, steps: {a: {run: 'echo new > $ORCH_OUTPUTS/a.txt'}, "
        "b: {needs: a, run: echo}}}",
    )
    user.orch("run", "job.yaml")
    (user.job() / "outputs" / "a.txt").write_text("edited")
    user.orch("run", "job.yaml", "--resume")
    (note,) = events(user.job(), "step.invalidated")
    assert (note["step"], note["data"]["reason"]) == ("a", "outputs/a.txt has changed")
    assert outputs(user.job()) == {"a.txt": "new\n"}
    assert ran(user.job()) == ["a", "b", "a"]


# --- limits ---------------------------------------------------------------------------------------


def test_no_more_steps_of_a_kind_run_at_once_than_the_limits_say(user):
    user.write(
        "job.yaml",
        """
        project: limits
        concurrency: 8
        limits: {run: 2}
        steps:
          each: {for_each: [1, 2, 3, 4, 5, 6], run: "sleep 0.05"}
          other: {llm: {provider: offline, model: echo, prompt: Hi}}
        """,
    )
    user.orch("run", "job.yaml")
    running, most = 0, 0
    for event in events(user.job(), step="each"):
        running += event["type"] == "step.started"
        running -= event["type"] == "step.succeeded" and "item" in event
        most = max(most, running)
    assert most == 2


def test_what_a_command_says_is_kept_up_to_the_limits_and_the_cut_is_marked(user):
    user.write(
        "job.yaml",
        """
        project: caps
        limits: {log_bytes: 100, output_bytes: 6000}
        steps:
          loud: {run: "yes 0123456789 | head -c 5000"}
          large: {python: "big:big", continue_on_error: true}
        """,
    )
    user.write("big.py", "def big():\n    return 'x' * 7000\n")
    done = user.orch("run", "job.yaml")
    (loud,) = events(user.job(), "step.succeeded", "loud")
    assert loud["data"]["output"]["truncated"] is True
    assert len(loud["data"]["output"]["text"]) == 1000
    assert "4900 more bytes not written: the limit is 100" in user.orch("logs", "latest").out
    assert "its output has 7,002 bytes, and may have 6,000" in done.err


# --- with items ----------------------------------------------------------------------------------


def test_a_condition_is_asked_of_each_item_and_a_failure_of_an_item_can_be_borne(user):
    user.write(
        "job.yaml",
        """
        project: items
        steps:
          each:
            for_each: [1, 2, 3, 4]
            if: item != 2
            run: 'test "$N" != 3 && echo "$N"'
            env: {N: "{{ item }}"}
            continue_on_error: true
          none: {for_each: [1, 2], if: "project == 'x'", run: "echo"}
          after: {needs: each, run: 'echo "$S"', env: {S: "{{ steps.each.status }}"}}
          end: {finally: true, run: 'echo "$S"', env: {S: "{{ job.status }}"}}
        """,
    )
    done = user.orch("run", "job.yaml")
    job = user.job()
    assert [e["data"]["reason"] for e in events(job, "step.skipped", "each")] == [
        "its condition is false: item != 2"
    ]
    assert [e["step"] for e in events(job, "step.skipped")] == ["none", "each"]
    (after,) = events(job, "step.succeeded", "after")
    assert after["data"]["output"]["text"] == "failed"
    (end,) = events(job, "step.succeeded", "end")
    assert end["data"]["output"]["text"] == "succeeded"
    assert "note: step each[3] failed, and the job went on" in done.err


def test_what_is_final_comes_after_all_items(user):
    user.write(
        "job.yaml",
        """
        project: items
        steps:
          each: {for_each: [1, 2, 3], max_parallel: 1, run: "exit $N", env: {N: "{{ item }}"}}
          end: {finally: true, run: 'echo "$F"', env: {F: "{{ job.failures | length }}"}}
        """,
    )
    user.orch("run", "job.yaml", code=1)
    job = user.job()
    assert ran(job) == ["each", "end"]
    assert types(job)[-2:] == ["step.succeeded", "job.failed"]
    assert len(events(job, "step.skipped", "each")) == 2  # items
    assert len(events(job, "step.failed", "each")) == 2  # an item, and the step itself


# --- what is written, and what is read ------------------------------------------------------------


def test_a_log_that_can_not_be_written_ends_the_job_at_once_and_it_goes_on_from_there(user):
    steps = "".join(
        f"  s{i}: {{needs: [{f's{i - 1}' if i else ''}], run: 'echo {i} >> ran'}}\n"
        for i in range(12)
    )
    user.write("job.yaml", f"project: full\nsteps:\n{steps}")
    done = user.sh("ulimit -f 4; orch run job.yaml", code=4)
    assert "error: write failed: File too large [EFBIG]" in done.err
    assert f"{user.job().name}/events.jsonl, offset " in done.err
    log = (user.job() / "events.jsonl").read_bytes()
    assert log.endswith(b"\n")
    assert len(log) <= 4096
    recorded = [e["step"] for e in events(user.job(), "step.succeeded")]
    assert 0 < len(recorded) < 12
    user.orch("run", "job.yaml", "--resume")
    effects = (user.home / "ran").read_text().split()
    assert [effects.count(str(i)) for i in range(len(recorded))] == [1] * len(recorded)


def test_a_running_job_reads_no_prompt_again_and_keys_files_as_they_are_when_they_are_read(user):
    user.write("prompt.txt", "one")
    user.write("in.txt", "one")
    user.write(
        "job.yaml",
        """
        project: edited
        model: echo
        steps:
          first: {run: 'touch begun; until test -e go; do sleep 0.01; done'}
          ask: {needs: first, llm: {prompt: 'file://prompt.txt'}}
          read: {needs: first, run: cat in.txt, files: [in.txt]}
        """,
    )
    process = user.start("run", "job.yaml")
    until((user.home / "begun").exists, "the step", process)
    user.write("prompt.txt", "two")
    user.write("in.txt", "two")
    (user.home / "go").touch()
    assert ended(process).code == 0
    said = {e["step"]: e["data"]["output"]["text"] for e in events(user.job(), "step.succeeded")}
    assert (said["ask"].strip(), said["read"]) == ("one", "two")
    before = len(ran(user.job()))
    user.orch("run", "job.yaml", "--resume")
    assert ran(user.job())[before:] == ["ask"]


def test_a_step_that_succeeded_at_its_second_attempt_is_not_run_again(user):
    user.write(
        "job.yaml",
        """
        project: second
        steps:
          a:
            run: 'test -e mark || { touch mark; exit 1; }'
            retry: {max_attempts: 2, initial_s: 0, on: [exit]}
        """,
    )
    user.orch("run", "job.yaml")
    assert len(ran(user.job())) == 2
    user.orch("run", "job.yaml", "--resume")
    assert len(ran(user.job())) == 2
