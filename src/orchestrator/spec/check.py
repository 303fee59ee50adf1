"""Check a spec as a whole: pure, apart from reading the files it names through a function.

| code   | problem                                                  |
|--------|----------------------------------------------------------|
| ORC111 | the spec is empty, or no map                             |
| ORC112 | an unknown key                                           |
| ORC114 | a value of a wrong type                                  |
| ORC115 | something required is missing                            |
| ORC116 | a value out of its range or form                         |
| ORC117 | a name of a form that is not allowed                     |
| ORC118 | a step of no kind, of two, or with a key of another kind |
| ORC119 | an unknown provider or model                             |
| ORC120 | a provider without a model                               |
| ORC121 | a path that leads out of its folder                      |
| ORC122 | two steps that write the same file                       |
| ORC123 | a need that is not a step                                |
| ORC124 | a cycle                                                  |
| ORC125 | a template that can't be read                            |
| ORC126 | a template that uses what is not there                   |
| ORC127 | a template that uses a step it does not need             |
| ORC128 | a template where none may be                             |
| ORC129 | a file the spec names can't be read                      |
| ORC130 | anything that the final conversion refuses               |
| ORC131 | an `output` that is no JSON Schema                       |
| ORC132 | a need that comes last                                   |
| ORC133 | a function that is not there: see `preflight`            |
| ORC134 | what only the file that is run may say, in a nested one  |
| ORC135 | a `with` that does not fit the inputs of a nested file   |
| ORC136 | files that run each other, too deep, or too many steps   |

ORC101 to ORC110 are those of the text itself: see `yamldoc`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, get_args

from ..graph import find_cycles, show_cycle
from ..safepath import UnsafePath, components
from ..suggest import did_you_mean
from ..templates import condition, is_template
from .aliases import check_aliases, meant
from .caching import check_cache
from .each import given_names
from .limits import check_limits
from .model import DEFAULT_MODELS, DEFAULT_PROVIDER
from .references import OPTIONAL, Names, Place, check_template, check_value
from .shape import BUDGET, INPUT, TOP, decimal_text, read_fields
from .step import (
    Defaults,
    Nest,
    StepCheck,
    check_env,
    check_model_name,
    check_provider,
    check_secrets,
    check_url,
)
from .values import InputType, clean_model, fits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .model import Spec
    from .yamldoc import Document

MAX_LABEL = 200

WHOLE = ("concurrency", "timeout_s", "output_dir", "limits", "budget", "record")
"""Keys of a job as a whole, which a nested job file may not have."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check_spec(
    doc: Document,
    *,
    stem: str,
    attach: Callable[[str], bytes],
    workflow: Callable[[], dict[str, Any]],
    provider: str = DEFAULT_PROVIDER,
    nest: Nest | None = None,
    around: Defaults | None = None,
) -> dict[str, Any]:
    """Return the fields of a Spec; all that is wrong is noted in the document.

    Args:
        doc: without problems so far.
        stem: what to call the project of a spec that does not say it; empty for nothing.
        attach: reads a file of the spec's folder, or raises AttachmentError.
        workflow: brings the steps of a spec that has none.
        provider: of a spec that names none.
        nest: reads the job file that a step runs.
        around: of a file that a step runs: what it takes over where it says nothing.
    """
    if not isinstance(doc.value, dict) or not doc.value:
        empty = doc.value is None or doc.value == {}
        message = "the spec is empty" if empty else "a spec is a map of keys and values"
        hint = "begin with `project: …` and `task_description: …`"
        doc.problem("ORC111", message, doc.at(()), hint)
        return {}
    spec = read_fields(doc, (), doc.value, TOP)
    if around is not None:
        _nested(doc, spec)
    _labels(doc, spec, stem)
    if "models" in spec:
        spec["models"] = check_aliases(doc, ("models",), spec["models"])
    if around is not None:
        spec["models"] = {**around.models, **spec.get("models", {})}
    spec = meant(doc, (), spec, spec.get("models", {}))
    _target(doc, spec, provider, around)
    if "env" in spec:
        spec["env"] = _plain_env(doc, spec["env"])
    if spec.get("record", "full") not in ("full", "hashes"):
        message = f"`{spec.pop('record')}` is not what `record` can be"
        doc.problem("ORC116", message, doc.at(("record",)), "write `full` or `hashes`")
    if "secrets" in spec:
        spec["secrets"] = check_secrets(doc, ("secrets",), spec["secrets"])
    if "budget" in spec:
        spec["budget"] = read_fields(doc, ("budget",), spec["budget"], BUDGET)
        if "cost_usd" in spec["budget"]:
            spec["budget"]["cost_usd"] = decimal_text(spec["budget"]["cost_usd"])
    if "limits" in spec:
        spec["limits"] = check_limits(doc, ("limits",), spec["limits"])
    spec["inputs"] = _inputs(doc, spec.get("inputs", {}))
    spec["output_dir"] = _output_dir(doc, spec.get("output_dir", ""))
    if "steps" not in doc.value:
        spec["workflow"] = "default"
        spec["steps"] = workflow()
        if "task_description" not in doc.value:
            hint = "say what is to be done, or give the job `steps:` of its own"
            doc.problem("ORC115", "`task_description` is missing", doc.at_key(()), hint)
    elif spec.get("steps") == {}:
        doc.problem("ORC115", "`steps` is empty", doc.at_key(("steps",)), "add a step")
    _steps(doc, spec, attach, nest, around)
    return spec


