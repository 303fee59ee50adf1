"""Check what a step says of its items: `for_each`, `matrix` and what goes with them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..templates import is_expression
from .shape import wrong_type

if TYPE_CHECKING:
    from .yamldoc import Document, Path

SIDES = ("include", "exclude")
"""Keys of a matrix that are no axes."""

_AXIS = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
ONLY_WITH = ("max_parallel", "max_failures", "max_items")


def check_each(doc: Document, path: Path, step: dict[str, Any]) -> None:
    """Note all that is wrong with a step's `for_each` or `matrix`."""
    each, matrix = "for_each" in step, "matrix" in step
    if each and matrix:
        span = doc.at_key((*path, "matrix"))
        hint = "make it two steps, the second one over the outputs of the first"
        doc.problem("ORC118", "a step has `for_each` or `matrix`, not both", span, hint)
    if not each and not matrix:
        for key in ONLY_WITH:
            if key in step:
                hint = "it goes with `for_each` or `matrix`"
                span = doc.at_key((*path, key))
                doc.problem("ORC118", f"`{key}` means nothing in a step that runs once", span, hint)
    if "key" in step and not each:
        span = doc.at_key((*path, "key"))
        hint = "`key` names the items of a `for_each`"
        doc.problem("ORC118", "`key` means nothing in this step", span, hint)
    if matrix:
        _matrix(doc, (*path, "matrix"), step["matrix"])


def given_names(step: dict[str, Any]) -> dict[str, tuple[str, ...] | None]:
    """Return what the templates of a step can name of its item: name to members, None for any."""
    if "for_each" in step:
        return {"item": None}
    matrix = step.get("matrix")
    if not isinstance(matrix, dict):
        return {}
    names = [name for name in matrix if name not in SIDES]
    included = matrix.get("include")
    for more in included if isinstance(included, list) else ():
        names += [name for name in more if name not in names] if isinstance(more, dict) else []
    return {"matrix": tuple(names)}


def _matrix(doc: Document, path: Path, matrix: dict[str, Any]) -> None:
    if not any(name not in SIDES for name in matrix) and not matrix.get("include"):
        hint = "write `name: [value, value]` below it"
        doc.problem("ORC115", "`matrix` has no axis", doc.at_key(path), hint)
    for name, values in matrix.items():
        where = (*path, name)
        if name in SIDES:
            _side(doc, where, values)
        elif not _AXIS.fullmatch(name):
            message = f"`{name[:80]}` can't name an axis of a matrix"
            hint = "letters, digits and underscores, no digit first"
            doc.problem("ORC117", message, doc.at_key(where), hint)
        elif not isinstance(values, list) and not is_expression(values):
            wrong_type(doc, where, f"`{name}`", values, "list or template")
        elif values == []:
            doc.problem("ORC116", f"`{name}` has no values", doc.at(where), "add one")


def _side(doc: Document, where: Path, rows: Any) -> None:
    if not isinstance(rows, list):
        wrong_type(doc, where, f"`{where[-1]}`", rows, "list or template")
        return
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or not row:
            place = (*where, index)
            wrong_type(doc, place, f"an item of `{where[-1]}`", row, "map")
