"""The page about providers says what the tables and constants in the code say."""

import re
from pathlib import Path

import pytest

from orchestrator.errors import FailureKind
from orchestrator.providers import NAMES, anthropic, limits, mlx
from orchestrator.providers.address import Site
from orchestrator.providers.failures import KIND_OF_CODE, KIND_OF_STATUS
from orchestrator.providers.ollama import Ollama
from orchestrator.providers.openai import OpenAI
from orchestrator.retry import LLM_RETRY, RETRIED, RETRY_AFTER_MAX_S
from orchestrator.spec.model import IDLE_TIMEOUT_S

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
SITES: list[Site] = [Ollama.site, OpenAI.site, anthropic.Anthropic.site, mlx.Mlx.site]


def rows(heading):
    """Return the cells of the table under a heading, without its head."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_each_kind_of_failure_is_there_with_what_the_retry_table_says():
    told = {row[0].strip("`"): row[2] for row in rows("What goes wrong")}
    of_others = ("exit", "exception", "template", "output", "cache_miss")
    later = ("items", "steps", "rejected", "interrupted")
    assert told.keys() == {kind.value for kind in FailureKind} - {*of_others, *later}
    for kind, again in told.items():
        assert again == ("yes" if RETRIED[FailureKind(kind)] else "no"), kind


def test_each_status_and_code_stands_with_its_kind():
    for kind, source, _ in rows("What goes wrong"):
        for status in map(int, re.findall(r"\b[45]\d\d\b", source)):
            assert KIND_OF_STATUS[status] == kind.strip("`"), status
        for code in re.findall(r"`(\w+_(?:error|exceeded|quota))`", source):
            assert KIND_OF_CODE[code] == kind.strip("`"), code


def test_each_provider_stands_with_its_variables():
    told = {row[0].strip("`"): " ".join(row) for row in _first_table()}
    assert set(told) == set(NAMES)
    for site in SITES:
        for text in (site.variable, site.default, site.key_variable or ""):
            assert text in told[site.provider]


def _first_table():
    lines = [line for line in PAGE.split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(
    "text",
    [
        f"{IDLE_TIMEOUT_S:g} s unless",
        f"({anthropic.MAX_TOKENS} and {mlx.MAX_TOKENS})",
        f"for {limits.COOLDOWN_S:g} seconds",
        f"is cut to {RETRY_AFTER_MAX_S:g} s",
        f"from {LLM_RETRY.initial_s:g} s to {LLM_RETRY.max_s:g} s",
    ],
)
def test_the_numbers_are_those_of_the_code(text):
    assert text in " ".join(PAGE.split())
    assert (limits.OPEN_AFTER, limits.PATIENCE, LLM_RETRY.max_attempts) == (5, 3, 3)
