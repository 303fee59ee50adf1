"""What all providers behind HTTP have in common: one call, told apart only by wire format.

A provider says where its servers are (`site`), how a request is written (`body`, `headers`)
and how an answer is read (`reply`); everything that can go wrong is dealt with here.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ..errors import ConfigError, FailureKind, StepError
from . import failures
from .address import Located, Secret, Site, locate
from .base import Reply, Report, Request

if TYPE_CHECKING:
    from .assembly import Assembly
    from .bodies import Answer
    from .http import HttpClient

T = TypeVar("T")

SECRET_MIN = 8  # characters; a shorter key is a stand-in ("x", "none"), and occurs in any text

STOP_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "refusal": "content_filter",
}
"""Vendors' words for the four stop reasons; a word that is not here stays as it is."""

_HINTS = {
    FailureKind.RATE_LIMIT: "wait, or lower `concurrency`",
    FailureKind.OVERLOADED: "the server is busy: try again later",
    FailureKind.CONTEXT_LENGTH: "shorten the prompt, or take a model with a longer context",
    FailureKind.BUDGET: "the account's quota is used up: see its billing page",
    FailureKind.TIMEOUT: "raise `timeout_s`, or ask for a shorter answer",
    FailureKind.PROVIDER: "see the server's own log; if it lasts, take another server or model",
    FailureKind.BAD_REQUEST: "see what the server says about the request, and change the step",
}


class _Model(msgspec.Struct):
    id: str = ""


class _Listing(msgspec.Struct):
    data: list[_Model] = []


class Served(abc.ABC):
    """A provider behind HTTP.

    Args:
        base_url: of a spec, or None.
        environ: where the variables of `site` are looked up.

    Raises:
        ConfigError: if the address can't be used, or a key would go where it must not.
    """

    site: Site
    path: str
    list_path: str = "/models"
    adapter_version: int = 2  # 2: answers are streamed
    simulated: bool = False
    key_always_needed: bool = False
    start_hint: str = ""

    def __init__(self, base_url: str | None, environ: Mapping[str, str]) -> None:
        located: Located = locate(self.site, base_url, environ)
        self.name: str = self.site.provider
        self.base_url: str = located.address.base_url
        self._located = located
        self._client: HttpClient | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    @abc.abstractmethod
    def body(self, request: Request) -> dict[str, Any]:
        """Return the exact JSON body that `complete` would send."""

    @abc.abstractmethod
    def assembly(self, request: Request, report: Report | None) -> Assembly:
        """Return what puts a streamed answer together."""

    @abc.abstractmethod
    def reply(self, answer: Answer, request: Request) -> Reply:
        """Return the reply that a successful answer in one piece holds.

        Raises:
            StepError: if the model refused, or there is no answer in it.
            msgspec.ValidationError: if it has another form than the wire format says.
        """

    def headers(self, key: Secret | None) -> dict[str, str]:
        """Return the headers of every call, the key among them."""
        return {"authorization": f"Bearer {key.reveal()}"} if key else {}

    def call_headers(self, idempotency_key: str) -> dict[str, str]:
        """Return the headers of one call."""
        return {"idempotency-key": idempotency_key}

    def check(self) -> None:
        """Raise ConfigError if a call would have to go without the key it needs."""
        variable = self.site.key_variable
        needed = self.key_always_needed or self._located.vendor
        if variable is None or not needed or self._located.key is not None:
            return
        if self._located.withheld:
            raise ConfigError(
                f"{variable} does not go to an address that only the spec names",
                place=f"provider {self.name}, {self.base_url}",
                hint=f"set {self.site.variable}={self.base_url} in the environment",
            )
        raise ConfigError(
            f"{variable} is not set",
            place=f"provider {self.name}, {self.base_url}",
            hint=f"set {variable}, or try without a model: `provider: offline`",
        )

    async def complete(
        self,
        request: Request,
        *,
        timeout_s: float,
        idempotency_key: str,
        idle_timeout_s: float | None = None,
        report: Report | None = None,
    ) -> Reply:
        """Make the call once; a server that answers in one piece is understood as well."""
        body = self.body(request)
        failure: StepError
        try:
            coming = self.assembly(request, report)
            answer = await self._open().post_json(
                self.path,
                body,
                timeout_s=timeout_s,
                idle_timeout_s=idle_timeout_s,
                headers=self.call_headers(idempotency_key),
                sink=coming,
            )
            if answer.streamed:
                coming.ended()
                if not coming.done:
                    raise _cut_off(coming)
                return coming.reply(answer.headers)
            complaint = failures.complaint(answer.value)
            if not 200 <= answer.status < 300 or complaint is not None:
                raise self._refused(answer, complaint, request)
            return self.reply(answer, request)
        except msgspec.ValidationError as error:
            cause = f"the answer has an unknown form: {failures.clean(str(error))}"
            failure = StepError(cause, kind=FailureKind.PROVIDER)
        except StepError as error:
            failure = error
        # Raised out here, so that it does not carry the other error, which may quote a key.
        raise self._named(failure, request)

    async def models(self, *, timeout_s: float) -> list[str]:
        """Return the models of a server of one's own, the one to take first in front.

        Raises:
            ConfigError: this is the vendor's server.
            StepError: it can't be asked.
        """
        if self._located.vendor:
            raise ConfigError(
                f"`model: auto` is for servers of your own, and this is {self.name}'s",
                place=f"provider {self.name}, {self.base_url}",
                hint="name the model: the vendor's differ in what they cost",
            )
        listed = msgspec.convert(await self._listed(self.list_path, timeout_s), _Listing)
        return [model.id for model in listed.data if model.id]

    async def _listed(self, path: str, timeout_s: float) -> Any:
        """Fetch a listing."""
        failure: StepError
        request = Request(model="", messages=())
        try:
            answer = await self._open().get_json(path, timeout_s=timeout_s)
            complaint = failures.complaint(answer.value)
            if 200 <= answer.status < 300 and isinstance(answer.value, dict):
                return answer.value
            failure = self._refused(answer, complaint, request)
        except StepError as error:
            failure = error
        raise self._named(failure, request, path)

    def warm(self) -> None:
        """Load the HTTP client."""
        self._open()

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _open(self) -> HttpClient:
        if self._client is None:
            # Here and not above: a run that is answered from the cache needs no httpx.
            from .http import HttpClient

            self._client = HttpClient(
                self.base_url,
                self.headers(self._located.key),
                loopback=self._located.address.loopback,
            )
        return self._client

    def _refused(
        self, answer: Answer, complaint: failures.Complaint | None, request: Request
    ) -> StepError:
        """Return the error for an answer that says no."""
        from .http import wait_asked_for

        complaint = complaint or failures.Complaint(answer.note)
        kind = failures.kind_of(answer.status, complaint.codes)
        said = f": {complaint.message}" if complaint.message else ""
        code = f" ({failures.clean(complaint.codes[0], 60)})" if complaint.codes else ""
        return StepError(
            f"HTTP {answer.status}{code}{said}",
            kind=kind,
            hint=self._hint(answer.status, kind, request.model),
            retry_after_s=wait_asked_for(answer),
        )

    def _hint(self, status: int, kind: FailureKind, model: str) -> str:
        if 300 <= status < 400:
            return "redirects are not followed: set the server's own address"
        if kind is FailureKind.AUTH:
            variable = self.site.key_variable
            return f"check {variable}" if variable else "this server asks for a key"
        if status == 404:
            return self.missing_hint(model)
        return _HINTS.get(kind, "")

    def missing_hint(self, model: str) -> str:
        """Return what to do about a model, or a path, that the server does not know."""
        return f"check the model name {model!r} and the address"

    def _named(self, error: StepError, request: Request, path: str = "") -> StepError:
        """Return `error` with provider, model and URL in it, and without the key."""
        asked = f"model {request.model or '(none)'}" if not path else "which models it has"
        message = f"{self.name}, {asked}: {error.message}"
        key = self._located.key
        if key is not None and len(key.reveal()) >= SECRET_MIN:
            message = message.replace(key.reveal(), "[key]")
        unreachable = error.kind is FailureKind.NETWORK and not error.hint
        return StepError(
            message,
            kind=error.kind,
            place=self.base_url + (path or self.path),
            hint=self._start_hint() if unreachable else error.hint or _HINTS.get(error.kind, ""),
            retry_after_s=error.retry_after_s,
        )

    def _start_hint(self) -> str:
        setting = f"set {self.site.variable} to where it runs"
        if self._located.vendor:
            return f"check the network, or {setting}"
        return f"{self.start_hint}, or {setting}" if self.start_hint else setting


