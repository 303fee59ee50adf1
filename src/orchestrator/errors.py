"""The tree of errors, and the exit code that each one ends the program with.

OrchestratorError
├── UsageError       2   the command or its arguments
├── SpecError        2   the job file; carries every problem found, not the first
├── ConfigError      3   a provider can't be used: no key, no such provider, no server
├── StorageError     4   the run folder can't be made or written
├── LockedError      5   another process holds the job (translated from eventlog)
├── CacheMissError   6   `--cache-only`, and an answer is not in the cache
├── LimitError       7   a budget or a limit was reached
└── StepError        1   one attempt of a step failed; never leaves the runner

Errors of `eventlog` that reach the command line end with 4, but for a held lock (5), a log that
is not there (2) and SQL that is refused (2): see `exit_code_of`.
"""

from __future__ import annotations

import enum

FRAME_MAX = 160  # characters of a line that a code frame shows


class ExitCode(enum.IntEnum):
    """What a process that ran one command ends with."""

    OK = 0
    STEP_FAILED = 1
    USAGE = 2
    PROVIDER = 3
    LOG = 4
    LOCKED = 5
    CACHE_MISS = 6
    LIMIT = 7
    WAITING = 75
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143


def exit_code_of(error: Exception) -> ExitCode:
    """Return what the program ends with after this error."""
    from eventlog.errors import EventLogError, LogLocked, LogNotFound, QueryError

    match error:
        case OrchestratorError():
            return error.exit_code
        case LogLocked():
            return ExitCode.LOCKED
        case LogNotFound() | QueryError():
            return ExitCode.USAGE
        case EventLogError():
            return ExitCode.LOG
        case _:
            return ExitCode.STEP_FAILED


class FailureKind(enum.StrEnum):
    """Why an attempt failed: a closed set, so that retrying is a table and not a guess."""

    # What a call of a provider can end with.
    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    AUTH = "auth"
    BAD_REQUEST = "bad_request"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    INVALID_OUTPUT = "invalid_output"
    NETWORK = "network"
    PROVIDER = "provider"
    CANCELLED = "cancelled"
    BUDGET = "budget"
    # What only other steps can end with.
    EXIT = "exit"  # a command ended with another status than 0
    EXCEPTION = "exception"  # the user's function raised
    TEMPLATE = "template"  # a value could not be rendered
    OUTPUT = "output"  # a value that is no JSON, an unsafe path, a path published twice
    CACHE_MISS = "cache_miss"  # --cache-only
    ITEMS = "items"  # more instances of a group failed than it bears
    STEPS = "steps"  # something in the job file that a step runs failed
    REJECTED = "rejected"  # a person said no
    INTERRUPTED = "interrupted"  # an attempt was cut off, and another one is not made


class OrchestratorError(Exception):
    """Base of every error that is told to the user.

    Args:
        message: operation and cause, one sentence without a full stop.
        place: the file, position, job or step it is about.
        hint: what to do now.
    """

    exit_code = ExitCode.STEP_FAILED

    def __init__(self, message: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint

    def render(self) -> str:
        """Return the block that the command line prints."""
        lines = [f"error: {self.message}"]
        if self.place:
            lines.append(f"  --> {self.place}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class UsageError(OrchestratorError):
    """The command or its arguments make no sense."""

    exit_code = ExitCode.USAGE


class ConfigError(OrchestratorError):
    """A provider can't be used as things are set up."""

    exit_code = ExitCode.PROVIDER


class StorageError(OrchestratorError):
    """The run folder can't be made, read or written."""

    exit_code = ExitCode.LOG


class LockedError(OrchestratorError):
    """Another process holds the job."""

    exit_code = ExitCode.LOCKED


class CacheMissError(OrchestratorError):
    """`--cache-only` was asked for and an answer is not there."""

    exit_code = ExitCode.CACHE_MISS


class LimitError(OrchestratorError):
    """A budget or a limit was reached."""

    exit_code = ExitCode.LIMIT


class StepError(OrchestratorError):
    """One attempt of a step failed, with the kind that decides about a retry.

    Args:
        message: what happened, one sentence.
        kind: one of the closed set.
        place: provider, model and URL, or the command, or the function.
        hint: what to do now.
        retry_after_s: what the other side asked us to wait, if it did.
    """

    exit_code = ExitCode.STEP_FAILED

    def __init__(
        self,
        message: str,
        *,
        kind: FailureKind,
        place: str = "",
        hint: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, place=place, hint=hint)
        self.kind = kind
        self.retry_after_s = retry_after_s


class Problem:
    """One thing wrong with a spec, and where: `line` and `column` count from 1.

    Attributes:
        file: the job file it is in, if not in the one that is run.
        text: of that file.
        via: how that file was come to.
    """

    __slots__ = ("code", "column", "file", "hint", "length", "line", "message", "text", "via")

    def __init__(
        self, message: str, *, line: int, column: int, length: int = 1, hint: str = "", code: str
    ) -> None:
        self.message = message
        self.line = line
        self.column = column
        self.length = length
        self.hint = hint
        self.code = code
        self.file = ""
        self.text = ""
        self.via = ""


class SpecError(OrchestratorError):
    """The spec can't be run; `problems` holds all that was found.

    Args:
        file: the name to print.
        problems: at least one.
        text: the source, for the code frames.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, file: str, problems: list[Problem], text: str = "") -> None:
        count = len(problems)
        super().__init__(f"{file}: {count} problem{'s' if count != 1 else ''} found", place=file)
        self.file = file
        self.problems = sorted(
            problems, key=lambda problem: (problem.file, problem.line, problem.column)
        )
        self.text = text

    def render(self) -> str:
        """Return every problem with its frame, then the count."""
        texts = {problem.file: problem.text for problem in self.problems if problem.file}
        lines = {file: text.split("\n") for file, text in {**texts, "": self.text}.items()}
        blocks = [self._frame(problem, lines[problem.file]) for problem in self.problems]
        return "\n\n".join([*blocks, f"error: {self.message}"])

    def _frame(self, problem: Problem, lines: list[str]) -> str:
        head = f"error[{problem.code}]: {problem.message}"
        place = f"  --> {problem.file or self.file}:{problem.line}:{problem.column}"
        block = [head, place]
        if 1 <= problem.line <= len(lines):
            number = str(problem.line)
            margin = " " * len(number)
            text = lines[problem.line - 1].rstrip("\r").replace("\t", " ")
            at = problem.column - 1
            if len(text) > FRAME_MAX:  # all of a JSON file may be one line
                start = max(0, at - FRAME_MAX // 4)
                text, at = text[start : start + FRAME_MAX], at - start
            marks = "^" * max(1, min(problem.length, len(text) - at))
            block += [
                f"{margin} |",
                f"{number} | {text}",
                f"{margin} | {' ' * at}{marks}",
            ]
        if problem.via:
            block.append(f"   = run by {problem.via}")
        if problem.hint:
            block.append(f"   = hint: {problem.hint}")
        return "\n".join(block)
