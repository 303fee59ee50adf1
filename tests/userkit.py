"""A user at a shell: the installed scripts, a folder of their own, and what came out."""

import atexit
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from quickorch import QuickOrch

SCRIPTS = os.path.dirname(sys.executable)
"""Where `orch` and `orchestrator` of the Python that runs the tests are."""

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
WAIT_MAX_S = 30.0

QUICK = QuickOrch()
atexit.register(QUICK.close)

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")

# What a test's outcome must not depend on.
_UNSET = re.compile(
    r"(ORCH|OLLAMA|OPENAI|ANTHROPIC|MLX|HTTP_PROXY|HTTPS_PROXY|ALL_PROXY|FORCE_COLOR|PYTEST)",
    re.IGNORECASE,
)


class Done:
    """A command that has ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"

    @property
    def json(self):
        return json.loads(self.out)


def _checked(done, code):
    assert "Traceback (most recent call last)" not in done.err or code is None, done
    assert code is None or done.code == code, done
    return done


class User:
    """Types commands in a folder.

    Args:
        home: the folder, made if it is not there.
        env: variables beside those of the tests.
    """

    def __init__(self, home, **env):
        self.home = pathlib.Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not _UNSET.match(name)}
        kept["PATH"] = SCRIPTS + os.pathsep + kept.get("PATH", os.defpath)
        self.env = {**kept, "NO_COLOR": "1", "LC_ALL": "C.UTF-8", **env}

    def sh(self, command, *, code=0):
        """Run a shell line in bash; `code=None` takes any exit code."""
        return self._run(["bash", "-c", textwrap.dedent(command)], code)

    def orch(self, *args, code=0):
        """Run `orch` with these arguments."""
        args = [str(arg) for arg in args]
        if os.environ.get("ORCH_TEST_REAL"):
            return self._run([os.path.join(SCRIPTS, "orch"), *args], code)
        return _checked(Done(*QUICK.run(args, self.home, self.env)), code)

    def python(self, program, *, code=0):
        """Run a Python program; a warning in it is an error."""
        return self._run([sys.executable, "-W", "error", "-c", textwrap.dedent(program)], code)

    def start(self, *args, stdout=subprocess.PIPE):
        """Start `orch` and return its process, with pipes; it leads a group of its own."""
        return subprocess.Popen(
            [os.path.join(SCRIPTS, "orch"), *map(str, args)],
            cwd=self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _run(self, command, code):
        ended = subprocess.run(
            command,
            check=False,
            cwd=self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=WAIT_MAX_S,
        )
        return _checked(Done(ended.returncode, ended.stdout, ended.stderr), code)

    def write(self, name, text):
        """Write a file of the folder; the text may be indented."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    def examples(self):
        """Copy the project's examples beside the user's files."""
        shutil.copytree(EXAMPLES, self.home / "examples", dirs_exist_ok=True)

    def jobs(self, runs="runs"):
        """Return the run folders, oldest first."""
        return sorted((self.home / runs).glob("job_*"))

    def job(self, runs="runs"):
        """Return the only run folder."""
        (only,) = self.jobs(runs)
        return only

    def files(self):
        """Return every path below the folder, links and all."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))


def events(folder, kind=None, step=None):
    """Return a job's complete events, as plain JSON; optionally of one type and step."""
    raw = (folder / "events.jsonl").read_bytes()
    found = [json.loads(line) for line in raw.split(b"\n")[:-1]]
    return [
        event
        for event in found
        if kind in (None, event["type"]) and step in (None, event.get("step"))
    ]


def types(folder):
    return [event["type"] for event in events(folder)]


def outputs(folder):
    """Return the text of every file below outputs/."""
    base = folder / "outputs"
    return {str(p.relative_to(base)): p.read_text() for p in base.rglob("*") if p.is_file()}


def until(condition, what, process=None):
    """Wait until a condition is true, at most half a minute, and return its value."""
    deadline = time.monotonic() + WAIT_MAX_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        if process is not None and process.poll() is not None:
            out, err = process.communicate()
            raise AssertionError(f"it ended before {what}: {Done(process.returncode, out, err)}")
        time.sleep(0.002)
    raise AssertionError(f"waited {WAIT_MAX_S} s for {what}")


def ended(process):
    """Wait for a started process and return what came out of it."""
    try:
        out, err = process.communicate(timeout=WAIT_MAX_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"it did not end: {Done(None, out, err)}") from None
    return Done(process.returncode, out, err)


def alive(pid):
    """Return whether a process is there; a zombie is not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        pass
    if os.path.isdir("/proc/self"):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


_VOLATILE = (
    (re.compile(r"job_[0-9a-z]{16}"), "job_ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "SHA"),
    (re.compile(r"(?<![\d.])\d+(\.\d+(e-\d+)?|e-\d+)(?![\d.])"), "N"),
    # What is set under each other depends on how wide the widest is.
    (re.compile(r"-{2,}"), "--"),
    (re.compile(r"(?<=\S) {2,}"), "  "),
)


def plain(text, **names):
    """Return a text without what differs from run to run; `names` are further words to hide."""
    for word, shown in names.items():
        text = text.replace(shown, word)
    for pattern, word in _VOLATILE:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.split("\n"))
