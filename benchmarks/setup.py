"""Install other projects to measure beside: `python benchmarks/setup.py [PEER…]`.

Each gets a virtual environment of its own below ~/.cache (ORCH_BENCH_PEERS names another folder),
with the versions that `peers.py` says, through pip. What is there already is left alone; `--list`
shows what is there. Exit code: 0 when all that was asked for is ready, 1 when one is not, 2 for
wrong arguments. Without a peer the benchmarks run too, and say that they skipped it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv

from peers import PEERS, environment, home, is_ready, python_of

PIP_TIMEOUT_S = 900.0


def main(argv: list[str] | None = None) -> int:
    """Install the peers that were asked for, by default all, and return the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks/setup.py", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--list", action="store_true", help="say what is there, and end")
    asked = parser.parse_args(argv)
    if unknown := [name for name in asked.peers if name not in PEERS]:
        parser.error(f"unknown peer {unknown[0]!r}; there are {', '.join(PEERS)}")
    names = list(dict.fromkeys(asked.peers or PEERS))
    if asked.list:
        for name in names:
            print(f"{name:16} {_state(name)}")
        return 0
    ready = [_install(name) for name in names]  # one that fails does not stop the others
    return 0 if all(ready) else 1


def _state(name: str) -> str:
    return environment(name) if is_ready(name) else "not installed"


def _install(name: str) -> bool:
    """Make a peer's environment, unless it is there; return whether it is ready then."""
    if is_ready(name):
        print(f"{name}: ready in {environment(name)}")
        return True
    folder = environment(name)
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    os.makedirs(home(), exist_ok=True)
    print(f"{name}: installing {', '.join(PEERS[name])} in {folder}", flush=True)
    command = [python_of(name), "-m", "pip", "install", "--quiet", *PEERS[name]]
    try:
        venv.create(folder, with_pip=True)
        subprocess.run(command, check=True, timeout=PIP_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"{name}: can't be installed: {error}", file=sys.stderr)
        return False
    with open(os.path.join(folder, "ready"), "w", encoding="ascii"):
        pass
    print(f"{name}: ready in {folder}")
    return True


if __name__ == "__main__":
    sys.exit(main())
