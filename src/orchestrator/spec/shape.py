"""Which keys a spec has, and what type each value must be: the tables, and one reader of them.

Unknown keys and values of a wrong type are noted in the document; what is left is returned, so
that the checks after this one need not ask again.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import FailureKind
from ..money import amount
from ..suggest import did_you_mean
from ..templates import is_expression
from ..templates.data import json_type
from .model import MAX_CONCURRENCY, MAX_ITEMS, MAX_TIMEOUT_S

if TYPE_CHECKING:
    from .yamldoc import Document, Path


class Field(NamedTuple):
    """One key: the type of its value, and for numbers the range (both ends belong to it)."""

    type: str
    low: float = 0
    high: float = 0


TEXT = Field("text")
MAP = Field("map")
TIMEOUT = Field("number", 0.001, MAX_TIMEOUT_S)

TOP = {
    "project": TEXT,
    "name": TEXT,
    "description": TEXT,
    "task_description": TEXT,
    "provider": TEXT,
    "model": TEXT,
    "base_url": TEXT,
    "options": MAP,
    "models": MAP,
    "concurrency": Field("integer", 1, MAX_CONCURRENCY),
    "timeout_s": TIMEOUT,
    "output_dir": TEXT,
    "env": MAP,
    "limits": MAP,
    "budget": MAP,
    "inputs": MAP,
    "steps": MAP,
    "outputs": MAP,
    "cache": Field("boolean or map"),
    "secrets": Field("texts"),
    "record": TEXT,
}
STEP = {
    "use": TEXT,
    "llm": MAP,
    "python": TEXT,
    "run": TEXT,
    "approve": MAP,
    "workflow": TEXT,
    "needs": Field("texts"),
    "with": MAP,
    "env": MAP,
    "cwd": TEXT,
    "files": Field("texts"),
    "save_as": TEXT,
    "for_each": Field("list or template"),
    "matrix": MAP,
    "key": TEXT,
    "max_parallel": Field("integer", 1, MAX_CONCURRENCY),
    "max_failures": Field("integer", 0, MAX_ITEMS),
    "max_items": Field("integer", 1, MAX_ITEMS),
    "cache": Field("boolean or map"),
    "secrets": Field("texts"),
    "timeout_s": TIMEOUT,
    "retry": MAP,
    "if": Field("condition"),
    "continue_on_error": Field("boolean"),
    "finally": Field("boolean"),
    "effects": TEXT,
    "on_interrupted": TEXT,
    "max_recoveries": Field("integer", 0, 1000),
    "description": TEXT,
}
LLM = {
    "system": TEXT,
    "prompt": TEXT,
    "provider": TEXT,
    "model": TEXT,
    "base_url": TEXT,
    "options": MAP,
    "output": MAP,
    "sample": Field("integer", 0, 1_000_000),
    "stream": Field("boolean"),
    "idle_timeout_s": TIMEOUT,
    "images": Field("texts"),
    "files": Field("texts"),
}
BUDGET = {
    "cost_usd": Field("amount"),
    "tokens": Field("integer", 1, 10**15),
    "calls": Field("integer", 1, 10**9),
}
LIMITS = {
    "llm": Field("integer", 1, MAX_CONCURRENCY),
    "run": Field("integer", 1, MAX_CONCURRENCY),
    "python": Field("integer", 1, MAX_CONCURRENCY),
    "log_bytes": Field("integer", 0, 2**40),
    "output_bytes": Field("integer", 1024, 2**30),
    "providers": MAP,
}
MODEL_LIMITS = {
    "concurrency": Field("integer", 1, MAX_CONCURRENCY),
    "requests_per_minute": Field("integer", 1, 1_000_000),
    "tokens_per_minute": Field("integer", 1, 10_000_000_000),
}
PROVIDER_LIMITS = {**MODEL_LIMITS, "models": MAP}
APPROVE = {"message": TEXT}
CACHE = {
    "ttl_s": Field("number", 0, 100 * 366 * 24 * 3600),
    "scope": TEXT,
}
ALIAS = {
    "provider": TEXT,
    "model": TEXT,
    "base_url": TEXT,
    "options": MAP,
}
RETRY = {
    "max_attempts": Field("integer", 1, 100),
    "initial_s": Field("number", 0, 3600),
    "factor": Field("number", 1, 100),
    "max_s": Field("number", 0, 24 * 3600),
    "jitter": Field("number", 0, 1),
    "on": Field("texts"),
}
INPUT = {
    "type": TEXT,
    "default": Field("any"),
    "required": Field("boolean"),
    "description": TEXT,
}

RETRY_ON = tuple(
    kind.value
    for kind in FailureKind
    if kind
    not in (
        FailureKind.CANCELLED,
        FailureKind.BUDGET,
        FailureKind.CACHE_MISS,
        FailureKind.ITEMS,
        FailureKind.STEPS,
        FailureKind.REJECTED,
        FailureKind.INTERRUPTED,
    )
)

_MEANT = {
    **dict.fromkeys(("depends_on", "dependsOn", "depends", "after", "requires"), "needs"),
    **dict.fromkeys(("args", "arguments", "params", "parameters"), "with"),
    **dict.fromkeys(("command", "cmd", "shell", "sh", "script", "bash"), "run"),
    **dict.fromkeys(("environment", "envs"), "env"),
    **dict.fromkeys(("timeout", "timeout_seconds", "timeout_sec"), "timeout_s"),
    **dict.fromkeys(("retries", "max_retries"), "retry"),
    **dict.fromkeys(("max_workers", "parallelism", "workers"), "concurrency"),
    **dict.fromkeys(("tasks", "jobs", "nodes"), "steps"),
    **dict.fromkeys(("task", "goal"), "task_description"),
    **dict.fromkeys(("schema", "response_format", "output_schema"), "output"),
    **dict.fromkeys(("user", "message", "content"), "prompt"),
    **dict.fromkeys(("working_directory", "workdir", "working_dir"), "cwd"),
    **dict.fromkeys(("function", "callable"), "python"),
    **dict.fromkeys(("include", "subworkflow", "sub_workflow", "job", "template"), "workflow"),
    **dict.fromkeys(("foreach", "forEach", "with_items", "loop", "map_over"), "for_each"),
    "max_concurrency": "max_parallel",
    "max-parallel": "max_parallel",
    **dict.fromkeys(("rpm", "requests_per_min", "rate"), "requests_per_minute"),
    **dict.fromkeys(("tpm", "tokens_per_min"), "tokens_per_minute"),
    **dict.fromkeys(("when", "run_if", "runIf", "condition"), "if"),
    **dict.fromkeys(("allow_failure", "ignore_errors", "continueOnError"), "continue_on_error"),
    **dict.fromkeys(("always", "on_exit", "onExit"), "finally"),
    **dict.fromkeys(("max_cost", "cost", "usd", "cost_limit", "max_budget_usd"), "cost_usd"),
    "max_tokens": "tokens",
    "max_calls": "calls",
    "title": "name",
    "vars": "inputs",
    "variables": "inputs",
    "attempts": "max_attempts",
}
"""What other tools call it."""

_ELSEWHERE = {
    **dict.fromkeys(("temperature", "max_tokens", "top_p", "seed", "stop"), "options"),
    **dict.fromkeys(("prompt", "system"), "llm"),
    **dict.fromkeys(("max_attempts", "backoff"), "retry"),
    **dict.fromkeys(("ttl_s", "ttl", "scope"), "cache"),
    **dict.fromkeys(("if", "finally", "continue_on_error", "effects"), "steps"),
}
"""Keys that belong one map further in."""

_WANTED = {
    "text": "text",
    "texts": "a list of texts",
    "map": "a map",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "list or template": "a list, or the template of one",
    "boolean or map": "true, false or a map of `ttl_s` and `scope`",
    "condition": "an expression",
    "amount": "a number of US dollars",
}


def read_fields(
    doc: Document, path: Path, value: dict[str, Any], fields: dict[str, Field]
) -> dict[str, Any]:
    """Return the good fields of a map; note all others."""
    good = {}
    for key, item in value.items():
        where = (*path, key)
        field = fields.get(key)
        if field is None:
            _unknown(doc, where, key, fields)
        elif field.type == "any" or _typed(doc, where, key, item, field):
            good[key] = [item] if field.type == "texts" and isinstance(item, str) else item
    return good


def _unknown(doc: Document, where: Path, key: str, fields: dict[str, Field]) -> None:
    span = doc.at_key(where)
    hint = ""
    if _MEANT.get(key) in fields:
        hint = f"did you mean `{_MEANT[key]}`?"
    elif _ELSEWHERE.get(key) in fields:
        hint = f"it belongs under `{_ELSEWHERE[key]}:`"
        if _ELSEWHERE[key] == "steps":
            hint = "it belongs to a step"
    else:
        hint = did_you_mean(key, fields)
    doc.problem(
        "ORC112", f"unknown key `{key}`", span, hint or f"known here are {', '.join(fields)}"
    )


def _typed(doc: Document, where: Path, key: str, item: Any, field: Field) -> bool:
    """Tell whether a value is of its field's type and range; note it if not."""
    fits = {
        "text": isinstance(item, str),
        "texts": isinstance(item, str | list),
        "map": isinstance(item, dict),
        "integer": isinstance(item, int) and not isinstance(item, bool),
        "number": isinstance(item, int | float) and not isinstance(item, bool),
        "boolean": isinstance(item, bool),
        "list or template": isinstance(item, list) or is_expression(item),
        "boolean or map": isinstance(item, bool | dict),
        "condition": isinstance(item, str | bool),
        "amount": is_amount(item),
    }[field.type]
    if not fits:
        wrong_type(doc, where, f"`{key}`", item, field.type)
        return False
    if field.type == "texts" and isinstance(item, list):
        bad = [index for index, text in enumerate(item) if not isinstance(text, str)]
        for index in bad:
            wrong_type(doc, (*where, index), f"an item of `{key}`", item[index], "text")
        return not bad
    if field.type in ("text", "condition") and isinstance(item, str) and not item.strip():
        doc.problem("ORC116", f"`{key}` is empty", doc.at(where), "give it a value, or drop it")
        return False
    if field.type == "text" and "\0" in item:
        doc.problem("ORC116", f"`{key}` holds a NUL character", doc.at(where), "take it out")
        return False
    if field.type in ("integer", "number") and not field.low <= item <= field.high:
        message = f"`{key}` must be from {field.low:,.16g} to {field.high:,.16g}, not {item}"
        doc.problem("ORC116", message, doc.at(where))
        return False
    return True


