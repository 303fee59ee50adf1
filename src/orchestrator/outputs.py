"""Where step outputs live: small ones in the event, large ones as blobs."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from .blobs import BlobStore
from .events import BlobRef
from .state import Success

INLINE_MAX_BYTES = 16 << 10
CACHED = 64
"""Large outputs kept in memory for the steps that come next; others are read again."""


class Outputs:
    """Turns outputs into what an event carries, and back.

    Args:
        blobs: the job's artifacts.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs
        self._recent: OrderedDict[str, Any] = OrderedDict()

    def keep(self, output: Any, encoded: bytes) -> Any:
        """Return the output itself, or a blob's reference; a blob is durable on return.

        An output that looks like a reference is stored as a blob, so that it can't be mistaken.
        """
        looks_like_ref = isinstance(output, dict) and "$blob" in output
        if len(encoded) <= INLINE_MAX_BYTES and not looks_like_ref:
            return output
        ref = self.blobs.put(encoded)
        self._remember(ref.blob, msgspec.json.decode(encoded))
        return msgspec.to_builtins(ref)

    def load(self, output: Any) -> Any:
        """Return the real output of what an event carries.

        Raises:
            BlobMissing, BlobDamaged: it was a blob and is not there any more.
        """
        ref = as_ref(output)
        if ref is None:
            return output
        if ref.blob not in self._recent:
            self._remember(ref.blob, msgspec.json.decode(self.blobs.get(ref)))
        self._recent.move_to_end(ref.blob)
        return self._recent[ref.blob]

    def holds(self, success: Success) -> str:
        """Return why the output can't be had any more, or nothing."""
        ref = as_ref(success.output)
        if ref is not None and not self.blobs.holds(ref):
            return f"its output {ref.blob} is gone from artifacts/, or changed"
        return ""

    def _remember(self, blob: str, value: Any) -> None:
        self._recent[blob] = value
        while len(self._recent) > CACHED:
            self._recent.popitem(last=False)


def as_ref(output: Any) -> BlobRef | None:
    """Return the reference that an event carries in place of an output, if it is one."""
    if isinstance(output, dict) and "$blob" in output:
        return msgspec.convert(output, BlobRef)
    return None
