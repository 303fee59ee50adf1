"""Check one step of a spec, and bring it into the form of `model.Step`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from .. import plugins
from ..errors import ConfigError
from ..providers import all_names, check_model, known
from ..recovery import Effects, Then
from ..retry import RetryPolicy
from ..safepath import UnsafePath, components
from ..suggest import did_you_mean
from ..templates import condition, is_template
from .caching import check_cache
from .each import check_each
from .kinds import KINDS, NOT_FOR
from .model import DEFAULT_MODELS, EXAMPLE_MODELS
from .shape import APPROVE, LLM, RETRY, RETRY_ON, STEP, read_fields, wrong_type
from .values import clean_model

if TYPE_CHECKING:
    from .model import Spec
    from .yamldoc import Document, Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FILE = "file://"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_FUNCTION = re.compile(rf"{_DOTTED}:{_DOTTED}", re.ASCII)


class AttachmentError(Exception):
    """A file that the spec names can't be read; the text says why."""


class Defaults(NamedTuple):
    """What the spec says for all its llm steps, as far as it is good."""

    provider: str
    model: str
    base_url: str
    options: dict[str, Any]
    output_dir: str
    cache: dict[str, Any] | None = None
    models: dict[str, Any] = {}  # noqa: RUF012 - never changed


Nest = Callable[["Document", "Path", dict[str, Any], Defaults], "Spec | None"]
"""Reads the job file that a step runs: given the document, the step's place and fields, and what
the file takes over. Notes what is wrong, and returns None then."""


