"""The page about queries: its commands run and print what it shows; its columns are those there."""

import os
import re
import sys
from pathlib import Path

import pytest

from eventlog.jail import DEFAULT
from eventlog.warden import MAX_ANSWER
from orchestrator.ask import VIEWS, database, views
from userkit import User

PAGE = (Path(__file__).parent.parent / "docs" / "query.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    user = User(tmp_path_factory.mktemp("page"))
    user.examples()
    user.orch("run", "examples/tiny_spec.yaml")
    (user.home / "bin").mkdir()
    (user.home / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (user.home / "bin" / "python").chmod(0o700)
    user.env["PATH"] = f"{user.home / 'bin'}{os.pathsep}{user.env['PATH']}"
    return user


def test_the_commands_of_the_page_run_and_print_what_is_shown(user):
    for number, (language, code) in enumerate(BLOCKS):
        if language != "bash":
            continue
        done = user.sh(code)
        shown = BLOCKS[number + 1] if number + 1 < len(BLOCKS) else ("", "")
        if shown[0] == "text":
            assert done.out == shown[1]
    assert (user.home / "calls.parquet").read_bytes().startswith(b"PAR1")


def test_every_view_is_on_the_page_with_its_sentence_and_its_columns():
    sections = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
    with database([]) as found:
        rows = found.schema().rows
    assert set(sections) == {table for table, _, _ in rows} == {*VIEWS, "events", "logs"}
    for name, text in sections.items():
        columns = [(column, kind) for table, column, kind in rows if table == name]
        assert re.findall(r"`(\w+)` ([A-Z][A-Z0-9(),]*[A-Z0-9)])", text) == columns
    for name, sql in views():
        assert sql.partition("\n")[0].removeprefix("-- ") in sections[name]


def test_the_limits_are_those_of_the_program():
    assert f"| {DEFAULT.time_s:g} s |" in PAGE
    assert f"| {DEFAULT.memory_mb} MB |" in PAGE
    assert f"| {DEFAULT.rows:,} |" in PAGE
    assert f"| {DEFAULT.sql_bytes >> 10} KiB |" in PAGE
    assert f"| {MAX_ANSWER >> 30} GiB |" in PAGE
