"""Check the templates of a spec before there is any data: syntax, names, and needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .. import templates
from ..graph import ancestors
from ..suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..templates.scan import Reference
    from .yamldoc import Document, Path


class Names(NamedTuple):
    """What the templates of a spec can name.

    Attributes:
        top: the top-level names that have a value.
        needs: every step, and what it needs directly (all others, if it comes last).
        last: the steps that come last, which alone see `job`.
        inputs: the declared inputs.
        env: the spec's environment.
    """

    top: frozenset[str]
    needs: Mapping[str, tuple[str, ...]]
    last: Collection[str]
    inputs: Collection[str]
    env: Collection[str]


class Place(NamedTuple):
    """Where a template stands.

    Attributes:
        path: of the value in the spec.
        step: whose needs it can use; None for all steps (a job's outputs).
        given: the keys of the step's `with`, or None where there is no `with`.
        file: the file it was read from, if it does not stand in the spec itself.
        item: what a step that runs for each item can name of it: name to members, None for any.
    """

    path: Path
    step: str | None
    given: Collection[str] | None = None
    file: str = ""
    item: Mapping[str, Collection[str] | None] = {}


OPTIONAL = ("name", "description", "task_description", "model")
"""Top-level names that are there only if the spec sets them."""


def check_value(doc: Document, value: Any, place: Place, names: Names) -> None:
    """Note all that is wrong with the templates in a value, however deep."""
    if isinstance(value, str):
        check_template(doc, value, place, names)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_value(doc, item, place._replace(path=(*place.path, key)), names)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_value(doc, item, place._replace(path=(*place.path, index)), names)


def check_template(doc: Document, source: str, place: Place, names: Names) -> None:
    """Note all that is wrong with one template."""
    if not templates.is_template(source):
        return
    note = _Notes(doc, place)
    faults = templates.check(source)
    for fault in faults:
        note("ORC125", f"bad template: {fault.message}", fault.text, fault.hint)
    if faults:
        return
    top = names.top | place.item.keys()
    if place.given is not None:
        top |= {"with"}
    if place.step in names.last:
        top |= {"job"}
    for name in sorted(templates.names(source) - top):
        note(
            "ORC126",
            f"the template uses `{name}`, which is not there",
            name,
            _hint(name, names, top),
        )
    for reference in templates.references_to(source, "steps"):
        _check_step(note, reference, place, names)
    members = {"inputs": names.inputs, "env": names.env, "with": place.given or (), **place.item}
    for root, known in members.items():
        if root not in top or known is None:
            continue
        for name, text in templates.references_to(source, root):
            if name not in known:
                hint = did_you_mean(name, known, f"{root}.")
                hint = hint or f"declare it under `{root}:`"
                note("ORC126", f"the template uses `{text}`, which is not declared", text, hint)


class _Notes:
    def __init__(self, doc: Document, place: Place) -> None:
        self._doc = doc
        self._place = place

    def __call__(self, code: str, message: str, text: str, hint: str) -> None:
        where = f"{self._place.file}: " if self._place.file else ""
        span = self._doc.find(self._place.path, text)
        self._doc.problem(code, where + message, span, hint)


def _check_step(note: _Notes, reference: Reference, place: Place, names: Names) -> None:
    name, text = reference
    if name not in names.needs:
        dashed = [step for step in names.needs if step.startswith(f"{name}-")]
        hint = did_you_mean(name, names.needs, "steps.")
        hint = hint or f"the steps are {', '.join(list(names.needs)[:20])}"
        if dashed:
            hint = f'write `steps["{dashed[0]}"]`'
        note("ORC126", f"the template uses `{text}`, but there is no step `{name}`", text, hint)
    elif name == place.step:
        note("ORC127", f"the template uses the output of its own step `{name}`", text, "")
    elif place.step is not None and name not in names.needs[place.step]:
        if name in ancestors(names.needs, place.step):
            return
        message = f"the template uses `{text}`, but step `{place.step}` does not need `{name}`"
        note("ORC127", message, text, f"add `{name}` to the step's `needs`")


_FUNCTIONS = {
    "always": "`always()` is there in `if:` alone",
    "failed": "`failed()` is there in `if:` alone",
    "failure": "did you mean `failed()`?",
    "success": "did you mean `not failed()`?",
    "succeeded": "did you mean `not failed()`?",
}


def _hint(name: str, names: Names, top: frozenset[str]) -> str:
    if name in names.needs:
        return f"did you mean `steps.{name}.output`?"
    if name in names.inputs:
        return f"did you mean `inputs.{name}`?"
    if name in OPTIONAL:
        return f"set `{name}:` in the spec"
    if name in ("item", "matrix"):
        return f"`{name}` is there in a step with `{'for_each' if name == 'item' else 'matrix'}`"
    if name == "job":
        return "`job` is there in steps with `finally: true`"
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    if name == "with":
        return "`with` is there in the prompts of an llm step"
    return did_you_mean(name, top) or f"there are {', '.join(sorted(top))}"
