"""Files that go to a model with a prompt: read, told apart by their content, and limited.

Text is put into the prompt under the file's name, so that any model can read it; images and PDFs
go beside it, where the provider's wire format has a place for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from .. import templates
from ..errors import FailureKind, OrchestratorError, StepError
from ..providers.base import Attachment, Message
from .base import Scope

IMAGE_MAX_BYTES = 5 * 1024 * 1024
FILE_MAX_BYTES = 16 * 1024 * 1024
TOGETHER_MAX_BYTES = 20 * 1024 * 1024
COUNT_MAX = 100

_KINDS = (
    ("image/png", b"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", b"\xff\xd8\xff"),
    ("image/gif", b"GIF8"),
    ("application/pdf", b"%PDF-"),
)
TEXT = "text/plain"


def media_type(content: bytes) -> str | None:
    """Return what the content is, or None for what no model is sent."""
    for name, magic in _KINDS:
        if content.startswith(magic):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    try:
        return TEXT if "\0" not in content.decode() else None
    except UnicodeDecodeError:
        return None


def with_files(
    message: Message, images: Iterable[str], files: Iterable[str], values: dict[str, Any],
    scope: Scope,
) -> Message:  # fmt: skip
    """Return the message with its files.

    Args:
        message: of the user.
        images: paths, or templates of them: of a file that the spec names, or below outputs/ (as
            `steps.NAME.files[0].path` gives it).
        files: the same, of anything that a model can be sent.
        values: for the templates.
        scope: reads the files.

    Raises:
        StepError: a file that can't be read, is too large, or of a kind that is not sent.
    """
    content, attachments, total, count = message.content, [], 0, 0
    for key, paths in (("images", images), ("files", files)):
        for source in paths:
            path = str(templates.render(source, values, place=f"step {scope.step}, {key}"))
            data = _read(path, scope)
            kind = _kind(path, data, key, scope)
            total, count = total + len(data), count + 1
            if total > TOGETHER_MAX_BYTES or count > COUNT_MAX:
                cause = f"there are more than {COUNT_MAX} files, or {TOGETHER_MAX_BYTES >> 20} MiB"
                raise _refused(cause, key, scope)
            if kind == TEXT:
                content += f"\n\n--- {os.path.basename(path)} ---\n{data.decode()}"
            else:
                attachments.append(
                    Attachment(name=os.path.basename(path), media_type=kind, data=data)
                )
    return Message(message.role, content, tuple(attachments))


def _read(path: str, scope: Scope) -> bytes:
    try:
        return scope.read(path.removeprefix("./"))
    except (OSError, OrchestratorError) as error:
        cause = error.message if isinstance(error, OrchestratorError) else error.strerror
        raise _refused(f"{path} can't be read: {cause}", "a file", scope) from error


def _kind(path: str, data: bytes, key: str, scope: Scope) -> str:
    kind = media_type(data)
    image = kind is not None and kind.startswith("image/")
    if kind is None or (key == "images" and not image):
        wanted = "a PNG, JPEG, GIF or WebP image" if key == "images" else "an image, a PDF or text"
        raise _refused(f"{path} is not {wanted}", key, scope)
    limit = IMAGE_MAX_BYTES if image else FILE_MAX_BYTES
    if len(data) > limit:
        raise _refused(f"{path} has {len(data):,} bytes (at most {limit:,})", key, scope)
    return kind


def _refused(cause: str, key: str, scope: Scope) -> StepError:
    return StepError(
        cause,
        kind=FailureKind.BAD_REQUEST,
        place=f"step {scope.step}, {key}",
        hint="name a file beside the spec, or one that a step published (`steps.NAME.files`)",
    )
