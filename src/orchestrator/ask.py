"""What the SQL of `orch events query` finds beside `events` and `logs`: views, named queries."""

from __future__ import annotations

import os

from eventlog.query import View, load_views

VIEWS = ("steps", "jobs", "llm_calls", "cache", "files")
"""In the order in which they are made: `jobs` reads `steps`."""

_HERE = os.path.dirname(os.path.abspath(__file__))


def views() -> list[View]:
    """Return the name and SQL of each view."""
    return load_views(os.path.join(_HERE, "views"), VIEWS)


def query_folders() -> list[str]:
    """Return where named queries lie: in the package when installed, else in the checkout."""
    checkout = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "queries")
    return [
        folder for folder in (os.path.join(_HERE, "queries"), checkout) if os.path.isdir(folder)
    ]