def is_amount(item: Any) -> bool:
    """Tell whether a value is an amount of money: a number, or a text that is one."""
    return not isinstance(item, bool) and amount(decimal_text(item)) is not None


def decimal_text(item: Any) -> str:
    """Return a number as plain decimal digits, as it was written; a text as it is."""
    if isinstance(item, int | float):
        return f"{Decimal(repr(item)):f}"
    return item if isinstance(item, str) else ""


def wrong_type(doc: Document, where: Path, what: str, item: Any, wanted: str) -> None:
    """Note a value of a wrong type, with a hint where one is plain."""
    hint = ""
    if item is None:
        hint = "give it a value, or take the key out"
    elif wanted == "text" and isinstance(item, bool | int | float):
        hint = "put it in quotes"
    elif wanted in ("integer", "number") and isinstance(item, str):
        hint = "write a plain number, without quotes or a unit"
    elif wanted == "boolean" and isinstance(item, str):
        hint = "write true or false, without quotes"
    elif wanted == "list or template" and isinstance(item, str):
        hint = "write one single `{{ expression }}`, with nothing around it"
    elif where == ("steps",):
        hint = "write `name:` and the step's keys below it, one step after the other"
    elif where[-1] == "approve":
        hint = "write `approve:` and below it `message: …`"
    elif where[-1] == "llm":
        hint = "write `llm:` and below it `prompt: …`"
    message = f"{what} must be {_WANTED[wanted]}, not {json_type(item)}"
    doc.problem("ORC114", message, doc.at(where), hint)
