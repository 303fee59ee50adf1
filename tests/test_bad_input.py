"""Bad input: one clear error, the documented exit code, and nothing done that was not asked for."""

import functools
import os
import re
import shutil
import signal

import anyio
import pytest

from orchestrator import DAG, DAGNode, run_dag
from userkit import User, ended, events, outputs, plain, until

USAGE, PROVIDER, LOG, LOCKED, CACHE_MISS = 2, 3, 4, 5, 6

GOOD = "{project: p, provider: offline, task_description: Count words}\n"

# Each is a job file that can be known to be wrong before anything runs.
SPECS = {
    "unknown_key": """
        project: p
        providr: offline
        steps:
          a: {run: "true", neds: [b]}
        """,
    "cycle": """
        project: p
        steps:
          a: {run: "true", needs: [c]}
          b: {run: "true", needs: [a]}
          c: {run: "true", needs: [b]}
        """,
    "missing_need": """
        project: p
        steps:
          architect: {run: "true"}
          builder: {run: "true", needs: [architekt]}
        """,
    "bad_yaml": """
        project: p
        steps:
          a: {run: "true"
        """,
    "bad_template": """
        project: p
        steps:
          a: {llm: {provider: offline, prompt: "{{ oh no"}}
        """,
    "undefined_in_template": """
        project: p
        steps:
          a: {run: "true"}
          b: {needs: [a], llm: {provider: offline, prompt: "{{ steps.c.output.text }}"}}
        """,
    "unknown_provider": """
        project: p
        provider: offlin
        task_description: Count words
        """,
    "unknown_offline_model": """
        project: p
        provider: offline
        model: ecko
        task_description: Count words
        """,
    "project_is_a_path": """
        project: ../../x
        provider: offline
        task_description: Count words
        """,
    "output_dir_leads_out": """
        project: p
        provider: offline
        task_description: Count words
        output_dir: ../../x
        """,
    "save_as_leads_out": """
        project: p
        steps:
          a: {llm: {provider: offline, prompt: hi}, save_as: ../../x}
        """,
    "step_name_is_a_path": """
        project: p
        steps:
          ../../x: {run: "true"}
        """,
    "two_kinds": """
        project: p
        steps:
          a: {run: "true", python: "json:dumps"}
        """,
    "no_module": """
        project: p
        steps:
          a: {python: "no_such_module:main"}
        """,
    "missing_input": """
        project: p
        inputs: {who: {type: string, required: true}}
        steps:
          a: {run: "true"}
        """,
    "duplicate_key": """
        project: p
        project: q
        task_description: Count words
        """,
    "tag": "project: !!python/object/apply:os.system [touch owned]\n",
    "alias_bomb": """
        project: &a [x, x, x]
        task_description: [*a, *a]
        """,
    "empty": "",
    "no_map": "[1, 2]\n",
}


@pytest.fixture
def user(tmp_path):
    return User(tmp_path / "home")


def refused(user, code, *args):
    """Run a command that is refused; return its one block of errors, and see what it left."""
    before = user.files()
    done = user.orch(*args, code=code)
    assert done.out == ""
    assert len(re.findall(r"^error: ", done.err, re.MULTILINE)) == 1, done
    assert user.files() == before
    return plain(done.err, HOME=str(user.home))


@pytest.mark.parametrize("name", SPECS)
def test_a_wrong_job_file_is_told_with_its_place_and_nothing_is_made(user, name, snapshot):
    user.write("job.yaml", SPECS[name])
    assert refused(user, USAGE, "run", "job.yaml") == snapshot


def test_validate_tells_the_same_and_as_json_with_places(user):
    user.write("job.yaml", SPECS["unknown_key"])
    assert refused(user, USAGE, "validate", "job.yaml") == refused(user, USAGE, "run", "job.yaml")
    shown = user.orch("validate", "job.yaml", "--json", code=USAGE).json
    assert shown["ok"] is False
    assert [(p["line"], p["column"]) for p in shown["problems"]] == [(2, 1), (4, 20)]


def test_control_characters_of_a_job_file_are_made_visible(user):
    user.write("job.yaml", "project: p\nprovidr: \u202eenilffo\u202c\n")
    done = user.orch("run", "job.yaml", code=USAGE)
    assert r"providr: \u202eenilffo\u202c" in done.err
    assert "\u202e" not in done.err
    (user.home / "job.yaml").write_bytes(b"project: p\x1b[31m\xc2\x9b\n")
    done = user.orch("run", "job.yaml", code=USAGE)
    assert "\x1b" not in done.err
    assert "\x9b" not in done.err


