"""Reading a log: typed, with and without checking each line's sum."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator

import msgspec
from harness import Bar, Case, Context, Row, Timed, clock, interleave, missing, paired
from logs import Ended, Started, StepStarted, StepSucceeded, Types, write

from eventlog import LogOpened, read, read_dicts, read_events

_CHUNK = 64 << 10


def run(context: Context) -> list[Row]:
    count = context.pick(100_000, 20_000)
    rounds = context.times(5, 3)
    path = os.path.join(context.folder(), "events.jsonl")
    write(path, count)
    union = Types | LogOpened
    decoder = msgspec.json.Decoder(union)
    works: dict[str, Callable[[], int]] = {
        "typed": lambda: sum(1 for _ in read_events(path, union)),
        "checked": lambda: sum(1 for _ in read_events(path, union, verify=True)),
        "some": lambda: sum(1 for _ in read_events(path, StepStarted)),
        "records": lambda: sum(1 for _ in read(path, union)),
        "checked records": lambda: sum(1 for _ in read(path, union, verify=True)),
        "dicts": lambda: sum(1 for _ in read_dicts(path)),
        "decode_lines": lambda: sum(len(decoder.decode_lines(chunk)) for chunk in _chunks(path)),
        "stdlib json": lambda: _count(path, json.loads),
    }
    why = missing("pydantic")
    if not why:
        works["pydantic"] = functools.partial(_count, path, _pydantic())
    seconds = interleave(rounds, {name: _timed(work, count) for name, work in works.items()})
    ours = (
        ("typed", "typed events", Bar(">=", 0.7)),
        ("checked", "typed events, each sum checked", Bar(">=", 0.35)),
        ("some", "typed events, half of them of unknown types", None),
        ("records", "records: with seq, ts, offset and sum", None),
        ("checked records", "records, each sum checked", None),
        ("dicts", "as dicts", None),
    )
    rows = [
        paired(
            what,
            seconds[name],
            "msgspec decode_lines" if beside == "decode_lines" else beside,
            seconds[beside],
            unit="events/s",
            scale=lambda second: count / second,
            bar=bar if beside == "decode_lines" else None,
        )
        for name, what, bar in ours
        for beside in list(works)[len(ours) :]
    ]
    return [*rows, Row(what="pydantic", note=why)] if why else rows


def _timed(work: Callable[[], int], count: int) -> Timed:
    def timed() -> float:
        with clock() as elapsed:
            got = work()
            seconds = elapsed()
        if got != count + 1:  # and log.opened
            raise RuntimeError(f"{got} events were read where {count + 1} are due")
        return seconds

    return timed


def _chunks(path: str) -> Iterator[bytes]:
    """Yield the file in pieces that end with a line."""
    rest = b""
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            whole, newline, after = chunk.rpartition(b"\n")
            yield rest + whole + newline
            rest = after


def _count(path: str, decode: Callable[[bytes], object]) -> int:
    with open(path, "rb") as file:
        return sum(1 for _ in map(decode, file))


def _pydantic() -> Callable[[bytes], object]:
    """Return a decoder of the same events as pydantic models."""
    from typing import Annotated, Literal

    import pydantic

    def model(event: type, data: type, tag: str) -> type[pydantic.BaseModel]:
        fields = {name: (kind, ...) for name, kind in data.__annotations__.items()}
        return pydantic.create_model(
            event.__name__,
            type=(Literal[tag], ...),
            step=(str, ...),
            data=(pydantic.create_model(data.__name__, **_evaluated(fields)), ...),
        )

    def _evaluated(fields: dict[str, tuple[object, object]]) -> dict[str, tuple[object, object]]:
        plain = {"int": int, "float": float, "str": str}
        return {name: (plain.get(str(kind), kind), rest) for name, (kind, rest) in fields.items()}

    class Opened(pydantic.BaseModel):
        type: Literal["log.opened"]
        data: dict[str, object]

    union = (
        model(StepStarted, Started, "step.started")
        | model(StepSucceeded, Ended, "step.succeeded")
        | Opened
    )
    found = pydantic.TypeAdapter(Annotated[union, pydantic.Field(discriminator="type")])
    return found.validate_json


CASE = Case(
    name="read",
    about="a log of 100,000 events of two types, read from the file's cache",
    bar="typed >= 0.7x msgspec decode_lines without checking, >= 0.35x with",
    run=run,
)
