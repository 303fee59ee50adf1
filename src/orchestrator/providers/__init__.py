"""Providers: where models answer.

`connect` is the door; what a provider offers is in `base`. Nothing here loads a provider's
module, and no provider's module loads httpx, before it is used.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping

from ..errors import ConfigError
from .base import Message, Progress, Provider, Reply, Request, Usage

__all__ = [
    "NAMES",
    "Message",
    "Progress",
    "Provider",
    "Reply",
    "Request",
    "Usage",
    "check_model",
    "connect",
]

_MODULES = {
    "offline": ".offline",
    "ollama": ".ollama",
    "openai": ".openai",
    "anthropic": ".anthropic",
    "mlx": ".mlx",
}

NAMES: tuple[str, ...] = tuple(_MODULES)
"""What a spec's `provider:` and `--provider` can be."""


def connect(name: str, *, base_url: str | None = None, environ: Mapping[str, str]) -> Provider:
    """Return the provider, without calling anything yet.

    Args:
        name: one of `NAMES`.
        base_url: of a spec; goes before the provider's environment variable. `offline` has no
            server and does not look at it.
        environ: where addresses and keys are looked up.

    Raises:
        ConfigError: for an unknown name, an address that can't be used, or a key that would
            go to a server which neither the environment nor the vendor named.
    """
    module = importlib.import_module(_module(name), __package__)
    provider: Provider = module.connect(base_url, environ)
    return provider


def check_model(name: str, model: str) -> None:
    """Raise ConfigError if it is known without a call that this provider has no such model."""
    if _module(name) == _MODULES["offline"]:
        from .offline import known_model

        known_model(model)


def _module(name: str) -> str:
    if name in _MODULES:
        return _MODULES[name]
    near = difflib.get_close_matches(name, NAMES, n=1)
    guess = f"did you mean `{near[0]}`? " if near else ""
    raise ConfigError(
        f"no provider is called `{name[:64]}`",
        place="provider",
        hint=f"{guess}known are {', '.join(NAMES)}",
    )
