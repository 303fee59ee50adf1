"""Whatever stands behind stdout and stderr, a command ends with its code and no traceback."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import stat
import subprocess
import sys
import time

import pytest
from logkit import content, put, small_log
from typer.testing import CliRunner

from eventlog.cli import build

COMMANDS = ["cat", "tail", "stats", "export", "verify"]
ALL = [*COMMANDS, "repair", "salvage", "migrate", "query 'select count(*) from events'"]

needs_full = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="this system has no /dev/full"
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "events.jsonl"
    small_log(path)
    return path


def sh(command: str, cwd, code: int) -> tuple[str, str]:
    """Run `log …` as `python -m eventlog …`; return stdout and stderr."""
    run = subprocess.run(
        ["bash", "-c", f'log() {{ "{sys.executable}" -m eventlog "$@"; }}\n{command}'],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in run.stderr, run.stderr
    assert "Exception ignored" not in run.stderr, run.stderr
    assert run.returncode == code, run.stderr
    return run.stdout, run.stderr


@needs_full
def test_a_full_disk_behind_stdout_is_one_clear_error(path):
    for command in ("cat", "stats", "export"):
        _, told = sh(f"log {command} events.jsonl > /dev/full", path.parent, 4)
        assert told == "error: the system refused: No space left on device\n", command


@needs_full
@pytest.mark.parametrize("out", ["/dev/full", "link", "pipe", "/dev/stdout"])
@pytest.mark.parametrize("command", ["stats", "export"])
def test_a_result_goes_into_what_is_no_plain_file_and_through_a_link(path, out, command):
    folder = path.parent
    (folder / "link").symlink_to("target")
    os.mkfifo(folder / "pipe")
    expected, _ = sh(f"log {command} events.jsonl", folder, 0)
    if out == "/dev/full":
        _, told = sh(f"log {command} events.jsonl -o {out}", folder, 4)
        assert "the result can't be written: No space left on device" in told
        assert stat.S_ISCHR(os.stat(out).st_mode)
        return
    read = {"link": "; cat target", "pipe": " & cat pipe; wait", "/dev/stdout": " | cat"}[out]
    got, _ = sh(f"log {command} events.jsonl -o {out}{read}", folder, 0)
    # (Tables for people have one more below them on stdout.)
    assert got
    assert expected.startswith(got)
    assert (folder / "link").is_symlink()
    assert stat.S_ISFIFO(os.stat(folder / "pipe").st_mode)
    assert not list(folder.glob("*.tmp-*"))


def on_a_full_disk(limit: int, *words: str) -> str:
    """Run a command that can't make files longer than `limit`; return stderr."""
    code = "import resource, signal\n"
    code += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    code += "from eventlog.cli import main\nmain()"
    run = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert run.returncode == 4, run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr


def test_a_result_that_can_not_be_written_leaves_what_was_there(path, tmp_path):
    out = tmp_path / "out"
    put(out, b"before")
    for command in ("export", "stats"):
        told = on_a_full_disk(100, command, str(path), "-o", str(out))
        assert "the result can't be written: File too large" in told
        assert content(out) == b"before"
    assert sorted(os.listdir(tmp_path)) == ["events.jsonl", "events.jsonl.lock", "out"]


@pytest.mark.parametrize("sealed", [True, False])
def test_a_log_that_can_not_be_written_ends_with_4_naming_file_and_errno(path, sealed):
    torn = (content(path) if sealed else b'{"type":"x"}\n' * 20) + b'{"seq":7,"ts"'
    put(path, torn)
    told = on_a_full_disk(10, "repair", str(path))
    assert "File too large [EFBIG]" in told
    assert f"--> {path}" in told
    assert content(path) == torn
    told = on_a_full_disk(50, "salvage", str(path))
    assert "the new file can't be written: File too large" in told
    assert sorted(os.listdir(path.parent)) == ["events.jsonl", "events.jsonl.lock"]


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_error(path, closed):
    for command in ("cat", "repair"):
        sh(f"log {command} events.jsonl {closed}", path.parent, 0)
        sh(f"log {command} nothing {closed}", path.parent, 2)


