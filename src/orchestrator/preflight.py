"""What comes before anything runs: read the spec, and look for what can be known to be wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .errors import SpecError, StepError
from .graph import Graph
from .spec.model import DEFAULT_PROVIDER, Spec


def read_spec(
    spec: str | os.PathLike[str] | Mapping[str, Any] | Spec, provider: str | None = None
) -> Spec:
    """Return the Spec that a path, a dict or a Spec means.

    Args:
        spec: as it was given.
        provider: of a spec that names none.

    Raises:
        SpecError, UsageError: it can't be read, or is wrong.
    """
    from .spec import load_spec, spec_from_dict

    if isinstance(spec, Spec):
        return spec
    if isinstance(spec, Mapping):
        return spec_from_dict(dict(spec), folder=os.getcwd(), provider=provider or DEFAULT_PROVIDER)
    return load_spec(os.fspath(spec), provider=provider or DEFAULT_PROVIDER)


def check_functions(spec: Spec) -> None:
    """Make sure that the functions of python steps are there; nothing is imported.

    A step that comes after a shell or python step is left out: that one may write the module.

    Raises:
        SpecError: with each module that is not there, can't be read, or lacks the function.
    """
    if not any(step.python is not None for step in spec.steps.values()):
        return
    from .steps.python import search_path
    from .steps.source import locate

    folder = spec.source.folder or os.getcwd()
    graph = Graph(spec.decls)
    after_code: set[str] = set()
    faults: dict[str, StepError] = {}
    for name in graph.order:
        step = spec.steps[name]
        if any(need in after_code or spec.steps[need].llm is None for need in step.needs):
            after_code.add(name)
        elif step.python is not None:
            try:
                locate(step.python, folder, search_path(folder))
            except StepError as error:
                faults[name] = error
    if faults:
        raise _not_there(spec, faults)


def _not_there(spec: Spec, faults: Mapping[str, StepError]) -> SpecError:
    """Return the error that tells where the spec names functions that are not there."""
    from .spec.yamldoc import MAX_BYTES, read

    raw = spec.source.text.encode()
    document = read(raw, max_bytes=max(MAX_BYTES, len(raw)))
    for name, error in faults.items():
        span = document.at(("steps", name, "python"))
        document.problem("ORC133", error.message, span, error.hint)
    return SpecError(spec.source.file or "<spec>", document.problems, document.shown)
