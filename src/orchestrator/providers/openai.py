"""OpenAI, and every server that speaks its protocol: `POST {base}/chat/completions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from .address import Site
from .base import Reply, Request, Usage
from .served import Served, no_answer, normal_stop, refused_by_model, typed, with_options

if TYPE_CHECKING:
    from .http import Answer

_RESERVED = frozenset({"stream", "stream_options", "n", "response_format"})
_SUBSCHEMAS = ("items", "anyOf", "oneOf", "allOf", "prefixItems", "not")


class _Part(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None


class _InDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OutDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InDetails | None = None
    completion_tokens_details: _OutDetails | None = None


class _Completion(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


class OpenAI(Served):
    """The vendor itself, which needs a key, or a server with the same protocol, which may not."""

    site = Site(
        provider="openai",
        variable="OPENAI_BASE_URL",
        default="https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        default_path="/v1",
    )
    path = "/chat/completions"
    start_hint = "start the server"

    def body(self, request: Request) -> dict[str, Any]:
        """Return the body; the vendor itself wants `max_tokens` under its newer name."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [msgspec.to_builtins(message) for message in request.messages],
        }
        if request.schema is not None:
            body |= self.structured(request.schema)
        # The vendor's newer models refuse the old name, other servers don't know the new one.
        renamed = {"max_tokens": "max_completion_tokens"} if self._located.vendor else None
        return with_options(body, request.options, renamed=renamed, reserved=_RESERVED)

    def structured(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the part of the body that asks for an answer of this form."""
        form = {"name": "answer", "strict": is_strict(schema), "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": form}}

    def reply(self, answer: Answer, request: Request) -> Reply:
        """Return the reply of the first choice."""
        completion = typed(answer.value, _Completion)
        if not completion.choices or completion.choices[0].message is None:
            raise no_answer("it holds no choice")
        choice, message = completion.choices[0], completion.choices[0].message
        text = message.content or ""
        if not isinstance(text, str):
            text = "".join(part.text or "" for part in text)
        reason = normal_stop(choice.finish_reason)
        if message.refusal or reason == "content_filter":
            raise refused_by_model(message.refusal or "")
        return Reply(
            text=text,
            model=completion.model or request.model,
            stop_reason=reason,
            usage=_counted(completion.usage or _Usage()),
            request_id=answer.headers.get("x-request-id") or completion.id,
        )


def is_strict(schema: Any) -> bool:
    """Tell whether a schema meets the vendor's rule for strict answers.

    Every object must name all of its properties as required and allow no others; a schema
    that does not is sent as a wish, and the answer is validated anyway.
    """
    if isinstance(schema, list):
        return all(is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False:
            return False
        if set(schema.get("required", ())) != set(properties):
            return False
        if not all(is_strict(item) for item in properties.values()):
            return False
    inner = [item for name, item in schema.items() if name in _SUBSCHEMAS]
    named = [item for name in ("$defs", "definitions") for item in schema.get(name, {}).values()]
    return all(is_strict(item) for item in [*inner, *named])


def _counted(usage: _Usage) -> Usage:
    details_in = usage.prompt_tokens_details or _InDetails()
    details_out = usage.completion_tokens_details or _OutDetails()
    return Usage(
        tokens_in=usage.prompt_tokens,
        tokens_out=usage.completion_tokens,
        tokens_cache_read=details_in.cached_tokens,
        tokens_reasoning=details_out.reasoning_tokens,
    )


def connect(base_url: str | None, environ: Mapping[str, str]) -> OpenAI:
    """Return the provider."""
    return OpenAI(base_url, environ)
