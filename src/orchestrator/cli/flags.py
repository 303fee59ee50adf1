"""What the commands that begin a leg, or plan one, are told of it."""

from __future__ import annotations

from typing import Any

import msgspec

from ..cachepolicy import CacheMode
from ..errors import UsageError
from ..spec.model import Spec
from ..suggest import did_you_mean


def settings(pairs: list[str]) -> dict[str, str]:
    """Return the inputs that `--set name=value` gave.

    Raises:
        UsageError: a pair without `=`.
    """
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(
                f"--set {pair!r} is no name=value", hint="for instance --set topic=bees"
            )
        given[name] = value
    return given


def cache_mode(*, no_cache: bool, refresh: bool, cache_only: bool) -> CacheMode:
    """Return what the three flags say together.

    Raises:
        UsageError: more than one of them.
    """
    chosen = [
        mode
        for flag, mode in (
            (no_cache, CacheMode.OFF),
            (refresh, CacheMode.REFRESH),
            (cache_only, CacheMode.ONLY),
        )
        if flag
    ]
    if len(chosen) > 1:
        raise UsageError("--no-cache, --refresh and --cache-only exclude each other")
    return chosen[0] if chosen else CacheMode.USE


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """What all commands that begin a leg, or plan one, may say of it."""

    keep_going: bool | None = None
    on_interrupted: str | None = None
    max_cost: str = ""
    no_cache: bool = False
    refresh: bool = False
    refresh_step: list[str] | None = None
    cache_only: bool = False
    prices: str = ""

    def options(self) -> dict[str, Any]:
        """Return them as options of a leg.

        Raises:
            UsageError: they exclude each other.
        """
        cache = cache_mode(no_cache=self.no_cache, refresh=self.refresh, cache_only=self.cache_only)
        if self.refresh_step and cache not in (CacheMode.USE, CacheMode.REFRESH):
            raise UsageError("--no-cache, --refresh and --cache-only exclude each other")
        return {
            "keep_going": self.keep_going,
            "on_interrupted": self.on_interrupted or "",
            "max_cost": self.max_cost or None,
            "cache": cache,
            "refresh": tuple(self.refresh_step or ()),
            "prices": self.prices,
        }

    def words(self) -> list[str]:
        """Return them as they are typed."""
        given = {
            "--keep-going": self.keep_going is True,
            "--no-keep-going": self.keep_going is False,
            "--no-cache": self.no_cache,
            "--refresh": self.refresh,
            "--cache-only": self.cache_only,
        }
        words = [word for word, said in given.items() if said]
        words += [f"--refresh={step}" for step in self.refresh_step or ()]
        for word, value in (
            ("--on-interrupted", self.on_interrupted),
            ("--max-cost", self.max_cost),
            ("--prices", self.prices),
        ):
            words += [word, value] if value else []
        return words


def check_refreshed(spec: Spec, steps: tuple[str, ...]) -> None:
    """Make sure that the steps that `--refresh=STEP` named are there.

    Raises:
        UsageError: one is not.
    """
    for name in steps:
        if name not in spec.steps:
            hint = did_you_mean(name, spec.steps) or f"its steps: {', '.join(spec.steps)}"
            raise UsageError(f"the spec has no step {name!r}", place="--refresh", hint=hint)
