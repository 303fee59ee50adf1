import json
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.spec import yamldoc
from orchestrator.spec.yamlcore import resolve
from orchestrator.spec.yamldoc import MAX_BYTES, MAX_DEPTH, Span, read

# The same examples each time; a slow machine is no failure.
STEADY = settings(derandomize=True, deadline=None)


def codes(document):
    return [problem.code for problem in document.problems]


def value(text):
    document = read(text)
    assert codes(document) == []
    return document.value


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # The core schema of YAML 1.2; the comment says what YAML 1.1 would have made of it.
        ("yes", "yes"),  # True
        ("No", "No"),  # False
        ("on", "on"),  # True
        ("off", "off"),  # False
        ("012", 12),  # 10
        ("0o17", 15),  # text
        ("0x1F", 31),
        ("1e3", 1000.0),  # text
        ("1_000", "1_000"),  # 1000
        ("1:30", "1:30"),  # 90
        ("2026-11-23", "2026-11-23"),  # a date
        ("0b11", "0b11"),  # 3
        ("true", True),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("nULL", "nULL"),
        ("+1", 1),
        ("-0", 0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5E-2", -0.015),
        (".", "."),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("<<", "<<"),
        ("18446744073709551615", 2**64 - 1),
    ],
)
def test_an_unquoted_scalar_means_what_yaml_1_2_says(text, wanted):
    found = value(f"key: {text}\n")["key"]
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize("text", ["yes", "12", "null", "1e3", "~", ""])
def test_a_quoted_scalar_is_text(text):
    assert value(f"a: '{text}'\nb: \"{text}\"\n") == {"a": text, "b": text}


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999", "18446744073709551616"])
def test_a_number_that_json_does_not_have_is_refused(text):
    assert codes(read(f"a: {text}")) == ["ORC109"]


