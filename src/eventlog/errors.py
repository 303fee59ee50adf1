"""The tree of errors. Each says operation, place (file, seq, offset), cause and what to do.

EventLogError
├── LogNotFound       there is no log at this path
├── LogDamaged        a line before the tail does not verify; never repaired in place
├── LogRewritten      what was read from this log is no longer in it
├── LogLocked         another process holds the log for writing
├── LogFenced         the file is not as this writer left it: someone else wrote, moved or cut it
├── LogPoisoned       a write or a sync failed before; this handle appends no more
├── LogWriteFailed    a write, sync, truncation or rename failed now
├── LogTooNew         written by a later version of the format
├── LineTooLong       an event, or a line of the file, over the limit
├── EventInvalid      an event that can't be encoded, or a line that is none of the given types
├── MigrationRefused  a log that must not be rewritten in place
└── QueryError        the SQL is refused, wrong, or over its limits
"""

from __future__ import annotations


class EventLogError(Exception):
    """Base of all errors of this package.

    Args:
        message: operation and cause, one sentence without a full stop.
        path: the file it is about.
        seq: the event's ordinal, where one can be named.
        offset: in bytes from the file's start, where one can be named.
        hint: what to do now.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        seq: int | None = None,
        offset: int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.seq = seq
        self.offset = offset
        self.hint = hint

    @property
    def place(self) -> str:
        """Return `path, seq 7, offset 1024`, as far as known."""
        parts = [self.path] if self.path else []
        if self.seq is not None:
            parts.append(f"seq {self.seq}")
        if self.offset is not None:
            parts.append(f"offset {self.offset}")
        return ", ".join(parts)

    def __str__(self) -> str:
        text = self.message
        if self.place:
            text += f" ({self.place})"
        if self.hint:
            text += f"; {self.hint}"
        return text

    def render(self) -> str:
        """Return the block that a command line prints."""
        lines = [f"error: {self.message}"]
        if self.place:
            lines.append(f"  --> {self.place}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class LogNotFound(EventLogError):
    """There is no log at this path."""


class LogDamaged(EventLogError):
    """A line before the tail does not verify; nothing is written to such a log."""


class LogRewritten(EventLogError):
    """Lines that were read from this log are no longer in it; `seq` is the first that is gone."""


class LogLocked(EventLogError):
    """Another process holds the log for writing."""


class LogFenced(EventLogError):
    """The file is not as this writer left it."""


class LogPoisoned(EventLogError):
    """A write or a sync failed before; this handle appends no more."""


class LogWriteFailed(EventLogError):
    """A write, sync, truncation or rename failed."""


class LogTooNew(EventLogError):
    """The log was written by a later version of the format."""


class LineTooLong(EventLogError):
    """An event, or a line of the file, is over the limit."""


class EventInvalid(EventLogError):
    """An event can't be encoded, or a line is none of the given types."""


class MigrationRefused(EventLogError):
    """This log must not be rewritten in place."""


class QueryError(EventLogError):
    """The SQL is refused, wrong, or over its limits."""
