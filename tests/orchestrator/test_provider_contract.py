"""The contract of a provider: ours keep it, it notices who does not, and others can bring their own.

The last part installs a real package, and runs a job with what it brings.
"""  # noqa: E501 - one sentence

import importlib.util
import json
import subprocess
import sys
import zipfile

import pytest

from orchestrator.providers import connect
from orchestrator.testing.contract import ProviderContract


class TestOllama(ProviderContract):
    def connect(self, environ):
        return connect("ollama", environ=environ)


class TestOpenAI(ProviderContract):
    def connect(self, environ):
        return connect("openai", environ=environ)


class TestAnthropic(ProviderContract):
    def connect(self, environ):
        return connect("anthropic", environ=environ)


class TestMlx(ProviderContract):
    def connect(self, environ):
        return connect("mlx", environ=environ)


class TestOffline(ProviderContract):
    model = "echo"
    served = False

    def connect(self, environ):
        return connect("offline", environ=environ)


# Who does not keep it


class Careless:
    """A provider with every mistake."""

    name = "careless"
    base_url = "http://user:pass@127.0.0.1/"
    simulated = False
    adapter_version = 1
    count = 0

    def __init__(self, environ):
        self._key = environ["OPENAI_API_KEY"]

    def __repr__(self):
        return f"Careless({self._key})"

    def body(self, request):
        Careless.count += 1
        return {"model": request.model, "number": self.count}

    async def complete(self, request, **how):
        raise ValueError("something")

    async def aclose(self):
        pass


class Told(ProviderContract):
    served = False

    def connect(self, environ):
        return Careless(environ)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("test_it_names_itself_and_where_it_is", "slash"),
        ("test_the_body_follows_from_the_request_alone", "differs"),
        ("test_no_key_shows", "a key shows"),
    ],
)
def test_the_contract_notices_a_careless_provider(name, said):
    Told.setup_class()
    try:
        with pytest.raises(AssertionError, match=said):
            getattr(Told(), name)()
    finally:
        Told.teardown_class()


def test_the_contract_notices_any_other_exception_than_a_step_error():
    class Served(Told):
        served = True

    Served.setup_class()
    try:
        with pytest.raises(AssertionError, match="not a StepError"):
            Served().test_each_broken_exchange_is_a_failure()
    finally:
        Served.teardown_class()


def test_the_contract_needs_no_pytest():
    code = "import sys, orchestrator.testing.contract; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# What another package brings

MODULE = """
from orchestrator.errors import FailureKind, StepError
from orchestrator.providers import Reply
from orchestrator.steps.base import Prepared, Result
from orchestrator.templates import render_value


class Acme:
    name = "acme"
    base_url = ""
    simulated = True
    adapter_version = 1

    def body(self, request):
        return {"model": request.model, "messages": [m.content for m in request.messages]}

    def check(self): ...
    def warm(self): ...
    async def aclose(self): ...

    async def complete(self, request, *, timeout_s, idempotency_key, **_):
        text = request.messages[-1].content
        if text == "fail":
            raise StepError("acme says no", kind=FailureKind.BAD_REQUEST)
        return Reply(text=text[::-1], model="acme-1", stop_reason="stop", simulated=True)


def connect(base_url, environ):
    if "ACME_BROKEN" in environ:
        raise RuntimeError("out of order")
    return Acme()


class Shout:
    def prepare(self, step, scope):
        values = render_value(step.with_, {**scope.values, "with": {}})
        return Prepared(parts={"with": values}, params=values)

    async def perform(self, prepared, attempt):
        return Result(output=prepared.params["text"].upper())
"""
ENTRY_POINTS = """
[unified_orchestrator.providers]
acme = acme_models:connect
gone = acme_models:nothing_there

[unified_orchestrator.steps]
shout = acme_models:Shout
"""
METADATA = "Metadata-Version: 2.1\nName: acme-models\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
SPEC = {
    "project": "p",
    "provider": "acme",
    "model": "m",
    "steps": {
        "a": {"llm": {"prompt": "abc"}},
        "b": {"needs": "a", "use": "shout", "with": {"text": "{{ steps.a.output.text }}!"}},
    },
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with an installed package that brings a provider and a kind of step.

    By pip, where the environment has it; else unpacked, which is what pip does with a plain wheel.
    """
    folder = tmp_path_factory.mktemp("acme")
    info = "acme_models-1.0.dist-info"
    wheel = folder / "acme_models-1.0-py3-none-any.whl"
    files = {
        "acme_models.py": MODULE,
        f"{info}/METADATA": METADATA,
        f"{info}/WHEEL": WHEEL,
        f"{info}/entry_points.txt": ENTRY_POINTS,
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
        archive.writestr(f"{info}/RECORD", record)
    target = folder / "site"
    if importlib.util.find_spec("pip") is None:
        zipfile.ZipFile(wheel).extractall(target)
        return target
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    command += ["--disable-pip-version-check", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def orch(site, folder, *words, spec=SPEC, **environ):
    (folder / "job.json").write_text(json.dumps(spec))
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(site), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_package_brings_a_provider_and_a_kind_of_step(site, tmp_path):
    done = orch(site, tmp_path, "run", "job.json")
    assert done.returncode == 0, done.stderr
    (log,) = tmp_path.glob("runs/job_*/events.jsonl")
    ended = {
        e["step"]: e["data"]
        for e in map(json.loads, log.read_text().splitlines())
        if e["type"] == "step.succeeded"
    }
    assert ended["a"]["output"]["text"] == "cba"
    assert ended["b"]["output"] == "CBA!"
    again = orch(site, tmp_path, "run", "job.json", "--resume")
    assert again.returncode == 0
    assert "2 reused" in again.stderr


def test_without_the_package_its_names_are_unknown(tmp_path):
    done = orch("", tmp_path, "run", "job.json")
    assert done.returncode == 2
    assert "no provider is called `acme`" in done.stderr
    assert "no kind of step is called `shout`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_near_miss_of_an_installed_name_is_suggested(site, tmp_path):
    spec = SPEC | {"provider": "acmee", "steps": {"b": {"use": "shuot"}}}
    done = orch(site, tmp_path, "validate", "job.json", spec=spec)
    assert "did you mean `acme`?" in done.stderr + done.stdout
    assert "did you mean `shout`?" in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("spec", "environ", "said"),
    [
        (SPEC | {"provider": "gone"}, {}, "`gone` of the package acme-models can't be loaded"),
        (SPEC, {"ACME_BROKEN": "1"}, "`acme` can't be made: RuntimeError: out of order"),
    ],
)
def test_what_a_package_does_wrong_is_told_as_its_own(site, tmp_path, spec, environ, said):
    done = orch(site, tmp_path, "run", "job.json", spec=spec, **environ)
    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr
