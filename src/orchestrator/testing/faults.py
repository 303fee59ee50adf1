"""What the test server can do wrong, on request."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
import zlib
from typing import Any, Literal

import msgspec

BOMB_MIB = 300
DRIP_EVERY_S = 0.02
DRIP_MAX_S = 600.0

Kind = Literal["reset", "drip", "half", "html", "gzip_bomb", "bad_json", "content_type", "hang"]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One rule: the first that fits a call is used up by it.

    Attributes:
        status: answer with this status instead.
        body: of that answer, any JSON value, or a string that is sent as it is; without it, an
            error in the words of the protocol.
        code: the error code in those words.
        headers: in addition to the usual ones, or in their place.
        kind: break the exchange itself. `reset` the connection; `drip` an answer that never
            ends; `half` a body; an `html` page; a `gzip_bomb`; `bad_json`; the right body under
            a wrong `content_type`; `hang` until the client leaves.
        times: how many calls it meets.
        delay_s: instead of the server's own delay.
        path: only for calls of this path.
        match: only for calls whose body contains this.
    """

    status: int | None = None
    body: Any = None
    code: str | None = None
    headers: dict[str, str] = {}
    kind: Kind | None = None
    times: int = 1
    delay_s: float | None = None
    path: str | None = None
    match: str | None = None

    def fits(self, path: str, body: bytes) -> bool:
        """Tell whether a call meets this fault."""
        if self.times <= 0 or (self.path is not None and self.path != path):
            return False
        return self.match is None or self.match.encode() in body

    @property
    def label(self) -> str:
        """The name in the journal."""
        return self.kind or (f"status {self.status}" if self.status else "delay")


def head(status: int, headers: dict[str, str]) -> bytes:
    """Return the head of a response."""
    lines = [f"HTTP/1.1 {status} {'OK' if status < 400 else 'Refused'}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def misbehave(
    kind: Kind, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes
) -> int | None:
    """Answer wrongly and return the status that was sent; the connection is of no use after.

    Args:
        kind: what to do.
        reader: of the connection.
        writer: of the connection.
        good: the body of the right answer.
    """
    json = {"content-type": "application/json"}
    if kind == "reset":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        return None
    if kind == "hang":
        await reader.read(1)
        return None
    if kind == "drip":
        await _drip(writer, head(200, json | {"content-length": "1000000"}))
    elif kind == "gzip_bomb":
        await _bomb(writer)
    elif kind == "half":
        writer.write(head(200, json | {"content-length": str(len(good))}) + good[: len(good) // 2])
    elif kind == "content_type":
        _whole(writer, "text/plain; charset=utf-8", good)
    elif kind == "html":
        _whole(writer, "text/html", b"<!doctype html><title>Welcome</title><h1>It works</h1>")
    else:
        _whole(writer, "application/json", b'{"model": "test", "choices": [')
    return 200


def _whole(writer: asyncio.StreamWriter, media_type: str, body: bytes) -> None:
    writer.write(head(200, {"content-type": media_type, "content-length": str(len(body))}) + body)


async def _drip(writer: asyncio.StreamWriter, start: bytes) -> None:
    writer.write(start)
    for _ in range(int(DRIP_MAX_S / DRIP_EVERY_S)):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(DRIP_EVERY_S)


async def _bomb(writer: asyncio.StreamWriter) -> None:
    """Send a body of a few hundred KiB that unpacks to `BOMB_MIB`, all of it at once."""
    packed = await asyncio.to_thread(_packed_bomb)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    writer.write(head(200, headers | {"content-length": str(len(packed))}) + packed)
    await writer.drain()


@functools.cache
def _packed_bomb() -> bytes:
    deflate = zlib.compressobj(wbits=31)
    spaces = b" " * 2**20
    return b"".join(deflate.compress(spaces) for _ in range(BOMB_MIB)) + deflate.flush()
