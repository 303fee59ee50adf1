"""The one seam to the network: JSON in, JSON or a stream out, every failure a `StepError`.

The only module that imports httpx. What it promises beside that: one deadline over the whole
call (a server that drips bytes can't stretch it), a limit to the silence of an answer that has
begun, bounded memory whatever is sent back, no redirect followed, no key in any error or `repr`.

An httpx pool looks at all of its connections for every call, which costs more than the calls
themselves once a hundred are open. So each call here takes a *lane* with a single connection, and
puts it back afterwards. A lane is httpx's transport and not its client, whose redirects, cookies
and authentication are not wanted, and cost a third of a call; but for a proxy, which only the
client knows how to choose.
"""

from __future__ import annotations

import functools
import math
import socket
import ssl
import time
import urllib.request
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
from . import bodies, failures
from .bodies import Answer, Sink

LANES_MAX = 256
CONNECT_MAX_S = 10.0
LINGER_S = 0.5
"""How long a stream that has said its end may take to end in fact, so that its connection can be
used again."""


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
        self._url = functools.cache(lambda path: httpx.URL(self._base_url + path))

    def __repr__(self) -> str:
        return f"HttpClient({self._base_url!r})"

    async def post_json(
        self,
        path: str,
        body: Any,
        *,
        timeout_s: float,
        idle_timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        sink: Sink | None = None,
    ) -> Answer:
        """Send `body` and return what came back, a refusal included.

        Args:
            path: below the base URL.
            body: any JSON value.
            timeout_s: for all of it.
            idle_timeout_s: for a body that has begun and says nothing more.
            headers: of this call.
            sink: takes in the events of an answer that is a stream; without it such an answer is
                an error.

        Raises:
            StepError: `timeout` after `timeout_s` in all, or of silence; `network` if the
                exchange broke; `provider` for an answer that is not what it should be.
        """
        content = msgspec.json.encode(body)
        return await self._send("POST", path, content, timeout_s, idle_timeout_s, headers, sink)

    async def get_json(self, path: str, *, timeout_s: float) -> Answer:
        """Fetch a small JSON value; what can go wrong is what can with `post_json`."""
        return await self._send("GET", path, None, timeout_s, None, None, None)

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        timeout_s: float,
        idle_timeout_s: float | None,
        headers: Mapping[str, str] | None,
        sink: Sink | None,
    ) -> Answer:
        failure: StepError
        try:
            request = self._request(method, path, content, headers or {})
            with anyio.fail_after(timeout_s):
                async with self._lane() as lane:
                    return await _exchange(lane, request, idle_timeout_s, sink)
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

    def _request(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Request:
        return httpx.Request(
            method,
            self._url(path),
            headers={**self._headers, **headers},
            content=content,
            # Time is limited once, over the whole call; connecting has a limit of its own.
            extensions={"timeout": {"connect": CONNECT_MAX_S}},
        )

    @asynccontextmanager
    async def _lane(self) -> AsyncIterator[_Lane]:
        lanes = self._lanes.get()
        if lanes is None:
            lanes = _Lanes(self._new_lane)
            self._lanes.set(lanes)
        async with lanes.take() as lane:
            yield lane

    def _new_lane(self) -> _Lane:
        if self._verify is None:
            # Loading the certificates takes longer than a call: once, not for every lane; and
            # for plain http never, since no redirect can lead from there to TLS.
            secure = self._base_url.startswith("https://")
            self._verify = httpx.create_ssl_context() if secure else False
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        if self._loopback or not urllib.request.getproxies():
            return _Lane(httpx.AsyncHTTPTransport(verify=self._verify, limits=limits))
        client = httpx.AsyncClient(verify=self._verify, follow_redirects=False, limits=limits)
        return _Lane(client)


class _Lane:
    """One connection: a transport, or a client where a proxy may have to be chosen."""

    def __init__(self, way: httpx.AsyncHTTPTransport | httpx.AsyncClient) -> None:
        self._way = way

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the response's body is still to come."""
        if isinstance(self._way, httpx.AsyncHTTPTransport):
            return await self._way.handle_async_request(request)
        response = await self._way.send(request, stream=True)
        self._way.cookies.clear()
        return response

    async def aclose(self) -> None:
        """Close the connection."""
        await self._way.aclose()


class _Lanes:
    """The connections of one client in one event loop."""

    def __init__(self, make: Callable[[], _Lane]) -> None:
        self.free: list[_Lane] = []
        self.closed = False
        self._make = make
        self._limit = anyio.Semaphore(LANES_MAX)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[_Lane]:
        async with self._limit:
            lane = self.free.pop() if self.free else self._make()
            try:
                yield lane
            finally:
                if self.closed:
                    with anyio.CancelScope(shield=True):
                        await lane.aclose()
                else:
                    self.free.append(lane)


async def _exchange(
    lane: _Lane,
    request: httpx.Request,
    idle_timeout_s: float | None,
    sink: Sink | None,
) -> Answer:
    response = await lane.send(request)
    try:
        with anyio.CancelScope() as silence:
            heard = _watch(silence, idle_timeout_s)
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers.raw
            }
            # Not `aiter_raw`, which keeps accounts of its own for every chunk.
            assert isinstance(response.stream, httpx.AsyncByteStream)
            chunks = aiter(response.stream)
            if bodies.streams(response.status_code, headers) and sink is not None:
                await bodies.pump(headers, chunks, sink, heard)
                with anyio.move_on_after(LINGER_S):
                    async for _ in chunks:
                        pass
                return Answer(status=response.status_code, headers=headers, streamed=True)
            return await bodies.whole(response.status_code, headers, chunks, heard)
    finally:
        await response.aclose()
    # Only a scope that was cancelled comes here.
    raise StepError(
        f"the answer stopped: nothing came for {idle_timeout_s:g} s",
        kind=FailureKind.TIMEOUT,
        hint="raise `idle_timeout_s`, or see what the server is doing",
    )


def _watch(silence: anyio.CancelScope, idle_timeout_s: float | None) -> Callable[[], None]:
    """Return what is to be called for each chunk, so that the scope ends after a silence.

    Moving a deadline costs more than reading a chunk: it is moved now and then, and lies a little
    later than was asked for.
    """
    if idle_timeout_s is None:
        return lambda: None
    slack_s = idle_timeout_s / 16
    moved_s = -math.inf

    def heard() -> None:
        nonlocal moved_s
        now_s = anyio.current_time()
        if now_s - moved_s >= slack_s:
            moved_s = now_s
            silence.deadline = now_s + idle_timeout_s + slack_s

    return heard


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
            hint="nothing of it is kept; if it happens again, see the server's own log",
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


def wait_asked_for(answer: Answer) -> float | None:
    """Return the seconds that a refusal asks us to wait, if it does."""
    return failures.retry_after_s(answer.headers, time.time())
