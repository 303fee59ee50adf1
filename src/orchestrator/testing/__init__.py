"""What tests of jobs and providers need: a model server on loopback that can be told to fail.

    with serve(delay_s=0.5) as server:
        server.fail(status=429, headers={"retry-after": "1"})
        ...  # run something with server.environ()
        assert server.max_concurrency() == 2

It is a process of its own with a real socket, so that what is tested is what users run. It
speaks the protocols of ollama, openai and anthropic; `python -m orchestrator.testing.server`
starts the same from a shell.
"""

from __future__ import annotations

import http.client
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

__all__ = ["Call", "ModelServer", "serve"]

START_MAX_S = 30.0
STOP_MAX_S = 5.0


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call that the server took.

    Attributes:
        method: as sent.
        path: as sent.
        headers: with lower-case names; keys appear as `[key]`.
        body: parsed.
        started_s: when it had come in, on the server's own monotonic clock.
        ended_s: when it was answered; None while it is not.
        status: what was answered; None where no status was sent.
        connection: the number of the connection it came in on, from 1.
        concurrency: how many calls were in progress when it came in, itself included.
        fault: the fault it met, if any.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    started_s: float
    ended_s: float | None = None
    status: int | None = None
    connection: int
    concurrency: int
    fault: str | None = None


class ModelServer:
    """A running server, seen from outside."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def __repr__(self) -> str:
        return f"ModelServer({self.url!r}, pid={self.pid})"

    def environ(self) -> dict[str, str]:
        """Return the variables that make every provider call this server, with made-up keys."""
        return {
            "OLLAMA_HOST": self.url,
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_KEY": "test-key-openai",
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "test-key-anthropic",
            "MLX_BASE_URL": f"{self.url}/v1",
        }

    def calls(self) -> list[Call]:
        """Return every call of a model since the start or the last `reset`, in order."""
        return msgspec.json.decode(self._control("GET", "/__calls"), type=list[Call])

    def max_concurrency(self) -> int:
        """Return the greatest number of calls that were in progress at once."""
        return max((call.concurrency for call in self.calls()), default=0)

    def fail(self, **fault: Any) -> None:
        """Let the next calls fail; the fields are those of `orchestrator.testing.faults.Fault`."""
        self._control("POST", "/__faults", [fault])

    def reset(self) -> None:
        """Forget all calls and all faults."""
        self._control("DELETE", "/__faults")
        self._control("DELETE", "/__calls")

    def _control(self, method: str, path: str, body: Any = None) -> bytes:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            content = None if body is None else msgspec.json.encode(body)
            connection.request(method, path, content)
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"{method} {path}: {raw.decode('utf-8', 'replace')}")
        return raw


@contextmanager
def serve(*, delay_s: float = 0.0) -> Iterator[ModelServer]:
    """Start a server that answers each call after `delay_s`, and stop it at the end.

    Raises:
        RuntimeError: if it does not come up.
    """
    command = [sys.executable, "-m", "orchestrator.testing.server"]
    command += ["--port", "0", "--delay", str(delay_s), "--until-eof"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    # Both ends are pipes: mypy can't know it, and the process ends when its stdin does.
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], START_MAX_S)
        url = process.stdout.readline().strip() if ready else ""
        if not url:
            raise RuntimeError(f"the model server did not start: {' '.join(command)}")
        yield ModelServer(url, process.pid)
    finally:
        process.stdin.close()
        try:
            process.wait(STOP_MAX_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
