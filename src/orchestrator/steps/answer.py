"""What an llm step makes of an answer: its output, its file, and what it cost."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from .. import templates
from ..blobs import ref_of
from ..errors import FailureKind, StepError
from ..events import Answered
from ..money import dollars
from ..prices import PriceTable, Quote
from ..providers.base import Provider, Reply, Request
from ..safepath import UnsafePath, components
from . import structured


def problem_of(reply: Reply, request: Request) -> str:
    """Return why an answer is not what the step asks for, or nothing."""
    return "" if request.schema is None else structured.read(reply.text, request.schema).problem


def output_of(reply: Reply, request: Request) -> dict[str, Any]:
    """Return the step's output."""
    output: dict[str, Any] = {"text": reply.text}
    if request.schema is not None:
        output["data"] = structured.read(reply.text, request.schema).value
    if not reply.complete:
        output["stop_reason"] = reply.stop_reason
    return output


def path_of(source: str, values: dict[str, Any], place: str) -> str:
    """Return where the answer is published, rendered and found to be inside outputs/."""
    path = templates.render_text(source, values, place=place)
    if path != source:
        try:
            components(path)
        except UnsafePath as error:
            message = f"`{path[:200]}` must be a path inside outputs/: {error.reason}"
            raise StepError(message, kind=FailureKind.TEMPLATE, place=place) from error
    return path


def save(text: str, folder: str, save_as: str) -> None:
    """Write an answer as a text file, which ends with a newline."""
    path = os.path.join(folder, *components(save_as))
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "wb") as file:
        file.write(as_file(text))


def as_file(text: str) -> bytes:
    """Return the bytes of the file that an answer is saved as."""
    whole = text if text.endswith("\n") else text + "\n"
    return whole.encode("utf-8", "replace")


def text_of(value: Any) -> str:
    """Return a value that a prompt consists of as JSON."""
    return msgspec.json.encode(value).decode()


def quote_of(
    table: PriceTable, provider: Provider, request: Request, model: str, reply: Reply
) -> Quote:
    """Return what a reply costs; a model that is only an alias is priced as what answered."""
    if provider.simulated:
        return Quote()
    for name in dict.fromkeys((model, reply.model)):
        quote = table.quote(
            provider.name, name, reply.usage, base_url=provider.base_url, options=request.options
        )
        if quote.usd is not None:
            return quote
    return Quote()


def answered_by(
    answered: Answered, reply: Reply, quote: Quote, duration_s: float, response: bytes
) -> Answered:
    """Return what the log says of a call that a reply, as JSON `response`, has ended."""
    usage = reply.usage
    return msgspec.structs.replace(
        answered,
        success=True,
        response_model=reply.model if reply.model != answered.model else "",
        duration_s=duration_s,
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
        tokens_cache_read=usage.tokens_cache_read,
        tokens_cache_write=usage.tokens_cache_write,
        tokens_reasoning=usage.tokens_reasoning,
        stop_reason=reply.stop_reason,
        request_id=reply.request_id,
        response=ref_of(response),
        cost_usd=dollars(quote.usd),
        prices=quote.table,
    )
