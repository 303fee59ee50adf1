"""inbox/: a request is recorded once, whatever dies when; what is none is put aside."""

import os

import anyio
import anyio.lowlevel
import msgspec
import pytest
from given import job_started, started, succeeded
from rig import Rig, Script, TestLog, state_of, takes

from orchestrator import events as ev
from orchestrator.answers import Request
from orchestrator.decisions import Decision, HandMade, Shown
from orchestrator.inbox import MAX_REQUESTS, Inbox, new_id, settle
from orchestrator.journal import Journal
from orchestrator.state import JobStatus
from orchestrator.steps.base import Prepared

STEPS = {"draft": (), "review": ("draft",)}


class Told(list):
    def __call__(self, text):
        self.append(text)


@pytest.fixture
def warned():
    return Told()


@pytest.fixture
def inbox(tmp_path, warned):
    return Inbox(str(tmp_path / "inbox"), warned)


def request(number=1, kind="cancel", **members):
    return Request(id=new_id(number, b"\0\0\0\1"), kind=kind, by="ann", **members)


def kept(output, encoded):
    return output


def log_of(*events):
    log = TestLog()
    log.append(*events)
    return log


def asking_log():
    shown = ev.StepWaiting(step="review", data=Shown(key="k", message="?"))
    end = ev.JobWaiting(data=ev.Ended(duration_s=1.0))
    return log_of(job_started(STEPS), started("draft"), succeeded("draft"), shown, end)


def settled(inbox, log):
    journal = Journal(log, state_of(log), clock=lambda: 0, monotonic=lambda: 0.0)
    settle(inbox, journal, kept)
    return journal.state


def test_requests_come_in_the_order_they_were_made(inbox):
    for number in (3, 1, 2):
        inbox.drop(request(number))
    assert [r.id[:20].lstrip("0") for r in inbox.pending()] == ["1", "2", "3"]


def test_a_request_survives_its_file(inbox):
    asked = request(kind="set", step="a", note="why", output={"text": "é", "n": [1.5, None]})
    inbox.drop(asked)
    (found,) = inbox.pending()
    assert msgspec.structs.replace(found, schema_version=0) == asked
    assert inbox.waits(asked)
    inbox.done(asked)
    assert not inbox.waits(asked)
    assert inbox.pending() == []


def test_what_was_asked_while_nobody_held_the_job_is_recorded_before_the_next_leg(inbox):
    log = asking_log()
    inbox.drop(request(kind="approve", step="review", key="k"))
    state = settled(inbox, log)
    assert state.steps["review"].success is not None
    assert inbox.pending() == []


@pytest.mark.parametrize("dies", ["before the commit", "before the file is taken away"])
def test_a_request_is_recorded_once_whenever_its_recorder_dies(inbox, dies):
    log = asking_log()
    inbox.drop(request(kind="approve", step="review", key="k"))

    class Died(BaseException):
        pass

    class Dying(Inbox):
        def done(self, asked):
            raise Died

    class Mute:
        next_seq = 99

        def append(self, *events, time_ns=None):
            raise Died

    early = dies == "before the commit"
    recorder = inbox if early else Dying(inbox._folder, inbox._warn)
    journal = Journal(Mute() if early else log, state_of(log), clock=lambda: 0)
    with pytest.raises(Died):
        settle(recorder, journal, kept)
    recorded = [e for e in log.events() if isinstance(e, ev.StepApproved)]
    assert len(recorded) == (not early)
    settled(inbox, log)
    settled(inbox, log)
    assert len([e for e in log.events() if isinstance(e, ev.StepApproved)]) == 1
    assert inbox.pending() == []


def test_a_request_that_does_not_fit_is_taken_away_and_the_reason_left(inbox, warned):
    asked = request(kind="approve", step="review", key="another")
    inbox.drop(asked)
    log = asking_log()
    settled(inbox, log)
    assert not log.events(ev.StepApproved)
    assert not inbox.waits(asked)
    assert "has changed since" in inbox.refusal(asked)
    assert inbox.refusal(asked) == ""
    assert "refused" in warned[0]


def named(number):
    return f"{number:020d}-00000001.json"


def test_what_is_no_request_is_put_aside_and_told_once(inbox, warned, tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "note.txt").write_text("hello")
    (folder / named(1)).write_text("{not json")
    (folder / named(2)).write_bytes(msgspec.json.encode(request(3)))
    (folder / named(4)).write_text('{"id":"x","kind":"explode","by":"ann"}')
    (folder / named(5)).symlink_to(folder / "note.txt")
    (folder / named(6)).mkdir()
    os.mkfifo(folder / named(7))
    (folder / named(8)).touch()
    with open(folder / named(8), "wb") as file:
        file.truncate((64 << 20) + 1)
    good = request(9)
    inbox.drop(good)
    for name in os.listdir(folder):
        if not (folder / name).is_symlink():
            os.chmod(folder / name, 0o700 if (folder / name).is_dir() else 0o600)
    assert [r.id for r in inbox.pending()] == [good.id]
    assert len(warned) == 8
    assert [r.id for r in inbox.pending()] == [good.id]
    assert len(warned) == 8
    aside = sorted(name for name in os.listdir(folder) if name.endswith(".bad"))
    assert len(aside) == 8


