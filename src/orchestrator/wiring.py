"""Run a spec: the place where spec, folder, log, providers and runner are wired together."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from eventlog import Event, Log, Record

from . import __version__, prices, signals
from . import events as ev
from .blobs import BlobStore, ref_of
from .cache import Cache, answered
from .cachepolicy import CacheMode
from .connections import Connections
from .dotenv import with_secrets
from .errors import ExitCode, FailureKind
from .folder import RunFolder
from .forking import Fork, adopted, carry, without
from .forking import again as run_again
from .inbox import Inbox, settle, watch
from .jobs import Jobs
from .journal import Journal, line_fields
from .keys import canonical
from .masking import Masker
from .outputs import Outputs
from .petition import project_out
from .plan import Policy
from .preflight import check_functions, read_spec
from .providers.base import Progress
from .purse import Purse, check_prices
from .runner import Runner, Stop
from .secrecy import Secrets, named, refuse_written
from .spec.model import Spec
from .specwork import SpecWork
from .state import DONE, JobState, JobStatus
from .stepcache import StepCache
from .steps.base import StepKind
from .usercache import UserCache, user_folder
from .written import as_written

if TYPE_CHECKING:
    from .planning import Forecast

FORETOLD_MAX = 2000
"""Steps of a job whose plan is made before it goes on: each is prepared once more."""

Listen = Callable[[Record[Event]], None]


@dataclass(kw_only=True)
class Options:
    """How a leg is run.

    Attributes:
        runs_dir: where run folders are.
        resume: go on with the newest job of the spec's project, if there is one.
        job: go on with this job, by id, unique prefix or `latest`.
        provider, model, inputs: in place of the spec's.
        cache: what the user asked of the cache.
        refresh: steps that ask again, whatever the cache has.
        prices: a file of prices that goes before what ships, and before ORCH_PRICES.
        kinds: given the kinds of steps, returns those to use; for a replay.
        fork: begin a new job from another one, in place of going on with one.
        keep_going: go on with what does not depend on a failed step.
        on_interrupted: `rerun`, `skip` or `fail`: what to do with steps with `effects: once`
            whose last attempt was cut off.
        max_cost: US dollars that the job may spend in all, over all legs.
        listen: told of every event once it is durable.
        progress: told of a step's answer from a model while it comes in; it is not recorded.
        foretold: told the plan of a leg that goes on with a job, before anything is recorded.
        opened: told the job's folder and earlier state before anything is recorded.
        warn: told what the user should know.
        signals: stop in good order on SIGINT and SIGTERM.
        environ: where keys and addresses are looked up, and what steps are given.
    """

    runs_dir: str = "runs"
    resume: bool = False
    job: str = ""
    fork: Fork | None = None
    provider: str | None = None
    model: str | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    cache: CacheMode = CacheMode.USE
    refresh: tuple[str, ...] = ()
    prices: str = ""
    kinds: Callable[[Mapping[str, StepKind]], Mapping[str, StepKind]] | None = None
    keep_going: bool = False
    on_interrupted: str = ""
    max_cost: str | None = None
    listen: Listen | None = None
    progress: Callable[[str, Progress], None] | None = None
    foretold: Callable[[Forecast], None] | None = None
    opened: Callable[[RunFolder, JobState], None] | None = None
    warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr)  # noqa: T201
    signals: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of a job.

    Attributes:
        job_id: names its folder.
        status: `succeeded`, `failed`, `cancelled` or `waiting`.
        exit_code: what `orch run` ends with.
        steps: each step's output, of those that have one.
        outputs: what the spec's `outputs` say.
        path: the run folder.
        state: all that the log tells.
    """

    job_id: str
    status: str
    exit_code: int
    steps: dict[str, Any]
    outputs: dict[str, Any]
    path: str
    state: JobState

    @property
    def ok(self) -> bool:
        """Whether every step has succeeded."""
        return self.exit_code == ExitCode.OK


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
    earlier = _earlier(jobs, spec, options)
    before = jobs.load(earlier) if earlier is not None else None
    before = options.fork.state if options.fork is not None else before
    overrides = _overrides(before, options)
    spec = spec.with_overrides(**overrides)
    spec.check_inputs()
    price_table = prices.table(options.environ, options.prices)
    environ, secrets = secrets_of(spec, options)
    refuse_written(spec, secrets.masker)
    providers = Connections(environ)
    sure_calls = _sure_calls(spec, before, options)
    spec, chosen = await providers.settle(spec, before, sure_calls)
    check_prices(spec, sure_calls, providers.connect, price_table, options.warn)
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
        blobs = BlobStore(folder.artifacts)
        journal = Journal(log, state, written=as_written(blobs))
        journal.listen = _listener(folder, jobs, state, options)
        inbox = Inbox(folder.inbox, options.warn)
        settle(inbox, journal, Outputs(blobs).keep)
        started = _started(spec, folder, overrides, chosen)
        started, heirs = _taken_over(options.fork, spec, folder, started)
        cache = Cache(
            folder,
            options.cache,
            options.warn,
            project=spec.project,
            refresh=options.refresh,
            user=UserCache(user_folder(options.environ), options.warn),
            keep=spec.record == "full",
        )
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
            runner = Runner(
                journal,
                work,
                Policy(
                    concurrency=spec.concurrency,
                    keep_going=options.keep_going,
                    on_interrupted=options.on_interrupted,
                ),
                timeout_s=spec.timeout_s,
                parts=work,
            )
            look = functools.partial(watch, inbox, runner)
            warn = options.warn if options.signals else None
            await signals.drive(runner, started, heirs, look, warn)
        finally:
            cache.close()
            await providers.aclose()
        project_out(folder, jobs, state)
        return _result(folder, state, runner, work)


