"""Which other steps a step's templates name. Pure: nothing is rendered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import templates

if TYPE_CHECKING:
    from .spec.model import Step


def references(step: Step) -> tuple[str, ...]:
    """Return the steps that a step's templates name beside its direct needs."""
    found = _named(_templates(step)) | _named([step.for_each, step.matrix])
    return tuple(sorted(found - set(step.needs)))


def passed(step: Step) -> tuple[str, ...]:
    """Return the needs that only say which items there are: an instance depends on its own item."""
    own = list(_texts(_templates(step)))
    if not all(templates.names_outright(text, "steps") for text in own):
        return ()
    only = _named([step.for_each, step.matrix]) - _named(own)
    return tuple(need for need in step.needs if need in only)


def _templates(step: Step) -> list[Any]:
    """Return what is rendered for each instance of a step."""
    values: list[Any] = [step.env, step.with_, step.key, step.save_as]
    if step.llm is not None:
        values += [step.llm.prompt, step.llm.system, step.llm.options]
        values += [list(step.llm.images), list(step.llm.files)]
    if step.approve is not None:
        values.append(step.approve.message)
    return values


def _named(values: list[Any]) -> set[str]:
    """Return the steps that the templates in these values name."""
    return {name for text in _texts(values) for name in templates.refs(text)}


def _texts(values: list[Any]) -> Iterator[str]:
    """Yield the texts in these values, however deep they stand."""
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list | tuple):
            stack.extend(value)
