"""Bodies of answers, read in bounded memory: whole ones as JSON, streams event by event.

Knows nothing of sockets: the chunks come from `http`, which imports httpx.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from ..errors import FailureKind, StepError
from . import failures
from .stream import SPLITTERS

BODY_MAX_BYTES = 32 * 1024 * 1024
REFUSAL_MAX_BYTES = 64 * 1024
STREAM_MAX_BYTES = 1024 * 1024 * 1024
"""Of a stream, which is not kept; the text that is made of it has its own limit."""

_SLICE_BYTES = 1024 * 1024
_JSON_TYPES = ("application/json", "application/x-ndjson", "text/json")


class Sink(Protocol):
    """What takes in the events of a stream."""

    @property
    def done(self) -> bool: ...

    def feed(self, name: str, data: bytes) -> None:
        """Take in one event."""
        ...


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, whatever its status.

    Attributes:
        status: the HTTP status.
        headers: with lower-case names.
        value: the parsed body; None for a refusal that is no JSON, and for a stream.
        note: the first words of a refusal that is plain text.
        streamed: the body went into the sink, event by event.
    """

    status: int
    headers: Mapping[str, str]
    value: Any = None
    note: str = ""
    streamed: bool = False


def streams(status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether an answer comes event by event."""
    return 200 <= status < 300 and _media_type(headers) in SPLITTERS


async def pump(
    headers: Mapping[str, str],
    chunks: AsyncIterator[bytes],
    sink: Sink,
    heard: Callable[[], None],
) -> None:
    """Feed the events of a stream to the sink, until it is done or the body ends.

    Args:
        headers: of the answer.
        chunks: of the body, as they come from the network.
        sink: takes the events.
        heard: called for each chunk.

    Raises:
        StepError: the body is no stream of this kind, or the sink refuses an event.
    """
    splitter = SPLITTERS[_media_type(headers)]()
    packing = _Packing(headers)
    total = 0
    async for chunk in chunks:
        heard()
        for part in packing.undone(chunk):
            total += len(part)
            if total > STREAM_MAX_BYTES:
                raise unreadable(f"it is longer than {STREAM_MAX_BYTES >> 20} MiB")
            for name, data in splitter.feed(part):
                sink.feed(name, data)
        if sink.done:
            return
    for name, data in splitter.end():
        sink.feed(name, data)


async def whole(
    status: int,
    headers: Mapping[str, str],
    chunks: AsyncIterator[bytes],
    heard: Callable[[], None],
) -> Answer:
    """Return the answer that a body holds; of a refusal that is too long or broken, the status.

    Raises:
        StepError: a success whose body is too long, broken, or no JSON.
    """
    refused = not 200 <= status < 300
    raw = b""
    try:
        raw = await _read(headers, chunks, REFUSAL_MAX_BYTES if refused else BODY_MAX_BYTES, heard)
    except StepError:
        if not refused:
            raise
    return _answer(status, headers, raw, refused=refused)


async def _read(
    headers: Mapping[str, str],
    chunks: AsyncIterator[bytes],
    limit: int,
    heard: Callable[[], None],
) -> bytes:
    packing = _Packing(headers)
    body = bytearray()
    async for chunk in chunks:
        heard()
        for part in packing.undone(chunk):
            body += part[: limit - len(body) + 1]
            if len(body) > limit:
                raise unreadable(f"it is longer than {limit >> 20} MiB")
    if body and not packing.finished:
        raise unreadable("its compressed body ends too early")
    return bytes(body)


class _Packing:
    """The compression of one body, undone a slice at a time."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"", "identity", "gzip", "deflate"}:
            raise unreadable(f"nobody asked for its encoding {failures.clean(encoding, 40)!r}")
        packed = encoding in {"gzip", "deflate"}
        self._inflate = zlib.decompressobj(wbits=47) if packed else None

    def undone(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk unpacks to."""
        if self._inflate is None:
            yield chunk
            return
        while chunk:
            try:
                yield self._inflate.decompress(chunk, _SLICE_BYTES)
            except zlib.error:
                raise unreadable("its compression is broken") from None
            chunk = self._inflate.unconsumed_tail

    @property
    def finished(self) -> bool:
        """Whether the compressed body has come to its own end."""
        return self._inflate is None or self._inflate.eof


def _answer(status: int, headers: Mapping[str, str], raw: bytes, *, refused: bool) -> Answer:
    media_type = _media_type(headers)
    is_json = not media_type or media_type in _JSON_TYPES or media_type.endswith("+json")
    value: Any = None
    try:
        if is_json or refused:
            value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if not refused:
            raise unreadable("it is no valid JSON") from None
    if not refused and not is_json:
        raise unreadable(f"it is {failures.clean(media_type, 60)}, not JSON")
    note = ""
    if value is None and media_type == "text/plain":
        note = failures.clean(raw[:4096].decode("utf-8", "replace"))
    return Answer(status=status, headers=headers, value=value, note=note)


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def unreadable(cause: str) -> StepError:
    """Return the error for an answer that is not what it should be."""
    return StepError(
        f"the answer can't be read: {cause}",
        kind=FailureKind.PROVIDER,
        hint="check that the address is that of the model server, and not of a page or a proxy",
    )
