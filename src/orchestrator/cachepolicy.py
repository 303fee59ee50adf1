"""What a user and a spec say of the cache. Pure."""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

Scope = Literal["job", "project", "runs", "user"]
"""Whose entries are used: this job's, those of jobs of the same project, of all below the same
runs/, and of all of this user's. An entry is also only used by those whom its own scope allows."""


class CacheMode(enum.StrEnum):
    """What the user asked of the cache."""

    USE = "use"
    OFF = "off"
    REFRESH = "refresh"
    ONLY = "only"


class CachePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a spec says of the cache, for one step.

    Attributes:
        use: False to neither read nor write it.
        ttl_s: older entries are not used; None for no limit.
        scope: whose entries.
    """

    use: bool = True
    ttl_s: float | None = None
    scope: Scope = "runs"


DEFAULT = CachePolicy()
