"""Where the code of `module:function` is, found without running any of it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)

import msgspec

from ..errors import FailureKind, StepError

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
_ANY = "*"
_LOADERS = ((ExtensionFileLoader, EXTENSION_SUFFIXES), (SourceFileLoader, SOURCE_SUFFIXES))


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A module's file and the hash of its bytes; for a built-in module, of Python's version."""

    file: str
    sha256: str


def locate(function: str, folder: str, search: Sequence[str]) -> Source:
    """Find the module of `module:function` and make sure that it defines the function.

    Args:
        function: as in the spec.
        folder: the spec's, for the hint.
        search: the folders to look in, like `sys.path`.

    Raises:
        StepError: kind `exception`, with a hint.
    """
    if not _FUNCTION.match(function):
        raise _fault(f"{function!r} is not module:function", function, "write it like tools:merge")
    module, _, path = function.partition(":")
    found = _find(module, folder, search)
    origin = found.origin or ""
    if not origin:
        raise _fault(
            f"{module} is a folder without an __init__.py, so it can't define a function",
            function,
            "name the module inside it, like package.module:function",
        )
    if not os.path.isfile(origin):  # built into Python
        return Source(file="", sha256=hashlib.sha256(sys.version.encode()).hexdigest())
    try:
        with open(origin, "rb") as file:
            data = file.read()
    except OSError as error:
        raise _fault(f"can't read {origin}: {error.strerror}", function, "") from error
    if origin.endswith(".py"):
        _check_defines(data, origin, function, path.split(".")[0])
    return Source(file=origin, sha256=hashlib.sha256(data).hexdigest())


def _find(module: str, folder: str, search: Sequence[str]) -> ModuleSpec:
    top, *below = module.split(".")
    found = _find_in(top, [folder])
    if found is not None and top in sys.stdlib_module_names:
        raise _fault(
            f"module {top} in the spec's folder has the name of one of Python's own",
            module,
            "rename the file: Python's module would be called instead",
        )
    if found is None or found.loader is None:  # a mere folder gives way, like in an import
        found = _find_in(top, search) or _otherwise(top)
    name = top
    for part in below:
        if found is None:
            break
        name = f"{name}.{part}"
        found = _find_in(name, found.submodule_search_locations or ())
    if found is None:
        raise _fault(
            f"there is no module {module}",
            module,
            f"it is looked for in the spec's folder, {folder}, and then like any Python import",
        )
    return found


def _find_in(name: str, places: Iterable[str]) -> ModuleSpec | None:
    """Look for a module as imports do, but with fresh eyes and without its parents.

    The path's own finders remember listings, and look namespace packages up in `sys.modules`.
    """
    portions: list[str] = []
    for place in places:
        spec = FileFinder(place, *_LOADERS).find_spec(name)
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None:
            portions += spec.submodule_search_locations or ()
    if not portions:
        return None
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = portions
    return spec


def _otherwise(name: str) -> ModuleSpec | None:
    """Ask the finders that installed packages have set up; none of them runs the module."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _check_defines(data: bytes, file: str, function: str, name: str) -> None:
    try:
        names = _defined(data)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise _fault(
            f"can't parse the module: {getattr(error, 'msg', None) or error}",
            f"{file}:{line}",
            "correct the file",
        ) from error
    if name not in names and not names & {_ANY, "__getattr__"}:
        import difflib

        near = difflib.get_close_matches(name, sorted(names), n=1)
        raise _fault(
            f"{file} defines no {name!r}",
            function,
            f"did you mean {near[0]!r}?" if near else "check the name after the colon",
        )


@functools.lru_cache(maxsize=64)
def _defined(data: bytes) -> frozenset[str]:
    """Return the names that a module's top level may define; `*` stands for any."""
    return frozenset(_names(ast.parse(data).body))


def _names(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    yield alias.asname or alias.name.split(".")[0]
            case ast.If() | ast.Try() | ast.TryStar() | ast.With() | ast.For() | ast.While():
                yield from _names(_inside(node))
            case _:
                for part in ast.walk(node):
                    if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                        yield part.id


def _inside(node: ast.stmt) -> Iterator[ast.stmt]:
    for field in ("body", "orelse", "finalbody"):
        yield from getattr(node, field, ())
    for handler in getattr(node, "handlers", ()):
        yield from handler.body


def _fault(message: str, place: str, hint: str) -> StepError:
    return StepError(message, kind=FailureKind.EXCEPTION, place=place, hint=hint)