def _taken_over(
    fork: Fork | None, spec: Spec, folder: RunFolder, started: ev.Started
) -> tuple[ev.Started, list[ev.StepAdopted]]:
    """Bring what a new job takes over from the one it is forked from into its folder."""
    if fork is None:
        return started, []
    heirs = adopted(fork, run_again(fork, spec))
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
    folder = fork.folder if fork is not None else _earlier(jobs, spec, options)
    before = jobs.load(folder) if folder is not None else JobState(job_id=NO_JOB)
    again = jobs.load(folder) if folder is not None else JobState(job_id=NO_JOB)
    spec = spec.with_overrides(**_overrides(before if folder is not None else None, options))
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


def secrets_of(spec: Spec, options: Options) -> tuple[dict[str, str], Secrets]:
    """Return the environment with the secrets of `.env` files, and which of it are secrets."""
    folders = (os.getcwd(), spec.source.folder)
    environ = with_secrets(options.environ, folders, named(spec), options.warn)
    return environ, Secrets(spec, environ)


def _listener(folder: RunFolder, jobs: Jobs, state: JobState, options: Options) -> Listen:
    """Return what is told of each event: the projections of a leg's begin, and the caller."""

    def told(record: Record[Event]) -> None:
        if isinstance(record.event, ev.JobStarted | ev.JobResumed):
            project_out(folder, jobs, state)
        if options.listen is not None:
            options.listen(record)

    return told


def _earlier(jobs: Jobs, spec: Spec, options: Options) -> RunFolder | None:
    """Return the job to go on with, if one was asked for and is there."""
    if options.job:
        return jobs.find(options.job)
    if not options.resume:
        return None
    found = jobs.newest_of(spec.project)
    if found is None:
        options.warn(f"note: project {spec.project!r} has no job to resume: a new one is started")
    return found


def _overrides(before: JobState | None, options: Options) -> dict[str, Any]:
    """Return what goes before the spec: what is given now, else what the last leg was given."""
    given: dict[str, Any] = {
        "provider": options.provider,
        "model": options.model,
        "max_cost": options.max_cost,
        "inputs": dict(options.inputs),
    }
    started = before.started if before is not None else None
    if started is not None:
        given["provider"] = given["provider"] or started.overrides.get("provider")
        if options.provider is None:
            given["model"] = given["model"] or started.overrides.get("model")
        given["max_cost"] = given["max_cost"] or started.overrides.get("max_cost")
        given["inputs"] = {**started.given, **given["inputs"]}
    return given


