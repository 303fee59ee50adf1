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
from importlib.machinery import ModuleSpec, PathFinder

import msgspec

from ..errors import FailureKind, StepError

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
_ANY = "*"


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
    if found.origin in ("built-in", "frozen") or not os.path.isfile(origin):
        if not found.origin:
            raise _fault(
                f"{module} is a folder without an __init__.py, so it can't define a function",
                function,
                "name the module inside it, like package.module:function",
            )
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
    PathFinder.invalidate_caches()  # the file may have been written a moment ago
    names = module.split(".")
    in_folder = PathFinder.find_spec(names[0], [folder])
    if in_folder is not None and names[0] in sys.stdlib_module_names:
        raise _fault(
            f"module {names[0]} in the spec's folder has the name of one of Python's own",
            module,
            "rename the file: Python's module would be called instead",
        )
    found = in_folder if in_folder is not None and in_folder.origin else None
    found = found or PathFinder.find_spec(names[0], search) or _otherwise(names[0])
    for depth in range(2, len(names) + 1):
        if found is None:
            break
        places = found.submodule_search_locations
        if places is None:
            found = None
            break
        found = PathFinder.find_spec(".".join(names[:depth]), list(places))
    if found is None:
        raise _fault(
            f"there is no module {module}",
            module,
            f"it is looked for in the spec's folder, {folder}, and then like any Python import",
        )
    return found


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
