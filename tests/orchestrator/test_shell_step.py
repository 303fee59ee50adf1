import os

import pytest
from stepworld import World, alive, pids_in

from orchestrator.errors import FailureKind, StepError
from orchestrator.steps import process
from orchestrator.steps.common import MAX_VARIABLE_BYTES
from orchestrator.steps.shell import ShellStep

SHELL = ShellStep()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def failure(world, **fields):
    with pytest.raises(StepError) as caught:
        world.run(SHELL, **fields)
    return caught.value


def test_the_output_is_what_the_command_says_on_stdout(world):
    result = world.run(SHELL, run="echo one; echo; echo talk >&2; printf 'zwei ü\n\n'")
    assert result.output == {"text": "one\n\nzwei ü\n", "exit_code": 0}
    assert result.files == ()
    assert "talk\n" in world.log.read_text()


def test_it_starts_in_the_specs_folder_or_in_cwd(world):
    (world.spec / "sub").mkdir()
    assert world.run(SHELL, run="pwd -P").output["text"] == os.path.realpath(world.spec)
    assert world.run(SHELL, run="pwd -P", cwd="sub").output["text"].endswith("/spec/sub")
    assert world.run(SHELL, run="pwd -P", cwd="..").output["text"].endswith(world.spec.parent.name)
    error = failure(world, run="true", cwd="nowhere")
    assert error.kind == FailureKind.EXIT
    assert "spec/nowhere" in error.message


def test_the_environment_is_the_attempts_and_the_steps_and_ours(world, monkeypatch):
    monkeypatch.setenv("SECRET", "of the orchestrator")
    text = world.run(SHELL, run="env", env={"MINE": "1", "ORCH_STEP": "forged"}).output["text"]
    found = dict(line.split("=", 1) for line in text.splitlines())
    for shells_own in ("PWD", "SHLVL", "_", "OLDPWD"):
        found.pop(shells_own, None)
    assert found.pop("ORCH_PROCESS")  # marks all that the step starts
    assert found == {
        "PATH": os.environ["PATH"],
        "MINE": "1",
        "ORCH_OUTPUTS": str(world.work / "1"),
        "ORCH_JOB_ID": "job_1",
        "ORCH_STEP": "s",
        "ORCH_ATTEMPT": "1",
        "ORCH_IDEMPOTENCY_KEY": "key-1",
    }


def test_data_reaches_the_command_by_the_environment_as_it_is(world):
    values = {"steps": {"a": {"output": {"text": "$(touch x); `id` \"'\n", "n": [1, None, "ü"]}}}}
    env = {"TEXT": "{{ steps.a.output.text }}", "LIST": "{{ steps.a.output.n }}", "FLAG": True}
    env |= {"NONE": None, "NUMBER": 1.5}
    command = 'printf "%s|%s|%s|%s|%s" "$TEXT" "$LIST" "$FLAG" "$NONE" "$NUMBER"'
    output = world.run(SHELL, values, run=command, env=env).output
    assert output["text"] == values["steps"]["a"]["output"]["text"] + '|[1,null,"ü"]|true||1.5'
    assert list(world.spec.iterdir()) == []


def test_the_command_itself_is_never_a_template(world):
    output = world.run(SHELL, {"x": "y"}, run="echo '{{ x }}'").output
    assert output["text"] == "{{ x }}"


def test_a_variable_that_no_environment_can_hold_is_refused_before_the_start(world):
    cases = [("A", "a\0b", "zero byte"), ("A=B", "x", "name"), ("1A", "x", "name")]
    cases.append(("A", "x" * MAX_VARIABLE_BYTES, "at most"))
    for name, value, said in cases:
        with pytest.raises(StepError, match=said) as caught:
            world.prepare(SHELL, run="true", env={name: value})
        assert caught.value.kind == FailureKind.TEMPLATE
        assert caught.value.place == f"steps.s.env.{name}"
    assert world.run(SHELL, run="true", env={"A": "x" * (MAX_VARIABLE_BYTES - 3)}).output


def test_a_failing_command_says_its_status_and_its_last_lines(world):
    error = failure(world, run="seq 3000 >&2; printf 'caf\\351 \\033[31mred\\033[0m\n' >&2; exit 9")
    assert error.kind == FailureKind.EXIT
    assert error.message.startswith("the command exited with status 9: …")
    assert error.message.endswith("3000\ncaf\ufffd \\x1b[31mred\\x1b[0m")
    assert len(error.message) < 2100
    assert error.hint == "all it said: orch logs job_1 s"