class StepCheck:
    """Checks the steps of one document, one after the other.

    Attributes:
        files: for each file:// prompt, by its path in the spec, the file's name.
        nested: the job files that steps run, by the steps' names.
    """

    def __init__(
        self,
        doc: Document,
        defaults: Defaults,
        attach: Callable[[str], bytes],
        nest: Nest | None = None,
    ) -> None:
        from .aliases import meant  # it knows this module

        self._meant = meant
        self.doc = doc
        self.defaults = defaults
        self.files: dict[Path, str] = {}
        self.nested: dict[str, Spec] = {}
        self._nest = nest
        self._attach = attach
        self._told_model = False

    def check(self, name: str, value: Any) -> dict[str, Any]:
        """Return the step's good fields, ready to be converted; note all else."""
        doc, path = self.doc, ("steps", name)
        if not NAME.fullmatch(name):
            hint = "at most 64 letters, digits, dots, dashes and underscores; no dash or dot first"
            doc.problem("ORC117", f"`{name[:80]}` can't name a step", doc.at_key(path), hint)
        if not isinstance(value, dict):
            wrong_type(doc, path, f"step `{name}`", value, "map")
            return {"name": name}
        step = {"name": name, **read_fields(doc, path, value, STEP)}
        self._kind(path, name, value)
        if "llm" in step:
            step["llm"] = self._llm((*path, "llm"), step["llm"])
        if "approve" in step:
            step["approve"] = self._approve((*path, "approve"), step["approve"])
        if "python" in step and not _FUNCTION.fullmatch(step["python"]):
            message = f"`{step['python']}` does not name a function"
            doc.problem("ORC116", message, doc.at((*path, "python")), "write `module:function`")
        if "{{" in step.get("run", ""):
            doc.problem(
                "ORC128",
                "a shell command is not a template",
                doc.find((*path, "run"), "{{"),
                'pass the value through `env:` and use it as "$NAME"',
            )
        if "use" in step:
            self._use((*path, "use"), step["use"])
        if "workflow" in step and self._nest is not None:
            inner = self._nest(doc, path, step, self.defaults)
            if inner is not None:
                self.nested[name] = inner
        self._cache(path, step)
        step["needs"] = self._needs(path, name, step.get("needs", []))
        if "env" in step:
            step["env"] = check_env(doc, (*path, "env"), step["env"])
        check_each(doc, path, step)
        self._effects(path, step)
        if "if" in step:
            step["if"] = self._condition((*path, "if"), step["if"])
        if "secrets" in step:
            step["secrets"] = check_secrets(doc, (*path, "secrets"), step["secrets"])
        if "retry" in step:
            step["retry"] = self._retry((*path, "retry"), step["retry"])
        if "save_as" in step:
            step["save_as"] = self._save_as((*path, "save_as"), step["save_as"])
        step["files"] = self._files(path, step.get("files", []))
        return step

    def _kind(self, path: Path, name: str, value: dict[str, Any]) -> None:
        kinds = [kind for kind in KINDS if kind in value]
        if len(kinds) > 1:
            message = f"step `{name}` is of two kinds: {' and '.join(kinds)}"
            self.doc.problem(
                "ORC118", message, self.doc.at_key((*path, kinds[1])), "make it two steps"
            )
        elif not kinds:
            message = f"step `{name}` says nothing to do"
            self.doc.problem(
                "ORC118",
                message,
                self.doc.at_key(path),
                "give it `llm:`, `python:`, `run:`, `approve:`, `workflow:` or `use:`",
            )
        elif kinds:
            for key, hint in NOT_FOR[kinds[0]].items():
                if key in value:
                    message = f"`{key}` means nothing in a step of kind {kinds[0]}"
                    self.doc.problem("ORC118", message, self.doc.at_key((*path, key)), hint)

    def _cache(self, path: Path, step: dict[str, Any]) -> None:
        """Bring `cache` into its form; only where it says so is a step reused that is no call."""
        call = "llm" in step
        if "cache" in step:
            scope = "runs" if call else "project"
            policy = check_cache(self.doc, (*path, "cache"), step.pop("cache"), scope=scope)
            if call or policy.get("use", True):
                step["cache"] = policy
        elif call and self.defaults.cache is not None:
            step["cache"] = self.defaults.cache

    def _use(self, where: Path, kind: str) -> None:
        every = [name for name in plugins.names(plugins.STEPS) if name not in KINDS]
        if kind not in every:
            hint = did_you_mean(kind, every) or (
                f"installed are {', '.join(every)}" if every else "install the package with it"
            )
            self.doc.problem(
                "ORC119", f"no kind of step is called `{kind}`", self.doc.at(where), hint
            )

    def _needs(self, path: Path, name: str, needs: list[str]) -> tuple[str, ...]:
        for index, need in enumerate(needs):
            where = (*path, "needs", index)
            if need == name:
                self.doc.problem("ORC124", f"step `{name}` needs itself", self.doc.at(where))
            elif need in needs[:index]:
                self.doc.problem("ORC116", f"`{need}` is here twice", self.doc.at(where))
        return tuple(dict.fromkeys(needs))

    def _llm(self, path: Path, value: dict[str, Any]) -> dict[str, Any]:
        doc = self.doc
        llm = read_fields(doc, path, value, LLM)
        llm = self._meant(doc, path, llm, self.defaults.models)
        if "prompt" not in value:
            doc.problem("ORC115", "`llm` has no `prompt`", doc.at_key(path), "say what to ask")
        for key in ("prompt", "system"):
            if llm.get(key, "").startswith(FILE):
                llm[key] = self._text_of((*path, key), llm[key].removeprefix(FILE).strip())
        for key in ("images", "files"):
            for index, file in enumerate(llm.get(key, ())):
                if not is_template(file):
                    self._read((*path, key, index), file.removeprefix("./"))
        if "output" in llm:
            self._schema((*path, "output"), llm["output"])
        provider = llm.get("provider", self.defaults.provider)
        own = provider == self.defaults.provider
        if "provider" in llm:
            check_provider(doc, (*path, "provider"), provider)
        if "base_url" in llm:
            check_url(doc, (*path, "base_url"), llm["base_url"])
        model = llm.get("model") or (self.defaults.model if own else "")
        model = clean_model(provider, model or DEFAULT_MODELS.get(provider, ""))
        if known(provider):
            self._model(path, provider, model, llm)
        options = {**self.defaults.options, **llm.get("options", {})}
        base_url = llm.get("base_url") or (self.defaults.base_url if own else "")
        return {
            **llm,
            "provider": provider,
            "model": model,
            "base_url": base_url,
            "options": options,
        }

    def _approve(self, path: Path, value: dict[str, Any]) -> dict[str, Any]:
        approve = read_fields(self.doc, path, value, APPROVE)
        if "message" not in value:
            hint = "say what is to be approved"
            self.doc.problem("ORC115", "`approve` has no `message`", self.doc.at_key(path), hint)
        message = approve.setdefault("message", "")
        if message.startswith(FILE):
            where = (*path, "message")
            approve["message"] = self._text_of(where, message.removeprefix(FILE).strip())
        return approve

    def _schema(self, where: Path, schema: dict[str, Any]) -> None:
        from ..steps.structured import schema_fault  # loads a validator, which few specs need

        if fault := schema_fault(schema):
            hint = "see https://json-schema.org/understanding-json-schema"
            message = f"`output` is no JSON Schema: {fault}"
            self.doc.problem("ORC131", message, self.doc.at_key(where), hint)

    def _model(self, path: Path, provider: str, model: str, llm: dict[str, Any]) -> None:
        doc = self.doc
        if not model:
            inherited = "provider" not in llm
            if inherited and self._told_model:
                return
            self._told_model = self._told_model or inherited
            where: Path = ("provider",) if inherited else (*path, "provider")
            hint = f"add `model: {EXAMPLE_MODELS.get(provider, '…')}`, for instance"
            doc.problem("ORC120", f"provider {provider} needs a model", doc.at(where), hint)
        elif "model" in llm:
            check_model_name(doc, (*path, "model"), provider, model)

    def _text_of(self, where: Path, file: str) -> str:
        self.files[where] = file
        content = self._read(where, file)
        if content is None:
            return ""
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            message = f"{file} is not UTF-8 (byte {error.start})"
            self.doc.problem("ORC129", message, self.doc.at(where), "save it as UTF-8")
            return ""

    def _files(self, path: Path, files: list[str]) -> tuple[str, ...]:
        cleaned = []
        for index, file in enumerate(files):
            clean = file.removeprefix("./")
            self._read((*path, "files", index), clean)
            cleaned.append(clean)
        return tuple(cleaned)

    def _read(self, where: Path, file: str) -> bytes | None:
        try:
            components(file)
            return self._attach(file)
        except UnsafePath as error:
            message = f"`{file}` must be a path inside the spec's folder: {error.reason}"
            self.doc.problem("ORC121", message, self.doc.at(where))
        except AttachmentError as error:
            hint = "paths are relative to the spec's folder"
            self.doc.problem("ORC129", str(error), self.doc.at(where), hint)
        return None

    def _save_as(self, where: Path, path: str) -> str:
        whole = "/".join(filter(None, (self.defaults.output_dir, path.removeprefix("./"))))
        if is_template(path):
            return whole  # checked once it is rendered
        try:
            components(path.removeprefix("./"))
            components(whole)
        except UnsafePath as error:
            message = f"`{path}` must be a path inside outputs/: {error.reason}"
            self.doc.problem("ORC121", message, self.doc.at(where), error.hint)
        return whole

    def _effects(self, path: Path, step: dict[str, Any]) -> None:
        for key, kind in (("effects", Effects), ("on_interrupted", Then)):
            known = get_args(kind)
            if key in step and step[key] not in known:
                hint = did_you_mean(step[key], known) or f"known are {', '.join(known)}"
                message = f"`{key}` can't be `{step[key]}`"
                self.doc.problem("ORC116", message, self.doc.at((*path, key)), hint)
                del step[key]
        if "on_interrupted" in step and step.get("effects") != "once":
            span = self.doc.at_key((*path, "on_interrupted"))
            message = "`on_interrupted` means nothing without `effects: once`"
            self.doc.problem("ORC118", message, span, "add `effects: once`")

    def _condition(self, where: Path, said: str | bool) -> str:
        source = condition.source_of(said)
        if condition.is_one_expression(source):
            return source
        hint = "write one expression: `steps.check.output.ok`, `failed()`"
        self.doc.problem("ORC125", "`if` must be one expression", self.doc.at(where), hint)
        return ""

    def _retry(self, path: Path, value: dict[str, Any]) -> dict[str, Any]:
        doc = self.doc
        retry = read_fields(doc, path, value, RETRY)
        for index, kind in enumerate(retry.get("on", [])):
            if kind not in RETRY_ON:
                hint = did_you_mean(kind, RETRY_ON) or f"known are {', '.join(RETRY_ON)}"
                span = doc.at((*path, "on", index))
                doc.problem("ORC116", f"`{kind}` is no failure that can be retried", span, hint)
        rest = {key: number for key, number in retry.items() if key != "on"}
        try:
            RetryPolicy(**rest)
        except ValueError as error:
            doc.problem("ORC116", f"retry: {error}", doc.at_key(path))
        return retry


