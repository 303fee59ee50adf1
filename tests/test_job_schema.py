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
STRUCTURAL = {"ORC111", "ORC112", "ORC113", "ORC114", "ORC115", "ORC118"}
ELSEWHERE = {"ORC120", "ORC123", "ORC129"}
"""What depends on other parts of the file, or on other files."""

GOOD = {
    "project": "p",
    "model": "echo",
    "concurrency": 2,
    "timeout_s": 1.5,
    "env": {"A": "b"},
    "inputs": {"topic": {"type": "string", "default": "x", "required": False}},
    "budget": {"calls": 5},
    "limits": {"llm": 2, "providers": {"ollama": {"concurrency": 1, "models": {"m": {}}}}},
    "models": {"small": {"provider": "offline", "model": "echo"}, "short": "offline/echo"},
    "steps": {
        "a": {"run": "echo 1", "needs": [], "retry": {"max_attempts": 2, "on": ["exit"]}},
        "b": {"llm": {"prompt": "hello", "sample": 1}, "save_as": "b.md", "cache": {"ttl_s": 5}},
        "c": {"approve": {"message": "ok?"}, "needs": "b", "description": "asks"},
        "d": {"run": "x", "for_each": [1, 2], "max_parallel": 1, "continue_on_error": True},
    },
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


def at(spec, path):
    for key in path:
        spec = spec[key]
    return spec


TRIED = [None, True, "", "  ", "text", 0, -1, 1, 7.5, 10**16, [], ["a"], [1], {}, {"x": 1}]
VALUES = st.sampled_from(TRIED)
KEYS = st.sampled_from(
    sorted({*shape.TOP, *shape.STEP, *shape.LLM, *shape.RETRY, "nonsense", "workflow", "a b"})
)


@st.composite
def changed(draw):
    """Return a good spec with a few values put in, taken out or put elsewhere."""
    spec = copy.deepcopy(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([p for p in places(spec) if isinstance(at(spec, p), dict)]))
        target = at(spec, path)
        if target and draw(st.booleans()):
            key = draw(st.sampled_from(sorted(target)))
            if draw(st.booleans()):
                del target[key]
            else:
                target[key] = copy.deepcopy(draw(VALUES))
        else:
            target[draw(KEYS)] = copy.deepcopy(draw(VALUES))
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
STEPS = ("a", "b", "c", "d")


def tried():
    """Yield good specs with one value put where a key of a table stands."""
    places = list(PLACES.items())
    places += [("STEP", ("steps", step)) for step in STEPS]
    for name, path in places:
        for key, field in vars(shape)[name].items():
            for value in TRIED:
                spec = copy.deepcopy(GOOD)
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
