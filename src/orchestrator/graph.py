"""Steps and what they need: a graph without cycles, or an error that names what is wrong.

Nothing here recurses: a chain of 100,000 steps is as good as a short one. All is linear in
steps plus edges.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .errors import ExitCode, OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .events import StepDecl

_CYCLE_NAMES = 12  # of a longer cycle only the ends are printed


class GraphError(OrchestratorError, ValueError):
    """The steps can't be put in an order.

    Args:
        message: which step, and what is wrong with it.
        cycle: the steps of a cycle, each needing the next, the last one needing the first.
        hint: what to do now.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, cycle: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.cycle = cycle


class Graph:
    """The steps of a job, in the order they were declared.

    Attributes:
        source: what it was made of.
        steps: the declarations by id.
        ids: in the order given.
        needs: id to the ids it needs, each once.
        dependents: id to the ids that need it, in the order given; not there if none does.
        roots: the ids that need nothing.
        members: the id of a step that runs another job file to the ids of that file's steps.
        anyhow: the ids of steps that are looked at whatever became of their needs.
        regardless: the ids of steps that come in a job that has failed, too: those, and what is
            inside of one.
        last: the ids that come when all others have settled; inside another job file, which are
            not here, when the others of that file have.
        held: these, and all that is inside of one.
        order: a topological order; the same for the same steps.

    Raises:
        GraphError: for an id that is there twice, a need that is not there, a cycle, a step that
            is not `last` but needs one that is, and one that is inside of a step that does not
            come before it.
    """

    __slots__ = (
        "anyhow",
        "dependents",
        "held",
        "ids",
        "last",
        "members",
        "needs",
        "order",
        "regardless",
        "roots",
        "source",
        "steps",
    )

    def __init__(self, steps: Sequence[StepDecl]) -> None:
        self.source = steps
        self.steps: dict[str, StepDecl] = {}
        for step in steps:
            if step.id in self.steps:
                raise GraphError(f"two steps have the id {step.id!r}", hint="rename one of them")
            self.steps[step.id] = step
        self.ids: tuple[str, ...] = tuple(self.steps)
        self.needs: dict[str, tuple[str, ...]] = {
            step.id: tuple(dict.fromkeys(step.needs)) if step.needs else () for step in steps
        }
        dependents: dict[str, list[str]] = {}
        for step_id, needs in self.needs.items():
            for need in needs:
                if need not in self.steps:
                    raise GraphError(
                        f"step {step_id!r} needs {need!r}, which is not a step",
                        hint="declare it, or take it out of the needs",
                    )
                dependents.setdefault(need, []).append(step_id)
        self.dependents: dict[str, tuple[str, ...]] = {
            step_id: tuple(found) for step_id, found in dependents.items()
        }
        self.members: dict[str, tuple[str, ...]] = _members(steps)
        last = [step.id for step in steps if step.last]
        self.roots: tuple[str, ...] = tuple(i for i in self.ids if not self.needs[i])
        self.last: tuple[str, ...] = tuple(last)
        self.anyhow: frozenset[str] = frozenset(
            (*last, *(step.id for step in steps if step.regardless))
        )
        self.regardless, self.held = self.anyhow, frozenset(last)
        if self.members:
            own = {step.id for step in steps if not step.inside}
            self.roots = tuple(i for i in self.roots if i in own)
            self.last = tuple(i for i in last if i in own)
            self.regardless = self._with_all_inside(self.anyhow)
            self.held = self._with_all_inside(frozenset(self.last))
        for step_id in last:
            for dependent in self.dependents.get(step_id, ()):
                if not self.steps[dependent].last:
                    raise GraphError(
                        f"step {dependent!r} needs {step_id!r}, which comes after it (finally)",
                        hint="take the need out, or make both `finally`",
                    )
        self.order: tuple[str, ...] = tuple(_sorted(self.needs, self.dependents))
        if len(self.order) < len(self.ids):
            cycle = find_cycles(self.needs)[0]
            raise GraphError(
                f"the steps need each other in a circle: {show_cycle(cycle)}",
                cycle=cycle,
                hint="take one of these needs out",
            )

    def ancestors(self, step_id: str) -> set[str]:
        """Return all that a step needs, directly or through others."""
        return ancestors(self.needs, step_id)

    def given(self, step_id: str) -> tuple[str, ...]:
        """Return the steps whose outputs a step is given.

        One that needs nothing inside another job file is given what the step around it needs.
        """
        while not self.needs[step_id] and self.steps[step_id].inside:
            step_id = self.steps[step_id].inside
        return self.needs[step_id]

    def after(self, step_id: str) -> set[str]:
        """Return a step and all that can't be the same once that one is run again."""
        found: dict[str, bool] = {}  # whether all that is inside of it is run again, too
        waiting = [(step_id, True)]
        while waiting:
            name, whole = waiting.pop()
            if name in found and (found[name] or not whole):
                continue
            found[name] = whole
            waiting += ((dependent, True) for dependent in self.dependents.get(name, ()))
            if whole:
                waiting += ((member, True) for member in self.members.get(name, ()))
            if inside := self.steps[name].inside:
                waiting.append((inside, False))  # its output may be another one
        return set(found)

    def _with_all_inside(self, names: frozenset[str]) -> frozenset[str]:
        found = set(names)
        for name, members in self.members.items():  # in order: what is around comes first
            if name in found:
                found.update(members)
        return frozenset(found)


