"""Amounts of money: exact decimals, in US dollars. Pure.

An amount that is not known is None. In events it is a string of plain decimal digits, so that no
reader makes a binary fraction of it.
"""

from __future__ import annotations

import decimal
import re
from decimal import Decimal

EXACT = decimal.Context(prec=60, traps=[decimal.Inexact, decimal.InvalidOperation])
"""Raises rather than round."""

_PLAIN = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?\Z")


def dollars(amount: Decimal | None) -> str | None:
    """Return an amount as events carry it: plain decimal digits, nothing rounded."""
    if amount is None:
        return None
    return f"{amount.normalize(EXACT):f}"


def amount(text: str | None) -> Decimal | None:
    """Return an amount that an event carries; None for what is no amount."""
    return Decimal(text) if isinstance(text, str) and _PLAIN.match(text) else None


def add(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """Return the exact sum of what is known of two amounts."""
    if one is None or other is None:
        return other if one is None else one
    return EXACT.add(one, other)


def less(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """Return what was added to `other` to make `one`."""
    return one if one is None or other is None else EXACT.subtract(one, other)
