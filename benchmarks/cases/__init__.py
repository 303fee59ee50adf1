"""The cases, in the order in which they run. A new one is a module here and a line below."""

from __future__ import annotations

from harness import Case

from . import (
    append,
    cache,
    calls,
    chain,
    diamond,
    fanout,
    follow,
    jobs,
    large,
    migration,
    query,
    read,
    resume,
    scale,
    startup,
)

_OF_LOGS = (append, read, follow, large, migration)
_OF_QUERIES = (query, jobs)
_MODULES = (startup, diamond, calls, cache, chain, fanout, scale, resume, *_OF_LOGS, *_OF_QUERIES)

CASES: dict[str, Case] = {module.CASE.name: module.CASE for module in _MODULES}
