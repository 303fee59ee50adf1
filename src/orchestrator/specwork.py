"""The steps of a spec, as the runner sees them: prepared and performed by their kinds."""

from __future__ import annotations

import functools
import glob
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import anyio.to_thread
import msgspec

from . import nest, nested, templates
from .blobs import BlobStore
from .errors import FailureKind, StepError
from .events import FileRef, FileWritten
from .expand import items_of
from .fan import broken
from .filestore import FileStore
from .folder import RunFolder
from .graph import Graph
from .instances import base_of, instance, item_of
from .keys import encode_output, step_key
from .outputs import Outputs
from .publish import publish_folder
from .recovery import Recovery
from .references import passed, references
from .retry import LLM_RETRY, NO_RETRY, RetryPolicy, own_code
from .secrecy import Secrets, masked
from .sights import Sights, failures_seen, job_seen
from .spec.model import Spec, Step
from .spec.values import within
from .state import DONE, SETTLED, JobState, Success
from .stepcache import StepCache
from .steps.base import Answers, Attempt, Emit, EmitFor, Prepared, Result, Scope, StepKind
from .steps.llm import LLMStep
from .templates import condition
from .work import Expansion

PROCESSES = ("python", "run")
"""Kinds whose steps run in processes of their own."""

ATTEMPT = ".attempt-"
"""How the private folder of an attempt begins, in the run folder."""


