"""What makes a step or a call reusable: hashes over canonical JSON. Pure.

A key names what a result depends on and nothing else: not the step's name, the job, the attempt,
the time, or how the step is retried. The recipe has a version, which is part of the key.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .errors import FailureKind, StepError
from .jsonvalue import HINT, MAX_DEPTH, MAX_INT, MIN_INT, fault_of

KEY_VERSION = 1

_TINY = 16

_DIGEST = 64
"""Hex digits of a SHA-256."""

_LONG_NUMBER = re.compile(rb"\d{19}")
"""There may be an integer of over 64 bits."""
_FEW = 8
"""Needs with which a key is worth remembering."""

_new_hash = hashlib.sha256().copy  # a copy of an empty one costs less than a new one

_ENCODER = msgspec.json.Encoder(order="sorted")


def canonical(value: Any) -> bytes:
    """Return a JSON value as compact UTF-8 with sorted keys."""
    return _ENCODER.encode(value)


def sha256(data: bytes) -> str:
    """Return 64 hex digits."""
    digest = _new_hash()
    digest.update(data)
    return digest.hexdigest()


def part_hashes(parts: Mapping[str, Any]) -> dict[str, str]:
    """Return a short hash for each component, which is what is stored to explain a key."""
    if len(parts) == 1:  # a function of `run_dag`, as a rule
        return {name: _part_hash(value) for name, value in parts.items()}
    return {name: _part_hash(value) for name, value in sorted(parts.items())}


def _part_hash(value: Any) -> str:
    if type(value) is str and len(value) == _DIGEST:
        return _digest_hash(value)
    return sha256(canonical(value))[:16]


@functools.lru_cache(maxsize=1024)
def _digest_hash(value: str) -> str:
    """Return the hash of a hash: steps that share their source ask for it again and again."""
    return sha256(canonical(value))[:16]


def step_key(kind: str, parts: Mapping[str, Any], needs: Sequence[str | None]) -> str:
    """Return a step's key.

    Args:
        kind: of the step.
        parts: component name to JSON value, as `StepKind.prepare` gives them.
        needs: the output hashes of what it needs, in the order of `needs`.
    """
    if len(parts) == 1 and len(needs) <= _FEW:
        [(name, value)] = parts.items()
        if type(value) is str and len(value) == _DIGEST:
            return _digest_key(kind, name, value, tuple(needs))
    return sha256(canonical({"v": KEY_VERSION, "kind": kind, "parts": parts, "needs": needs}))


@functools.lru_cache(maxsize=1024)
def _digest_key(kind: str, name: str, value: str, needs: tuple[str | None, ...]) -> str:
    """Return the key of a function's step: of those that differ in nothing, it is made once."""
    parts = {name: value}
    return sha256(canonical({"v": KEY_VERSION, "kind": kind, "parts": parts, "needs": needs}))


def call_key(components: Mapping[str, Any]) -> str:
    """Return the key of a call of a model: of the whole effective request, without credentials."""
    return sha256(canonical({"v": KEY_VERSION, "call": components}))


def output_hash(encoded: bytes, files: Sequence[tuple[str, str]]) -> str:
    """Return the hash of a step's result: its canonical value, and (path, sha256) of its files."""
    if not files and len(encoded) <= _TINY:
        return _tiny_hash(encoded)
    return sha256(b'{"files":%b,"output":%b}' % (canonical(sorted(files)), encoded))


@functools.lru_cache(maxsize=256)
def _tiny_hash(encoded: bytes) -> str:
    """Return the hash of None and its like: what most steps return is made, and kept, once."""
    return sha256(b'{"files":[],"output":%b}' % encoded)


def encode_output(step: str, output: Any) -> bytes:
    """Return a step's output as canonical JSON.

    Raises:
        StepError: kind `output`; it names the path inside the value that is no JSON.
    """
    if output is None:
        return b"null"
    try:
        encoded = canonical(output)
        if _is_plain(output, encoded):
            return encoded
    except (TypeError, ValueError, RecursionError) as error:
        encoded, cause = b"", str(error)
    # It may be what JSON has no word for and the encoder turned into something else: see.
    fault = fault_of(output)
    if not fault and not encoded:
        try:
            return canonical(json.loads(json.dumps(output)))  # of types derived from plain ones
        except (TypeError, ValueError, RecursionError):
            fault = cause
    if fault:
        raise StepError(
            f"the output of step {step} is no JSON value: {fault}",
            kind=FailureKind.OUTPUT,
            hint=HINT,
        )
    return encoded


def _is_plain(output: Any, encoded: bytes) -> bool:
    """Return whether an encoded value is surely JSON: it comes back equal, and is not too deep."""
    kind = type(output)
    if kind is str or kind is bool:
        return True
    if kind is int:
        return bool(MIN_INT <= output <= MAX_INT)
    if len(encoded) > 2 * MAX_DEPTH and encoded.count(b"{") + encoded.count(b"[") > MAX_DEPTH:
        return False
    if _LONG_NUMBER.search(encoded):
        return False
    return bool(msgspec.json.decode(encoded) == output)


def first_difference(now: Mapping[str, str], before: Mapping[str, str]) -> str:
    """Name the components that differ, comma-separated, or nothing."""
    names = sorted(now.keys() | before.keys())
    return ", ".join(name for name in names if now.get(name) != before.get(name))
