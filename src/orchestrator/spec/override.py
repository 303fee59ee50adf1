"""What the command line may change in a spec: its provider and model, and its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ..errors import UsageError
from ..providers import all_names, check_model, known
from ..suggest import did_you_mean
from .model import DEFAULT_MODELS, EXAMPLE_MODELS
from .values import clean_model, fits

if TYPE_CHECKING:
    from .model import Spec


class _Target(NamedTuple):
    provider: str
    model: str
    base_url: str


def switched(spec: Spec, provider: str | None, model: str | None) -> Spec:
    """Return a spec that runs on another provider or model.

    Raises:
        UsageError: for an unknown provider, or one whose model is not said.
        ConfigError: for a model the provider is known not to have.
    """
    if provider is not None and not known(provider):
        near = did_you_mean(provider, all_names())
        raise UsageError(
            f"no provider is called {provider!r}",
            place="--provider",
            hint=f"{near} known are {', '.join(all_names())}".strip(),
        )
    alias = spec.models.get(model or "") if provider is None else None
    new = provider or spec.provider

    def target(old: _Target) -> _Target:
        if provider is None and old.provider != spec.provider:
            return old
        if alias is not None:
            return _Target(alias.provider, alias.model, alias.base_url)
        same = old.provider == new
        name = clean_model(new, model or (old.model if same else DEFAULT_MODELS.get(new, "")))
        return _Target(new, name, old.base_url if same else "")

    top = target(_Target(spec.provider, spec.model, spec.base_url))
    steps = {}
    for step in spec.steps.values():
        steps[step.name] = step
        if step.llm is not None:
            llm = target(_Target(step.llm.provider, step.llm.model, step.llm.base_url))
            if not llm.model:
                raise UsageError(
                    f"provider {new} needs a model (step {step.name})",
                    place="--provider",
                    hint=f"add --model, for instance --model {EXAMPLE_MODELS.get(new, '…')}",
                )
            check_model(llm.provider, llm.model)
            changed = msgspec.structs.replace(step.llm, **llm._asdict())
            if alias is not None and llm.provider == alias.provider and llm.model == alias.model:
                options = {**alias.options, **changed.options}
                changed = msgspec.structs.replace(changed, options=options)
            steps[step.name] = msgspec.structs.replace(step, llm=changed)
    nested = {
        name: msgspec.structs.replace(
            file, **target(_Target(file.provider, file.model, file.base_url))._asdict()
        )
        for name, file in spec.nested.items()
    }
    return msgspec.structs.replace(spec, steps=steps, nested=nested, **top._asdict())


def input_value(spec: Spec, name: str, value: Any) -> Any:
    """Return the value of an input; a string is read as the declared type.

    Raises:
        UsageError: for an undeclared input, or a value of another type.
    """
    declared = spec.inputs.get(name)
    if declared is None:
        known = ", ".join(spec.inputs) or "none: declare it under `inputs:`"
        raise UsageError(
            f"the spec has no input called {name!r}",
            place=f"--set {name}",
            hint=did_you_mean(name, spec.inputs) or f"its inputs are {known}",
        )
    read = value
    if isinstance(value, str) and declared.type != "string":
        try:
            read = msgspec.json.decode(value)
        except msgspec.DecodeError:
            read = value
    if not fits(declared.type, read):
        raise UsageError(
            f"the input {name!r} must be of type {declared.type}, not {str(value)[:60]!r}",
            place=f"--set {name}",
            hint="write lists and maps as JSON" if declared.type in ("array", "object") else "",
        )
    return read
