"""The data of templates: plain JSON values, how they read as text, and how to walk them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import FailureKind, StepError
from ..suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping


_INT64 = range(-(2**63), 2**64)  # what our JSON writer takes


def as_text(value: Any) -> str:
    """Return how a value stands in a text."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return msgspec.json.encode(plain(value)).decode()


def plain(value: Any) -> Any:
    """Return a copy made of JSON values only: methods called in a template can't reach data.

    Raises:
        ValueError: for anything else.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value not in _INT64:
            raise ValueError("a number that does not fit in 64 bits")
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no JSON value")
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise ValueError(f"a {type(value).__name__} is no JSON value")


def json_type(value: Any) -> str:
    """Return what a value is, in the words of JSON."""
    for name, kind in _JSON_TYPES.items():
        if isinstance(value, kind):
            return name
    return f"a {type(value).__name__}"


_JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "null": type(None),
    "a boolean": bool,
    "an integer": int,
    "a number": float,
    "a string": str,
    "a list": (list, tuple),
    "a map": dict,
}


def walk(path: tuple[str | int, ...], values: Mapping[str, Any], place: str) -> Any:
    """Return what a path leads to, the very object.

    Raises:
        StepError: kind `template`, saying where the path ends and what is there.
    """
    value: Any = values
    for depth, key in enumerate(path):
        if _holds(value, key):
            value = value[key]
        else:
            known = [str(k) for k in value] if hasattr(value, "keys") else []
            raise StepError(
                f"`{_shown(path)}`: `{_shown(path[: depth + 1])}` is undefined",
                kind=FailureKind.TEMPLATE,
                place=place,
                hint=did_you_mean(str(key), known) or _has(path[:depth], value),
            )
    return value


def _holds(value: Any, key: str | int) -> bool:
    if isinstance(key, int):
        return isinstance(value, list) and key < len(value)
    return hasattr(value, "keys") and key in value


def _has(path: tuple[str | int, ...], value: Any) -> str:
    if hasattr(value, "keys"):
        known = ", ".join(sorted(map(str, value))[:10]) or "nothing"
    elif isinstance(value, list):
        known = f"{len(value)} items"
    else:
        known = f"no members: it is {json_type(value)}"
    return f"`{_shown(path)}` has {known}" if path else f"there are: {known}"


def _shown(path: tuple[str | int, ...]) -> str:
    parts = [f".{p}" if str(p).isidentifier() else f"[{p!r}]" for p in path]
    return "".join(parts).removeprefix(".")
