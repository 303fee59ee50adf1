"""Guess what somebody meant who wrote a name that is not there."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEAR = 0.65  # `approve` is not `providers`, `lmm` is `llm`
_MOST = 2_000  # names looked at: comparing is slow


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that looks most like this one, or None."""
    candidates = [text for text, _ in zip(known, range(_MOST), strict=False)]
    folded = {text.lower(): text for text in reversed(candidates)}
    found = difflib.get_close_matches(name[:100].lower(), folded, n=1, cutoff=_NEAR)
    return folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """Return a hint, empty where nothing comes near; `before` stands before each name."""
    found = nearest(name, known)
    return f"did you mean `{before}{found}`?" if found else ""
