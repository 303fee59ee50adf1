"""What the orchestrator asks of a provider, and what it gets back.

A provider turns a `Request` into its wire format and a reply into a `Reply`; it knows
nothing of jobs, logs, caches or retries. Everything that can go wrong in a call leaves
it as a `StepError` with one of the closed `FailureKind`s.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any, Protocol

import msgspec


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """An image or a PDF that goes with a message; `data` is its bytes."""

    name: str
    media_type: str
    data: bytes

    @property
    def image(self) -> bool:
        """Whether it is an image."""
        return self.media_type.startswith("image/")

    @property
    def base64(self) -> str:
        """Its bytes in base64."""
        return b64encode(self.data).decode()

    @property
    def url(self) -> str:
        """Its bytes as a `data:` URL."""
        return f"data:{self.media_type};base64,{self.base64}"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation: `role` is `system`, `user` or `assistant`."""

    role: str
    content: str
    attachments: tuple[Attachment, ...] = ()

    @property
    def plain(self) -> dict[str, Any]:
        """Role and text, as most wire formats have them."""
        return {"role": self.role, "content": self.content}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a model, as the user asked for it.

    Attributes:
        model: as the provider spells it.
        messages: in order; a system message comes first.
        options: `temperature`, `max_tokens`, `top_p`, `seed`, `stop`, and whatever else the
            provider understands; passed on unchanged where the name is not ours.
        schema: JSON Schema of a structured answer, or None for text.
        sample: 0, or the number of the repeat, so that repeats are different calls.
        stream: False for a server that can't send its answer piece by piece.
    """

    model: str
    messages: tuple[Message, ...]
    options: dict[str, Any] = {}
    schema: dict[str, Any] | None = None
    sample: int = 0
    stream: bool = True


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Token counts as the provider reported them; None where it did not."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cache_read: int | None = None
    tokens_cache_write: int | None = None
    tokens_reasoning: int | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A complete answer.

    Attributes:
        text: the answer's text, all parts joined.
        model: what answered, as the provider named it.
        stop_reason: `stop`, `length`, `content_filter` or `tool_calls`, or as the provider said.
        usage: only what the provider counted.
        request_id: the provider's own id of the call.
        simulated: True if no model was called (the `offline` provider).
    """

    text: str
    model: str
    stop_reason: str | None = None
    usage: Usage = Usage()
    request_id: str | None = None
    simulated: bool = False

    @property
    def complete(self) -> bool:
        """Whether the answer came to its own end; only such answers are cached."""
        return self.stop_reason == "stop"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How much of an answer has come so far.

    Attributes:
        pieces: as the server sent them: about one token each with most servers, never exactly
            (the count that is recorded comes with the answer's end, from the provider).
        characters: of the text so far.
    """

    pieces: int
    characters: int


Report = Callable[[Progress], None]
"""Told of an answer that is coming in: for a display, never for the log."""


class Provider(Protocol):
    """One kind of server, at one address.

    Attributes:
        name: as in a spec's `provider:`.
        base_url: without a trailing slash and without credentials; empty for `offline`.
        simulated: True if no model is ever called.
        adapter_version: raised whenever the same request would be sent differently.
    """

    @property
    def name(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def simulated(self) -> bool: ...
    @property
    def adapter_version(self) -> int: ...

    def body(self, request: Request) -> dict[str, Any]:
        """Return the exact JSON body that `complete` would send (no credential in it)."""
        ...

    def check(self) -> None:
        """Raise ConfigError if a call can't succeed as things are (no key, for instance)."""
        ...

    def warm(self) -> None:
        """Load what the first call needs, so that it does not wait for it; no traffic."""
        ...

    async def complete(
        self,
        request: Request,
        *,
        timeout_s: float,
        idempotency_key: str,
        idle_timeout_s: float | None = None,
        report: Report | None = None,
    ) -> Reply:
        """Make the call once.

        Args:
            request: what to ask.
            timeout_s: for the whole call, however it is answered.
            idempotency_key: the same for a re-try after a crash.
            idle_timeout_s: how long a begun answer may be silent; None for `timeout_s` alone.
            report: told of the answer while it comes in.

        Raises:
            StepError: with the failure's kind; never any other exception but cancellation.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
