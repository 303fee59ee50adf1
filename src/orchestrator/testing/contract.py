"""What every provider must do, as tests that any provider can be given.

    class TestAcme(ProviderContract):
        def connect(self, environ):
            return Acme("", {**environ, "ACME_URL": environ["OPENAI_BASE_URL"]})

        answer = {"say": "Hello"}    # what a server of its protocol answers with

pytest runs it as it stands; this module does not import pytest. The server is the double of
`orchestrator.testing`, which speaks the protocols of ollama, openai and anthropic by itself, and
sends `answer` to others.
"""

from __future__ import annotations

import time
import unittest
from collections.abc import Mapping
from typing import Any, ClassVar

import anyio
import msgspec

from ..errors import FailureKind, StepError
from ..providers.base import Message, Progress, Provider, Reply, Request
from ..providers.failures import KIND_OF_STATUS
from . import ModelServer, serve

CANARY = "canary-key-0123456789"
BROKEN = {
    "reset": {FailureKind.NETWORK},
    "half": {FailureKind.NETWORK, FailureKind.PROVIDER},
    "html": {FailureKind.PROVIDER},
    "bad_json": {FailureKind.PROVIDER},
    "gzip_bomb": {FailureKind.PROVIDER},
    "endless": {FailureKind.PROVIDER, FailureKind.TIMEOUT},
}
"""Ways in which an exchange breaks, and the failure kinds that can be made of them."""