def _nested(doc: Document, spec: dict[str, Any]) -> None:
    """Note what a nested job file may not say: it holds for a job as a whole."""
    for key in WHOLE:
        if key in doc.value:
            spec.pop(key, None)
            message = f"`{key}` is for a job as a whole, and this file is run by a step of another"
            doc.problem("ORC134", message, doc.at_key((key,)), "say it in the file that is run")


def _labels(doc: Document, spec: dict[str, Any], stem: str) -> None:
    for key in ("project", "name"):
        if key in spec:
            fault = _label_fault(spec[key])
            if fault:
                message = f"`{key}` is a label, not a path: {fault}"
                doc.problem("ORC117", message, doc.at((key,)), "use plain words")
    if "project" in doc.value or "name" in doc.value:
        spec.setdefault("project", spec.get("name", ""))
    elif stem and not _label_fault(stem):
        spec["project"] = stem
    else:
        doc.problem("ORC115", "`project` is missing", doc.at_key(()), "give the job a name")


def _label_fault(label: str) -> str:
    """Return what makes a text unfit as a label, or nothing."""
    if len(label) > MAX_LABEL:
        return f"it has more than {MAX_LABEL} characters"
    for char in "/\\":
        if char in label:
            return f"it holds `{char}`"
    if label.strip() in (".", ".."):
        return f"it is `{label.strip()}`"
    for char in label:
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _BIDI:
            return f"it holds the control character U+{ord(char):04X}"
    return ""


def _target(doc: Document, spec: dict[str, Any], default: str, around: Defaults | None) -> None:
    provider = spec.setdefault("provider", around.provider if around is not None else default)
    check_provider(doc, ("provider",), provider)
    if around is not None:
        spec["options"] = {**around.options, **spec.get("options", {})}
        if around.provider == provider:  # else its model and address mean nothing
            spec.setdefault("base_url", around.base_url)
            spec.setdefault("model", around.model)
    if spec.get("model"):
        spec["model"] = clean_model(provider, spec["model"])
        check_model_name(doc, ("model",), provider, spec["model"])
    elif provider in DEFAULT_MODELS:
        spec["model"] = DEFAULT_MODELS[provider]
    if spec.get("base_url"):
        check_url(doc, ("base_url",), spec["base_url"])


