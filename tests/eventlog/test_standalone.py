"""The toolkit stands alone, and what is pure stays pure: read from the imports."""

from __future__ import annotations

import ast
import doctest
import os
import pathlib
import subprocess
import sys

import pytest

import eventlog

FOLDER = pathlib.Path(eventlog.__file__).parent
TESTS = pathlib.Path(__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))
PURE = [
    "bulk", "codec", "decode", "dicts", "errors", "event", "export", "forms", "lines", "plain",
    "projection", "recover", "sealer", "stamps", "tails", "upcast", "versions",
]  # fmt: skip
EFFECTS = {
    "anyio", "asyncio", "duckdb", "fcntl", "glob", "httpx", "io", "os", "pathlib", "random",
    "secrets", "shutil", "socket", "subprocess", "tempfile", "threading", "time", "uuid",
}  # fmt: skip

ALONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "orchestrator":
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
try:
    import orchestrator
except ImportError:
    pass
else:
    raise SystemExit("the blocker does not work")

import importlib, pkgutil
import eventlog

for module in pkgutil.walk_packages(eventlog.__path__, "eventlog."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

class Paid(eventlog.Event, frozen=True, kw_only=True, tag="paid"):
    data: dict[str, int]

path = sys.argv[1]
with eventlog.Log(path) as log:
    log.append(Paid(data={"cents": 250}), Paid(data={"cents": 199}))
total = eventlog.Projection(lambda: 0, lambda cents, record: cents + record.event.data["cents"])
print(total.fold(r for r in eventlog.read(path, Paid) if isinstance(r.event, Paid)))
"""


def imported(path: pathlib.Path) -> set[str]:
    """The modules that a file imports anywhere, late imports included; relative ones by name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            targets = [node.module] if node.module else [alias.name for alias in node.names]
            names.update(f".{target}" for target in targets)
    return names


def test_the_toolkit_works_where_the_orchestrator_is_not_installed(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "events.jsonl")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout, run.stderr, run.returncode) == ("449\n", "", 0)


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.py")), ids=lambda path: path.stem)
def test_no_test_of_the_toolkit_needs_the_orchestrator(path):
    assert "orchestrator" not in imported(path)


def test_its_tests_pass_where_the_orchestrator_is_not_installed():
    """A part of them; `EVENTLOG_ALONE=1 pytest tests/eventlog` runs all."""
    names = ["memory", "projection", "reader", "toolkit", "upcasters"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        + [str(TESTS / f"test_{name}.py") for name in names],
        capture_output=True,
        text=True,
        check=False,
        cwd=TESTS.parent.parent,
        env=os.environ | {"EVENTLOG_ALONE": "1"},
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_of_the_toolkit_imports_the_orchestrator(path):
    assert "orchestrator" not in imported(path)


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure_imports_no_effects(name):
    found = imported(FOLDER / f"{name}.py")
    assert found.isdisjoint(EFFECTS)
    # And only what is pure as well.
    assert {x for x in found if x.startswith(".")} <= {f".{pure}" for pure in PURE}


def test_importing_the_toolkit_loads_nothing_heavy():
    code = (
        "import sys, eventlog\n"
        "heavy = {'duckdb', 'httpx', 'anyio', 'typer', 'rich', 'yaml', 'pydantic', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_the_first_example_of_the_package_is_true():
    outcome = doctest.testmod(eventlog)
    assert outcome.failed == 0
    assert outcome.attempted > 3