def test_a_killed_command_and_one_that_is_not_there_are_told_apart(world):
    assert failure(world, run="kill -SEGV $$").message == "the command was killed by SIGSEGV"
    assert failure(world, run="exit 3").message == "the command exited with status 3"
    assert "not found" in failure(world, run="no-such-command-here").hint


def test_large_output_is_cut_between_characters_and_marked(world, monkeypatch):
    monkeypatch.setattr(process, "KEEP_BYTES", 10)
    output = world.run(SHELL, run="printf 'xüüüüüüüüüü\n'").output
    assert output == {"text": "xüüüü", "truncated": True, "exit_code": 0}
    exact = world.run(SHELL, run="printf 'üüüüü'").output
    assert exact == {"text": "üüüüü", "exit_code": 0}


def test_output_that_is_no_utf8_is_replaced_and_marked(world):
    output = world.run(SHELL, run="printf 'a\\377b\n'").output
    assert output == {"text": "a\ufffdb", "undecodable": True, "exit_code": 0}


# --- files --------------------------------------------------------------------------------------


def test_what_is_left_in_the_private_folder_is_published(world):
    command = 'mkdir "$ORCH_OUTPUTS/d"; echo hi > "$ORCH_OUTPUTS/d/a.txt"'
    result = world.run(SHELL, run=command)
    assert [file.path for file in result.files] == ["d/a.txt"]
    assert world.outputs.read_text("d/a.txt") == "hi\n"


@pytest.mark.parametrize("command", ["ln -s /etc/passwd x", "ln -s . x", "mkfifo x"])
def test_a_link_or_a_special_file_left_behind_fails_the_step(world, command):
    error = failure(world, run=f'cd "$ORCH_OUTPUTS"; echo > good; {command}')
    assert error.kind == FailureKind.OUTPUT
    assert world.outputs.list_files() == []


def test_a_failed_command_publishes_nothing(world):
    failure(world, run='echo hi > "$ORCH_OUTPUTS/a"; exit 1')
    assert world.outputs.list_files() == []


# --- the key ------------------------------------------------------------------------------------


def test_the_key_depends_on_command_environment_folder_and_declared_files(world):
    (world.spec / "in.txt").write_text("one")
    fields = {"run": "true", "env": {"A": "{{ x }}"}, "cwd": "sub", "files": ("in.txt",)}
    parts = world.prepare(SHELL, {"x": [1]}, **fields).parts
    assert parts.keys() == {"command", "env", "cwd", "files"}
    assert (parts["command"], parts["env"], parts["cwd"]) == ("true", {"A": "[1]"}, "sub")
    (world.spec / "in.txt").write_text("two")
    changed = world.prepare(SHELL, {"x": [1]}, **fields).parts
    assert [name for name in parts if parts[name] != changed[name]] == ["files"]
    assert str(world.spec) not in str(parts)


@pytest.mark.parametrize("path", ["missing.txt", "folder", "pipe"])
def test_a_declared_file_that_cannot_be_read_is_named(world, path):
    (world.spec / "folder").mkdir()
    os.mkfifo(world.spec / "pipe")
    with pytest.raises(StepError, match=f"can't read {path}") as caught:
        world.prepare(SHELL, run="true", files=(path,))
    assert caught.value.kind == FailureKind.EXIT


# --- the end ------------------------------------------------------------------------------------


def test_cancelling_a_step_leaves_no_process_and_publishes_nothing(world):
    command = (
        'echo x > "$ORCH_OUTPUTS/a"; sleep 1000 & a=$!; sleep 1000 & echo $$ $a $! > pids; wait'
    )
    world.cancel_when(SHELL, world.spec / "pids", run=command)
    pids = pids_in(world.spec / "pids")
    assert len(pids) == 3
    assert [pid for pid in pids if alive(pid)] == []
    assert world.outputs.list_files() == []


def test_a_log_that_cannot_be_written_fails_the_step(world):
    world.log.mkdir(parents=True)
    assert "can't run the command" in failure(world, run="true").message
