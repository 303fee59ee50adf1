"""Text from anywhere is safe to print, and tables line up."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest

from eventlog.output import Format, document, plain, rows_as
from eventlog.table import cut, markdown, table, visible, width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("bell\a del\x7f csi\x9b2J", "bell\\x07 del\\x7f csi\\x9b2J"),
        ("turned \u202egnp.exe", "turned \\u202egnp.exe"),
        ("line\u2028end", "line\\u2028end"),
        ("hidden\U000e0041", "hidden\\U000e0041"),
        ("half \ud800", "half \\ud800"),
        ("naïve 漢字 👩\u200d💻", "naïve 漢字 👩\u200d💻"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert visible(text) == shown
    shown.encode("utf-8")


def test_lines_can_be_kept():
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def test_columns_line_up_by_what_a_terminal_shows():
    text = table(["name", "n"], [["漢字", 1], ["e\u0301", 22], [None, None]])
    lines = text.split("\n")
    assert lines[0] == "name   n"
    assert lines[1] == "----  --"
    assert [width(line) for line in lines[2:4]] == [8, 8]
    assert lines[2].endswith(" 1")
    assert lines[4] == ""


def test_a_table_is_cut_to_the_terminal_and_only_there():
    rows = [["x" * 50, "y" * 10]]
    assert table(["a", "b"], rows).split("\n")[2] == "x" * 50 + "  " + "y" * 10
    lines = table(["a", "b"], rows, limit=40).split("\n")
    assert [width(line) for line in lines[1:]] == [40, 40]
    assert "…" in lines[2]
    assert lines[2].endswith("y" * 10)


def test_many_columns_never_shrink_to_nothing():
    text = table([f"column{n}" for n in range(30)], [["z" * 30] * 30], limit=20)
    assert "zzzzzzz…" in text


def test_wide_characters_are_not_cut_in_half():
    assert cut("漢字漢字", 5) == "漢字…"
    assert width(cut("漢字漢字", 6)) <= 6


def test_markdown_cells_cannot_break_out():
    assert markdown(["a|b"], [["x|y\nz"]]) == "| a\\|b |\n| --- |\n| x\\|y\\\\nz |"


def test_json_keeps_every_cell_and_says_its_version():
    text = rows_as(
        Format.JSON,
        ["n", "n", "data"],
        [(1 << 70, float("nan"), '{"a":1.0}')],
        types=["HUGEINT", "DOUBLE", "JSON"],
        extra={"rejected_count": 2},
    )
    found = json.loads(text)
    assert found["schema_version"] == 1
    assert found["rows"] == [{"n": 1 << 70, "n_2": None, "data": {"a": 1.0}}]
    assert found["columns"][2] == {"name": "data", "type": "JSON"}
    assert found["rejected_count"] == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (dt.datetime(2025, 10, 22, 10, 0, 0, 5), "2025-10-22T10:00:00.000005Z"),  # noqa: DTZ001 - as DuckDB
        (dt.date(2025, 10, 22), "2025-10-22"),
        (dt.timedelta(seconds=90), "0:01:30"),
        (b"\x00\xff", "00ff"),
        ({"a": [dt.date(2025, 1, 1)]}, {"a": ["2025-01-01"]}),
        (True, True),
        (None, None),
    ],
)
def test_cells_become_json_values(value, expected):
    assert plain(value) == expected


def test_decimals_stay_exact_numbers():
    assert rows_as(Format.JSONL, ["d"], [(Decimal("12.50"),)]) == '{"d":12.50}\n'


def test_csv_and_tsv_hold_one_row_a_line():
    rows = [("a,b", 'say "x"', None), ("two\nlines", 1.5, True)]
    assert rows_as(Format.CSV, ["x", "y", "z"], rows) == (
        'x,y,z\n"a,b","say ""x""",\n"two\nlines",1.5,true\n'
    )
    assert rows_as(Format.TSV, ["x", "y", "z"], rows) == (
        'x\ty\tz\na,b\tsay "x"\t\ntwo\\nlines\t1.5\ttrue\n'
    )


def test_a_file_name_that_is_not_utf8_still_makes_a_document():
    assert json.loads(document({"file": "x\udcff"}))["file"] == "x\\udcff"
