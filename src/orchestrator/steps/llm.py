"""Steps of kind `llm`: one question to a model, answered from the cache or by a call."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Self

import msgspec

from .. import templates
from ..blobs import ref_of
from ..cache import Cache, Look, describe
from ..cachefile import Entry
from ..cachepolicy import DEFAULT, CacheMode
from ..errors import FailureKind, StepError
from ..events import (
    CacheHit,
    CacheHitData,
    CacheMiss,
    CacheMissData,
    FileRef,
)
from ..folder import RunFolder
from ..instances import base_of
from ..keys import sha256
from ..money import dollars
from ..providers.base import Message, Provider, Reply, Request
from ..publish import media_type_of
from . import structured
from .answer import as_file, output_of, path_of, problem_of, save, text_of
from .attached import with_files
from .base import Attempt, Prepared, Result, Scope
from .calling import Caller, Params, Spent


class LLMStep:
    """Calls a model; its output is `{"text": …}`, with `data` for a structured answer.

    One that does not fit its schema is asked for once more, by a second call that shows the first
    answer; both are recorded.

    Args:
        connect: returns the provider of a name and base URL.
        cache: the job's.
        caller: makes the calls, with the same cache.
    """

    def __init__(
        self, connect: Callable[[str, str], Provider], cache: Cache, caller: Caller
    ) -> None:
        self._connect = connect
        self._cache = cache
        self._caller = caller

    @classmethod
    def preview(cls, connect: Callable[[str, str], Provider]) -> Self:
        """Return a kind that can prepare steps and never performs one."""
        nowhere = Cache(RunFolder(os.devnull, "none"), CacheMode.OFF, lambda _: None)
        return cls(connect, nowhere, Caller(nowhere, ref_of, ""))

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
            params=Params(
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
        params: Params = prepared.params
        return self._cache.look(params.call.key, step, params.policy).entry is not None

    async def perform(self, prepared: Prepared, attempt: Attempt) -> Result:
        """Take the answer from the cache, or call the model."""
        params: Params = msgspec.structs.replace(prepared.params, spent=Spent())
        async with self._cache.turn(params.call.key, attempt.step, params.policy):
            reply = await self._usable(params, attempt)
        output = output_of(reply, params.request)
        if not params.save_as:
            return Result(output=output)
        save(reply.text, attempt.work_dir, params.save_as)
        return Result(output=output, files=await attempt.publish(attempt.work_dir))

    def cached(self, step: str, prepared: Prepared) -> tuple[Result, str] | None:
        """Return what a step would bring without a call, and the job whose answer it is.

        Raises:
            StepError: kind `cache_miss`: there is none, and the user forbids a call.
        """
        params: Params = prepared.params
        look = self._cache.look(params.call.key, step, params.policy)
        entry = look.entry
        if entry is None or problem_of(entry.reply, params.request):
            if self._cache.mode(step, params.policy) is CacheMode.ONLY:
                reason, _ = self._cache.why_missed(step, params.call, look, params.policy)
                raise _forbidden(params, reason)
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

    async def _usable(self, params: Params, attempt: Attempt) -> Reply:
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
        if self._cache.mode(attempt.step, params.policy) is CacheMode.ONLY:
            reply = await self._answer(mending, attempt)  # a replay has it
        else:
            reply = await self._caller.call(mending, attempt, None)
        problem = problem_of(reply, params.request)
        if problem:
            raise structured.unfit(reply, problem, again=True)
        return reply

    async def _answer(self, params: Params, attempt: Attempt) -> Reply:
        call = params.call
        look = self._cache.look(call.key, attempt.step, params.policy)
        if look.entry is not None:
            return await self._hit(params, attempt, look.entry)
        return await self._miss(params, attempt, look)

    async def _hit(self, params: Params, attempt: Attempt, entry: Entry) -> Reply:
        """Tell of the entry and return its answer."""
        if attempt.unanswered == params.call.key and entry.job_id == attempt.job_id:
            await self._caller.adopt(params, attempt, entry)
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
            saved_usd=dollars(self._caller.quote(params, entry.reply).usd),
            simulated=params.provider.simulated,
        )
        await attempt.emit(CacheHit(step=attempt.step, data=hit), wait=False)
        return entry.reply

    async def _miss(self, params: Params, attempt: Attempt, look: Look) -> Reply:
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
            raise _forbidden(params, reason)
        return await self._caller.call(params, attempt, CacheMiss(step=attempt.step, data=miss))


def _forbidden(params: Params, reason: str) -> StepError:
    return StepError(
        f"the answer is not in the cache ({reason})",
        kind=FailureKind.CACHE_MISS,
        place=params.model,
        hint="run without --cache-only",
    )
