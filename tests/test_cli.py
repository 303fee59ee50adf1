"""The command line as its users and their scripts see it."""

import importlib.metadata
import json
import os
import re
import shutil
import signal

import pytest

from userkit import User, ended, events, needs_bash, outputs, plain, types, until

OFFLINE = "{project: p, provider: offline, task_description: Count words}\n"
TWO_STEPS = """
    project: two
    inputs:
      word: {type: string, default: bees}
    steps:
      say:
        run: "echo $WORD; echo heard >&2; echo $WORD > $ORCH_OUTPUTS/word.txt"
        env: {WORD: "{{ inputs.word }}"}
      ask:
        needs: [say]
        llm: {provider: offline, model: echo, prompt: "Of {{ steps.say.output.text }}"}
    outputs:
      answer: "{{ steps.ask.output.text }}"
"""
FAILS = """
    project: fails
    steps:
      good: {run: "echo 1"}
      bad: {needs: [good], run: "echo oh no >&2; exit 3"}
      never: {needs: [bad], run: "echo 2"}
"""


@pytest.fixture
def user(tmp_path):
    return User(tmp_path)


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A folder with three jobs: one of two steps, one that failed, one of the built-in steps."""
    user = User(tmp_path_factory.mktemp("lived"))
    user.write("two.yaml", TWO_STEPS)
    user.write("fails.yaml", FAILS)
    user.write("offline.yaml", OFFLINE)
    user.orch("run", "two.yaml")
    user.orch("run", "fails.yaml", code=1)
    user.orch("run", "offline.yaml")
    return user


def copy_of(user, folder):
    shutil.copytree(user.home, folder, symlinks=True, dirs_exist_ok=True)
    return User(folder)


# --- version and start-up --------------------------------------------------------------------


@pytest.mark.parametrize("script", ["orch", "orchestrator", "python -m orchestrator"])
@needs_bash
def test_the_version_is_the_distribution_s(user, script):
    assert user.sh(f"{script} --version").out == "unified-orchestrator 2.1.0\n"
    assert importlib.metadata.version("unified-orchestrator") == "2.1.0"


LOADED = """
    import sys
    sys.argv = ["orch", *{args!r}]
    from orchestrator.cli import main
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    finally:
        loaded = sorted(set({heavy!r}) & set(sys.modules))
        print("loaded:", *loaded, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "args",
    [["--help"], ["run", "--help"], ["list"], ["show"], ["tail"], ["logs"]],
    ids=" ".join,
)
def test_looking_at_jobs_loads_nothing_heavy(lived, args):
    heavy = ["duckdb", "httpx", "rich", "pydantic", "yaml", "minijinja", "asyncio", "sqlite3"]
    done = lived.python(LOADED.format(args=args, heavy=heavy))
    assert "loaded:\n" in done.err


@pytest.mark.parametrize(
    "args", [["validate", "two.yaml"], ["run", "two.yaml", "--runs-dir", "light"]], ids=" ".join
)
def test_what_needs_no_server_and_no_sql_loads_neither(lived, args):
    heavy = ["duckdb", "httpx", "rich", "pydantic"]
    done = lived.python(LOADED.format(args=args, heavy=heavy))
    assert "loaded:\n" in done.err


# --- what people see -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["show", "latest"],
        ["show", "FIRST"],
        ["show", "FIRST", "say"],
        ["show", "FAILED"],
        ["logs", "FIRST"],
        ["logs", "FAILED", "bad"],
        ["tail", "FIRST", "-n", "4"],
    ],
    ids=" ".join,
)
def test_what_people_see(lived, args, snapshot):
    first, failed, _ = (job.name for job in lived.jobs())
    names = {"FIRST": first, "FAILED": failed}
    done = lived.orch(*(names.get(arg, arg) for arg in args))
    assert plain(done.out) == snapshot(name="stdout")
    assert plain(done.err) == snapshot(name="stderr")


COMMANDS = ["run", "resume", "list", "show", "logs", "tail", "validate", "init"]


def test_help_names_every_command_in_a_line_that_is_not_cut(user):
    shown = user.orch("--help").out.partition("Commands:")[2]
    for name in (*COMMANDS, "events", "migrate-events"):
        assert f"\n  {name} " in shown
    assert "..." not in shown
    assert "orch init demo" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_an_example(user, name):
    shown = user.orch(name, "--help").out
    assert f"Example: orch {name}" in shown
    assert "--no-no-" not in shown