class SpecWork:
    """The steps of one spec in one run folder.

    Args:
        spec: what to run.
        folder: the job's.
        kinds: by the name they have in a spec.
        secrets: what shell and python steps are given, and what is kept out of the record.
        state: returns the job's state, for what other steps have published.
        reuse: what takes over results of other jobs, for steps that say so.
    """

    def __init__(
        self,
        spec: Spec,
        folder: RunFolder,
        kinds: Mapping[str, StepKind],
        secrets: Secrets,
        state: Callable[[], JobState],
        reuse: StepCache | None = None,
    ) -> None:
        self._spec = spec
        self._folder = folder
        self._kinds = kinds
        self._secrets = secrets
        self._state = state
        self._reuse = reuse
        self._store = FileStore(folder.outputs)
        self._outputs = Outputs(BlobStore(folder.artifacts))
        self._values = {"": spec.values}
        self._claimed: dict[str, str] = {}
        self._claiming = threading.Lock()
        self._refs = {name: references(step) for name, step in spec.steps.items()}
        self._passed = {name: passed(step) for name, step in spec.steps.items()}
        self._items: dict[str, dict[str, dict[str, Any]]] = {}
        self._sights = Sights(self.output)
        self._graph = Graph(spec.decls)
        self._unkept = frozenset(_answers(spec)) if spec.record == "hashes" else frozenset()

    def prepare(self, name: str, state: JobState) -> Prepared:
        """Render and read what the step's key depends on."""
        step = self._step(name)
        values = self._scope_values(step, state, self._refs[step.name])
        passed = self._passed[step.name]
        file = self._spec.file_of(step.scope)
        scope = Scope(
            step=name,
            values={**values, **self._items[step.name][item_of(name)]} if step.each else values,
            needs={
                need: values["steps"][need]["output"] for need in step.needs if need not in passed
            },
            folder=self._spec.folder_of(step),
            read=functools.partial(self._input, file.base),
        )
        prepared = self._kinds[step.kind].prepare(step, scope)
        parts = prepared.parts
        if step.kind != "llm" and (env := self._spec.env_of(step.scope)):
            parts = {**parts, "spec_env": env}
        if step.kind in PROCESSES and step.each:  # it can read ORCH_ITEM
            parts = {**parts, "item": item_of(name)}
        if step.kind in PROCESSES and (step.secrets or self._spec.secrets):
            parts = {**parts, "secrets": self._secrets.parts_of(step)}
        passed = tuple(map(step.whole, passed))
        return msgspec.structs.replace(prepared, parts=parts, passed=passed)

    def enter(self, name: str, state: JobState) -> None:
        """Render what a nested job file is given: what its templates see is kept for `prepare`."""
        step, file = self._spec.steps[name], self._spec.nested[name]
        values = self._scope_values(step, state, self._refs[name])
        self._values[name] = nested.given(step, file, values)

    def leave(self, name: str, state: JobState) -> Result:
        """Return a nested file's outputs, and the files that its steps have published."""
        file, members = self._spec.nested[name], nested.members(name, self._graph)
        seen = {local: self._sights.step(member, state) for local, member in members.items()}
        values = {**self._values_of(name, state), "steps": seen}
        output = nested.output(name, file, values, self._graph)
        files = [FileRef(**file, media_type="") for view in seen.values() for file in view["files"]]
        return Result(output=output, files=tuple(files))

    def expand(self, name: str, state: JobState) -> Expansion:
        """Return the items of a group: what its templates see of each is kept for `prepare`."""
        step = self._spec.steps[name]
        self._items[name] = items_of(step, self._scope_values(step, state, self._refs[name]))
        return Expansion(
            items=tuple(self._items[name]),
            max_parallel=step.max_parallel,
            max_failures=step.max_failures,
        )

    def gather(self, name: str, state: JobState) -> Result:
        """Return the outputs of a group's instances, in the order of its list."""
        fan = state.fans[name]
        if fault := broken(fan):
            raise StepError(fault.message, kind=FailureKind.ITEMS, hint=fault.hint)
        members = (state.steps[instance(name, item)].success for item in fan.items)
        return Result(output=[self.output(member) if member else None for member in members])

    def _step(self, name: str) -> Step:
        return self._spec.steps[base_of(name)]

    def unwanted(self, name: str, state: JobState) -> str:
        """Return the step's condition if it says no."""
        step = self._step(name)
        if not step.if_:
            return ""
        if step.each:  # asked of each item where it looks at the item, else once
            named = templates.names(condition.plain_source(step.if_, failed=False))
            if named.isdisjoint(("item", "matrix")) is (step.name != name):
                return ""
        failed = False
        if condition.calls_failed(step.if_):
            needed = () if step.finally_ else self._graph.ancestors(step.name)
            failed = any(nest.fails(state, need) for need in needed)
            if step.finally_:
                failed = bool(failures_seen(state, step.scope))
        refs = sorted(templates.refs(step.if_) - set(step.needs))
        values = self._scope_values(step, state, refs)
        if name != step.name:
            values |= self._items[step.name][item_of(name)]
        if condition.holds(step.if_, values, failed=failed, place=f"steps.{name}.if"):
            return ""
        return condition.shown(step.if_)

    def _scope_values(self, step: Step, state: JobState, refs: Iterable[str]) -> dict[str, Any]:
        """Return what a step's templates see, but for its item."""
        named = (*step.needs, *refs)
        seen = {need: self._sights.step(step.whole(need), state) for need in named}
        values = {**self._values_of(step.scope, state), "steps": seen}
        if step.finally_:
            values["job"] = job_seen(state, step.scope)
        return values

    def _values_of(self, scope: str, state: JobState) -> dict[str, Any]:
        """Return the top-level names of a job file's templates, but for `steps`."""
        if scope not in self._values:  # in a plan, or for a look at one step
            self.enter(scope, state)
        return self._values[scope]

    def _input(self, base: str, path: str) -> bytes:
        """Return a file that a job file names, else one below outputs/."""
        attached = self._spec.attachments.get(within(base, path))
        return self._store.read_bytes(path) if attached is None else attached

    def tidy(self) -> None:
        """Remove what a leg that was killed left half written; call it under the job's lock."""
        self._store.sweep()
        self._outputs.blobs.sweep()
        for left in glob.glob(os.path.join(glob.escape(self._folder.path), f"{ATTEMPT}*")):
            shutil.rmtree(left, ignore_errors=True)

    def attempt(self, name: str, number: int, idempotency_key: str, emit_for: EmitFor) -> Attempt:
        """Return what an attempt may touch, with a private folder made for it.

        A call whose answer goes to no file has none: thousands of them would wait for the disk.
        """
        step = self._step(name)
        work_dir = ""
        if step.llm is None or step.save_as:
            prefix = f"{ATTEMPT}{base_of(name).replace('/', '.')[:32]}-{number}-"
            work_dir = os.path.abspath(tempfile.mkdtemp(prefix=prefix, dir=self._folder.path))

        if "[" in name or step.scope:
            os.makedirs(os.path.dirname(self._folder.step_log(name)), mode=0o700, exist_ok=True)

        emit = emit_for(name, number)

        async def publish(folder: str) -> tuple[FileRef, ...]:
            return await self._publish(name, folder, emit)

        return Attempt(
            job_id=self._folder.job_id,
            step=name,
            number=number,
            idempotency_key=idempotency_key,
            timeout_s=self.timeout_s(name),
            work_dir=work_dir,
            log_path=os.path.abspath(self._folder.step_log(name)),
            outputs=self._store,
            environ={**self._secrets.environ_of(step), **self._spec.env_of(step.scope)},
            masker=self._secrets.masker,
            unanswered=self._state().unanswered.get(name, ""),
            emit=emit,
            publish=publish,
            log_bytes=self._spec.limits.log_bytes,
            output_bytes=self._spec.limits.output_bytes,
        )

    async def perform(self, name: str, prepared: Prepared, attempt: Attempt) -> Result:
        """Hand the attempt to the step's kind; its private folder is removed afterwards."""
        step = self._step(name)
        perform = functools.partial(self._masked, step, prepared, attempt)
        try:
            if self._reuse is None or step.llm is not None or step.cache is None:
                return await perform()
            key = self._key(step, prepared)
            return await self._reuse.through(key, prepared, attempt, step.cache, perform)
        finally:
            if attempt.work_dir:
                shutil.rmtree(attempt.work_dir, ignore_errors=True)

    async def _masked(self, step: Step, prepared: Prepared, attempt: Attempt) -> Result:
        """Perform an attempt; neither its result nor its error holds a known secret."""
        masker = self._secrets.masker
        try:
            result = await self._kinds[step.kind].perform(prepared, attempt)
        except StepError as error:
            raise masked(error, masker) from None
        return msgspec.structs.replace(result, output=masker.value(result.output))

    def cached(self, name: str, prepared: Prepared) -> tuple[Result, str] | None:
        """Return what a step would bring without an attempt, and the job that it is from."""
        step = self._step(name)
        kind = self._kinds[step.kind]
        if isinstance(kind, LLMStep):
            return kind.cached(name, prepared)
        if self._reuse is None or step.cache is None:
            return None
        return self._reuse.cached(self._key(step, prepared), name, step.cache)

    def _key(self, step: Step, prepared: Prepared) -> str:
        """Return what a result depends on that other jobs may take over."""
        steps = self._state().steps
        given = self._graph.given(step.name)
        needs = (need for need in given if need not in prepared.passed)
        successes = [steps[need].success for need in needs]
        hashes = [success.output_sha256 for success in successes if success is not None]
        return step_key(step.kind, prepared.parts, hashes)

    def holds(self, success: Success) -> str:
        """Return why a recorded result can't be used any more, or nothing."""
        if gone := self._outputs.holds(success):
            return gone
        prefix = self._spec.output_dir
        for file in success.files:
            if prefix and not success.by and not file.path.startswith(f"{prefix}/"):
                return f"outputs/{file.path} is not below the job's output_dir, {prefix}"
            try:
                found = self._store.digest(file.path)
            except Exception:  # noqa: BLE001 - whatever is in the way, the file can't be used
                return f"outputs/{file.path} is gone"
            if found != (file.sha256, file.size_bytes):
                return f"outputs/{file.path} has changed"
        return ""

    def keep(self, name: str, result: Result, encoded: bytes) -> object:
        """Return the output, or a blob's reference; of an answer maybe one that is never stored."""
        if base_of(name) in self._unkept:
            return self._outputs.hold(encoded)
        return self._outputs.keep(result.output, encoded)

    def recovery(self, name: str) -> Recovery:
        """Return what the step says of its cut-off attempts."""
        step = self._step(name)
        return Recovery(
            once=step.effects == "once",
            on_interrupted=step.on_interrupted,
            max_recoveries=step.max_recoveries,
        )

    def answered(self, name: str, prepared: Prepared) -> bool:
        """Tell whether the cache has what an llm step asks for."""
        kind = self._kinds[self._step(name).kind]
        return isinstance(kind, Answers) and kind.answered(name, prepared)

    def retry(self, name: str) -> RetryPolicy:
        """Return how the step is retried."""
        step = self._step(name)
        if step.retry is None and step.effects == "once":
            return NO_RETRY
        if step.retry is not None:
            return step.retry if step.kind == "llm" else own_code(step.retry)
        return LLM_RETRY if step.kind == "llm" else NO_RETRY

    def timeout_s(self, name: str) -> float | None:
        """Return the limit of one attempt in seconds."""
        return self._step(name).timeout_s

    def output(self, success: Success) -> Any:
        """Return a recorded result's real output."""
        return self._outputs.load(success.output)

    def outputs(self, state: JobState) -> Any:
        """Return the spec's `outputs`, rendered over all steps: the value, or a blob's reference.

        Raises:
            StepError: kind `template` or `output`.
        """
        if not self._spec.outputs:
            return None
        names = [
            name
            for name, step in self._spec.steps.items()
            if not step.scope and state.steps[name].status in SETTLED
        ]
        values = {
            **self._values[""],
            "steps": {name: self._sights.step(name, state) for name in names},
        }
        rendered = {
            name: templates.render_value(value, values, place=f"outputs.{name}")
            for name, value in self._spec.outputs.items()
        }
        return self._outputs.keep(rendered, encode_output("outputs", rendered))

    def job_outputs(self, state: JobState) -> dict[str, Any]:
        """Return what the job's last event carries as its outputs."""
        return self._outputs.load(state.outputs) if state.outputs is not None else {}

    async def _publish(self, name: str, folder: str, emit: Emit) -> tuple[FileRef, ...]:
        prefix = self._spec.output_dir if self._step(name).kind != "llm" else ""
        claim = self._claim(name)
        done = await anyio.to_thread.run_sync(
            functools.partial(publish_folder, folder, self._store, claim, prefix=prefix)
        )
        if done:
            written = (FileWritten(step=name, data=item.event_data) for item in done)
            await emit(*written, wait=False)  # the files themselves are on the disk
        return tuple(item.file for item in done)

    def _claim(self, name: str) -> Callable[[str], None]:
        """Return what refuses a path that another step of this leg has published."""
        state = self._state()

        def claim(path: str) -> None:
            with self._claiming:
                other = self._claimed.get(path) or state.published.get(path)
                step = state.steps.get(other) if other not in (None, name) else None
                if step is not None and (step.status in DONE or other in state.running):
                    raise StepError(
                        f"outputs/{path} was published by step {other} already",
                        kind=FailureKind.OUTPUT,
                        hint="give one of the files another name",
                    )
                self._claimed[path] = name

        return claim


def _answers(spec: Spec) -> Iterator[str]:
    """Yield the steps whose outputs are answers of models, or may be made of them."""
    for name, step in spec.steps.items():
        if step.llm is not None:
            yield name
            while name := name.rpartition("/")[0]:
                yield name
