"""What a scalar means in YAML 1.2, and JSON as a part of YAML: text only, no structure.

PyYAML's parser finds where scalars begin and end; its own rules for what they mean are those
of YAML 1.1, so they are not used.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ufffd\U00010000-\U0010ffff]")
"""What may not stand in YAML (lone surrogates can't come out of UTF-8)."""

_INT = re.compile(r"[-+]?[0-9]+")
_OCT = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT64 = range(-(2**63), 2**64)  # what our JSON writer takes
_MAX_DIGITS = 1000  # Python refuses to convert more than 4,300


def resolve(plain: str) -> Any:
    """Return what an unquoted scalar means by the core schema of YAML 1.2.

    Raises:
        ValueError: for a number that JSON, or our writer of it, can't hold.
    """
    if plain in _WORDS:
        return _WORDS[plain]
    if _NOT_FINITE.fullmatch(plain):
        raise ValueError(f"{plain} is no number that JSON knows")
    if len(plain) > _MAX_DIGITS:
        if _INT.fullmatch(plain) or _FLOAT.fullmatch(plain):
            raise ValueError(f"a number of {len(plain):,} characters")
        return plain
    for pattern, base in ((_INT, 10), (_OCT, 8), (_HEX, 16)):
        if pattern.fullmatch(plain):
            number = int(plain if base == 10 else plain[2:], base)
            if number not in _INT64:
                raise ValueError(f"{plain} does not fit in 64 bits")
            return number
    if _FLOAT.fullmatch(plain):
        real = float(plain)
        if not math.isfinite(real):
            raise ValueError(f"{plain} is too large for a number")
        return real
    return plain


_JSON_PART = re.compile(r'"(?:[^"\\]|\\.)*"|\t')
_ESCAPE = re.compile(r"\\\\|\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def json_as_yaml(text: str) -> str:
    """Return JSON as the YAML of the same length that says the same; other text as it is.

    YAML has no tabs for indentation and no surrogate pairs; apart from that JSON is YAML.
    """
    if not text.lstrip().startswith(("{", "[")) or ("\t" not in text and "\\u" not in text):
        return text
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return "".join(_pieces(text))


def _pieces(text: str) -> Iterator[str]:
    end = 0
    for match in _JSON_PART.finditer(text):
        yield text[end : match.start()]
        part = match.group()
        yield " " if part == "\t" else _ESCAPE.sub(_joined, part)
        end = match.end()
    yield text[end:]


def _joined(match: re.Match[str]) -> str:
    if match.group(1) is None:
        return match.group()
    high, low = int(match.group(1), 16), int(match.group(2), 16)
    code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
    # An escaped line break says nothing: it fills up to the length of the pair.
    return f"\\\n\\U{code:08x}"
