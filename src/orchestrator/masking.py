"""Keep known secrets out of what is recorded: every form of them that a text may hold. Pure.

A secret is looked for as it is, percent-encoded, in base64 (at each of the three places at which
it may begin within a group), in hex, and as JSON writes it. What is found becomes `[NAME]`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec

MIN_CHARS = 8
"""A shorter value is a stand-in (`x`, `none`): it occurs in any text."""


class Masker:
    """Replaces secrets.

    Args:
        secrets: name to value; values that are too short to be told from other text are left out.
    """

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._names: dict[bytes, bytes] = {}
        for name, value in (secrets or {}).items():
            if len(value) >= MIN_CHARS:
                for form in _forms(value):
                    self._names.setdefault(form, f"[{name}]".encode())
        forms = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, forms))) if forms else None
        self._longest = len(forms[0]) if forms else 0

    def __bool__(self) -> bool:
        return self._pattern is not None

    def data(self, data: bytes) -> bytes:
        """Return bytes without secrets."""
        if self._pattern is None:
            return data
        return self._pattern.sub(lambda match: self._names[match[0]], data)

    def text(self, text: str) -> str:
        """Return text without secrets."""
        if self._pattern is None:
            return text
        raw = text.encode("utf-8", "surrogatepass")
        masked = self.data(raw)
        return text if masked is raw else masked.decode("utf-8", "surrogatepass")

    def value(self, value: Any) -> Any:
        """Return a JSON value without secrets, in strings and in keys."""
        if self._pattern is None:
            return value
        try:
            encoded = msgspec.json.encode(value)
        except (TypeError, ValueError, RecursionError):
            return value  # no JSON: whoever records it refuses it
        return value if self._pattern.search(encoded) is None else self._walk(value)

    def stream(self) -> Stream:
        """Return a masker for text that comes in pieces."""
        return Stream(self)

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._walk(key): self._walk(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._walk(item) for item in value]
        return value

    def held_back(self, data: bytes) -> int:
        """Return how many bytes at the end may be the beginning of a secret."""
        for length in range(min(self._longest - 1, len(data)), 0, -1):
            tail = data[-length:]
            if any(form.startswith(tail) for form in self._names):
                return length
        return 0


class Stream:
    """Masks what comes in pieces; a secret may be cut by them anywhere."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be passed on by now."""
        if not self._masker:
            return chunk
        data = self._masker.data(self._held + chunk)
        held = self._masker.held_back(data)
        self._held = data[len(data) - held :]
        return data[: len(data) - held]

    def end(self) -> bytes:
        """Return what was held back."""
        held, self._held = self._held, b""
        return held


def _forms(value: str) -> Iterator[bytes]:
    raw = value.encode("utf-8", "surrogateescape")
    yield raw
    yield quote(raw, safe="").encode()
    yield quote_plus(raw).encode()
    yield msgspec.json.encode(value)[1:-1]
    yield raw.hex().encode()
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + raw)
        # The first and last characters also hold bits of what stands around the secret.
        start = -(-shift * 8 // 6)
        whole = encoded[start : (shift + len(raw)) * 8 // 6]
        yield whole
        yield whole.translate(bytes.maketrans(b"+/", b"-_"))


NOTHING = Masker()
