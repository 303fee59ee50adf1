"""Results of whole python and shell steps, reused across jobs where the step says `cache`.

An entry names its output and its files by hash; their bytes are blobs in `artifacts/` of each job
that holds the entry. A hit brings them into this job, verified, and publishes the files anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
import msgspec

from eventlog.codec import Stamper

from .blobs import BlobStore
from .cache import Cache, Call, Look
from .cachefile import Entry, Kept
from .cachepolicy import CachePolicy
from .disk import FileStoreError
from .errors import OrchestratorError
from .events import BlobRef, CacheHit, CacheHitData, CacheMiss, CacheMissData, FileRef
from .filestore import FileStore
from .folder import RunFolder
from .keys import encode_output, output_hash, part_hashes
from .outputs import Outputs, as_ref
from .safepath import UnsafePath, components
from .steps.base import Attempt, Prepared, Result

Perform = Callable[[], Awaitable[Result]]


class StepCache:
    """The cache as steps see it that are no calls of models.

    Args:
        cache: the job's.
        folder: the job's.
        project: the job's.
        output_dir: what all published paths of these steps begin with; empty for nothing.
        warn: told of an entry whose files can't be used.
        monotonic, clock: seconds, and nanoseconds since 1970.
    """

    def __init__(
        self,
        cache: Cache,
        folder: RunFolder,
        project: str,
        output_dir: str,
        warn: Callable[[str], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._cache = cache
        self._folder = folder
        self._project = project
        self._prefix = f"{output_dir}/" if output_dir else ""
        self._warn = warn
        self._monotonic = monotonic
        self._clock = clock
        self._stamp = Stamper()

    async def through(
        self, key: str, prepared: Prepared, attempt: Attempt, policy: CachePolicy, perform: Perform
    ) -> Result:
        """Return a step's result from the cache, or perform it and keep what it brought.

        Raises:
            StepError: the step failed; a failure is never kept.
        """
        name = attempt.step
        async with self._cache.turn(key, name, policy):
            look = self._cache.look(key, name, policy, holds=_has_files)
            if look.entry is not None:
                result = await self._restored(look, attempt)
                if result is not None:
                    return result
                look = Look(None, "gone")
            call = Call(key=key, components={}, parts=part_hashes(prepared.parts))
            reason, nearest = self._cache.why_missed(name, call, look, policy)
            miss = CacheMissData(cache_key=key, reason=reason, nearest=nearest)
            await attempt.emit(CacheMiss(step=name, data=miss), wait=False)
            started_s = self._monotonic()
            result = await perform()
            duration_s = round(self._monotonic() - started_s, 6)
            await self._keep(call, attempt, policy, result, duration_s)
            return result

    def cached(self, key: str, step: str, policy: CachePolicy) -> tuple[Result, str] | None:
        """Return what a step would bring without being performed, and the job it came from."""
        look = self._cache.look(key, step, policy, holds=_has_files)
        entry, holder = look.entry, look.holder
        if entry is None or entry.result is None or holder is None:
            return None
        files = tuple(
            msgspec.structs.replace(file, path=f"{self._prefix}{file.path}")
            for file in entry.result.files
        )
        try:
            output = Outputs(BlobStore(holder.artifacts)).load(entry.result.output)
        except OrchestratorError:
            return None
        return Result(output=output, files=files), entry.job_id

    async def _restored(self, look: Look, attempt: Attempt) -> Result | None:
        """Bring an entry's output and files into this job; None if they can't be had."""
        entry, holder = look.entry, look.holder or self._folder
        assert entry is not None
        assert entry.result is not None
        try:
            output = await anyio.to_thread.run_sync(
                self._fetch, entry.result, holder, attempt.work_dir
            )
        except (OrchestratorError, FileStoreError, UnsafePath, OSError) as error:
            self._warn(
                f"warning: a cached result of step {attempt.step} can't be used: {error}\n"
                f"  --> {holder.artifacts}"
            )
            for path in os.listdir(attempt.work_dir):
                _remove(os.path.join(attempt.work_dir, path))
            return None
        hit = CacheHitData(
            cache_key=entry.key,
            from_job=entry.job_id,
            from_seq=entry.seq,
            saved_s=entry.duration_s,
        )
        await attempt.emit(CacheHit(step=attempt.step, data=hit), wait=False)
        self._cache.adopt(look)
        files = await attempt.publish(attempt.work_dir) if entry.result.files else ()
        return Result(output=output, files=files)

    def _fetch(self, kept: Kept, holder: RunFolder, work_dir: str) -> Any:
        """Copy what an entry names: blobs to this job's, files to the attempt's folder."""
        ref = as_ref(kept.output)
        wanted = [ref] if ref is not None else []
        wanted += [_blob(file) for file in kept.files]
        own = FileStore(self._folder.artifacts)
        if holder.job_id != self._folder.job_id:
            for blob in wanted:
                self._copy(holder, blob, own)
        into = FileStore(work_dir)
        for file in kept.files:
            self._copy(self._folder, _blob(file), into, file.path)
        return Outputs(BlobStore(self._folder.artifacts)).load(kept.output)

    def _copy(self, holder: RunFolder, blob: BlobRef, into: FileStore, path: str = "") -> None:
        digest = blob.blob.removeprefix("sha256:")
        (name,) = components(digest)
        source = os.open(
            os.path.join(holder.artifacts, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        )
        try:
            copied = into.safe_copy(path or digest, source)
        finally:
            os.close(source)
        if (copied["sha256"], copied["size_bytes"]) != (digest, blob.bytes):
            raise OrchestratorError(f"blob {blob.blob} is damaged")

    async def _keep(
        self, call: Call, attempt: Attempt, policy: CachePolicy, result: Result, duration_s: float
    ) -> None:
        if not policy.use or self._cache.off(attempt.step, policy):
            return
        encoded = encode_output(attempt.step, result.output)
        hashes = [(file.path, file.sha256) for file in result.files]
        entry = Entry(
            key=call.key,
            parts=call.parts,
            job_id=attempt.job_id,
            project=self._project,
            step=attempt.step,
            created_at=self._stamp(self._clock()),
            duration_s=duration_s,
            result=Kept(
                output=Outputs(BlobStore(self._folder.artifacts)).keep(result.output, encoded),
                output_sha256=output_hash(encoded, hashes),
                files=tuple(self._relative(file) for file in result.files),
            ),
        )
        await anyio.to_thread.run_sync(self._store_files, result.files)
        self._cache.store(entry, policy)

    def _store_files(self, files: tuple[FileRef, ...]) -> None:
        """Keep the bytes of published files as blobs: a later step may overwrite the files."""
        own = FileStore(self._folder.artifacts)
        for file in files:
            source = os.open(
                os.path.join(self._folder.outputs, *components(file.path)),
                os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW,
            )
            try:
                own.safe_copy(file.sha256, source)
            finally:
                os.close(source)

    def _relative(self, file: FileRef) -> FileRef:
        return msgspec.structs.replace(file, path=file.path.removeprefix(self._prefix))


def _has_files(entry: Entry, holder: RunFolder | None) -> bool:
    """Return whether what an entry names is there, by name and size."""
    if entry.result is None or holder is None:
        return False
    ref = as_ref(entry.result.output)
    wanted = [ref] if ref is not None else []
    wanted += [_blob(file) for file in entry.result.files]
    return all(_size(holder, blob) == blob.bytes for blob in wanted)


def _size(holder: RunFolder, blob: BlobRef) -> int:
    try:
        name = os.path.basename(blob.blob.removeprefix("sha256:"))
        return os.lstat(os.path.join(holder.artifacts, name)).st_size
    except OSError:
        return -1


def _blob(file: FileRef) -> BlobRef:
    return BlobRef(blob=f"sha256:{file.sha256}", bytes=file.size_bytes)


def _remove(path: str) -> None:
    import shutil

    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)
