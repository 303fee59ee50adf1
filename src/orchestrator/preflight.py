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

    graph = Graph(spec.decls)
    after_code: set[str] = set()
    faults: dict[str, StepError] = {}
    for name in sorted(graph.order, key=lambda name: name.count("/")):  # what is around first
        step = spec.steps[name]
        late = any(need in after_code or spec.steps[need].llm is None for need in graph.needs[name])
        if late or step.scope in after_code:
            after_code.add(name)
        elif step.python is not None:
            folder = spec.folder_of(step)
            try:
                locate(step.python, folder, search_path(folder))
            except StepError as error:
                faults[name] = error
    if faults:
        raise _not_there(spec, faults)


def _not_there(spec: Spec, faults: Mapping[str, StepError]) -> SpecError:
    """Return the error that tells where the job files name functions that are not there."""
    from .spec.yamldoc import MAX_BYTES, read

    documents = {}
    for name, error in faults.items():
        step = spec.steps[name]
        source = spec.file_of(step.scope).source
        if source.file not in documents:
            raw = source.text.encode()
            documents[source.file] = source, read(raw, max_bytes=max(MAX_BYTES, len(raw)))
        document = documents[source.file][1]
        span = document.at(("steps", name.rpartition("/")[2], "python"))
        document.problem("ORC133", error.message, span, error.hint)
    problems = []
    for source, document in documents.values():
        for problem in document.problems:
            if source.file != spec.source.file:
                problem.file, problem.text, problem.via = source.file, document.shown, source.via
            problems.append(problem)
    return SpecError(spec.source.file or "<spec>", problems, spec.source.text)
