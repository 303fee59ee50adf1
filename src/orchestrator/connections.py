"""The providers that a job calls, each connected once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio

from .cachepolicy import DEFAULT
from .spec.model import Spec

if TYPE_CHECKING:
    from .cache import Cache
    from .providers.base import Provider
    from .state import JobState


class Connections:
    """Connects providers by name and base URL.

    Args:
        environ: has addresses and keys.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._open: dict[tuple[str, str], Provider] = {}

    def connect(self, name: str, base_url: str) -> Provider:
        """Return the provider; nothing is called yet."""
        from .providers import connect

        key = (name, base_url)
        if key not in self._open:
            self._open[key] = connect(name, base_url=base_url or None, environ=self._environ)
        return self._open[key]

    def check(self, spec: Spec, calls: set[str]) -> None:
        """Raise ConfigError for what is known to be missing before the steps `calls` run."""
        from .providers import check_model

        for name, step in spec.steps.items():
            if step.llm is not None:
                check_model(step.llm.provider, step.llm.model)
                provider = self.connect(step.llm.provider, step.llm.base_url)
                if name in calls:
                    provider.check()

    async def settle(
        self, spec: Spec, before: JobState | None, calls: set[str]
    ) -> tuple[Spec, dict[str, str]]:
        """Check, and return the spec with a model wherever it says `auto`, and what was chosen.

        Raises:
            ConfigError: as `check` does; a server can't be asked, or has nothing to offer.
        """
        from .providers.auto import settle

        self.check(spec, calls)
        started = before.started if before is not None else None
        try:
            return await settle(spec, self.connect, started.models if started else {})
        except BaseException:
            await self.aclose()
            raise

    def warm(self, spec: Spec, cache: Cache) -> None:
        """Load the client of each provider that is about to be called, before the clock starts.

        A job that is answered from the cache never loads one.
        """
        for step in spec.steps.values():
            if step.llm is not None and cache.expects_call(step.name, step.cache or DEFAULT):
                self.connect(step.llm.provider, step.llm.base_url).warm()

    async def aclose(self) -> None:
        """Close all connections."""
        with anyio.CancelScope(shield=True):
            for provider in self._open.values():
                await provider.aclose()
