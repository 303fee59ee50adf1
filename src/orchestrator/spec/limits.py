"""Check the `limits` of a spec: what a job may take, and how much a provider may be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shape import LIMITS, MODEL_LIMITS, PROVIDER_LIMITS, read_fields, wrong_type
from .step import check_provider

if TYPE_CHECKING:
    from .yamldoc import Document, Path


def check_limits(doc: Document, path: Path, value: dict[str, Any]) -> dict[str, Any]:
    """Return the good fields of `limits`; note all else."""
    limits = read_fields(doc, path, value, LIMITS)
    providers = {}
    for name, item in limits.get("providers", {}).items():
        where = (*path, "providers", name)
        check_provider(doc, where, name)
        if not isinstance(item, dict):
            wrong_type(doc, where, f"`{name}`", item, "map")
            continue
        providers[name] = read_fields(doc, where, item, PROVIDER_LIMITS)
        if "models" in providers[name]:
            models = providers[name]["models"]
            providers[name]["models"] = _models(doc, (*where, "models"), models)
    return {**limits, "providers": providers}


def _models(doc: Document, path: Path, models: dict[str, Any]) -> dict[str, Any]:
    good = {}
    for name, item in models.items():
        where = (*path, name)
        if isinstance(item, dict):
            good[name] = read_fields(doc, where, item, MODEL_LIMITS)
        else:
            wrong_type(doc, where, f"`{name}`", item, "map")
    return good
