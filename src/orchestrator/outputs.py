"""Where step outputs live: small ones in the event, large ones as blobs."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import msgspec

from .blobs import BlobStore, ref_of
from .events import BlobRef
from .state import Success

INLINE_MAX_BYTES = 16 << 10
CACHED_BYTES = 64 << 20
"""Large outputs kept in memory for the steps that come next; others are read again."""

_SCALARS = (str, int, float, bool, type(None))


class Outputs:
    """Turns outputs into what an event carries, and back.

    Args:
        blobs: the job's artifacts.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        self._recent_bytes = 0
        self._held: dict[str, bytes] = {}

    def keep(self, output: Any, encoded: bytes) -> Any:
        """Return the output as a reader of the log will see it, or a blob's reference.

        A blob is durable on return. An output that looks like a reference is stored as a blob,
        so that it can't be mistaken.
        """
        if len(encoded) <= INLINE_MAX_BYTES:
            value = copy_of(output)
            if not (isinstance(value, dict) and "$blob" in value):
                return value
        ref = self.blobs.put(encoded)
        self._remember(ref.blob, encoded)
        return msgspec.to_builtins(ref)

    def hold(self, encoded: bytes) -> Any:
        """Return a reference to an output that is had in memory alone, until this object goes."""
        ref = ref_of(encoded)
        self._held[ref.blob] = encoded
        return msgspec.to_builtins(ref)

    def load(self, output: Any) -> Any:
        """Return the real output of what an event carries: a copy, which the caller may change.

        Raises:
            BlobMissing, BlobDamaged: it was a blob and is not there any more.
        """
        ref = as_ref(output) if type(output) is dict else None
        if ref is None:
            return copy_of(output)
        encoded = self._held.get(ref.blob)
        if encoded is not None:
            return msgspec.json.decode(encoded)
        encoded = self._recent.get(ref.blob)
        if encoded is None:
            encoded = self.blobs.get(ref)
            self._remember(ref.blob, encoded)
        else:
            self._recent.move_to_end(ref.blob)
        return msgspec.json.decode(encoded)

    def holds(self, success: Success) -> str:
        """Return why the output can't be had any more, or nothing."""
        ref = as_ref(success.output) if type(success.output) is dict else None
        if ref is not None and not self.blobs.holds(ref):
            return f"its output {ref.blob} is gone from artifacts/, or changed"
        return ""

    def _remember(self, blob: str, encoded: bytes) -> None:
        if blob in self._recent or len(encoded) > CACHED_BYTES:
            return
        self._recent[blob] = encoded
        self._recent_bytes += len(encoded)
        while self._recent_bytes > CACHED_BYTES:
            _, dropped = self._recent.popitem(last=False)
            self._recent_bytes -= len(dropped)


def copy_of(value: Any) -> Any:
    """Return a value as plain JSON makes it: lists for tuples, string keys, nothing shared."""
    if value is None or type(value) in _SCALARS:
        return value
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except TypeError:  # a class of the user's that is a str, an int or a float
        return json.loads(json.dumps(value))


def as_ref(output: Any) -> BlobRef | None:
    """Return the reference that an event carries in place of an output, if it is one."""
    if not isinstance(output, dict) or "$blob" not in output:
        return None
    try:
        return msgspec.convert(output, BlobRef)
    except msgspec.ValidationError:
        return None  # another program's value: we store what looks like this as a blob
