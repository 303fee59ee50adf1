"""The JSON Schema of a job file, made from the tables that the checks use.

It tells an editor what `orch validate` would say of keys, types and ranges. What depends on other
parts of the file (needs, templates, files) only `orch validate` can tell. One thing JSON
Schema can't say: `3.0` is no integer here.
"""

from __future__ import annotations

from typing import Any, get_args

from ..cachepolicy import Scope
from ..providers import all_names
from ..recovery import Effects, Then
from .check import MAX_LABEL
from .each import ONLY_WITH, SIDES
from .kinds import KINDS, NOT_FOR
from .shape import (
    ALIAS,
    APPROVE,
    BUDGET,
    CACHE,
    INPUT,
    LIMITS,
    LLM,
    MODEL_LIMITS,
    PROVIDER_LIMITS,
    RETRY,
    RETRY_ON,
    STEP,
    TOP,
    Field,
)
from .step import NAME
from .values import InputType

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NOT_BLANK = "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$"
TEMPLATE = {"type": "string", "pattern": "^\\s*\\{\\{[\\s\\S]*\\}\\}\\s*$"}
AMOUNT = "^[0-9]{1,18}(\\.[0-9]{1,18})?$"
_VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"
_INPUT = "^[A-Za-z_][A-Za-z0-9_]{0,63}$"

ONE = {
    "llm": LLM,
    "approve": APPROVE,
    "retry": RETRY,
    "budget": BUDGET,
    "limits": LIMITS,
    "cache": CACHE,
}
"""Maps with keys of their own."""
EACH = {
    "steps": (STEP, f"^{NAME.pattern}$"),
    "inputs": (INPUT, _INPUT),
    "providers": (PROVIDER_LIMITS, ""),
    "models": (MODEL_LIMITS, ""),
}
"""Maps from a name, of this form, to such maps."""
AMOUNT = "^[0-9]{1,18}([.][0-9]{1,18})?$"
_NO_TEMPLATE = {"not": {"pattern": "\\{\\{"}}
_DOTTED = "[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*"
_LABEL = {
    "pattern": "^[^/\\\\\\u0000-\\u001F\\u007F-\\u009F\\u2028-\\u202E\\u2066-\\u2069]+$",
    "maxLength": MAX_LABEL,
    "not": {"pattern": "^\\s*[.]{1,2}\\s*$"},
}
FORMS: dict[str, dict[str, Any]] = {
    "project": _LABEL,
    "name": _LABEL,
    "base_url": {"pattern": "^https?://[^/@?#\\s]+([/?#]\\S*)?$"},
    "python": {"pattern": f"^{_DOTTED}:{_DOTTED}$"},
    "run": _NO_TEMPLATE,
}
"""What else the text of a key must be."""
REQUIRED = {"llm": ["prompt"], "approve": ["message"]}
CHOICES = {
    "scope": get_args(Scope),
    "effects": get_args(Effects),
    "on_interrupted": get_args(Then),
    "type": get_args(InputType),
    "on": RETRY_ON,
    "record": ("full", "hashes"),
}


def job_schema() -> dict[str, Any]:
    """Return the schema of a job file."""
    schema = {
        "$schema": DIALECT,
        "title": "A job of the Unified Orchestrator",
        **_map(TOP),
        "minProperties": 1,
        "anyOf": [{"required": ["steps"]}, {"required": ["task_description"]}],
    }
    steps = schema["properties"]["steps"]
    steps["minProperties"] = 1
    step = steps["additionalProperties"]
    step["oneOf"] = [{"required": [kind]} for kind in KINDS]
    step["not"] = {"required": ["for_each", "matrix"]}
    several = {"anyOf": [{"required": ["for_each"]}, {"required": ["matrix"]}]}
    step["dependentSchemas"] = {
        **{kind: {"properties": dict.fromkeys(keys, False)} for kind, keys in NOT_FOR.items()},
        **dict.fromkeys(ONLY_WITH, several),
        "key": {"required": ["for_each"]},
        "on_interrupted": {"properties": {"effects": {"const": "once"}}, "required": ["effects"]},
    }
    step["properties"]["matrix"] = _matrix()
    schema["properties"]["inputs"]["additionalProperties"]["allOf"] = [
        {
            "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
            "then": {"properties": {"default": {"type": [kind, "null"]}}},
        }
        for kind in get_args(InputType)
    ]
    return schema


def _matrix() -> dict[str, Any]:
    side = {"type": "array", "items": {"type": "object", "minProperties": 1}}
    return {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": _INPUT},
        "properties": dict.fromkeys(SIDES, side),
        "additionalProperties": {"anyOf": [{"type": "array", "minItems": 1}, TEMPLATE]},
    }


def _map(fields: dict[str, Field]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: _value(key, field, fields) for key, field in fields.items()},
    }


def _value(key: str, field: Field, fields: dict[str, Field]) -> dict[str, Any]:
    if key == "models" and fields is TOP:
        alias = {**_map(ALIAS), "required": ["provider", "model"]}
        short = {"type": "string", "pattern": "^[^/]+/[\\s\\S]+$"}
        return {"type": "object", "additionalProperties": {"anyOf": [short, alias]}}
    if key in EACH and field.type == "map":
        below, pattern = EACH[key]
        names: dict[str, Any] = {"propertyNames": {"pattern": pattern}} if pattern else {}
        if key == "providers":
            names = {"propertyNames": {"enum": list(all_names())}}
        return {"type": "object", **names, "additionalProperties": _map(below)}
    if key == "env":
        text: dict[str, Any] = {"type": "string", "pattern": "^[^\\u0000]*$"}
        return {
            "type": "object",
            "propertyNames": {"pattern": _VARIABLE},
            "additionalProperties": {**text, **_NO_TEMPLATE} if fields is TOP else text,
        }
    found = _typed(field)
    if key in FORMS and field.type == "text":
        return {"allOf": [found, FORMS[key]]}
    if key == "provider":
        return {"enum": list(all_names())}
    if key == "secrets":
        name: dict[str, Any] = {"type": "string", "pattern": _VARIABLE}
        return {"anyOf": [name, {"type": "array", "items": name}]}
    if key in ONE and field.type in ("map", "boolean or map"):
        own = _map(ONE[key])
        if key in REQUIRED:
            own["required"] = REQUIRED[key]
        found = {"anyOf": [{"type": "boolean"}, own]} if field.type == "boolean or map" else own
    if key in CHOICES and field.type in ("text", "texts"):
        one = {"enum": list(CHOICES[key])}
        found = {"anyOf": [one, {"type": "array", "items": one}]} if field.type == "texts" else one
    return found


def _typed(field: Field) -> dict[str, Any]:
    text = {"type": "string", "pattern": NOT_BLANK}
    match field.type:
        case "text":
            return text
        case "texts":
            return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        case "integer" | "number":
            return {"type": field.type, "minimum": field.low, "maximum": field.high}
        case "boolean":
            return {"type": "boolean"}
        case "map":
            return {"type": "object"}
        case "boolean or map":
            return {"type": ["boolean", "object"]}
        case "list or template":
            return {"anyOf": [{"type": "array"}, TEMPLATE]}
        case "condition":
            return {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "\\S"}]}
        case "amount":
            text = {"type": "string", "pattern": AMOUNT}
            return {"anyOf": [{"type": "number", "minimum": 0}, text]}
        case "any":
            return {}
        case _:
            raise AssertionError(
                f"a type of the tables that the schema does not know: {field.type}"
            )
