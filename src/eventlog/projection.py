"""State as a fold over events: `initial` and `evolve`; and a state to go on from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec

from .codec import UNREADABLE, checksum, encode_members
from .errors import EventInvalid
from .event import Record

S = TypeVar("S")

_CHECK = b',"check":"'
_CHECK_SIZE = len(_CHECK) + 16 + 3  # "}\n


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A state, and the last line that is in it.

    Attributes:
        seq: of that line; -1 if there is none.
        offset: of its first byte.
        sum: its sum, which stands for all lines up to it. An unsealed line has none, and no fold
            can go on after it.
        version: of the projection.
        state: as JSON, so that folding on does not change it.
    """

    seq: int = -1
    offset: int = 0
    sum: str = ""
    version: int
    state: msgspec.Raw

    def encode(self) -> bytes:
        """Return it as one line that shows whether it is whole."""
        body = msgspec.json.encode(self)[:-1]
        return body + _CHECK + checksum(body).encode() + b'"}\n'

    @staticmethod
    def decode(line: bytes) -> Checkpoint | None:
        """Return what `encode` was given, None if this is not what it made of anything."""
        body, ending = line[:-_CHECK_SIZE], line[-_CHECK_SIZE:]
        if ending != _CHECK + checksum(body).encode() + b'"}\n':
            return None
        try:
            return _CHECKPOINT.decode(body + b"}")
        except UNREADABLE:
            return None


_CHECKPOINT = msgspec.json.Decoder(Checkpoint)


class Projection(msgspec.Struct, Generic[S], frozen=True):
    """How a state follows from records.

    Attributes:
        initial: makes the state before the first event.
        evolve: returns the state after a record; it may update the state in place, so a state
            that was folded further must not be used again.
        version: to be raised when `evolve` changes, so that no fold goes on from a state that
            an older one made.
        state: the state's type, for checkpoints; by default what `initial` returns. Where that
            says too little (`dict[int, Account]`), name it.
    """

    initial: Callable[[], S]
    evolve: Callable[[S, Record[Any]], S]
    version: int = 1
    state: Any = None

    def fold(self, records: Iterable[Record[Any]], state: S | None = None) -> S:
        """Return the state after all records, from `state` or from the start."""
        current = self.initial() if state is None else state
        for record in records:
            current = self.evolve(current, record)
        return current

    def checkpoint(self, state: S, last: Record[Any] | None) -> Checkpoint:
        """Return the state with the record that was folded last.

        Raises:
            EventInvalid: the state would not be the same when it is read back.
        """
        encoded = self._encode(state)
        if last is None:
            return Checkpoint(version=self.version, state=encoded)
        return Checkpoint(
            seq=last.seq,
            offset=last.offset,
            sum=last.sum,
            version=self.version,
            state=encoded,
        )

    def restore(self, checkpoint: Checkpoint) -> S | None:
        """Return the state of a checkpoint, None if it is not of this projection's version."""
        if checkpoint.version != self.version:
            return None
        try:
            return self._decode(checkpoint.state)
        except UNREADABLE:
            return None

    def _encode(self, state: S) -> msgspec.Raw:
        try:
            members = encode_members({"state": state})
            encoded = msgspec.Raw(members[len(b'"state":') :])
            same = self._decode(encoded) == state
        except EventInvalid as error:
            raise EventInvalid(f"a checkpoint {error.message.removeprefix('an event ')}") from error
        except UNREADABLE as error:
            raise EventInvalid(f"a checkpoint can't be made: {error}", hint=_HINT) from error
        if not same:
            raise EventInvalid(
                "a checkpoint can't be made: the state would not be the same when it is read back",
                hint=_HINT,
            )
        return encoded

    def _decode(self, state: msgspec.Raw) -> S:
        kind = type(self.initial()) if self.state is None else self.state
        return msgspec.json.decode(state, type=kind)


_HINT = "name the state's type: Projection(…, state=dict[int, Account])"
