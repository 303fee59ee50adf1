"""One call of a model, from its request to the durable answer.

A call is `llm.request`, durable before anything is sent, and `llm.response`. The answer is in
the cache, durable, before `llm.response` is: a process that dies in between finds it there and
does not pay twice.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import anyio
import msgspec

from eventlog.codec import Stamper

from ..beside import beside, in_thread
from ..blobs import ref_of
from ..budget import Amounts, Budget
from ..cache import Cache, Call
from ..cachefile import Entry
from ..cachepolicy import CachePolicy
from ..errors import ConfigError, FailureKind, StepError
from ..events import Answered, Asked, BlobRef, CacheMiss, LLMRequest, LLMResponse
from ..masking import NOTHING, Masker
from ..prices import PriceTable, Quote, built_in
from ..providers.base import Progress, Provider, Reply, Request
from ..providers.gate import Gates, NotCalled, Passage
from ..purse import Hold, Purse
from ..secrecy import masked, untold
from .answer import answered_by, problem_of, quote_of
from .base import Attempt

DEFAULT_TIMEOUT_S = 600.0
"""For one call, where neither the step nor the spec says how long it may take."""

GRACE_S = 1.0
LEAST_S = 0.001
"""For a second call, where the first one took all the time of the attempt."""


class Spent(msgspec.Struct):
    """How long the calls of an attempt took so far; waits before them are not in it."""

    seconds: float = 0.0


class Params(msgspec.Struct, frozen=True, kw_only=True):
    """What an llm step asks, and of whom."""

    request: Request
    call: Call
    provider: Provider
    save_as: str
    policy: CachePolicy
    idle_timeout_s: float
    mends: Params | None = None
    """The call whose answer could not be used, if this one asks for a better one."""
    problem: str = ""
    spent: Spent = msgspec.field(default_factory=Spent)
    """Of the attempt's time: both calls share it."""

    @property
    def model(self) -> str:
        """The model as the request names it: the same in every event of a call."""
        return str(self.call.components["model"])

    def answered(self, attempt: Attempt, *, adopted: bool = False) -> Answered:
        """Return what the end of a call says, whatever came of it."""
        return Answered(
            provider=self.provider.name,
            model=self.model,
            cache_key=self.call.key,
            attempt=attempt.number,
            simulated=self.provider.simulated,
            adopted=adopted,
        )


