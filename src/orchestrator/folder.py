"""The run folder: one job, one folder, and where everything in it is."""

from __future__ import annotations

import hashlib
import os

from eventlog import is_held
from eventlog.fs import FILES, write_whole

from .errors import StorageError
from .instances import base_of, item_of

SUBFOLDERS = ("inputs", "outputs", "logs", "artifacts", ".cache", "inbox")


class RunFolder:
    """Paths of a job below `runs/`; the folder may or may not be there."""

    def __init__(self, root: str, job_id: str) -> None:
        self.root = root
        self.job_id = job_id
        self.path = os.path.join(root, job_id)

    @property
    def log(self) -> str:
        """The truth."""
        return os.path.join(self.path, "events.jsonl")

    @property
    def lock(self) -> str:
        """Held for as long as a process works on the job."""
        return os.path.join(self.path, ".lock")

    @property
    def manifest(self) -> str:
        """A projection for people and scripts; nothing here reads it."""
        return os.path.join(self.path, "manifest.json")

    @property
    def inputs(self) -> str:
        """The frozen spec and the files it names."""
        return os.path.join(self.path, "inputs")

    @property
    def outputs(self) -> str:
        """What steps write."""
        return os.path.join(self.path, "outputs")

    @property
    def artifacts(self) -> str:
        """Blobs by SHA-256."""
        return os.path.join(self.path, "artifacts")

    @property
    def cache(self) -> str:
        """Answers of models that this job made or reused."""
        return os.path.join(self.path, ".cache")

    @property
    def inbox(self) -> str:
        """Requests of other commands, for whoever holds the lock."""
        return os.path.join(self.path, "inbox")

    def step_log(self, step: str) -> str:
        """Return the file for a step's stdout and stderr; instances have a folder of theirs.

        Items that differ by case alone have different files also on a disk that sees no case.
        """
        logs = os.path.join(self.path, "logs")
        if "[" not in step:
            return os.path.join(logs, f"{step}.log")
        item, below = item_of(step), os.path.join(logs, f"{base_of(step)}.d")
        plain = os.path.join(below, f"{item}.log")
        if item == item.lower() or _has_entry(below, f"{item}.log"):  # of a job begun before
            return plain
        return os.path.join(below, f"{item}~{hashlib.sha256(item.encode()).hexdigest()[:8]}.log")

    @property
    def held(self) -> bool:
        """Whether a process works on the job now: the one and only sign of `running`."""
        return is_held(self.lock)

    def create(self) -> None:
        """Make the folder; its name is durable on return.

        Raises:
            FileExistsError: there is one of this name.
            StorageError: the system refused.
        """
        try:
            made_root = not os.path.isdir(self.root)
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            os.mkdir(self.path, 0o700)
            for name in SUBFOLDERS:
                os.mkdir(os.path.join(self.path, name), 0o700)
            FILES.sync_dir(self.root)
            if made_root:
                FILES.sync_dir(os.path.dirname(os.path.abspath(self.root)))
        except FileExistsError:
            if os.path.isdir(self.root):
                raise
            raise StorageError(
                "can't make the run folder: its parent is a file", place=self.root
            ) from None
        except OSError as error:
            raise StorageError(
                f"can't make the run folder: {error.strerror}",
                place=self.path,
                hint="choose another place with --runs-dir or ORCH_RUNS_DIR",
            ) from error

    def reopen(self) -> None:
        """Make the parts of the folder that are missing, before a leg goes on in it.

        Raises:
            StorageError: a part is a link, which could lead what is written anywhere, or a file.
        """
        for name in SUBFOLDERS:
            path = os.path.join(self.path, name)
            try:
                os.makedirs(path, mode=0o700, exist_ok=True)
            except FileExistsError:
                raise StorageError(
                    "can't go on: this is a file where the job's folder should be", place=path
                ) from None
            except OSError as error:
                raise StorageError(f"can't go on: {error.strerror}", place=path) from error
            if os.path.islink(path):
                raise StorageError(
                    "can't go on: this is a link, and a job writes nothing outside its folder",
                    place=path,
                    hint="put the folder itself there",
                )

    def write(self, name: str, data: bytes) -> None:
        """Replace a file of the folder as a whole; for projections and inputs.

        Raises:
            StorageError: the system refused.
        """
        path = os.path.join(self.path, name)
        try:
            _make_folders(os.path.dirname(path))
            write_whole(FILES, path, data)
        except OSError as error:
            raise StorageError(f"can't write: {error.strerror}", place=path) from error


def _has_entry(folder: str, name: str) -> bool:
    """Return whether a folder has an entry of exactly this name."""
    path = os.path.join(folder, name)
    return os.path.lexists(path) and name in os.listdir(folder)


def _make_folders(path: str) -> None:
    """Make a folder and those above it that are missing, for their owner alone.

    `os.makedirs` gives its mode to the last one only.
    """
    if not os.path.isdir(path):
        _make_folders(os.path.dirname(path))
        os.makedirs(path, mode=0o700, exist_ok=True)
