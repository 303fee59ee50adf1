"""`orch list`, `show`, `logs`, `tail`: what the logs say of jobs."""

from __future__ import annotations

import os
import shlex
import sys
from collections import deque
from typing import Any

import msgspec

from eventlog import EventLogError, Follower, Line, is_held
from eventlog.cli_base import emit_rows
from eventlog.output import Format, rows_as
from eventlog.reader import as_dict
from eventlog.table import cut, visible

from ..errors import UsageError
from ..folder import RunFolder
from ..frozen import NO_SPEC, made_by_program
from ..history import records
from ..instances import base_of
from ..jobs import Jobs
from ..report import shown, step_word
from ..state import JobState, JobStatus
from . import out
from .display import calls_line
from .out import elsewhere

OUTPUT_SHOWN = 300
"""Columns of each of a job's outputs; --json has all of it."""
LOG_CHUNK = 1 << 16
TEXT = "\n\t"
"""Control characters that texts of many lines keep."""

STATUSES = ("running", "succeeded", "failed", "cancelled", "waiting", "interrupted")
COLUMNS = (
    "job_id",
    "project",
    "status",
    "started_at",
    "duration_s",
    "completed",
    "steps",
    "calls",
    "hits",
    "tokens_in",
    "tokens_out",
    "cost_usd",
)


def list_jobs(runs_dir: str, status: str, number: int, form: str, output: str) -> None:
    """Print jobs, newest first."""
    out.end_with_reader()
    if status and status not in STATUSES:
        raise UsageError(f"no job is ever {status!r}", hint=f"there are: {', '.join(STATUSES)}")
    jobs = Jobs(runs_dir)
    rows = []
    for row in jobs.rows():
        word = row.status
        if is_held(RunFolder(runs_dir, row.job_id).lock):
            word = "running"
        elif word in ("open", "new"):
            word = "interrupted"
        if status and word != status:
            continue
        rows.append(
            {
                "job_id": row.job_id,
                "project": row.project,
                "status": word,
                "started_at": row.started_at,
                "duration_s": row.duration_s,
                "completed": row.completed,
                "steps": row.steps,
                "calls": row.calls,
                "hits": row.hits,
                "tokens_in": row.tokens_in,
                "tokens_out": row.tokens_out,
                "cost_usd": row.cost_usd,
            }
        )
        if len(rows) >= number:
            break
    table = [[row[name] for name in COLUMNS] for row in rows]
    emit_rows(COLUMNS, table, Format(form), output or None)
    if not rows:
        out.talk("no jobs; next: orch run SPEC")
    elif form == "table":
        out.talk(f"next: orch show {rows[0]['job_id']}{elsewhere(runs_dir)}")


def show_job(runs_dir: str, ref: str, step: str, *, as_json: bool, at: int | None = None) -> None:
    """Print a job, or one step of it; with `at`, as it stood after that event."""
    out.end_with_reader()
    jobs = Jobs(runs_dir)
    folder = jobs.find(ref)
    held = folder.held
    state = jobs.load(folder, up_to=at)
    if at is not None:
        held = _at(jobs, folder, state, at, held=held)
    document = (
        _step(folder, state, step, held=held, at=at) if step else _job(folder, state, held=held)
    )
    if as_json:
        out.document(document)
    elif step:
        _print_step(folder, document)
    else:
        _print_job(folder, document, state)


def _job(folder: RunFolder, state: JobState, *, held: bool) -> dict[str, Any]:
    from ..blobs import BlobDamaged, BlobMissing, BlobStore
    from ..outputs import Outputs

    document = shown(state, held=held)
    try:
        document["outputs"] = Outputs(BlobStore(folder.artifacts)).load(document["outputs"])
    except (BlobMissing, BlobDamaged) as error:
        out.talk(f"warning: the job's outputs can't be had: {error}")
    return document


def _at(jobs: Jobs, folder: RunFolder, state: JobState, at: int, *, held: bool) -> bool:
    """Return whether a process held the job right after an event: the one that wrote the next.

    Raises:
        UsageError: there is no such event.
    """
    last = jobs.load(folder).seq
    if not 0 <= at <= last:
        raise UsageError(
            f"job {folder.job_id} has no event {at}", hint=f"its events are 0 to {last}"
        )
    return held if at == last else state.status in (JobStatus.OPEN, JobStatus.NEW)


def _print_job(folder: RunFolder, document: dict[str, Any], state: JobState) -> None:
    out.data(f"{document['job_id']}  {document['project']}  {document['status']}")
    out.data(
        f"started {document['started_at']}, {out.seconds(document['duration_s'])}"
        f" in {out.count(document['legs'], 'leg')}"
    )
    if document["parent"]:
        origin = document["parent"]
        since = f", again from {origin['from_step']}" if origin.get("from_step") else ""
        out.data(f"forked from {origin['job_id']} at seq {origin['seq']}{since}")
    columns = ["step", "kind", "status", "attempts", "duration_s", "files", "reason"]
    rows = [
        [row[name] if name != "files" else ", ".join(row["files"]) for name in columns]
        for row in document["steps"]
    ]
    sys.stdout.write(rows_as(Format.TABLE, columns, rows))
    for line in calls_line(state.totals):
        out.data(line)
    for failure in document["failures"]:
        who = failure["step"] or "outputs"
        out.data(visible(f"failed: {who} ({failure['kind']}): {failure['message']}"))
    for name, value in document["outputs"].items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        out.data(f"{name}: {cut(visible(text, keep=TEXT), OUTPUT_SHOWN)}")
    for file in document["files"]:
        out.data(os.path.join(folder.outputs, file["path"]))
    last, where = document["job_id"], elsewhere(folder.root)
    for name in state.asking:
        out.data(f"waiting: step {name} asks:")
        out.data(visible(message_of(folder, state, name), keep=TEXT))
    if document["status"] == "waiting":
        step = shlex.quote(next(iter(state.asking)))
        out.talk(f"next: orch approve {last} {step}{where}, or with --reject")
    elif document["status"] in ("failed", "cancelled", "interrupted"):
        out.talk(
            f"go on: {NO_SPEC if made_by_program(state.started) else f'orch resume {last}{where}'}"
        )
    elif document["steps"]:
        out.talk(f"next: orch show {last} {shlex.quote(document['steps'][-1]['step'])}{where}")


