"""Ollama: `POST /api/chat`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from .address import Site
from .assembly import Assembly, complained, parsed
from .base import Message, Reply, Report, Request, Usage
from .served import Served, as_list, no_answer, normal_stop, not_taken, typed, with_options

if TYPE_CHECKING:
    from .bodies import Answer

_TOP_LEVEL = ("keep_alive", "think", "logprobs", "top_logprobs", "tools")
_RESERVED = frozenset({"model", "messages", "stream", "format"})


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[Any] | None = None


class _Chat(msgspec.Struct):
    model: str | None = None
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    prompt_eval_cached_count: int | None = None
    eval_count: int | None = None
    error: Any = None


class _Model(msgspec.Struct):
    name: str = ""
    modified_at: str = ""


class _Models(msgspec.Struct):
    models: list[_Model] = []


class _Coming(Assembly):
    """NDJSON: a piece a line, and the counts on the last one."""

    def __init__(self, model: str, report: Report | None) -> None:
        super().__init__(model, report)
        self._last = _Chat()
        self._calls: list[Any] = []

    def feed(self, name: str, data: bytes) -> None:  # noqa: ARG002 - lines have no names
        """Take in one line."""
        chat = parsed(data, _Chat)
        if chat.error:
            raise complained(chat.error)
        if chat.message is not None:
            self.add(chat.message.content)
            self._calls += chat.message.tool_calls or []
        if chat.done:
            self.done, self._last = True, chat

    def reply(self, headers: Mapping[str, str]) -> Reply:  # noqa: ARG002 - no id is sent
        """Return the whole answer."""
        message = _Message(content=self.text, tool_calls=self._calls)
        return _reply(msgspec.structs.replace(self._last, message=message), self.model)


class Ollama(Served):
    """Models on an Ollama server, usually on this machine; it takes no key."""

    site = Site(
        provider="ollama",
        variable="OLLAMA_HOST",
        default="http://127.0.0.1:11434",
        default_port=11434,
    )
    path = "/api/chat"
    start_hint = "start it with `ollama serve`"

    def body(self, request: Request) -> dict[str, Any]:
        """Return the body; sampling options go into `options`, `max_tokens` as `num_predict`."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [_message(message) for message in request.messages],
            "stream": request.stream,
        }
        if request.schema is not None:
            body["format"] = request.schema
        rest = {name: value for name, value in request.options.items() if name not in _TOP_LEVEL}
        options = with_options({}, rest, renamed={"max_tokens": "num_predict"}, reserved=_RESERVED)
        if "stop" in options:
            options["stop"] = as_list(options["stop"])
        if options:
            body["options"] = options
        top = {name: request.options[name] for name in _TOP_LEVEL if name in request.options}
        return with_options(body, top)

    def assembly(self, request: Request, report: Report | None) -> Assembly:
        """Return what puts a streamed answer together."""
        return _Coming(request.model, report)

    def reply(self, answer: Answer, request: Request) -> Reply:
        """Return the reply."""
        return _reply(typed(answer.value, _Chat), request.model)

    async def models(self, *, timeout_s: float) -> list[str]:
        """Return the loaded models, then the others, the newest first."""
        loaded = msgspec.convert(await self._listed("/api/ps", timeout_s), _Models).models
        there = msgspec.convert(await self._listed("/api/tags", timeout_s), _Models).models
        there.sort(key=lambda model: model.modified_at, reverse=True)
        return list(dict.fromkeys(model.name for model in [*loaded, *there] if model.name))

    def call_headers(self, idempotency_key: str) -> dict[str, str]:  # noqa: ARG002 - as all
        """Return nothing: the server knows no idempotency keys."""
        return {}

    def missing_hint(self, model: str) -> str:
        """Return the command that fetches a model."""
        return f"fetch it with `ollama pull {model}`; `ollama list` shows what is there"


def _message(message: Message) -> dict[str, Any]:
    images = [item.base64 for item in message.attachments if item.image]
    if len(images) < len(message.attachments):
        raise not_taken("ollama", "a PDF")
    return {**message.plain, "images": images} if images else message.plain


def _reply(chat: _Chat, model: str) -> Reply:
    """Return the reply; `done` without a reason is what old servers say for `stop`."""
    if chat.message is None or not chat.done:
        raise no_answer("it holds no finished message")
    reason = normal_stop(chat.done_reason or "stop")
    return Reply(
        text=chat.message.content or "",
        model=chat.model or model,
        stop_reason="tool_calls" if chat.message.tool_calls else reason,
        usage=Usage(
            tokens_in=chat.prompt_eval_count,
            tokens_out=chat.eval_count,
            tokens_cache_read=chat.prompt_eval_cached_count,
        ),
    )


def connect(base_url: str | None, environ: Mapping[str, str]) -> Ollama:
    """Return the provider."""
    return Ollama(base_url, environ)
