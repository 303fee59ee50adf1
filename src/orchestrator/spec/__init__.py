"""From a spec file, a text or a dict to a checked `Spec`; here files are read.

The work is done elsewhere: `yamldoc` reads the text, `check` finds all that is wrong with
it, `model` is what remains.
"""

from __future__ import annotations

import errno
import functools
import importlib.resources
import json
import math
import os
import re
import stat
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import Problem, SpecError, UsageError
from .model import DEFAULT_PROVIDER, LLM, Spec, Step
from .nesting import Builder, Place
from .step import AttachmentError
from .values import Input, Source
from .yamldoc import MAX_BYTES, MAX_DEPTH, Document, read, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "LLM",
    "Input",
    "Source",
    "Spec",
    "Step",
    "load_spec",
    "parse_spec",
    "spec_from_dict",
    "workflow_text",
]

MAX_DICT_BYTES = 64 * 1024 * 1024  # a dict is built by a program, which may have many steps
MAX_ATTACHMENT_BYTES = 16 * 1024 * 1024
MAX_ATTACHMENTS_BYTES = 64 * 1024 * 1024

STDIN = "<stdin>"
TEXT = "<spec>"
DICT = "<dict>"


def load_spec(path: str | os.PathLike[str], *, provider: str = DEFAULT_PROVIDER) -> Spec:
    """Read and check a spec file; `-` is stdin, with paths relative to the working directory.

    Args:
        path: of the file.
        provider: of a spec that names none.

    Raises:
        UsageError: for a file that can't be read.
        SpecError: with all that is wrong with it.
    """
    name = os.fspath(path)
    if name == "-":
        raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        return _build(read(raw), raw, file=STDIN, folder=os.getcwd(), provider=provider)
    raw = _bytes_of(name)
    whole = os.path.abspath(name)
    return _build(
        read(raw),
        raw,
        file=name,
        path=whole,
        folder=os.path.dirname(whole),
        stem=os.path.splitext(os.path.basename(whole))[0],
        provider=provider,
    )


def parse_spec(
    text: str,
    file: str = TEXT,
    folder: str = ".",
    attachments: Mapping[str, bytes] | None = None,
    *,
    provider: str = DEFAULT_PROVIDER,
) -> Spec:
    """Check a spec that is there as text.

    Args:
        text: YAML or JSON.
        file: the name for messages.
        folder: what the paths in it are relative to.
        attachments: an earlier `Spec.attachments`, to take the files (and the built-in
            workflow) from instead of the folder: then nothing is read from the disk.
        provider: of a spec that names none.

    Raises:
        SpecError: with all that is wrong with it.
    """
    raw = text.encode("utf-8", "surrogatepass")
    stem = "" if file.startswith("<") else os.path.splitext(os.path.basename(file))[0]
    folder = os.path.abspath(folder)
    return _build(
        read(raw), raw, file=file, folder=folder, stem=stem, frozen=attachments, provider=provider
    )


def spec_from_dict(
    spec: dict[str, Any], folder: str = ".", *, provider: str = DEFAULT_PROVIDER
) -> Spec:
    """Check a spec that is there as a dict; its text is the dict as JSON.

    Raises:
        SpecError: with all that is wrong with it.
    """
    fault = _no_json(spec, 0)
    if fault:
        problem = Problem(fault, line=1, column=1, code="ORC109", hint="use JSON values only")
        raise SpecError(DICT, [problem])
    text = json.dumps(spec, indent=2, ensure_ascii=False)
    # What YAML does not take as it is, is there in quotes and can be escaped.
    raw = _UNPRINTABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", text).encode()
    document = read(raw, max_bytes=MAX_DICT_BYTES)
    return _build(document, raw, file=DICT, folder=os.path.abspath(folder), provider=provider)


@functools.cache
def workflow_text() -> str:
    """Return the built-in workflow: a spec fragment with `steps:`."""
    files = importlib.resources.files("orchestrator")
    return files.joinpath("workflows", "default.yaml").read_text(encoding="utf-8")


_WORKFLOW = "workflows/default.yaml"
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")