ONE_AT_ONCE = OFFLINE.replace("}", ", concurrency: 1}")


@pytest.mark.parametrize("spec", [TWO_STEPS, FAILS, ONE_AT_ONCE], ids=["two", "fails", "offline"])
def test_what_people_see_of_a_run(user, spec, snapshot):
    user.write("job.yaml", spec)
    done = user.orch("run", "job.yaml", code=None)
    assert plain(done.out) == snapshot(name="stdout")
    assert plain(done.err) == snapshot(name="stderr")


# --- what scripts see ------------------------------------------------------------------------


def test_list_as_json(lived):
    shown = lived.orch("list", "--json").json
    assert shown["schema_version"] == 1
    assert [(row["project"], row["status"]) for row in shown["rows"]] == [
        ("p", "succeeded"),
        ("fails", "failed"),
        ("two", "succeeded"),
    ]
    assert shown["rows"][1]["completed"] == 1
    assert shown["rows"][1]["steps"] == 3
    assert lived.orch("list-runs", "--json").json == shown


def test_list_picks_by_status_and_number(lived):
    assert len(lived.orch("list", "--json", "-n", 1).json["rows"]) == 1
    (row,) = lived.orch("list", "--json", "--status", "failed").json["rows"]
    assert row["project"] == "fails"


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "markdown"])
def test_list_in_other_formats_has_a_line_a_job(lived, form):
    lines = lived.orch("list", "--format", form).out.splitlines()
    heads = {"jsonl": 0, "csv": 1, "tsv": 1, "markdown": 2}[form]
    assert len(lines) == heads + 3
    assert all(job.name in "\n".join(lines[heads:]) for job in lived.jobs())


def test_list_to_a_file(lived, tmp_path):
    path = tmp_path / "jobs.json"
    assert lived.orch("list", "--json", "-o", path).out == ""
    assert len(json.loads(path.read_text())["rows"]) == 3


def test_show_as_json_is_the_manifest_s_content(lived):
    job = lived.jobs()[0]
    shown = lived.orch("show", job.name, "--json").json
    assert shown == json.loads((job / "manifest.json").read_text())
    assert shown["schema_version"] == 1
    assert [step["status"] for step in shown["steps"]] == ["succeeded", "succeeded"]
    assert [file["path"] for file in shown["files"]] == ["word.txt"]
    step = lived.orch("show", job.name, "say", "--json").json
    assert step["output"] == {"text": "bees", "exit_code": 0}
    assert [event["type"] for event in step["events"]] == [
        "step.started",
        "file.written",
        "step.succeeded",
    ]


def test_an_id_a_unique_prefix_and_latest_name_a_job(lived):
    first, failed, last = lived.jobs()
    for ref, meant in ((first.name, first), (last.name[:-1], last), ("latest", last)):
        assert lived.orch("show", ref, "--json").json["job_id"] == meant.name
    done = lived.orch("show", "job_", code=2)
    assert "means 3 jobs" in done.err
    assert failed.name in done.err


@needs_bash
def test_stdout_is_data_and_stderr_is_talk(user):
    user.write("job.yaml", TWO_STEPS)
    shown = user.sh("orch run job.yaml --json 2>/dev/null")
    assert shown.json["status"] == "succeeded"
    assert shown.json["exit_code"] == 0
    assert shown.json["job_id"] == user.job().name
    told = user.sh("orch run job.yaml --resume 2>&1 >/dev/null")
    assert told.out.startswith(user.job().name)
    assert "next: orch show" in told.out
    quiet = user.orch("run", "job.yaml", "--display", "none")
    assert quiet.err == ""
    assert quiet.out == f"Job: {user.jobs()[-1].name}, Status: succeeded\n"


def test_display_json_prints_every_event_of_the_job(user):
    user.write("job.yaml", TWO_STEPS)
    shown = user.orch("run", "job.yaml", "--display", "json")
    lines = [json.loads(line) for line in shown.out.splitlines()]
    log = [event for event in events(user.job()) if event["type"] != "log.opened"]
    for event in log:
        del event["prev"], event["sum"]
        event.pop("dur", None)
    assert lines == log


