"""What the runner is given to run: how each step of one job is prepared and performed.

There are two: the steps of a spec (`specwork`) and the functions of a DAG (`dag`).
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from .recovery import Recovery
from .retry import RetryPolicy
from .state import JobState, Success
from .steps.base import Attempt, EmitFor, Prepared, Result


class Expansion(msgspec.Struct, frozen=True, kw_only=True):
    """The items of a group: an identity for each, in order, and how the group runs them."""

    items: tuple[str, ...]
    max_parallel: int = 0
    max_failures: int = 0


class SpecParts(Protocol):
    """What only a spec has: groups and other job files, which open and close; and its outputs."""

    def outputs(self, state: JobState) -> Any:
        """Return what `job.succeeded` carries as the job's outputs; None for nothing.

        Raises:
            StepError: they can't be rendered.
        """
        ...

    def enter(self, name: str, state: JobState) -> None:
        """Take in what a step that runs another job file is given, now that its needs are met.

        Raises:
            StepError: it can't be rendered, or does not fit the file's inputs.
        """
        ...

    def leave(self, name: str, state: JobState) -> Result:
        """Return the outputs of such a file, and the files that its steps have published.

        Raises:
            StepError: they can't be rendered.
        """
        ...

    def expand(self, name: str, state: JobState) -> Expansion:
        """Return the items of a group whose needs are met.

        Raises:
            StepError: they can't be had.
        """
        ...

    def gather(self, name: str, state: JobState) -> Result:
        """Return the outputs of a group's instances in order, null for one that failed.

        Raises:
            StepError: more of them failed than the group bears.
        """
        ...


class Work(Protocol):
    """The steps of one job, by name."""

    def prepare(self, name: str, state: JobState) -> Prepared:
        """Render and read what the step's key depends on; no effect, and quick.

        Raises:
            StepError: it can't be prepared.
        """
        ...

    def unwanted(self, name: str, state: JobState) -> str:
        """Return the step's condition if it says no, or nothing if the step is to run.

        Raises:
            StepError: it can't be told.
        """
        ...

    def recovery(self, name: str) -> Recovery:
        """Return what the step says of its cut-off attempts."""
        ...

    def answered(self, name: str, prepared: Prepared) -> bool:
        """Tell whether another attempt would find its answer there, and have no effect."""
        ...

    def attempt(self, name: str, number: int, idempotency_key: str, emit_for: EmitFor) -> Attempt:
        """Return what an attempt may touch; `emit_for` makes what it reports with, if it does."""
        ...

    async def perform(self, name: str, prepared: Prepared, attempt: Attempt) -> Result:
        """Do it once.

        Raises:
            StepError: with the failure's kind.
        """
        ...

    def holds(self, success: Success) -> str:
        """Return why a recorded result can't be used any more, or nothing if it can."""
        ...

    def keep(self, name: str, result: Result, encoded: bytes) -> object:
        """Return what `step.succeeded` carries as output: the value, or a blob's reference.

        A blob is durable on return.
        """
        ...

    def retry(self, name: str) -> RetryPolicy:
        """Return how the step is retried."""
        ...

    def timeout_s(self, name: str) -> float | None:
        """Return the limit of one attempt in seconds."""
        ...
