"""Power cuts and kills while files are stored, in short: `python -m campaigns crash-model`."""

from __future__ import annotations

import pytest

pytest.importorskip("campaigns", reason="the campaigns are not installed with us")

from campaigns import mutants, stored, stored_mutants
from campaigns.tally import Tally


def test_no_power_cut_leaves_a_file_that_is_neither_old_nor_new(tmp_path):
    tally = Tally()
    for seed in range(60):
        stored.run(seed, 20, tally, str(tmp_path))
    assert tally.failures == []
    modes = ("overwrite", "create_new", "append")
    assert all(tally.states[f"FileStore {mode}"] > 100 for mode in modes)


@pytest.mark.parametrize("mutant", stored_mutants.STORED, ids=lambda one: one.name)
def test_a_planted_mistake_is_caught(mutant, tmp_path):
    assert mutants.hunt(mutant, 0, 30_000, str(tmp_path)).caught
