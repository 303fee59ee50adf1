"""`orch cost`: what calls of models cost, and what the cache saved."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from eventlog import EventLogError
from eventlog.cli_base import emit_rows
from eventlog.output import Format

from .. import prices
from ..blobs import BlobStore
from ..errors import UsageError
from ..folder import RunFolder
from ..history import records
from ..jobs import Jobs
from ..money import dollars
from ..spending import DIMENSIONS, Spending, Sum
from . import out

_SUMS = (
    *("calls", "failed", "hits", "tokens_in", "tokens_out"),
    *("cost_usd", "unpriced", "saved_usd"),
)
_HINT = "give the missing prices with --prices FILE, or set ORCH_PRICES for runs to come"


def cost(
    runs_dir: str, refs: list[str], by: str, prices_path: str, environ: dict[str, str], **how: Any
) -> None:
    """Print what jobs cost.

    Args:
        runs_dir: where the run folders are.
        refs: jobs; none for all of them.
        by: dimensions, comma-separated; empty for steps of one job, else jobs.
        prices_path: recompute at these prices; empty for what was recorded.
        environ: for the settings of prices.
        how: `form` and `output`, as `_print` takes them.

    Raises:
        UsageError: an unknown dimension, job or table of prices.
    """
    out.end_with_reader()
    jobs = Jobs(runs_dir)
    folders = [jobs.find(ref) for ref in refs] or _all(jobs, runs_dir)
    names = _dimensions(by or ("step" if len(folders) == 1 else "job"))
    table = prices.table(environ, prices_path) if prices_path else None

    def recount(provider: str, model: str, usage: Any, base_url: str) -> Decimal | None:
        assert table is not None
        return table.quote(provider, model, usage, base_url=base_url).usd

    spending = Spending(names, recount if table is not None else None)
    for folder in folders:
        _take(spending, folder)
    _print(spending, names, table, **how)


def _all(jobs: Jobs, runs_dir: str) -> list[RunFolder]:
    return [RunFolder(runs_dir, row.job_id) for row in jobs.rows()]


def _dimensions(by: str) -> list[str]:
    names = [name.strip() for name in by.split(",")]
    for name in names:
        if name not in DIMENSIONS:
            raise UsageError(
                f"costs can't be summed by {name!r}", place="--by", hint=", ".join(DIMENSIONS)
            )
    return list(dict.fromkeys(names))


def _take(spending: Spending, folder: RunFolder) -> None:
    try:
        spending.take(
            folder.job_id,
            records(folder.log, BlobStore(folder.artifacts), rejected=[], graphs=False),
        )
    except EventLogError as error:
        out.talk(f"warning: {folder.job_id} can't be read and is left out: {error.message}")


def _print(
    spending: Spending, names: list[str], table: prices.PriceTable | None, *, form: str, output: str
) -> None:
    rows = [[*key, *_cells(sums)] for key, sums in sorted(spending.rows.items())]
    total = dict(zip(_SUMS, _cells(spending.total), strict=True))
    extra = {
        "schema_version": out.SCHEMA_VERSION,
        "estimate": table is not None,
        "prices": table.name if table is not None else "as recorded",
        "total": {**total, "simulated": spending.total.simulated},
    }
    emit_rows([*names, *_SUMS], rows, Format(form), output or None, extra=extra)
    for line in _talk(spending.total, table):
        out.talk(line)


def _cells(sums: Sum) -> list[Any]:
    values = [getattr(sums, name) for name in _SUMS]
    return [dollars(value) if isinstance(value, Decimal) else value for value in values]


def _talk(total: Sum, table: prices.PriceTable | None) -> list[str]:
    lines = []
    if table is not None:
        lines.append(
            f"an estimate: recorded tokens at the prices of {table.name},"
            " not what was paid when the calls were made"
        )
    if not total.calls and not total.hits and not total.failed:
        lines.append("no model was called")
    spent = "$" + str(dollars(total.cost_usd)) if total.cost_usd is not None else "not known"
    saved = f"; ${dollars(total.saved_usd)} saved by the cache" if total.saved_usd else ""
    calls = f"{out.count(total.calls, 'call')}, {out.count(total.hits, 'cache hit')}"
    if total.calls or total.hits:
        lines.append(f"total: {calls}: {spent}{saved}")
    if total.unpriced:
        lines.append(f"{out.count(total.unpriced, 'call')} without a known price: {_HINT}")
    if total.failed:
        lines.append(f"{out.count(total.failed, 'failed call')}: what they cost is not known")
    if total.simulated:
        lines.append(f"{out.count(total.simulated, 'simulated answer')} left out")
    lines.append("next: orch cost --by model,day")
    return lines
