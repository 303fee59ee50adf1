"""`orch approve`, `cancel` and `step set`: what people decide in a job."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import msgspec

from eventlog.table import visible

from ..errors import StorageError, UsageError
from ..folder import RunFolder
from ..frozen import NO_SPEC, made_by_program
from ..instances import base_of
from ..jobs import Jobs
from ..petition import account, bring, new_request
from ..state import JobState, JobStatus, StepStatus
from . import out
from .jobs import TEXT, message_of
from .out import elsewhere

MAX_OUTPUT_BYTES = 32 << 20


def cancel(runs_dir: str, ref: str, *, as_json: bool) -> None:
    """Stop a job, wherever it runs, and have it recorded."""
    jobs = Jobs(runs_dir)
    folder = jobs.find(ref)
    state = jobs.load(folder)
    if state.status is JobStatus.CANCELLED and not folder.held:
        out.talk(f"job {folder.job_id} is cancelled already")
    else:
        state = bring(jobs, folder, new_request(kind="cancel"), out.talk)
    if as_json:
        out.document({"job_id": folder.job_id, "status": str(state.status), "by": account()})
    else:
        out.data(f"Job: {folder.job_id}, Status: {state.status}")
    _go_on(folder, state, runs_dir)


def approve(runs_dir: str, ref: str, step: str, *, reject: bool, note: str, as_json: bool) -> None:
    """Record a person's answer to what a step asks."""
    jobs = Jobs(runs_dir)
    folder = jobs.find(ref)
    state = jobs.load(folder)
    name = step or _only_one(folder, state)
    asked = state.steps[name].asked if name in state.steps else None
    if asked is None or state.steps[name].status is not StepStatus.ASKING:
        waiting = ", ".join(state.asking) or "none"
        raise UsageError(
            f"step {name!r} of job {folder.job_id} does not wait for an approval",
            hint=f"waiting are: {waiting}",
        )
    message = message_of(folder, state, name)
    kind = "reject" if reject else "approve"
    request = new_request(kind=kind, step=name, key=asked.key, note=note)
    bring(jobs, folder, request, out.talk)
    word = "rejected" if reject else "approved"
    if as_json:
        out.document(
            {
                "job_id": folder.job_id,
                "step": name,
                "decision": word,
                "by": request.by,
                "note": note,
                "key": asked.key,
                "message": message,
            }
        )
    else:
        out.talk(visible(message, keep=TEXT))
        out.data(f"Job: {folder.job_id}, Step: {name}, {word} by {request.by}")
    if folder.held:
        where = elsewhere(runs_dir)
        out.talk(f"the job goes on; next: orch tail -f {folder.job_id}{where}")
    else:
        _go_on(folder, state, runs_dir)


def _go_on(folder: RunFolder, state: JobState, runs_dir: str) -> None:
    """Name what goes on with a job that no process works on."""
    command = f"orch resume {folder.job_id}{elsewhere(runs_dir)}"
    out.talk(f"go on: {NO_SPEC if made_by_program(state.started) else command}")


def set_output(
    runs_dir: str, ref: str, step: str, *, file: str, reason: str, as_json: bool
) -> None:
    """Record a result that was made by hand."""
    if not reason.strip():
        raise UsageError("a hand-made result needs a reason", hint='--reason "why it is right"')
    jobs = Jobs(runs_dir)
    folder = jobs.find(ref)
    state = jobs.load(folder)
    if step not in state.steps:
        known = ", ".join(list(state.steps)[:20])
        raise UsageError(f"job {folder.job_id} has no step {step!r}", hint=f"its steps: {known}")
    kind = state.steps[step].kind
    if kind == "approve":
        raise UsageError(
            f"step {step} asks a person", hint=f"orch approve {folder.job_id} {shlex.quote(step)}"
        )
    decl = state.graph.steps.get(step)
    if decl is not None and decl.each:
        items = [name for name in state.steps if base_of(name) == step != name]
        hint = f"set an item's: {', '.join(items[:20])}" if items else "it has no items yet"
        raise UsageError(f"step {step} is made of items, and its result of theirs", hint=hint)
    output = _output(file, kind)
    request = new_request(kind="set", step=step, note=reason, output=output)
    bring(jobs, folder, request, out.talk)
    if as_json:
        out.document({"job_id": folder.job_id, "step": step, "by": request.by, "reason": reason})
    else:
        out.data(f"Job: {folder.job_id}, Step: {step}, set by {request.by}")
    if not folder.held:
        _go_on(folder, state, runs_dir)


def _only_one(folder: RunFolder, state: JobState) -> str:
    if len(state.asking) == 1:
        return next(iter(state.asking))
    if not state.asking:
        raise UsageError(f"no step of job {folder.job_id} waits for an approval")
    raise UsageError(
        f"{len(state.asking)} steps of job {folder.job_id} wait for an approval",
        hint=f"name one: {', '.join(list(state.asking)[:20])}",
    )


def _output(file: str, kind: str) -> Any:
    """Return the output that a file holds, in the form that a step of this kind has.

    Of an llm or run step it is an object with `text`: any file that is not one is the text.
    """
    data = _bytes(file)
    value: Any = None
    fault = ""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        fault = str(error)
    if kind in ("llm", "run"):
        if isinstance(value, dict) and isinstance(value.get("text"), str):
            return value
        try:
            text = data.decode().removesuffix("\n")
        except UnicodeDecodeError as error:
            raise UsageError(f"the output is not UTF-8: {error}", place=file) from error
        return {"text": text, "exit_code": 0} if kind == "run" else {"text": text}
    if fault:
        raise UsageError(
            f"the output is no JSON: {fault}", place=file, hint="a text goes in quotes"
        )
    return value


def _bytes(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_OUTPUT_BYTES + 1)
        else:
            with open(file, "rb") as opened:
                data = opened.read(MAX_OUTPUT_BYTES + 1)
    except IsADirectoryError:
        raise UsageError("can't read the output: it is a folder", place=file) from None
    except FileNotFoundError:
        raise UsageError("can't read the output: no such file", place=file) from None
    except OSError as error:
        raise StorageError(f"can't read the output: {error.strerror}", place=file) from error
    if len(data) > MAX_OUTPUT_BYTES:
        raise UsageError(
            f"the output has more than {MAX_OUTPUT_BYTES:,} bytes",
            place=os.path.abspath(file),
            hint="have the step write large results to files",
        )
    return data
