"""An append-only event log in a plain JSONL file."""

from .event import Event, LogOpened, LogRecovered, Record, UnknownEvent

__all__ = ["Event", "LogOpened", "LogRecovered", "Record", "UnknownEvent"]
