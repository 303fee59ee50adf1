"""What goes into a job file that a step runs, and what comes out of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from . import templates
from .errors import FailureKind, StepError
from .graph import Graph
from .spec.model import Spec, Step
from .spec.values import fits
from .templates.data import json_type


def given(step: Step, file: Spec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the top-level names of a nested file's templates, but for `steps`.

    Args:
        step: that runs the file.
        file: the file.
        values: what the templates of the step see.

    Raises:
        StepError: kind `template`: a value that can't be rendered, or is not of its input's type.
    """
    place = f"steps.{step.name}.with"
    inputs = templates.render_value(dict(step.with_), values, place=place)
    for name, value in inputs.items():
        wanted = file.inputs[name].type
        if not fits(wanted, value):
            raise StepError(
                f"the input `{name}` of {file.source.file} must be of type {wanted}, not"
                f" {json_type(value)}",
                kind=FailureKind.TEMPLATE,
                place=f"{place}.{name}",
                hint="a value that is one single `{{ expression }}` keeps its type",
            )
    return msgspec.structs.replace(file, given=inputs).values


def members(name: str, graph: Graph) -> dict[str, str]:
    """Return the steps of a nested file: the name that each has there to its whole name."""
    return {member.removeprefix(f"{name}/"): member for member in graph.members[name]}


def output(name: str, file: Spec, values: Mapping[str, Any], graph: Graph) -> Any:
    """Return the output of a step that runs a file: the file's `outputs`.

    Without any they are the outputs of its last steps: those that nothing but `finally` steps
    needs, and which are none.

    Raises:
        StepError: kind `template`.
    """
    if file.outputs:
        return {
            key: templates.render_value(value, values, place=f"{name}: outputs.{key}")
            for key, value in file.outputs.items()
        }
    return {
        local: values["steps"][local]["output"]
        for local, member in members(name, graph).items()
        if not graph.steps[member].last
        and all(graph.steps[after].last for after in graph.dependents.get(member, ()))
    }
