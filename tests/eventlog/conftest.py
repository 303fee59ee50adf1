"""Property tests here give the same verdict on a slow machine and on every run.

With EVENTLOG_ALONE set, they run as if the orchestrator were not installed.
"""

import importlib.abc
import os
import sys
from typing import Any

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == "orchestrator":
            raise ModuleNotFoundError(f"blocked: {name}", name=name)


if os.environ.get("EVENTLOG_ALONE"):
    sys.meta_path.insert(0, Blocker())
