"""The other campaigns in short: real processes that are killed, and a real file system."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from random import Random

import pytest

pytest.importorskip("campaigns", reason="the campaigns are not installed with us")

from campaigns import chain, crowd, fuzz, power_cut, rot
from campaigns.children import Ack

from eventlog import Follower, Log, codec, follower, recover
from eventlog.fs import Files

SEED = os.environ.get("EVENTLOG_SEED")


def campaign(*arguments: str) -> str:
    """Run a campaign as a command; return what it printed, its seed included."""
    seed = ["--seed", SEED] if SEED else []
    done = subprocess.run(
        [sys.executable, "-m", "campaigns", *arguments, *seed],
        cwd=os.path.dirname(os.path.dirname(chain.__file__)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed" in done.stdout
    return done.stdout


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path):
    told = campaign("kill", "--kills", "20", "--workers", "1", "--folder", str(tmp_path))
    assert re.search(r"^20 kills, 0 of [1-9][0-9,]* acknowledged events lost", told, re.MULTILINE)


def test_a_crowd_makes_one_log_and_every_reader_reads_it_once(tmp_path):
    told = campaign("crowd", "--kills", "20", "--contenders", "4", "--folder", str(tmp_path))
    assert re.search(r" 0 of [1-9][0-9,]* acknowledged events lost, 0 wrong", told)


def no_fence_and_no_lock(patch):
    patch.setattr(Files, "lock", lambda *_, **__: True)
    patch.setattr(Log, "_fence", lambda _: None)


def acknowledged_early(patch):
    append = Log.append
    patch.setattr(
        Log,
        "append",
        lambda log, *events, **more: (
            range(log.next_seq, log.next_seq + 5)
            if len(events) == 5
            else append(log, *events, **more)
        ),
    )


def partial_lines(patch):
    whole = follower.blocks

    def part(source, start=0):
        for offset, block in whole(source, start):
            yield offset, block if block.endswith(b"\n") else block + b"\n"

    patch.setattr(follower, "blocks", part)
    patch.setattr(Files, "write", lambda _, fd, data: os.write(fd, data[:40]))  # so there are some


def a_line_missed(patch):
    poll = Follower.poll
    patch.setattr(Follower, "poll", lambda one: (line for line in poll(one) if line.seq % 50 != 49))


@pytest.mark.parametrize(
    "broken", [no_fence_and_no_lock, acknowledged_early, partial_lines, a_line_missed]
)
def test_a_crowd_sees_what_is_broken(broken, tmp_path, monkeypatch):
    broken(monkeypatch)
    wrong: list[str] = []
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        one = crowd.Crowd(str(folder), seed, 4, 2)
        try:
            wrong = one.run(25)
        finally:
            one.close()
        if wrong:
            break
    assert wrong


def test_a_power_cut_loses_nothing_that_was_acknowledged():
    if reason := power_cut.missing():
        pytest.skip(f"the power can't be cut here: {reason}")
    told = campaign("power-cut", "--trials", "4", "--writers", "eventlog group", "json + flush")
    rows = [line.split() for line in told.splitlines()]
    (ours,) = (row for row in rows if row[:2] == ["eventlog", "group"])
    trials, with_loss, _, lost, damaged = (int(cell.replace(",", "")) for cell in ours[2:])
    assert (trials, with_loss, lost, damaged) == (4, 0, 0, 0)


def test_whatever_rots_in_a_log_is_seen_in_its_place_or_does_no_harm():
    data = rot.make(900, 1)
    some = itertools.islice(rot.flips(data, 0, len(data)), 0, None, 5)
    changes = [*rot.moves(data, Random(1)), *rot.cuts(data, 0, len(data)), *some]
    assert {change.kind for change in changes} >= {"lines swapped", "line doubled", "line moved"}
    for change in changes:
        assert rot.judge(data, change) == "", change
    for change in changes[:: rot.STRIDE]:
        assert rot.refused(change) == ""


def test_rot_that_is_not_seen_is_told(monkeypatch):
    data = rot.make(900, 1)
    at = data.rindex(b"noted")
    blind = rot.Change("bit flipped", data[:at] + b"n" + data[at + 1 :], 0)
    assert "whole" in rot.judge(data, blind)
    monkeypatch.setattr(recover, "follows", lambda line, _seq, _prev: codec.said_sum(line))
    monkeypatch.setattr(recover, "follow_all", lambda *_: None)
    flipped = rot.Change("bit flipped", data[:at] + b"m" + data[at + 1 :], 0)
    assert rot.judge(data, flipped) == "a changed line was accepted"


def test_fuzzing_finds_nothing_in_the_logs_that_it_begins_with():
    for target in fuzz.TARGETS.values():
        for seed in fuzz.seeds():
            target(seed)


def test_the_independent_reader_sees_each_kind_of_wrong():
    def line(seq: int, prev: str, kind: str = "x", data: str = "{}") -> bytes:
        body = f'{{"seq":{seq},"type":"{kind}","data":{data},"prev":"{prev}"'
        return f'{body},"sum":"{chain.sum_of(body.encode())}"}}\n'.encode()

    def total(one: bytes) -> str:
        return one[-19:-3].decode()

    first = line(0, chain.GENESIS, "log.opened", '{"epoch":1}')
    second = line(1, total(first), data='{"who":7,"n":3}')
    third = line(2, total(second), "log.opened", '{"epoch":2}')
    log = [first, second, third]
    assert chain.check(log) == ""
    assert chain.lines_of(b"".join(log) + b"rest") == [*log, b"rest"]
    assert "line 1 is not sealed" in chain.check([first, b'{"type":"x"}\n'])
    assert "line 2 is not sealed" in chain.check([first, second, third[:-1]])
    assert "in its place" in chain.check([first, second.replace(b'"n":3', b'"n":4')])
    assert "in its place" in chain.check([first, line(2, total(first))])
    assert "in its place" in chain.check([first, line(1, chain.GENESIS)])
    again = line(2, total(second), "log.opened", '{"epoch":1}')
    assert "epoch 1 after 1" in chain.check([first, second, again])
    told = [Ack(1, 7, 3), Ack(1, 7, 4), Ack(9, 7, 3)]
    assert chain.missing(log, told) == told[1:]