def _plain_env(doc: Document, env: dict[str, Any]) -> dict[str, str]:
    good = check_env(doc, ("env",), env)
    for name, value in good.items():
        if "{{" in value:
            span = doc.find(("env", name), "{{")
            hint = "put it under the `env:` of a step"
            doc.problem("ORC128", "the spec's own `env` is not a template", span, hint)
    return good


def _inputs(doc: Document, inputs: dict[str, Any]) -> dict[str, Any]:
    good = {}
    for name, value in inputs.items():
        path = ("inputs", name)
        if not _IDENTIFIER.fullmatch(name):
            message = f"`{name[:80]}` can't name an input"
            hint = "letters, digits and underscores, no digit first"
            doc.problem("ORC117", message, doc.at_key(path), hint)
        if not isinstance(value, dict):
            message = f"input `{name}` must be a map"
            doc.problem("ORC114", message, doc.at(path), f"write `{name}: {{default: …}}`")
            continue
        fields = read_fields(doc, path, value, INPUT)
        default = fields.get("default")
        kind = fields.setdefault("type", _type_of(default))
        if kind not in get_args(InputType):
            hint = did_you_mean(kind, get_args(InputType))
            hint = hint or f"known are {', '.join(get_args(InputType))}"
            doc.problem("ORC116", f"`{kind}` is no type", doc.at((*path, "type")), hint)
        elif default is not None and not fits(kind, default):
            where = (*path, "default")
            doc.problem("ORC114", f"the default is not of type {kind}", doc.at(where))
        # Without a default it must be given, unless the spec says otherwise.
        fields["required"] = fields.get("required", True) and "default" not in value
        good[name] = fields
    return good


def _type_of(value: Any) -> str:
    for kind in ("boolean", "integer", "number", "array", "object"):
        if value is not None and fits(kind, value):
            return kind
    return "string"


