"""Bytes stored under their SHA-256: step outputs too large for a line, prompts, responses."""

from __future__ import annotations

import hashlib
import os
import re

from .disk import DirFiles, FileNotThere, FileStoreError
from .errors import ExitCode, OrchestratorError
from .events import BlobRef
from .filestore import FileStore, UnsafePath

MAX_BYTES = 1 << 30
_REF = re.compile(r"sha256:([0-9a-f]{64})\Z")


class BlobMissing(OrchestratorError):
    """The log names a blob that is not in the folder."""

    exit_code = ExitCode.LOG


class BlobDamaged(OrchestratorError):
    """A blob's bytes are not what its name says, or its name is none."""

    exit_code = ExitCode.LOG


class BlobStore:
    """A flat folder of blobs.

    Args:
        folder: made when the first blob is stored.
        files: the system's calls; another object only in tests.
    """

    def __init__(self, folder: str | os.PathLike[str], *, files: DirFiles | None = None) -> None:
        self._store = FileStore(folder, files=files)

    def put(self, data: bytes) -> BlobRef:
        """Store bytes (at most 1 GiB), durable on return; a second time does nothing.

        A blob that was damaged meanwhile is whole again afterwards.
        """
        if len(data) > MAX_BYTES:
            raise OrchestratorError(
                f"can't store a blob of {len(data)} bytes: the limit is {MAX_BYTES}",
                hint="write large results to files in ORCH_OUTPUTS",
            )
        ref = ref_of(data)
        self._store.safe_write(_digest_of(ref), data)
        return ref

    def get(self, ref: BlobRef) -> bytes:
        """Return a blob's bytes, verified.

        Raises:
            BlobMissing: if it is not there.
            BlobDamaged: if its bytes, or the reference, are wrong.
        """
        digest = _digest_of(ref)
        place = str(self._store.base / digest)
        try:
            data = self._store.read_bytes(digest)
        except FileNotThere as error:
            raise BlobMissing(
                f"blob {ref.blob} is missing", place=place, hint="resume the job to make it again"
            ) from error
        if len(data) != ref.bytes or hashlib.sha256(data).hexdigest() != digest:
            raise BlobDamaged(
                f"blob {ref.blob} is damaged: its {len(data)} bytes have another hash",
                place=place,
                hint="resume the job to make it again",
            )
        return data

    def holds(self, ref: BlobRef) -> bool:
        """Return whether a blob is there and whole; never raises for what it finds."""
        try:
            digest = _digest_of(ref)
            return self._store.digest(digest) == (digest, ref.bytes)
        except (BlobDamaged, FileStoreError, UnsafePath):
            return False

    def sweep(self) -> int:
        """Remove what writers that were killed left half written, and return how much it was.

        Nobody else may be writing.
        """
        return self._store.sweep()


def ref_of(data: bytes) -> BlobRef:
    """Return how a blob of these bytes is referred to, without storing it."""
    return BlobRef(blob=f"sha256:{hashlib.sha256(data).hexdigest()}", bytes=len(data))


def _digest_of(ref: BlobRef) -> str:
    match = _REF.match(ref.blob)
    if match is None:
        raise BlobDamaged(f"{ref.blob!r} names no blob: expected sha256: and 64 hex digits")
    return match[1]
