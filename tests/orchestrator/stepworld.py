"""A small world for steps: a spec's folder, a job's folders, and attempts that run in them."""

import os
import subprocess
import time
from types import SimpleNamespace

import anyio

from orchestrator.filestore import FileStore
from orchestrator.publish import publish_folder
from orchestrator.steps.base import Attempt, Scope

PATIENCE_S = 20.0


class World:
    """Folders below `root`; `run` prepares and performs one step."""

    def __init__(self, root):
        self.spec = root / "spec"
        self.spec.mkdir()
        self.outputs = FileStore(root / "outputs")
        self.log = root / "logs" / "step.log"
        self.work = root / "work"
        self.work.mkdir()
        self.attempts = 0

    def step(self, **fields):
        defaults = {"run": None, "python": None, "with_": {}, "env": {}, "cwd": "", "files": ()}
        return SimpleNamespace(**{**defaults, **fields})

    def scope(self, values=None, needs=None):
        return Scope(step="s", values=values or {}, needs=needs or {}, folder=str(self.spec))

    def attempt(self, environ=None):
        self.attempts += 1
        folder = self.work / str(self.attempts)
        folder.mkdir()

        async def emit(*events, wait=True):
            raise AssertionError("shell and python steps emit nothing of their own")

        async def publish(left):
            found = await anyio.to_thread.run_sync(
                lambda: publish_folder(left, self.outputs, lambda path: None)
            )
            return tuple(published.file for published in found)

        return Attempt(
            job_id="job_1",
            step="s",
            number=self.attempts,
            idempotency_key="key-1",
            timeout_s=None,
            work_dir=str(folder),
            log_path=str(self.log),
            outputs=self.outputs,
            environ={"PATH": os.environ["PATH"]} if environ is None else environ,
            emit=emit,
            publish=publish,
        )

    def prepare(self, kind, values=None, needs=None, **fields):
        return kind.prepare(self.step(**fields), self.scope(values, needs))

    def run(self, kind, values=None, needs=None, **fields):
        prepared = self.prepare(kind, values, needs, **fields)
        return anyio.run(kind.perform, prepared, self.attempt())

    def cancel_when(self, kind, path, **fields):
        """Start a step, cancel it when the file is there, return the seconds the end took."""
        prepared = self.prepare(kind, **fields)

        async def main():
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(kind.perform, prepared, self.attempt())
                    with anyio.fail_after(PATIENCE_S):
                        await settled(path)
                    cancelled_at = time.monotonic()
                    scope.cancel()
            assert scope.cancelled_caught
            return time.monotonic() - cancelled_at

        return anyio.run(main)


async def settled(path):
    """Wait until a file of another process is there with a whole line."""
    while not path.exists() or not path.read_text().endswith("\n"):  # noqa: ASYNC110 - no event
        await anyio.sleep(0.01)


def alive(pid):
    """Whether a process is there and more than a zombie."""
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(shown.stdout.strip()) and not shown.stdout.strip().startswith("Z")


def pids_in(path):
    return [int(line) for line in path.read_text().split()]
