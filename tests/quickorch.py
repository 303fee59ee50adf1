"""Run `orch` many times at the price of loading it once: a process that forks for each command.

Each command is a process of its own, with the folder, the environment and the outputs it was
given, as if its script had been started; what it does not pay again is Python's start.
With ORCH_TEST_REAL=1 the tests start the installed script instead.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import traceback

LIMIT_S = 30


class QuickOrch:
    """The process that forks; started by the first command."""

    def __init__(self):
        self._process = None
        self._folder = None

    def run(self, args, cwd, env):
        """Return exit code, stdout and stderr of `orch ARGS`."""
        if self._process is None:
            self._start()
        out, err = (os.path.join(self._folder.name, name) for name in ("out", "err"))
        asked = {"args": list(args), "cwd": str(cwd), "env": env, "out": out, "err": err}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())
        texts = [pathlib.Path(path).read_bytes() for path in (out, err)]
        return code, *(text.decode("utf-8", "surrogateescape") for text in texts)

    def _start(self):
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self):
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
            self._folder.cleanup()
            self._process = None


def serve():
    """Take commands from stdin, one a line, and tell each one's exit code."""
    import orchestrator.cli.app
    import orchestrator.cli.caches
    import orchestrator.cli.cost
    import orchestrator.cli.jobs
    import orchestrator.cli.people
    import orchestrator.cli.planned
    import orchestrator.cli.prompts
    import orchestrator.cli.replaying
    import orchestrator.cli.run
    import orchestrator.cli.specs
    import orchestrator.planning
    import orchestrator.providers.anthropic
    import orchestrator.providers.http
    import orchestrator.providers.offline
    import orchestrator.providers.openai
    import orchestrator.steps.llm
    import orchestrator.steps.python
    import orchestrator.steps.shell
    import orchestrator.why
    import orchestrator.wiring  # noqa: F401 - loaded once, for all commands

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(command(**json.loads(line)))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


def command(args, cwd, env, out, err):
    """Be `orch` for once; return the exit code."""
    signal.alarm(LIMIT_S)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for fd, path in ((0, os.devnull), (1, out), (2, err)):
        flags = os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (open(fd, mode) for fd, mode in enumerate("rww"))  # noqa: SIM115 - as long as the process
    sys.argv = ["orch", *args]
    from orchestrator.cli import main

    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - what Python does at the top
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve()