# --- what can't be read or found -------------------------------------------------------------


def test_a_job_file_that_is_not_there(user, snapshot):
    assert refused(user, USAGE, "run", "job.yaml") == snapshot


def test_a_folder_in_place_of_a_job_file(user, snapshot):
    (user.home / "job.yaml").mkdir()
    assert refused(user, USAGE, "run", "job.yaml") == snapshot


def test_a_job_file_below_a_file(user, snapshot):
    user.write("file", "x")
    assert refused(user, USAGE, "run", "file/job.yaml") == snapshot


def test_a_job_file_that_is_no_text(user, snapshot):
    (user.home / "job.yaml").write_bytes(b"project: \xff\n")
    assert refused(user, USAGE, "run", "job.yaml") == snapshot


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_job_file_that_may_not_be_read(user):
    user.write("job.yaml", GOOD).chmod(0)
    assert "Permission denied" in refused(user, USAGE, "run", "job.yaml")


def test_a_prompt_file_that_is_not_there(user, snapshot):
    user.write("job.yaml", "project: p\nsteps:\n  a: {llm: {prompt: file://ask.md}}\n")
    assert refused(user, USAGE, "run", "job.yaml") == snapshot


@pytest.mark.parametrize("link", ["ask.md", "folder"])
def test_a_prompt_file_behind_a_link(user, link, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "ask.md").write_text("a secret")
    target = secret if link == "folder" else secret / "ask.md"
    (user.home / link).symlink_to(target)
    name = "folder/ask.md" if link == "folder" else "ask.md"
    user.write("job.yaml", f"project: p\nsteps:\n  a: {{llm: {{prompt: file://{name}}}}}\n")
    assert "link" in refused(user, USAGE, "run", "job.yaml")


def test_a_prompt_file_outside_the_folder(user, tmp_path):
    (tmp_path / "ask.md").write_text("a secret")
    user.write("job.yaml", "project: p\nsteps:\n  a: {llm: {prompt: file://../ask.md}}\n")
    refused(user, USAGE, "run", "job.yaml")


# --- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["run"],
        ["run", "job.yaml", "--spec", "job.yaml"],
        ["run", "job.yaml", "--provider", "nope"],
        ["run", "job.yaml", "--set", "a"],
        ["run", "job.yaml", "--set", "a=b"],
        ["run", "job.yaml", "--no-cache", "--refresh"],
        ["run", "job.yaml", "--dry-run", "--set", "a=b"],
        ["show"],
        ["show", "../../x"],
        ["show", "job_0"],
        ["resume", "../../x"],
        ["logs", "../.."],
        ["tail", "../../x"],
        ["list", "--status", "nope"],
        ["init", "--example", "nope"],
    ],
    ids=" ".join,
)
def test_arguments_that_make_no_sense(user, args, snapshot):
    user.write("job.yaml", GOOD)
    assert refused(user, USAGE, *args) == snapshot


def test_init_overwrites_nothing(user):
    user.write("demo/job.yaml", "mine\n")
    refused(user, USAGE, "init", "demo")
    assert (user.home / "demo" / "job.yaml").read_text() == "mine\n"


# --- providers -------------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_a_missing_key_is_told_before_anything_runs(user, vendor, snapshot):
    spec = f"{{project: p, provider: {vendor}, model: m, task_description: Count words}}\n"
    user.write("job.yaml", spec)
    assert refused(user, PROVIDER, "run", "job.yaml") == snapshot


def test_a_server_that_is_not_there_ends_with_3(user):
    user.env["OLLAMA_HOST"] = "http://127.0.0.1:9"
    user.write("job.yaml", "{project: p, provider: ollama, model: m, task_description: Count}\n")
    done = user.orch("run", "job.yaml", code=PROVIDER)
    assert done.out == f"Job: {user.job().name}, Status: failed\n"
    assert "error: step architect failed (network, attempt 3): " in done.err
    assert "hint: start it with `ollama serve`" in done.err


def test_an_answer_that_is_not_in_the_cache_ends_with_6(user):
    user.write("job.yaml", GOOD)
    done = user.orch("run", "job.yaml", "--cache-only", code=CACHE_MISS)
    assert "error: step architect failed (cache_miss)" in done.err


