"""The spec of a leg, frozen when it begins; and as it was frozen when the last one began."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from . import __version__
from . import events as ev
from .errors import StorageError, UsageError
from .events import BlobRef, Started
from .folder import RunFolder
from .keys import canonical
from .spec.model import DEFAULT_PROVIDER, Spec
from .state import JobState
from .status import FUNCTION


def frozen_spec(folder: RunFolder, state: JobState) -> Spec:
    """Return the spec of a job's last leg: see `frozen_leg`."""
    return frozen_leg(folder, state.started)


NO_SPEC = "the program that made it: run_dag(…, resume=True)"
"""How a job of `run_dag` goes on: its steps are functions of a program."""


def made_by_program(started: Started | None) -> bool:
    """Return whether `run_dag` began a leg."""
    if started is None or isinstance(started.steps, BlobRef):
        return False
    return any(step.kind == FUNCTION for step in started.steps)


def frozen_leg(folder: RunFolder, started: Started | None) -> Spec:
    """Return the spec of a leg, with the files it names as they were then.

    Shell and python steps start in the folder that the spec came from, if it is still there,
    else in the frozen copy.

    Raises:
        UsageError: the job has no frozen spec.
        StorageError: a frozen file can't be read.
        SpecError: this version can't run it.
    """
    from .spec import parse_spec

    if started is None or not started.inputs:
        by_file = "its spec file: orch run SPEC --resume"
        raise UsageError(
            f"job {folder.job_id} has no frozen spec",
            place=folder.inputs,
            hint=f"go on with {NO_SPEC if made_by_program(started) else by_file}",
        )
    frozen = os.path.join(folder.inputs, started.inputs)
    files = os.path.join(frozen, "files")
    attachments: dict[str, bytes] = {}
    for parent, _, names in os.walk(files):
        for name in names:
            path = os.path.join(parent, name)
            attachments[os.path.relpath(path, files)] = _bytes(path)
    text = _bytes(os.path.join(frozen, "spec.yaml")).decode()
    home = os.path.dirname(started.spec_path) if started.spec_path else os.getcwd()
    return parse_spec(
        text,
        file=started.spec_path or f"{folder.job_id}/inputs/spec.yaml",
        folder=home if os.path.isdir(home) else files,
        attachments=attachments,
        provider=started.overrides.get("provider", DEFAULT_PROVIDER),
    )


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise StorageError(f"can't read a frozen input: {error.strerror}", place=path) from error


_OVERRIDES = ("provider", "model", "max_cost")


def freeze(
    spec: Spec,
    folder: RunFolder,
    overrides: Mapping[str, Any],
    chosen: dict[str, str],
    *,
    keep_going: bool = False,
) -> ev.Started:
    """Freeze the spec and the files it names, and return what the leg sets out to do."""
    text = spec.source.text or canonical({"project": spec.project}).decode()
    digest = hashlib.sha256(text.encode())
    for name, content in sorted(spec.attachments.items()):
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    frozen = digest.hexdigest()[:16]
    # The spec is written last: where it is, all that it names is too.
    if not os.path.isfile(os.path.join(folder.inputs, frozen, "spec.yaml")):
        for name, content in spec.attachments.items():
            folder.write(f"inputs/{frozen}/files/{name}", content)
        folder.write(f"inputs/{frozen}/spec.yaml", text.encode())
    return ev.Started(
        project=spec.project,
        name=spec.name,
        steps=spec.decls,
        record="" if spec.record == "full" else spec.record,
        spec_path=spec.source.path,
        spec_sha256=spec.source.sha256,
        inputs=frozen,
        provider=spec.provider,
        model=spec.model,
        concurrency=spec.concurrency,
        timeout_s=spec.timeout_s,
        version=__version__,
        given=overrides["inputs"],
        overrides={name: overrides[name] for name in _OVERRIDES if overrides[name]},
        keep_going=keep_going,
        budget=spec.budget if spec.budget.limits else None,
        models=chosen,
        limits=spec.limits.kinds,
    )
