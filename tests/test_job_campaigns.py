"""Whole jobs in short: killed until they are done, and cut anywhere; `campaigns` has it in full."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

pytest.importorskip("campaigns", reason="the campaigns are not installed with us")

from campaigns import job_story

TOP = os.path.dirname(os.path.dirname(job_story.__file__))
SEED = os.environ.get("ORCH_TEST_SEED")


def campaign(*arguments):
    """Run a campaign as a command; return what it printed, its seed included."""
    seed = ["--seed", SEED] if SEED else []
    done = subprocess.run(
        [sys.executable, "-m", "campaigns", *arguments, "--workers", "1", *seed],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed" in done.stdout
    return done.stdout


def test_a_job_that_is_killed_until_it_is_done_ends_like_one_that_nobody_disturbs(tmp_path):
    told = campaign("job-kill", "--kills", "6", "--steps", "9", "--folder", str(tmp_path))
    assert ", 0 wrong, in" in told


def test_a_job_whose_log_is_cut_anywhere_goes_on_to_the_same_end(tmp_path):
    told = campaign(
        "job-cut", "--jobs", "1", "--steps", "5", "--stride", "45", "--folder", str(tmp_path)
    )
    assert ", 0 wrong, in" in told
    assert "cut at an event" in told


def judged(tmp_path, *events, effects=("a",), asked=None):
    lines = [{"seq": seq, **event} for seq, event in enumerate(events)]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "tally.txt").write_text("".join(f"{name}\n" for name in effects))
    return job_story.faults(str(tmp_path), str(tmp_path / "tally.txt"), Counter(asked or {}))


def step(what, name="a", **data):
    return {"type": f"step.{what}", "step": name, "data": data}


END = {"type": "job.succeeded", "data": {}}
ASKED = {"type": "llm.request", "step": "a", "data": {"cache_key": "k"}}
ANSWERED = {"type": "llm.response", "step": "a", "data": {"cache_key": "k", "success": True}}
GOOD = (step("started"), step("succeeded"), END)
LEG = {"type": "job.resumed", "data": {}}
LAST_AGAIN = (step("started", "f"), step("succeeded", "f"), END)
ONCE_CUT = (step("started", "o"), step("interrupted", "o"))


def test_the_judge_has_nothing_against_a_good_log(tmp_path):
    assert judged(tmp_path, *GOOD) == []
    cut = (step("started"), step("interrupted"), *GOOD)
    assert judged(tmp_path, *cut, effects=("a", "a")) == []
    tried = (step("started"), step("retrying"), *GOOD)
    assert judged(tmp_path, *tried, effects=("a", "a")) == []
    assert judged(tmp_path, *LAST_AGAIN[:2], LEG, *GOOD[:2], *LAST_AGAIN, effects="aff") == []
    told = (*ONCE_CUT, step("failed", "o", kind="interrupted"))
    assert judged(tmp_path, *told, *ONCE_CUT[:1], step("succeeded", "o"), END, effects="oo") == []
    looked = (step("started", "k", key="1"), step("succeeded", "k", key="1"))
    more = (step("started", "k", key="2"), step("succeeded", "k", key="2"), END)
    assert judged(tmp_path, *looked, LEG, *more, effects="kk") == []
    assert judged(tmp_path, *looked, LEG, *looked, END, effects="kk") != []
    other = (*ONCE_CUT, step("failed", "o2", kind="interrupted"), LEG)
    assert judged(tmp_path, *other, *ONCE_CUT[:1], step("succeeded", "o"), END, effects="oo") == []
    asked = (step("waiting"), step("approved"), END)
    assert judged(tmp_path, *asked, effects=()) == []


@pytest.mark.parametrize(
    ("events", "more", "says"),
    [
        ((*GOOD[:2], step("started"), step("succeeded"), END), {}, "run again after its success"),
        ((step("started"), *GOOD), {}, "with an attempt open"),
        ((step("started"), END), {}, "without an end"),
        (GOOD[:2], {}, "the last line is step.succeeded"),
        (GOOD, {"effects": ("a", "a")}, "2 effects in 1 attempts"),
        (GOOD, {"effects": ("a", "a")}, "cut off 0 times"),
        ((*LAST_AGAIN[:2], LEG, *LAST_AGAIN), {"effects": "ff"}, "run again after its success"),
        ((*ONCE_CUT, step("started", "o"), END), {"effects": "o"}, "without a question"),
        ((step("approved"), step("waiting"), END), {"effects": ()}, "asked about again"),
        ((ASKED, ANSWERED, ASKED, *GOOD), {}, "asked again what was answered"),
        (GOOD, {"asked": {"a": 1}}, "asked 1 times of the server, 0 of the log"),
    ],
)
def test_the_judge_sees_each_kind_of_wrong(tmp_path, events, more, says):
    assert any(says in why for why in judged(tmp_path, *events, **more))
