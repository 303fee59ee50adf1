"""Run a recorded job again from its folder alone, and compare what comes out.

Prompts are rendered anew, and every answer is the recorded one: no provider is called, no network
touched. Python, shell and approve steps bring their recorded results, unless they are to be
executed. The job's own folder is only read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from eventlog.codec import UNREADABLE
from eventlog.fs import FILES, write_whole

from . import events as ev
from .blobs import BlobDamaged, BlobMissing, BlobStore
from .cachecare import holdings
from .cachefile import SUFFIX, Entry, encoded
from .cachepolicy import CacheMode
from .errors import FailureKind, StepError, UsageError
from .filestore import FileStore
from .folder import RunFolder
from .frozen import frozen_spec
from .history import records
from .instances import base_of
from .jobs import Jobs
from .keys import part_hashes
from .options import Options
from .outputs import Outputs
from .providers.base import Reply
from .results import JobResult
from .safepath import components
from .spec.model import Spec
from .state import JobState, Success
from .steps.base import Attempt, Prepared, Result, Scope, StepKind
from .wiring import execute

_ELSEWHERE = re.compile(r"(?:.*_(?:API_KEY|BASE_URL)|OLLAMA_HOST|ORCH_.*)\Z")
"""Variables that a replay must not depend on."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What came out otherwise: `step NAME` or `outputs/PATH`, and hashes, empty for nothing."""

    what: str
    recorded: str
    replayed: str


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay brought.

    Attributes:
        compared: how many steps and files were compared.
        differences: none if everything is byte for byte the same.
        lost: steps with a recorded result whose answers were not kept.
        failed: steps that had no result when they were recorded, and have none now.
    """

    result: Any
    compared: int
    differences: tuple[Difference, ...]
    lost: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


async def replay(
    jobs: Jobs,
    source: RunFolder,
    into: str,
    *,
    execute_steps: bool = False,
    warn: Callable[[str], None],
) -> Replayed:
    """Run a job again in the runs/ folder `into`, and compare it with what was recorded.

    Raises:
        UsageError: the job has no frozen spec, or no step that succeeded.
    """
    state = jobs.load(source)
    recorded = _recorded(state)
    if not recorded:
        raise UsageError(f"job {source.job_id} has no result to compare with", place=source.log)
    exchanges = list(_exchanges(source))
    _lay_out(source, into, exchanges)
    spec = _pinned(frozen_spec(source, state), exchanges)
    started = state.started
    environ = {name: value for name, value in os.environ.items() if not _ELSEWHERE.match(name)}

    def kinds(real: Mapping[str, StepKind]) -> dict[str, StepKind]:
        if execute_steps:
            return dict(real)
        stand_in = _Recorded(source, recorded, spec.output_dir)
        return {name: kind if name == "llm" else stand_in for name, kind in real.items()}

    result = await execute(
        spec,
        Options(
            runs_dir=into,
            provider=started.overrides.get("provider") if started else None,
            inputs=dict(started.given) if started else {},
            cache=CacheMode.ONLY,
            keep_going=True,
            warn=warn,
            kinds=kinds,
            environ={**environ, "ORCH_ALLOW_HTTP": "1", "ORCH_DOTENV": "0"},
        ),
    )
    return _compared(recorded, result)


class _Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was answered, as the log tells it."""

    step: str
    key: str
    base_url: str
    request: dict[str, Any]
    reply: Reply | None = None


class _Recorded:
    """Stands in for kinds of steps whose results are taken from the record.

    Args:
        source: the job that was recorded.
        successes: by step.
        output_dir: what all published paths of these steps begin with.
    """

    def __init__(
        self, source: RunFolder, successes: Mapping[str, Success], output_dir: str
    ) -> None:
        self._prefix = f"{output_dir}/" if output_dir else ""
        self._source = source
        self._outputs = Outputs(BlobStore(source.artifacts))
        self._successes = successes

    def prepare(self, step: Any, scope: Scope) -> Prepared:  # noqa: ARG002 - a kind's
        """Look the result up."""
        success = self._successes.get(scope.step)
        if success is None:
            raise StepError(
                f"step {scope.step} has no recorded result", kind=FailureKind.CACHE_MISS
            )
        return Prepared(parts={"recorded": success.output_sha256}, params=success)

    async def perform(self, prepared: Prepared, attempt: Attempt) -> Result:
        """Publish the recorded files again, and return the recorded output."""
        success: Success = prepared.params
        into = FileStore(attempt.work_dir)
        for file in success.files:
            path = os.path.join(self._source.outputs, *components(file.path))
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError as error:
                raise StepError(
                    f"outputs/{file.path} can't be read: {error.strerror}",
                    kind=FailureKind.OUTPUT,
                ) from error
            try:
                into.safe_copy(file.path.removeprefix(self._prefix), fd)
            finally:
                os.close(fd)
        files = await attempt.publish(attempt.work_dir) if success.files else ()
        return Result(output=self._outputs.load(success.output), files=files)


