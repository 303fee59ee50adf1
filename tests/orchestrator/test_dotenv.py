import os

import pytest

from orchestrator.dotenv import parse, with_secrets
from orchestrator.errors import UsageError


def write(folder, text, mode=0o600):
    folder.mkdir(exist_ok=True)
    path = folder / ".env"
    path.write_text(text)
    path.chmod(mode)
    return path


def read(environ, *folders, names=()):
    warned = []
    return with_secrets(environ, map(str, folders), names, warned.append), warned


def test_lines_are_names_and_values_with_quotes_and_comments():
    text = "# all\n\nA=1\nexport B = two words # said\nC='#3'\nD=\"4\" # four\nE=\nF=a#b\n"
    assert parse(text, "x") == {
        "A": "1",
        "B": "two words",
        "C": "#3",
        "D": "4",
        "E": "",
        "F": "a#b",
    }


@pytest.mark.parametrize("line", ["sk-canary", "A B=1", "A='x", "A='x' y", "=1"])
def test_a_line_that_is_none_is_told_by_its_place_and_never_quoted(line):
    with pytest.raises(UsageError) as caught:
        parse(f"A=1\n{line}\n", "job/.env")
    assert caught.value.place == "job/.env:2"
    assert line not in caught.value.render().replace("NAME=value", "")


def test_the_environment_goes_first_then_the_current_folder_then_the_job_s(tmp_path):
    write(tmp_path / "cwd", "A_API_KEY=cwd\nB_API_KEY=cwd\n")
    write(tmp_path / "job", "A_API_KEY=job\nB_API_KEY=job\nC_API_KEY=job\n")
    found, warned = read({"A_API_KEY": "env"}, tmp_path / "cwd", tmp_path / "job")
    assert found == {"A_API_KEY": "env", "B_API_KEY": "cwd", "C_API_KEY": "job"}
    assert warned == []


def test_only_secrets_are_taken_and_never_an_address(tmp_path):
    write(tmp_path, "OPENAI_BASE_URL=https://evil.test\nDB_PASSWORD=x\nOTHER=y\nZ_API_KEY=k\n")
    found, _ = read({}, tmp_path, names=["DB_PASSWORD"])
    assert found == {"DB_PASSWORD": "x", "Z_API_KEY": "k"}


def test_a_file_that_others_can_read_is_used_with_a_warning(tmp_path):
    write(tmp_path, "A_API_KEY=1\n", 0o644)
    found, warned = read({}, tmp_path)
    assert found == {"A_API_KEY": "1"}
    assert "chmod 600" in warned[0]


def test_a_file_that_others_can_write_is_not_used(tmp_path):
    write(tmp_path, "A_API_KEY=1\n", 0o602)
    found, warned = read({}, tmp_path)
    assert found == {}
    assert "every user can write it" in warned[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_used(tmp_path):
    os.chown(write(tmp_path, "A_API_KEY=1\n"), 4321, -1)
    assert read({}, tmp_path)[0] == {}


def test_a_folder_or_a_pipe_of_that_name_is_not_waited_for(tmp_path):
    (tmp_path / "a" / ".env").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / ".env")
    found, warned = read({}, tmp_path / "a", tmp_path / "b")
    assert found == {}
    assert len(warned) == 2
