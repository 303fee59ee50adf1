"""What the test server can do wrong, on request."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
import zlib
from collections.abc import Iterable
from typing import Any, Literal, get_args

import msgspec

BOMB_MIB = 300
DRIP_EVERY_S = 0.02
DRIP_MAX_S = 600.0
ENDLESS_BYTES = 4 << 30

_CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"

Exchange = Literal[
    "reset",
    "drip",
    "half",
    "html",
    "gzip_bomb",
    "bad_json",
    "content_type",
    "hang",
    "endless",
    "endless_headers",
    "endless_line",
]
Streamed = Literal["cut", "cut_well", "error_event", "stall", "no_usage", "whole", "slow"]
STREAMED: tuple[Streamed, ...] = get_args(Streamed)


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
            a wrong `content_type`; `hang` until the client leaves; a body, headers or a line
            of a stream that are `endless`. Or break a stream, where one was asked for: `cut` the
            connection after `after` pieces; `cut_well`, with a proper end of the body there; an
            `error_event` there, with `code`; `stall` there; leave the usage out (`no_usage`);
            send the answer `whole`, as one body; or `slow`, `piece_s` between the pieces.
        after: how many pieces of a stream come before its fault.
        piece_s: seconds between the pieces.
        times: how many calls it meets.
        delay_s: instead of the server's own delay.
        path: only for calls of this path.
        match: only for calls whose body contains this.
    """

    status: int | None = None
    body: Any = None
    code: str | None = None
    headers: dict[str, str] = {}
    kind: Exchange | Streamed | None = None
    after: int = 3
    piece_s: float = 0.0
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
    kind: Exchange | Streamed,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    good: bytes,
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
    elif kind == "endless":
        await _endless(writer, head(200, json | {"transfer-encoding": "chunked"}), _CHUNK)
    elif kind == "endless_headers":
        await _endless(writer, b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"y" * 1000 + b"\r\n")
    elif kind == "endless_line":
        stream = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        await _endless(writer, head(200, stream), _CHUNK)
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


async def _endless(writer: asyncio.StreamWriter, start: bytes, more: bytes) -> None:
    """Write on and on, as fast as the client reads, up to `ENDLESS_BYTES`."""
    writer.write(start)
    for _ in range(ENDLESS_BYTES // len(more)):
        writer.write(more)
        await writer.drain()


async def broken_stream(
    fault: Fault, writer: asyncio.StreamWriter, pieces: Iterable[bytes], error: bytes
) -> bool:
    """Send the pieces of a stream, and break it as `fault` says; return whether it is whole.

    Args:
        fault: of one of the kinds `STREAMED`.
        writer: of the connection; the head has been sent.
        pieces: the right ones.
        error: the event that says what went wrong.
    """
    for number, piece in enumerate(pieces):
        if number == fault.after and fault.kind in ("cut", "cut_well", "error_event", "stall"):
            if fault.kind == "error_event":
                writer.write(chunk(error))
            elif fault.kind == "stall":
                await writer.drain()
                await asyncio.sleep(DRIP_MAX_S)
            if fault.kind != "cut":
                writer.write(b"0\r\n\r\n")
            return False
        writer.write(chunk(piece))
        await writer.drain()
        if fault.piece_s:
            await asyncio.sleep(fault.piece_s)
    writer.write(b"0\r\n\r\n")
    return True


def chunk(piece: bytes) -> bytes:
    """Return one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


async def _bomb(writer: asyncio.StreamWriter) -> None:
    """Send a body of a few hundred KiB that unpacks to `BOMB_MIB`, all of it at once."""
    packed = await asyncio.to_thread(_packed_bomb)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    writer.write(head(200, headers | {"content-length": str(len(packed))}) + packed)
    await writer.drain()


@functools.cache
def _packed_bomb() -> bytes:
    """Return the bomb: one packed MiB again and again, which takes no time to make."""
    spaces = b" " * 2**20
    deflate = zlib.compressobj(wbits=-15)
    block = deflate.compress(spaces) + deflate.flush(zlib.Z_FULL_FLUSH)
    check = 0
    for _ in range(BOMB_MIB):
        check = zlib.crc32(spaces, check)
    head = b"\x1f\x8b\x08" + bytes(5) + b"\x02\xff"
    end = zlib.compressobj(wbits=-15).flush()
    return head + block * BOMB_MIB + end + struct.pack("<II", check, BOMB_MIB * 2**20)
