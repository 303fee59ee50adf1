"""The cases, in the order in which they run. A new one is a module here and a line below."""

from __future__ import annotations

from harness import Case

from . import (
    append,
    calls,
    chain,
    diamond,
    fanout,
    jobs,
    migration,
    query,
    read,
    resume,
    scale,
    startup,
)

_MODULES = (startup, diamond, calls, chain, fanout, scale, resume, append, read, migration)
_OF_QUERIES = (query, jobs)

CASES: dict[str, Case] = {module.CASE.name: module.CASE for module in (*_MODULES, *_OF_QUERIES)}
