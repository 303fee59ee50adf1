"""From what a step says of its items to the items: the values, and an identity for each. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from . import templates
from .errors import FailureKind, StepError
from .instances import identities
from .keys import canonical
from .spec.each import SIDES
from .spec.model import Step
from .templates.data import json_type


def items_of(step: Step, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the instances of a step: identity to what its templates see beside all else.

    Args:
        step: with `for_each` or `matrix`.
        values: the top-level names of its templates.

    Raises:
        StepError: kind `template`; the list is none, too long, or its key is no text.
    """
    return _listed(step, values) if step.matrix is None else _combined(step, step.matrix, values)


def _listed(step: Step, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    place = f"steps.{step.name}.for_each"
    items = _list(step.for_each, values, place, "for_each")
    _limited(step, len(items), place)
    wanted = items
    if step.key:
        where = f"steps.{step.name}.key"
        wanted = [_key(step.key, {**values, "item": item}, where) for item in items]
        twice, count = Counter(wanted).most_common(1)[0] if wanted else ("", 1)
        if count > 1:
            raise StepError(
                f"two items have the key {twice!r}",
                kind=FailureKind.TEMPLATE,
                place=where,
                hint="a key names one item",
            )
    return {name: {"item": item} for name, item in zip(identities(wanted), items, strict=True)}


def _key(source: str, values: Mapping[str, Any], place: str) -> str:
    key = templates.render(source, values, place=place)
    if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
        raise StepError(
            f"a key must be a text or an integer, not {key!r}"[:200],
            kind=FailureKind.TEMPLATE,
            place=place,
        )
    return str(key)


def _combined(
    step: Step, matrix: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    place = f"steps.{step.name}.matrix"
    axes = {
        name: _list(value, values, f"{place}.{name}", name)
        for name, value in matrix.items()
        if name not in SIDES
    }
    size = 1 if axes else 0
    for axis in axes.values():
        size *= len(axis)
    _limited(step, size, place)
    without = templates.render_value(matrix.get("exclude", []), values, place=f"{place}.exclude")
    more = templates.render_value(matrix.get("include", []), values, place=f"{place}.include")
    rows = itertools.product(*axes.values()) if axes else ()
    combinations = [dict(zip(axes, row, strict=True)) for row in rows]
    combinations = [row for row in combinations if not any(_within(part, row) for part in without)]
    combinations += more
    _limited(step, len(combinations), place)
    wanted = [",".join(f"{name}={_word(value)}" for name, value in c.items()) for c in combinations]
    return {
        name: {"matrix": combination}
        for name, combination in zip(identities(wanted), combinations, strict=True)
    }


def _within(part: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return all(name in row and row[name] == value for name, value in part.items())


def _word(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value).decode()


def _list(value: Any, values: Mapping[str, Any], place: str, name: str) -> list[Any]:
    found = templates.render_value(value, values, place=place)
    if not isinstance(found, list):
        raise StepError(
            f"`{name}` must be a list, and is {json_type(found)}",
            kind=FailureKind.TEMPLATE,
            place=place,
            hint="a step's text is no list; a step with structured output or JSON has one",
        )
    return found


def _limited(step: Step, count: int, place: str) -> None:
    if count > step.max_items:
        raise StepError(
            f"it has {count:,} items, and `max_items` is {step.max_items:,}",
            kind=FailureKind.TEMPLATE,
            place=place,
            hint="raise the step's `max_items`, or make the list shorter",
        )
