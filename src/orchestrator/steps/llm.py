"""Steps of kind `llm`: one call of a model, through the cache.

A call is `llm.request`, durable before anything is sent, and `llm.response`. The answer is in
the cache, durable, before `llm.response` is: a process that dies in between finds it there and
does not pay twice.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any, Self

import anyio
import msgspec

from eventlog.codec import Stamper

from .. import templates
from ..beside import beside
from ..blobs import ref_of
from ..budget import Amounts, Budget
from ..cache import Cache, Call, Look, describe
from ..cachefile import Entry
from ..cachepolicy import DEFAULT, CacheMode, CachePolicy
from ..errors import ConfigError, FailureKind, StepError
from ..events import (
    Answered,
    Asked,
    BlobRef,
    CacheHit,
    CacheHitData,
    CacheMiss,
    CacheMissData,
    FileRef,
    LLMRequest,
    LLMResponse,
)
from ..folder import RunFolder
from ..instances import base_of
from ..keys import sha256
from ..masking import NOTHING, Masker
from ..money import dollars
from ..prices import PriceTable, Quote, built_in
from ..providers.base import Message, Progress, Provider, Reply, Request
from ..providers.gate import Gates, NotCalled, Passage
from ..publish import media_type_of
from ..purse import Hold, Purse
from ..secrecy import masked, untold
from . import structured
from .answer import answered_by, as_file, output_of, path_of, problem_of, quote_of, save, text_of
from .attached import with_files
from .base import Attempt, Prepared, Result, Scope

DEFAULT_TIMEOUT_S = 600.0
"""For one call, where neither the step nor the spec says how long it may take."""

GRACE_S = 1.0


class _Params(msgspec.Struct, frozen=True, kw_only=True):
    request: Request
    call: Call
    provider: Provider
    save_as: str
    policy: CachePolicy
    idle_timeout_s: float
    mends: _Params | None = None
    """The call whose answer could not be used, if this one asks for a better one."""
    problem: str = ""

    @property
    def model(self) -> str:
        """The model as the request names it: the same in every event of a call."""
        return str(self.call.components["model"])


class LLMStep:
    """Calls a model; its output is `{"text": …}`, with `data` for a structured answer.

    One that does not fit its schema is asked for once more, by a second call that shows the first
    answer; both are recorded.

    Args:
        connect: returns the provider of a name and base URL.
        cache: the job's.
        put_blob: stores a request or response and returns its reference.
        project: the job's, to find the nearest earlier entry.
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
        connect: Callable[[str, str], Provider],
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
        self._connect = connect
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

    @classmethod
    def preview(cls, connect: Callable[[str, str], Provider]) -> Self:
        """Return a kind that can prepare steps and never performs one."""
        nowhere = Cache(RunFolder(os.devnull, "none"), CacheMode.OFF, lambda _: None)
        return cls(connect, nowhere, ref_of, "")

    def prepare(self, step: Any, scope: Scope) -> Prepared:
        """Render the prompt; the key depends on the whole request that would be sent."""
        llm = step.llm
        values = dict(scope.values)
        if step.with_:
            values["with"] = templates.render_value(step.with_, values)
        messages = []
        for role, source in (("system", llm.system), ("user", llm.prompt)):
            if source:
                text = templates.render(source, values, place=f"step {scope.step}, {role} prompt")
                messages.append(Message(role, text if isinstance(text, str) else text_of(text)))
        if llm.images or llm.files:
            messages[-1] = with_files(messages[-1], llm.images, llm.files, values, scope)
        options = templates.render_value(llm.options, values)
        save_as = path_of(step.save_as, values, f"steps.{base_of(scope.step)}.save_as")
        provider = self._connect(llm.provider, llm.base_url)
        request = Request(
            model=llm.model,
            messages=tuple(messages),
            options=options,
            schema=llm.output,
            sample=llm.sample,
            stream=llm.stream,
        )
        call = describe(provider, request)
        return Prepared(
            parts={**call.components, "save_as": save_as},
            limits_itself=True,
            params=_Params(
                request=request,
                call=call,
                provider=provider,
                save_as=save_as,
                policy=step.cache or DEFAULT,
                idle_timeout_s=llm.idle_timeout_s,
            ),
        )

    def answered(self, step: str, prepared: Prepared) -> bool:
        """Tell whether the answer is in the cache."""
        params: _Params = prepared.params
        return self._cache.look(params.call.key, step, params.policy).entry is not None

    async def perform(self, prepared: Prepared, attempt: Attempt) -> Result:
        """Take the answer from the cache, or call the model."""
        params: _Params = prepared.params
        async with self._cache.turn(params.call.key, attempt.step, params.policy):
            reply = await self._usable(params, attempt)
        output = output_of(reply, params.request)
        if not params.save_as:
            return Result(output=output)
        save(reply.text, attempt.work_dir, params.save_as)
        return Result(output=output, files=await attempt.publish(attempt.work_dir))

    def cached(self, step: str, prepared: Prepared) -> tuple[Result, str] | None:
        """Return what a step would bring without a call, and the job whose answer it is."""
        params: _Params = prepared.params
        entry = self._cache.look(params.call.key, step, params.policy).entry
        if entry is None or problem_of(entry.reply, params.request):
            return None
        output = output_of(entry.reply, params.request)
        if not params.save_as:
            return Result(output=output), entry.job_id
        content = as_file(entry.reply.text)
        file = FileRef(
            path=params.save_as,
            sha256=sha256(content),
            size_bytes=len(content),
            media_type=media_type_of(params.save_as),
        )
        return Result(output=output, files=(file,)), entry.job_id

    async def _usable(self, params: _Params, attempt: Attempt) -> Reply:
        """Return an answer that fits what the step asks for: the first one, or the second."""
        reply = await self._answer(params, attempt)
        problem = problem_of(reply, params.request)
        if not problem:
            return reply
        if not reply.complete:
            raise structured.unfit(reply, problem, again=False)
        request = structured.mended(params.request, reply.text, problem)
        mending = msgspec.structs.replace(
            params,
            request=request,
            call=describe(params.provider, request),
            mends=params,
            problem=problem,
        )
        reply = await self._call(mending, attempt, None)
        problem = problem_of(reply, params.request)
        if problem:
            raise structured.unfit(reply, problem, again=True)
        return reply

    async def _answer(self, params: _Params, attempt: Attempt) -> Reply:
        call = params.call
        look = self._cache.look(call.key, attempt.step, params.policy)
        if look.entry is not None:
            return await self._hit(params, attempt, look.entry)
        return await self._miss(params, attempt, look)

    async def _hit(self, params: _Params, attempt: Attempt, entry: Entry) -> Reply:
        """Tell of the entry and return its answer."""
        if attempt.unanswered == params.call.key and entry.job_id == attempt.job_id:
            await self._adopt(params, attempt, entry)
            return entry.reply
        usage = entry.reply.usage
        hit = CacheHitData(
            cache_key=params.call.key,
            provider=params.provider.name,
            model=params.model,
            from_job=entry.job_id,
            from_seq=entry.seq,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            base_url=params.provider.base_url,
            saved_s=entry.duration_s,
            saved_usd=dollars(self._quote(params, entry.reply).usd),
            simulated=params.provider.simulated,
        )
        await attempt.emit(CacheHit(step=attempt.step, data=hit), wait=False)
        return entry.reply

    async def _miss(self, params: _Params, attempt: Attempt, look: Look) -> Reply:
        """Call the model, unless the user forbids it."""
        reason, nearest = self._cache.why_missed(attempt.step, params.call, look, params.policy)
        miss = CacheMissData(
            cache_key=params.call.key,
            provider=params.provider.name,
            model=params.model,
            reason=reason,
            nearest=nearest,
        )
        if self._cache.mode(attempt.step, params.policy) is CacheMode.ONLY:
            await attempt.emit(CacheMiss(step=attempt.step, data=miss), wait=False)
            raise StepError(
                f"the answer is not in the cache ({reason})",
                kind=FailureKind.CACHE_MISS,
                place=params.model,
                hint="run without --cache-only",
            )
        return await self._call(params, attempt, CacheMiss(step=attempt.step, data=miss))

    async def _call(self, params: _Params, attempt: Attempt, miss: CacheMiss | None) -> Reply:
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
        params: _Params,
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
        answered = Answered(
            provider=provider.name,
            model=params.model,
            cache_key=call.key,
            attempt=attempt.number,
            simulated=provider.simulated,
        )
        # The request is stored while its answer is waited for.
        async with beside(lambda: self._put_blob(request)):
            started_s = self._monotonic()
            outcome = self._clean(await self._complete(params, attempt))
            duration_s = round(self._monotonic() - started_s, 6)
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

    async def _complete(self, params: _Params, attempt: Attempt) -> Reply | StepError:
        """Return the reply, or why there is none: both are recorded."""
        report = self._report and functools.partial(self._report, attempt.step)
        timeout_s = attempt.timeout_s or DEFAULT_TIMEOUT_S
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
        self, params: _Params, attempt: Attempt, reply: Reply, answered: Answered, duration_s: float
    ) -> None:
        """Make the answer durable, then tell of it."""
        response = msgspec.json.encode(reply)
        async with beside(lambda: self._put_blob(response)):
            if reply.complete and not problem_of(reply, params.request):
                # A better answer is kept as that to the first request: it is asked for again.
                kept = params.mends or params
                entry = self._entry(kept, attempt, reply, answered.model, duration_s)
                self._cache.store(entry, params.policy)
        done = answered_by(answered, reply, self._quote(params, reply), duration_s, response)
        await attempt.emit(LLMResponse(step=attempt.step, data=done), wait=False)

    async def _adopt(self, params: _Params, attempt: Attempt, entry: Entry) -> None:
        """Record the end of a call whose process died after the answer was kept."""
        answered = Answered(
            provider=params.provider.name,
            model=params.model,
            cache_key=params.call.key,
            attempt=attempt.number,
            simulated=params.provider.simulated,
            adopted=True,
        )
        reply, response = entry.reply, msgspec.json.encode(entry.reply)
        self._put_blob(response)
        quote = self._quote(params, reply)
        done = answered_by(answered, reply, quote, entry.duration_s, response)
        await attempt.emit(LLMResponse(step=attempt.step, data=done), wait=False)

    def _quote(self, params: _Params, reply: Reply) -> Quote:
        return quote_of(self._prices, params.provider, params.request, params.model, reply)

    def _entry(
        self, params: _Params, attempt: Attempt, reply: Reply, model: str, duration_s: float
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
