"""`orch validate` and `orch init`: job files, before they are run."""

from __future__ import annotations

import importlib.resources
import os
import shlex
from typing import Any

from ..errors import ConfigError, OrchestratorError, SpecError, StorageError, UsageError
from . import out

EXAMPLES = {
    "digest": {
        "job.yaml": "digest.yaml",
        "digest_steps.py": "digest_steps.py",
        "README.md": "digest_readme.md",
    },
    "tiny": {"job.yaml": "tiny_spec.yaml"},
    "release-notes": {"job.yaml": "release_notes.yaml"},
    "pages": {"job.yaml": "pages.yaml", "page.yaml": "page.yaml"},
}
"""What each example is made of: the name it gets, and the file among the examples."""

_HEAD = """\
project: workflow
task_description: |
  Say here what is to be built.

# `offline` calls no model: name a provider and a model for real answers.
provider: offline

"""
"""What the built-in workflow takes from the spec that uses it."""


def validate(paths: list[str], *, as_json: bool) -> int:
    """Check job files, print every fault, and return the exit code."""
    from ..preflight import check_functions, read_spec

    faults: list[dict[str, Any]] = []
    worst = 0
    for path in paths:
        try:
            spec = read_spec(path)
            check_functions(spec)
        except OrchestratorError as error:
            worst = max(worst, int(error.exit_code))
            faults += _faults(path, error)
            if not as_json:
                out.talk(error.render())
            continue
        if not as_json:
            out.data(f"{path}: ok, {out.count(len(spec.steps), 'step')}")
    if as_json:
        out.document({"ok": not faults, "problems": faults})
    elif not worst:
        out.talk(f"next: orch run {shlex.quote(paths[0])}")
    return worst


def _faults(path: str, error: OrchestratorError) -> list[dict[str, Any]]:
    if not isinstance(error, SpecError):
        return [{"file": path, "message": error.message, "hint": error.hint}]
    return [
        {
            "file": problem.file or path,
            "line": problem.line,
            "column": problem.column,
            "code": problem.code,
            "message": problem.message,
            "hint": problem.hint,
            **({"via": problem.via} if problem.via else {}),
        }
        for problem in error.problems
    ]


def schema(of: str, output: str) -> None:
    """Print a JSON Schema, or write it to a file."""
    text = _schema_text(of)
    if not output:
        out.data(text.removesuffix("\n"))
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(f"can't write: {error.strerror}", place=output) from error
    if of == "job":
        out.talk(f"next: put this first in a job file: {MODELINE.format(path=output).strip()}")


MODELINE = "# yaml-language-server: $schema={path}\n"
"""What makes an editor use a schema: the first line of a job file."""
SCHEMA = ".orch/job.schema.json"


def _schema_text(of: str) -> str:
    import msgspec

    if of == "job":
        from ..spec.schema import job_schema

        found = job_schema()
    else:
        from ..events import AnyJobEvent

        found = msgspec.json.schema(AnyJobEvent)
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"


def init(folder: str, example: str) -> None:
    """Write an example job to a folder; a file that is there is never touched.

    Raises:
        UsageError: an example that there is not, or a file that is in the way.
        StorageError: the system refused.
    """
    if example == "workflow":
        from ..spec import workflow_text

        files = {"workflow.yaml": (_HEAD + workflow_text()).encode()}
    elif example in EXAMPLES:
        files = {name: _example(source) for name, source in EXAMPLES[example].items()}
    else:
        known = ", ".join([*EXAMPLES, "workflow"])
        raise UsageError(f"there is no example {example!r}", hint=f"there are: {known}")
    main = next(iter(files))
    files.setdefault(".gitignore", b"runs/\n")
    taken = [name for name in files if os.path.lexists(os.path.join(folder, name))]
    if taken:
        raise UsageError(
            f"nothing was written: {', '.join(taken)} would be overwritten",
            place=folder,
            hint="choose another folder: orch init DIR",
        )
    files[main] = MODELINE.format(path=SCHEMA).encode() + files[main]
    if not os.path.lexists(os.path.join(folder, SCHEMA)):
        files[SCHEMA] = _schema_text("job").encode()
    for name, content in files.items():
        path = os.path.join(folder, name)
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "xb") as file:
                file.write(content)
        except OSError as error:
            raise StorageError(f"can't write: {error.strerror}", place=path) from error
        out.data(path)
    out.talk(f"next: orch run {shlex.quote(os.path.join(folder, main))}")


def _example(name: str) -> bytes:
    """Return an example's bytes, from the package or from the checkout."""
    inside = importlib.resources.files("orchestrator").joinpath("examples", *name.split("/"))
    if inside.is_file():
        return inside.read_bytes()
    here = os.path.join(os.path.dirname(__file__), *[os.pardir] * 3, "examples", *name.split("/"))
    try:
        with open(here, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"this installation lacks its examples: {error}") from error