# --- folders ---------------------------------------------------------------------------------


def test_a_file_where_runs_should_be(user, snapshot):
    user.write("job.yaml", GOOD)
    user.write("runs", "mine\n")
    assert refused(user, LOG, "run", "job.yaml") == snapshot
    assert (user.home / "runs").read_text() == "mine\n"


def test_runs_below_a_file(user, snapshot):
    user.write("job.yaml", GOOD)
    assert refused(user, LOG, "run", "job.yaml", "--runs-dir", "job.yaml/runs") == snapshot


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_runs_in_a_folder_that_may_not_be_written(user):
    user.write("job.yaml", GOOD)
    user.home.chmod(0o500)
    try:
        assert "Permission denied" in refused(user, LOG, "run", "job.yaml")
    finally:
        user.home.chmod(0o700)


def test_a_result_file_that_can_t_be_written(user):
    user.write("job.yaml", GOOD)
    user.orch("run", "job.yaml")
    assert "no/such/rows.csv" in refused(user, LOG, "list", "-o", "no/such/rows.csv")


def test_a_log_that_something_else_wrote_to_is_left_alone(user):
    user.write(
        "job.yaml",
        """
        project: p
        steps:
          meddle: {run: 'for log in runs/job_*/events.jsonl; do echo x >> "$log"; done'}
          after: {needs: [meddle], run: "touch after"}
        """,
    )
    done = user.orch("run", "job.yaml", code=LOG)
    assert "the file is not as this writer left it" in done.err
    assert "events.jsonl" in done.err
    assert not (user.home / "after").exists()


# --- two at once -----------------------------------------------------------------------------


@pytest.fixture
def held(user):
    """A job that another process works on."""
    user.write("job.yaml", "project: p\nsteps:\n  a: {run: 'touch begun; sleep 300'}\n")
    process = user.start("run", "job.yaml")
    until((user.home / "begun").exists, "the step", process)
    yield process
    os.kill(process.pid, signal.SIGTERM)
    ended(process)


@pytest.mark.parametrize("command", ["run job.yaml --resume", "resume latest", "resume {job}"])
def test_a_second_process_on_the_same_job_is_turned_away(user, held, command):
    args = command.format(job=user.job().name).split()
    log = user.job() / "events.jsonl"
    before = log.read_bytes()
    done = user.orch(*args, code=LOCKED)
    assert re.search(
        rf"^error: another process \(pid {held.pid} on {re.escape(os.uname().nodename)},"
        r" since \d{4}-\d\d-\d\dT[0-9:.]+Z\) is writing this log\n  --> runs/job_",
        done.err,
        re.MULTILINE,
    ), done
    assert log.read_bytes() == before
    assert user.orch("list", "--json").json["rows"][0]["status"] == "running"


# --- nothing outside the run folder ----------------------------------------------------------


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def test_a_project_that_is_a_link_s_name_is_only_a_label(user, outside):
    (user.home / "runs").mkdir()
    for place in (user.home, user.home / "runs"):
        (place / "link").symlink_to(outside)
    user.write("job.yaml", GOOD.replace("p,", "link,", 1))
    user.orch("run", "job.yaml")
    assert user.orch("list", "--json").json["rows"][0]["project"] == "link"
    assert len(outputs(user.job())) == 4


@pytest.mark.parametrize("part", ["outputs", "artifacts", ".cache", "inputs", "logs", "inbox"])
def test_a_part_of_the_run_folder_that_became_a_link_is_refused(user, outside, part):
    user.write("job.yaml", GOOD)
    user.orch("run", "job.yaml")
    shutil.rmtree(user.job() / part)
    (user.job() / part).symlink_to(outside)
    done = user.orch("run", "job.yaml", "--resume", code=LOG)
    assert f"{user.job().name}/{part}" in done.err


@pytest.mark.parametrize("name", ["events.jsonl", ".lock"])
def test_a_log_or_lock_that_became_a_link_is_refused(user, tmp_path, name):
    user.write("job.yaml", GOOD)
    user.orch("run", "job.yaml")
    moved = tmp_path / "moved"
    (user.job() / name).rename(moved)
    (user.job() / name).symlink_to(moved)
    before = moved.read_bytes()
    done = user.orch("run", "job.yaml", "--resume", code=LOG)
    assert len(re.findall(r"^error: ", done.err, re.MULTILINE)) == 1, done
    assert moved.read_bytes() == before


