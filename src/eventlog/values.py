"""What a value on the command line is: its type is what it looks like. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from .errors import QueryError

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,36})")
_BROKEN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(_DATE.pattern + r"[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?.{0,6}")
_WORDS = {"true": True, "false": False, "null": None}


def value_of(text: str) -> Any:
    """Return a number, a boolean, None, a date, a time in UTC, or the text itself.

    Text in double quotes is text, whatever stands in it.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _BROKEN.fullmatch(text):
        return float(text)
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
        if _TIME.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
        if len(text) > 1 and text[0] == text[-1] == '"':
            return msgspec.json.decode(text, type=str)
    except (ValueError, msgspec.DecodeError):
        return text
    return text


def typed(params: Iterable[str]) -> dict[str, Any]:
    """Return the values of `name=value` texts, each with the type that it looks like.

    Raises:
        QueryError: a text is no parameter.
    """
    given: dict[str, Any] = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise QueryError(f"{text!r} is no parameter", hint="write it as -p name=value")
        given[name] = value_of(value)
    return given
