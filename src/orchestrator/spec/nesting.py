"""From a document to a `Spec`, with the job files that its steps run built into it.

A nested job file is checked like any other, on its own; then its steps become steps of the job,
each behind the name of the step that runs the file: `review/ask`. One that several steps run is
read once. Files are read through a function.
"""

from __future__ import annotations

import functools
import hashlib
import os
import posixpath
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from ..safepath import UnsafePath, components
from ..suggest import did_you_mean
from ..templates import is_expression
from .check import check_spec
from .model import Spec, Step
from .step import AttachmentError, Defaults
from .values import Source, fits, within
from .yamldoc import Document, Path, read

MAX_DEPTH = 8
"""Job files inside each other, the one that is run not counted."""
TAKEN = (".log", ".d")
"""What a step around others can't be called: the logs of these are in a folder of its name, where
the log of another step, or those of its items, could be."""
MAX_STEPS = 10_000
"""Steps of a job with those of its nested files: a few small files could make very many."""


class Place(NamedTuple):
    """Where a job file is, and how it was come to.

    Attributes:
        file: the name for messages.
        path: absolute, empty for what is no file.
        stem: what to call the project of one that does not say it.
        folder: absolute; paths in the file are relative to it.
        base: the same folder, relative to that of the file that is run.
        trail: the files around it, and it itself, by their paths from that folder.
        via: the steps that it was come to by, for messages.
    """

    file: str
    path: str
    stem: str
    folder: str
    base: str = ""
    trail: tuple[str, ...] = ()
    via: str = ""


class Builder:
    """Builds one spec.

    Args:
        attach: reads a file by its path from the spec's folder, or raises AttachmentError.
        workflow: brings the steps of a spec that has none.
        provider: of a spec that names none.

    Attributes:
        problems: all that is wrong with the nested files.
        built_in: whether the built-in workflow is used.
    """

    def __init__(
        self,
        attach: Callable[[str], bytes],
        workflow: Callable[[], dict[str, Any]],
        provider: str,
    ) -> None:
        from ..errors import Problem

        self.problems: list[Problem] = []
        self.built_in = False
        self._attach = attach
        self._workflow = workflow
        self._provider = provider
        self._known: dict[tuple[str, bytes], Spec | None] = {}
        self._told: set[tuple[str, str, int, int]] = set()

    def build(
        self, document: Document, place: Place, raw: bytes, around: Defaults | None = None
    ) -> Spec | None:
        """Return the spec that a document says; None if anything is wrong, which is noted in it.

        Args:
            document: as it was read.
            place: of the file.
            raw: its bytes.
            around: of a nested file: what it takes over where it says nothing.
        """
        fields: dict[str, Any] = {}
        # After a key that is there twice or is no text, the rest can be trusted.
        if all(problem.code in ("ORC106", "ORC107") for problem in document.problems):
            fields = check_spec(
                document,
                stem=place.stem,
                attach=lambda path: self._attach(within(place.base, path)),
                workflow=self._workflow,
                provider=self._provider,
                nest=functools.partial(self._nest, place),
                around=around,
            )
        nested: dict[str, Spec] = fields.pop("nested", {})
        count = len(fields.get("steps", {})) + sum(len(spec.steps) for spec in nested.values())
        if nested and count > MAX_STEPS:
            message = f"with the files that its steps run it has {count:,} steps"
            hint = f"a job with nested files may have {MAX_STEPS:,}"
            document.problem("ORC136", message, document.at_key(("steps",)), hint)
        if document.problems:
            return None
        try:
            spec = msgspec.convert(fields, Spec)
        except msgspec.ValidationError as error:
            # Not reached while the checks know all that the structs ask for.
            message, span = _place_of(document, str(error))
            document.problem("ORC130", message, span)
            return None
        self.built_in = self.built_in or bool(spec.workflow)
        source = Source(
            file=place.file,
            path=place.path,
            folder=place.folder,
            text=raw.decode(),
            sha256=hashlib.sha256(raw).hexdigest(),
            via=place.via,
        )
        return _joined(msgspec.structs.replace(spec, source=source, base=place.base), nested)

    def _nest(
        self, outer: Place, doc: Document, step_at: Path, step: dict[str, Any], around: Defaults
    ) -> Spec | None:
        """Return the job file that a step runs, as `step.Nest` says."""
        where, said = (*step_at, "workflow"), step["workflow"]
        if str(step_at[-1]).lower().endswith(TAKEN):
            message = f"`{step_at[-1]}` can't name a step that runs a job file"
            hint = f"another ending than {' or '.join(TAKEN)}, which files in logs/ have"
            doc.problem("ORC117", message, doc.at_key(step_at), hint)
        path = posixpath.normpath(posixpath.join(outer.base, said))
        trail = outer.trail or (os.path.basename(outer.path or outer.file),)
        span = doc.at(where)
        try:
            components(path)
        except UnsafePath as error:
            message = f"`{said}` must be a path inside the folder of the job that is run"
            doc.problem("ORC121", f"{message}: {error.reason}", span)
            return None
        if path in trail:
            circle = " -> ".join((*trail[trail.index(path) :], path))
            hint = "a job file can't run itself: use `for_each` for what is done again and again"
            doc.problem("ORC136", f"the files run each other in a circle: {circle}", span, hint)
            return None
        deep = f"more than {MAX_DEPTH} job files inside each other"
        if len(trail) > MAX_DEPTH:
            doc.problem("ORC136", deep, span, " -> ".join((*trail, path)))
            return None
        known = (path, msgspec.json.encode(around))
        if known not in self._known:
            try:
                raw = self._attach(path)
            except AttachmentError as error:
                hint = "paths are relative to the job file's folder"
                doc.problem("ORC129", str(error), span, hint)
                return None
            via = f"step `{step_at[-1]}` of {outer.file}" + (f", {outer.via}" if outer.via else "")
            place = Place(
                file=os.path.normpath(os.path.join(os.path.dirname(outer.file), said)),
                path="",
                stem=posixpath.splitext(posixpath.basename(path))[0],
                folder=os.path.normpath(os.path.join(outer.folder, posixpath.dirname(said))),
                base=posixpath.dirname(path),
                trail=(*trail, path),
                via=via,
            )
            document = read(raw)
            self._known[known] = self.build(document, place, raw, around)
            self._note(document, place)
        inner = self._known[known]
        if inner is None:
            return None
        if len(trail) + max(name.count("/") for name in inner.steps) > MAX_DEPTH:
            doc.problem("ORC136", deep, span, " -> ".join((*trail, path, "…")))
        check_given(doc, step_at, step, inner)
        return inner

    def _note(self, document: Document, place: Place) -> None:
        """Take over what is wrong with a nested file, each thing once."""
        for problem in document.problems:
            told = (place.file, problem.message, problem.line, problem.column)
            if told not in self._told:
                self._told.add(told)
                problem.file, problem.text, problem.via = place.file, document.shown, place.via
                self.problems.append(problem)


