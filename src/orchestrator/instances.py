"""Names of a fan-out's instances: one step of the spec, many items. Pure.

In memory an instance is `name[item]` wherever a step's name is asked for. In a line it is two
members, `step` and `item`, so that a query can group by the step. A step's name holds no
bracket, so the two forms never mix.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from eventlog import Event

from .events import StepEvent
from .keys import canonical

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,@+-]{0,63}")
_OTHER = re.compile(r"[^A-Za-z0-9._=,@+-]+")
_SLUG = 40


def instance(step: str, item: str) -> str:
    """Return the name of one item's instance."""
    return f"{step}[{item}]"


def base_of(name: str) -> str:
    """Return the step's name in the spec."""
    return name.partition("[")[0]


def item_of(name: str) -> str:
    """Return the item's identity, or nothing for what is no instance."""
    return name.partition("[")[2][:-1]


def identities(wanted: Sequence[Any]) -> tuple[str, ...]:
    """Return an identity for each value: readable where it can be, unique, a good file name.

    It follows from the value alone, never from its place: an item keeps its identity when
    others come or go. Equal values are told apart by how many came before.
    """
    seen: dict[str, int] = {}
    found = []
    for value in wanted:
        name = _identity(value)
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}~{seen[name]}")
    return tuple(found)


def _identity(value: Any) -> str:
    text = value if isinstance(value, str) else canonical(value).decode()
    if _PLAIN.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    slug = _OTHER.sub("-", text[: 4 * _SLUG]).strip("-.=,@+_")[:_SLUG]
    return f"{slug}-{digest[:8]}" if slug else digest[:16]


def apart(event: Event) -> Event:
    """Return an event as its line has it: an instance's name in two members."""
    if not isinstance(event, StepEvent) or "[" not in event.step:
        return event
    step, item = base_of(event.step), item_of(event.step)
    return msgspec.structs.replace(event, step=step, item=item)


def joined(event: Any) -> Any:
    """Return an event as it is in memory: `apart` undone."""
    if not isinstance(event, StepEvent) or event.item is msgspec.UNSET:
        return event
    name = instance(event.step, event.item)
    return msgspec.structs.replace(event, step=name, item=msgspec.UNSET)
