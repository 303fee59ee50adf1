"""Append with `eventsourcing` and its SQLite: events of one aggregate, so many in a save.

    python eventsourcing_append.py FOLDER COUNT SIZE

Prints the seconds that the saves took. Each event carries a step's name, an attempt and a short
text, as ours do. The library opens SQLite in WAL mode and leaves `synchronous` at FULL.
"""

from __future__ import annotations

import json
import os
import sys
import time

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event


class Job(Aggregate):
    """What the events are about; it keeps nothing."""

    @event("Opened")
    def __init__(self) -> None:
        pass

    @event("StepSucceeded")
    def succeed(self, step: str, attempt: int, duration_s: float, output: str) -> None:
        """Record one event."""


def main(folder: str, count: int, size: int) -> float:
    """Return the seconds for `count` events, `size` in a save."""
    path = os.path.join(folder, "events.db")
    app = Application(
        env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": path},
    )
    job = Job()
    app.save(job)
    begun = time.perf_counter()
    for start in range(0, count, size):
        for number in range(start, min(start + size, count)):
            job.succeed(f"step-{number:06d}", 1, number / 1000, "a short text")
        app.save(job)
    taken = time.perf_counter() - begun
    stored = len(app.notification_log.select(start=count + 1, limit=1))
    app.close()
    if stored != 1:
        raise SystemExit("not all events were stored")
    return taken


if __name__ == "__main__":
    print(json.dumps({"seconds": main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))}))
