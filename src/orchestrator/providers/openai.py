"""OpenAI, and every server that speaks its protocol: `POST {base}/chat/completions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from .address import Site
from .assembly import Assembly, complained, parsed
from .base import Message, Reply, Report, Request, Usage
from .served import Served, no_answer, normal_stop, refused_by_model, typed, with_options

if TYPE_CHECKING:
    from .bodies import Answer

_RESERVED = frozenset({"stream", "stream_options", "n", "response_format"})
_SUBSCHEMAS = ("items", "anyOf", "oneOf", "allOf", "prefixItems", "not")


class _Part(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    index: int | None = 0
    message: _Message | None = None
    delta: _Message | None = None
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
    error: Any = None


class _Coming(Assembly):
    """Server-sent events: deltas, then the reason to stop, the usage, and `[DONE]`.

    The usage comes with the last delta or after it, or never; some servers send no `[DONE]`, and
    some the whole message at once.
    """

    def __init__(self, model: str, report: Report | None) -> None:
        super().__init__(model, report)
        self._whole = _Completion()
        self._refusal = ""
        self._reason: str | None = None
        self._any = False

    def feed(self, name: str, data: bytes) -> None:
        """Take in one event."""
        if data == b"[DONE]":
            self.done = True
            return
        chunk = parsed(data, _Completion)
        if chunk.error or name == "error":
            raise complained(chunk.error)
        self._whole.id = self._whole.id or chunk.id
        self._whole.model = self._whole.model or chunk.model
        self._whole.usage = chunk.usage or self._whole.usage
        for choice in chunk.choices or ():
            if choice.index:
                continue  # never asked for
            self._any = True
            said = choice.delta or choice.message or _Message()
            self.add(_text(said))
            self._refusal += said.refusal or ""
            self._reason = choice.finish_reason or self._reason

    def ended(self) -> None:
        """Take a body that ended well after its reason to stop for whole."""
        self.done = self.done or self._reason is not None

    def reply(self, headers: Mapping[str, str]) -> Reply:
        """Return the whole answer."""
        message = _Message(content=self.text, refusal=self._refusal or None)
        choice = _Choice(message=message, finish_reason=self._reason)
        self._whole.choices = [choice] if self._any else []
        return _reply(self._whole, self.model, headers)


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
            "messages": [self.message(message) for message in request.messages],
        }
        if request.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if request.schema is not None:
            body |= self.structured(request.schema)
        # The vendor's newer models refuse the old name, other servers don't know the new one.
        renamed = {"max_tokens": "max_completion_tokens"} if self._located.vendor else None
        return with_options(body, request.options, renamed=renamed, reserved=_RESERVED)

    def message(self, message: Message) -> dict[str, Any]:
        """Return a message; images and PDFs are parts of it."""
        if not message.attachments:
            return message.plain
        parts: list[dict[str, Any]] = []
        for item in message.attachments:
            if item.image:
                parts.append({"type": "image_url", "image_url": {"url": item.url}})
            else:
                file = {"filename": item.name, "file_data": item.url}
                parts.append({"type": "file", "file": file})
        parts.append({"type": "text", "text": message.content})
        return {"role": message.role, "content": parts}

    def structured(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the part of the body that asks for an answer of this form."""
        form = {"name": "answer", "strict": is_strict(schema), "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": form}}

    def assembly(self, request: Request, report: Report | None) -> Assembly:
        """Return what puts a streamed answer together."""
        return _Coming(request.model, report)

    def reply(self, answer: Answer, request: Request) -> Reply:
        """Return the reply of the first choice."""
        return _reply(typed(answer.value, _Completion), request.model, answer.headers)


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


def _reply(completion: _Completion, model: str, headers: Mapping[str, str]) -> Reply:
    if not completion.choices or completion.choices[0].message is None:
        raise no_answer("it holds no choice")
    choice, message = completion.choices[0], completion.choices[0].message
    reason = normal_stop(choice.finish_reason)
    if message.refusal or reason == "content_filter":
        raise refused_by_model(message.refusal or "")
    return Reply(
        text=_text(message),
        model=completion.model or model,
        stop_reason=reason,
        usage=_counted(completion.usage or _Usage()),
        request_id=headers.get("x-request-id") or completion.id,
    )


def _text(message: _Message) -> str:
    if isinstance(message.content, list):
        return "".join(part.text or "" for part in message.content)
    return message.content or ""


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
