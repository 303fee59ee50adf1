"""Files below one folder, each written as a whole.

A write is durable when it returns; a reader, or a crash, sees the old file or the new one.
Nothing is ever written or read through a link or outside the folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn

from . import fence
from .disk import (
    DirFiles,
    FileExists,
    FileNotThere,
    FileStoreError,
    Tree,
    chunks_of,
    open_regular,
    translated,
    write_beside,
)
from .errors import OrchestratorError, UsageError
from .safepath import TEMPORARY, UnsafePath, components

__all__ = ["FileExists", "FileNotThere", "FileStore", "FileStoreError", "UnsafePath", "WriteResult"]

Mode = Literal["overwrite", "create_new", "append"]
MODES = ("overwrite", "create_new", "append")
MAX_BYTES = 1 << 30
"""Of content given as one value, and of a file that is read as one or appended to."""
MAX_FILES = 100_000
"""In one store, where its files are listed."""

# Two writers of one path in this process take turns, so that `reason` is true and nothing
# appended is lost; a fixed number of locks serves all paths.
_LOCKS = tuple(threading.Lock() for _ in range(64))


class WriteResult(dict[str, Any]):
    """What a write did.

    Keys: `path` (absolute Path), `sha256` (hex) and `size_bytes` of the whole file, `wrote`
    (False if the file held just this already) and `reason`: `created`, `nochange`,
    `overwritten` or `appended`.

    It is a dict in all but one respect: it can't be iterated, because unpacking it like the
    tuple of v1 would hand out the names of the keys.
    """

    def __iter__(self) -> NoReturn:
        error = TypeError("'WriteResult' object is not iterable")
        error.add_note(
            "safe_write returns a dict since v2.1. Instead of `path, sha256, size = result` write "
            '`path, sha256, size = result["path"], result["sha256"], result["size_bytes"]`; '
            "to go through the names use result.keys() or result.items()."
        )
        raise error

    __reversed__ = __iter__


class FileStore:
    """A folder that is written to by relative paths alone.

    Args:
        base: made when the first file is written. A link here is followed once, now; no link
            below it ever is.
        files: the system's calls; another object only in tests.
    """

    def __init__(self, base: str | os.PathLike[str], *, files: DirFiles | None = None) -> None:
        self.base = Path(os.path.abspath(base))
        self._files = files or DirFiles()
        self._tree = Tree(os.path.realpath(base), self._files)

    def safe_write(
        self, path: str | os.PathLike[str], content: str | bytes, mode: Mode = "overwrite"
    ) -> WriteResult:
        """Write a file as a whole, durably; text as UTF-8.

        Args:
            path: relative to the base, plain names joined by slashes. Folders are made.
            content: at most 1 GiB.
            mode: `overwrite` replaces what is there, and leaves it untouched if it is the
                same; `create_new` fails if the file is there; `append` adds to its end (the
                file is replaced as a whole even so).

        Raises:
            UnsafePath: if the path is not plain, or leads through a link.
            AttemptOver: by a step of `run_dag` whose attempt is over.
            FileExists: under `create_new`.
            FileStoreError: for what the system refused; nothing is left behind.
        """
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        fence.check("write a file")
        data = _bytes_of(content)
        names = components(os.fspath(path))
        _check_size(len(data), "/".join(names))
        with self._writing(names) as folder:
            if mode != "append":
                return self._put(folder, names, [data], _summary([data]), mode)
            old = self._read(folder, names)
            _check_size(len(old or b"") + len(data), "/".join(names))
            pieces = [old or b"", data]
            return self._put(folder, names, pieces, _summary(pieces), mode)

    def safe_copy(self, path: str | os.PathLike[str], source: int) -> WriteResult:
        """Write a file with the bytes of an open regular file, of any size, like `overwrite`.

        The source must not change meanwhile: what differs from its first reading is refused.
        """
        names = components(os.fspath(path))
        shown = "/".join(names)
        with translated("read the source of", shown):
            summary = _summary(chunks_of(self._files, source))
        with self._writing(names) as folder:
            chunks = _checked(chunks_of(self._files, source), summary, shown)
            return self._put(folder, names, chunks, summary, "overwrite")

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Return whether there is a regular file of this path."""
        try:
            with self._open(components(os.fspath(path))):
                return True
        except FileNotThere:
            return False
        except FileStoreError as error:
            if error.errno not in (errno.EISDIR, errno.ENOTDIR):
                raise
            return False

    def read_bytes(self, path: str | os.PathLike[str]) -> bytes:
        """Return a file's bytes, at most 1 GiB."""
        with self._open(components(os.fspath(path))) as fd:
            _check_size(os.fstat(fd).st_size, os.fspath(path))
            return b"".join(chunks_of(self._files, fd))

    def read_text(self, path: str | os.PathLike[str]) -> str:
        """Return a file's text; UnicodeDecodeError if it is not UTF-8."""
        return self.read_bytes(path).decode()

    def digest(self, path: str | os.PathLike[str]) -> tuple[str, int]:
        """Return a file's SHA-256 (hex) and size in bytes, however large it is."""
        with self._open(components(os.fspath(path))) as fd:
            return _summary(chunks_of(self._files, fd))

    def list_files(self) -> list[str]:
        """Return the paths of all regular files, sorted; links and special files are left out."""
        return [path for path in self._walk() if TEMPORARY not in path]

    def sweep(self) -> int:
        """Remove what killed writers left half-written; return how many files that were.

        Only for who knows that nobody is writing: half-written files are alike.
        """
        leftovers = [path for path in self._walk() if TEMPORARY in path]
        for path in leftovers:
            *above, name = path.split("/")
            with (
                translated("remove", path),
                contextlib.suppress(FileNotFoundError),
                self._tree.folder(tuple(above), create=False) as folder,
            ):
                self._files.unlink_at(folder, name)
        return len(leftovers)

    # --- inside -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self, names: tuple[str, ...]) -> Iterator[int]:
        lock = _LOCKS[hash((self._tree.root, names)) % len(_LOCKS)]
        with (
            translated("write", str(self.base.joinpath(*names))),
            lock,
            self._tree.folder(names[:-1], create=True) as folder,
        ):
            yield folder

    @contextlib.contextmanager
    def _open(self, names: tuple[str, ...]) -> Iterator[int]:
        path = str(self.base.joinpath(*names))
        with translated("read", path), self._tree.folder(names[:-1], create=False) as folder:
            fd = open_regular(self._files, folder, names[-1], "/".join(names))
            try:
                yield fd
            finally:
                self._files.close(fd)

    def _read(self, folder: int, names: tuple[str, ...]) -> bytes | None:
        try:
            fd = open_regular(self._files, folder, names[-1], "/".join(names))
        except FileNotFoundError:
            return None
        try:
            _check_size(os.fstat(fd).st_size, "/".join(names))
            return b"".join(chunks_of(self._files, fd))
        finally:
            self._files.close(fd)

    def _put(
        self,
        folder: int,
        names: tuple[str, ...],
        chunks: Iterable[bytes],
        summary: tuple[str, int],
        mode: Mode,
    ) -> WriteResult:
        sha256, size = summary
        path = self.base.joinpath(*names)
        there = self._same(folder, names, summary)
        if there is not None and mode == "create_new":
            raise FileExists(
                "create", str(path), errno.EEXIST, hint='mode="overwrite" replaces the file'
            )
        if there:
            reason = "nochange"
        else:
            changed = "appended" if mode == "append" else "overwritten"
            reason = "created" if there is None else changed
            replace = mode != "create_new"
            try:
                write_beside(self._files, folder, names[-1], chunks, replace=replace)
            except FileExistsError as error:
                raise FileExists("create", str(path), errno.EEXIST) from error
        return WriteResult(
            path=path, sha256=sha256, size_bytes=size, wrote=not there, reason=reason
        )

    def _same(self, folder: int, names: tuple[str, ...], summary: tuple[str, int]) -> bool | None:
        """Return whether the file is there with just this content; None if it is not there."""
        try:
            fd = open_regular(self._files, folder, names[-1], "/".join(names))
        except FileNotFoundError:
            return None
        try:
            if os.fstat(fd).st_size != summary[1]:
                return False
            if _summary(chunks_of(self._files, fd)) != summary:
                return False
            # Whoever wrote it may have been killed before it was durable.
            self._files.sync(fd)
            self._files.sync(folder)
            return True
        finally:
            self._files.close(fd)

    def _walk(self) -> list[str]:
        found: list[str] = []
        pending: list[tuple[str, ...]] = [()]
        while pending:
            names = pending.pop()
            shown = str(self.base.joinpath(*names))
            try:
                with (
                    translated("list", shown),
                    self._tree.folder(names, create=False) as folder,
                    os.scandir(folder) as entries,
                ):
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            pending.append((*names, entry.name))
                        elif stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                            found.append("/".join((*names, entry.name)))
            except FileNotThere:
                continue
            if len(found) > MAX_FILES:
                raise FileStoreError("list", f"{shown} (over {MAX_FILES} files)", errno.E2BIG)
        return sorted(found)


def _bytes_of(content: str | bytes) -> bytes:
    if isinstance(content, str):
        try:
            return content.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"can't write text as UTF-8: half a surrogate pair at character {error.start}",
                hint="give bytes, or clean the text with .encode('utf-8', 'replace')",
            ) from error
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    raise TypeError(f"content must be str or bytes, not {type(content).__name__}")


def _check_size(size: int, path: str) -> None:
    if size > MAX_BYTES:
        raise UsageError(f"can't hold {path} as one value: {size} bytes, the limit is {MAX_BYTES}")


def _summary(chunks: Iterable[bytes]) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _checked(chunks: Iterable[bytes], summary: tuple[str, int], path: str) -> Iterator[bytes]:
    """Yield the chunks; raise at their end if they are not what was summed up before."""
    digest = hashlib.sha256()
    size = 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if (digest.hexdigest(), size) != summary:
        raise OrchestratorError(
            f"can't copy to {path}: its source changed while it was read",
            hint="end what still writes to it",
        )