class Caller:
    """Makes the calls of a job's llm steps, keeps their answers, and tells of both.

    Args:
        cache: the job's.
        put_blob: stores a request or response and returns its reference.
        project: the job's, for the entries that are kept.
        prices: what calls cost.
        discreet: keep no text of a prompt or an answer, not even in an error.
        masker: takes known secrets out of answers and errors: a server may send them back.
        gates: what calls wait at; without them they don't.
        purse: keeps them within the job's budget.
        report: told of a step's answer while it comes in.
        monotonic, clock: seconds, and nanoseconds since 1970.
    """

    def __init__(
        self,
        cache: Cache,
        put_blob: Callable[[bytes], BlobRef],
        project: str,
        *,
        prices: PriceTable | None = None,
        masker: Masker = NOTHING,
        discreet: bool = False,
        gates: Gates | None = None,
        purse: Purse | None = None,
        report: Callable[[str, Progress], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._cache = cache
        self._put_blob = put_blob
        self._project = project
        self._prices = prices or built_in()
        self._masker = masker
        self._discreet = discreet
        self._gates = gates or Gates()
        self._purse = purse or Purse(Budget(), Amounts, self._prices, warn=lambda _: None)
        self._report = report
        self._monotonic = monotonic
        self._clock = clock
        self._stamp = Stamper()

    async def call(self, params: Params, attempt: Attempt, miss: CacheMiss | None) -> Reply:
        """Call the model, after waiting for its turn and its share of the budget."""
        provider = params.provider
        try:
            provider.check()
        except ConfigError as error:
            raise StepError(
                error.message, kind=FailureKind.AUTH, place=error.place, hint=error.hint
            ) from error
        try:
            async with (
                self._purse.hold(
                    provider, params.request, params.model, params.call.components, attempt
                ) as hold,
                self._gates.passage(provider, params.request) as passage,
            ):
                return await self._send(params, attempt, miss, passage, hold)
        except NotCalled as refused:
            if miss is not None:
                await attempt.emit(miss, wait=False)
            raise refused.error from None

    async def _send(
        self,
        params: Params,
        attempt: Attempt,
        miss: CacheMiss | None,
        passage: Passage,
        hold: Hold,
    ) -> Reply:
        provider, call = params.provider, params.call
        request = msgspec.json.encode(call.components)
        asked = Asked(
            provider=provider.name,
            model=params.model,
            cache_key=call.key,
            attempt=attempt.number,
            base_url=provider.base_url,
            request=ref_of(request),
            waited_s=round(passage.waited_s, 6) or None,
            waited_for=passage.waited_for,
            mends=params.problem,
            kept_as=params.mends.call.key if params.mends else "",
            simulated=provider.simulated,
        )
        told = [] if miss is None else [miss]
        await attempt.emit(*told, LLMRequest(step=attempt.step, data=hold.told(asked)))
        answered = params.answered(attempt)
        # The request is stored while its answer is waited for.
        async with beside(lambda: self._put_blob(request)):
            started_s = self._monotonic()
            outcome = self._clean(await self._complete(params, attempt))
            duration_s = round(self._monotonic() - started_s, 6)
        params.spent.seconds += duration_s
        passage.ended(outcome)
        hold.outcome = outcome
        if isinstance(outcome, StepError):
            failed = msgspec.structs.replace(
                answered,
                success=False,
                duration_s=duration_s,
                kind=str(outcome.kind),
                message=outcome.message,
            )
            await attempt.emit(LLMResponse(step=attempt.step, data=failed), wait=False)
            raise outcome
        await self._keep(params, attempt, outcome, answered, duration_s)
        return outcome

    def _clean(self, outcome: Reply | StepError) -> Reply | StepError:
        """Return what came back without secrets, before any of it is stored."""
        if isinstance(outcome, StepError):
            return untold(outcome) if self._discreet else masked(outcome, self._masker)
        raw = msgspec.json.encode(outcome) if self._masker else b""
        clean = self._masker.data(raw)
        return outcome if clean == raw else msgspec.json.decode(clean, type=Reply)

    async def _complete(self, params: Params, attempt: Attempt) -> Reply | StepError:
        """Return the reply, or why there is none: both are recorded."""
        report = self._report and functools.partial(self._report, attempt.step)
        left_s = (attempt.timeout_s or DEFAULT_TIMEOUT_S) - params.spent.seconds
        timeout_s = max(round(left_s, 3), LEAST_S)
        try:
            # The provider keeps the limit, and can tell more; this is for one that does not.
            with anyio.fail_after(timeout_s + GRACE_S):
                return await params.provider.complete(
                    params.request,
                    timeout_s=timeout_s,
                    idempotency_key=attempt.idempotency_key + ("-mend" if params.mends else ""),
                    idle_timeout_s=params.idle_timeout_s,
                    report=report,
                )
        except StepError as error:
            return error
        except TimeoutError:
            return StepError(
                f"{params.provider.name}, model {params.model}: no answer in {timeout_s:g} s",
                kind=FailureKind.TIMEOUT,
                hint="raise the step's timeout_s",
            )

    async def _keep(
        self, params: Params, attempt: Attempt, reply: Reply, answered: Answered, duration_s: float
    ) -> None:
        """Make the answer durable, then tell of it."""
        response = msgspec.json.encode(reply)
        storing = None
        if reply.complete and not problem_of(reply, params.request):
            # A better answer is kept as that to the first request: it is asked for again.
            kept = params.mends or params
            entry = self._entry(kept, attempt, reply, answered.model, duration_s)
            storing = self._cache.storing(entry, params.policy)

        def write() -> None:
            self._put_blob(response)
            if storing is not None:
                storing.write()

        await in_thread(write)
        if storing is not None:
            self._cache.stored(storing)
        done = answered_by(answered, reply, self.quote(params, reply), duration_s, response)
        await attempt.emit(LLMResponse(step=attempt.step, data=done), wait=False)

    async def adopt(self, params: Params, attempt: Attempt, entry: Entry) -> None:
        """Record the end of a call whose process died after the answer was kept."""
        answered = params.answered(attempt, adopted=True)
        reply, response = entry.reply, msgspec.json.encode(entry.reply)
        self._put_blob(response)
        quote = self.quote(params, reply)
        done = answered_by(answered, reply, quote, entry.duration_s, response)
        await attempt.emit(LLMResponse(step=attempt.step, data=done), wait=False)

    def quote(self, params: Params, reply: Reply) -> Quote:
        """Return what a reply costs."""
        return quote_of(self._prices, params.provider, params.request, params.model, reply)

    def _entry(
        self, params: Params, attempt: Attempt, reply: Reply, model: str, duration_s: float
    ) -> Entry:
        return Entry(
            key=params.call.key,
            provider=params.provider.name,
            model=model,
            request=params.call.components,
            parts=params.call.parts,
            reply=reply,
            job_id=attempt.job_id,
            project=self._project,
            step=attempt.step,
            created_at=self._stamp(self._clock()),
            duration_s=duration_s,
        )
