"""A model server for tests: `python -m orchestrator.testing.server --port 0 --delay 0.5`.

Prints its URL and answers `POST /api/chat` (ollama), `POST /v1/chat/completions` (openai, mlx)
and `POST /v1/messages` (anthropic), each after the delay and all at once, on 127.0.0.1 only.

Its own paths: `GET /__calls` (what was called, as JSON), `DELETE /__calls`, `POST /__faults` (a
list of faults for the calls to come, see `faults.Fault`), `DELETE /__faults`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

import msgspec

from . import faults, wire
from .faults import Fault, head

BODY_MAX_BYTES = 64 * 1024 * 1024
HEAD_MAX_BYTES = 64 * 1024
CALLS_MAX = 100_000
BACKLOG = 1024

_CREDENTIALS = ("authorization", "x-api-key", "cookie", "proxy-authorization")


class Incoming(msgspec.Struct, frozen=True):
    """One HTTP request; header names are in lower case."""

    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    """All calls and all faults to come; one instance serves every connection."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._calls: list[dict[str, Any]] = []
        self._faults: list[Fault] = []
        self._running = 0
        self._connections = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side has enough."""
        self._connections += 1
        number = self._connections
        try:
            while True:
                request = await _incoming(reader, number)
                if request is None or not await self._serve(request, reader, writer):
                    break
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client has gone, or does not speak HTTP
        except asyncio.CancelledError:
            pass  # the server stops; asyncio would print a traceback for each open connection
        finally:
            writer.close()

    async def _serve(
        self, request: Incoming, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; return whether the connection can go on."""
        if request.path.startswith("/__"):
            status, value = self._controlled(request)
            _write(writer, status, value)
            return True
        kind = wire.protocol(request.path)
        if kind is None and any(fault.fits(request.path, request.body) for fault in self._faults):
            kind = "openai"  # of another protocol only the faults are known
        if kind is None or request.method != "POST":
            listing = wire.models(request.path) if request.method == "GET" else None
            missing = wire.refusal(kind, 404, f"{request.method} {request.path} is not known")
            _write(writer, 200 if listing else 404, listing or missing)
            return True
        call = self._began(request)
        try:
            return await self._chat(kind, request, call, reader, writer)
        finally:
            self._running -= 1
            call["ended_s"] = time.monotonic()

    async def _chat(
        self,
        kind: str,
        request: Incoming,
        call: dict[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        fault = self._met(request)
        call["fault"] = fault.label if fault else None
        own = fault.delay_s if fault else None
        await asyncio.sleep(self._delay_s if own is None else own)
        asked = {name.lower(): value for name, value in fault.headers.items()} if fault else {}
        extra = _extra(kind, call) | asked
        if fault and fault.kind and fault.kind not in faults.STREAMED:
            good = _good(kind, request)
            call["status"] = await faults.misbehave(fault.kind, reader, writer, good)
            return False
        if fault and fault.status:
            call["status"] = fault.status
            said = f"status {fault.status} was asked for"
            refusal = wire.refusal(kind, fault.status, said, fault.code)
            _write(writer, fault.status, refusal if fault.body is None else fault.body, extra)
            return True
        problem = _problem(kind, request)
        if problem:
            call["status"] = problem[0]
            _write(writer, problem[0], wire.refusal(kind, *problem), extra)
            return True
        call["status"] = 200
        return await _answer(writer, kind, request, fault or Fault(), extra)

    def _began(self, request: Incoming) -> dict[str, Any]:
        self._running += 1
        headers = {
            name: "[key]" if name in _CREDENTIALS else value
            for name, value in request.headers.items()
        }
        call = {
            "method": request.method,
            "path": request.path,
            "headers": headers,
            "body": _parsed(request.body),
            "started_s": time.monotonic(),
            "connection": request.connection,
            "concurrency": self._running,
            "number": len(self._calls),
        }
        if len(self._calls) < CALLS_MAX:
            self._calls.append(call)
        return call

    def _met(self, request: Incoming) -> Fault | None:
        for fault in self._faults:
            if fault.fits(request.path, request.body):
                fault.times -= 1
                return fault
        return None

    def _controlled(self, request: Incoming) -> tuple[int, Any]:
        match (request.method, request.path):
            case ("GET", "/__calls"):
                return 200, self._calls
            case ("DELETE", "/__calls"):
                self._calls = []
            case ("DELETE", "/__faults"):
                self._faults = []
            case ("POST", "/__faults"):
                try:
                    self._faults += msgspec.json.decode(request.body, type=list[Fault])
                except msgspec.DecodeError as error:
                    return 400, {"error": str(error)}
            case _:
                return 404, {"error": f"{request.method} {request.path} is not known"}
        return 200, {}


async def _incoming(reader: asyncio.StreamReader, connection: int) -> Incoming | None:
    """Read one request; None if the client has closed, or sent what is no HTTP/1.1 request."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        return None
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > BODY_MAX_BYTES or "transfer-encoding" in headers:
        return None
    body = await reader.readexactly(int(length))
    return Incoming(connection, words[0], words[1].partition("?")[0], headers, body)


def _problem(kind: str, request: Incoming) -> tuple[int, str] | None:
    """Return status and message of what the real server would refuse."""
    # Its clients have sent the key in either header, depending on their version.
    keyed = request.headers.get("x-api-key") or request.headers.get("authorization")
    if kind == "anthropic" and not keyed:
        return 401, "x-api-key header is required"
    try:
        wire.check(kind, _parsed(request.body), request.headers)
    except wire.BadRequest as error:
        return 400, str(error)
    return None


def _good(kind: str, request: Incoming) -> bytes:
    body = _parsed(request.body)
    if _problem(kind, request):
        return b"{}"
    return msgspec.json.encode(wire.reply(kind, wire.say(kind, body)))


def _parsed(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _extra(kind: str, call: dict[str, Any]) -> dict[str, str]:
    """Return the headers in which a vendor names the call."""
    ident = f"req_{call['number']:06d}"
    return {"openai": {"x-request-id": ident}, "anthropic": {"request-id": ident}}.get(kind, {})


def _write(
    writer: asyncio.StreamWriter, status: int, value: Any, extra: dict[str, str] | None = None
) -> None:
    if isinstance(value, str):
        body, media_type = value.encode(), "text/plain; charset=utf-8"
    else:
        body, media_type = msgspec.json.encode(value), "application/json"
    headers = {"content-type": media_type, "content-length": str(len(body))}
    writer.write(head(status, headers | (extra or {})) + body)


async def _answer(
    writer: asyncio.StreamWriter, kind: str, request: Incoming, fault: Fault, extra: dict[str, str]
) -> bool:
    """Send the right answer, or a stream with a fault; return whether the connection can go on."""
    body = msgspec.json.decode(request.body)
    said = wire.say(kind, body)
    if not wire.streamed(kind, body) or fault.kind == "whole":
        _write(writer, 200, wire.reply(kind, said), extra)
        return True
    if fault.kind == "no_usage":
        body.pop("stream_options", None)
    media_type = "application/x-ndjson" if kind == "ollama" else "text/event-stream"
    headers = {"content-type": media_type, "transfer-encoding": "chunked"}
    pieces = wire.stream(kind, said, body)
    if fault.kind:
        writer.write(head(200, headers | extra))
        error = wire.error_event(kind, "an error was asked for", fault.code)
        return await faults.broken_stream(fault, writer, pieces, error)
    # In one write: a test of a thousand calls is about the client.
    whole = b"".join(faults.chunk(piece) for piece in pieces)
    writer.write(head(200, headers | extra) + whole + b"0\r\n\r\n")
    return True


async def run(port: int, delay_s: float, *, until_eof: bool) -> None:
    """Serve until the process is ended, or until its stdin is closed."""
    server = Server(delay_s)
    listening = await asyncio.start_server(
        server.connection, "127.0.0.1", port, limit=HEAD_MAX_BYTES, backlog=BACKLOG
    )
    bound = listening.sockets[0].getsockname()[1]
    sys.stdout.write(f"http://127.0.0.1:{bound}\n")
    sys.stdout.flush()
    over = asyncio.Event()
    if until_eof:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), over.set)
    await over.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.testing.server")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free one")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin is closed")
    arguments = parser.parse_args()
    try:
        asyncio.run(run(arguments.port, arguments.delay, until_eof=arguments.until_eof))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
