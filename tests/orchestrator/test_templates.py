import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import templates
from orchestrator.errors import FailureKind, StepError
from orchestrator.templates import check, names, references_to, refs, render, render_text

# The same examples each time; a slow machine is no failure.
STEADY = settings(derandomize=True, deadline=None)


def data():
    return {
        "project": "tiny",
        "steps": {
            "a": {
                "output": {
                    "text": "hi {{ project }}",
                    "n": 3,
                    "real": 2.0,
                    "list": [1, {"x": True}],
                    "items": 5,
                    "none": None,
                }
            },
            "a-b": {"output": "dashed"},
        },
    }


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{{ steps.a.output.n }}", 3),
        ("{{ steps.a.output.real }}", 2.0),
        ("{{- steps.a.output.list -}}", [1, {"x": True}]),
        ("{{ steps.a.output.list[1].x }}", True),
        ("{{ steps.a.output.none }}", None),
        ("{{ steps['a-b'].output }}", "dashed"),
        ("{{ steps.a.output.items }}", 5),  # a key, not the method of that name
        ("{{ steps.a.output.n + 1 }}", 4),
        ("{{ steps.a.output.list[1:] }}", [{"x": True}]),
        ("{{ {'k': {'n': steps.a.output.n}} }}", {"k": {"n": 3}}),
        ("{{ steps.a.output.list | length }}", 2),
        ("{{ steps.a.output.nope | default('d') }}", "d"),
        ("{{ steps.b is defined }}", False),
        # More than one expression alone is text.
        ("{{ steps.a.output.n }}\n", "3\n"),
        ("{{ steps.a.output.n }}{{ steps.a.output.n }}", "33"),
        ("n={{ steps.a.output.n }}", "n=3"),
        ("no template at all", "no template at all"),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("{# nothing #}x", "x"),
    ],
)
def test_a_single_expression_keeps_its_type_and_all_else_is_text(source, wanted):
    found = render(source, data())
    assert found == wanted
    assert type(found) is type(wanted)


def test_in_a_text_values_are_json_and_null_is_nothing():
    source = "{{ steps.a.output.list }} [{{ steps.a.output.none }}] {{ true }} {{ project }}"
    assert render_text(source, data()) == '[1,{"x":true}] [] true tiny'
    assert render_text("{{ steps.a.output.n }}", data()) == "3"


def test_data_is_never_rendered_again():
    assert render("{{ steps.a.output.text }}", data()) == "hi {{ project }}"
    assert render_text("> {{ steps.a.output.text }}", data()) == "> hi {{ project }}"
    once = templates.render_value({"v": ["{{ steps.a.output.text }}"]}, data())
    assert once == {"v": ["hi {{ project }}"]}


def test_nothing_is_escaped():
    assert render_text("{{ x }} {{ x|upper }}", {"x": "<a & 'b'>"}) == "<a & 'b'> <A & 'B'>"


def test_lists_and_maps_are_rendered_through_and_keys_are_not():
    value = {"{{ k }}": ["{{ project }}", {"n": "{{ steps.a.output.n }}"}, 7, None]}
    assert templates.render_value(value, data()) == {"{{ k }}": ["tiny", {"n": 3}, 7, None]}


@pytest.mark.parametrize(
    ("source", "names_it"),
    [
        ("{{ nope }}", "`nope` is undefined"),
        ("{{ steps.a.output.txt }}", "`steps.a.output.txt` is undefined"),
        ("{{ steps.a.output.n.x }}", "`steps.a.output.n.x` is undefined"),
        ("{{ steps.a.output.list[7] }}", "`steps.a.output.list[7]` is undefined"),
        ("x {{ steps.zz.output }}", "`steps.zz` is undefined"),
        ("{{ steps.a.output.nope|upper }}", "{{ steps.a.output.nope|upper }}"),
        ("{% for x in nope %}{% endfor %}", "`nope` is undefined"),
        ("é {{ 'ü' }} {{ nope }}", "`{{ nope }}`"),
        ("{{ 1 + }}", "{{ 1 + }}"),
        ("{{ project|uper }}", "no filter called `uper`"),
        ("{% include 'x' %}", "can't load another"),
        ("{{ steps.a.output.keys() }}", "no JSON value"),
        ("{{ debug() }}", "debug"),
        ("{{ 'x' * 9000000 }}", "more than 8 MiB"),
        (
            "{% for i in range(99999) %}{% for j in range(999) %}{% endfor %}{% endfor %}",
            "too long",
        ),
        ("{{ \ud800 }}", "ud800"),
    ],
)
def test_what_can_not_be_rendered_is_one_failure_that_names_the_expression(source, names_it):
    with pytest.raises(StepError) as caught:
        render(source, data(), place="steps.qa.with")
    assert caught.value.kind is FailureKind.TEMPLATE
    assert caught.value.place == "steps.qa.with"
    assert names_it in caught.value.message
    caught.value.message.encode()


