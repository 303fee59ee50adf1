"""What shell and python steps have in common: their environment, folder and declared files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shlex
import signal
import stat
import unicodedata
from typing import Any

from .. import templates
from ..errors import FailureKind, StepError
from ..instances import base_of, item_of
from .base import Attempt, Scope

MAX_VARIABLE_BYTES = 128 << 10
"""Linux's limit for one `NAME=value`, its final zero included."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_CHUNK_BYTES = 1 << 20


def render_env(step: Any, scope: Scope) -> dict[str, str]:
    """Return a step's own variables, rendered; lists and dicts become JSON, None is empty.

    Raises:
        StepError: kind `template`, also for a value that no environment can hold.
    """
    place = f"steps.{scope.step}.env"
    rendered = templates.render_value(dict(step.env or {}), scope.values, place=place)
    return {
        name: _variable(name, value, f"{place}.{name}") for name, value in sorted(rendered.items())
    }


def _variable(name: str, value: Any, place: str) -> str:
    text = value if isinstance(value, str) else "" if value is None else _compact(value)
    if not _NAME.match(name):
        raise StepError(
            f"{name!r} can't be the name of an environment variable",
            kind=FailureKind.TEMPLATE,
            place=place,
            hint="use letters, digits and underscores",
        )
    if "\0" in text:
        raise StepError(
            f"the value of {name} holds a zero byte, which no environment variable can",
            kind=FailureKind.TEMPLATE,
            place=place,
        )
    size = len(name) + len(text.encode("utf-8", "surrogatepass")) + 2
    if size > MAX_VARIABLE_BYTES:
        raise StepError(
            f"the value of {name} takes {size} bytes, and the system {MAX_VARIABLE_BYTES} at most",
            kind=FailureKind.TEMPLATE,
            place=place,
            hint="have the step that it comes from write a file, or use a python step",
        )
    return text


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def environ_of(attempt: Attempt, own: dict[str, str]) -> dict[str, str]:
    """Return the whole environment of a child; our own names win."""
    return {
        **attempt.environ,
        **own,
        "ORCH_OUTPUTS": attempt.work_dir,
        "ORCH_JOB_ID": attempt.job_id,
        "ORCH_STEP": base_of(attempt.step),
        **({"ORCH_ITEM": item} if (item := item_of(attempt.step)) else {}),
        "ORCH_ATTEMPT": str(attempt.number),
        "ORCH_IDEMPOTENCY_KEY": attempt.idempotency_key,
    }


def hash_files(step: Any, scope: Scope, kind: FailureKind) -> dict[str, str]:
    """Return the SHA-256 of each file a step declares, by its path as declared.

    Raises:
        StepError: of `kind`, for a file that can't be read.
    """
    return {path: _hash_file(path, scope.folder, kind) for path in sorted(set(step.files or ()))}


def _hash_file(path: str, folder: str, kind: FailureKind) -> str:
    digest = hashlib.sha256()
    whole = os.path.join(folder, path)
    try:
        if not stat.S_ISREG(os.stat(whole).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")  # noqa: TRY301 - one text
        with open(whole, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise StepError(
            f"can't read {path}, which the step declares under files: {error.strerror}",
            kind=kind,
            place=whole,
            hint="paths are relative to the spec's folder, and name files, not folders",
        ) from error
    return digest.hexdigest()


def folder_of(cwd: str | None, folder: str, kind: FailureKind) -> str:
    """Return the absolute folder a step starts in.

    Raises:
        StepError: of `kind`, if there is none.
    """
    path = os.path.normpath(os.path.join(folder, cwd or "."))
    if not os.path.isdir(path):
        raise StepError(
            f"can't start in {path}: there is no such folder",
            kind=kind,
            place=f"cwd: {cwd}" if cwd else path,
            hint="cwd is relative to the spec's folder",
        )
    return path


def visible(text: str) -> str:
    """Return text with control and direction characters written out, as Python does."""
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return char
    return char.encode("unicode_escape").decode()


def last_lines(tail: bytes, limit: int = 2000) -> str:
    """Return the end of what a child said on stderr, at most `limit` characters, visible."""
    text = visible(tail.decode("utf-8", "replace").replace("\r\n", "\n").strip())
    if len(text) <= limit:
        return text
    cut = text[-limit:]
    return "…" + cut[cut.find("\n") + 1 :] if "\n" in cut[:200] else "…" + cut


def how_it_ended(exit_code: int) -> str:
    """Return an exit code in words."""
    if exit_code >= 0:
        return f"exited with status {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"


def log_command(attempt: Attempt) -> str:
    """Return the command that prints what a step said; unlike a path, it survives a copy."""
    return f"orch logs {attempt.job_id} {shlex.quote(attempt.step)}"
