"""One method for each event of a job: what a program of the user's emits in their place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from eventlog import Event

from . import events as ev


class Telling:
    """The methods; each returns the event's seq. `data` has the names of `payloads`."""

    def emit(self, event: Event | Mapping[str, Any]) -> int:
        """Append one event and return its seq."""
        raise NotImplementedError

    def job_started(self, **data: Any) -> int:
        """Emit `job.started`."""
        return self.emit({"type": "job.started", "data": data})

    def job_resumed(self, **data: Any) -> int:
        """Emit `job.resumed`."""
        return self.emit({"type": "job.resumed", "data": data})

    def job_succeeded(self, **data: Any) -> int:
        """Emit `job.succeeded`."""
        return self.emit({"type": "job.succeeded", "data": data})

    def job_failed(self, **data: Any) -> int:
        """Emit `job.failed`."""
        return self.emit({"type": "job.failed", "data": data})

    def job_cancelled(self, **data: Any) -> int:
        """Emit `job.cancelled`."""
        return self.emit({"type": "job.cancelled", "data": data})

    def job_waiting(self, **data: Any) -> int:
        """Emit `job.waiting`."""
        return self.emit({"type": "job.waiting", "data": data})

    def step_started(self, step: str, **data: Any) -> int:
        """Emit `step.started`."""
        return self.emit({"type": "step.started", "step": step, "data": data})

    def step_expanded(self, step: str, **data: Any) -> int:
        """Emit `step.expanded`."""
        return self.emit({"type": "step.expanded", "step": step, "data": data})

    def step_succeeded(self, step: str, **data: Any) -> int:
        """Emit `step.succeeded`."""
        return self.emit({"type": "step.succeeded", "step": step, "data": data})

    def step_failed(self, step: str, **data: Any) -> int:
        """Emit `step.failed`."""
        return self.emit({"type": "step.failed", "step": step, "data": data})

    def step_retrying(self, step: str, **data: Any) -> int:
        """Emit `step.retrying`."""
        return self.emit({"type": "step.retrying", "step": step, "data": data})

    def step_skipped(self, step: str, **data: Any) -> int:
        """Emit `step.skipped`."""
        return self.emit({"type": "step.skipped", "step": step, "data": data})

    def step_interrupted(self, step: str, **data: Any) -> int:
        """Emit `step.interrupted`."""
        return self.emit({"type": "step.interrupted", "step": step, "data": data})

    def step_invalidated(self, step: str, **data: Any) -> int:
        """Emit `step.invalidated`."""
        return self.emit({"type": "step.invalidated", "step": step, "data": data})

    def step_adopted(self, step: str, **data: Any) -> int:
        """Emit `step.adopted`."""
        return self.emit({"type": "step.adopted", "step": step, "data": data})

    def step_waiting(self, step: str, **data: Any) -> int:
        """Emit `step.waiting`."""
        return self.emit({"type": "step.waiting", "step": step, "data": data})

    def step_approved(self, step: str, **data: Any) -> int:
        """Emit `step.approved`."""
        return self.emit({"type": "step.approved", "step": step, "data": data})

    def step_rejected(self, step: str, **data: Any) -> int:
        """Emit `step.rejected`."""
        return self.emit({"type": "step.rejected", "step": step, "data": data})

    def step_set(self, step: str, **data: Any) -> int:
        """Emit `step.set`."""
        return self.emit({"type": "step.set", "step": step, "data": data})

    def llm_request(self, step: str, **data: Any) -> int:
        """Emit `llm.request`."""
        return self.emit({"type": "llm.request", "step": step, "data": data})

    def llm_response(self, step: str, **data: Any) -> int:
        """Emit `llm.response`."""
        return self.emit({"type": "llm.response", "step": step, "data": data})

    def budget_exceeded(self, step: str, **data: Any) -> int:
        """Emit `budget.exceeded`."""
        return self.emit({"type": "budget.exceeded", "step": step, "data": data})

    def cache_hit(self, step: str, **data: Any) -> int:
        """Emit `cache.hit`."""
        return self.emit({"type": "cache.hit", "step": step, "data": data})

    def cache_miss(self, step: str, **data: Any) -> int:
        """Emit `cache.miss`."""
        return self.emit({"type": "cache.miss", "step": step, "data": data})

    def artifact_created(self, step: str, **data: Any) -> int:
        """Emit `artifact.created`."""
        return self.emit({"type": "artifact.created", "step": step, "data": data})

    def file_written(self, step: str, result: Mapping[str, Any]) -> int:
        """Emit `file.written` from what `FileStore.safe_write` returned."""
        names = ("sha256", "size_bytes", "wrote", "reason")
        data = {"path": os.fspath(result["path"]), **{name: result[name] for name in names}}
        return self.emit(ev.FileWritten(step=step, data=ev.Written(**data)))
