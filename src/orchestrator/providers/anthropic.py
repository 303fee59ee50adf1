"""Anthropic: `POST /v1/messages`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from .address import Secret, Site
from .assembly import Assembly, complained, parsed
from .base import Message, Reply, Report, Request, Usage
from .served import (
    Served,
    as_list,
    given,
    no_answer,
    normal_stop,
    refused_by_model,
    typed,
    with_options,
)

if TYPE_CHECKING:
    from .bodies import Answer

MAX_TOKENS = 4096
VERSION = "2023-06-01"

_RESERVED = frozenset({"stream", "output_format"})


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Details(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _Details | None = None


class _Message(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


class _Coming(Assembly):
    """Server-sent events from `message_start` to `message_stop`; counts are totals so far."""

    def __init__(self, model: str, report: Report | None) -> None:
        super().__init__(model, report)
        self._whole = _Message()

    def feed(self, name: str, data: bytes) -> None:
        """Take in one event; kinds that are not known here say nothing."""
        event = parsed(data, _Event)
        match event.type or name:
            case "message_start" if event.message is not None:
                self._whole = event.message
            case "content_block_start" if event.content_block is not None:
                if event.content_block.type == "text":
                    self.add(event.content_block.text)
            case "content_block_delta" if event.delta is not None:
                if event.delta.type == "text_delta":
                    self.add(event.delta.text)
            case "message_delta":
                if event.delta is not None:
                    self._whole.stop_reason = event.delta.stop_reason or self._whole.stop_reason
                self._whole.usage = _latest(self._whole.usage or _Usage(), event.usage)
            case "message_stop":
                self.done = True
            case "error":
                raise complained(event.error)
            case _:
                pass

    def reply(self, headers: Mapping[str, str]) -> Reply:
        """Return the whole answer."""
        self._whole.content = [_Block("text", self.text)]
        return _reply(self._whole, self.model, headers)


class Anthropic(Served):
    """The vendor, or a server with its protocol; it always takes a key."""

    site = Site(
        provider="anthropic",
        variable="ANTHROPIC_BASE_URL",
        default="https://api.anthropic.com",
        key_variable="ANTHROPIC_API_KEY",
        drop_suffix="/v1",
    )
    path = "/v1/messages"
    list_path = "/v1/models"
    key_always_needed = True
    start_hint = "start the server"

    def body(self, request: Request) -> dict[str, Any]:
        """Return the body: system messages apart, and always a `max_tokens`."""
        system = [message.content for message in request.messages if message.role == "system"]
        turns = [message for message in request.messages if message.role != "system"]
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [_message(message) for message in turns],
        }
        if request.stream:
            body["stream"] = True
        if system:
            body["system"] = "\n\n".join(system)
        options = {"max_tokens": MAX_TOKENS, **given(request.options)}
        if request.schema is not None:
            form = {"type": "json_schema", "schema": closed(request.schema)}
            # Other settings of the same object (`effort`) come from the options.
            other = options.get("output_config")
            options["output_config"] = (other if isinstance(other, dict) else {}) | {"format": form}
        if "stop" in options:
            options["stop"] = as_list(options["stop"])
        return with_options(
            body,
            options,
            renamed={"stop": "stop_sequences"},
            reserved=_RESERVED | {"system"},
        )

    def assembly(self, request: Request, report: Report | None) -> Assembly:
        """Return what puts a streamed answer together."""
        return _Coming(request.model, report)

    def reply(self, answer: Answer, request: Request) -> Reply:
        """Return the reply: the text blocks, joined."""
        return _reply(typed(answer.value, _Message), request.model, answer.headers)

    def headers(self, key: Secret | None) -> dict[str, str]:
        """Return the version header and, if there is one, the key."""
        headers = {"anthropic-version": VERSION}
        return headers | ({"x-api-key": key.reveal()} if key else {})


def _message(message: Message) -> dict[str, Any]:
    if not message.attachments:
        return message.plain
    blocks: list[dict[str, Any]] = [
        {
            "type": "image" if item.image else "document",
            "source": {"type": "base64", "media_type": item.media_type, "data": item.base64},
        }
        for item in message.attachments
    ]
    blocks.append({"type": "text", "text": message.content})
    return {"role": message.role, "content": blocks}


def closed(schema: Any) -> Any:
    """Return a schema in which every object allows only the properties it names.

    The vendor asks for that. It only narrows: what fits the result fits the original too.
    """
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner: dict[str, Any] = {}
    for name, item in schema.items():
        if name in {"properties", "$defs", "definitions"} and isinstance(item, dict):
            inner[name] = {key: closed(value) for key, value in item.items()}
        elif name in {"enum", "const", "default", "examples"}:
            inner[name] = item
        else:
            inner[name] = closed(item)
    if schema.get("type") == "object":
        inner.setdefault("additionalProperties", False)
    return inner


def _reply(message: _Message, model: str, headers: Mapping[str, str]) -> Reply:
    if message.content is None:
        raise no_answer("it holds no content")
    text = "".join(block.text or "" for block in message.content if block.type == "text")
    reason = normal_stop(message.stop_reason)
    if reason == "content_filter":
        raise refused_by_model(text)
    return Reply(
        text=text,
        model=message.model or model,
        stop_reason=reason,
        usage=_counted(message.usage or _Usage()),
        request_id=headers.get("request-id") or message.id,
    )


def _latest(before: _Usage, now: _Usage | None) -> _Usage:
    """Return the counts so far: a stream's later ones replace the earlier."""
    told = msgspec.structs.asdict(now or _Usage())
    changed = {name: value for name, value in told.items() if value is not None}
    return msgspec.structs.replace(before, **changed)


def _counted(usage: _Usage) -> Usage:
    """Return the counts; the vendor's `input_tokens` leaves out what its cache held or took."""
    parts = (usage.cache_read_input_tokens, usage.cache_creation_input_tokens)
    tokens_in = usage.input_tokens
    if tokens_in is not None:
        tokens_in += sum(part or 0 for part in parts)
    details = usage.output_tokens_details or _Details()
    return Usage(
        tokens_in=tokens_in,
        tokens_out=usage.output_tokens,
        tokens_cache_read=parts[0],
        tokens_cache_write=parts[1],
        tokens_reasoning=details.thinking_tokens,
    )


def connect(base_url: str | None, environ: Mapping[str, str]) -> Anthropic:
    """Return the provider."""
    return Anthropic(base_url, environ)
