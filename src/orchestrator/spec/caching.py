"""Check what a spec says of the cache: `cache: true`, `false`, or a map of `ttl_s` and `scope`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from ..cachepolicy import Scope
from ..suggest import did_you_mean
from .shape import CACHE, read_fields

if TYPE_CHECKING:
    from .yamldoc import Document, Path


def check_cache(
    doc: Document, path: Path, value: bool | dict[str, Any], *, scope: str
) -> dict[str, Any]:
    """Return the good fields of a CachePolicy.

    Args:
        doc: where faults are noted.
        path: of the value.
        value: true, false, or a map.
        scope: where the map names none.
    """
    if isinstance(value, bool):
        return {"use": value, "scope": scope}
    policy = {"scope": scope, **read_fields(doc, path, value, CACHE)}
    known = get_args(Scope)
    if policy["scope"] not in known:
        hint = did_you_mean(policy["scope"], known) or f"known are {', '.join(known)}"
        message = f"`{policy['scope']}` is no scope of the cache"
        doc.problem("ORC116", message, doc.at((*path, "scope")), hint)
        policy["scope"] = scope
    return policy