class ProviderContract:
    """Tests of one provider; a subclass says how it is made.

    Attributes:
        model: one that it accepts.
        answer: the JSON body that a server of its protocol answers with; None where the double
            speaks the protocol itself.
        served: False for a provider that calls no server; what needs one is skipped.
    """

    model: ClassVar[str] = "test-model"
    answer: ClassVar[Any] = None
    served: ClassVar[bool] = True
    server: ClassVar[ModelServer]
    _running: ClassVar[Any]

    def connect(self, environ: Mapping[str, str]) -> Provider:
        """Return the provider, pointed at the server that the environment names."""
        raise NotImplementedError

    @classmethod
    def setup_class(cls) -> None:
        """Start the server."""
        cls._running = serve()
        cls.server = cls._running.__enter__()

    @classmethod
    def teardown_class(cls) -> None:
        """Stop the server."""
        cls._running.__exit__(None, None, None)

    def setup_method(self) -> None:
        """Forget earlier calls and faults."""
        self.server.reset()

    # What it is

    def test_it_names_itself_and_where_it_is(self) -> None:
        provider = self._made()
        assert provider.name, "name is empty"
        assert not provider.base_url.endswith("/"), "base_url ends with a slash"
        assert "@" not in provider.base_url, "base_url holds credentials"
        assert isinstance(provider.simulated, bool)
        assert provider.adapter_version >= 1, "adapter_version counts from 1"

    def test_the_body_follows_from_the_request_alone(self) -> None:
        request = self._request()
        first = msgspec.json.encode(self._made().body(request))
        assert first == msgspec.json.encode(self._made().body(request)), "body() differs"

    def test_whatever_changes_the_answer_is_in_the_body(self) -> None:
        provider, request = self._made(), self._request()
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        changes: dict[str, dict[str, Any]] = {
            "messages": {"messages": (Message("user", "Another question"),)},
            "options": {"options": {"temperature": 0.25}},
            "schema": {"schema": schema},
        }
        for name, change in changes.items():
            other = msgspec.structs.replace(request, **change)
            assert provider.body(other) != provider.body(request), f"{name} is not in body()"

    def test_no_key_shows(self) -> None:
        provider = self._made()
        shown = f"{provider!r} {provider.base_url} {provider.body(self._request())}"
        assert CANARY not in shown, "a key shows in repr, base_url or body"

    # What it answers

    def test_a_call_brings_an_answer(self) -> None:
        reply = self._ask()
        assert reply.text, "the answer is empty"
        assert reply.complete, f"stop_reason is {reply.stop_reason!r}, not 'stop'"
        assert reply.model, "nobody has answered"
        assert reply.simulated is self._made().simulated

    def test_two_calls_overlap(self) -> None:
        self._needs_server()
        self._answers(2, delay_s=0.3)
        provider = self._made()

        async def both() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(2):
                    group.start_soon(self._once, provider)
            await provider.aclose()

        anyio.run(both)
        assert self.server.max_concurrency() == 2, "the second call waited for the first"

    def test_it_works_in_one_event_loop_after_another(self) -> None:
        provider = self._made()
        for _ in range(2):
            self._answers(1)
            assert anyio.run(self._asked_and_closed, provider).text

    # What goes wrong

    def test_each_status_is_one_failure_kind(self) -> None:
        self._needs_server()
        for status, kind in KIND_OF_STATUS.items():
            self.server.fail(status=status)
            error = self._failure(f"status {status}")
            assert error.kind is kind, f"status {status} is {error.kind}, not {kind}"
            self._told(error)

    def test_each_broken_exchange_is_a_failure(self) -> None:
        self._needs_server()
        for fault, kinds in BROKEN.items():
            self.server.fail(kind=fault)
            error = self._failure(fault)
            assert error.kind in kinds, f"{fault} is {error.kind}, not {' or '.join(kinds)}"
            self._told(error)

    def test_a_call_ends_at_its_deadline(self) -> None:
        self._needs_server()
        for fault in ("hang", "drip"):
            self.server.fail(kind=fault)
            began_s = time.monotonic()
            error = self._failure(fault, timeout_s=0.3)
            assert error.kind is FailureKind.TIMEOUT, f"{fault} is {error.kind}, not timeout"
            assert time.monotonic() - began_s < 30, f"{fault}: the deadline was not kept"

    def test_the_wait_that_a_server_asks_for_comes_with_the_error(self) -> None:
        self._needs_server()
        self.server.fail(status=429, headers={"retry-after": "7"})
        assert self._failure("retry-after").retry_after_s == 7

    def test_a_redirect_is_not_followed(self) -> None:
        self._needs_server()
        self.server.fail(status=307, headers={"location": f"{self.server.url}/v1/messages"})
        self._failure("a redirect")
        assert len(self.server.calls()) == 1, "the redirect was followed"

    def test_a_cancelled_call_leaves_it_usable(self) -> None:
        self._needs_server()
        provider = self._made()
        self.server.fail(kind="hang")
        self._answers(1)

        async def cancel_then_ask() -> Reply:
            with anyio.move_on_after(0.1):
                await self._once(provider)
            return await self._asked_and_closed(provider)

        assert anyio.run(cancel_then_ask).text

    # How it is done

    def _environ(self) -> dict[str, str]:
        environ = self.server.environ()
        return {name: CANARY if name.endswith("KEY") else text for name, text in environ.items()}

    def _made(self) -> Provider:
        return self.connect(self._environ())

    def _request(self) -> Request:
        return Request(model=self.model, messages=(Message("user", "Name three rivers"),))

    def _answers(self, times: int, delay_s: float | None = None) -> None:
        if self.answer is not None and self.served:
            self.server.fail(status=200, body=self.answer, times=times, delay_s=delay_s)
        elif delay_s is not None:
            self.server.fail(times=times, delay_s=delay_s)

    def _needs_server(self) -> None:
        if not self.served:
            raise unittest.SkipTest("this provider calls no server")

    async def _once(self, provider: Provider, timeout_s: float = 20.0) -> Reply:
        told: list[Progress] = []
        return await provider.complete(
            self._request(),
            timeout_s=timeout_s,
            idempotency_key="contract",
            idle_timeout_s=timeout_s,
            report=told.append,
        )

    async def _asked_and_closed(self, provider: Provider, timeout_s: float = 20.0) -> Reply:
        try:
            return await self._once(provider, timeout_s)
        finally:
            await provider.aclose()

    def _ask(self) -> Reply:
        self._answers(1)
        return anyio.run(self._asked_and_closed, self._made())

    def _failure(self, what: str, timeout_s: float = 20.0) -> StepError:
        try:
            anyio.run(self._asked_and_closed, self._made(), timeout_s)
        except StepError as error:
            return error
        except Exception as error:
            raise AssertionError(f"{what}: {error!r} came out, not a StepError") from error
        raise AssertionError(f"{what}: no failure came out")

    def _told(self, error: StepError) -> None:
        """Check that an error says who and what, and no key."""
        assert self._made().name in error.message, f"it does not name the provider: {error}"
        assert self.model in error.message, f"it does not name the model: {error}"
        assert error.hint, f"it does not say what to do: {error}"
        assert CANARY not in error.render(), "the error holds a key"
