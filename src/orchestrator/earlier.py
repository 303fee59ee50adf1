"""What the steps of a job depended on when they ran: to tell what has changed since.

A log keeps the components of each key as hashes. Their values are stored nowhere a second
time: a model's request lies in artifacts/ (or in the cache), everything else follows from the
frozen inputs and the recorded outputs. A value is told only if its hash is the one in the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from . import events as ev
from .blobs import BlobStore
from .errors import OrchestratorError
from .folder import RunFolder
from .history import records
from .keys import part_hashes

Reread = Callable[[ev.Started, str], dict[str, Any]]
"""Returns the components of a step's key as a leg's frozen inputs give them."""


class Start(msgspec.Struct, kw_only=True):
    """How a step was started, or shown to a person.

    Attributes:
        step: its name then.
        needs: the hashes of the outputs that it was given, by step.
        leg: what its leg set out to do.
        request: the blob of the model's request, if one was asked.
    """

    step: str
    seq: int
    kind: str
    parts: dict[str, str]
    needs: dict[str, str]
    leg: ev.Started | None
    cache_key: str = ""
    request: ev.BlobRef | None = None


class Earlier:
    """The starts of a job's log.

    Args:
        folder: the job's.
        reread: for values that are in the frozen inputs.
    """

    def __init__(self, folder: RunFolder, reread: Reread) -> None:
        self._folder = folder
        self._blobs = BlobStore(folder.artifacts)
        self._reread = reread
        self._by_key: dict[str, dict[str, Start]] = {}
        self._last: dict[str, Start] = {}
        self._known: dict[int, dict[str, Any]] = {}
        self._read()

    def start(self, step: str, key: str) -> Start | None:
        """Return how a step was started with this key, else how it was last."""
        return self._by_key.get(step, {}).get(key) or self._last.get(step)

    def value(self, start: Start, part: str) -> Any:
        """Return the value of a component of a key, as it was.

        Raises:
            KeyError: it was not kept, or what is there now is not what it was.
        """
        known = self._known.get(start.seq)
        if known is None:
            known = self._known[start.seq] = self._values(start)
        value = known[part]
        if part_hashes({part: value})[part] != start.parts.get(part):
            raise KeyError(part)
        return value

    def _read(self) -> None:
        leg: ev.Started | None = None
        outputs: dict[str, str] = {}
        for record in records(self._folder.log, self._blobs):
            match record.event:
                case ev.JobStarted(data=data) | ev.JobResumed(data=data):
                    leg = data
                case ev.StepStarted(step=step, data=start):
                    given = {need: outputs.get(need, "") for need in start.needs}
                    self._note(step, start.key, record.seq, start.kind, start.parts, given, leg)
                case ev.StepWaiting(step=step, data=shown):
                    given = {need: outputs.get(need, "") for need in shown.needs}
                    self._note(step, shown.key, record.seq, "approve", shown.parts, given, leg)
                case ev.StepSkipped(step=step, data=skip) if skip.from_step not in ("", step):
                    self._renamed(step, skip.from_step)
                    outputs[step] = skip.output_sha256
                case ev.StepInterrupted(step=step, data=note) if note.from_step:
                    self._renamed(step, note.from_step)
                case (
                    ev.StepSucceeded(step=step, data=end)
                    | ev.StepApproved(step=step, data=end)
                    | ev.StepSet(step=step, data=end)
                    | ev.StepSkipped(step=step, data=end)
                ) if end.output_sha256:
                    outputs[step] = end.output_sha256
                case ev.LLMRequest(step=step, data=asked) if step in self._last:
                    self._last[step].cache_key = asked.cache_key
                    self._last[step].request = asked.request
                case ev.CacheHit(step=step, data=hit) if step in self._last:
                    self._last[step].cache_key = hit.cache_key
                case _:
                    pass

    def _renamed(self, step: str, former: str) -> None:
        """Take what a step depended on under the name that it had."""
        if former in self._last:
            self._last[step] = self._last[former]
            self._by_key[step] = {**self._by_key.get(step, {}), **self._by_key[former]}

    def _note(
        self,
        step: str,
        key: str,
        seq: int,
        kind: str,
        parts: dict[str, str],
        needs: dict[str, str],
        leg: ev.Started | None,
    ) -> None:
        start = Start(step=step, seq=seq, kind=kind, parts=parts, needs=needs, leg=leg)
        self._last[step] = self._by_key.setdefault(step, {})[key] = start

    def _values(self, start: Start) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if start.leg is not None:
            try:
                found.update(self._reread(start.leg, start.step))
            except (OrchestratorError, KeyError):
                pass  # the frozen inputs are gone, or of another version
        found.update(self._request(start))
        return found

    def _request(self, start: Start) -> dict[str, Any]:
        data = b""
        try:
            if start.request is not None:
                return dict(msgspec.json.decode(self._blobs.get(start.request), type=dict))
            if start.cache_key:
                with open(f"{self._folder.cache}/{start.cache_key}.json", "rb") as file:
                    data = file.read()
                return dict(msgspec.json.decode(data, type=dict)["request"])
        except (OrchestratorError, OSError, msgspec.DecodeError, KeyError, TypeError):
            pass  # what is not there can't be told
        return {}


def file_hashes(files: dict[str, bytes | None]) -> dict[str, str]:
    """Return the hashes of declared files as they were frozen, as the steps' kinds make them."""
    return {
        name: hashlib.sha256(content).hexdigest()
        for name, content in sorted(files.items())
        if content is not None
    }
