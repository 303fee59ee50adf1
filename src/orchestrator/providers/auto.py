"""`model: auto`: ask a server of your own what it has, and take one of that.

A server that has loaded a model is asked for that one; else the first it lists that is not for
embeddings (ollama lists the newest first). The choice is recorded with the leg, so that a resumed
job keeps it. A vendor is never asked: what its newest model costs is nobody's guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import ConfigError, StepError

if TYPE_CHECKING:
    from ..spec.model import Spec
    from .base import Provider

AUTO = "auto"
LIST_MAX_S = 10.0

Connect = Callable[[str, str], "Provider"]


async def settle(
    spec: Spec, connect: Connect, recorded: Mapping[str, str]
) -> tuple[Spec, dict[str, str]]:
    """Return the spec with a model wherever it says `auto`, and what was chosen.

    Args:
        spec: checked.
        connect: returns the provider of a name and base URL.
        recorded: what earlier legs have chosen; it stays.

    Raises:
        ConfigError: a server can't be asked, or has nothing to offer.
    """
    chosen = dict(recorded)
    for step in spec.steps.values():
        llm = step.llm
        if llm is not None and llm.model == AUTO and place(llm) not in chosen:
            chosen[place(llm)] = await _choose(connect(llm.provider, llm.base_url))
    return settled(spec, chosen), chosen


def settled(spec: Spec, chosen: Mapping[str, str]) -> Spec:
    """Return the spec with what was chosen in place of `auto`."""
    steps = {}
    for step in spec.steps.values():
        llm = step.llm
        if llm is not None and llm.model == AUTO and place(llm) in chosen:
            llm = msgspec.structs.replace(llm, model=chosen[place(llm)])
            steps[step.name] = msgspec.structs.replace(step, llm=llm)
    return msgspec.structs.replace(spec, steps={**spec.steps, **steps}) if steps else spec


def place(llm: Any) -> str:
    """Return the provider, and the address if the spec says one: what a choice is recorded for."""
    return " ".join(filter(None, (llm.provider, llm.base_url)))


async def _choose(provider: Provider) -> str:
    where = f"provider {provider.name}, {provider.base_url}"
    listing = getattr(provider, "models", None)
    if listing is None:
        raise ConfigError(
            f"{provider.name} can't be asked which models it has",
            place=where,
            hint="name the model",
        )
    try:
        offered: list[str] = await listing(timeout_s=LIST_MAX_S)
    except StepError as error:
        raise ConfigError(
            f"`model: auto`: {error.message}", place=error.place or where, hint=error.hint
        ) from error
    for model in offered:
        if "embed" not in model.lower():
            return model
    raise ConfigError(
        f"`model: auto`: {provider.name} has no model that could answer",
        place=where,
        hint="load one, or name the model",
    )
