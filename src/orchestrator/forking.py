"""A new job from an earlier one: what still holds is taken over, and the old job is only read.

Each success of the parent becomes a `step.adopted` of the new job, which then decides by key, as
any leg does, whether it holds. Blobs and cache entries are never changed in place: they are
linked. Files in outputs/ may be: they are copied.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eventlog.fs import FILES

from . import events as ev
from .errors import OrchestratorError, UsageError
from .filestore import FileStore
from .folder import RunFolder
from .graph import Graph
from .instances import base_of
from .leg import moved
from .outputs import as_ref
from .recovery import in_doubt
from .safepath import components
from .spec.model import Spec
from .state import DONE, JobState, StepStatus, Success
from .suggest import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Fork:
    """What a new job begins with.

    Attributes:
        folder: of the parent.
        state: of the parent, as it was read.
        from_step: this one and all that comes after it is run again; empty for nothing. It may be
            an instance, `step[item]`: then its group's other items are not.
    """

    folder: RunFolder
    state: JobState
    from_step: str = ""

    @property
    def parent(self) -> ev.Parent:
        """What the new job records of its origin."""
        return ev.Parent(
            job_id=self.folder.job_id,
            seq=self.state.seq,
            sum=self.state.sum,
            from_step=self.from_step,
        )


def again(fork: Fork, spec: Spec) -> set[str]:
    """Return the steps that are run again because the user said so.

    Raises:
        UsageError: neither the spec nor the parent has such a step; or a step that must not
            happen twice was cut off in the parent, and is not among them.
    """
    found = _from_there_on(fork, spec) if fork.from_step else set()
    _refuse_doubts(fork, spec, found)
    return found


def _from_there_on(fork: Fork, spec: Spec) -> set[str]:
    graph = Graph(spec.decls)
    step = base_of(fork.from_step)
    names = list(graph.ids)
    if step in graph.steps and step != fork.from_step:
        known = (*fork.state.steps, *fork.state.past)
        names = [name for name in dict.fromkeys(known) if base_of(name) == step != name]
    if fork.from_step not in names:
        hint = did_you_mean(fork.from_step, names) or f"there are {', '.join(names) or 'none'}"
        raise UsageError(
            f"there is no step {fork.from_step!r} to begin from",
            place=spec.source.file,
            hint=hint[:500],
        )
    found = graph.after(step)
    return found if step == fork.from_step else found - {step} | {fork.from_step}


def _refuse_doubts(fork: Fork, spec: Spec, wanted: set[str]) -> None:
    """Ask before a new job does what a cut-off attempt of the parent may have done already."""
    asks = {
        step.name
        for step in spec.steps.values()
        if step.effects == "once" and step.on_interrupted == "ask"
    }
    for name in fork.state.steps if asks else ():
        step = fork.state.steps[name]
        open_now = step.status is StepStatus.RUNNING or name in fork.state.cut_off
        doubted = step.status not in DONE and (open_now or in_doubt(step))
        if doubted and base_of(name) in asks and not {name, base_of(name)} & wanted:
            job, shown = fork.folder.job_id, shlex.quote(name)
            raise UsageError(
                f"step {name} was cut off in {job} and may have done its work, which must not"
                " happen twice (effects: once)",
                hint=f"settle it first: orch resume {job} --on-interrupted rerun, skip or fail;"
                f" or run it here: orch fork {job} --from {shown}",
            )


def _goes(dropped: set[str]) -> Callable[[str], bool]:
    """Return what tells whether a step is run again; with an item of it, a group is."""
    groups = {base_of(name) for name in dropped if "[" in name}
    return lambda name: name in dropped or base_of(name) in dropped or name in groups


def adopted(fork: Fork, spec: Spec, dropped: set[str]) -> list[ev.StepAdopted]:
    """Return the events by which the new job takes over the parent's successes."""
    goes = _goes(dropped)
    order = _orders(fork.state, spec)
    return [
        ev.StepAdopted(
            step=name,
            data=ev.Adopted(
                key=success.key,
                output=success.output,
                output_sha256=success.output_sha256,
                files=success.files,
                duration_s=success.duration_s,
                by=success.by,
                from_job=fork.folder.job_id,
                from_seq=success.seq,
                order=order.get(name, ()),
            ),
        )
        for name, success in successes(fork.state)
        if not goes(name)
    ]


def _orders(state: JobState, spec: Spec) -> dict[str, tuple[str, ...]]:
    """Return how the parent's keys count the needs that stand in another order in the spec."""
    counted = {
        decl.id: state.keyed.get(decl.id) or state.graph.needs.get(decl.id, ())
        for decl in spec.decls
    }
    return {decl.id: counted[decl.id] for decl in spec.decls if moved(counted[decl.id], decl.needs)}


def successes(state: JobState) -> Iterator[tuple[str, Success]]:
    """Yield all successes that a next leg could take over."""
    latest = {
        name: step.success
        for name, step in state.steps.items()
        if step.success is not None and step.status in DONE
    }
    yield from latest.items()
    yield from ((name, past) for name, past in state.past.items() if name not in latest)


def without(state: JobState, dropped: set[str]) -> None:
    """Take the successes of steps out of a state that is only rehearsed with."""
    goes = _goes(dropped)
    for name, step in state.steps.items():
        if goes(name):
            step.success = None
    for name in [name for name in state.past if goes(name)]:
        del state.past[name]


def carry(fork: Fork, into: RunFolder, events: list[ev.StepAdopted]) -> None:
    """Bring blobs, files and cache entries of the parent into the new job's folder, durably.

    What is gone or can't be read is left out: the step that needs it runs again.
    """
    parent = fork.folder
    blobs = {ref.blob.removeprefix("sha256:") for e in events if (ref := as_ref(e.data.output))}
    for digest in blobs:
        _link(os.path.join(parent.artifacts, digest), os.path.join(into.artifacts, digest))
    for name in _entries(parent.cache):
        _link(os.path.join(parent.cache, name), os.path.join(into.cache, name))
    store = FileStore(into.outputs)
    for path in {file.path for event in events for file in event.data.files}:
        _copy(parent.outputs, path, store)
    for folder in (into.artifacts, into.cache):
        FILES.sync_dir(folder)


def _entries(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith(".json")]
    except OSError:
        return []


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one without links
        try:
            if not os.path.islink(source):
                shutil.copyfile(source, target)
                os.chmod(target, 0o600)
        except OSError:
            pass  # it is gone: what needs it runs again


def _copy(outputs: str, path: str, store: FileStore) -> None:
    try:
        fd = os.open(
            os.path.join(outputs, *components(path)), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        )
    except (OSError, OrchestratorError):
        return
    try:
        store.safe_copy(path, fd)
    except (OSError, OrchestratorError):
        pass  # the step that published it runs again
    finally:
        os.close(fd)
