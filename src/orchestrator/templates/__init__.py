"""Templates: `{{ steps.architect.output.text }}`, rendered by minijinja over plain data.

- A value that is one single `{{ expression }}` keeps its type; every other one is text.
- In a text, a string stands as it is, null is nothing, and all else is JSON.
- What is not there is an error. There is no loader, no escaping, no clock and no chance.
- Data is data: what a value brings in is never looked at for tags.

(Inside a list or map that an expression builds, `[steps.a.nope]`, the engine takes what is
not there for null; and it takes 2.0 for 2 in what it computes, not in what it passes on.)
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import FailureKind, StepError
from .data import as_text, plain, walk
from .scan import Reference, Tag, assigns, filters_and_tests, path_of, references, scan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from minijinja import Environment

MAX_OUTPUT_BYTES = 8 * 1024 * 1024
FUEL = 2_000_000  # instructions of one rendering: about a second
MAX_TOKENS = 500  # of one tag; some 2,000 overflow the engine's stack in a small thread
MAX_ELIFS = 64  # the same
GLOBALS = frozenset(("range", "dict", "namespace", "cycler", "joiner"))

_OTHER_TEMPLATES = frozenset(("include", "import", "from", "extends"))
_SHOWN = 120  # characters of an expression in a message


class Fault(NamedTuple):
    """What is wrong with a template; `text` is the part of its source to point at."""

    message: str
    text: str
    hint: str = ""


class _Analysis(NamedTuple):
    faults: tuple[Fault, ...]
    names: frozenset[str]
    tags: list[Tag]


def check(source: str) -> tuple[Fault, ...]:
    """Return what is wrong with a template, as far as it shows without data."""
    return _analyse(source).faults


def names(source: str) -> frozenset[str]:
    """Return the top-level names a template takes from outside."""
    return _analyse(source).names


def references_to(source: str, root: str) -> list[Reference]:
    """Return the members of a top-level name that a template names outright."""
    analysis = _analyse(source)
    if root not in analysis.names and assigns(analysis.tags, root):
        return []
    return references(analysis.tags, root)[0]


def refs(source: str) -> set[str]:
    """Return the steps a template names as `steps.NAME` or `steps["NAME"]`."""
    return {reference.name for reference in references_to(source, "steps")}


def names_outright(source: str, root: str) -> bool:
    """Tell whether every use of a top-level name says which member it means."""
    return references(_analyse(source).tags, root)[1]


def is_template(source: str) -> bool:
    """Tell whether a text has anything to render."""
    return "{{" in source or "{%" in source or "{#" in source


def is_expression(value: Any) -> bool:
    """Tell whether a value is one single `{{ expression }}`, which keeps its type."""
    if not isinstance(value, str) or not is_template(value):
        return False
    return _is_single(value, scan(value))


def _is_single(source: str, tags: list[Tag]) -> bool:
    if len(tags) != 1 or tags[0].opener != "{{":
        return False
    return (tags[0].start, tags[0].end) == (0, len(source))


def render(source: str, values: Mapping[str, Any], *, place: str = "") -> Any:
    """Return what a template says: the value itself if it is one single `{{ expression }}`.

    Args:
        source: the template.
        values: its top-level names; plain JSON values, never changed.
        place: for the message: `steps.qa.with.text`.

    Raises:
        StepError: kind `template`, naming the expression.
    """
    if not is_template(source):
        return source
    tags = _sound(source, place).tags
    if not _is_single(source, tags):
        return render_text(source, values, place=place)
    path = path_of(tags[0])
    if path is not None:
        return walk(path, values, place)
    # As a text first: that refuses what is undefined or no data, which `eval_expr` lets pass.
    render_text(source, values, place=place)
    tokens = tags[0].tokens
    expression = source[tokens[0].start : tokens[-1].start + len(tokens[-1].text)]
    try:
        return plain(_engine().eval_expr(expression, **_visible_data(source, values)))
    except Exception as error:  # noqa: BLE001 - see render_text
        raise _failed(source, error, place) from None


def render_text(source: str, values: Mapping[str, Any], *, place: str = "") -> str:
    """Return a template's text.

    Raises:
        StepError: kind `template`, naming the expression.
    """
    if not is_template(source):
        return source
    _sound(source, place)
    try:
        text: str = _engine().render_str(source, **_visible_data(source, values))
    except Exception as error:  # noqa: BLE001 - see below
        # Whatever a filter or a method of a value raises is the template's failure.
        raise _failed(source, error, place) from None
    if len(text) > MAX_OUTPUT_BYTES or len(text.encode("utf-8", "replace")) > MAX_OUTPUT_BYTES:
        raise StepError(
            f"a template brought more than {MAX_OUTPUT_BYTES // 2**20} MiB of text",
            kind=FailureKind.TEMPLATE,
            place=place,
            hint="pass large data through files",
        )
    return text


def render_value(value: Any, values: Mapping[str, Any], *, place: str = "") -> Any:
    """Return a value with every string in it rendered, however deep; keys stay as they are.

    Raises:
        StepError: kind `template`, naming the expression.
    """
    if isinstance(value, str):
        return render(value, values, place=place)
    if isinstance(value, dict):
        return {k: render_value(v, values, place=f"{place}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [render_value(v, values, place=f"{place}[{i}]") for i, v in enumerate(value)]
    return value


# --- the engine -------------------------------------------------------------------------------


@functools.cache
def _engine() -> Environment:
    from minijinja import Environment

    engine = Environment(
        undefined_behavior="strict",
        auto_escape_callback=lambda _name: False,
        finalizer=as_text,
        fuel=FUEL,
        keep_trailing_newline=True,
        debug=True,  # only so that an error says what is undefined
    )
    engine.remove_global("debug")
    return engine


def _visible_data(source: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of what a template can reach; of the steps only those it names."""
    analysis = _analyse(source)
    # All words of all tags: the engine overlooks names inside a slice.
    words = {token.text for tag in analysis.tags for token in tag.tokens}
    data = {}
    for name in words & values.keys():
        value = values[name]
        if name == "steps" and isinstance(value, dict):
            named, static = references(analysis.tags, name)
            if static:
                value = {r.name: value[r.name] for r in named if r.name in value}
        data[name] = plain(value)
    return data


