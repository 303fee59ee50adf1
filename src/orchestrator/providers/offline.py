"""The provider that calls no model: deterministic, without network, and honest about it.

Three models: `echo` answers with the prompt, `extract` runs plain text algorithms over it,
`script` answers what the spec says. Every reply is `simulated` and counts no tokens.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from ..errors import ConfigError, FailureKind, StepError
from ..retry import RETRY_AFTER_MAX_S
from . import extract, failures
from .base import Message, Reply, Report, Request

MODELS = ("echo", "extract", "script")
DELAY_MAX_S = 3600.0

_THREAD_FROM_CHARS = 64 * 1024
_RESPONSES_MAX = 10_000


class Response(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a script: the first that fits the prompt is the answer.

    Attributes:
        match: a part of the prompt; without it (and without `regex`) every prompt fits.
        regex: a pattern found in the prompt.
        text: the answer; another JSON value than a string is written as JSON.
        stop_reason: of the answer.
        error: a failure kind or an HTTP status to fail with instead.
        delay_s: the wait before either.
        retry_after_s: what the failure asks for.
    """

    match: str | None = None
    regex: str | None = None
    text: Any = ""
    stop_reason: str = "stop"
    error: str | int | None = None
    delay_s: float = 0.0
    retry_after_s: float | None = None


class Offline:
    """No server, no key, no model."""

    name = "offline"
    base_url = ""
    simulated = True
    adapter_version = 1

    def __repr__(self) -> str:
        return "Offline()"

    def body(self, request: Request) -> dict[str, Any]:
        """Return all that the answer depends on."""
        body: dict[str, Any] = {
            "model": f"offline/{_model(request.model)}",
            "messages": [_message(message) for message in request.messages],
        }
        if request.options:
            body["options"] = request.options
        if request.schema is not None:
            body["schema"] = request.schema
        return body

    def check(self) -> None:
        """Do nothing: there is nothing that could be missing."""

    def warm(self) -> None:
        """Do nothing: everything is here."""

    async def complete(
        self,
        request: Request,
        *,
        timeout_s: float,
        idempotency_key: str,  # noqa: ARG002 - of the contract
        idle_timeout_s: float | None = None,  # noqa: ARG002 - the same
        report: Report | None = None,  # noqa: ARG002 - the same
    ) -> Reply:
        """Answer the request."""
        model = _model(request.model)
        text, reason = _prompt(request), "stop"
        if model == "script":
            text, reason = await _scripted(request, timeout_s)
        elif model == "extract":
            if len(text) > _THREAD_FROM_CHARS:
                # Long texts take a while; other steps go on meanwhile.
                text = await anyio.to_thread.run_sync(_extracted, text, request)
            else:
                text = _extracted(text, request)
        return Reply(text=text, model=f"offline/{model}", stop_reason=reason, simulated=True)

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""


def _message(message: Message) -> dict[str, Any]:
    if not message.attachments:
        return message.plain
    files = [
        {"name": item.name, "media_type": item.media_type, "data": item.base64}
        for item in message.attachments
    ]
    return {**message.plain, "files": files}


def connect(base_url: str | None, environ: Mapping[str, str]) -> Offline:  # noqa: ARG001 - as all
    """Return the provider."""
    return Offline()


def known_model(model: str) -> str:
    """Return the model's short name; raise ConfigError if there is no such model."""
    short = model.removeprefix("offline/") or "echo"
    if short in MODELS:
        return short
    near = difflib.get_close_matches(short, MODELS, n=1)
    guess = f"did you mean `{near[0]}`? " if near else ""
    raise ConfigError(
        f"offline has no model `{short[:64]}`",
        place="model",
        hint=f"{guess}known are {', '.join(MODELS)}",
    )


def _model(model: str) -> str:
    try:
        return known_model(model)
    except ConfigError as error:
        raise StepError(
            error.message, kind=FailureKind.BAD_REQUEST, place=error.place, hint=error.hint
        ) from None


def _prompt(request: Request) -> str:
    """Return the last message of the user; without one, all messages."""
    for message in reversed(request.messages):
        if message.role == "user":
            return message.content
    return "\n\n".join(message.content for message in request.messages)


def _extracted(text: str, request: Request) -> str:
    if request.schema is not None:
        value = extract.by_schema(text, request.schema)
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return extract.summary(
        text,
        sentences=_count(request.options, "sentences", extract.SENTENCES),
        keywords=_count(request.options, "keywords", extract.KEYWORDS),
    )


def _count(options: Mapping[str, Any], name: str, default: int) -> int:
    value = options.get(name)
    if value is None:
        return default
    if isinstance(value, int) and 0 <= value <= 1000:
        return value
    raise StepError(
        f"the option `{name}` must be a whole number from 0 to 1000",
        kind=FailureKind.BAD_REQUEST,
        place=f"options.{name}",
    )


async def _scripted(request: Request, timeout_s: float) -> tuple[str, str]:
    """Return text and stop reason of the first response that fits, or fail as it says."""
    prompt = "\n".join(message.content for message in request.messages)
    response = _first_fit(_responses(request.options), prompt)
    if response.delay_s > 0:
        await anyio.sleep(min(response.delay_s, timeout_s, DELAY_MAX_S))
        if response.delay_s > timeout_s:
            raise _failure(f"no complete answer within {timeout_s:g} s", FailureKind.TIMEOUT)
    if response.error is not None:
        raise _failure(
            f"the script says {response.error}", _kind(response.error), response.retry_after_s
        )
    if isinstance(response.text, str):
        return response.text, response.stop_reason
    return msgspec.json.encode(response.text).decode(), response.stop_reason


def _responses(options: Mapping[str, Any]) -> list[Response]:
    try:
        responses = msgspec.convert(options.get("responses", []), list[Response])
    except msgspec.ValidationError as error:
        raise _bad_script(str(error)) from None
    if not responses or len(responses) > _RESPONSES_MAX:
        raise _bad_script(f"it needs from 1 to {_RESPONSES_MAX} entries")
    return responses


def _first_fit(responses: list[Response], prompt: str) -> Response:
    for response in responses:
        if response.match is not None and response.match not in prompt:
            continue
        if response.regex is not None:
            try:
                found = re.search(response.regex, prompt, re.MULTILINE)
            except re.error as error:
                raise _bad_script(f"{response.regex!r} is no pattern: {error}") from None
            if found is None:
                continue
        return response
    raise _failure("no entry of `responses` fits the prompt", FailureKind.BAD_REQUEST)


def _kind(error: str | int) -> FailureKind:
    if isinstance(error, int) or error.isdecimal():
        return failures.kind_of(int(error))
    try:
        return FailureKind(error)
    except ValueError:
        kinds = ", ".join(kind.value for kind in FailureKind)
        raise _bad_script(f"`error: {error}` is neither a status nor one of {kinds}") from None


def _bad_script(cause: str) -> StepError:
    return StepError(
        f"offline/script: the option `responses` can't be used: {failures.clean(cause)}",
        kind=FailureKind.BAD_REQUEST,
        place="options.responses",
        hint='write it like `responses: [{match: "part of the prompt", text: "the answer"}]`',
    )


def _failure(cause: str, kind: FailureKind, retry_after_s: float | None = None) -> StepError:
    if retry_after_s is not None:
        retry_after_s = min(max(retry_after_s, 0.0), RETRY_AFTER_MAX_S)
    return StepError(
        f"offline, model offline/script: {cause}",
        kind=kind,
        place="options.responses",
        retry_after_s=retry_after_s,
    )
