"""The program `orch`, and the options that several of its commands share."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

app = typer.Typer(
    name="orch",
    help="Run multi-step LLM jobs as a file: kill it anywhere, resume it anywhere, query it.",
    epilog="Start here: orch init demo, then orch run demo/job.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Display(enum.StrEnum):
    """How progress is shown."""

    FULL = "full"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


class Format(enum.StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    MARKDOWN = "markdown"


class OnInterrupted(enum.StrEnum):
    """What becomes of a step whose effects must not happen twice, when it was cut off."""

    RERUN = "rerun"
    SKIP = "skip"
    FAIL = "fail"


Interrupted = Annotated[
    OnInterrupted | None,
    typer.Option(
        "--on-interrupted", help="What to do with a cut-off step that says effects: once."
    ),
]
MaxCost = Annotated[
    str, typer.Option("--max-cost", help="US dollars that the job may spend, over all its legs.")
]
RunsDir = Annotated[
    str, typer.Option("--runs-dir", envvar="ORCH_RUNS_DIR", help="Where the run folders are.")
]
JobRef = Annotated[str, typer.Argument(help="Job id, a unique prefix of one, or 'latest'.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ListFormat = Annotated[Format, typer.Option("--format", "-F", help="How to print it.")]
Prices = Annotated[
    str, typer.Option("--prices", help="A file of prices that goes before those that ship.")
]
Output = Annotated[str, typer.Option("--output", "-o", help="Write to this file.")]
JobFile = Annotated[str, typer.Argument(help="The job file; - reads it from stdin.")]
Provider = Annotated[str, typer.Option(help="In place of the spec's provider.")]
Model = Annotated[str, typer.Option(help="In place of the spec's model.")]
Inputs = Annotated[list[str] | None, typer.Option("--set", help="An input: name=value.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would run.")]
KeepGoing = Annotated[
    bool | None,
    typer.Option(
        "--keep-going/--no-keep-going", "-k", help="Run what does not need a failed step."
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.")]
Refresh = Annotated[
    bool,
    typer.Option(
        "--refresh", help="Ask again, and keep the new answers; --refresh=STEP: of one step."
    ),
]
RefreshStep = Annotated[list[str] | None, typer.Option("--refresh-step", hidden=True)]
CacheOnly = Annotated[bool, typer.Option("--cache-only", help="Fail rather than call a model.")]
Shown = Annotated[
    Display | None,
    typer.Option(envvar="ORCH_DISPLAY", help="Progress: full on a terminal, else plain."),
]

# The log commands bring their own options. They are built when one of them is called, so that no
# other command waits for them; completion needs them all.
PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
