import pytest

from orchestrator.errors import FailureKind, StepError
from orchestrator.templates import condition

VALUES = {
    "inputs": {"n": 3, "word": "bees", "no": False, "nothing": None},
    "steps": {
        "good": {"status": "succeeded", "output": {"n": 1, "status": "x"}},
        "a-b": {"status": "skipped", "output": None},
    },
}


def holds(said, *, failed=False):
    return condition.holds(condition.source_of(said), VALUES, failed=failed, place="steps.s.if")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (True, True),
        (False, False),
        ("inputs.n == 3", True),
        ("{{ inputs.n == 4 }}", False),
        ("  inputs.no ", False),
        ("not inputs.no and inputs.word in ['bees']", True),
        ("steps.good.status == 'succeeded'", True),
        ("steps['a-b'].status != 'succeeded'", True),
        ("inputs.nothing is none", True),
        ("always()", True),
        ("failed()", False),
        ("not failed ( )", True),
        ("'failed()' == inputs.word", False),
        ("steps.good.status == 'failed' and steps.good.output.nope > 1", False),
    ],
)
def test_a_condition_says_true_or_false(said, value):
    assert holds(said) is value


def test_failed_says_what_the_job_says():
    assert holds("failed()", failed=True)
    assert not holds("not failed() or inputs.no", failed=True)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("inputs.word", "a string"),
        ("inputs.n", "an integer"),
        ("inputs.nothing", "null"),
        ("'false'", "a string"),
        ("inputs.nope", "undefined"),
        ("steps['a-b'].output.n > 1", "undefined"),
        ("inputs.n > 'x' ~ 1 / 0", ""),
    ],
)
def test_what_is_neither_true_nor_false_is_an_error(said, told):
    with pytest.raises(StepError) as caught:
        holds(said)
    assert caught.value.kind is FailureKind.TEMPLATE
    assert told in caught.value.message
    assert caught.value.place == "steps.s.if"


@pytest.mark.parametrize(
    ("said", "own"),
    [
        ("always()", True),
        ("inputs.a and failed()", True),
        ("steps.a.status == 'failed'", True),
        ("steps['a-b'].status in ['failed']", True),
        ("steps['a']['status'] == 'skipped'", True),
        ("{{ steps.a.status }}", True),
        ("inputs.n == 1", False),
        ("steps.a.output.status == 'failed'", False),
        ("steps['a-b'].output.status", False),
        ("inputs.steps.a.status", False),
        ("'failed()' == inputs.x", False),
        ("steps.a.output.failed()", False),
        (True, False),
    ],
)
def test_a_condition_decides_itself_when_it_asks_what_became_of_others(said, own):
    assert condition.regardless(condition.source_of(said)) is own


@pytest.mark.parametrize(
    ("said", "one"),
    [
        ("a.b == 'x}}y'", True),
        ("{{ a }}", True),
        ("{{ a }} and {{ b }}", False),
        ("", False),
    ],
)
def test_a_condition_is_one_expression(said, one):
    assert condition.is_one_expression(condition.source_of(said)) is one


def test_a_condition_is_shown_as_it_would_be_written():
    assert condition.shown(condition.source_of("{{ a  ==\n 1 }}")) == "a == 1"
