"""The command line for logs: `python -m eventlog`, and part of any program that mounts it.

    app.add_typer(build(Mount(prog="orch events", default="runs", resolve=…)), name="events")

Exit codes: 0 ok, 1 lines were left or refused by a migration, 2 usage, no such log, or a wrong
query, 4 a damaged or unwritable log, 5 locked, 130 interrupted.
"""

from __future__ import annotations

import typer

from .cli_base import Mount, exit_code, guard
from .cli_care import repair_command, salvage_command, verify_command
from .cli_export import export_command
from .cli_migrate import migrate_command
from .cli_query import query_command, schema_command
from .cli_read import cat_command, stats_command, tail_command
from .streams import open_standard

__all__ = [
    "Mount",
    "build",
    "cat_command",
    "exit_code",
    "export_command",
    "guard",
    "main",
    "migrate_command",
    "query_command",
    "repair_command",
    "salvage_command",
    "schema_command",
    "stats_command",
    "tail_command",
    "verify_command",
]

_COMMANDS = {
    "query": query_command,
    "schema": schema_command,
    "cat": cat_command,
    "tail": tail_command,
    "stats": stats_command,
    "export": export_command,
    "verify": verify_command,
    "repair": repair_command,
    "salvage": salvage_command,
    "migrate": migrate_command,
}


def build(mount: Mount | None = None) -> typer.Typer:
    """Return the commands as an app of their own.

    Args:
        mount: what they need to know of the program; without it, of any folder of logs.
    """
    app = typer.Typer(
        help="Look into event logs.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    known = mount or Mount()
    for name, make in _COMMANDS.items():
        app.command(name)(make(known))
    return app


def main() -> None:
    """Run the commands over the files and folders named."""
    open_standard()
    build()(prog_name="python -m eventlog")