def run(cwd, code: int, *words: str) -> tuple[str, str]:
    """Run a command in this process; return stdout and stderr."""
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(build(), words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code == code, done.stderr
    return done.stdout, done.stderr


BAD = {
    "nothing": "No such file",
    "pipe": "no regular file",
    "loop": "symbolic links",
    "/dev/null": "no regular file",
    "a" * 300: "File name too long",
    "events.jsonl/x": "Not a directory",
}


@pytest.mark.parametrize("target", BAD)
def test_what_is_no_log_is_one_error_for_every_command(path, target):
    folder = path.parent
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    before = content(path)
    for command in ALL:
        refused = command == "migrate" and target in {"pipe", "/dev/null"}
        _, told = run(folder, 1 if refused else 2, *shlex.split(command), target)
        assert told.count("error: ") == told.count(f"--> {target}\n") == 1
        assert BAD[target] in told or refused
    assert content(path) == before


def test_bytes_that_are_no_text_end_in_messages_and_change_nothing(path):
    garbage = bytes(range(256)) * 20
    put(path, garbage)
    for command in ("cat", "tail", "stats", "export", "verify", "query 'select 1'"):
        run(path.parent, 0, *shlex.split(command), path.name)
    _, told = run(path.parent, 1, "migrate", path.name)
    assert "is not UTF-8" in told
    assert content(path) == garbage


@pytest.mark.parametrize(
    "options",
    [
        "tail -n 99999999999999999999",
        "tail -n -1",
        "query --memory 99999999999999999 'select 1'",
        "query --timeout 1e400 'select 1'",
        "query --max-rows 0 'select 1'",
        "verify --head ''",
        "verify --head x",
        "verify --head 9:x",
        "export --format xml",
        "nothing",
        "cat --nothing",
    ],
)
def test_an_option_out_of_range_is_wrong_usage(path, options):
    _, told = run(path.parent, 2, *shlex.split(options), path.name)
    assert "Error: " in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_log_that_may_not_be_read_says_so(path):
    path.chmod(0)
    for command in COMMANDS:
        _, told = run(path.parent, 4, command, path.name)
        assert "Permission denied" in told


def test_ctrl_c_ends_tail_f_with_130_and_nothing_more(path):
    tail = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "tail", "-f", "--json", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - inherited as ignored behind `&`
    )
    with tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        shown = [tail.stdout.readline() for _ in range(7)]
        time.sleep(0.05)  # it waits now, most likely; nothing rests on it
        tail.send_signal(signal.SIGINT)
        assert tail.stdout.read() == tail.stderr.read() == b""
    assert tail.returncode == 130
    assert b"".join(shown) == content(path)


def test_a_folder_without_logs_is_not_silently_sound(tmp_path):
    _, told = run(tmp_path, 0, "verify", ".")
    assert told == "no logs are here\n"


def test_an_anchor_names_what_is_gone(path):
    lines = content(path).splitlines(keepends=True)
    folder = path.parent
    put(folder / "cut.jsonl", b"".join(lines[:4]))
    small_log(folder / "other.jsonl")
    for seq, line in enumerate(lines):
        total = line[-19:-3].decode()
        for anchor in (total, f"{seq}:{total}"):
            shown, _ = run(folder, 0, "verify", "--head", anchor, "events.jsonl")
            assert shown.rstrip().endswith("head" if seq == 6 else f"seq {seq}")
        if seq < 5:
            continue
        _, told = run(folder, 4, "verify", f"--head={seq}:{total}", "cut.jsonl")
        assert f"it was cut back: seq {seq} is not in its 4 lines" in told
        _, told = run(folder, 4, "verify", f"--head={seq}:{total}", "other.jsonl")
        assert f"it was written anew: seq {seq} has not the sum {total}" in told
        _, told = run(folder, 4, "verify", f"--head={seq - 1}:{total}", "events.jsonl")
        assert "written anew" in told
    _, told = run(folder, 2, "verify", f"--head={total}", "events.jsonl", "cut.jsonl")
    assert "it is of one log, and here are 2" in told