def check_given(doc: Document, path: Path, step: dict[str, Any], inner: Spec) -> None:
    """Note what a step gives a job file that this does not take, and what it does not give."""
    given = step.get("with", {})
    for name, value in given.items():
        where = (*path, "with", name)
        declared = inner.inputs.get(name)
        if declared is None:
            known = ", ".join(inner.inputs) or "none"
            hint = did_you_mean(name, inner.inputs) or f"its inputs are {known}"
            message = f"{inner.source.file} has no input `{name}`"
            doc.problem("ORC135", message, doc.at_key(where), hint)
        elif not is_expression(value) and not fits(declared.type, value):
            message = f"the input `{name}` of {inner.source.file} is of type {declared.type}"
            hint = f"give it a value of type {declared.type}, or one single `{{{{ expression }}}}`"
            doc.problem("ORC135", message, doc.at(where), hint)
    lacking = [name for name, one in inner.inputs.items() if one.required and name not in given]
    if lacking:
        names = ", ".join(f"`{name}`" for name in lacking)
        message = f"{inner.source.file} has no value for its input{'s'[: len(lacking) > 1]} {names}"
        hint = f"add `with: {{{lacking[0]}: …}}` to the step"
        doc.problem("ORC135", message, doc.at((*path, "workflow")), hint)


def _joined(spec: Spec, nested: dict[str, Spec]) -> Spec:
    """Return a spec with the steps of nested files behind those that run them."""
    steps: dict[str, Step] = {}
    files: dict[str, Spec] = {}
    for name, step in spec.steps.items():
        steps[name] = step
        if name not in nested:
            continue
        inner = nested[name]
        files[name] = msgspec.structs.replace(inner, steps={}, nested={})
        files.update((f"{name}/{below}", file) for below, file in inner.nested.items())
        for below in inner.steps.values():
            whole = f"{name}/{below.name}"
            secrets = below.secrets
            if below.kind in ("python", "run"):
                secrets = tuple(dict.fromkeys((*inner.secrets, *secrets)))
            steps[whole] = msgspec.structs.replace(below, name=whole, secrets=secrets)
    return msgspec.structs.replace(spec, steps=steps, nested=files)


def _place_of(document: Document, error: str) -> tuple[str, Any]:
    message, _, trail = error.partition(" - at `")
    path: tuple[str | int, ...] = ()
    for key, index in re.findall(r"\.([^.\[`]+)|\[(\d+|\.\.\.)\]", trail):
        if index == "...":
            break  # msgspec does not say which key of a map
        path = (*path, key or int(index))
    return message, document.at(path)
