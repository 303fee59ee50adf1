"""Care for the cache as a whole: look through all folders that hold entries, clear, carry over."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from eventlog.fs import FILES, write_whole

from .blobs import BlobStore
from .cachefile import BAD, MAX_BYTES, SUFFIX, Entry, Found, Refused, load, verified
from .errors import StorageError, UsageError
from .events import BlobRef
from .folder import RunFolder
from .ids import is_name
from .outputs import as_ref
from .usercache import UserCache

USER = "user"
"""The holder's name of what lies in the user's own cache folder."""
IMPORTED = "imported_"
"""How the name of a folder begins that holds what was imported."""

MEMBERS_MAX = 1_000_000
_TEMPORARY = ".json.tmp-"
_MEMBER = re.compile(r"(answers|blobs)/([0-9a-f]{64})(\.json)?\Z")


class Holding(NamedTuple):
    """A file of the cache: the entry in it, or why it is none."""

    holder: str
    key: str
    path: str
    size_bytes: int
    found: Entry | Refused


class Leftover(NamedTuple):
    """A file that was set aside, or that a killed process left half written."""

    path: str
    size_bytes: int


def holdings(
    runs_dir: str, user: UserCache | None = None, holders: Iterable[str] | None = None
) -> Iterator[Holding]:
    """Yield every entry below a runs/ folder, and of the user's cache if it is given."""
    for name in _holders(runs_dir) if holders is None else holders:
        folder = RunFolder(runs_dir, name).cache
        for file in _listed(folder):
            if file.endswith(SUFFIX):
                key = file.removesuffix(SUFFIX)
                yield _holding(name, key, os.path.join(folder, file))
    if user is not None:
        for key, path in user.paths():
            yield _holding(USER, key, path)


def leftovers(runs_dir: str) -> Iterator[Leftover]:
    """Yield the files that no hit will ever use."""
    for name in _holders(runs_dir):
        folder = RunFolder(runs_dir, name).cache
        for file in _listed(folder):
            if file.endswith(BAD) or _TEMPORARY in file:
                path = os.path.join(folder, file)
                yield Leftover(path, _size(path))


def removed(paths: Iterable[str], *, really: bool) -> int:
    """Remove files, or only look whether they are there; return how many that were."""
    count = 0
    for path in paths:
        try:
            if not really:
                os.lstat(path)
            elif os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            else:
                os.unlink(path)
            count += 1
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"can't remove: {error.strerror}", place=path) from error
    return count


def too_old(found: Iterable[Holding], now_s: float, older_than_s: float) -> list[Holding]:
    """Return the entries that were made longer ago."""
    return [holding for holding in found if now_s - _made_s(holding) > older_than_s]


def too_many(found: Iterable[Holding], max_bytes: int) -> list[Holding]:
    """Return the oldest entries, as many as must go for the rest to fit."""
    newest = sorted(found, key=_made_s, reverse=True)
    total = 0
    go = []
    for holding in newest:
        total += holding.size_bytes
        if total > max_bytes:
            go.append(holding)
    return go


def export(found: Iterable[Holding], runs_dir: str, path: str) -> tuple[int, int]:
    """Write each key's entry once, with the blobs it names, to a tar file, which is replaced whole.

    Returns how many entries were written and how many were left out because they, or their
    blobs, could not be believed.
    """
    temporary = f"{path}.tmp-{os.getpid()}"
    compressed = path.endswith((".gz", ".tgz"))
    try:
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with (
                open(fd, "w+b") as file,
                tarfile.open(fileobj=file, mode="w:gz")
                if compressed
                else tarfile.open(fileobj=file, mode="w") as archive,
            ):
                counts = _export(archive, found, runs_dir)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise StorageError(f"can't write: {error.strerror}", place=path) from error
    return counts


