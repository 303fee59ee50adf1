"""Conditions: the expression of a step's `if`, over the same data as templates.

It must come out true or false: a text or a number is an error, so that nothing is taken for
true by accident. Beside what templates know it may call `always()` and `failed()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import FailureKind, StepError
from . import render
from .data import json_type
from .scan import Tag, Token, scan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FUNCTIONS = ("always", "failed")


def source_of(said: str | bool) -> str:
    """Return a condition as a template: `{{ … }}`, which a spec may leave out."""
    if isinstance(said, bool):
        return "{{ true }}" if said else "{{ false }}"
    text = said.strip()
    return text if text.startswith("{{") and text.endswith("}}") else f"{{{{ {text} }}}}"


def shown(source: str) -> str:
    """Return a condition as a person writes it, on one line."""
    return " ".join(source.removeprefix("{{").removesuffix("}}").split())


def is_one_expression(source: str) -> bool:
    """Tell whether there is nothing beside one `{{ … }}`, and something in it."""
    tags = scan(source)
    whole = len(tags) == 1 and (tags[0].start, tags[0].end) == (0, len(source))
    return whole and tags[0].opener == "{{" and bool(tags[0].tokens)


def regardless(source: str) -> bool:
    """Tell whether a condition asks what became of other steps, so that it decides itself."""
    tags = scan(source)
    return any(True for tag in tags for _ in _calls(tag)) or any(map(_asks_status, tags))


def plain_source(source: str, *, failed: bool) -> str:
    """Return a condition with its calls of our functions replaced by what they say."""
    for tag in scan(source):
        for token in reversed(list(_calls(tag))):
            end = source.index(")", token.start) + 1
            value = "true" if token.text == "always" or failed else "false"
            source = f"{source[: token.start]}{value}{source[end:]}"
    return source


def calls_failed(source: str) -> bool:
    """Tell whether a condition calls `failed()`."""
    return any(token.text == "failed" for tag in scan(source) for token in _calls(tag))


def holds(source: str, values: Mapping[str, Any], *, failed: bool, place: str = "") -> bool:
    """Return what a condition says.

    Args:
        source: as of `source_of`.
        values: as for templates.
        failed: what `failed()` says.
        place: for the message: `steps.qa.if`.

    Raises:
        StepError: kind `template`, also for what is neither true nor false.
    """
    value = render(plain_source(source, failed=failed), values, place=place)
    if isinstance(value, bool):
        return value
    raise StepError(
        f"the condition `{shown(source)[:120]}` is {json_type(value)}, neither true nor false",
        kind=FailureKind.TEMPLATE,
        place=place,
        hint="compare it with something: `… == 1`, `… != ''`, `… is none`",
    )


def _calls(tag: Tag) -> Iterator[Token]:
    texts = [token.text for token in tag.tokens]
    for index, token in enumerate(tag.tokens):
        called = token.kind == "name" and texts[index + 1 : index + 3] == ["(", ")"]
        if called and token.text in FUNCTIONS and (not index or texts[index - 1] not in ".|"):
            yield token


def _asks_status(tag: Tag) -> bool:
    texts = [token.text for token in tag.tokens]
    for index, text in enumerate(texts):
        if text != "steps" or (index and texts[index - 1] == "."):
            continue
        width = 2 if texts[index + 1 : index + 2] == ["."] else 3
        after = texts[index + 1 + width : index + 5 + width]
        if after[:2] == [".", "status"] or (after[:1] == ["["] and after[1:2] in _STATUS_KEYS):
            return True
    return False


_STATUS_KEYS = (['"status"'], ["'status'"])
