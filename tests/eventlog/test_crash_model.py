"""The crash model in short: power cuts at every call of a writer; and that it would notice.

`python -m campaigns crash-model` and `python -m campaigns mutants` are the long forms.
"""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("campaigns", reason="the campaigns are not installed with us")

from campaigns import crash, crash_model, log_mutants, mutants, replaced, replaced_mutants
from campaigns.calls import Cut, Mark, Named, Renamed, Synced, SyncedFolder, Wrote
from campaigns.disk import PAGE, SECTOR, Disk
from campaigns.tally import Tally

SAMPLES = 20
DRAWS = 300


def test_no_power_cut_and_no_kill_breaks_what_a_log_promised():
    tally = Tally()
    seed = 0
    while tally.total < 6_000:
        crash.run(seed, SAMPLES, tally)
        seed += 1
    assert tally.failures == []
    # Every write path was walked.
    assert set(tally.states) >= {
        "create", "reopen", "repair", "repair unsealed", "continue unsealed",
        "append os", "append group", "append sync", "closed",
    }  # fmt: skip


def test_no_power_cut_breaks_it_on_a_disk_that_fails():
    tally = Tally()
    for seed in range(1_000, 1_020):
        crash.run(seed, SAMPLES, tally, failing=1.0)
    assert tally.failures == []
    assert tally.states["after a failure"]


def test_no_power_cut_leaves_a_file_that_is_neither_old_nor_new(tmp_path):
    tally = Tally()
    for seed in range(20):
        replaced.run_whole(seed, SAMPLES, tally)
        replaced.run_migration(seed, SAMPLES, tally, str(tmp_path))
    assert tally.failures == []
    assert tally.states["write_whole"] > 500
    assert tally.states["migration"] > 100


@pytest.mark.parametrize(
    "mutant", [*log_mutants.LOG, *replaced_mutants.REPLACED], ids=lambda one: one.name
)
def test_a_planted_mistake_is_caught(mutant, tmp_path):
    verdict = mutants.hunt(mutant, mutant.life, 30_000, str(tmp_path))
    assert verdict.caught


def test_the_command_prints_what_it_saw(capsys):
    assert crash_model.main(60, 7, 1) == 0
    told = capsys.readouterr().out
    assert told.startswith("crash model: seed 7,")
    assert "FileStore" in told
    *_, last = told.splitlines()
    assert last.split()[0] == "all"
    assert last.split()[2] == "0"


# --- the disk itself -------------------------------------------------------------------------

OLD, NEW = b"o" * 3 * SECTOR, b"n" * 3 * SECTOR


def draws(disk: Disk, *calls) -> set[bytes | None]:
    """What `/a` may be after these calls; None: not there."""
    rng = Random(1)
    for call in calls:
        disk.apply(call, rng)
    return {disk.sample(rng).get("/a") for _ in range(DRAWS)}


def made(data: bytes) -> list:
    return [Named("/a", 1), Wrote(1, 0, data), Synced(1), SyncedFolder("/")]


def test_what_is_synced_stays():
    assert draws(Disk(), *made(OLD)) == {OLD}
    assert draws(Disk(), *made(OLD), Mark("nothing")) == {OLD}


def test_a_name_is_there_or_not_until_its_folder_is_synced():
    assert draws(Disk(), *made(OLD)[:3]) == {OLD, None}
    moved = [Named("/b", 2), Wrote(2, 0, NEW), Synced(2), SyncedFolder("/"), Renamed("/b", "/a", 2)]
    assert draws(Disk(), *made(OLD), *moved) == {OLD, NEW}
    assert draws(Disk(), *made(OLD), *moved, SyncedFolder("/")) == {NEW}


def test_of_what_is_not_synced_any_sector_and_any_size_may_be_missing():
    found = draws(Disk(), *made(b""), Wrote(1, 0, NEW))
    assert {b"", NEW, bytes(len(NEW)), NEW[:-1]} <= found
    assert NEW[:SECTOR] + bytes(SECTOR) + NEW[2 * SECTOR :] in found
    assert any(0 < len(data) % SECTOR < SECTOR - 1 for data in found)
    assert all(set(data[:SECTOR].rstrip(b"\0")) <= {ord("n")} for data in found)


def test_a_truncation_that_is_not_synced_may_not_have_happened():
    assert draws(Disk(), *made(OLD), Cut(1, SECTOR)) >= {OLD, OLD[:SECTOR]}
    assert draws(Disk(), *made(OLD), Cut(1, SECTOR), Synced(1)) == {OLD[:SECTOR]}


def test_what_a_failed_sync_did_not_write_a_later_one_does_not_write_either():
    failed = [*made(OLD), Wrote(1, len(OLD), NEW), Synced(1, failed=True), Synced(1)]
    ends = set()
    for seed in range(30):
        disk, rng = Disk(), Random(seed)
        for call in failed:
            disk.apply(call, rng)
        assert disk.seen()["/a"] == OLD + NEW
        (end,) = draws(disk)
        assert end is not None
        assert len(end) == len(OLD + NEW)
        ends.add(end)
    assert len(ends) > 2
    assert OLD + bytes(len(NEW)) in ends
    # Only what is written again is written.
    again = Wrote(1, 0, OLD + NEW)
    assert draws(disk, again, Synced(1)) == {OLD + NEW}
    assert len(OLD + NEW) < PAGE
