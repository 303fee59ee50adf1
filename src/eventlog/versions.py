"""Events of older versions, in the form of today's: a program's own upcasters. Pure.

The version of an event is the line's member `v`, a number from 1; a line without it is of
version 1. A type that has versions declares the one it writes:

    class Paid(Event, frozen=True, kw_only=True, tag="paid"):
        v: int = 2
        data: Payment

    upcasters = Upcasters()

    @upcasters.step("paid", 1)
    def cents(event):
        event["data"]["cents"] = round(event["data"].pop("euros") * 100)
        return event

A step takes an event's members (`type`, `v`, `data`, …; not `seq`, `ts` and what else belongs to
the line) from one version to the next. What is older goes through several. What is newer than
the last one known is left as it is: typed readers hand it out as an UnknownEvent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, KeysView
from typing import Any

import msgspec

from .errors import EventInvalid
from .sealer import ENVELOPE

Members = dict[str, Any]
Step = Callable[[Members], Members]

MAX_STEPS = 1000
"""Taken for one event; more go in a circle."""


class Upcasters:
    """Steps from each version of an event type to the next."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[int, Step]] = {}

    def step(self, kind: str, version: int) -> Callable[[Step], Step]:
        """Return a decorator for the function that takes `kind` from `version` to the next.

        The function may change what it is given. It returns the event, to which the next
        version is given here; if it gives it another type, that one's steps follow, from the
        `v` it has then.

        Raises:
            ValueError: there is such a step, or the version is no number from 1.
        """
        if version < 1:
            raise ValueError(f"versions begin with 1, so none is {version}")
        if version in self._steps.get(kind, {}):
            raise ValueError(f"there is an upcaster for version {version} of {kind} already")

        def register(function: Step) -> Step:
            self._steps.setdefault(kind, {})[version] = function
            return function

        return register

    def latest(self, kind: str) -> int:
        """Return the version that the last step leads to, 1 if there is none."""
        return max(self._steps.get(kind, {}), default=0) + 1

    @property
    def kinds(self) -> KeysView[str]:
        """The types that have steps."""
        return self._steps.keys()

    def __contains__(self, kind: object) -> bool:
        return kind in self._steps

    def __call__(self, event: Members) -> Members:
        """Return an event's members in the latest version, or as they are if it is later.

        Raises:
            EventInvalid: a step is missing, fails, or returns no event.
        """
        for _ in range(MAX_STEPS):
            kind, version = event.get("type"), version_of(event.get("v", 1))
            if not isinstance(kind, str) or version is None or version >= self.latest(kind):
                return event
            event = self._take(kind, version, event)
        raise EventInvalid(f"the upcasters of {kind} go in a circle")

    def _take(self, kind: str, version: int, event: Members) -> Members:
        step = self._steps[kind].get(version)
        if step is None:
            raise EventInvalid(
                f"no upcaster takes {kind} from version {version} to {version + 1}",
                hint="register one; it may return the event as it is",
            )
        try:
            after = step(event)
        except Exception as error:
            raise EventInvalid(
                f"the upcaster of version {version} of {kind} failed: {error!r}"
            ) from error
        if not isinstance(after, dict):
            raise EventInvalid(f"the upcaster of version {version} of {kind} returned no dict")
        return after | {"v": version + 1} if after.get("type") == kind else after


def version_of(said: Any) -> int | None:
    """Return a version, None if what a line says is none: some other tool's `v`."""
    return said if type(said) is int and said >= 1 else None


def members_of(line: dict[str, Any]) -> Members:
    """Return what is the event's of a line's members."""
    return {name: member for name, member in line.items() if name not in ENVELOPE}


def declared(types: Iterable[type], upcasters: Upcasters | None) -> dict[str, int]:
    """Return the latest version known of each type that declares one.

    Raises:
        TypeError: a struct and the upcasters disagree.
    """
    found: dict[str, int] = {}
    for struct in types:
        tag = struct.__struct_config__.tag  # type: ignore[attr-defined]  # a struct
        version = _written(struct)
        due = upcasters.latest(tag) if upcasters is not None and tag in upcasters else version
        if version != due:
            raise TypeError(
                f"upcasters take {tag} to version {due}, and {struct.__name__} writes"
                f" {version or 'none'}: declare `v: int = {due}`"
            )
        if version is not None:
            found[tag] = version
    return found


def _written(struct: type) -> int | None:
    """Return the version that a struct's events are written with."""
    if struct.__struct_config__.omit_defaults:  # type: ignore[attr-defined]  # a struct
        return None
    for field in msgspec.structs.fields(struct):
        if field.encode_name == "v":
            return version_of(field.default)
    return None
