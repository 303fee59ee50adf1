"""Check the `models` of a spec: short names for a model, with its provider, address and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..providers import known
from .shape import ALIAS, read_fields, wrong_type
from .step import check_model_name, check_provider, check_url
from .values import clean_model

if TYPE_CHECKING:
    from .yamldoc import Document, Path


def check_aliases(doc: Document, path: Path, models: dict[str, Any]) -> dict[str, Any]:
    """Return the good ones; `PROVIDER/MODEL` is the short form of one."""
    good = {}
    for name, item in models.items():
        where = (*path, name)
        if isinstance(item, str):
            provider, slash, model = item.partition("/")
            if slash and model and known(provider):
                good[name] = _checked(doc, where, {"provider": provider, "model": model})
            else:
                hint = "write `PROVIDER/MODEL`, or a map with `provider` and `model`"
                doc.problem("ORC116", f"`{item}` names no provider", doc.at(where), hint)
        elif isinstance(item, dict):
            alias = read_fields(doc, where, item, ALIAS)
            missing = [key for key in ("provider", "model") if key not in item]
            for key in missing:
                hint = "an alias names both `provider` and `model`"
                doc.problem("ORC115", f"`{name}` has no `{key}`", doc.at_key(where), hint)
            if not missing and alias.keys() >= {"provider", "model"}:
                check_provider(doc, (*where, "provider"), alias["provider"])
                if "base_url" in alias:
                    check_url(doc, (*where, "base_url"), alias["base_url"])
                good[name] = _checked(doc, (*where, "model"), alias)
        else:
            wrong_type(doc, where, f"`{name}`", item, "map")
    return good


def _checked(doc: Document, at: Path, alias: dict[str, Any]) -> dict[str, Any]:
    if known(alias["provider"]):
        alias["model"] = clean_model(alias["provider"], alias["model"])
        check_model_name(doc, at, alias["provider"], alias["model"])
    return alias


def meant(
    doc: Document, path: Path, fields: dict[str, Any], aliases: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields with an alias replaced by what it means; their own options go first."""
    alias = aliases.get(fields.get("model", ""))
    if alias is None:
        return fields
    for key in ("provider", "base_url"):
        if key in fields:
            message = f"`{key}` is said twice: `{fields['model']}` of `models` says it too"
            doc.problem("ORC116", message, doc.at_key((*path, key)), f"take `{key}` out")
    options = {**alias.get("options", {}), **fields.get("options", {})}
    return {**fields, **alias, "options": options}
