"""How a leg is run: what a caller may say, and what that comes to with what is there already."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eventlog import Event, Record

from .cache import answered
from .cachepolicy import CacheMode
from .dotenv import with_secrets
from .folder import RunFolder
from .forking import Fork
from .jobs import Jobs
from .plan import Policy
from .providers.base import Progress
from .secrecy import Secrets, named
from .spec.model import Spec
from .state import DONE, JobState
from .steps.base import StepKind

if TYPE_CHECKING:
    from .planning import Forecast

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
        keep_going: go on with what does not depend on a failed step; None: as the last leg was
            told.
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
    keep_going: bool | None = None
    on_interrupted: str = ""
    max_cost: str | None = None
    listen: Listen | None = None
    progress: Callable[[str, Progress], None] | None = None
    foretold: Callable[[Forecast], None] | None = None
    opened: Callable[[RunFolder, JobState], None] | None = None
    warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr)  # noqa: T201 - where nobody listens
    signals: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


def secrets_of(spec: Spec, options: Options) -> tuple[dict[str, str], Secrets]:
    """Return the environment with the secrets of `.env` files, and which of it are secrets."""
    folders = (os.getcwd(), spec.source.folder)
    environ = with_secrets(options.environ, folders, named(spec), options.warn)
    return environ, Secrets(spec, environ)


def earlier_job(jobs: Jobs, spec: Spec, options: Options) -> RunFolder | None:
    """Return the job to go on with, if one was asked for and is there."""
    if options.job:
        return jobs.find(options.job)
    if not options.resume:
        return None
    found = jobs.newest_of(spec.project)
    if found is None:
        options.warn(f"note: project {spec.project!r} has no job to resume: a new one is started")
    return found


def overrides_of(before: JobState | None, options: Options) -> dict[str, Any]:
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


def policy_of(spec: Spec, before: JobState | None, options: Options) -> Policy:
    """Return what holds for a leg: what is given now, else what the last leg was given."""
    keep_going = options.keep_going
    if keep_going is None:
        started = before.started if before is not None else None
        keep_going = started is not None and started.keep_going
    return Policy(
        concurrency=spec.concurrency,
        keep_going=keep_going,
        on_interrupted=options.on_interrupted,
    )


def sure_calls(spec: Spec, before: JobState | None, options: Options) -> set[str]:
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
