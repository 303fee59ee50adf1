"""From an attempt's private folder to outputs/: what a step left there becomes its files."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .disk import DirFiles, Tree, open_regular, translated, what_is
from .errors import FailureKind, OrchestratorError, StepError
from .events import FileRef, Written
from .filestore import FileStore
from .safepath import components

MAX_FILES = 10_000
"""That one attempt may publish."""

Claim = Callable[[str], None]
"""`claim(path)` raises StepError if another step of the job has published this path."""


class Published(NamedTuple):
    """One published file, and what writing it did."""

    file: FileRef
    wrote: bool
    reason: str

    @property
    def event_data(self) -> Written:
        """Return the payload of the file's `file.written`."""
        ref = self.file
        return Written(
            path=ref.path,
            sha256=ref.sha256,
            size_bytes=ref.size_bytes,
            wrote=self.wrote,
            reason=self.reason,
            media_type=ref.media_type,
        )


def publish_folder(
    folder: str, outputs: FileStore, claim: Claim, *, prefix: str = ""
) -> list[Published]:
    """Copy every file of a folder to outputs/, durably, in the order of their paths.

    Nothing is written before every path has been looked at and claimed. Empty folders are
    left out. The files stay in the folder too, which is removed with its attempt.

    Args:
        folder: absolute; nothing may write to it any more.
        outputs: the job's store.
        claim: called with each path, prefix included.
        prefix: a folder of outputs/ to put everything in; empty for none.

    Raises:
        StepError: kind `output`, for a link, a special file, an unsafe or taken path, too
            many files, or what the system refused.
    """
    files = DirFiles()
    try:
        source = Tree(folder, files)
        with translated("read", folder):
            found = sorted(_walk(source))
        targets = ["/".join(filter(None, (prefix, path))) for path in found]
        for target in targets:
            components(target)
        for target in targets:
            claim(target)
        return [
            _publish(source, files, path, outputs, target)
            for path, target in zip(found, targets, strict=True)
        ]
    except StepError:
        raise
    except OrchestratorError as error:
        raise _refused(error.message, hint=error.hint) from error


def media_type_of(path: str) -> str:
    """Return a file's media type by its name; the same on every machine."""
    extension = os.path.splitext(path)[1].lower()
    if extension in _MEDIA_TYPES:
        return _MEDIA_TYPES[extension]
    import mimetypes

    # A fresh table holds Python's own types only, not those of the machine's files.
    guess, encoding = mimetypes.MimeTypes(filenames=()).guess_type(f"x{extension}")
    return guess if guess and not encoding else "application/octet-stream"


def _walk(source: Tree) -> Iterator[str]:
    pending: list[tuple[str, ...]] = [()]
    count = 0
    while pending:
        names = pending.pop()
        with source.folder(names, create=False) as folder, os.scandir(folder) as entries:
            for entry in entries:
                path = "/".join((*names, entry.name))
                components(path)
                mode = entry.stat(follow_symlinks=False).st_mode
                count += 1
                if count > MAX_FILES:
                    raise _refused(
                        f"the step left over {MAX_FILES} files and folders in ORCH_OUTPUTS",
                        hint="pack them into one archive",
                    )
                if stat.S_ISDIR(mode):
                    pending.append((*names, entry.name))
                elif stat.S_ISREG(mode):
                    yield path
                else:
                    raise _refused(
                        f"{path!r} in ORCH_OUTPUTS is {what_is(folder, entry.name)}",
                        hint="only regular files can be published: copy what it points to",
                    )


def _publish(
    source: Tree, files: DirFiles, path: str, outputs: FileStore, target: str
) -> Published:
    names = components(path)
    with contextlib.ExitStack() as stack:
        with translated("read", path):
            folder = stack.enter_context(source.folder(names[:-1], create=False))
            fd = open_regular(files, folder, names[-1], path)
            stack.callback(files.close, fd)
        result = outputs.safe_copy(target, fd)
    ref = FileRef(
        path=target,
        sha256=result["sha256"],
        size_bytes=result["size_bytes"],
        media_type=media_type_of(target),
    )
    return Published(ref, wrote=result["wrote"], reason=result["reason"])


def _refused(message: str, *, hint: str = "") -> StepError:
    return StepError(f"can't publish: {message}", kind=FailureKind.OUTPUT, hint=hint)


_MEDIA_TYPES = {
    ".avif": "image/avif",
    ".bin": "application/octet-stream",
    ".c": "text/x-c",
    ".css": "text/css",
    ".csv": "text/csv",
    ".diff": "text/x-diff",
    ".gif": "image/gif",
    ".go": "text/x-go",
    ".gz": "application/gzip",
    ".htm": "text/html",
    ".html": "text/html",
    ".ico": "image/vnd.microsoft.icon",
    ".ipynb": "application/x-ipynb+json",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".patch": "text/x-diff",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".py": "text/x-python",
    ".rs": "text/x-rust",
    ".sh": "application/x-sh",
    ".sql": "application/sql",
    ".svg": "image/svg+xml",
    ".tar": "application/x-tar",
    ".toml": "application/toml",
    ".ts": "text/x-typescript",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
    ".wav": "audio/x-wav",
    ".webp": "image/webp",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
}
