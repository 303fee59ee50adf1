"""What lines of older versions are called, and which of their members count. Pure."""

from __future__ import annotations

import enum

KEPT = ("ts", "level", "job_id", "type", "step")
"""Members that stay at the top of a line without `data`; all others move into it."""

MATTER = frozenset({*KEPT, "timestamp", "data"})
"""Members that may not stand twice: readers would disagree on which of them counts."""


class Form(enum.StrEnum):
    """What a line was before it was converted."""

    V1 = "v1"
    V2_0 = "v2.0"
    V2_1 = "v2.1"
    OTHER = "other"  # an object, but with no stamp that tells its version
    UNREADABLE = "unreadable"
