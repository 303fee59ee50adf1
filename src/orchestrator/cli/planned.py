"""`orch plan`: what a leg would do, and why; `orch run` prints the same in short."""

from __future__ import annotations

import functools
import re
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog.table import visible

from ..spec.model import Spec
from . import out
from .flags import check_refreshed

if TYPE_CHECKING:
    from ..planning import Forecast
    from ..reasons import Change, Foreseen

COLOURS = {
    "run": "yellow",
    "cached": "green",
    "skipped": "green",
    "asks": "yellow",
    "fails": "red",
    "depends": "dim",
}
SHORT = 12
"""Steps that `orch run` tells before it goes on; the rest is counted."""
_HASH = re.compile(r"(?:sha256:)?([0-9a-f]{12})[0-9a-f]{4,52}\Z")
_WHY = 160


def plan(spec: Spec, again: str, *, as_json: bool, runs_dir: str, **options: Any) -> None:
    """Print what a leg would do; nothing is run, and nothing written.

    Raises:
        OrchestratorError: what would keep the spec from running, as far as it can be known.
    """
    import anyio

    from ..options import Options
    from ..wiring import forecast

    check_refreshed(spec, options.get("refresh", ()))
    given = Options(warn=out.talk, runs_dir=runs_dir, **options)
    found = anyio.run(functools.partial(forecast, spec, given))
    if as_json:
        out.document(_document(found))
        return
    for line in lines_of(found, found.steps):
        out.data(line)
    out.talk(f"{summary(found)}; nothing was run")
    out.talk(f"next: {again}")


def short(found: Forecast) -> list[str]:
    """Return what `orch run` prints before it goes on: what is not skipped, without values."""
    told = [step for step in found.steps if step.action not in ("skipped", "depends")]
    lines = [f"plan: {summary(found)}"]
    lines += [f"  {_word(step)} {step.step}  {visible(step.why)[:_WHY]}" for step in told[:SHORT]]
    if len(told) > SHORT:
        lines.append(f"  … and {len(told) - SHORT} more: orch plan tells all")
    return lines


def summary(found: Forecast) -> str:
    """Return how many steps there are of each action."""
    words = {"asks": "to be approved", "depends": "depending on them", "fails": "that can't run"}
    tally = found.tally
    parts = [
        f"{tally[action]} {words.get(action, action)}" for action in COLOURS if tally.get(action)
    ]
    return f"{out.count(len(found.steps), 'step')}: {', '.join(parts)}" if parts else "no steps"


def lines_of(found: Forecast, steps: tuple[Foreseen, ...]) -> list[str]:
    """Return the lines for steps, each with what has changed below it."""
    width = max((len(step.step) for step in found.steps), default=0)
    lines = []
    for step in steps:
        lines.append(f"{_word(step)} {step.step:<{width}}  {visible(step.why)}".rstrip())
        for change in step.changes:
            lines += [f"          {visible(line)}" for line in _told(change)]
    return lines


def _word(step: Foreseen) -> str:
    return out.paint(f"{step.action:<8}", COLOURS[step.action], sys.stdout)


def _told(change: Change) -> list[str]:
    inside = change.path.startswith((f"{change.part}.", f"{change.part}["))
    place = change.path if inside else f"{change.part} {change.path}".rstrip()
    if change.diff:
        return [f"{place}:", *(f"  {line}" for line in change.diff)]
    note = " (hashes: the values are not kept)" if change.hashes else ""
    return [f"{place}: {_brief(change.before)} -> {_brief(change.after)}{note}"]


def _brief(value: str | None) -> str:
    if value is None:
        return "(none)"
    if not value:
        return "(empty)"
    found = _HASH.match(value)
    return f"{found[1]}…" if found else value


def _document(found: Forecast) -> dict[str, Any]:
    return {**msgspec.to_builtins(found), "summary": found.tally}
