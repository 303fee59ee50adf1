"""The house's walls: who may import whom, found by reading the files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
EFFECTS = {"os", "time", "random", "anyio", "asyncio", "httpx", "socket", "subprocess", "threading"}

PURE = {
    "eventlog": [
        *("codec", "convert", "forms", "plain", "projection", "recover", "sealer", "stamps"),
        *("tails", "upcast"),
    ],
    "orchestrator": [
        *(
            "errors",
            "events",
            "graph",
            "ids",
            "jsonvalue",
            "keys",
            "plan",
            "report",
            "retry",
            "state",
            "status",
        ),
        *(
            "budget",
            "fan",
            "instances",
            "lanes",
            "leg",
            "money",
            "moves",
            "nest",
            "payloads",
            "readiness",
            "recovery",
            "suggest",
            "tally",
        ),
        "older",
    ],
}


def files(package):
    return sorted((SRC / package).rglob("*.py"))


def module_of(path):
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Return the full names that a file imports anywhere in it, from modules by their names too."""
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def roots(path):
    return {name.partition(".")[0] for name in imports(path)}


def users_of(name):
    return [module_of(p) for package in PURE for p in files(package) if name in roots(p)]


def says_pure(path):
    first, _, _ = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")
    return "Pure" in first


PURE_FILES = [SRC / package / f"{name}.py" for package, names in PURE.items() for name in names]
SAID_FILES = [path for package in PURE for path in files(package) if says_pure(path)]


@pytest.mark.parametrize("path", sorted({*PURE_FILES, *SAID_FILES}), ids=module_of)
def test_a_pure_file_imports_nothing_that_has_effects(path):
    assert not roots(path) & EFFECTS


@pytest.mark.parametrize("path", PURE_FILES, ids=module_of)
def test_what_a_pure_file_imports_from_here_has_no_effects_either(path):
    # The package `eventlog` itself stands for its public names, which are of both kinds.
    seen, waiting = set(), [path]
    while waiting:
        for name in imports(waiting.pop()):
            file = SRC.joinpath(*name.split(".")).with_suffix(".py")
            if file.exists() and file not in seen:
                seen.add(file)
                waiting.append(file)
    assert {module_of(file): found for file in seen if (found := roots(file) & EFFECTS)} == {}


def test_the_toolkit_never_imports_the_orchestrator():
    assert [module_of(p) for p in files("eventlog") if "orchestrator" in roots(p)] == []


def test_the_toolkit_works_where_there_is_no_orchestrator(tmp_path):
    program = """
import sys
sys.modules["orchestrator"] = None  # importing it would fail
import eventlog
with eventlog.Log(sys.argv[1]) as log:
    log.append({"type": "x"})
print([record.event.type for record in eventlog.read(sys.argv[1])])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "events.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "['log.opened', 'x']\n"


def test_http_is_behind_one_seam():
    assert users_of("httpx") == ["orchestrator.providers.http"]


@pytest.mark.parametrize("name", ["requests", "urllib3", "aiohttp", "trio", "pydantic"])
def test_what_is_no_dependency_is_imported_nowhere(name):
    assert users_of(name) == []


@pytest.mark.parametrize(
    "core", ["state", "leg", "moves", "plan", "runner", "attempt", "journal", "work"]
)
def test_the_core_knows_no_step_kind_provider_or_command(core):
    found = imports(SRC / "orchestrator" / f"{core}.py")
    forbidden = ("orchestrator.providers", "orchestrator.cli", "orchestrator.dag")
    assert not [name for name in found if name.startswith(forbidden)]
    kinds = {
        f"orchestrator.steps.{kind}" for kind in ("llm", "calling", "python", "shell", "approve")
    }
    assert not found & kinds


def test_the_reader_of_imports_sees_what_is_there():
    # A test of this file: were it blind, all others would pass.
    found = imports(SRC / "orchestrator" / "runner.py")
    assert {"anyio", "orchestrator.plan", "orchestrator.plan.decide", "eventlog.Event"} <= found
    assert "orchestrator.spec.parse_spec" in imports(
        SRC / "orchestrator" / "frozen.py"
    )  # a late one


def test_starting_up_loads_nothing_heavy():
    program = """
import sys
from orchestrator import DAG, DAGNode, run_dag, read_events
heavy = {"duckdb", "httpx", "rich", "pydantic", "yaml", "minijinja", "typer"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
