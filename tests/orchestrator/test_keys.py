import msgspec
import pytest

from orchestrator.errors import FailureKind, StepError
from orchestrator.keys import (
    call_key,
    canonical,
    encode_output,
    first_difference,
    output_hash,
    part_hashes,
    step_key,
)


def test_canonical_json_does_not_depend_on_the_order_of_names():
    assert canonical({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"a":{"c":3,"d":2},"b":1}'
    assert canonical(["é", 1.5, None, True]) == '["é",1.5,null,true]'.encode()


def test_a_step_key_is_the_same_for_the_same_content():
    one = step_key("run", {"command": "ls", "env": {"B": "2", "A": "1"}}, ["h1", "h2"])
    two = step_key("run", {"env": {"A": "1", "B": "2"}, "command": "ls"}, ["h1", "h2"])
    assert one == two
    assert len(one) == 64


@pytest.mark.parametrize(
    "other",
    [
        ("llm", {"x": 1}, ["h"]),
        ("run", {"x": 2}, ["h"]),
        ("run", {"y": 1}, ["h"]),
        ("run", {"x": "1"}, ["h"]),
        ("run", {"x": 1}, ["other"]),
        ("run", {"x": 1}, ["h", "h"]),
        ("run", {"x": 1}, []),
    ],
)
def test_a_step_key_differs_by_kind_parts_and_what_the_needs_brought(other):
    assert step_key(*other) != step_key("run", {"x": 1}, ["h"])


def test_the_recipe_of_keys_is_fixed():
    # A changed recipe makes every recorded result of every job run again: raise KEY_VERSION.
    assert step_key("run", {"command": "ls"}, ["h"]).startswith("6e668c664ed3e4be")
    assert call_key({"model": "m"}).startswith("7d28115dce8c2913")
    assert output_hash(b'{"a":1}', [("p", "h")]).startswith("aecbac980f7554ae")


def test_the_hash_of_a_result_counts_its_files_in_any_order():
    files = [("b", "2"), ("a", "1")]
    assert output_hash(b"1", files) == output_hash(b"1", files[::-1])
    assert output_hash(b"1", files) != output_hash(b"1", files[:1])
    assert output_hash(b"1", []) != output_hash(b"2", [])
    assert output_hash(b"1", [("a", "x")]) != output_hash(b"1", [("a", "y")])


def test_a_call_is_not_a_step():
    assert call_key({"x": 1}) != step_key("x", {}, [])


def test_parts_are_kept_as_short_hashes_by_name():
    hashes = part_hashes({"prompt": "a secret", "env": {"KEY": "hunter2"}})
    assert list(hashes) == ["env", "prompt"]
    assert all(len(value) == 16 for value in hashes.values())
    assert b"hunter2" not in msgspec.json.encode(hashes)


def test_the_difference_is_told_by_the_names_of_the_parts():
    before = part_hashes({"prompt": "a", "model": "m", "gone": 1})
    now = part_hashes({"prompt": "b", "model": "m", "new": 1})
    assert first_difference(now, before) == "gone, new, prompt"
    assert first_difference(now, now) == ""


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1.5, "", "null", {"null": None}, [], {}, {"a": [1, {"b": "é\u2028\x00"}]}],
)
def test_a_json_value_is_an_output(value):
    assert msgspec.json.decode(encode_output("s", value)) == value


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (object(), "$"),
        ([1, object()], "$[1]"),
        ({"a": {"b": {1, object()}}}, "$.a.b"),
        ({"a": {"b": {1, 2}}}, "$.a.b"),
        ({"a": [0.0, float("nan")]}, "$.a[1]"),
        (float("-inf"), "$"),
        ({"a": "\udfff"}, "$.a"),
        ({"a": [{1: 2}]}, "$.a[0]"),
        ([{("t",): 1}], "$[0]"),
    ],
)
def test_another_value_is_refused_with_its_place(value, place):
    with pytest.raises(StepError) as caught:
        encode_output("s", value)
    start = f"the output of step s is no JSON value: {place}"
    assert caught.value.message.startswith(start)
    assert caught.value.message[len(start)] in " [:"
    assert caught.value.kind is FailureKind.OUTPUT
    assert "finite numbers" in caught.value.hint


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(StepError, match="no JSON value"):
        encode_output("s", value)
