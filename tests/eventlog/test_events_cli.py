"""The commands as a user runs them: what is on stdout, on stderr, and the exit code."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eventlog import Lock, Log, read_lines
from eventlog.cli import Mount, build
from eventlog.cli_migrate import Progress, size_of
from eventlog.find import LogRef
from eventlog.migrate import Where

OLD = b'{"timestamp":"2025-10-22T10:00:00","type":"a","n":1}\n'
NEW = b'{"ts":"2025-10-22T10:00:00Z","type":"a","data":{"n":1}}\n'


def run(*args, mount=None, stdin=None):
    return CliRunner().invoke(build(mount), [str(arg) for arg in args], input=stdin)


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "events.jsonl"
    with Log(path, clock=lambda: 0) as log:
        log.append({"type": "a", "data": {"n": 1}}, {"type": "b", "data": {"n": 2}})
    return path


def old(path, *more):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(OLD + b"".join(more))
    return path


# --- query ------------------------------------------------------------------------------------


def test_query_prints_a_table(sealed):
    done = run("query", "select type, count(*) as n from events group by all order by all", sealed)
    assert done.exit_code == 0
    assert (
        done.stdout == "type        n\n----------  -\na           1\nb           1\nlog.opened  1\n"
    )
    assert done.stderr == ""


def test_query_prints_json_with_nested_data(sealed):
    done = run("query", "select seq, data from events where seq > 0", sealed, "--json")
    found = json.loads(done.stdout)
    assert found["schema_version"] == 1
    assert found["rows"] == [{"seq": 1, "data": {"n": 1}}, {"seq": 2, "data": {"n": 2}}]
    assert (found["rejected_count"], found["rejected"]) == (0, [])


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("jsonl", '{"a":1,"b":"x"}\n'),
        ("csv", "a,b\n1,x\n"),
        ("tsv", "a\tb\n1\tx\n"),
        ("markdown", "| a | b |\n| --- | --- |\n| 1 | x |\n"),
    ],
)
def test_query_prints_other_formats(form, text, tmp_path):
    assert run("query", "select 1 as a, 'x' as b", tmp_path, "--format", form).stdout == text


def test_query_writes_a_file(tmp_path):
    out = tmp_path / "out.csv"
    done = run("query", "select 1 as a", tmp_path, "--format", "csv", "-o", out)
    assert (done.stdout, out.read_text()) == ("", "a\n1\n")


def test_query_takes_sql_from_stdin_from_a_file_and_with_values(sealed, tmp_path):
    sql = "select (data->>'n') as n from events where type = $kind"
    (tmp_path / "q.sql").write_text(f"-- of a type\n{sql}\n")
    args = (sealed, "-p", "kind=b", "--format", "csv")
    for done in (run("query", "-", *args, stdin=sql), run("query", tmp_path / "q.sql", *args)):
        assert done.stdout == "n\n2\n"


def test_query_takes_any_file_with_an_option(sealed, tmp_path):
    (tmp_path / "question").write_text("select max(seq) as last from events")
    done = run("query", "--file", tmp_path / "question", sealed, "--format", "csv")
    assert done.stdout == "last\n2\n"
    done = run("query", "--file", tmp_path / "nothing", sealed)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "No such file" in done.stderr


def test_a_parquet_file_has_the_rows_and_their_types(sealed, tmp_path):
    import duckdb

    out = tmp_path / "out.parquet"
    sql = "select seq, ts, data from events where seq > $least order by seq"
    done = run("query", sql, sealed, "-p", "least=0", "--format", "parquet", "-o", out)
    assert (done.exit_code, done.stdout) == (0, "")
    rows = duckdb.sql(f"select seq, data->>'n', typeof(ts) from '{out}'").fetchall()
    assert rows == [(1, "1", "TIMESTAMP"), (2, "2", "TIMESTAMP")]
    assert [path.name for path in tmp_path.glob("out*")] == ["out.parquet"]
    assert run("stats", sealed, "--format", "parquet").exit_code == 2


def test_a_file_that_is_a_device_is_written_and_never_replaced(sealed):
    before = os.stat(os.devnull)
    assert run("query", "select 1 as a", sealed, "-o", os.devnull).exit_code == 0
    assert os.stat(os.devnull).st_ino == before.st_ino


def test_every_field_of_a_log_is_a_column(tmp_path):
    path = tmp_path / "shop.jsonl"
    with Log(path, fields={"shop": "north"}, clock=lambda: 0) as log:
        log.append(
            {"type": "paid", "cents": 250, "by": "card"},
            {"type": "paid", "cents": 0.5, "data": {"vip": True, "Cents": "clash", "tags": [1]}},
            {"type": "odd", "data": {"by": 7, "seq": 1}},
        )
    sql = 'select shop, cents, "by", vip, tags from events where seq > 0 order by seq'
    found = json.loads(run("query", sql, path, "--json").stdout)
    assert [(column["name"], column["type"]) for column in found["columns"]] == [
        *[("shop", "VARCHAR"), ("cents", "DOUBLE"), ("by", "JSON"), ("vip", "BOOLEAN")],
        ("tags", "JSON"),
    ]
    assert [list(row.values()) for row in found["rows"]] == [
        ["north", 250.0, "card", None, None],
        ["north", 0.5, None, True, [1]],
        ["north", None, 7, None, None],
    ]
    schemas = json.loads(run("schema", path, "--json").stdout)["events"]
    assert schemas["odd"]["properties"]["data"]["properties"]["by"] == {"type": "integer"}


def test_an_index_is_kept_beside_large_logs_unless_that_is_not_wanted(tmp_path, monkeypatch):
    path = tmp_path / "large.jsonl"
    path.write_bytes(NEW * 30_000)
    for options, kept in ((["--no-index"], False), ([], True)):
        assert "30000" in run("query", "select count(*) from events", path, *options).stdout
        assert (tmp_path / ".index" / "events" / "manifest.json").exists() is kept
    (tmp_path / ".index" / "events").chmod(0o777)
    done = run("query", "select count(*) from events", path)
    assert "30000" in done.stdout
    assert "note: what was read can't be kept for the next query" in done.stderr


def test_a_query_that_takes_too_long_or_gives_too_much_exits_2(sealed):
    slow = "select sum(sqrt(range)) from range(100000000000000)"
    done = run("query", slow, sealed, "--timeout", "0.2")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "longer than 0.2 s" in done.stderr
    done = run("query", "from range(11)", sealed, "--max-rows", "10")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "more than 10 rows" in done.stderr


def test_the_place_of_a_mistake_is_shown_with_a_caret(sealed):
    done = run("query", "select type,\n  tpye from events", sealed)
    assert "LINE 2:   tpye from events\n          ^" in done.stderr


def test_query_names_rejected_lines_on_stderr(tmp_path):
    path = old(tmp_path / "events.jsonl", *[b"junk\n"] * 7)
    done = run("query", "select count(*) as n from events", path, "--format", "csv")
    assert (done.exit_code, done.stdout) == (0, "n\n1\n")
    assert "warning: 7 lines could not be read" in done.stderr
    assert f"{path}:2 (offset {len(OLD)}): it is no JSON object" in done.stderr
    assert "and 2 more" in done.stderr


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select tpye from events", 'Referenced column "tpye" not found'),
        ("drop table events", "only reading is possible"),
        ("nothing", "no query named nothing"),
        ("select 1; select 2", "one statement"),
    ],
)
def test_query_says_what_is_wrong_and_exits_2(sql, words, tmp_path):
    done = run("query", sql, tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert words in done.stderr


def test_control_characters_of_a_log_are_shown_not_sent(tmp_path):
    with Log(tmp_path / "events.jsonl") as log:
        log.append({"type": "a", "data": {"text": "\x1b[2Jgone"}})
    sql = "select (data->>'text') as t from events where type = 'a'"
    assert "\\x1b[2Jgone" in run("query", sql, tmp_path).stdout
    assert "\x1b" not in run("tail", tmp_path / "events.jsonl").stdout


def test_schema_names_tables_and_views():
    mount = Mount(views=lambda: [("many", "select count(*) as n from events")])
    done = run("schema", "--format", "csv", mount=mount)
    assert "events,data,JSON" in done.stdout
    assert "logs,torn,BIGINT" in done.stdout
    assert "many,n,BIGINT" in done.stdout


# --- cat, tail, stats -------------------------------------------------------------------------


def test_cat_prints_todays_form_and_raw_what_stands_there(tmp_path):
    path = old(tmp_path / "events.jsonl", b"\n", NEW.replace(b'"a"', b'"b.c"'), b"[]\n", b'{"x')
    done = run("cat", path)
    assert done.stdout_bytes == NEW + NEW.replace(b'"a"', b'"b.c"')
    assert f"{path}:4" in done.stderr
    assert run("cat", path, "--raw").stdout_bytes == path.read_bytes().removesuffix(b'{"x')
    assert run("cat", path, "--type", "b.*").stdout_bytes == NEW.replace(b'"a"', b'"b.c"')


def test_tail_prints_the_last_events(sealed):
    done = run("tail", sealed, "-n", "2")
    assert done.stdout == (
        '    1  1970-01-01T00:00:00.000000Z  a  {"n":1}\n'
        '    2  1970-01-01T00:00:00.000000Z  b  {"n":2}\n'
    )
    last = list(read_lines(sealed))[-1].raw + b"\n"
    assert run("tail", sealed, "-n", "1", "--json").stdout_bytes == last


def test_tail_follows_until_nobody_writes_any_more(sealed):
    looks = []

    def ended(path):
        looks.append(path)
        if len(looks) == 1:
            with Log(path) as log:
                log.append({"type": "late"})
        return len(looks) > 1

    done = run("tail", sealed, "-f", "-n", "0", mount=Mount(ended=ended))
    assert [line.split()[2] for line in done.stdout.splitlines()] == ["log.opened", "late"]
    assert looks == [str(sealed)] * 2


def test_tail_wants_one_log(tmp_path):
    old(tmp_path / "a" / "events.jsonl")
    old(tmp_path / "b" / "events.jsonl")
    done = run("tail", tmp_path)
    assert done.exit_code == 2
    assert "2 logs are here" in done.stderr


def test_stats_count_versions_and_types(tmp_path, sealed):
    old(tmp_path / "job" / "events.jsonl", NEW, b"junk\n")
    found = json.loads(run("stats", tmp_path, "--json").stdout)
    assert found["schema_version"] == 1
    assert [log["versions"] for log in found["logs"]] == [
        {"v2.1": 3},
        {"v1": 1, "v2.1": 1, "unreadable": 1},
    ]
    assert found["types"] == {"a": 3, "b": 1, "log.opened": 1}
    assert "unreadable" in run("stats", tmp_path).stdout


# --- verify, repair, salvage ------------------------------------------------------------------


def test_verify_a_whole_log(sealed):
    done = run("verify", sealed, "--json")
    (found,) = json.loads(done.stdout)["logs"]
    assert done.exit_code == 0
    assert (found["verdict"], found["lines"], found["epoch"]) == ("whole", 3, 1)
    assert found["head"] == list(read_lines(sealed))[-1].raw[-18:-2].decode()


def test_verify_damage_exits_4_and_names_the_place(sealed):
    sealed.write_bytes(sealed.read_bytes().replace(b'"n":1', b'"n":7'))
    offset = next(line.offset for line in read_lines(sealed) if line.seq == 1)
    done = run("verify", sealed)
    assert done.exit_code == 4
    assert f"seq 1, offset {offset}" in done.stderr
    assert f"salvage {sealed}" in done.stderr


def test_verify_tells_of_a_torn_tail_without_an_error(sealed):
    size = sealed.stat().st_size
    sealed.write_bytes(sealed.read_bytes() + b'{"seq":3,"ts"')
    done = run("verify", sealed)
    assert done.exit_code == 0
    assert "torn" in done.stdout
    assert f"torn: 13 bytes at offset {size}" in done.stderr


def test_verify_finds_an_anchor_at_the_head_in_the_chain_or_not_at_all(sealed):
    head = list(read_lines(sealed))[-1].raw[-18:-2].decode()

    def anchor(*args):
        done = run("verify", *args, "--json")
        return done.exit_code, json.loads(done.stdout)["logs"][0]["anchor"]

    assert anchor(sealed, "--head", head) == (0, "head")
    with Log(sealed):
        pass
    assert anchor(sealed, "--head", head) == (0, "seq 2")
    lines = sealed.read_bytes().splitlines(keepends=True)
    sealed.write_bytes(b"".join(lines[:2]))
    assert anchor(sealed, "--head", head) == (4, "missing")


def test_repair_moves_a_torn_tail_aside(sealed):
    whole = sealed.read_bytes()
    sealed.write_bytes(whole + b'{"seq":3')
    done = run("repair", sealed, mount=Mount(fields=lambda path: {"level": "WARN"}))
    assert done.exit_code == 0
    assert "8 bytes of a torn line were moved aside" in done.stderr
    assert Path(f"{sealed}.torn-1").read_bytes() == b'{"seq":3'
    lines = [json.loads(line.raw) for line in read_lines(sealed)]
    assert [line["type"] for line in lines[3:]] == ["log.opened", "log.recovered"]
    assert lines[4]["level"] == "WARN"
    assert run("verify", sealed).exit_code == 0
    again = sealed.read_bytes()
    assert "nothing to repair" in run("repair", sealed).stderr
    assert sealed.read_bytes() == again


def test_repair_does_not_seal_an_old_log(tmp_path):
    path = old(tmp_path / "events.jsonl", b'{"torn')
    assert run("repair", path).exit_code == 0
    assert path.read_bytes() == OLD
    assert Path(f"{path}.torn-1").read_bytes() == b'{"torn'


def test_repair_refuses_damage_and_held_logs(sealed):
    with Lock(f"{sealed}.lock", started="now"):
        sealed.write_bytes(sealed.read_bytes() + b"{")
        assert run("repair", sealed).exit_code == 5
    sealed.write_bytes(sealed.read_bytes().replace(b'"n":1', b'"n":7'))
    before = sealed.read_bytes()
    done = run("repair", sealed)
    assert done.exit_code == 4
    assert "salvage" in done.stderr
    assert sealed.read_bytes() == before


def test_salvage_copies_what_is_before_the_damage(sealed, tmp_path):
    lines = sealed.read_bytes().splitlines(keepends=True)
    sealed.write_bytes(lines[0] + lines[1].replace(b'"n":1', b'"n":7') + lines[2])
    before = sealed.read_bytes()
    done = run("salvage", sealed)
    assert done.stdout == f"{sealed}.salvaged\n"
    assert Path(f"{sealed}.salvaged").read_bytes() == lines[0]
    assert f"copied: 1 lines, {len(lines[0])} bytes" in done.stderr
    assert sealed.read_bytes() == before
    again = run("salvage", sealed)
    assert again.exit_code == 4
    assert "File exists" in again.stderr
    assert Path(f"{sealed}.salvaged").read_bytes() == lines[0]


# --- migrate ----------------------------------------------------------------------------------


def test_migrate_reports_each_log_and_exits_1_if_lines_were_left(tmp_path):
    good = old(tmp_path / "a" / "events.jsonl")
    bad = old(tmp_path / "b" / "events.jsonl", b"junk\n")
    dry = run("migrate", "--dry-run", "--json", tmp_path)
    assert (good.read_bytes(), dry.exit_code) == (OLD, 1)
    total = json.loads(dry.stdout)["total"]
    assert (total["files"], total["lines"], total["migrated"], total["left"]) == (2, 3, 2, 1)
    done = run("migrate", tmp_path)
    assert done.exit_code == 1
    assert f"left: {bad}:2: it is no JSON object" in done.stderr
    assert good.read_bytes() == NEW
    assert run("migrate", good).exit_code == 0


def test_migrate_takes_a_zone(tmp_path):
    path = old(tmp_path / "events.jsonl")
    assert run("migrate", path, "--tz", "Nowhere/Here").exit_code == 2
    assert path.read_bytes() == OLD
    assert run("migrate", path, "--tz", "+02:00").exit_code == 0
    assert b"2025-10-22T08:00:00Z" in path.read_bytes()


def test_migrate_goes_on_after_a_log_that_it_must_refuse(tmp_path):
    refused = old(tmp_path / "a" / "events.jsonl")
    with Log(refused):
        pass
    fine = old(tmp_path / "b" / "events.jsonl")
    done = run("migrate", tmp_path)
    assert done.exit_code == 1
    assert "sealed" in done.stderr
    assert fine.read_bytes() == NEW


def test_migrate_sums_up_what_was_done(tmp_path):
    for name in ("a", "b", "c"):
        old(tmp_path / name / "events.jsonl")
    (tmp_path / "c" / "events.jsonl").write_bytes(NEW)
    done = run("migrate", tmp_path, "--json")
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert [file["state"] for file in document["files"]] == ["migrated", "migrated", "unchanged"]
    total = document["total"]
    assert total.pop("seconds") >= 0
    assert total == {
        "files": 3,
        "states": {"migrated": 2, "unchanged": 1},
        "backups": 2,
        "lines": 3,
        "migrated": 2,
        "already_new": 1,
        "left": 0,
        "blank": 0,
        "torn_bytes": 0,
        "bytes_before": 2 * len(OLD) + len(NEW),
        "bytes_after": 3 * len(NEW),
    }
    told = done.stderr.splitlines()
    assert told[0].startswith("3 logs: 2 migrated, 1 unchanged; 3 lines: 2 migrated, 1 already new")
    assert told[1:] == [
        "2 old logs kept as events.jsonl.v1",
        "next: python -m eventlog query log-versions",
    ]


def test_migrate_shows_so_many_rows_and_counts_the_others(tmp_path):
    for number in range(43):
        old(tmp_path / f"{number:02d}" / "events.jsonl")
    done = run("migrate", "--dry-run", tmp_path)
    assert len(done.stdout.splitlines()) == 2 + 40
    assert done.stderr.splitlines()[0] == "and 3 logs more: --format csv or --json has them all"
    assert len(run("migrate", "--dry-run", tmp_path, "--format", "csv").stdout.splitlines()) == 44


def test_migrate_takes_only_the_logs_of_a_folder_and_says_if_there_are_none(tmp_path):
    other = old(tmp_path / "catalog.jsonl")
    done = run("migrate", tmp_path)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "no logs are here: no events.jsonl was found\n"
    assert other.read_bytes() == OLD
    assert run("migrate", other).exit_code == 0
    assert other.read_bytes() == NEW


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_how_far_a_migration_is_shows_on_a_terminal_after_a_second(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    seconds = iter([0.0, 0.5, 1.0, 1.05, 1.1, 3.0])
    out = Terminal()
    progress = Progress(out, lambda: next(seconds))
    progress(Where("a/events.jsonl", 1, 2, 1_000_000, 4_000_000))
    assert out.getvalue() == ""
    progress(Where("a/events.jsonl", 1, 2, 2_000_000, 4_000_000))
    shown = "\r\x1b[2Kmigrating log 1 of 2: 2.0 MB read, 2.0 MB/s; 50% of a/events.jsonl"
    assert out.getvalue() == shown
    progress(Where("a/events.jsonl", 1, 2, 3_000_000, 4_000_000))
    assert out.getvalue() == shown  # not more often than each tenth of a second
    progress(Where("a/events.jsonl", 1, 2, 4_000_000, 4_000_000))
    progress(Where("b\x1b[31m/events.jsonl" + "x" * 90, 2, 2, 500, 1000))
    last = out.getvalue().rpartition("\r\x1b[2K")[2]
    assert last.startswith("migrating log 2 of 2: 4.0 MB read, 1.3 MB/s; 50% of b\\x1b[31m/eve")
    assert len(last) == 79
    progress.clear()
    assert out.getvalue().endswith("\r\x1b[2K")


def test_how_far_a_migration_is_does_not_show_elsewhere():
    out = io.StringIO()
    progress = Progress(out, iter([0.0, 99.0]).__next__)
    progress(Where("a", 1, 1, 1, 1))
    progress.clear()
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000_000, "2.5 GB")]
)
def test_sizes_are_told_in_powers_of_a_thousand(count, text):
    assert size_of(count) == text


# --- mounting and processes -------------------------------------------------------------------


def test_a_program_brings_its_own_targets_and_queries(tmp_path):
    path = old(tmp_path / "somewhere.jsonl")
    (tmp_path / "ids.sql").write_text("-- Whose events?\nselect job_id from events")
    mount = Mount(
        default="latest",
        resolve=lambda target: [LogRef(str(path), f"job_{target}")],
        folders=lambda: [str(tmp_path)],
    )
    assert run("query", "ids", "--format", "csv", mount=mount).stdout == "job_id\njob_latest\n"
    assert (
        run("query", "--format", "csv", mount=mount).stdout == "query,answers\nids,Whose events?\n"
    )


def test_a_missing_path_exits_2():
    for command in ("cat", "stats", "verify", "migrate"):
        done = run(command, "/nowhere/at/all")
        assert done.exit_code == 2, command
        assert "/nowhere/at/all" in done.stderr


def python(*args, **more):
    return subprocess.run(
        [sys.executable, *args], capture_output=True, check=False, timeout=60, **more
    )


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "from eventlog.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'duckdb', 'rich', 'pydantic', 'httpx', 'numpy'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = python("-c", code)
    assert b"query" in done.stdout
    assert done.stderr.strip() == b"[]"


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    path = old(tmp_path / "events.jsonl", *[NEW] * 20_000)
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "eventlog", "cat", str(path)],
            stdout=write,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
