"""The three wire formats as a server writes them: replies, streams and refusals. Pure.

Answers follow from the request alone, so that two equal requests get equal answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

CREATED = 1_767_225_600
CREATED_AT = "2026-01-01T00:00:00.000000Z"
MODELS = ("test-model", "test-model-large")

_WORDS = 12


class BadRequest(Exception):
    """The request is not what the protocol asks for."""


class Said(msgspec.Struct, frozen=True):
    """An answer before it is put into a format: token counts are a quarter of the characters."""

    ident: str
    model: str
    text: str
    tokens_in: int
    tokens_out: int
    cut: bool

    def pieces(self) -> list[str]:
        """Return the text in the pieces that a stream sends."""
        words = self.text.split(" ")
        return [word if place == 0 else f" {word}" for place, word in enumerate(words)]


def protocol(path: str) -> str | None:
    """Return which protocol's chat endpoint a path is, if it is one."""
    if path == "/api/chat":
        return "ollama"
    if path in {"/v1/chat/completions", "/chat/completions"}:
        return "openai"
    return "anthropic" if path == "/v1/messages" else None


def check(kind: str, body: Any, headers: dict[str, str]) -> None:
    """Raise BadRequest for what the real server would refuse too."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        raise BadRequest("model: field required")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: at least one message is required")
    roles = {message.get("role") for message in messages if isinstance(message, dict)}
    if kind != "anthropic":
        if not roles <= {"system", "developer", "user", "assistant", "tool"}:
            raise BadRequest("messages: unknown role")
        return
    if not roles <= {"user", "assistant"}:
        raise BadRequest("messages: only the roles user and assistant are allowed")
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        raise BadRequest("max_tokens: field required")
    if "anthropic-version" not in headers:
        raise BadRequest("anthropic-version: header is required")


def say(kind: str, body: dict[str, Any]) -> Said:
    """Return the answer to a request."""
    raw = msgspec.json.encode(body, order="sorted")
    ident = hashlib.sha256(raw).hexdigest()[:16]
    prompt = _prompt(body)
    schema = _schema(kind, body)
    if schema is not None:
        text = msgspec.json.encode(instance(schema)).decode()
    else:
        text = f"Answer to: {' '.join(prompt.split()[:_WORDS])} [{ident[:8]}]"
    limit = _limit(kind, body)
    cut = limit is not None and _tokens(text) > limit
    if limit is not None and cut:
        text = text[: limit * 4]
    return Said(ident, body["model"], text, _tokens(prompt), _tokens(text), cut)


def instance(schema: Any) -> Any:
    """Return a small value that fits the usual parts of a JSON Schema."""
    form = schema if isinstance(schema, dict) else {}
    if "const" in form:
        return form["const"]
    if form.get("enum"):
        return form["enum"][0]
    for name in ("anyOf", "oneOf"):
        if form.get(name):
            return instance(form[name][0])
    kind = form.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in form:
        return {name: instance(rule) for name, rule in form.get("properties", {}).items()}
    if kind == "array":
        return [instance(form.get("items", {})) for _ in range(max(1, form.get("minItems", 1)))]
    simple: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "null": None}
    return simple.get(str(kind), "text")


def reply(kind: str, said: Said) -> dict[str, Any]:
    """Return the answer as one object."""
    if kind == "ollama":
        return _ollama(said, said.text, done=True)
    if kind == "openai":
        message = {"role": "assistant", "content": said.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _stop(said)}
        return _openai(said, "chat.completion", [choice]) | {"usage": _openai_usage(said)}
    content = [{"type": "text", "text": said.text}]
    return _anthropic(said, content, _end(said), said.tokens_out)


def stream(kind: str, said: Said, body: dict[str, Any]) -> Iterator[bytes]:
    """Yield the answer as the pieces of a stream: NDJSON for ollama, else SSE."""
    if kind == "ollama":
        for piece in said.pieces():
            yield _line(_ollama(said, piece, done=False))
        yield _line(_ollama(said, "", done=True))
    elif kind == "openai":
        yield from _openai_stream(said, body)
    else:
        yield from _anthropic_stream(said)


def streamed(kind: str, body: dict[str, Any]) -> bool:
    """Tell whether a request asks for a stream; ollama's default is yes."""
    return bool(body.get("stream", kind == "ollama"))


