"""States from events, for tests that say given and then."""

from eventlog import Record
from orchestrator import events as ev
from orchestrator.plan import decide, why_stopped
from orchestrator.plan import not_run as not_run_event
from orchestrator.state import JobState, evolve

DIAMOND = {
    "architect": (),
    "builder": ("architect",),
    "docs": ("architect",),
    "qa": ("builder", "docs"),
}
CHAIN = {"a": (), "b": ("a",), "c": ("b",)}
WIDE = {"a": (), "b": (), "c": (), "d": ()}


def declared(steps):
    """Return what a leg sets out to do: of a map, or of declarations.

    A step of a map is its needs, and last maybe more of its `StepDecl`.
    """
    if isinstance(steps, tuple):
        return ev.Started(project="p", steps=steps)
    return ev.Started(project="p", steps=tuple(decl(name, said) for name, said in steps.items()))


def decl(name, said):
    more = said[-1] if said and isinstance(said[-1], dict) else {}
    needs = tuple(said[:-1] if more else said)
    return ev.StepDecl(id=name, kind="t", needs=needs, **more)


LAST = {"last": True}
REGARDLESS = {"regardless": True}
BORNE = {"continue_on_error": True}


def job_started(steps=DIAMOND):
    return ev.JobStarted(data=declared(steps))


def job_resumed(steps=DIAMOND):
    return ev.JobResumed(data=declared(steps))


def started(step, attempt=0, key=""):
    return ev.StepStarted(step=step, data=ev.StepStart(attempt=attempt, key=key or f"key-{step}"))


def succeeded(step, output=None, key="", files=(), duration_s=1.0):
    data = ev.StepEnd(
        output=output,
        key=key or f"key-{step}",
        output_sha256=f"hash-{step}-{output}",
        files=files,
        duration_s=duration_s,
    )
    return ev.StepSucceeded(step=step, data=data)


def failed(step, message="no", kind="exception"):
    return ev.StepFailed(step=step, data=ev.StepFault(kind=kind, message=message, duration_s=1.0))


def retrying(step, in_s):
    fault = ev.StepFault(kind="network", message="no", retry_in_s=in_s, duration_s=1.0)
    return ev.StepRetrying(step=step, data=fault)


def reused(step, from_step=""):
    data = ev.Skip(reason="already succeeded", from_step=from_step or step, from_seq=1)
    return ev.StepSkipped(step=step, data=data)


def not_run(step, reason="it needs a, which failed"):
    return ev.StepSkipped(step=step, data=ev.Skip(reason=reason))


def interrupted(step):
    return ev.StepInterrupted(step=step, data=ev.Note(reason="cut off"))


def invalidated(step):
    return ev.StepInvalidated(step=step, data=ev.Note(reason="its output is gone"))


def job_failed(*failures):
    return ev.JobFailed(data=ev.Ended(duration_s=2.0, failures=failures))


def job_succeeded():
    return ev.JobSucceeded(data=ev.Ended(duration_s=2.0))


def job_cancelled():
    return ev.JobCancelled(data=ev.Ended(duration_s=2.0))


def drop(state, policy):
    """Skip all that a job which has stopped does not look at any more; return the reasons."""
    reasons = {}
    while drops := decide(state, 0.0, policy).drops:
        for name in drops:
            event = not_run_event(state, name, why_stopped(state, policy))
            data = event.data
            reasons[name] = data.message if isinstance(data, ev.StepFault) else data.reason
            then(state, event)
    return reasons


def given(*events, at_s=0.0):
    """Return the state after these events; their seqs count from 0."""
    return then(JobState(job_id="j"), *events, at_s=at_s)


def then(state, *events, at_s=0.0):
    """Return the state after some more events."""
    for event in events:
        seq = state.seq + 1
        record = Record(
            seq=seq, ts=f"2026-01-01T00:00:{seq % 60:02d}.000000Z", event=event, offset=0
        )
        state = evolve(state, record, at_s)
    return state
