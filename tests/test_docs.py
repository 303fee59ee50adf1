"""The documents say what is: their commands exist, their code runs, their output is what comes."""

import re
import subprocess
from pathlib import Path

import pytest

from orchestrator.errors import ExitCode
from orchestrator.spec import parse_spec
from userkit import User

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/job-file.md", "docs/query.md"]

PAGES += ["docs/cache.md", "docs/costs.md"]
PAGES += ["docs/migration.md", "docs/providers.md"]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    """Return the code blocks of a language, in order; "" for those that name none."""
    found, block = [], None
    for line in text.splitlines(keepends=True):
        if not line.startswith("```"):
            if block is not None:
                block[1].append(line)
        elif block is None:
            block = (line[3:].strip(), [])
        else:
            found.append((block[0], "".join(block[1])))
            block = None
    return [code for named, code in found if named == language]


def normal(text):
    """Return a run's output without what differs from run to run."""
    text = re.sub(r"job_[0-9a-z]{16}", "JOB", text)
    text = re.sub(r"\[\d/", "[n/", text)  # two steps run side by side: either may end first
    return re.sub(r"\d+\.\d\d s", "T s", text)


def test_the_first_screen_shows_what_the_first_command_prints(tmp_path):
    user = User(tmp_path)
    user.examples()
    shown = blocks(README, "")[0]
    done = user.orch("run", "examples/tiny_spec.yaml")
    # What goes to stdout comes where the terminal mixes it in.
    assert sorted(normal(done.err + done.out).splitlines()) == sorted(normal(shown).splitlines())


def test_the_second_run_hits_as_shown(tmp_path):
    user = User(tmp_path)
    user.examples()
    user.orch("run", "examples/tiny_spec.yaml")
    again = user.orch("run", "examples/tiny_spec.yaml")
    (line,) = blocks(README, "")[1].splitlines()
    assert normal(line) in normal(again.err).splitlines()
    for query in blocks(README, "bash")[2].splitlines():
        user.sh(query)
    table = user.orch("events", "query", "cache-hit-rate").out
    header, rule, row = blocks(README, "")[2].splitlines()
    columns = [line.split() for line in table.splitlines()]
    assert columns[0] == header.split()
    assert columns[2][:-1] == row.split()[:-1]
    assert set(rule) == {"-", " "}


@pytest.mark.parametrize("code", blocks(README, "python"))
def test_the_python_of_the_readme_runs(tmp_path, code):
    user = User(tmp_path)
    user.examples()
    assert user.python(code).out


@pytest.mark.parametrize("page", PAGES)
def test_the_job_files_of_the_pages_are_good(page):
    texts = blocks((ROOT / page).read_text(encoding="utf-8"), "yaml")
    names = [re.match(r"# (\S+\.yaml)\n", text) for text in texts]
    files = {name[1]: text.encode() for name, text in zip(names, texts, strict=True) if name}
    for name, text in zip(names, texts, strict=True):
        parse_spec(text, file=name[1] if name else page, attachments=files)


def test_every_command_is_in_the_readme_and_every_one_there_exists(tmp_path):
    user = User(tmp_path)
    listed = re.findall(r"^  ([a-z][a-z-]+) {2,}", user.orch("--help").out, re.MULTILINE)
    named = set(re.findall(r"`orch ([a-z-]+)", README)) | {"list", "show", "tail", "logs"}
    assert set(listed) == named


def test_every_exit_code_is_in_the_readme():
    told = re.findall(r"^\| ([0-9, ]+) \|", README, re.MULTILINE)
    codes = {int(code) for row in told for code in row.split(",")}
    assert codes == {int(code) for code in ExitCode}


def found(name):
    """Yield what a name can mean: a path from the top or from a package, or a file's name."""
    packages = [ROOT / "src" / package for package in ("", "eventlog", "orchestrator")]
    for base in (ROOT, *packages):
        yield from base.glob(name)
    if "/" not in name:
        yield from (ROOT / "src").rglob(name)
        yield from (ROOT / "examples").rglob(name)


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = []
    for name in re.findall(r"`([A-Za-z0-9_.*/-]+\.(?:py|md|yaml|sql)|[a-z_/]+/)`", text):
        of_a_run = name.split("/")[0] in (
            "runs",
            "outputs",
            "inputs",
            "inbox",
            "artifacts",
            ".index",
        )
        if not of_a_run and not any(found(name.rstrip("/"))):
            missing.append(name)
    assert [name for name in missing if name not in USERS] == []


USERS = {"job.yaml", "queries/"}
"""Names of files that a user has, not the project."""


def test_ci_runs_the_commands_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for word in re.findall(r"readme '([^']+)'", script):
        found = subprocess.run(
            ["grep", "-m1", "--", word, "README.md"],
            check=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert found.stdout.startswith("python3 -m venv")
