"""Structured answers: read as JSON, held against their schema, asked for once more if unfit.

The validator is loaded by the first answer that needs it. It knows every draft of JSON Schema up
to 2020-12; a schema can't make it fetch anything.
"""

from __future__ import annotations

import functools
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import FailureKind, StepError
from ..providers.base import Message, Reply, Request
from ..providers.failures import clean

if TYPE_CHECKING:
    from jsonschema_rs import Validator

PROBLEMS_TOLD = 5
PROBLEM_CHARS = 200
ANSWER_SHOWN_CHARS = 20_000
"""Of an answer that does not fit, in the request that asks for a better one."""

_FENCED = re.compile(r"\s*```[A-Za-z]*[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)
_BACKTRACKS_MAX = 100_000


class Read(msgspec.Struct, frozen=True):
    """What an answer says: its value, or why it is none."""

    value: Any = None
    problem: str = ""


def read(text: str, schema: dict[str, Any]) -> Read:
    """Return the value in an answer's text; one that stands in a code fence is taken out of it."""
    fenced = _FENCED.fullmatch(text)
    try:
        value = msgspec.json.decode(fenced[1] if fenced else text)
    except (msgspec.DecodeError, RecursionError) as error:
        return Read(problem=f"it is no JSON: {clean(str(error), PROBLEM_CHARS)}")
    try:
        problems = list(islice(_validator(schema).iter_errors(value), PROBLEMS_TOLD))
    except (ValueError, RecursionError) as error:
        return Read(problem=f"it can't be checked: {clean(str(error), PROBLEM_CHARS)}")
    if not problems:
        return Read(value=value)
    told = [_told(list(problem.instance_path), problem.message) for problem in problems]
    return Read(problem=f"it does not fit its schema: {'; '.join(told)}")


def schema_fault(schema: dict[str, Any]) -> str:
    """Return what makes a schema unusable, or nothing."""
    try:
        _validator(schema)
    except ValueError as error:
        path = list(getattr(error, "instance_path", ()))
        return _told(path, str(getattr(error, "message", error)))
    return ""


def mended(request: Request, text: str, problem: str) -> Request:
    """Return the request that asks for a better answer than `text`."""
    said = text[:ANSWER_SHOWN_CHARS] or "(nothing)"
    ask = (
        f"This answer can't be used: {problem}. Answer again, with one JSON value that fits the "
        "schema and nothing else."
    )
    schema = msgspec.json.encode(request.schema, order="sorted").decode()
    messages = (
        *request.messages,
        Message("assistant", said),
        Message("user", f"{ask}\n\nThe schema: {schema}"),
    )
    return msgspec.structs.replace(request, messages=messages)


def unfit(reply: Reply, problem: str, *, again: bool) -> StepError:
    """Return the error for an answer that can't be used.

    Args:
        reply: that holds it.
        problem: with it.
        again: whether a second one was asked for, and this is that.
    """
    if not reply.complete:
        return StepError(
            f"the answer ended early ({reply.stop_reason or 'no reason given'}), where the step's "
            f"`output:` asks for JSON: {problem}",
            kind=FailureKind.INVALID_OUTPUT,
            place=reply.model,
            hint="raise `max_tokens` in the options, or ask for less",
        )
    both = "neither the answer nor a second one could be used" if again else "it can't be used"
    return StepError(
        f"the step's `output:` asks for JSON of a form, and {both}: {problem}",
        kind=FailureKind.INVALID_OUTPUT,
        place=reply.model,
        hint="say in the prompt what is wanted, allow more in the schema, or take another model",
    )


def _told(path: list[Any], message: str) -> str:
    at = "/".join(str(part) for part in path)
    return clean(f"at {at}: {message}" if at else message, PROBLEM_CHARS)


def _validator(schema: dict[str, Any]) -> Validator:
    return _validator_of(msgspec.json.encode(schema, order="deterministic"))


@functools.lru_cache(maxsize=64)
def _validator_of(schema: bytes) -> Validator:
    import jsonschema_rs

    return jsonschema_rs.validator_for(
        msgspec.json.decode(schema),
        retriever=_nothing_is_fetched,
        pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS_MAX),
    )


def _nothing_is_fetched(uri: str) -> Any:
    raise ValueError(f"{clean(uri, 100)} would have to be fetched")