def _workflow(text: bytes) -> dict[str, Any]:
    # Read each time: nobody can change what everybody uses.
    document = read(text)
    value = document.value
    if document.problems or not isinstance(value, dict) or not isinstance(value.get("steps"), dict):
        raise UsageError("the frozen workflow can't be read", place=_WORKFLOW)
    steps: dict[str, Any] = value["steps"]
    return steps


def _bytes_of(name: str) -> bytes:
    hint = "give the path of a spec file, or - for stdin"
    try:
        with open(name, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
            size = os.fstat(file.fileno()).st_size
    except IsADirectoryError:
        raise UsageError(
            "can't read the spec: it is a folder", place=visible(name), hint=hint
        ) from None
    except FileNotFoundError:
        raise UsageError(
            "can't read the spec: no such file", place=visible(name), hint=hint
        ) from None
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"can't read the spec: {cause}", place=visible(name), hint=hint) from None
    if len(raw) > MAX_BYTES:
        raise UsageError(
            f"can't read the spec: it has {max(size, len(raw)):,} bytes (at most {MAX_BYTES:,})",
            place=visible(name),
            hint="move large texts to files and name them with file://",
        )
    return raw


def _build(
    document: Document,
    raw: bytes,
    *,
    file: str,
    folder: str,
    path: str = "",
    stem: str = "",
    frozen: Mapping[str, bytes] | None = None,
    provider: str = DEFAULT_PROVIDER,
) -> Spec:
    reader = _Folder(folder) if frozen is None else _Frozen(frozen)
    workflow = (frozen or {}).get(_WORKFLOW) or workflow_text().encode()
    builder = Builder(reader, lambda: _workflow(workflow), provider)
    spec = builder.build(document, Place(file=file, path=path, stem=stem, folder=folder), raw)
    problems = [*document.problems, *builder.problems]
    if problems or spec is None:
        raise SpecError(file, problems, document.shown)
    attachments = dict(reader.content)
    if builder.built_in:
        attachments[_WORKFLOW] = workflow
    return msgspec.structs.replace(spec, attachments=attachments)


class _Folder:
    """Reads files below a folder, each once, and keeps what it read.

    Links are followed as long as they end in the folder.
    """

    def __init__(self, folder: str) -> None:
        self.content: dict[str, bytes] = {}
        self._root = os.path.realpath(folder)
        self._left = MAX_ATTACHMENTS_BYTES

    def __call__(self, path: str) -> bytes:
        if path not in self.content:
            self.content[path] = self._read(path)
        return self.content[path]

    def _read(self, path: str) -> bytes:
        whole = os.path.realpath(os.path.join(self._root, path))
        if os.path.commonpath((whole, self._root)) != self._root:
            raise AttachmentError(f"{path} is a link that leads out of the spec's folder")
        limit = min(MAX_ATTACHMENT_BYTES, self._left)
        try:
            # Without NONBLOCK a pipe would be waited for.
            descriptor = os.open(whole, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise AttachmentError(f"{path} is not a file")
                content = file.read(limit + 1)
        except OSError as error:
            cause = "no such file" if error.errno == errno.ENOENT else error.strerror
            raise AttachmentError(f"can't read {path}: {cause}") from None
        if len(content) > limit:
            raise AttachmentError(
                f"{path} is too large: one file may have {MAX_ATTACHMENT_BYTES:,} bytes,"
                f" all together {MAX_ATTACHMENTS_BYTES:,}"
            )
        self._left -= len(content)
        return content


class _Frozen:
    """Gives files as they were read before, and tells which of them were asked for."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.content: dict[str, bytes] = {}
        self._files = files

    def __call__(self, path: str) -> bytes:
        if path not in self._files:
            raise AttachmentError(f"can't read {path}: it was not frozen with the spec")
        self.content[path] = self._files[path]
        return self._files[path]


def _no_json(value: Any, depth: int) -> str:
    """Return why a value is no JSON, or nothing."""
    if depth > MAX_DEPTH:
        return f"nested more than {MAX_DEPTH} deep"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"a key must be text, not {key!r}"
            fault = _no_json(item, depth + 1)
            if fault:
                return fault
        return ""
    if isinstance(value, list | tuple):
        return next(filter(None, (_no_json(item, depth + 1) for item in value)), "")
    if value is None or isinstance(value, str | bool | int):
        return ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} is no number that JSON knows"
    return f"a value of type {type(value).__name__} is no JSON"
