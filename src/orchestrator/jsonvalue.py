"""What is a JSON value that any reader gives back as it was, and what is not. Pure.

One rule for every kind of step. The child of a Python step loads this file by its path, without
the package: it imports next to nothing.
"""

import math

TYPE_CHECKING = False  # importing typing would take a tenth of the child's time to start
if TYPE_CHECKING:
    from typing import Any

MAX_DEPTH = 63
"""Of lists and dicts in each other: what fits into the `data` of a line, below its `output`."""
MIN_INT = -(1 << 63)
MAX_INT = (1 << 64) - 1
"""Larger integers become floats, or errors, in other readers of JSON."""
HINT = "return dicts with string keys, lists, strings, finite numbers, booleans or None"


def fault_of(value: "Any", path: str = "$", depth: int = 0) -> str:
    """Return why a value is no JSON value, with the path inside it; nothing if it is one.

    Tuples are taken as lists, and what is derived from a plain type as that type.
    """
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, str):
        return "" if value.isascii() else _fault_of_text(value, path)
    if isinstance(value, int):
        return "" if MIN_INT <= value <= MAX_INT else f"{path} is an integer of over 64 bits"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{path} is {_float_name(value)}"
    if not isinstance(value, dict | list | tuple):
        return f"{path} is a value of type {type(value).__name__}"
    if depth >= MAX_DEPTH:
        return f"{path} is deeper than {MAX_DEPTH} levels, or contains itself"
    if isinstance(value, dict):
        return _fault_of_dict(value, path, depth)
    for index, item in enumerate(value):
        if fault := fault_of(item, f"{path}[{index}]", depth + 1):
            return fault
    return ""


def _fault_of_dict(value: "dict[Any, Any]", path: str, depth: int) -> str:
    for key, item in value.items():
        if not isinstance(key, str):
            return f"{path} has the key {key!r}, which is no string"
        if not key.isascii() and (fault := _fault_of_text(key, f"a key of {path}")):
            return fault
        below = f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]"
        if fault := fault_of(item, below, depth + 1):
            return fault
    return ""


def _fault_of_text(text: str, path: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{path} holds half a surrogate pair at character {error.start}"
    return ""


def _float_name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
