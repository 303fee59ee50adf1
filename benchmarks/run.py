"""Measure this project beside other ways to do the same: `python benchmarks/run.py --help`.

Exit code: 0 when all was measured, whether or not a bar was met; 1 when a case broke; 2 for
wrong arguments. A time that is short of its bar is a finding, not an error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from typing import Any

import tables
from cases import CASES
from environment import describe
from harness import Case, Context, as_dict, temporary

_README = os.path.join(os.path.dirname(os.path.abspath(__file__)), "README.md")


def main(argv: list[str] | None = None) -> int:
    """Run the chosen cases, print their tables, and return the exit code."""
    asked = _arguments(argv)
    if asked.list:
        for case in CASES.values():
            print(f"{case.name:10} {case.about} (bar: {case.bar})")
        return 0
    chosen = [CASES[name] for name in dict.fromkeys(asked.names or CASES)]
    with temporary() as root:
        document: dict[str, Any] = {
            "schema_version": 1,
            "quick": asked.quick,
            "environment": describe(root),
            "cases": [],
        }
        print(tables.environment(document["environment"], quick=asked.quick), flush=True)
        for case in chosen:
            context = Context(root=root, quick=asked.quick, rounds=asked.rounds)
            told = _measure(case, context)
            document["cases"].append(told)
            print(tables.case(told), flush=True)
    if asked.json:
        with open(asked.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
    if asked.update_readme:
        tables.into_readme(_README, document, list(CASES))
    return 1 if any(told["error"] for told in document["cases"]) else 0


def _measure(case: Case, context: Context) -> dict[str, Any]:
    begun = time.perf_counter()
    rows, error = [], ""
    folder = os.path.join(context.root, case.name)
    os.mkdir(folder)
    try:
        rows = [as_dict(row) for row in case.run(Context(folder, context.quick, context.rounds))]
    except Exception as broken:  # noqa: BLE001 - one broken case must not hide the others
        traceback.print_exc()
        error = f"{type(broken).__name__}: {broken}"
    return {
        "name": case.name,
        "about": case.about,
        "bar": case.bar,
        "rows": rows,
        "seconds": round(time.perf_counter() - begun, 1),
        "error": error,
    }


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes")
    parser.add_argument("--rounds", type=int, help="how often each is repeated")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    parser.add_argument("--update-readme", action="store_true", help="put the tables there")
    asked = parser.parse_args(argv)
    if unknown := [name for name in asked.names if name not in CASES]:
        parser.error(f"unknown case {unknown[0]!r}; there are {', '.join(CASES)}")
    if asked.rounds is not None and asked.rounds < 1:
        parser.error("--rounds must be at least 1")
    if asked.update_readme and asked.quick:
        parser.error("--update-readme takes a full run, of all cases or some")
    return asked


if __name__ == "__main__":
    sys.exit(main())