@STEADY
@given(st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_json_writes_is_read_back(number):
    found = resolve(json.dumps(number))
    assert found == number
    assert type(found) is type(number)


@STEADY
@given(st.text(alphabet="0123456789+-.eExo_:abf~nulTtrue ", max_size=12))
def test_a_scalar_is_a_plain_value_or_a_problem(text):
    try:
        found = resolve(text)
    except ValueError:
        return
    assert found is None or isinstance(found, str | bool | int | float)
    assert not isinstance(found, float) or math.isfinite(found)


def test_keys_and_values_know_their_places():
    document = read("steps:\n  qa:\n    needs: [a, bcd]\n    run: 'x y'\n")
    needs = ("steps", "qa", "needs")
    assert document.at((*needs, 1)) == Span(3, 16, 3)
    assert document.at_key(needs) == Span(3, 5, 5)
    assert document.at(("steps", "qa", "run")) == Span(4, 10, 5)
    assert document.at_key(("steps", "qa")) == Span(2, 3, 2)


def test_what_is_not_there_has_the_place_of_what_is_around_it():
    document = read("a:\n  b: 1\n")
    assert document.at(("a", "b", "c", 3)) == Span(2, 6, 1)
    assert document.at_key(("a", "nope")).line == 2


def test_a_word_is_found_in_a_block_scalar_and_not_inside_another_word():
    document = read("a: |\n  texts\n  and text\n")
    assert document.find(("a",), "text") == Span(3, 7, 4)
    assert document.find(("a",), "nope") == document.at(("a",))


def test_a_byte_order_mark_and_crlf_move_nothing():
    document = read(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - x\r\n")
    assert document.value == {"a": 1, "b": ["x"]}
    assert document.at(("a",)) == Span(1, 4, 1)
    assert document.at(("b", 0)) == Span(3, 5, 1)


def test_all_that_is_refused_is_told_at_once():
    text = "a: 1\na: 2\nb: &x 1\nc: *x\nd: !!int '1'\n3: x\n[1]: {y: 2}\ne: {f: 1, f: 2}\n~: z\n"
    document = read(text)
    assert [(p.code, p.line) for p in document.problems] == [
        ("ORC106", 2),
        ("ORC105", 3),
        ("ORC105", 4),
        ("ORC104", 5),
        ("ORC107", 6),
        ("ORC107", 7),
        ("ORC106", 8),
        ("ORC107", 9),
    ]
    assert document.value["a"] == 1
    assert document.value["e"] == {"f": 1}


def test_the_same_key_in_two_dropped_maps_is_not_twice_there():
    assert codes(read("1: {a: 1}\n2: {a: 1}\n")) == ["ORC107", "ORC107"]


@pytest.mark.parametrize(
    ("text", "line", "column", "hint"),
    [
        ("a: b: c", 1, 5, "quotes"),
        ("a:\n\t- 1", 2, 1, "spaces"),
        ("a: 'x", 1, 6, ""),
        ("a: [1", 1, 6, ""),
        ("a: é\x07", 1, 5, ""),
        ("a: 1\nb: \x00", 2, 4, ""),
    ],
)
def test_what_is_no_yaml_is_one_problem_with_its_place(text, line, column, hint):
    (problem,) = read(text).problems
    assert (problem.code, problem.line, problem.column) == ("ORC103", line, column)
    assert hint in problem.hint


def test_text_that_is_not_utf_8_is_told_with_its_byte():
    (problem,) = read(b"a: 1\nb: caf\xe9\n").problems
    assert (problem.code, problem.line, problem.column) == ("ORC101", 2, 7)
    assert "0xe9" in problem.message


def test_one_byte_too_many_is_refused():
    assert codes(read("#" * MAX_BYTES)) == []
    assert codes(read("#" * (MAX_BYTES + 1))) == ["ORC102"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_ends_early(opening):
    assert codes(read(opening * 10_000))[-1] == "ORC108"


def test_the_deepest_nesting_that_is_allowed():
    assert codes(read("[" * MAX_DEPTH + "]" * MAX_DEPTH)) == []


def test_a_second_document_is_refused():
    assert codes(read("a: 1\n---\nb: 2\n")) == ["ORC110"]


def test_problems_are_limited():
    assert len(read("a: 1\n" * 1000).problems) == yamldoc.MAX_PROBLEMS


def test_nothing_in_a_frame_or_message_moves_the_cursor():
    document = read('a: 1\n"\\e[2J": 1\n"\\e[2J": 2\n')
    assert "\x1b" not in document.problems[0].message
    assert "\x1b" not in read("a: \x1b[2J").shown


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4)
    ),
    max_leaves=20,
)


@STEADY
@given(json_values, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_json_is_read_as_json(data, indent, ascii_only):
    text = json.dumps({"key": data}, indent=indent, ensure_ascii=ascii_only)
    if not yamldoc.FORBIDDEN.search(text) and "\ufeff" not in text:
        assert value(text) == {"key": data}


def test_a_pair_of_surrogates_is_one_character_and_places_stay():
    document = read('{"a":\t"x\\ud83d\\ude00 \\\\ud83d", "b": 1}')
    assert document.value == {"a": "x😀 \\ud83d", "b": 1}
    assert document.at(("b",)).column == document.text.index("1") + 1


@STEADY
@given(st.text(alphabet=st.sampled_from("ab:- \n[]{},'\"|>&*!#?%@~1.\t\r\x85\\é😀"), max_size=60))
def test_any_text_is_a_value_or_problems(text):
    document = read(text)
    for problem in document.problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.length >= 1
    if not document.problems:
        json.dumps(document.value, allow_nan=False)


@STEADY
@given(st.text(alphabet=st.sampled_from("ab:- \n[]{},'\"|>&*!#?~1.\té😀"), max_size=60))
def test_without_the_c_library_it_is_the_same(text):
    fast = read(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(yaml, "CSafeLoader")
        slow = read(text)
    if not slow.problems and not fast.problems:  # the parsers refuse different odd corners
        assert slow.value == fast.value
