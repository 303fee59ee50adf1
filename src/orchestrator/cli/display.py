"""Progress of a running job, one line a change, on stderr; or every event, on stdout."""

from __future__ import annotations

import msgspec

from eventlog import Event, Record
from eventlog.table import visible

from .. import events as ev
from ..folder import RunFolder
from ..instances import apart, base_of
from ..money import dollars
from ..state import JobState, StepStatus, Totals
from . import out

_SHOWN = 300
TOLD_FROM_S = 0.1
"""A shorter wait for a turn is not worth a word."""


class Plain:
    """Prints a line for each step that ended, and what it was.

    Args:
        total: steps of the job.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._ended = 0
        self._how: dict[str, list[str]] = {}
        self._failed: dict[str, int] = {}

    def __call__(self, record: Record[Event]) -> None:
        """Take in one durable event."""
        match record.event:
            case ev.CacheHit(step=step, data=hit):
                self._how.setdefault(step, []).extend(
                    filter(None, (_model(hit.provider, hit.model), "cache hit"))
                )
            case ev.CacheMiss(step=step, data=miss):
                self._how.setdefault(step, []).append(f"cache miss ({miss.reason})")
            case ev.LLMRequest(step=step, data=asked) if (asked.waited_s or 0) >= TOLD_FROM_S:
                waited = f"waited {out.seconds(asked.waited_s or 0)} ({asked.waited_for})"
                self._how.setdefault(step, []).append(waited)
            case ev.LLMResponse(step=step, data=data) if data.success:
                self._how.setdefault(step, []).extend(
                    filter(None, (_model(data.provider, data.model), _tokens(data)))
                )
            case ev.StepExpanded(step=step, data=opened):
                self._opened(step, opened)
            case ev.StepSucceeded(step=step, data=end) if not end.attempt:
                failed = self._failed.get(step, 0)
                borne = [f"{failed} of them failed"] if failed else []
                self._line("ok", "green", step, self._how.pop(step, []) + borne)
            case ev.StepSucceeded(step=step, data=end):
                how = self._how.pop(step, [])
                self._line("ok", "green", step, [out.seconds(end.duration_s), *how])
            case ev.StepSkipped(step=step, data=skip) if skip.from_step:
                self._line("reused", "green", step, [skip.reason])
            case ev.StepSkipped(step=step, data=skip):
                self._line("skipped", "yellow", step, [skip.reason])
            case ev.StepRetrying(step=step, data=fault):
                self._how.pop(step, None)
                wait = out.seconds(fault.retry_in_s or 0.0)
                text = f"{fault.kind}: {fault.message}; attempt {fault.attempt + 1} in {wait}"
                self._line("retry", "yellow", step, [text], ended=False)
            case ev.StepFailed(step=step, data=fault):
                group = base_of(step)
                self._failed[group] = self._failed.get(group, 0) + 1
                self._line("failed", "red", step, [f"{fault.kind}: {fault.message}"])
            case ev.StepWaiting(step=step):
                self._line("waits", "yellow", step, ["for an approval"], ended=False)
            case ev.StepApproved(step=step, data=said):
                self._line("ok", "green", step, [f"approved by {said.by}", said.note])
            case ev.StepRejected(step=step, data=said):
                self._line("failed", "red", step, [f"rejected by {said.by}", said.note])
            case ev.StepSet(step=step, data=made):
                self._line("set", "green", step, [f"by {made.by}: {made.reason}"])
            case ev.StepInterrupted(step=step, data=note):
                self._line("cut off", "yellow", step, [note.reason], ended=False)
            case ev.StepInvalidated(step=step, data=note):
                self._line("again", "yellow", step, [note.reason], ended=False)
            case _:
                pass

    def _opened(self, step: str, data: ev.Expanded) -> None:
        items = len(data.items) if isinstance(data.items, tuple) else 0
        self._total += items
        self._how[step] = [
            out.count(data.steps, "step") if data.steps else out.count(items, "item")
        ]
        self._failed.pop(step, None)

    def _line(
        self, word: str, colour: str, step: str, rest: list[str], *, ended: bool = True
    ) -> None:
        self._ended += ended
        width = len(str(self._total))
        mark = f"[{self._ended:>{width}}/{self._total}]" if ended else " " * (2 * width + 3)
        text = visible("  ".join(rest)).replace("\n", " ")
        if len(text) > _SHOWN:
            text = text[:_SHOWN] + "…"
        out.talk(f"{mark} {out.paint(f'{word:<7}', colour)} {step}  {out.paint(text, 'dim')}")


class Json:
    """Prints every event as a line of JSON on stdout."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id

    def __call__(self, record: Record[Event]) -> None:
        """Take in one durable event."""
        head = {
            "seq": record.seq,
            "ts": record.ts,
            "level": ev.level_of(record.event),
            "job_id": self._job_id,
        }
        out.data(msgspec.json.encode({**head, **_members(record.event)}).decode())