def check_env(doc: Document, path: Path, env: dict[str, Any]) -> dict[str, str]:
    """Return the good variables of an environment."""
    good = {}
    for name, value in env.items():
        where = (*path, name)
        if not _VARIABLE.fullmatch(name):
            message = f"`{name}` can't name an environment variable"
            doc.problem("ORC117", message, doc.at_key(where), "letters, digits and underscores")
        elif not isinstance(value, str):
            wrong_type(doc, where, f"the variable `{name}`", value, "text")
        elif "\0" in value:
            doc.problem("ORC116", f"`{name}` holds a NUL character", doc.at(where))
        else:
            good[name] = value
    return good


def check_secrets(doc: Document, path: Path, names: list[str]) -> tuple[str, ...]:
    """Return the good names of secrets."""
    for index, name in enumerate(names):
        if not _VARIABLE.fullmatch(name):
            message = f"`{name[:80]}` can't name an environment variable"
            hint = "name the variable that holds the key, never the key itself"
            doc.problem("ORC117", message, doc.at((*path, index)), hint)
    return tuple(name for name in names if _VARIABLE.fullmatch(name))


def check_provider(doc: Document, where: Path, provider: str) -> None:
    """Note an unknown provider."""
    if not known(provider):
        every = all_names()
        hint = did_you_mean(provider, every) or f"known are {', '.join(every)}"
        doc.problem("ORC119", f"no provider is called `{provider}`", doc.at(where), hint)


def check_model_name(doc: Document, where: Path, provider: str, model: str) -> None:
    """Note a model that the provider is known not to have."""
    if not known(provider):
        return  # which is told where it stands
    try:
        check_model(provider, model)
    except ConfigError as error:
        doc.problem("ORC119", error.message, doc.at(where), error.hint)


def check_url(doc: Document, where: Path, url: str) -> None:
    """Note an address that is no web address, or that holds a password."""
    if not re.fullmatch(r"https?://[^/@?#\s]+([/?#]\S*)?", url):
        hint = "write http://host:port/path; keys come from the environment, never from a spec"
        doc.problem("ORC116", "`base_url` is not a web address", doc.at(where), hint)
