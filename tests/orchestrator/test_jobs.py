"""The jobs of a folder: finding one, listing all, and a catalogue that stays small."""

import os

import pytest

from eventlog import Log
from orchestrator.errors import UsageError
from orchestrator.jobs import CATALOG, Jobs


def job(root, name, *, events=1):
    """Let a job go on by some events."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    with Log(folder / "events.jsonl", fields={"level": "INFO", "job_id": name}) as log:
        log.append({"type": "job.started", "data": {"project": "p"}})
        log.append(*({"type": "step.started", "step": f"s{n}"} for n in range(events)))


def lines(root):
    return (root / CATALOG).read_bytes().count(b"\n")


def test_a_job_is_found_by_its_id_or_the_beginning_of_it(tmp_path):
    for name in ("job_1a", "job_1b", "job_2", "other"):
        job(tmp_path, name)
    jobs = Jobs(str(tmp_path))
    assert jobs.find("job_1a").job_id == "job_1a"
    assert jobs.find("job_2").job_id == "job_2"
    assert jobs.find("ot").job_id == "other"
    with pytest.raises(UsageError, match="means 2 jobs"):
        jobs.find("job_1")
    with pytest.raises(UsageError, match="no job"):
        jobs.find("job_3")


def test_the_catalogue_grows_with_the_jobs_and_not_with_the_looks(tmp_path):
    for name in ("job_1", "job_2"):
        job(tmp_path, name)
    jobs = Jobs(str(tmp_path))
    most = 0
    for _ in range(80):  # a job that goes on between two looks
        job(tmp_path, "job_1")
        assert len(jobs.rows()) == 2
        most = max(most, lines(tmp_path))
    assert most <= 2 * 2 + 64 + 2
    assert {row.job_id: row.legs for row in Jobs(str(tmp_path)).rows()} == {
        "job_1": 81,
        "job_2": 1,
    }


def test_a_catalogue_that_is_written_anew_forgets_jobs_that_are_gone(tmp_path):
    for number in range(3):
        job(tmp_path, f"job_{number}")
    jobs = Jobs(str(tmp_path))
    jobs.rows()
    os.unlink(tmp_path / "job_2" / "events.jsonl")
    with open(tmp_path / CATALOG, "ab") as file:
        file.write(b"junk\n" * 100)
    assert len(jobs.rows()) == 2
    text = (tmp_path / CATALOG).read_text()
    assert text.count("\n") == 2
    assert "job_2" not in text


def test_where_no_catalogue_can_be_written_jobs_are_listed_all_the_same(tmp_path):
    job(tmp_path, "job_1")
    (tmp_path / ".catalog.lock").mkdir()  # as on a file system that can only be read
    with open(tmp_path / CATALOG, "wb") as file:
        file.write(b"junk\n" * 100)
    assert [row.job_id for row in Jobs(str(tmp_path)).rows()] == ["job_1"]