def _members(steps: Sequence[StepDecl]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for step in steps:
        if step.inside:
            if step.inside not in seen:
                raise GraphError(
                    f"step {step.id!r} is inside {step.inside!r}, which does not come before it",
                    hint="declare that one first",
                )
            found.setdefault(step.inside, []).append(step.id)
        seen.add(step.id)
    # In the order of the steps, so that what is around comes before what is inside.
    return {step.id: tuple(found[step.id]) for step in steps if step.id in found}


def ancestors(needs: Mapping[str, Iterable[str]], step_id: str) -> set[str]:
    """Return all that a step needs, directly or through others.

    Takes any map, also one with cycles or unknown names (a step of a cycle is its own ancestor).
    """
    found: set[str] = set()
    waiting = [step_id]
    while waiting:
        for need in needs.get(waiting.pop(), ()):
            if need not in found:
                found.add(need)
                waiting.append(need)
    return found


def find_cycles(needs: Mapping[str, Iterable[str]]) -> list[tuple[str, ...]]:
    """Return cycles that share no step, each beginning at the step that comes first.

    There are none if and only if the graph has no cycle; where cycles share steps, one of them
    is told. Names that are no steps are passed over.
    """
    known = {step_id: [n for n in wanted if n in needs] for step_id, wanted in needs.items()}
    dependents: dict[str, list[str]] = {step_id: [] for step_id in known}
    for step_id, wanted in known.items():
        for need in dict.fromkeys(wanted):
            dependents[need].append(step_id)
    done = set(_sorted({i: tuple(dict.fromkeys(w)) for i, w in known.items()}, dependents))
    # Each step that is left needs one that is left. Going from need to need must come back.
    after = {i: next(n for n in known[i] if n not in done) for i in known if i not in done}
    place = {step_id: index for index, step_id in enumerate(needs)}
    walked: dict[str, str] = {}  # step to the start of the walk that passed it
    cycles = []
    for start in after:
        step_id = start
        while step_id not in walked:
            walked[step_id] = start
            step_id = after[step_id]
        if walked[step_id] != start:
            continue
        cycle = [step_id]
        while after[cycle[-1]] != step_id:
            cycle.append(after[cycle[-1]])
        first = min(range(len(cycle)), key=lambda index: place[cycle[index]])
        cycles.append(tuple(cycle[first:] + cycle[:first]))
    return cycles


def show_cycle(cycle: Sequence[str]) -> str:
    """Return a cycle as text: `a -> b -> a`, where a needs b."""
    names = [*cycle, cycle[0]]
    if len(names) > _CYCLE_NAMES:
        half = _CYCLE_NAMES // 2
        names = [*names[:half], f"({len(names) - 2 * half} more)", *names[-half:]]
    return " -> ".join(names)


def _sorted(
    needs: Mapping[str, Sequence[str]], dependents: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return what can be ordered: all, unless there is a cycle."""
    open_needs = {step_id: len(wanted) for step_id, wanted in needs.items()}
    ready = deque(step_id for step_id, count in open_needs.items() if not count)
    order = []
    while ready:
        step_id = ready.popleft()
        order.append(step_id)
        for dependent in dependents.get(step_id, ()):
            open_needs[dependent] -= 1
            if not open_needs[dependent]:
                ready.append(dependent)
    return order