# --- faults -----------------------------------------------------------------------------------


def _sound(source: str, place: str) -> _Analysis:
    analysis = _analyse(source)
    if analysis.faults:
        fault = analysis.faults[0]
        raise _fault(fault.message, fault.text, place, fault.hint)
    return analysis


@functools.lru_cache(maxsize=512)
def _analyse(source: str) -> _Analysis:
    if not is_template(source):
        return _Analysis((), frozenset(), [])
    tags = scan(source)
    limit = _over_limit(source, tags)
    if limit is not None:
        return _Analysis((limit,), frozenset(), tags)
    try:
        taken = _engine().undeclared_variables_in_str(source)
    except Exception as error:  # noqa: BLE001 - also a text that is not UTF-8
        message, text = _told(source, error)
        return _Analysis((Fault(message, text),), frozenset(), tags)
    faults = [*_unknown(tags), *_loading(source, tags)]
    return _Analysis(tuple(faults), frozenset(taken) - GLOBALS, tags)


def _over_limit(source: str, tags: list[Tag]) -> Fault | None:
    for tag in tags:
        if len(tag.tokens) > MAX_TOKENS:
            text = source[tag.start : tag.end]
            return Fault(f"a tag of more than {MAX_TOKENS} words and marks", text, "split it")
    elifs = sum(
        tag.opener == "{%" and tag.tokens[:1] != () and tag.tokens[0].text == "elif" for tag in tags
    )
    if elifs > MAX_ELIFS:
        return Fault(f"more than {MAX_ELIFS} elif tags", "elif", "use a map")
    return None


def _unknown(tags: list[Tag]) -> list[Fault]:
    return [
        Fault(f"there is no {kind} called `{token.text}`", token.text)
        for kind, token in filters_and_tests(tags)
        if not _exists(kind, token.text)
    ]


def _loading(source: str, tags: list[Tag]) -> list[Fault]:
    return [
        Fault("a template can't load another one", source[tag.start : tag.end], "write it out")
        for tag in tags
        if tag.opener == "{%" and tag.tokens and tag.tokens[0].text in _OTHER_TEMPLATES
    ]


@functools.lru_cache(maxsize=256)
def _exists(kind: str, name: str) -> bool:
    """Ask the engine: it has no list of its filters and tests."""
    try:
        _engine().eval_expr(f"0|{name}" if kind == "filter" else f"0 is {name}")
    except Exception as error:  # noqa: BLE001 - any other failure shows that it is there
        return getattr(error, "kind", "") not in ("UnknownFilter", "UnknownTest")
    return True


def _failed(source: str, error: Exception, place: str) -> StepError:
    message, text = _told(source, error)
    return _fault(message, text, place)


def _fault(message: str, text: str, place: str, hint: str = "") -> StepError:
    # A lone surrogate can't be logged or printed.
    sentence = f"`{text[:_SHOWN]}`: {message}".encode(errors="backslashreplace").decode()
    return StepError(sentence, kind=FailureKind.TEMPLATE, place=place, hint=hint)


def _told(source: str, error: Exception) -> tuple[str, str]:
    """Return an error's sentence, and the tag it is about (or the template's first line)."""
    kind = getattr(error, "kind", None)
    if kind is None:
        message = f"{type(error).__name__}: {error}"
    elif kind == "OutOfFuel":
        message = "it takes too long to render"
    else:
        message = str(getattr(error, "detail", None) or getattr(error, "message", error))
    where = getattr(error, "range", None)
    if where is not None:
        # The engine counts bytes.
        at = len(source.encode()[: where[0]].decode(errors="replace"))
        for tag in scan(source):
            if tag.start <= at < max(tag.end, tag.start + 1):
                return message, source[tag.start : tag.end].split("\n", 1)[0]
    return message, source.strip().split("\n", 1)[0]