def test_a_failed_run_as_json_says_so(user):
    user.write("job.yaml", FAILS)
    shown = user.orch("run", "job.yaml", "--json", code=1).json
    assert (shown["status"], shown["exit_code"]) == ("failed", 1)
    assert shown["failures"][0]["step"] == "bad"
    assert shown["pending_steps"] == ["never"]


@needs_bash
def test_a_reader_that_has_had_enough_is_no_error(lived, tmp_path):
    user = copy_of(lived, tmp_path)
    for command in ("orch list", "orch show", "orch logs", "orch tail -n 100", "orch events cat"):
        user.sh(f"{command} 2>err | head -c 1 > /dev/null")
        told = (user.home / "err").read_text().lower()
        assert "error" not in told, (command, told)
        assert "broken" not in told, (command, told)
    done = user.sh(
        "set -o pipefail; orch run two.yaml --display json | head -n 1 | wc -l", code=None
    )
    assert done.code == 0, done
    assert types(user.jobs()[-1])[-1] == "job.succeeded"


@pytest.mark.parametrize("args", ["list", "show", "logs FIRST", "tail", "list --json"])
def test_what_only_prints_is_ended_by_a_closed_pipe_like_cat(lived, args):
    reader, writer = os.pipe()
    os.close(reader)
    args = args.replace("FIRST", lived.jobs()[0].name).split()
    process = lived.start(*args, stdout=writer)
    os.close(writer)
    _, told = process.communicate()
    assert process.returncode == -signal.SIGPIPE
    assert "error" not in told.lower()