def _recorded(state: JobState) -> dict[str, Success]:
    return {name: step.success for name, step in state.steps.items() if step.success is not None}


def _exchanges(source: RunFolder) -> Iterator[_Exchange]:
    """Yield the calls that were answered; where the cache answered, as its entry has it."""
    blobs = BlobStore(source.artifacts)
    asked: dict[tuple[str, str], ev.Asked] = {}
    for record in records(source.log, blobs, rejected=[], graphs=False):
        match record.event:
            case ev.LLMRequest(step=step, data=data):
                asked[step, data.cache_key] = data
            case ev.LLMResponse(step=step, data=answer) if answer.success:
                question = asked.get((step, answer.cache_key))
                request = _blob(blobs, question.request if question else None)
                reply = _blob(blobs, answer.response)
                if question is not None and request is not None and reply is not None:
                    yield _Exchange(
                        step=step,
                        key=answer.cache_key,
                        base_url=question.base_url,
                        request=request,
                        reply=msgspec.convert(reply, Reply),
                    )
            case ev.CacheHit(step=step, data=hit) if hit.provider:
                yield _Exchange(step=step, key=hit.cache_key, base_url=hit.base_url, request={})
            case _:
                pass


def _blob(blobs: BlobStore, ref: ev.BlobRef | None) -> Any:
    if ref is None:
        return None
    try:
        return msgspec.json.decode(blobs.get(ref))
    except (BlobMissing, BlobDamaged, *UNREADABLE):
        return None


def _lay_out(source: RunFolder, into: str, exchanges: list[_Exchange]) -> None:
    """Put every answer that the job holds where the replay's cache looks, and nothing else."""
    folder = RunFolder(into, source.job_id)
    os.makedirs(folder.cache, mode=0o700, exist_ok=True)
    found = {
        holding.key: holding.found
        for holding in holdings(source.root, holders=[source.job_id])
        if isinstance(holding.found, Entry) and holding.found.result is None
    }
    for exchange in exchanges:
        if exchange.key not in found and exchange.reply is not None:
            found[exchange.key] = Entry(
                key=exchange.key,
                parts=part_hashes(exchange.request),
                job_id=source.job_id,
                project="",
                step=exchange.step,
                created_at="",
                duration_s=0.0,
                request=exchange.request,
                reply=exchange.reply,
            )
    for key, entry in found.items():
        # Whom an entry was meant for is no question here: the folder is this job's own.
        raw = encoded(msgspec.structs.replace(entry, scope=""))
        write_whole(FILES, os.path.join(folder.cache, key + SUFFIX), raw, durable=False)


def _pinned(spec: Spec, exchanges: list[_Exchange]) -> Spec:
    """Return the spec with the servers that were called, whatever this machine's environment is."""
    called = {base_of(exchange.step): exchange.base_url for exchange in exchanges}
    steps = {}
    for name, step in spec.steps.items():
        steps[name] = step
        if step.llm is not None:
            base_url = called.get(name) or step.llm.base_url
            llm = msgspec.structs.replace(step.llm, base_url=base_url)
            steps[name] = msgspec.structs.replace(step, llm=llm, cache=None)
    return msgspec.structs.replace(spec, steps=steps)


def _compared(recorded: Mapping[str, Success], result: JobResult) -> Replayed:
    replayed = _recorded(result.state)
    pairs = {
        f"step {name}": (success.output_sha256, _hash_of(replayed.get(name)))
        for name, success in recorded.items()
    }
    before = {file.path: file.sha256 for success in recorded.values() for file in success.files}
    after = {file.path: file.sha256 for success in replayed.values() for file in success.files}
    for path in sorted({*before, *after}):
        pairs[f"outputs/{path}"] = before.get(path, ""), after.get(path, "")
    differences = tuple(
        Difference(what=what, recorded=old, replayed=new)
        for what, (old, new) in pairs.items()
        if old != new
    )
    failed = {name: step.fault for name, step in result.state.steps.items() if step.fault}
    lost = [name for name, fault in failed.items() if fault.kind == FailureKind.CACHE_MISS]
    return Replayed(
        result=result,
        compared=len(pairs),
        differences=differences,
        lost=tuple(name for name in lost if name in recorded),
        failed=tuple(name for name in failed if name not in recorded),
    )


def _hash_of(success: Success | None) -> str:
    return success.output_sha256 if success is not None else ""
