"""The schema of a job file and the checks say the same of keys, types and ranges."""

import copy
import json

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import SpecError
from orchestrator.spec import parse_spec, shape
from orchestrator.spec.schema import CHOICES, EACH, ONE, job_schema
from userkit import EXAMPLES

VALID = jsonschema_rs.validator_for(job_schema())
STEADY = settings(derandomize=True, deadline=None, max_examples=300)
STRUCTURAL = {"ORC111", "ORC112", "ORC113", "ORC114", "ORC115", "ORC117", "ORC118", "ORC128"}
ELSEWHERE = {"ORC120", "ORC123", "ORC129"}
"""What depends on other parts of the file, or on other files."""

GOOD = {
    "project": "p",
    "name": "n",
    "provider": "offline",
    "model": "echo",
    "base_url": "http://127.0.0.1:1/v1",
    "concurrency": 2,
    "timeout_s": 1.5,
    "output_dir": "out",
    "record": "full",
    "options": {"temperature": 0},
    "env": {"A": "b"},
    "secrets": ["K_API_KEY"],
    "cache": {"ttl_s": 5, "scope": "job"},
    "inputs": {"topic": {"type": "string", "default": "x", "required": False}},
    "budget": {"calls": 5},
    "limits": {"llm": 2, "providers": {"ollama": {"concurrency": 1, "models": {"m": {}}}}},
    "models": {"small": {"provider": "offline", "model": "echo"}, "short": "offline/echo"},
    "steps": {
        "a": {"run": "echo 1", "needs": [], "retry": {"max_attempts": 2, "on": ["exit"]}},
        "b": {
            "llm": {
                "prompt": "hello",
                "sample": 1,
                "provider": "offline",
                "model": "echo",
                "output": {"type": "object"},
                "idle_timeout_s": 3,
            },
            "save_as": "b.md",
            "cache": {"ttl_s": 5},
        },
        "c": {"approve": {"message": "ok?"}, "needs": "b", "description": "asks"},
        "d": {"run": "x", "for_each": [1, 2], "max_parallel": 1, "continue_on_error": True},
        "e": {
            "python": "m:f",
            "matrix": {"x": [1, 2], "include": [{"x": 3}], "exclude": [{"x": 1}]},
            "with": {"n": 1},
            "env": {"A": "b"},
            "secrets": ["X_API_KEY"],
            "effects": "once",
            "on_interrupted": "rerun",
            "if": "true",
            "finally": True,
        },
    },
    "outputs": {"o": "{{ steps.a.output }}"},
}


def codes(spec):
    try:
        parse_spec(json.dumps(spec), file="job.json")
    except SpecError as error:
        return {problem.code for problem in error.problems}
    return set()


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def at(spec, path):
    for key in path:
        spec = spec[key]
    return spec


TRIED = [
    None,
    True,
    "",
    "  ",
    "text",
    "{{ a }}/b",
    0,
    -1,
    1,
    7.5,
    10**16,
    [],
    ["a"],
    [1],
    {},
    {"x": 1},
]
ODD = [
    *("once", "ask", "job", "m:f", "echo", "offline", "nope", "a/b", "../x", "a b", "A=B", "a\nb"),
    *(
        "{{ steps.a.output }}",
        "{{",
        "http://h",
        "http://u:p@h",
        "file://x",
        "x" * 300,
        "\0",
        "true",
    ),
    *(["exit"], ["exit", "nope"], ["a", "a"], [["a"]], [{}], [{"x": 1}], [None], {"x": [1]}),
    *(
        "true",
        {"x": []},
        {"run": "x"},
        {"prompt": "x"},
        {"a": {"b": 1}},
        {"": 1},
        False,
        0.5,
        1e300,
    ),
]
VALUES = st.sampled_from([*TRIED, *ODD])
TABLES = [table for name, table in vars(shape).items() if name.isupper() and type(table) is dict]
KEYS = st.sampled_from(
    sorted({*(key for table in TABLES for key in table), "nonsense", "workflow", "a b", "9", "é"})
)


@st.composite
def changed(draw):
    """Return a good spec with a few values put in, taken out or put elsewhere."""
    spec = copy.deepcopy(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(spec))))
        target = at(spec, path)
        if isinstance(target, dict) and draw(st.booleans()):
            target[draw(KEYS)] = copy.deepcopy(draw(VALUES))
        elif path:
            above = at(spec, path[:-1])
            if draw(st.integers(0, 3)):
                above[path[-1]] = copy.deepcopy(draw(VALUES))
            else:
                del above[path[-1]]
    return spec


def test_what_is_good_is_good_for_both():
    assert codes(GOOD) == set()
    assert VALID.is_valid(GOOD)


PLACES = {
    "TOP": (),
    "BUDGET": ("budget",),
    "LIMITS": ("limits",),
    "PROVIDER_LIMITS": ("limits", "providers", "ollama"),
    "ALIAS": ("models", "small"),
    "INPUT": ("inputs", "topic"),
    "RETRY": ("steps", "a", "retry"),
    "LLM": ("steps", "b", "llm"),
    "CACHE": ("steps", "b", "cache"),
    "APPROVE": ("steps", "c", "approve"),
}
STEPS = ("a", "b", "c", "d", "e")


def tried():
    """Yield good specs with one value put where a key of a table stands."""
    places = list(PLACES.items())
    places += [("STEP", ("steps", step)) for step in STEPS]
    for name, path in places:
        smaller = {**GOOD, "steps": {"a": {"run": "x"}}}  # no more than the place needs
        if path[:1] == ("steps",):
            steps = {step: GOOD["steps"][step] for step in {path[1], "b"}}
            smaller = {"project": "p", "steps": steps}
        for key, field in vars(shape)[name].items():
            for value in TRIED:
                spec = copy.deepcopy(smaller)
                at(spec, path)[key] = copy.deepcopy(value)
                yield (*path, key), field, spec


def test_every_key_with_every_kind_of_value_is_the_same_for_both():
    count = 0
    for path, field, spec in tried():
        refused, valid = codes(spec), VALID.is_valid(spec)
        count += 1
        if not valid:
            assert refused, (path, spec)
        alone = path[-1] not in ("initial_s", "max_s")  # one must not be above the other
        numbers = {"ORC116"} if field.type in ("integer", "number") and alone else set()
        if refused & (STRUCTURAL | numbers) and not refused & ELSEWHERE:
            assert not valid, (path, at(spec, path), refused)
    assert count > 1000


@given(changed())
@STEADY
def test_what_the_schema_refuses_the_checks_refuse(spec):
    if not VALID.is_valid(spec):
        assert codes(spec), spec


@given(changed())
@STEADY
def test_what_the_checks_refuse_for_its_shape_the_schema_refuses(spec):
    if codes(spec) & STRUCTURAL:
        assert not VALID.is_valid(spec), codes(spec)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_good_for_the_schema(path):
    import yaml

    VALID.validate(yaml.safe_load(path.read_text()))


def test_every_table_of_keys_has_its_place_in_the_schema():
    tables = [
        name
        for name, table in vars(shape).items()
        if name.isupper()
        and isinstance(table, dict)
        and all(isinstance(field, shape.Field) for field in table.values())
    ]
    placed = [shape.TOP, shape.ALIAS, *ONE.values(), *(fields for fields, _ in EACH.values())]
    assert [name for name in tables if not any(vars(shape)[name] is t for t in placed)] == []


def test_every_choice_is_refused_by_both_if_it_is_none():
    for key, choices in CHOICES.items():
        assert choices, key
