"""`orch prompt`, `orch show JOB STEP --request`: what a model is asked, and what it answered."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from eventlog.table import visible

from .. import events as ev
from ..blobs import BlobMissing, BlobStore
from ..cachefile import SUFFIX, Found, load
from ..connections import Connections
from ..dotenv import with_secrets
from ..errors import UsageError
from ..folder import RunFolder
from ..graph import Graph
from ..history import records
from ..instances import base_of, instance
from ..jobs import Jobs
from ..secrecy import Secrets, named
from ..spec.model import Spec
from ..specwork import SpecWork
from ..state import JobState
from ..suggest import did_you_mean
from . import out

_TEXT = "\n\t"


def prompt(spec: Spec, step: str, job: str, runs_dir: str, *, as_json: bool) -> None:
    """Print the request that a step would send, and send nothing.

    Args:
        spec: with its inputs given.
        step: a step of kind `llm`, or an instance of one.
        job: whose results the templates see; empty for none.
        runs_dir: where the job is.
        as_json: print one document, with the address and the key of the cache.

    Raises:
        UsageError: no such step, or no result that its prompt refers to.
    """
    declared = spec.steps.get(base_of(step))
    if declared is None:
        hint = did_you_mean(step, spec.steps) or f"its steps: {', '.join(spec.steps)}"
        raise UsageError(f"the spec has no step {step!r}", place=spec.source.file, hint=hint)
    if declared.llm is None:
        raise UsageError(
            f"step {step} asks no model: it is of kind {declared.kind}", place=spec.source.file
        )
    folder = RunFolder(runs_dir, "none")
    state = JobState()
    if job:
        jobs = Jobs(runs_dir)
        folder = jobs.find(job)
        state = jobs.load(folder)
    _print_prompt(_prepared(spec, step, folder, state), as_json=as_json)


def _prepared(spec: Spec, step: str, folder: RunFolder, state: JobState) -> Any:
    from ..steps.llm import LLMStep

    declared = spec.steps[base_of(step)]
    for need in Graph(spec.decls).given(declared.name):
        found = state.steps.get(need)
        if found is None or found.success is None:
            raise UsageError(
                f"the prompt of step {step} comes after step {need}, which has no result here",
                place=spec.source.file,
                hint="name a job that has one: --job latest",
            )
    environ = with_secrets(os.environ, (os.getcwd(), spec.source.folder), named(spec), out.talk)
    kinds = {"llm": LLMStep.preview(Connections(environ).connect)}
    work = SpecWork(spec, folder, kinds, Secrets(spec, environ), lambda: state)
    if declared.each:
        items = work.expand(declared.name, state).items
        names = [instance(declared.name, item) for item in items]
        if step not in names:
            shown = ", ".join(names[:5]) or "none"
            raise UsageError(
                f"step {declared.name} runs once for each item", hint=f"name one of them: {shown}"
            )
    return work.prepare(step, state).params


def _print_prompt(params: Any, *, as_json: bool) -> None:
    provider, request = params.provider, params.request
    body = provider.body(request)
    url = f"{provider.base_url}{getattr(provider, 'path', '')}"
    if as_json:
        out.document(
            {
                "provider": provider.name,
                "model": params.model,
                "url": url or None,
                "body": body,
                "cache_key": params.call.key,
                "simulated": provider.simulated,
            }
        )
        return
    out.talk(f"POST {url}" if url else f"{provider.name}: no request is ever sent")
    out.data(visible(_pretty(msgspec.json.encode(body)), keep=_TEXT))
    out.talk(f"nothing was sent; its key in the cache is {params.call.key}")


def show_exchange(runs_dir: str, ref: str, step: str, *, request: bool, response: bool) -> None:
    """Print what a step's model was asked last, and what it answered.

    Raises:
        UsageError: the step asked no model, or its texts were not kept.
    """
    out.end_with_reader()
    folder = Jobs(runs_dir).find(ref)
    if not step:
        raise UsageError("which step?", hint=f"orch show {folder.job_id} STEP --request")
    asked, answered = _last_exchange(folder, step)
    if request:
        out.data(visible(_pretty(asked), keep=_TEXT))
    if response:
        if not answered:
            raise UsageError(f"step {step} has no answer", place=folder.log)
        out.data(visible(_pretty(answered), keep=_TEXT))


def _last_exchange(folder: RunFolder, step: str) -> tuple[bytes, bytes]:
    """Return a step's last request and response as JSON; an answer of the cache counts too."""
    blobs = BlobStore(folder.artifacts)
    last: ev.LLMRequest | ev.CacheHit | None = None
    answer: ev.Answered | None = None
    for record in records(folder.log, blobs, rejected=[], graphs=False):
        if getattr(record.event, "step", None) != step:
            continue
        match record.event:
            case ev.LLMRequest() | ev.CacheHit() as event:
                last, answer = event, None
            case ev.LLMResponse(data=data):
                answer = data
            case _:
                pass
    try:
        if isinstance(last, ev.CacheHit):
            return _of_entry(folder, last.data.cache_key)
        if last is not None and last.data.request is not None:
            response = answer.response if answer is not None else None
            return blobs.get(last.data.request), blobs.get(response) if response else b""
    except BlobMissing as error:
        raise UsageError(
            f"the texts of step {step} were not kept, or are gone", place=folder.artifacts
        ) from error
    raise UsageError(f"step {step} of job {folder.job_id} asked no model", place=folder.log)


def _of_entry(folder: RunFolder, key: str) -> tuple[bytes, bytes]:
    found = load(os.path.join(folder.cache, key + SUFFIX), key)
    if not isinstance(found, Found) or found.entry.result is not None:
        raise UsageError("its entry in the cache is gone", place=folder.cache)
    return msgspec.json.encode(found.entry.request), msgspec.json.encode(found.entry.reply)


def _pretty(raw: bytes) -> str:
    return msgspec.json.format(raw, indent=2).decode()