@needs_bash
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_change_nothing_of_the_job(user, closed):
    user.write("job.yaml", TWO_STEPS)
    user.sh(f"orch run job.yaml {closed}")
    assert types(user.job())[-1] == "job.succeeded"
    assert outputs(user.job()) == {"word.txt": "bees\n"}
    for line in (user.job() / "events.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@needs_bash
@pytest.mark.parametrize("command", ["run two.yaml", "list", "show --json", "events cat latest"])
def test_a_full_disk_behind_stdout_is_one_clear_error(lived, tmp_path, command):
    user = copy_of(lived, tmp_path)
    done = user.sh(f"orch {command} > /dev/full", code=4)
    assert "error: the system refused: No space left on device" in done.err
    assert "Exception ignored" not in done.err


@needs_bash
def test_text_that_the_terminal_can_t_show_is_written_out(user):
    user.write("job.yaml", "project: Grüße\nsteps:\n  a: {run: 'true'}\n")
    user.env.update(PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C")
    user.sh("orch run job.yaml")
    assert r"Gr\xfc\xdfe" in user.sh("orch list").out


# --- logs that grow --------------------------------------------------------------------------


def test_tail_follows_a_job_to_its_end(user):
    user.write(
        "job.yaml",
        """
        project: p
        steps:
          wait: {run: "touch begun; until test -e go_on; do sleep 0.02; done"}
          last: {needs: [wait], run: "true"}
        """,
    )
    job = user.start("run", "job.yaml")
    until((user.home / "begun").exists, "the step", job)
    tail = user.start("tail", "-f", "latest", "--raw", "-n", "1000")
    seen = json.loads(tail.stdout.readline())
    assert seen["type"] == "log.opened"
    assert user.orch("list", "--json").json["rows"][0]["status"] == "running"
    (user.home / "go_on").touch()
    assert ended(job).code == 0
    rest = [json.loads(line)["type"] for line in tail.stdout]
    assert rest == types(user.job())[1:]
    assert ended(tail).code == 0


def test_a_killed_job_is_listed_as_far_as_its_log_goes(user):
    user.write(
        "job.yaml",
        """
        project: p
        steps:
          first: {run: "true"}
          long: {needs: [first], run: "touch begun; sleep 300"}
        """,
    )
    job = user.start("run", "job.yaml")
    until((user.home / "begun").exists, "the step", job)
    job.kill()
    job.communicate()
    (row,) = user.orch("list", "--json").json["rows"]
    assert (row["status"], row["completed"], row["steps"]) == ("interrupted", 1, 2)
    assert user.orch("show", "--json").json["status"] == "interrupted"


# --- run's options ---------------------------------------------------------------------------


def test_set_gives_inputs_and_a_resume_remembers_them(user):
    user.write("job.yaml", TWO_STEPS)
    user.orch("run", "job.yaml", "--set", "word=ants")
    assert outputs(user.job()) == {"word.txt": "ants\n"}
    user.orch("run", "job.yaml", "--resume")
    assert len(events(user.job(), "step.skipped")) == 2
    user.orch("resume", "--json")
    assert len(events(user.job(), "step.skipped")) == 4


def test_dry_run_says_what_would_run_and_makes_nothing(user):
    user.write("job.yaml", TWO_STEPS)
    done = user.orch("run", "job.yaml", "--dry-run")
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["run", "say"],
        ["depends", "ask"],
    ]
    assert user.files() == ["job.yaml"]


def test_a_job_file_on_stdin(user):
    user.write("job.yaml", OFFLINE)
    user.sh("orch run - < job.yaml")
    user.sh("orch validate - < job.yaml")
    user.orch("resume", "latest")
    assert len(events(user.job(), "step.skipped")) == 4


def test_keep_going_runs_what_does_not_need_the_failed_step(user):
    user.write(
        "job.yaml",
        """
        project: p
        concurrency: 1
        steps:
          bad: {run: "exit 1"}
          other: {run: "echo 1"}
          after: {needs: [other], run: "echo 2"}
        """,
    )
    user.orch("run", "job.yaml", "--keep-going", code=1)
    shown = user.orch("show", "--json").json
    assert shown["completed_steps"] == ["other", "after"]


def test_a_changed_spec_runs_what_changed_and_what_depends_on_its_output(user):
    spec = """
        project: p
        steps:
          a: {run: "echo A"}
          b: {needs: [a], run: "echo $A b", env: {A: "{{ steps.a.output.text }}"}}
          c: {run: "echo c"}
    """
    user.write("job.yaml", spec)
    user.orch("run", "job.yaml")
    user.write("job.yaml", spec.replace("echo A", "printf A"))
    user.orch("run", "job.yaml", "--resume")
    started = [e["step"] for e in events(user.job(), "step.started")]
    assert started == ["a", "c", "b", "a"]  # the output of a is the same: b holds
    user.write("job.yaml", spec.replace("echo A", "echo Z"))
    user.orch("run", "job.yaml", "--resume")
    started = [e["step"] for e in events(user.job(), "step.started")]
    assert started[4:] == ["a", "b"]


def test_resume_without_a_job_says_so_and_starts_one(user):
    user.write("job.yaml", OFFLINE)
    done = user.orch("run", "job.yaml", "--resume")
    assert "has no job to resume: a new one is started" in done.err
    assert types(user.job())[-1] == "job.succeeded"


def test_resume_by_id_uses_the_frozen_spec_and_its_files(user):
    user.write("ask.md", "Count words")
    user.write("job.yaml", "project: p\nsteps:\n  a: {llm: {prompt: file://ask.md}}\n")
    user.orch("run", "job.yaml")
    (user.home / "ask.md").unlink()
    (user.home / "job.yaml").unlink()
    user.orch("resume", user.job().name)
    assert len(events(user.job(), "step.skipped")) == 1


def test_all_commands_that_begin_a_leg_take_the_same_options():
    from typer.main import get_command

    from orchestrator.cli.app import app

    commands = get_command(app).commands
    options = {
        name: {parameter.name for parameter in commands[name].params}
        for name in ("run", "resume", "plan", "retry")
    }
    of_run = options["run"] - {"spec", "spec_option", "resume"}
    assert options["resume"] == of_run | {"job"}
    assert options["plan"] == of_run - {"dry_run", "display"} | {"spec", "resume"}
    # What has failed is tried again as it was.
    of_a_spec = {"provider", "model", "set_", "dry_run"}
    assert options["retry"] == of_run - of_a_spec | {"job"}


def test_resume_by_id_takes_what_a_run_takes_and_remembers_it(user):
    user.write(
        "job.yaml",
        """
        project: p
        model: echo
        inputs: {topic: {default: bees}}
        steps:
          ask: {llm: {prompt: "Say {{ inputs.topic }}"}}
          fails: {needs: ask, run: "exit 1"}
          other: {run: "until grep -q step.failed runs/*/events.jsonl; do sleep 0.01; done"}
          late: {needs: other, run: "echo late"}
        """,
    )
    user.orch("run", "job.yaml", code=1)
    assert not events(user.job(), "step.started", "late")
    plan = user.orch("resume", "latest", "--set", "topic=ants", "--keep-going", "--dry-run")
    assert re.search(r"run +ask +prompt changed", plan.out)
    assert plan.err.endswith(f"next: orch resume {user.job().name} --set topic=ants --keep-going\n")
    user.orch("resume", "latest", "--set", "topic=ants", "--no-cache", "--keep-going", code=1)
    assert len(events(user.job(), "step.started", "late")) == 1
    assert [e["data"]["given"] for e in events(user.job(), "job.resumed")] == [{"topic": "ants"}]
    assert not list((user.job() / ".cache").iterdir())[1:]  # nothing beside the first answer
    # It goes on as it was told to, until it is told otherwise.
    user.write("job.yaml", (user.home / "job.yaml").read_text().replace("echo late", "echo 2"))
    user.orch("run", "job.yaml", "--resume", code=1)
    assert len(events(user.job(), "step.started", "late")) == 2
    user.write("job.yaml", (user.home / "job.yaml").read_text().replace("sleep 0.01", "sleep 0.02"))
    user.orch("run", "job.yaml", "--resume", "--no-keep-going", code=1)
    assert not events(user.job(), "job.resumed")[-1]["data"].get("keep_going")
    user.orch("retry", "latest", "--cache-only", code=1)
    assert "exclude each other" in (
        user.orch("resume", "latest", "--refresh", "--no-cache", code=2).err
    )


def test_refresh_asks_again_and_no_cache_leaves_nothing(user):
    user.write("job.yaml", OFFLINE)
    user.orch("run", "job.yaml", "--no-cache")
    assert not list(user.job().glob(".cache/*.json"))
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml", "--refresh")
    assert len(events(user.jobs()[-1], "cache.hit")) == 0
    user.orch("run", "job.yaml", "--cache-only")
    assert len(events(user.jobs()[-1], "cache.hit")) == 4


@pytest.mark.parametrize("example", ["digest", "tiny", "release-notes", "pages", "workflow"])
def test_init_writes_a_job_that_is_valid_and_named_at_the_end(user, example):
    done = user.orch("init", "demo", "--example", example)
    main = done.err.splitlines()[-1].removeprefix("next: orch run ")
    assert main in done.out.splitlines()
    user.orch("validate", main)


def test_init_and_run_as_the_help_says(user):
    user.orch("init", "demo")
    done = user.orch("run", "demo/job.yaml")
    assert "Status: succeeded" in done.out


# --- projections can be deleted --------------------------------------------------------------

ANSWERS = (
    ["list", "--json"],
    ["list", "--json", "--status", "failed"],
    ["show", "--json"],
    ["show", "FIRST", "--json"],
    ["show", "FAILED", "--json"],
    ["show", "FIRST", "ask", "--json"],
    ["tail", "FIRST"],
    ["logs", "FIRST"],
)


def answers(user):
    first, failed, *_ = (job.name for job in user.jobs())
    names = {"FIRST": first, "FAILED": failed}
    return [user.orch(*(names.get(arg, arg) for arg in args)).out for args in ANSWERS]


def drop_projections(user):
    runs = user.home / "runs"
    for path in (runs / "catalog.jsonl", *runs.glob("*/manifest.json")):
        path.unlink()
    shutil.rmtree(runs / ".index")
    for path in runs.glob("*.lock"):
        path.unlink()


def go_on(user):
    """Resume and run again, and return what is comparable of it."""
    user.orch("run", "two.yaml", "--resume")
    first = user.jobs()[0]
    user.orch("run", "offline.yaml")
    last = user.jobs()[-1]
    skipped = [(e["step"], e["data"]["from_seq"]) for e in events(first, "step.skipped")]
    hits = [e["data"]["cache_key"] for e in events(last, "cache.hit")]
    made = [json.loads((job / "manifest.json").read_text()) for job in (first, last)]
    return skipped, sorted(hits), [m["completed_steps"] for m in made], types(first)


def test_every_command_gives_the_same_answers_without_any_projection(lived, tmp_path):
    kept, bare = copy_of(lived, tmp_path / "kept"), copy_of(lived, tmp_path / "bare")
    drop_projections(bare)
    assert answers(bare) == answers(kept)
    drop_projections_again = (bare.home / "runs" / "catalog.jsonl").exists()
    assert drop_projections_again  # it was made anew
    went_on = go_on(kept)
    assert len(went_on[0]) == 2
    assert len(went_on[1]) == 4
    assert go_on(bare) == went_on


def test_projections_that_are_wrong_are_not_believed(lived, tmp_path):
    kept, wrong = copy_of(lived, tmp_path / "kept"), copy_of(lived, tmp_path / "wrong")
    runs = wrong.home / "runs"
    lines = (runs / "catalog.jsonl").read_text().splitlines()
    (runs / "catalog.jsonl").write_text("\n".join(["junk", "{}", *lines, lines[-1][:40]]))
    (runs / ".index" / "cache.sqlite").write_bytes(b"junk" * 1000)
    for path in runs.glob("*/manifest.json"):
        path.write_text('{"status": "succeeded", "steps": []}')
    assert answers(wrong) == answers(kept)
    assert go_on(wrong) == go_on(kept)


# --- folders that move -----------------------------------------------------------------------


def test_a_run_folder_that_was_copied_in_is_found_by_every_command(lived, user):
    user.write("two.yaml", TWO_STEPS)
    user.write("offline.yaml", OFFLINE)
    user.orch("run", "offline.yaml", "--no-cache")  # so that there is a catalogue and an index
    first, _, last = lived.jobs()
    for job in (first, last):
        shutil.copytree(job, user.home / "runs" / job.name)
    rows = user.orch("list", "--json").json["rows"]
    assert {first.name, last.name} < {row["job_id"] for row in rows}
    assert user.orch("show", first.name, "--json").json["status"] == "succeeded"
    user.orch("run", "offline.yaml")
    hits = events(user.jobs()[-1], "cache.hit")
    assert {hit["data"]["from_job"] for hit in hits} == {last.name}
    user.orch("run", "two.yaml", "--resume")
    assert types(user.home / "runs" / first.name)[-1] == "job.succeeded"
    assert len(events(user.home / "runs" / first.name, "step.skipped")) == 2


def test_latest_is_the_job_that_began_last_wherever_its_folder_comes_from(lived, user):
    (user.home / "runs").mkdir()
    for job in reversed(lived.jobs()):
        shutil.copytree(job, user.home / "runs" / job.name)
    assert user.orch("show", "latest", "--json").json["job_id"] == lived.jobs()[-1].name


def test_runs_can_be_elsewhere(user):
    user.write("job.yaml", OFFLINE)
    user.env["ORCH_RUNS_DIR"] = str(user.home / "some where")
    user.orch("run", "job.yaml")
    assert not (user.home / "runs").exists()
    assert len(user.jobs("some where")) == 1
    assert len(user.orch("list", "--json").json["rows"]) == 1
    done = user.orch("run", "job.yaml", "--resume")
    assert len(events(user.job("some where"), "step.skipped")) == 4
    assert done.out == f"Job: {user.job('some where').name}, Status: succeeded\n"
    (user.home / "some where").rename(user.home / "moved")
    del user.env["ORCH_RUNS_DIR"]
    user.orch("run", "job.yaml", "--runs-dir", "moved")
    assert len(events(user.jobs("moved")[-1], "cache.hit")) == 4


def test_a_folder_that_is_no_job_is_no_job(lived, tmp_path):
    user = copy_of(lived, tmp_path)
    (user.home / "runs" / "notes").mkdir()
    (user.home / "runs" / "file").write_text("x")
    (user.home / "runs" / ".hidden").mkdir()
    assert len(user.orch("list", "--json").json["rows"]) == 3


def test_everything_a_job_makes_is_its_owner_s_alone(lived):
    loose = [
        str(path)
        for path in (lived.home / "runs").rglob("*")
        if path.stat().st_mode & 0o077 and not path.is_symlink()
    ]
    assert loose == []
    assert (lived.home / "runs").stat().st_mode & 0o777 == 0o700