def _cut_off(coming: Assembly) -> StepError:
    much = f"{len(coming.text):,} characters had come" if coming.begun else "nothing had come"
    return StepError(
        f"the stream was cut off before its end ({much})",
        kind=FailureKind.NETWORK,
        hint="nothing of it is kept; if it happens again, see the server's own log",
    )


def normal_stop(reason: str | None) -> str | None:
    """Return a vendor's stop reason in our words."""
    return reason if reason is None else STOP_REASONS.get(reason, reason)


def refused_by_model(text: str) -> StepError:
    """Return the error for an answer that was withheld."""
    said = f": {failures.clean(text)}" if text else ""
    return StepError(
        f"the model or its filter withheld the answer{said}",
        kind=FailureKind.CONTENT_FILTER,
        hint="change the prompt",
    )


def no_answer(cause: str) -> StepError:
    """Return the error for a successful call without an answer in it."""
    return StepError(f"the answer is empty: {cause}", kind=FailureKind.PROVIDER)


def not_taken(name: str, what: str) -> StepError:
    """Return the error for a file that a wire format has no place for."""
    return StepError(
        f"{name} takes no {what.removeprefix('a ').removeprefix('an ')} with a prompt",
        kind=FailureKind.BAD_REQUEST,
        place=f"provider {name}",
        hint="take another provider, or put the text of the file into the prompt",
    )


def typed(value: Any, form: type[T]) -> T:
    """Return a parsed answer as `form`, whose fields all have defaults."""
    return msgspec.convert(value, form, strict=False)


def with_options(
    body: dict[str, Any],
    options: Mapping[str, Any],
    *,
    renamed: Mapping[str, str] | None = None,
    reserved: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Return `body` with the options in it, under the provider's names.

    Raises:
        StepError: for an option that would change what the orchestrator itself sets.
    """
    for name, value in options.items():
        if name in body or name in reserved:
            raise StepError(
                f"the option `{name}` can't be set: it belongs to the request itself",
                kind=FailureKind.BAD_REQUEST,
                place="options",
                hint=f"remove `{name}` from `options`",
            )
        if value is not None:
            body[(renamed or {}).get(name, name)] = value
    return body


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have a value: `null` in a spec means the default."""
    return {name: value for name, value in options.items() if value is not None}


def as_list(stop: Any) -> Any:
    """Return stop words as the list that most wire formats want."""
    return [stop] if isinstance(stop, str) else stop
