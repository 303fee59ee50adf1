"""The kinds of steps, and which keys mean nothing in a step of a kind, and why."""

from __future__ import annotations

KINDS = ("llm", "python", "run", "approve", "workflow", "use")
_ITS_STEPS = "say it of the steps in that file"
_ONCE = "a job file is run once: give the `for_each` to the steps in it"
NOT_FOR = {
    "llm": {
        "cwd": "an llm step starts no process",
        "env": "an llm step starts no process",
        "secrets": "a provider's key comes from the environment",
    },
    "python": {"save_as": "write files to the folder in ORCH_OUTPUTS"},
    "run": {
        "save_as": "write files to the folder in ORCH_OUTPUTS",
        "with": "pass values through `env:`",
    },
    "approve": dict.fromkeys(
        ("with", "env", "cwd", "files", "save_as", "timeout_s", "retry"), "nothing is run there"
    ),
    "workflow": {
        **dict.fromkeys(("env", "cwd", "files", "save_as", "retry"), _ITS_STEPS),
        **dict.fromkeys(("cache", "secrets"), _ITS_STEPS),
        **dict.fromkeys(("effects", "on_interrupted", "max_recoveries"), _ITS_STEPS),
        **dict.fromkeys(
            ("for_each", "matrix", "key", "max_parallel", "max_failures", "max_items"), _ONCE
        ),
    },
    "use": dict.fromkeys(("env", "cwd", "save_as"), "values go under `with:`"),
}
