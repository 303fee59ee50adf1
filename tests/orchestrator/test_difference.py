"""Two values, and where they differ, in few lines."""

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.difference import MAX_LINES, MAX_PLACES, MAX_TEXT, Delta, differences

STEADY = settings(derandomize=True, deadline=None, max_examples=60)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab\n", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=8,
)


def test_the_place_inside_a_map_is_named():
    before = {"a": {"b": [1, 2]}, "same": True}
    after = {"a": {"b": [1, 3]}, "same": True, "new": "x"}
    assert differences(before, after) == [Delta("a.b[1]", "2", "3"), Delta("new", None, "x")]


def test_of_texts_the_lines_that_changed_are_told():
    (delta,) = differences("one\ntwo\nthree", "one\n2\nthree\nfour")
    assert delta.diff == ("- two", "+ 2", "+ four")


def test_true_is_not_one():
    assert differences(1, True) == [Delta("", "1", "true")]


def test_much_is_cut():
    many = differences({str(i): 1 for i in range(50)}, {str(i): 2 for i in range(50)})
    assert len(many) == MAX_PLACES
    (lines,) = differences("a\n" * 100, "b\n" * 100)
    assert len(lines.diff) == MAX_LINES + 1
    (long,) = differences("x" * 1000, "y" * 1000)
    assert len(long.before) == MAX_TEXT + 1
    (huge,) = differences("x\n" * 9000, "y\n" * 9000)
    assert huge.diff == ("(9001 lines before, 9001 now)",)


@given(JSON, JSON)
@STEADY
def test_there_is_a_difference_if_and_only_if_the_values_are_not_the_same(one, two):
    import msgspec

    same = msgspec.json.encode(one, order="sorted") == msgspec.json.encode(two, order="sorted")
    assert (differences(one, two) == []) == same
