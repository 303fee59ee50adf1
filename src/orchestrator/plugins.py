"""What other packages bring along: providers and kinds of steps, found by entry point.

    [project.entry-points."unified_orchestrator.providers"]
    acme = "acme_models:connect"      # connect(base_url, environ) -> Provider

    [project.entry-points."unified_orchestrator.steps"]
    fetch = "acme_steps:FetchStep"    # FetchStep() -> StepKind

Only names that a spec uses and that are not built in are looked up; nothing is loaded before it
is used.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint

PROVIDERS = "unified_orchestrator.providers"
STEPS = "unified_orchestrator.steps"


def names(group: str) -> tuple[str, ...]:
    """Return the names that installed packages bring, sorted."""
    return tuple(sorted(_found(group)))


def load(group: str, name: str) -> Any:
    """Return what a package brings under a name.

    Raises:
        ConfigError: it can't be imported.
    """
    entry = _found(group)[name]
    package = entry.dist.name if entry.dist is not None else entry.module
    try:
        return entry.load()
    except Exception as error:
        raise ConfigError(
            f"`{name}` of the package {package} can't be loaded: {type(error).__name__}: {error}",
            place=f"entry point {group}, {entry.value}",
            hint=f"repair or uninstall {package}",
        ) from error


def step_kinds(used: Iterable[str]) -> dict[str, Any]:
    """Return the kinds of steps that are used, each made once.

    Raises:
        ConfigError: one can't be loaded or made.
    """
    kinds = {}
    for name in sorted(set(used)):
        kind = load(STEPS, name)
        try:
            kinds[name] = kind()
        except Exception as error:
            raise ConfigError(
                f"the kind of step `{name}` can't be made: {type(error).__name__}: {error}",
                place=f"entry point {STEPS}",
                hint="see what its package asks for",
            ) from error
    return kinds


@functools.cache
def _found(group: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # costs more than all else that is imported here

    return {entry.name: entry for entry in entry_points(group=group)}