def _step(
    folder: RunFolder, state: JobState, name: str, *, held: bool, at: int | None = None
) -> dict[str, Any]:
    from ..blobs import BlobMissing, BlobStore
    from ..outputs import Outputs

    if name not in state.steps:
        known = ", ".join(list(state.steps)[:20])
        raise UsageError(f"job {folder.job_id} has no step {name!r}", hint=f"its steps: {known}")
    blobs = BlobStore(folder.artifacts)
    step = state.steps[name]
    events = [
        {"seq": record.seq, "ts": record.ts, **msgspec.to_builtins(record.event)}
        for record in records(folder.log, blobs, up_to=at)
        if getattr(record.event, "step", None) == name
    ]
    output, kept = None, True
    if step.success is not None:
        try:
            output = Outputs(blobs).load(step.success.output)
        except BlobMissing:
            if state.started is None or state.started.record != "hashes":
                raise
            kept = False
    return {
        "job_id": folder.job_id,
        "step": name,
        "kind": step.kind,
        "status": step_word(state, name, held=held),
        "attempts": step.attempt,
        "key": step.success.key if step.success else "",
        "output": output,
        "output_kept": kept,
        "files": [file.path for file in step.success.files] if step.success else [],
        "events": events,
    }


def _print_step(folder: RunFolder, document: dict[str, Any]) -> None:
    out.data(f"{document['job_id']} / {document['step']}  {document['kind']}  {document['status']}")
    for event in document["events"]:
        out.data(_human(event))
    if not document["output_kept"]:
        out.talk("its output was not kept: `record: hashes`")
    output = document["output"]
    text = output.get("text") if isinstance(output, dict) else None
    if text is None and output is not None:
        text = msgspec.json.format(msgspec.json.encode(output), indent=2).decode()
    if text is not None:
        out.data("")
        out.data(visible(str(text), keep=TEXT))
    step = shlex.quote(document["step"])
    out.talk(f"next: orch logs {document['job_id']} {step}{elsewhere(folder.root)}")


def message_of(folder: RunFolder, state: JobState, step: str) -> str:
    """Return what a step that waits shows."""
    from ..blobs import BlobStore
    from ..outputs import Outputs

    asked = state.steps[step].asked
    return str(Outputs(BlobStore(folder.artifacts)).load(asked.message)) if asked else ""


def print_logs(runs_dir: str, ref: str, step: str) -> None:
    """Print the steps' stdout and stderr, with control characters made visible."""
    out.end_with_reader()
    jobs = Jobs(runs_dir)
    folder = jobs.find(ref)
    state = jobs.load(folder)
    if step and step not in state.steps:
        raise UsageError(f"job {folder.job_id} has no step {step!r}")
    names = [name for name in state.steps if step in ("", name, base_of(name))]
    found = False
    for name in names:
        path = folder.step_log(name)
        if not os.path.isfile(path):
            continue
        found = True
        if name != step:
            out.data(f"==> {name} <==")
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            while chunk := file.read(LOG_CHUNK):
                sys.stdout.write(visible(chunk, keep=TEXT))
    said = "" if found else "no step wrote a log; "
    out.talk(f"{said}next: orch tail {folder.job_id}{elsewhere(runs_dir)}")


def tail_job(runs_dir: str, ref: str, *, follow: bool, number: int, raw: bool) -> None:
    """Print the last events, and those that come until no process holds the job."""
    out.end_with_reader()
    folder = Jobs(runs_dir).find(ref)
    follower = Follower(folder.log)
    try:
        for line in deque(follower.poll(), maxlen=number):
            _print_event(line, raw=raw)
        if follow:
            sys.stdout.flush()
            for line in follower.follow(lambda: not folder.held):
                _print_event(line, raw=raw)
                sys.stdout.flush()
    finally:
        follower.close()
    if not raw:
        out.talk(f"next: orch show {folder.job_id}{elsewhere(runs_dir)}")


def _print_event(line: Line, *, raw: bool) -> None:
    if raw:
        sys.stdout.buffer.write(line.raw + b"\n")
        sys.stdout.buffer.flush()
    elif line.raw.strip():
        try:
            out.data(_human(as_dict(line)))
        except EventLogError as error:
            out.talk(f"line {line.seq + 1} can't be read: {error.message}")


def _human(event: dict[str, Any]) -> str:
    data = event.get("data")
    shown = data if isinstance(data, dict) else {}
    keep = (
        "attempt",
        "duration_s",
        "provider",
        "model",
        "reason",
        "kind",
        "message",
        "path",
        "tokens_in",
        "tokens_out",
        "wrote",
        "epoch",
    )
    details = "  ".join(
        f"{name}={shown[name]}" for name in keep if shown.get(name) not in (None, "")
    )
    step = f"  {event['step']}" if event.get("step") else ""
    kind = event.get("type", "")
    return visible(f"{event['seq']:>5}  {event.get('ts', '')}  {kind}{step}  {details}".rstrip())
