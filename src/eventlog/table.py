"""Plain-text tables, and text from anywhere made safe to print. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal

_JOINERS = "\u200c\u200d"
"""Characters without a shape that words and emoji need."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LEAST = 8
_GAP = "  "


def visible(text: str, *, keep: str = "") -> str:
    r"""Return the text with every control character written out, as in `\x1b[31m`.

    Those are what moves the cursor, colours, hides or turns text round: C0, C1, DEL, line and
    paragraph separators, format characters such as U+202E, and lone surrogates.

    Args:
        text: from a log, a model or a command.
        keep: characters to leave alone, for instance a newline and a tab.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in keep or _is_harmless(character) else _escape(character)
        for character in text
    )


def _is_harmless(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind not in {"Cc", "Cf", "Cs", "Zl", "Zp"} or character in _JOINERS


def _escape(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def width(text: str) -> int:
    """Return how many columns a terminal gives the text."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or character in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, limit: int) -> str:
    """Return the text in at most `limit` columns; what is cut off shows as `…`."""
    if width(text) <= limit:
        return text
    kept: list[str] = []
    room = limit - 1
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + "…"


def cell(value: object) -> str:
    """Return what a table shows for a value; nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.3f}"
    if isinstance(value, Decimal) and value.is_finite():
        text = format(value, "f")  # money: zeros at its end say nothing
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    limit: int | None = None,
) -> str:
    """Return an aligned table with its header, one line a row, without a last newline.

    Args:
        columns: the header.
        rows: as many values as columns; numbers stand on the right.
        limit: the terminal's width; the widest columns give way. None cuts nothing.
    """
    rows = [list(row) for row in rows]
    texts = [[visible(cell(value)) for value in row] for row in rows]
    header = [visible(name) for name in columns]
    right = [
        any(_is_number(row[number]) for row in rows)
        and all(row[number] is None or _is_number(row[number]) for row in rows)
        for number in range(len(header))
    ]
    widths = [
        max([width(name), *(width(row[number]) for row in texts)])
        for number, name in enumerate(header)
    ]
    if limit is not None:
        _shrink(widths, limit - len(_GAP) * (len(widths) - 1))
    lines = [_line(header, widths, right), _line(["-" * size for size in widths], widths, right)]
    lines += [_line(row, widths, right) for row in texts]
    return "\n".join(lines)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _shrink(widths: list[int], room: int) -> None:
    """Take from the widest columns until all fit, but never below _LEAST."""
    while widths and sum(widths) > room:
        widest = max(widths)
        if widest <= _LEAST:
            return
        second = max([size for size in widths if size < widest], default=_LEAST)
        many = [number for number, size in enumerate(widths) if size == widest]
        spare = -(-(sum(widths) - room) // len(many))
        for number in many:
            widths[number] = max(widest - spare, second, _LEAST)


def _line(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts: list[str] = []
    for text, size, is_right in zip(texts, widths, right, strict=True):
        shown = cut(text, size)
        space = " " * (size - width(shown))
        parts.append(space + shown if is_right else shown + space)
    return _GAP.join(parts).rstrip()


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table, without a last newline."""
    lines = [_row(columns), "|" + " --- |" * len(columns)]
    lines += [_row([cell(value) for value in row]) for row in rows]
    return "\n".join(lines)


def _row(texts: Iterable[str]) -> str:
    clean = [visible(text).replace("\\", "\\\\").replace("|", "\\|") for text in texts]
    return "| " + " | ".join(clean) + " |"
