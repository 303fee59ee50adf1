"""Stamps of any spelling -> UTC. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

_STAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?"
    r"(?:(Z|z)|([+-])(\d\d):?(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)


def utc(value: Any, tz: tzinfo = UTC) -> str | None:
    """Return a stamp as `2025-10-22T10:00:00Z` with the fraction it has, or None.

    Args:
        value: what stands in the line.
        tz: what a stamp without offset is taken for. A time that its clock shows twice is the
            first of the two.
    """
    match = _STAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction = f".{match[7]}" if match[7] else ""
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        if match[9]:
            shift = timedelta(
                hours=int(match[10]), minutes=int(match[11]), seconds=int(match[12] or 0)
            )
            zone: tzinfo = timezone(shift if match[9] == "+" else -shift)
        else:
            zone = UTC if match[8] else tz
        if zone is not UTC:
            moment = moment.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # strftime does not pad years below 1000 on every system.
    return f"{moment.year:04d}{moment:-%m-%dT%H:%M:%S}{fraction}Z"
