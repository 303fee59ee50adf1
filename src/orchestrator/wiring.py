"""Run a spec: the place where spec, folder, log, providers and runner are wired together."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from eventlog import Event, Log, Record

from . import events as ev
from . import prices, signals
from .blobs import BlobStore, ref_of
from .cache import Cache
from .connections import Connections
from .folder import RunFolder
from .forking import Fork, adopted, carry, without
from .forking import again as run_again
from .frozen import freeze
from .inbox import Inbox, settle, watch
from .jobs import Jobs
from .journal import Journal, line_fields
from .masking import Masker
from .options import Listen, Options, earlier_job, overrides_of, policy_of, secrets_of, sure_calls
from .outputs import Outputs
from .petition import project_out
from .preflight import check_functions, read_spec
from .purse import Purse, check_prices
from .results import JobResult, result_of
from .runner import Runner
from .secrecy import refuse_written
from .spec.model import Spec
from .specwork import SpecWork
from .state import JobState
from .stepcache import StepCache
from .steps.base import StepKind
from .usercache import UserCache, user_folder
from .written import as_written

if TYPE_CHECKING:
    from .planning import Forecast

FORETOLD_MAX = 2000
"""Steps of a job whose plan is made before it goes on: each is prepared once more."""


def run(spec: str | os.PathLike[str] | Mapping[str, Any] | Spec, **options: Any) -> JobResult:
    """Run a spec and return what became of it; a failed step is a result, not an exception.

    Args:
        spec: a path, a dict as the YAML would give it, or a Spec.
        options: as `Options` names them: `runs_dir`, `resume`, `provider`, `model`, ….

    Raises:
        OrchestratorError: the spec is wrong, or nothing could be started.
        EventLogError: the log is damaged, held, or can't be written.
    """
    return anyio.run(functools.partial(run_async, spec, **options))


async def run_async(
    spec: str | os.PathLike[str] | Mapping[str, Any] | Spec, **options: Any
) -> JobResult:
    """Do what `run` does, inside a running event loop."""
    given = Options(**options)
    return await execute(read_spec(spec, given.provider), given)


async def execute(spec: Spec, options: Options) -> JobResult:
    """Run one leg of a job from a checked spec."""
    jobs = Jobs(options.runs_dir)
    earlier = earlier_job(jobs, spec, options)
    before = jobs.load(earlier) if earlier is not None else None
    before = options.fork.state if options.fork is not None else before
    overrides = overrides_of(before, options)
    spec = spec.with_overrides(**overrides)
    spec.check_inputs()
    price_table = prices.table(options.environ, options.prices)
    environ, secrets = secrets_of(spec, options)
    refuse_written(spec, secrets.masker)
    providers = Connections(environ)
    calling = sure_calls(spec, before, options)
    spec, chosen = await providers.settle(spec, before, calling)
    check_prices(spec, calling, providers.connect, price_table, options.warn)
    if options.kinds is None:
        check_functions(spec)
    if options.fork is not None:
        run_again(options.fork, spec)  # before anything is made
    if earlier is not None:
        earlier.reopen()
    folder = earlier or jobs.create()
    with Log(folder.log, fields=line_fields(folder.job_id), lock_path=folder.lock) as log:
        if log.recovered is not None:
            options.warn(f"note: the last line was cut off and set aside: {log.recovered.moved_to}")
        state = jobs.load(folder) if earlier else JobState(job_id=folder.job_id)
        blobs, told = BlobStore(folder.artifacts), _listener(folder, jobs, state, options)
        journal = Journal(log, state, written=as_written(blobs), listen=told)
        inbox = Inbox(folder.inbox, options.warn)
        settle(inbox, journal, Outputs(blobs).keep)
        policy = policy_of(spec, before, options)
        set_out = freeze(spec, folder, overrides, chosen, keep_going=policy.keep_going)
        started, heirs = _taken_over(options.fork, spec, folder, set_out)
        cache = _cache_of(spec, folder, options)
        try:
            providers.warm(spec, cache)
            purse = Purse(spec.budget, state.spending.total, price_table, options.warn)
            kinds = kinds_of(
                spec, providers, cache, blobs, price_table, secrets.masker, options, purse
            )
            await _announce(spec, jobs, folder, state, options)
            work = SpecWork(
                spec,
                folder,
                options.kinds(kinds) if options.kinds is not None else kinds,
                secrets,
                lambda: journal.state,
                StepCache(cache, folder, spec.project, spec.output_dir, options.warn),
            )
            work.tidy()
            runner = Runner(journal, work, policy, timeout_s=spec.timeout_s, parts=work)
            look = functools.partial(watch, inbox, runner)
            warn = options.warn if options.signals else None
            await signals.drive(runner, started, heirs, look, warn)
        finally:
            cache.close()
            await providers.aclose()
        project_out(folder, jobs, state)
        return result_of(folder, state, runner, work)


def _cache_of(spec: Spec, folder: RunFolder, options: Options) -> Cache:
    """Return the job's cache, as the user asked for it."""
    return Cache(
        folder,
        options.cache,
        options.warn,
        project=spec.project,
        refresh=options.refresh,
        user=UserCache(user_folder(options.environ), options.warn),
        keep=spec.record == "full",
    )


