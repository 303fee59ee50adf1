"""Crashes while a FileStore writes: each file is the old or the new one, whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from random import Random

from orchestrator.disk import DirFiles
from orchestrator.filestore import FileExists, FileStore, Mode
from orchestrator.safepath import TEMPORARY

from .calls import Mark, Op, State
from .disk import Disk, crashes
from .recorded import Died, RecordedFiles, put_all
from .tally import Failure, Tally

PATHS = ("a.txt", "d/b.txt", "d/e/c.txt", "d/e/f.txt")
CONTENT = (b"", b"one", b"two" * 200, b"three" * 700)
SWEEP_EVERY = 20
"""Of so many states, one is put into a real folder, swept and written to again."""

Allowed = dict[str, frozenset[bytes | None]]
"""What each path may hold; None: it is not there."""


class RecordedDirFiles(RecordedFiles, DirFiles):
    """As RecordedFiles, with the calls that name a file by an open folder."""

    def open_at(self, folder: int, name: str, flags: int, mode: int = 0o600) -> int:
        path = self.path_of(folder, name)
        call = DirFiles.open_at
        return self.opened(path, flags, lambda: call(self, folder, name, flags, mode))

    def mkdir(self, path: str) -> None:
        self.step()
        super().mkdir(path)
        self.made(path)

    def mkdir_at(self, folder: int, name: str) -> None:
        self.step()
        super().mkdir_at(folder, name)
        self.made(self.path_of(folder, name))

    def rename_at(self, folder: int, old: str, new: str) -> None:
        self.step()
        super().rename_at(folder, old, new)
        self.renamed(self.path_of(folder, old), self.path_of(folder, new))

    def link_at(self, folder: int, old: str, new: str) -> None:
        self.step()
        super().link_at(folder, old, new)
        self.linked(self.path_of(folder, old), self.path_of(folder, new))

    def unlink_at(self, folder: int, name: str) -> None:
        self.step()
        super().unlink_at(folder, name)
        self.unlinked(self.path_of(folder, name))


def run(seed: int, samples: int, tally: Tally, scratch: str) -> None:
    """Write files, with deaths between; look at the crashes.

    Args:
        seed: decides all of it.
        samples: how many states are drawn after each call.
        tally: takes the counts.
        scratch: a folder for its files.
    """
    rng = Random(f"store {seed}")
    with tempfile.TemporaryDirectory(dir=os.path.realpath(scratch)) as root:
        ops: list[Op] = []
        _live(root, ops, rng)
    tally.lives += 1
    for crash in crashes(Disk(), ops, rng, samples):
        if crash is None:
            tally.repeats += 1
            continue
        phase, allowed = crash.mark
        tally.states[f"FileStore {phase}"] += 1
        why = _wrong(crash.state, allowed, root)
        if not why and rng.randrange(SWEEP_EVERY) == 0:
            why = _swept(crash.state, root, scratch)
        if why:
            tally.fail(Failure(seed, 0, crash.call, f"FileStore {phase}", why))


def _live(root: str, ops: list[Op], rng: Random) -> None:
    base = os.path.join(root, "outputs")
    files = RecordedDirFiles(root, ops)
    store = FileStore(base, files=files)
    allowed: Allowed = {os.path.join(base, path): frozenset({None}) for path in PATHS}
    for _ in range(rng.randint(2, 6)):
        path, content = rng.choice(PATHS), rng.choice(CONTENT)
        mode: Mode = rng.choice(("overwrite", "overwrite", "create_new", "append"))
        at = os.path.join(base, path)
        there = _read(at)
        wanted = (there or b"") + content if mode == "append" else content
        if mode == "create_new" and there is not None:
            wanted = there
        ops.append(Mark("may be", (mode, allowed | {at: allowed[at] | {wanted}})))
        files.dies_at = rng.choice((-1, -1, rng.randint(1, 12)))
        try:
            store.safe_write(path, content, mode=mode)
        except FileExists:
            continue
        except Died:
            # What is seen now is what the next process finds; a power cut may still undo it.
            allowed = allowed | {at: allowed[at] | {wanted}}
            files.dies_at = -1
            store = FileStore(base, files=files)
            if rng.random() < 0.5:
                store.sweep()
            continue
        files.dies_at = -1
        allowed = allowed | {at: frozenset({wanted})}
        ops.append(Mark("is", (mode, allowed)))


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _wrong(state: State, allowed: Allowed, root: str) -> str:
    for path, contents in allowed.items():
        if state.get(path) not in contents:
            held = state.get(path)
            what = "is not there" if held is None else f"holds {len(held)} wrong bytes"
            return f"{os.path.relpath(path, root)} {what}"
    return ""


def _swept(state: State, root: str, scratch: str) -> str:
    """Let a store clean up what a crash left; return what is wrong with what it has then."""
    again = tempfile.mkdtemp(dir=scratch)
    try:
        put_all(state, root, again)
        store = FileStore(os.path.join(again, "outputs"))
        files = sorted(
            os.path.relpath(path, os.path.join(root, "outputs"))
            for path in state
            if TEMPORARY not in path
        )
        if os.path.isdir(store.base):
            store.sweep()
            left = [name for _, _, names in os.walk(again) for name in names]
            if store.list_files() != files or len(left) != len(files):
                return f"after a sweep there is {left}"
        if store.safe_write(PATHS[0], b"after")["size_bytes"] != len(b"after"):
            return "it can't be written to any more"
    finally:
        shutil.rmtree(again)
    return ""