def refusal(kind: str | None, status: int, message: str, code: str | None = None) -> dict[str, Any]:
    """Return the body of an error in the words of the protocol."""
    if kind == "ollama":
        return {"error": message}
    if kind == "anthropic":
        names = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error"}
        names |= {403: "permission_error", 404: "not_found_error", 413: "request_too_large"}
        names |= {429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error"}
        default = "invalid_request_error" if status < 500 else "api_error"
        error = {"type": names.get(status, default), "message": message}
        return {"type": "error", "error": error, "request_id": "req_refused"}
    name = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": name, "param": None, "code": code}}


def error_event(kind: str, message: str, code: str | None) -> bytes:
    """Return the piece of a stream that says that something went wrong."""
    if kind == "ollama":
        return _line({"error": message})
    if kind == "anthropic":
        error = {"type": code or "overloaded_error", "message": message}
        return _sse({"type": "error", "error": error}, "error")
    return _sse({"error": {"message": message, "type": "server_error", "code": code}})


def models(path: str) -> dict[str, Any] | None:
    """Return what the listing endpoints say, or None for another path."""
    if path == "/api/version":
        return {"version": "0.0.0-test"}
    if path == "/api/ps":
        return {"models": []}
    if path == "/api/tags":
        return {"models": [_tag(name) for name in MODELS]}
    if path in {"/v1/models", "/models"}:
        data = [_model(name) for name in MODELS]
        return {
            "object": "list",
            "data": data,
            "has_more": False,
            "first_id": MODELS[0],
            "last_id": MODELS[-1],
        }
    return None


def _tag(name: str) -> dict[str, Any]:
    digest = hashlib.sha256(name.encode()).hexdigest()
    details = {"format": "gguf", "family": "test", "parameter_size": "1B"}
    tag = f"{name}:latest"
    common = {"modified_at": CREATED_AT, "size": 1, "digest": digest}
    return {"name": tag, "model": tag, "details": details} | common


def _model(name: str) -> dict[str, Any]:
    both = {"id": name, "created": CREATED, "object": "model", "owned_by": "test"}
    return both | {"type": "model", "display_name": name, "created_at": CREATED_AT}


def _prompt(body: dict[str, Any]) -> str:
    """Return the text of the last message."""
    content = body["messages"][-1].get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _schema(kind: str, body: dict[str, Any]) -> Any:
    if kind == "ollama":
        form = body.get("format")
        return {"type": "object"} if form == "json" else form or None
    if kind == "openai":
        form = body.get("response_format") or {}
        wanted = form.get("type")
        if wanted == "json_object":
            return {"type": "object"}
        return form["json_schema"].get("schema") if wanted == "json_schema" else None
    form = (body.get("output_config") or {}).get("format") or {}
    return form.get("schema")


def _limit(kind: str, body: dict[str, Any]) -> int | None:
    if kind == "ollama":
        limit = (body.get("options") or {}).get("num_predict")
        return limit if isinstance(limit, int) and limit > 0 else None
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    return limit if isinstance(limit, int) else None


def _tokens(text: str) -> int:
    return max(1, (len(text) + 3) // 4)


def _stop(said: Said) -> str:
    return "length" if said.cut else "stop"


def _end(said: Said) -> str:
    return "max_tokens" if said.cut else "end_turn"


def _line(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _sse(value: Any, event: str = "") -> bytes:
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + msgspec.json.encode(value) + b"\n\n"


def _ollama(said: Said, text: str, *, done: bool) -> dict[str, Any]:
    reply = {
        "model": said.model,
        "created_at": CREATED_AT,
        "message": {"role": "assistant", "content": text},
        "done": done,
    }
    if not done:
        return reply
    counts = {
        "total_duration": 2_000_000,
        "load_duration": 1_000,
        "prompt_eval_count": said.tokens_in,
        "prompt_eval_duration": 500_000,
        "eval_count": said.tokens_out,
        "eval_duration": 1_000_000,
    }
    return reply | {"done_reason": _stop(said)} | counts


def _openai(said: Said, kind: str, choices: list[Any]) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{said.ident}",
        "object": kind,
        "created": CREATED,
        "model": said.model,
        "system_fingerprint": "fp_test",
        "choices": choices,
    }


def _openai_usage(said: Said) -> dict[str, Any]:
    return {
        "prompt_tokens": said.tokens_in,
        "completion_tokens": said.tokens_out,
        "total_tokens": said.tokens_in + said.tokens_out,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _openai_stream(said: Said, body: dict[str, Any]) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _sse(_openai(said, "chat.completion.chunk", [choice]))

    yield chunk({"role": "assistant", "content": ""})
    for piece in said.pieces():
        yield chunk({"content": piece})
    yield chunk({}, _stop(said))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _sse(_openai(said, "chat.completion.chunk", []) | {"usage": _openai_usage(said)})
    yield b"data: [DONE]\n\n"


def _anthropic(said: Said, content: list[Any], reason: str | None, out: int) -> dict[str, Any]:
    usage = {
        "input_tokens": said.tokens_in,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": out,
    }
    return {
        "id": f"msg_{said.ident}",
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage,
    }


def _anthropic_stream(said: Said) -> Iterator[bytes]:
    def event(kind: str, **fields: Any) -> bytes:
        return _sse({"type": kind, **fields}, kind)

    yield event("message_start", message=_anthropic(said, [], None, 1))
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield event("ping")
    for piece in said.pieces():
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    delta = {"stop_reason": _end(said), "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": said.tokens_out})
    yield event("message_stop")