def _taken_over(
    fork: Fork | None, spec: Spec, folder: RunFolder, started: ev.Started
) -> tuple[ev.Started, list[ev.StepAdopted]]:
    """Bring what a new job takes over from the one it is forked from into its folder."""
    if fork is None:
        return started, []
    heirs = adopted(fork, spec, run_again(fork, spec))
    carry(fork, folder, heirs)
    return msgspec.structs.replace(started, parent=fork.parent), heirs


async def forecast(spec: Spec, options: Options) -> Forecast:
    """Return what a leg would do, without doing or writing any of it.

    Raises:
        OrchestratorError: what would keep the spec from running, as far as it can be known.
        EventLogError: the log of the job to go on with can't be read.
    """
    from .planning import NO_JOB, foresee

    jobs = Jobs(options.runs_dir)
    fork = options.fork
    folder = fork.folder if fork is not None else earlier_job(jobs, spec, options)
    before = jobs.load(folder) if folder is not None else JobState(job_id=NO_JOB)
    again = jobs.load(folder) if folder is not None else JobState(job_id=NO_JOB)
    spec = spec.with_overrides(**overrides_of(before if folder is not None else None, options))
    spec.check_inputs()
    refuse_written(spec, secrets_of(spec, options)[1].masker)
    check_functions(spec)
    if fork is not None:
        without(again, run_again(fork, spec))
    return await foresee(spec, folder, before, again, options)


async def _announce(
    spec: Spec, jobs: Jobs, folder: RunFolder, state: JobState, options: Options
) -> None:
    """Tell which job it is, and the plan of a leg that goes on with one, or forks one."""
    if options.opened is not None:
        options.opened(folder, state)
    if options.foretold is None or len(spec.steps) > FORETOLD_MAX:
        return
    if options.fork is None and not state.legs:
        return
    from .planning import foresee  # it knows this module

    if options.fork is not None:
        again = jobs.load(options.fork.folder)
        without(again, run_again(options.fork, spec))
        before = options.fork.state
        options.foretold(await foresee(spec, options.fork.folder, before, again, options))
    else:
        options.foretold(await foresee(spec, folder, state, jobs.load(folder), options))


def _listener(folder: RunFolder, jobs: Jobs, state: JobState, options: Options) -> Listen:
    """Return what is told of each event: the projections of a leg's begin, and the caller."""

    def told(record: Record[Event]) -> None:
        if isinstance(record.event, ev.JobStarted | ev.JobResumed):
            project_out(folder, jobs, state)
        if options.listen is not None:
            options.listen(record)

    return told


def kinds_of(
    spec: Spec,
    providers: Connections,
    cache: Cache,
    blobs: BlobStore,
    price_table: prices.PriceTable,
    masker: Masker,
    options: Options,
    purse: Purse | None = None,
) -> dict[str, StepKind]:
    """Return the kinds of steps by the names they have in a spec."""
    from . import plugins
    from .providers.gate import Gates
    from .steps.approve import ApproveStep
    from .steps.calling import Caller
    from .steps.llm import LLMStep
    from .steps.python import PythonStep
    from .steps.shell import ShellStep

    caller = Caller(
        cache,
        blobs.put if spec.record == "full" else ref_of,
        spec.project,
        prices=price_table,
        masker=masker,
        discreet=spec.record == "hashes",
        gates=Gates(spec.limits.providers, options.warn),
        purse=purse,
        report=options.progress,
    )
    return {
        "llm": LLMStep(providers.connect, cache, caller),
        "python": PythonStep(),
        "run": ShellStep(),
        "approve": ApproveStep(),
        **plugins.step_kinds(step.use for step in spec.steps.values() if step.use is not None),
    }


__all__ = ["JobResult", "Options", "execute", "read_spec", "run", "run_async"]
