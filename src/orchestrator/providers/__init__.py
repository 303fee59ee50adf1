"""Providers: where models answer.

`connect` is the door; what a provider offers is in `base`. Nothing here loads a provider's
module, and no provider's module loads httpx, before it is used.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping

from .. import plugins
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
    "all_names",
    "check_model",
    "connect",
    "known",
]

_MODULES = {
    "offline": ".offline",
    "ollama": ".ollama",
    "openai": ".openai",
    "anthropic": ".anthropic",
    "mlx": ".mlx",
}

NAMES: tuple[str, ...] = tuple(_MODULES)
"""The built-in providers: what a spec's `provider:` and `--provider` can be without more."""


def known(name: str) -> bool:
    """Tell whether there is such a provider, built in or installed."""
    return name in _MODULES or name in plugins.names(plugins.PROVIDERS)


def all_names() -> tuple[str, ...]:
    """Return the names of all providers, the built-in ones first."""
    return (*NAMES, *(name for name in plugins.names(plugins.PROVIDERS) if name not in NAMES))


def connect(name: str, *, base_url: str | None = None, environ: Mapping[str, str]) -> Provider:
    """Return the provider, without calling anything yet.

    Args:
        name: one of `all_names()`.
        base_url: of a spec; goes before the provider's environment variable. `offline` has no
            server and does not look at it.
        environ: where addresses and keys are looked up.

    Raises:
        ConfigError: for an unknown name, an address that can't be used, or a key that would
            go to a server which neither the environment nor the vendor named.
    """
    if name not in _MODULES:
        return _installed(name, base_url, environ)
    module = importlib.import_module(_MODULES[name], __package__)
    provider: Provider = module.connect(base_url, environ)
    return provider


def check_model(name: str, model: str) -> None:
    """Raise ConfigError if it is known without a call that this provider has no such model."""
    if name == "offline":
        from .offline import known_model

        known_model(model)
    elif not known(name):
        raise _unknown(name)


def _installed(name: str, base_url: str | None, environ: Mapping[str, str]) -> Provider:
    """Return a provider that another package brings."""
    if not known(name):
        raise _unknown(name)
    connect = plugins.load(plugins.PROVIDERS, name)
    try:
        provider: Provider = connect(base_url, environ)
        found = provider.name
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the provider `{name}` can't be made: {type(error).__name__}: {error}",
            place=f"entry point {plugins.PROVIDERS}",
            hint="see what its package asks for",
        ) from error
    if found != name:
        raise ConfigError(
            f"the provider `{name}` calls itself `{found}`",
            place=f"entry point {plugins.PROVIDERS}",
            hint="its `name` must be that of its entry point: it stands in events and keys",
        )
    return provider


def _unknown(name: str) -> ConfigError:
    every = all_names()
    near = difflib.get_close_matches(name, every, n=1)
    guess = f"did you mean `{near[0]}`? " if near else ""
    return ConfigError(
        f"no provider is called `{name[:64]}`",
        place="provider",
        hint=f"{guess}known are {', '.join(every)}",
    )
