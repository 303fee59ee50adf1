"""A value on the command line has the type that it looks like."""

import datetime as dt

import pytest

from eventlog import QueryError
from eventlog.query import query
from eventlog.values import typed, value_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("0", 0),
        ("1.5", 1.5),
        ("-2e3", -2000.0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("", ""),
        ("text", "text"),
        ("007", "007"),
        ("1234567890123456789", 1234567890123456789),
        ("01k8", "01k8"),
        ("1_000", "1_000"),
        ("NaN", "NaN"),
        ('"5"', "5"),
        ('"a\\nb"', "a\nb"),
        ('"', '"'),
        ('"a"b"', '"a"b"'),
        ("a=b", "a=b"),
        ("2026-11-23", dt.date(2026, 11, 23)),
        ("2026-13-23", "2026-13-23"),
        ("2026-11-23T10:00:01.5Z", dt.datetime(2026, 11, 23, 10, 0, 1, 500_000)),  # noqa: DTZ001
        ("2026-11-23 12:00+02:00", dt.datetime(2026, 11, 23, 10)),  # noqa: DTZ001
        ("2026-11-23T10:00:01 or 1=1", "2026-11-23T10:00:01 or 1=1"),
    ],
)
def test_a_value_is_what_it_looks_like(text, value):
    found = value_of(text)
    assert (type(found), found) == (type(value), value)


def test_parameters_are_names_with_values():
    assert typed(["a=1", "b=x=y", "c="]) == {"a": 1, "b": "x=y", "c": ""}
    for wrong in ("a", "=1", ""):
        with pytest.raises(QueryError, match="no parameter"):
            typed([wrong])


def test_each_type_is_compared_as_such(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"ts":"2026-11-23T10:00:00Z","type":"x","data":{"n":5,"s":"5"}}\n')
    sql = (
        "select count(*) from events where ts > $day and ts <= $moment"
        " and (data->>'n')::int = $n and (data->>'s') = $s"
    )
    given = ["day=2026-11-23", "moment=2026-11-23T11:00:00+01:00", "n=5", 's="5"']
    assert query([path], sql, params=typed(given)).rows == [(1,)]