def _export(archive: tarfile.TarFile, found: Iterable[Holding], runs_dir: str) -> tuple[int, int]:
    written: set[str] = set()
    good = bad = 0
    for holding in found:
        if isinstance(holding.found, Refused):
            bad += 1
            continue
        if holding.key in written:
            continue
        blobs = _blobs_of(holding.found, RunFolder(runs_dir, holding.holder))
        again = load(holding.path, holding.key)
        if blobs is None or not isinstance(again, Found):
            bad += 1
            continue
        good += 1
        written.add(holding.key)
        for digest, data in blobs.items():
            if digest not in written:
                written.add(digest)
                _add(archive, f"blobs/{digest}", data)
        _add(archive, f"answers/{holding.key}{SUFFIX}", again.raw)
    return good, bad


def imported(path: str, runs_dir: str, warn: Callable[[str], None]) -> tuple[str, int, int]:
    """Take in an exported file: return the folder that holds it now, and how many were good, bad.

    Nothing in the file is believed: names are checked, entries verified, blobs hashed.

    Raises:
        UsageError: it is no tar file.
        StorageError: it can't be read, or the folder not be written.
    """
    try:
        digest = _digest(path)
        folder = RunFolder(runs_dir, f"{IMPORTED}{digest[:12]}")
        os.makedirs(runs_dir, mode=0o700, exist_ok=True)
        for place in (folder.path, folder.cache, folder.artifacts):
            os.makedirs(place, mode=0o700, exist_ok=True)
        with tarfile.open(path, "r:*") as archive:
            good, bad = _take_in(archive, folder, warn)
    except tarfile.TarError as error:
        raise UsageError(f"this is no exported cache: {error}", place=path) from error
    except OSError as error:
        raise StorageError(f"can't import: {error.strerror}", place=path) from error
    return folder.job_id, good, bad


def _take_in(
    archive: tarfile.TarFile, folder: RunFolder, warn: Callable[[str], None]
) -> tuple[int, int]:
    good = bad = 0
    blobs = BlobStore(folder.artifacts)
    for number, member in enumerate(archive):
        match = _MEMBER.match(member.name)
        data = None
        if number >= MEMBERS_MAX:
            raise UsageError(f"more than {MEMBERS_MAX} members: this is no exported cache")
        if match and member.isreg() and member.size <= MAX_BYTES:
            stream = archive.extractfile(member)
            data = stream.read() if stream is not None else None
        if match is None or data is None:
            why = "it is no member of an exported cache"
        elif match[1] == "blobs":
            why = "" if blobs_name(data) == match[2] else "its hash is wrong"
            if not why:
                blobs.put(data)
        else:
            entry = verified(data, match[2])
            why = entry.why if isinstance(entry, Refused) else ""
            if not why:
                write_whole(FILES, os.path.join(folder.cache, match[2] + SUFFIX), data)
                good += 1
        if why:
            bad += 1
            warn(f"warning: {member.name[:100]!r} was left out: {why}")
    return good, bad


def blobs_name(data: bytes) -> str:
    """Return the name of a blob of these bytes."""
    return hashlib.sha256(data).hexdigest()


def _blobs_of(entry: Entry, holder: RunFolder) -> dict[str, bytes] | None:
    """Return the blobs that a step's result names, or None if one can't be had."""
    if entry.result is None:
        return {}
    ref = as_ref(entry.result.output)
    refs = [ref] if ref is not None else []
    refs += [BlobRef(blob=f"sha256:{f.sha256}", bytes=f.size_bytes) for f in entry.result.files]
    store = BlobStore(holder.artifacts)
    if not all(store.holds(ref) and ref.bytes <= MAX_BYTES for ref in refs):
        return None
    return {ref.blob.removeprefix("sha256:"): store.get(ref) for ref in refs}


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    archive.addfile(info, io.BytesIO(data))


def _holding(holder: str, key: str, path: str) -> Holding:
    found = load(path, key) or Refused("it is gone")
    entry = found.entry if isinstance(found, Found) else found
    return Holding(holder, key, path, _size(path), entry)


def _made_s(holding: Holding) -> float:
    if isinstance(holding.found, Refused):
        return 0.0
    try:
        return datetime.fromisoformat(holding.found.created_at).timestamp()
    except ValueError:
        return 0.0


def _holders(runs_dir: str) -> list[str]:
    return [name for name in sorted(_listed(runs_dir)) if is_name(name)]


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
