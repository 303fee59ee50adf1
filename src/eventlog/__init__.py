"""An append-only event log in a plain JSONL file.

>>> import tempfile, os
>>> class Paid(Event, frozen=True, kw_only=True, tag="paid"):
...     data: dict[str, int]
>>> path = os.path.join(tempfile.mkdtemp(), "events.jsonl")
>>> with Log(path) as log:
...     log.append(Paid(data={"cents": 250}), Paid(data={"cents": 199}))
range(1, 3)
>>> sum(r.event.data["cents"] for r in read(path, Paid) if isinstance(r.event, Paid))
449
"""

from typing import TYPE_CHECKING, Any

from .check import Salvaged, Verified, repair, salvage, verify
from .checkpoint import fold_file, load_checkpoint, save_checkpoint
from .durability import Durability
from .errors import (
    EventInvalid,
    EventLogError,
    LineTooLong,
    LogDamaged,
    LogFenced,
    LogLocked,
    LogNotFound,
    LogPoisoned,
    LogRewritten,
    LogTooNew,
    LogWriteFailed,
    MigrationRefused,
    QueryError,
)
from .event import Event, LogOpened, LogRecovered, Record, UnknownEvent
from .follower import Follower
from .following import Following, follow
from .lock import Lock, is_held
from .log import Log
from .memory import MemoryLog
from .projection import Checkpoint, Projection
from .reader import Decoder, Line, Rejected, read, read_dicts, read_events, read_lines
from .recover import Scan, Verdict, scan
from .versions import Upcasters

if TYPE_CHECKING:
    from .aio import AsyncLog

__all__ = [
    "AsyncLog",
    "Checkpoint",
    "Decoder",
    "Durability",
    "Event",
    "EventInvalid",
    "EventLogError",
    "Follower",
    "Following",
    "Line",
    "LineTooLong",
    "Lock",
    "Log",
    "LogDamaged",
    "LogFenced",
    "LogLocked",
    "LogNotFound",
    "LogOpened",
    "LogPoisoned",
    "LogRecovered",
    "LogRewritten",
    "LogTooNew",
    "LogWriteFailed",
    "MemoryLog",
    "MigrationRefused",
    "Projection",
    "QueryError",
    "Record",
    "Rejected",
    "Salvaged",
    "Scan",
    "UnknownEvent",
    "Upcasters",
    "Verdict",
    "Verified",
    "fold_file",
    "follow",
    "is_held",
    "load_checkpoint",
    "read",
    "read_dicts",
    "read_events",
    "read_lines",
    "repair",
    "salvage",
    "save_checkpoint",
    "scan",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "AsyncLog":  # anyio is loaded only where it is used
        from .aio import AsyncLog

        return AsyncLog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
