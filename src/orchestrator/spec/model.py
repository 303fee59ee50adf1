"""What a spec says, once it has been found good: plain frozen values, nothing left to check."""

from __future__ import annotations

import os
from typing import Any, Literal

import msgspec

from ..budget import Budget
from ..cachepolicy import CachePolicy
from ..errors import UsageError
from ..events import StepDecl
from ..money import amount
from ..recovery import MAX_RECOVERIES, Effects, Then
from ..retry import RetryPolicy
from ..templates.condition import regardless
from .values import Alias, Input, Source, SpecLimits, within

DEFAULT_PROVIDER = "offline"
DEFAULT_MODELS = {"offline": "echo"}
"""Only what is always there has a default; another provider's model must be named."""

EXAMPLE_MODELS = {
    "ollama": "qwen3:0.6b",
    "openai": "gpt-5-mini",
    "anthropic": "claude-haiku-4-5",
    "mlx": "mlx-community/Qwen3-4B-4bit",
}

IDLE_TIMEOUT_S = 120.0
MAX_CONCURRENCY = 1000
DEFAULT_MAX_ITEMS = 10_000
MAX_ITEMS = 100_000
MAX_TIMEOUT_S = 30 * 24 * 3600.0


class LLM(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call of a model, with the spec's defaults filled in.

    Attributes:
        prompt: template; the text of the file where the spec says `file://…`.
        system: template, the same; empty for none.
        provider: never empty.
        model: as the provider spells it, without the provider's name; never empty.
        base_url: empty for the provider's own way to find its server.
        options: the spec's, overlaid with the step's.
        output: JSON Schema of a structured answer, or None for text.
        sample: the number of the repeat, so that equal prompts are different calls.
        stream: False for a server that refuses to send its answer piece by piece.
        idle_timeout_s: how long an answer that has begun may be silent.
        images, files: what goes with the prompt: paths of files that the spec names, or templates
            of paths below outputs/.
    """

    prompt: str
    system: str = ""
    provider: str = DEFAULT_PROVIDER
    model: str = "echo"
    base_url: str = ""
    options: dict[str, Any] = {}
    output: dict[str, Any] | None = None
    sample: int = 0
    stream: bool = True
    idle_timeout_s: float = IDLE_TIMEOUT_S
    images: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class Approve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person is asked; `message` is a template."""

    message: str


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node of the job: exactly one of `llm`, `python`, `run`, `approve`, `workflow` is set.

    Attributes:
        name: matches `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`; of a step of a nested job file, behind
            the name of the step that runs that file, and a `/`.
        use: a kind of step that another package brings.
        python: `module:function`.
        run: a shell command, never a template.
        workflow: the path of another job file, as the spec has it.
        needs: the steps that must have succeeded, by their names in the same file; so do its
            templates name steps.
        with_: any JSON values; the strings in it are templates. A python step's arguments, and
            `with` in the prompts of an llm step, the inputs of a nested job file.
        env: name to template; added to the spec's `env`.
        cwd: relative to the spec's folder, where a shell or python step starts; empty for it.
        files: paths relative to the spec's folder whose content counts for the step's key (see
            `Spec.attachments`).
        save_as: where an llm step's text is published: relative to outputs/, with `output_dir`
            already in it; empty for nowhere.
        for_each: a list, or the template of one, in whose items the step is run; None for once.
        matrix: name to a list or the template of one: the step is run for each combination, but
            those under `exclude`, and for those under `include`.
        key: template of an item's identity; empty for the item itself.
        max_parallel: instances that are under way at once; 0 for no limit but the job's.
        max_failures: instances that may fail before the step does.
        max_items: of a list; more is an error.
        cache: what is reused: an llm step's answer (None for the default), and only where it is
            set a python or shell step as a whole.
        secrets: variables with keys that its processes get; no others do.
        timeout_s: of one attempt; None for no limit.
        retry: None for the default of the step's kind.
        if_: a condition as a template (see `templates.condition`), or empty.
        continue_on_error: its failure does not fail the job, and what needs it goes on.
        finally_: it comes last, whatever happened.
        effects: `once` for what must not happen twice.
        on_interrupted: what becomes of such a step when an attempt was cut off.
        max_recoveries: how often in a row it is tried again after its process has ended.
    """

    name: str
    use: str | None = None
    llm: LLM | None = None
    python: str | None = None
    run: str | None = None
    approve: Approve | None = None
    workflow: str | None = None
    needs: tuple[str, ...] = ()
    with_: dict[str, Any] = msgspec.field(default_factory=dict, name="with")
    env: dict[str, str] = {}
    cwd: str = ""
    files: tuple[str, ...] = ()
    save_as: str = ""
    for_each: Any = None
    matrix: dict[str, Any] | None = None
    key: str = ""
    max_parallel: int = 0
    max_failures: int = 0
    max_items: int = DEFAULT_MAX_ITEMS
    cache: CachePolicy | None = None
    secrets: tuple[str, ...] = ()
    timeout_s: float | None = None
    retry: RetryPolicy | None = None
    if_: str = msgspec.field(default="", name="if")
    continue_on_error: bool = False
    finally_: bool = msgspec.field(default=False, name="finally")
    effects: Effects = "idempotent"
    on_interrupted: Then = "ask"
    max_recoveries: int = MAX_RECOVERIES
    description: str = ""

    @property
    def each(self) -> bool:
        """Whether it is a group of instances."""
        return self.for_each is not None or self.matrix is not None

    @property
    def scope(self) -> str:
        """The name of the step that runs the job file it stands in; empty for the job's own."""
        return self.name.rpartition("/")[0]

    def whole(self, name: str) -> str:
        """Return the whole name of a step that stands in the same file."""
        return within(self.scope, name)

    @property
    def decl(self) -> StepDecl:
        """The step as the graph knows it."""
        return StepDecl(
            id=self.name,
            kind=self.kind,
            needs=tuple(map(self.whole, self.needs)) if self.scope else self.needs,
            each=self.each,
            regardless=self.finally_ or regardless(self.if_),
            last=self.finally_,
            continue_on_error=self.continue_on_error,
            inside=self.scope,
        )

    @property
    def kind(self) -> str:
        """The name of the kind: its key in a spec, or that of another package."""
        if self.use is not None:
            return self.use
        if self.workflow is not None:
            return "workflow"
        if self.llm is not None:
            return "llm"
        if self.approve is not None:
            return "approve"
        return "python" if self.python is not None else "run"


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job, as its user wrote it.

    Attributes:
        project: never empty: the `project`, else the `name`, else the file's name. A label,
            never a path. Jobs of the same project are jobs of the same spec.
        secrets: variables with keys that every shell and python step gets.
        record: whether the text of prompts and answers is kept, or only its hashes.
        steps: in the order of the spec; those of a nested job file after the one that runs it.
        nested: the job files that steps run, by these steps' names, without their steps.
        base: of a nested one, its folder, relative to that of the spec that is run.
        outputs: name to any JSON value; its strings are templates over all steps.
        output_dir: the folder inside outputs/ that all files of steps go to; empty for
            outputs/ itself.
        workflow: the name of the built-in workflow the steps come from, or empty.
        attachments: the bytes of every file the spec names (prompts and `files`), by path
            relative to the spec's folder, as they were when the spec was read; those that nested
            job files name, and these files; and the built-in workflow, if it is used.
        given: input values from outside, already of the declared types.
    """

    project: str
    name: str = ""
    description: str = ""
    task_description: str = ""
    provider: str = DEFAULT_PROVIDER
    model: str = ""
    base_url: str = ""
    options: dict[str, Any] = {}
    models: dict[str, Alias] = {}
    concurrency: int = 4
    timeout_s: float | None = None
    output_dir: str = ""
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    record: Literal["full", "hashes"] = "full"
    limits: SpecLimits = SpecLimits()
    budget: Budget = Budget()
    inputs: dict[str, Input] = {}
    steps: dict[str, Step] = {}
    outputs: dict[str, Any] = {}
    workflow: str = ""
    source: Source = Source()
    attachments: dict[str, bytes] = {}
    given: dict[str, Any] = {}
    nested: dict[str, Spec] = {}
    base: str = ""

    def file_of(self, scope: str) -> Spec:
        """Return the spec of a nested job file, by the step that runs it; of none this one."""
        return self.nested[scope] if scope else self

    def folder_of(self, step: Step) -> str:
        """Return the absolute folder of the file that a step stands in."""
        return self.file_of(step.scope).source.folder or os.getcwd()

    def env_of(self, scope: str) -> dict[str, str]:
        """Return the environment of processes in a job file: what is around it counts, too."""
        if not scope:
            return self.env
        return {**self.env_of(scope.rpartition("/")[0]), **self.nested[scope].env}

    def attachment(self, step: Step, path: str) -> bytes | None:
        """Return the bytes of a file that a step names, None for one that is not attached."""
        return self.attachments.get(within(self.file_of(step.scope).base, path))

    @property
    def decls(self) -> tuple[StepDecl, ...]:
        """The steps as the graph knows them."""
        return tuple(step.decl for step in self.steps.values())

    @property
    def missing_inputs(self) -> tuple[str, ...]:
        """The required inputs that have no value yet."""
        return tuple(n for n, i in self.inputs.items() if i.required and n not in self.given)

    @property
    def values(self) -> dict[str, Any]:
        """The top-level names of templates, but for `steps` and `with`."""
        texts = {
            "name": self.name,
            "description": self.description,
            "task_description": self.task_description,
            "model": self.model,
        }
        return {
            "project": self.project,
            "provider": self.provider,
            **{key: text for key, text in texts.items() if text},
            "inputs": {n: self.given.get(n, i.default) for n, i in self.inputs.items()},
            "env": dict(self.env),
        }

    def check_inputs(self) -> None:
        """Raise UsageError if a required input has no value."""
        missing = self.missing_inputs
        if missing:
            names = ", ".join(missing)
            many = "s" if len(missing) > 1 else ""
            raise UsageError(
                f"no value for the input{many} {names}",
                place=self.source.file,
                hint=f"give one with --set {missing[0]}=…",
            )

    def with_overrides(
        self,
        *,
        provider: str | None = None,
        model: str | None = None,
        inputs: dict[str, Any] | None = None,
        concurrency: int | None = None,
        timeout_s: float | None = None,
        max_cost: str | None = None,
    ) -> Spec:
        """Return the spec as the command line changes it.

        Args:
            provider: for the spec and every llm step. A model, base URL or option that was
                meant for another provider does not go with it, but for the options.
            model: for the spec and every llm step that runs on the spec's provider.
            inputs: values; a string is read as the declared type.
            concurrency: 1 to 1000.
            timeout_s: of the job.
            max_cost: in US dollars, for the job's budget.

        Raises:
            UsageError: for what the spec has no place for.
        """
        from .override import input_value, switched  # it knows this module

        new = switched(self, provider, model) if provider or model else self
        if inputs:
            given = {name: input_value(self, name, value) for name, value in inputs.items()}
            new = msgspec.structs.replace(new, given={**new.given, **given})
        if concurrency is not None:
            if not 1 <= concurrency <= MAX_CONCURRENCY:
                raise UsageError(f"a concurrency of {concurrency} is not from 1 to 1000")
            new = msgspec.structs.replace(new, concurrency=concurrency)
        if timeout_s is not None:
            if not 0 < timeout_s <= MAX_TIMEOUT_S:
                raise UsageError(f"a timeout of {timeout_s} s is not between 0 and 30 days")
            new = msgspec.structs.replace(new, timeout_s=float(timeout_s))
        if max_cost is not None:
            if amount(max_cost) is None:
                raise UsageError(
                    f"{max_cost!r} is no amount of US dollars",
                    place="--max-cost",
                    hint="for instance 2.50",
                )
            budget = msgspec.structs.replace(new.budget, cost_usd=max_cost)
            new = msgspec.structs.replace(new, budget=budget)
        return new
