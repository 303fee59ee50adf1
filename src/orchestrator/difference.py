"""How two JSON values differ, in few lines for a person. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

MAX_PLACES = 8
"""Places that are told of two values; the rest is counted."""
MAX_LINES = 12
MAX_TEXT = 120
_DEEP = 20


class Delta(NamedTuple):
    """One place in which two values differ.

    Attributes:
        path: inside the value, such as `env.TOPIC`; empty for the value itself.
        before, after: as text, cut to `MAX_TEXT`; None where there is none.
        diff: of texts of several lines: the lines that changed, each with its sign.
    """

    path: str
    before: str | None
    after: str | None
    diff: tuple[str, ...] = ()


class _Absent:
    pass


_ABSENT = _Absent()


def differences(before: Any, after: Any) -> list[Delta]:
    """Return the places in which two values differ, at most `MAX_PLACES` of them."""
    found = []
    for path, old, new in _places(before, after, "", 0):
        found.append(_delta(path, old, new))
        if len(found) == MAX_PLACES:
            break
    return found


def _places(old: Any, new: Any, path: str, depth: int) -> Iterator[tuple[str, Any, Any]]:
    if type(old) is type(new) and old == new:
        return
    if depth < _DEEP and isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            below = f"{path}.{key}" if path else str(key)
            yield from _places(old.get(key, _ABSENT), new.get(key, _ABSENT), below, depth + 1)
    elif depth < _DEEP and isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            below = f"{path}[{index}]"
            one = old[index] if index < len(old) else _ABSENT
            two = new[index] if index < len(new) else _ABSENT
            yield from _places(one, two, below, depth + 1)
    else:
        yield path, old, new


def _delta(path: str, old: Any, new: Any) -> Delta:
    if isinstance(old, str) and isinstance(new, str) and ("\n" in old or "\n" in new):
        return Delta(path, _shown(old), _shown(new), tuple(_changed_lines(old, new)))
    return Delta(path, _shown(old), _shown(new))


def _changed_lines(old: str, new: str) -> Iterator[str]:
    """Yield the lines that went and came, each with its sign, and no others."""
    before, after = old.split("\n"), new.split("\n")
    if len(before) + len(after) > 4000:  # the work grows with their product
        yield f"({len(before)} lines before, {len(after)} now)"
        return
    told = 0
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for what, i1, i2, j1, j2 in matcher.get_opcodes():
        if what == "equal":
            continue
        lines = [f"- {line}" for line in before[i1:i2]]
        lines += [f"+ {line}" for line in after[j1:j2]]
        for line in lines:
            if told == MAX_LINES:
                yield "…"
                return
            told += 1
            yield _cut(line)


def _shown(value: Any) -> str | None:
    if isinstance(value, _Absent):
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