def test_an_undefined_member_comes_with_what_is_there():
    with pytest.raises(StepError) as caught:
        render("{{ steps.a.output.txt }}", data())
    assert caught.value.hint == "did you mean `text`?"
    with pytest.raises(StepError) as caught:
        render("{{ steps.a.output.zzzz }}", data())
    assert "items, list, n, none, real, text" in caught.value.hint


def test_a_method_called_in_a_template_does_not_change_the_data():
    values = data()
    render("{{ steps.a.output.list.append(9) }}", values)
    render_text("{{ steps.a.output.pop('n') }} {{ steps.clear() }}", values)
    assert values == data()


def test_nan_is_no_value():
    with pytest.raises(StepError, match="no JSON value"):
        render_text("{{ x }}", {"x": float("nan")})


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "-" * 100_000 + "1 }}",
        "{{ 1" + "+1" * 100_000 + " }}",
        "{{ x" + ".a" * 9_999 + " }}",
    ],
)
def test_an_expression_that_would_overflow_the_engine_is_refused(source):
    (fault,) = check(source)
    assert "more than 500" in fault.message


def test_many_elifs_are_refused():
    source = "{% if a %}" + "{% elif b %}" * 5000 + "{% endif %}"
    assert "elif" in check(source)[0].message


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{{ steps.a.output }} {{ steps['b-c'] }} {{ steps[\"d\"].x }}", {"a", "b-c", "d"}),
        ("{% if steps.x %}{{ 1 if steps.y else steps.z }}{% endif %}", {"x", "y", "z"}),
        ("{{ steps[k] }} {{ steps|length }} {{ a.steps.b }} {{ 'steps.q' }}", set()),
        ("{# steps.a #}{% raw %}{{ steps.b }}{% endraw %}{{ steps.c }}", {"c"}),
        ("{% set steps = {} %}{{ steps.a }}", set()),
        ("{{ {'x': {'y': steps.a}} }} steps.b", {"a"}),
        ("{{ f(steps=1) }}", set()),
        ("{{ steps.a.output[1:] }}", {"a"}),
        ("{% for s in steps.a.output %}{{ s }}{% endfor %}", {"a"}),
    ],
)
def test_the_steps_a_template_names(source, wanted):
    assert refs(source) == wanted


def test_the_names_a_template_takes_from_outside():
    source = "{% for x in items %}{{ x }}{{ loop.index }}{% endfor %}{{ range(2) }}{{ y.z }}"
    assert names(source) == {"items", "y"}


def test_a_reference_tells_how_it_is_written():
    assert [r.text for r in references_to("{{ with.a }}{{ with['b'] }}", "with")] == [
        "with.a",
        "with['b']",
    ]


def test_unknown_filters_and_tests_show_before_rendering():
    assert [
        f.text for f in check("{{ a|uper }}{{ a is evn }}{% filter lowr %}{% endfilter %}")
    ] == [
        "uper",
        "evn",
        "lowr",
    ]
    assert check("{{ a|join(',') }}{{ a is not even }}{{ a is none }}{{ a|length }}") == ()


BITS = "{{ }} {% %} {# #} steps .a ['b'] |upper if 1 - ' \" { } for x in endfor raw endraw is é ~"
pieces = st.lists(st.sampled_from([*BITS.split(), " ", "\n"]), max_size=14).map("".join)


@STEADY
@given(pieces)
def test_any_template_renders_or_fails_in_one_way(source):
    values = data()
    try:
        found = render(source, values)
    except StepError:
        found = None
    json.dumps(found, allow_nan=False)
    assert values == data()


@STEADY
@given(st.text())
def test_a_text_without_tags_stays_as_it_is(text):
    if not any(mark in text for mark in ("{{", "{%", "{#")):
        assert render_text(text, {}) == text


@STEADY
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_string_comes_through_unchanged(text):
    assert render("{{ x }}", {"x": text}) == text
    assert render_text("{{ x }}", {"x": text}) == text
