"""The events that the log's own cases write and read: a step's two, of about 240 bytes a line."""

from __future__ import annotations

import os

import msgspec

from eventlog import Durability, Event, Log

BATCH = 256
FIELDS = {"level": "INFO", "job_id": "job_bench"}


class Started(msgspec.Struct, frozen=True, kw_only=True):
    attempt: int
    kind: str


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    attempt: int
    duration_s: float
    output: str


class StepStarted(Event, frozen=True, kw_only=True, tag="step.started"):
    step: str
    data: Started


class StepSucceeded(Event, frozen=True, kw_only=True, tag="step.succeeded"):
    step: str
    data: Ended


Types = StepStarted | StepSucceeded


def events(count: int) -> list[Event]:
    """Return events, half of them of each type."""
    made: list[Event] = []
    for i in range(count):
        if i % 2:
            data = Ended(attempt=1, duration_s=i / 1000, output="a short text")
            made.append(StepSucceeded(step=f"step-{i:06d}", data=data))
        else:
            started = Started(attempt=1, kind="function")
            made.append(StepStarted(step=f"step-{i:06d}", data=started))
    return made


def write(path: str, count: int) -> None:
    """Write a log of so many events."""
    given = events(count)
    with Log(path, fields=FIELDS, durability=Durability.OS) as log:
        for start in range(0, count, BATCH):
            log.append(*given[start : start + BATCH])


def ready_lines(path: str, count: int) -> list[bytes]:
    """Return the bytes that so many events become, ready to be written."""
    write(path, count)
    with open(path, "rb") as file:
        lines = file.readlines()
    os.unlink(path)
    return lines[-count:]