def _sure_calls(spec: Spec, before: JobState | None, options: Options) -> set[str]:
    """Return the steps that will surely call their model, as far as can be known now.

    One that has succeeded will most likely be skipped, and one that a job keeps an answer of
    may be answered from the cache: neither needs a key then.
    """
    # How many calls a group makes, if any, is not known before its items are.
    names = {n for n, step in spec.steps.items() if step.llm is not None and not step.each}
    if before is not None:
        names -= {name for name, step in before.steps.items() if step.status in DONE}
    match options.cache:
        case CacheMode.ONLY:
            return set()
        case CacheMode.USE:
            return names - answered(options.runs_dir, spec.project, names)
        case _:
            return names


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


_OVERRIDES = ("provider", "model", "max_cost")


def _started(
    spec: Spec, folder: RunFolder, overrides: Mapping[str, Any], chosen: dict[str, str]
) -> ev.Started:
    """Freeze the spec and the files it names, and return what the leg sets out to do."""
    text = spec.source.text or canonical({"project": spec.project}).decode()
    digest = hashlib.sha256(text.encode())
    for name, content in sorted(spec.attachments.items()):
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    frozen = digest.hexdigest()[:16]
    # The spec is written last: where it is, all that it names is too.
    if not os.path.isfile(os.path.join(folder.inputs, frozen, "spec.yaml")):
        for name, content in spec.attachments.items():
            folder.write(f"inputs/{frozen}/files/{name}", content)
        folder.write(f"inputs/{frozen}/spec.yaml", text.encode())
    return ev.Started(
        project=spec.project,
        name=spec.name,
        steps=spec.decls,
        record="" if spec.record == "full" else spec.record,
        spec_path=spec.source.path,
        spec_sha256=spec.source.sha256,
        inputs=frozen,
        provider=spec.provider,
        model=spec.model,
        concurrency=spec.concurrency,
        timeout_s=spec.timeout_s,
        version=__version__,
        given=overrides["inputs"],
        overrides={name: overrides[name] for name in _OVERRIDES if overrides[name]},
        budget=spec.budget if spec.budget.limits else None,
        models=chosen,
        limits=spec.limits.kinds,
    )


_UNUSABLE = (FailureKind.AUTH, FailureKind.NETWORK)


def exit_code(state: JobState, stopped: Stop | None) -> ExitCode:
    """Return what a leg that ended in this state ends the program with."""
    if state.status is JobStatus.SUCCEEDED:
        return ExitCode.OK
    if state.status is JobStatus.WAITING:
        return ExitCode.WAITING
    if stopped is not None and stopped.signal:
        return ExitCode(128 + stopped.signal)
    if stopped is not None and stopped.request:  # `orch cancel`: as if by SIGTERM
        return ExitCode.SIGTERM
    kinds = [failure.kind for failure in state.failures]
    if kinds and all(kind in _UNUSABLE for kind in kinds):
        return ExitCode.PROVIDER
    if FailureKind.CACHE_MISS in kinds:
        return ExitCode.CACHE_MISS
    if FailureKind.BUDGET in kinds:
        return ExitCode.LIMIT
    return ExitCode.STEP_FAILED


def _result(folder: RunFolder, state: JobState, runner: Runner, work: SpecWork) -> JobResult:
    code = exit_code(state, runner.stopped)
    steps = {
        name: work.output(step.success)
        for name, step in state.steps.items()
        if step.success is not None and step.status in DONE and "[" not in name
    }
    return JobResult(
        job_id=folder.job_id,
        status=str(state.status),
        exit_code=int(code),
        steps=steps,
        outputs=work.job_outputs(state),
        path=folder.path,
        state=state,
    )


__all__ = ["JobResult", "Options", "execute", "read_spec", "run", "run_async"]