def test_a_folder_below_outputs_that_became_a_link_is_not_written_through(user, outside):
    user.write(
        "job.yaml",
        """
        project: p
        steps:
          a: {run: "mkdir $ORCH_OUTPUTS/sub; echo $WORD > $ORCH_OUTPUTS/sub/file", env: {WORD: one}}
        """,
    )
    user.orch("run", "job.yaml")
    user.write("job.yaml", (user.home / "job.yaml").read_text().replace("one", "two"))
    shutil.rmtree(user.job() / "outputs" / "sub")
    (user.job() / "outputs" / "sub").symlink_to(outside)
    done = user.orch("run", "job.yaml", "--resume", code=1)
    assert "error: step a failed (output, attempt 2)" in done.err
    assert "link" in done.err


@pytest.mark.parametrize(
    "command",
    [
        "ln -s /etc/passwd $ORCH_OUTPUTS/passwd",
        "ln -s ../../.. $ORCH_OUTPUTS/up",
        "mkfifo $ORCH_OUTPUTS/pipe",
    ],
)
def test_a_step_publishes_no_links_and_no_special_files(user, command):
    user.write("job.yaml", f"project: p\nsteps:\n  a: {{run: '{command}'}}\n")
    done = user.orch("run", "job.yaml", code=1)
    assert "error: step a failed (output)" in done.err
    assert os.listdir(user.job() / "outputs") == []
    assert not events(user.job(), "file.written")


UNSAFE = ["../../x", "/tmp/x", "a/../../x", "a//b", "link/x", "file-link", "C:\\x", "", "a/.."]


def test_filestore_refuses_what_leads_out(user, outside):
    (user.home / "out").mkdir()
    (user.home / "out" / "link").symlink_to(outside)
    (user.home / "out" / "file-link").symlink_to(outside / "file")
    user.python(f"""
        from orchestrator import FileStore, OrchestratorError
        filestore = FileStore("out")
        for path in {UNSAFE!r}:
            for mode in ("overwrite", "create_new", "append"):
                try:
                    filestore.safe_write(path, "content", mode=mode)
                except OrchestratorError as error:
                    assert str(error)
                else:
                    raise AssertionError(path)
    """)
    assert user.files() == ["out", "out/file-link", "out/link"]


def test_a_program_is_told_by_exceptions_and_not_by_exits(user):
    user.write("job.yaml", SPECS["cycle"])
    user.python("""
        import orchestrator
        try:
            orchestrator.run("job.yaml")
        except orchestrator.SpecError as error:
            assert error.exit_code == 2 and "circle" in error.render()
        else:
            raise AssertionError
    """)
    assert user.files() == ["job.yaml"]


def test_a_job_of_a_program_is_gone_on_with_by_the_program(tmp_path):
    def fails(context, dep_results):
        raise ValueError("no")

    runs = tmp_path / "home" / "runs"
    dag = DAG([DAGNode(id="a", fn=fails)])
    anyio.run(run_dag, dag, "job_p", {}, str(runs / "job_p" / "events.jsonl"))
    user = User(tmp_path)
    for command, code in (("show", 0), ("resume", 2)):
        done = user.orch(command, "job_p", "--runs-dir", str(runs), code=code)
        assert "the program that made it: run_dag(…, resume=True)" in done.err
    user.write("made.json", "7")
    given = ("job_p", "a", "--output", "made.json", "--reason", "x", "--runs-dir", str(runs))
    done = user.orch("step", "set", *given)
    assert "go on: the program that made it: run_dag(…, resume=True)" in done.err
    log = str(runs / "job_p" / "events.jsonl")
    results = anyio.run(functools.partial(run_dag, dag, "job_p", {}, log, resume=True))
    assert (results["a"].status, results["a"].output) == ("skipped", 7)


def test_a_named_command_says_where_the_jobs_are(tmp_path):
    user = User(tmp_path)
    user.write("job.yaml", "project: p\nsteps: {a: {run: echo}}\n")
    user.orch("run", "job.yaml", "--runs-dir", "else where")
    for command in (("list",), ("show", "latest"), ("show", "latest", "a"), ("retry", "latest")):
        done = user.orch(*command, "--runs-dir", "else where")
        assert "--runs-dir 'else where'" in done.err
