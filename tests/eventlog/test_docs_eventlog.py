"""The page about the log: its code runs as it stands, and prints what it shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import eventlog
from eventlog import codec, errors, group, lines
from eventlog.cli import _COMMANDS

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "eventlog.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Python blocks share one program, as they share one page.
RUNNER = """
import contextlib, io, json, sys
space = {"__name__": "page"}
for line in sys.stdin:
    language, code = json.loads(line)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "docs/eventlog.md", "exec"), space)
    print(json.dumps(out.getvalue()), flush=True)
"""


def normal(text: str) -> str:
    """Leave out what differs from run to run."""
    text = re.sub(r'"(ts|prev|sum)":"[^"]*"', r'"\1":"…"', text)
    return re.sub(r"the sum \S+ is", "the sum … is", text)


def steps() -> list[tuple[str, str, str]]:
    """Return language, code and output shown, of each block that is to be run."""
    found = BLOCK.findall(PAGE)
    made = []
    for (language, code), (after, shown) in zip(found, [*found[1:], ("", "")], strict=True):
        if language in {"python", "bash"} and not code.startswith("pip "):
            made.append((language, code, shown if after == "text" else ""))
    return made


def test_all_code_of_the_page_runs_in_its_order_and_prints_what_is_shown(tmp_path):
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (bin_folder / "python").chmod(0o700)
    program = subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    with program:
        for language, code, shown in steps():
            if language == "python":
                program.stdin.write(json.dumps((language, code)) + "\n")
                program.stdin.flush()
                told = program.stdout.readline()
                assert told, f"this failed:\n{code}"
                out = json.loads(told)
            elif "jq" in code and shutil.which("jq") is None:
                continue  # nothing after it needs it
            else:
                run = subprocess.run(
                    ["bash", "-c", code],
                    cwd=tmp_path,
                    capture_output=True,
                    text=True,
                    check=False,
                    env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"},
                )
                assert run.stderr == ""
                out = run.stdout
            assert normal(out) == shown, code
    assert program.returncode == 0


def test_the_page_has_code_of_both_kinds():
    assert len([code for language, code, _ in steps() if language == "python"]) >= 6
    assert len([code for language, code, _ in steps() if language == "bash"]) >= 3
    assert PAGE.count("```") == 2 * len(BLOCK.findall(PAGE))


def test_what_is_installed_is_what_this_is():
    (named,) = re.findall(r"^pip install (\S+)$", PAGE, re.MULTILINE)
    assert f'name = "{named}"' in (ROOT / "pyproject.toml").read_text()


def test_every_command_is_on_the_page_and_every_one_there_exists():
    table = PAGE.partition("## The command line")[2].partition("```")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(_COMMANDS)
    for command in re.findall(r"python -m eventlog (\w+)", PAGE):
        assert command in {*_COMMANDS, "COMMAND"}


def test_the_limits_on_the_page_are_those_of_the_code():
    assert (codec.MAX_LINE_BYTES, lines.READ_LIMIT) == (1 << 20, 16 << 20)
    assert "1 MiB (`LineTooLong`)" in PAGE
    assert "| a line that is read | 16 MiB |" in PAGE
    assert f"| {codec.MAX_DEPTH} levels" in PAGE
    assert f"one batch | {group.MAX_EVENTS} |" in PAGE
    assert f"a block of lines: {lines.CHUNK >> 10} KiB" in PAGE


def test_every_name_on_the_page_exists():
    for name in re.findall(r"`(Log[A-Z]\w+|Line\w+|Event\w+|\w+Event|\w+Log)`", PAGE):
        assert hasattr(eventlog, name) or hasattr(errors, name), name
    for name in ("read", "read_events", "read_dicts", "read_lines", "follow", "fold_file"):
        assert name in eventlog.__all__
