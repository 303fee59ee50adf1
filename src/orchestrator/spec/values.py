"""Values that a spec is made of beside its steps, and what is asked of them: plain, and frozen."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..providers.limits import ProviderLimits
from ..steps.base import LOG_BYTES, OUTPUT_BYTES

InputType = Literal["string", "number", "integer", "boolean", "array", "object"]


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that `--set` can give."""

    type: InputType = "string"
    default: Any = None
    required: bool = False
    description: str = ""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a spec came from.

    Attributes:
        file: the name for messages.
        path: absolute, empty for a spec that was no file.
        folder: absolute; paths in the spec are relative to it.
        text: the whole file; `text.encode()` is its bytes.
        sha256: of these bytes, 64 hex digits.
        via: of a nested job file, how it was come to.
    """

    file: str = ""
    path: str = ""
    folder: str = ""
    text: str = ""
    sha256: str = ""
    via: str = ""


class Alias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a short name of `models` means."""

    provider: str
    model: str
    base_url: str = ""
    options: dict[str, Any] = {}


class SpecLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a job may take.

    Attributes:
        providers: by name.
        llm, run, python: steps of the kind that run at once; None for the job's own limit.
        log_bytes: what an attempt may write to its step's log; more is counted.
        output_bytes: of one step's output as JSON; of a command's output the rest is cut off.
    """

    providers: dict[str, ProviderLimits] = {}
    llm: int | None = None
    run: int | None = None
    python: int | None = None
    log_bytes: int = LOG_BYTES
    output_bytes: int = OUTPUT_BYTES

    @property
    def kinds(self) -> dict[str, int]:
        """The limits of kinds of steps."""
        found = {"llm": self.llm, "run": self.run, "python": self.python}
        return {kind: limit for kind, limit in found.items() if limit is not None}


def within(scope: str, name: str) -> str:
    """Return a name or a path behind the one that it stands in, if there is one."""
    return f"{scope}/{name}" if scope else name


def clean_model(provider: str, model: str) -> str:
    """Return a model's name without its provider's, which only `offline` may have in front."""
    return model.removeprefix("offline/") if provider == "offline" else model


def fits(kind: str, value: Any) -> bool:
    """Tell whether a JSON value is of an input's type."""
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)
