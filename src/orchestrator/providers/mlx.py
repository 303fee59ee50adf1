"""MLX: `mlx_lm.server`, which speaks OpenAI's protocol with a few gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .address import Site
from .base import Message, Request
from .openai import OpenAI
from .served import given, not_taken

MAX_TOKENS = 1024


class Mlx(OpenAI):
    """Models on this machine's Apple GPU; no key is ever sent."""

    site = Site(
        provider="mlx",
        variable="MLX_BASE_URL",
        default="http://127.0.0.1:8080/v1",
        default_path="/v1",
    )
    start_hint = "start it with `mlx_lm.server --model …`"

    def message(self, message: Message) -> dict[str, Any]:
        """Return a message; the server takes text alone."""
        if message.attachments:
            raise not_taken("mlx", "image and no PDF")
        return message.plain

    def body(self, request: Request) -> dict[str, Any]:
        """Return the body: always with `max_tokens`, and a schema told in words.

        The server's own limit of 512 tokens cuts answers short, and it knows no response
        format, so the schema goes into the first message.
        """
        if request.schema is not None:
            messages = _told(request.schema, request.messages)
            request = msgspec.structs.replace(request, messages=messages, schema=None)
        options = {"max_tokens": MAX_TOKENS, **given(request.options)}
        return super().body(msgspec.structs.replace(request, options=options))


def _told(schema: dict[str, Any], messages: tuple[Message, ...]) -> tuple[Message, ...]:
    text = msgspec.json.encode(schema, order="sorted").decode()
    rule = f"Answer with one JSON value that fits this JSON Schema and nothing else: {text}"
    if messages and messages[0].role == "system":
        first = Message("system", f"{messages[0].content}\n\n{rule}")
        return (first, *messages[1:])
    return (Message("system", rule), *messages)


def connect(base_url: str | None, environ: Mapping[str, str]) -> Mlx:
    """Return the provider."""
    return Mlx(base_url, environ)