def _members(event: Event) -> dict[str, object]:
    return dict(msgspec.json.decode(msgspec.json.encode(apart(event))))


def _model(provider: str, model: str) -> str:
    if not provider:  # a step that was reused as a whole
        return ""
    return model if model.startswith(f"{provider}/") else f"{provider}/{model}"


def _tokens(data: ev.Answered) -> str:
    if data.tokens_in is None and data.tokens_out is None:
        return ""
    return f"{data.tokens_in or 0:,} -> {data.tokens_out or 0:,} tokens"


def opening_line(folder: RunFolder, state: JobState, steps: int, concurrency: int) -> str:
    """Return the first line: the job's id comes before anything else."""
    again = f", leg {state.legs + 1}" if state.legs else ""
    return f"{folder.job_id}  {out.count(steps, 'step')}, {concurrency} at once{again}"


def closing_lines(state: JobState, before: Totals) -> list[str]:
    """Return the summary of a leg, and of the whole job where it had earlier ones.

    Args:
        state: at the leg's end.
        before: the totals when it began.
    """
    words = ("succeeded", "reused", "failed", "waiting", "skipped", "not run")
    tally = dict.fromkeys(words, 0)
    for step in state.steps.values():
        word = {
            StepStatus.SUCCEEDED: "succeeded",
            StepStatus.REUSED: "reused",
            StepStatus.FAILED: "failed",
            StepStatus.ASKING: "waiting",
            StepStatus.SKIPPED: "skipped",
        }.get(step.status, "not run")
        tally[word] += 1
    steps = ", ".join(f"{number} {word}" for word, number in tally.items() if number)
    leg = state.totals.since(before)
    lines = [f"{steps or 'no steps'}  in {out.seconds(leg.legs_s)}", *calls_line(leg)]
    if state.legs > 1:
        told = "; ".join([out.seconds(state.totals.legs_s), *calls_line(state.totals)])
        lines.append(f"all {state.legs} legs: {told}")
    return lines


def calls_line(totals: Totals) -> list[str]:
    """Return what models were asked, or nothing if none was."""
    if not totals.calls and not totals.hits:
        return []
    real = totals.calls - totals.simulated
    said = [out.count(real, "model call"), out.count(totals.hits, "cache hit")]
    if totals.tokens_in or totals.tokens_out:
        said.append(f"{totals.tokens_in or 0:,} tokens in, {totals.tokens_out or 0:,} out")
    said += cost_words(totals)
    if totals.simulated:
        said.append(f"{totals.simulated} answered offline (no language model was called)")
    return [", ".join(said)]


def cost_words(totals: Totals) -> list[str]:
    """Return what calls cost and what the cache saved, as far as it is known."""
    said = []
    if totals.cost_usd is not None:
        said.append(f"cost ${dollars(totals.cost_usd)}")
    if totals.unpriced:
        said.append(f"cost of {out.count(totals.unpriced, 'call')} not known")
    if totals.saved_usd is not None:
        said.append(f"${dollars(totals.saved_usd)} saved by the cache")
    return said
