"""The one seam to the network: JSON in, JSON out, and every failure a `StepError`.

The only module that imports httpx. What it promises beside that: one deadline over the whole
call (a server that drips bytes can't stretch it), bounded memory whatever is sent back, no
redirect followed, no key in any error or `repr`.

An httpx pool looks at all of its connections for every call, which costs more than the calls
themselves once a hundred are open. So each call here takes a *lane*, a client with a single
connection, and puts it back afterwards.
"""

from __future__ import annotations

import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpcore  # noqa: F401 - httpx would load it in the middle of the first call
import httpx
import msgspec
from anyio.lowlevel import RunVar

from .. import __version__
from ..errors import FailureKind, StepError
from . import failures

BODY_MAX_BYTES = 32 * 1024 * 1024
REFUSAL_MAX_BYTES = 64 * 1024
LANES_MAX = 256
CONNECT_MAX_S = 10.0

_JSON_TYPES = ("application/json", "application/x-ndjson", "text/json")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, whatever its status.

    Attributes:
        status: the HTTP status.
        headers: with lower-case names.
        value: the parsed body; None for a refusal that is no JSON.
        note: the first words of a refusal that is plain text.
    """

    status: int
    headers: Mapping[str, str]
    value: Any
    note: str = ""


class HttpClient:
    """Calls of one server.

    Usable from any event loop, with connections of its own in each; call `aclose` in the loop
    whose connections are to be closed.

    Args:
        base_url: without a trailing slash.
        headers: sent with every call; they may hold a key.
        loopback: whether the server is this machine: then no proxy setting applies.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], *, loopback: bool) -> None:
        self._base_url = base_url
        self._headers = {
            "user-agent": f"unified-orchestrator/{__version__}",
            "accept": "application/json",
            "accept-encoding": "gzip",
            "content-type": "application/json",
            **headers,
        }
        self._loopback = loopback
        # One set of lanes an event loop: connections can't move from one loop to another.
        self._lanes: RunVar[_Lanes | None] = RunVar("lanes", None)
        self._verify: ssl.SSLContext | bool | None = None

    def __repr__(self) -> str:
        return f"HttpClient({self._base_url!r})"

    async def post_json(
        self, path: str, body: Any, *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send `body` and return what came back, a refusal included.

        Raises:
            StepError: `timeout` after `timeout_s` in all; `network` if the exchange broke;
                `provider` for an answer that is not the JSON it should be.
        """
        content = msgspec.json.encode(body)
        failure: StepError
        try:
            with anyio.fail_after(timeout_s):
                async with self._lane() as lane:
                    return await self._exchange(lane, path, content, headers or {})
        except TimeoutError:
            failure = StepError(
                f"no complete answer within {timeout_s:g} s",
                kind=FailureKind.TIMEOUT,
                hint="raise `timeout_s`, or ask for a shorter answer",
            )
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as error:
            failure = translate(error)
        # Raised out here, so that it holds no reference to a request and its headers.
        raise failure

    async def aclose(self) -> None:
        """Close every connection; a call still running closes its own when it ends."""
        lanes = self._lanes.get()
        if lanes is None:
            return
        self._lanes.set(None)
        lanes.closed = True
        while lanes.free:
            await lanes.free.pop().aclose()

    async def _exchange(
        self, lane: httpx.AsyncClient, path: str, content: bytes, headers: Mapping[str, str]
    ) -> Answer:
        url = self._base_url + path
        async with lane.stream("POST", url, content=content, headers=dict(headers)) as response:
            refused = not 200 <= response.status_code < 300
            raw = await _read(response, refused=refused)
            return _answer(response.status_code, dict(response.headers), raw, refused=refused)

    @asynccontextmanager
    async def _lane(self) -> AsyncIterator[httpx.AsyncClient]:
        lanes = self._lanes.get()
        if lanes is None:
            lanes = _Lanes(self._new_lane)
            self._lanes.set(lanes)
        async with lanes.take() as lane:
            yield lane

    def _new_lane(self) -> httpx.AsyncClient:
        if self._verify is None:
            # Loading the certificates takes longer than a call: once, not for every lane; and
            # for plain http never, since no redirect can lead from there to TLS.
            secure = self._base_url.startswith("https://")
            self._verify = httpx.create_ssl_context() if secure else False
        return httpx.AsyncClient(
            headers=self._headers,
            verify=self._verify,
            http1=True,
            http2=False,
            follow_redirects=False,
            trust_env=not self._loopback,
            # Time is limited once, over the whole call; connecting has a limit of its own.
            timeout=httpx.Timeout(None, connect=CONNECT_MAX_S),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )


class _Lanes:
    """The connections of one client in one event loop."""

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self.free: list[httpx.AsyncClient] = []
        self.closed = False
        self._make = make
        self._limit = anyio.Semaphore(LANES_MAX)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[httpx.AsyncClient]:
        async with self._limit:
            lane = self.free.pop() if self.free else self._make()
            try:
                yield lane
            finally:
                lane.cookies.clear()
                if self.closed:
                    with anyio.CancelScope(shield=True):
                        await lane.aclose()
                else:
                    self.free.append(lane)


def translate(error: Exception) -> StepError:
    """Return the `StepError` for what httpx, or the system below it, raised."""
    cause = type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return StepError(f"no connection within {CONNECT_MAX_S:g} s", kind=FailureKind.TIMEOUT)
    if isinstance(error, httpx.ConnectError):
        return StepError(_why_unreachable(error), kind=FailureKind.NETWORK)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.InvalidURL):
        # Texts of these may quote a header; the name of the class says enough.
        return StepError(f"the request can't be sent ({cause})", kind=FailureKind.BAD_REQUEST)
    if isinstance(error, httpx.ProxyError):
        return StepError("the proxy refused the call", kind=FailureKind.NETWORK)
    if isinstance(error, httpx.TransportError | OSError):
        return StepError(
            f"the connection broke before the answer was complete ({cause})",
            kind=FailureKind.NETWORK,
        )
    return StepError(f"the answer can't be read ({cause})", kind=FailureKind.PROVIDER)


def _why_unreachable(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, socket.gaierror):
            return "the host name is not known"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "the server's certificate is not trusted"
        if isinstance(cause, OSError) and cause.strerror:
            return f"no connection: {cause.strerror}"
    return "no connection"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what lies below an error, the deepest first; bounded against cycles."""
    below: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue and len(below) < 64:
        cause = queue.pop(0)
        if cause is None:
            continue
        below.append(cause)
        queue += [cause.__cause__, cause.__context__]
        if isinstance(cause, BaseExceptionGroup):
            queue += cause.exceptions
    return reversed(below)


async def _read(response: httpx.Response, *, refused: bool) -> bytes:
    """Return the decoded body; of a refusal that is too long or broken, nothing."""
    limit = REFUSAL_MAX_BYTES if refused else BODY_MAX_BYTES
    try:
        return await _inflated(response, limit)
    except StepError:
        if refused:
            return b""
        raise


async def _inflated(response: httpx.Response, limit: int) -> bytes:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity", "gzip", "deflate"}:
        raise _unreadable(f"nobody asked for its encoding {failures.clean(encoding, 40)!r}")
    inflate = zlib.decompressobj(wbits=47) if encoding in {"gzip", "deflate"} else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        room = limit - len(body) + 1
        try:
            body += inflate.decompress(chunk, room) if inflate else chunk[:room]
        except zlib.error:
            raise _unreadable("its compression is broken") from None
        if len(body) > limit:
            raise _unreadable(f"it is longer than {limit // 2**20} MiB")
    if inflate and body and not inflate.eof:
        raise _unreadable("its compressed body ends too early")
    return bytes(body)


def _answer(status: int, headers: dict[str, str], raw: bytes, *, refused: bool) -> Answer:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = not media_type or media_type in _JSON_TYPES or media_type.endswith("+json")
    value: Any = None
    try:
        if is_json or refused:
            value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if not refused:
            raise _unreadable("it is no valid JSON") from None
    if not refused and not is_json:
        raise _unreadable(f"it is {failures.clean(media_type, 60)}, not JSON")
    note = ""
    if value is None and media_type == "text/plain":
        note = failures.clean(raw[:4096].decode("utf-8", "replace"))
    return Answer(status=status, headers=headers, value=value, note=note)


def _unreadable(cause: str) -> StepError:
    return StepError(
        f"the answer can't be read: {cause}",
        kind=FailureKind.PROVIDER,
        hint="check that the address is that of the model server, and not of a page or a proxy",
    )


def wait_asked_for(answer: Answer) -> float | None:
    """Return the seconds that a refusal asks us to wait, if it does."""
    return failures.retry_after_s(answer.headers, time.time())