def test_a_request_that_others_may_write_is_put_aside(inbox, warned):
    asked = request()
    inbox.drop(asked)
    os.chmod(inbox._path(asked.id), 0o622)
    assert inbox.pending() == []
    assert "others may write it" in warned[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_request_of_another_user_is_put_aside(inbox, warned):
    asked = request()
    inbox.drop(asked)
    os.chown(inbox._path(asked.id), 12345, 12345)
    assert inbox.pending() == []
    assert "another user" in warned[0]


def test_one_look_takes_so_many_and_the_next_the_rest(inbox):
    for number in range(MAX_REQUESTS + 5):
        inbox.drop(request(number))
    first = inbox.pending()
    assert len(first) == MAX_REQUESTS
    for asked in first:
        inbox.done(asked)
    assert len(inbox.pending()) == 5


def test_a_file_that_is_being_written_is_left_alone(inbox, warned, tmp_path):
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / f"{named(1)}.tmp-1-aa").write_text("{")
    assert inbox.pending() == []
    assert warned == []


class Asks(Script):
    """A script whose step `review` asks a person."""

    def prepare(self, name, state):
        if name == "review":
            return Prepared(parts={"message": "Publish?"}, asks="Publish?")
        return super().prepare(name, state)


ASKING = {"draft": (), "review": ("draft",), "publish": ("review",), "slow": ()}


def test_a_running_job_goes_on_when_it_is_approved():
    told = []

    async def approve(rig):
        await anyio.sleep(1)
        key = rig.runner._journal.state.steps["review"].asked.key
        rig.runner.ask(request(kind="approve", step="review", key=key), told.append)

    script = Asks({"slow": takes(5)})
    rig = Rig(ASKING, script, meanwhile=approve).run()
    assert rig.state.status is JobStatus.SUCCEEDED
    assert told == [""]
    assert script.began_at["publish"] == 1
    assert rig.took_s == 5


def test_a_job_that_only_waits_ends_its_leg_and_asks_again_in_the_next():
    script = Asks({"slow": takes(5)})
    rig = Rig(ASKING, script).run()
    assert rig.log.told()[-1] == "job.waiting"
    assert rig.state.steps["review"].asked.message == "Publish?"
    again = Rig(ASKING, script, log=rig.log).run()
    assert again.state.status is JobStatus.WAITING
    assert len(rig.log.events(ev.StepWaiting)) == 2
    assert script.calls["slow"] == 1


def test_an_approval_lapses_when_what_was_shown_changes():
    script = Asks()
    rig = Rig(ASKING, script).run()
    key = rig.state.steps["review"].asked.key
    rig.log.append(ev.StepApproved(step="review", data=Decision(by="ann", key=key)))
    held = Rig(ASKING, script, log=rig.log).run()
    assert held.state.status is JobStatus.SUCCEEDED
    changed = Asks({"draft": "another"}, parts={"draft": "another"})
    lapsed = Rig(ASKING, changed, log=rig.log).run()
    assert lapsed.state.status is JobStatus.WAITING
    assert lapsed.state.steps["review"].asked.key != key
    assert changed.calls["publish"] == 0


def test_a_cancellation_is_recorded_with_who_asked_and_told_when_it_is_durable():
    told = []

    async def cancel(rig):
        await anyio.sleep(1)
        rig.runner.ask(request(7), lambda why: told.append((why, rig.log.told()[-1])))

    rig = Rig({"a": (), "b": ("a",)}, Script({"a": takes(50)}), meanwhile=cancel).run()
    (end,) = rig.log.events(ev.JobCancelled)
    assert (end.data.by, end.data.reason) == ("ann", "cancelled by ann")
    assert end.data.request == request(7).id
    assert told == [("", "job.cancelled")]
    assert rig.took_s == 1


def test_a_request_that_stands_in_the_log_already_is_not_recorded_again():
    told = []
    log = TestLog()
    Rig({"a": ()}, Script(), log=log).run()
    made = HandMade(by="ann", reason="x", output=1, request=request(3).id)
    log.append(ev.StepSet(step="a", data=made))

    async def ask(rig):
        await anyio.lowlevel.checkpoint()
        rig.runner.ask(request(3, kind="set", step="b", note="x", output=2), told.append)

    rig = Rig({"a": (), "b": ()}, Script({"b": takes(3)}), log=log, meanwhile=ask).run()
    assert told == [""]
    assert len(log.events(ev.StepSet)) == 1
    assert rig.script.calls == {"b": 1}  # the result by hand stands, whatever the key