def _output_dir(doc: Document, path: str) -> str:
    """Return the folder inside outputs/; `outputs` and `.` are outputs/ itself."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if names[:1] == ["outputs"]:
        del names[0]
    clean = "/".join(names)
    try:
        if clean or path.startswith("/"):
            components(f"/{clean}" if path.startswith("/") else clean)
    except UnsafePath as error:
        message = f"`output_dir` is a folder inside the run's outputs/: {error.reason}"
        doc.problem("ORC121", message, doc.at(("output_dir",)), "write `outputs` or a plain name")
        return ""
    return clean


def _steps(
    doc: Document,
    spec: dict[str, Any],
    attach: Callable[[str], bytes],
    nest: Nest | None,
    around: Defaults | None,
) -> None:
    cache = around.cache if around is not None else None
    if "cache" in spec:
        cache = check_cache(doc, ("cache",), spec.pop("cache"), scope="runs")
    defaults = Defaults(
        provider=spec["provider"],
        model=spec.get("model", ""),
        base_url=spec.get("base_url", ""),
        options=spec.get("options", {}),
        output_dir=around.output_dir if around is not None else spec["output_dir"],
        cache=cache,
        models=spec.get("models", {}),
    )
    checker = StepCheck(doc, defaults, attach, nest)
    steps = {name: checker.check(name, value) for name, value in spec.get("steps", {}).items()}
    spec["steps"], spec["nested"] = steps, checker.nested
    needs = {name: step.get("needs", ()) for name, step in steps.items()}
    _graph(doc, needs)
    last = frozenset(name for name, step in steps.items() if step.get("finally"))
    _not_before_last(doc, needs, last)
    others = tuple(name for name in steps if name not in last)
    seen = {name: (*others, *needs[name]) if name in last else needs[name] for name in needs}
    _same_files(doc, steps, checker.nested)
    top = {"project", "provider", "inputs", "env", "steps"}
    names = Names(
        top=frozenset(top | {name for name in OPTIONAL if spec.get(name)}),
        needs=seen,
        last=last,
        # Those too that are wrong: one problem each is enough.
        inputs=_keys(doc.value.get("inputs")),
        env=_keys(doc.value.get("env")),
    )
    own = {} if spec.get("workflow") else steps  # the built-in ones are tested
    for name, step in own.items():
        path = ("steps", name)
        llm = step.get("llm", {})
        for key in ("system", "prompt"):
            where = (*path, "llm", key)
            place = Place(
                where, name, step.get("with", {}), checker.files.get(where, ""), given_names(step)
            )
            check_template(doc, llm.get(key, ""), place, names)
        for key in ("images", "files"):
            place = Place((*path, "llm", key), name, step.get("with", {}), item=given_names(step))
            check_value(doc, llm.get(key, []), place, names)
        where = (*path, "approve", "message")
        place = Place(where, name, None, checker.files.get(where, ""), given_names(step))
        check_template(doc, step.get("approve", {}).get("message", ""), place, names)
        for key in ("with", "env", "key", "save_as"):
            place = Place((*path, key), name, item=given_names(step))
            check_value(doc, step.get(key, {}), place, names)
        for key in ("for_each", "matrix"):
            check_value(doc, step.get(key, {}), Place((*path, key), name), names)
        source = condition.plain_source(step.get("if", ""), failed=False)
        check_template(doc, source, Place((*path, "if"), name, item=given_names(step)), names)
    check_value(doc, spec.get("outputs", {}), Place(("outputs",), None), names)


def _keys(value: Any) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, dict) else ()


def _graph(doc: Document, needs: dict[str, tuple[str, ...]]) -> None:
    for name, wanted in needs.items():
        for index, need in enumerate(wanted):
            if need not in needs:
                where = ("steps", name, "needs", index)
                others = [step for step in needs if step != name]
                hint = did_you_mean(need, others) or f"the steps are {', '.join(others[:10])}"
                message = f"step `{name}` needs `{need}`, which is not a step"
                doc.problem("ORC123", message, doc.find(where[:3], need), hint)
    for cycle in find_cycles(needs):
        if len(cycle) > 1:
            span = doc.find(("steps", cycle[0], "needs"), cycle[1])
            message = f"the steps need each other in a circle: {show_cycle(cycle)}"
            doc.problem("ORC124", message, span, "take one of these needs out")


def _not_before_last(
    doc: Document, needs: dict[str, tuple[str, ...]], last: frozenset[str]
) -> None:
    """Note a step that needs one which comes after it."""
    for name, wanted in needs.items():
        for need in wanted:
            if need in last and name not in last:
                span = doc.find(("steps", name, "needs"), need)
                message = f"step `{name}` needs `{need}`, which comes last (`finally: true`)"
                hint = f"take the need out, or give `{name}` a `finally: true` too"
                doc.problem("ORC132", message, span, hint)


def _saved(
    steps: dict[str, Any], nested: dict[str, Spec]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield which step publishes which path, and where the document says so."""
    for name, step in steps.items():
        yield name, step.get("save_as", ""), ("steps", name, "save_as")
        if name in nested:
            where = ("steps", name, "workflow")
            yield from ((f"{name}/{n}", s.save_as, where) for n, s in nested[name].steps.items())


def _same_files(doc: Document, steps: dict[str, Any], nested: dict[str, Spec]) -> None:
    """Note two steps that write the same file, or one a file where the other needs a folder."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name, path, where in _saved(steps, nested):
        if not path or is_template(path):
            continue
        # Some file systems take A and a for the same.
        folded = unicodedata.normalize("NFC", path).casefold()
        parts = folded.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        other = seen.get(folded) or folders.get(folded)
        other = other or next((seen[folder] for folder in above if folder in seen), None)
        if other is not None:
            message = f"steps `{other}` and `{name}` both write `{path}`"
            hint = "give one of them another path"
            if where[-1] == "workflow":
                hint = "have the path depend on an input: `save_as: {{ inputs.NAME }}.md`"
            doc.problem("ORC122", message, doc.at(where), hint)
        seen.setdefault(folded, name)
        for folder in above:
            folders.setdefault(folder, name)
