"""Run multi-step LLM jobs as a file: kill it anywhere, resume it anywhere, query it with SQL.

import orchestrator
result = orchestrator.run("job.yaml")
result.status, result.steps["architect"]["text"]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "2.1.0"

if TYPE_CHECKING:
    from .dag import DAG, DAGNode, StepResult, run_dag
    from .emitter import EventEmitter, event_logger, filter_events, read_events
    from .errors import OrchestratorError, SpecError
    from .filestore import FileStore, WriteResult
    from .results import JobResult
    from .spec.model import Spec
    from .wiring import run, run_async

# Names are loaded when they are first used, so that the command line starts light.
_HOMES = {
    "DAG": "dag",
    "DAGNode": "dag",
    "StepResult": "dag",
    "run_dag": "dag",
    "EventEmitter": "emitter",
    "event_logger": "emitter",
    "filter_events": "emitter",
    "read_events": "emitter",
    "OrchestratorError": "errors",
    "SpecError": "errors",
    "FileStore": "filestore",
    "WriteResult": "filestore",
    "JobResult": "results",
    "run": "wiring",
    "run_async": "wiring",
    "Spec": "spec.model",
}

__all__ = [
    "DAG",
    "DAGNode",
    "EventEmitter",
    "FileStore",
    "JobResult",
    "OrchestratorError",
    "Spec",
    "SpecError",
    "StepResult",
    "WriteResult",
    "__version__",
    "event_logger",
    "filter_events",
    "read_events",
    "run",
    "run_async",
    "run_dag",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)
