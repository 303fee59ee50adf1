import pytest
from given import CHAIN, job_started, started, succeeded

from eventlog import LogPoisoned, MemoryLog
from orchestrator import events as ev
from orchestrator.journal import Journal, line_fields
from orchestrator.state import JobState


def journal_on(log, **options):
    return Journal(log, JobState(job_id="j"), clock=lambda: 0, **options)


def types(log):
    return [type(r.event).__struct_config__.tag for r in log.read(ev.AnyJobEvent)][1:]


def test_what_is_staged_is_in_the_state_and_not_in_the_log():
    log = MemoryLog()
    journal = journal_on(log)
    journal.stage(job_started(CHAIN), started("a"))
    assert list(journal.state.running) == ["a"]
    assert types(log) == []
    journal.commit()
    assert types(log) == ["job.started", "step.started"]


def test_the_state_names_the_last_line_of_the_log():
    log = MemoryLog()
    journal = journal_on(log)
    journal.record(job_started(CHAIN), started("a"))
    assert (journal.state.seq, journal.state.sum) == (2, log.head)


def test_an_empty_commit_writes_nothing():
    log = MemoryLog()
    journal_on(log).commit()
    assert log.next_seq == 1


def test_listeners_hear_of_events_when_they_are_durable_and_by_their_seqs():
    log = MemoryLog()
    heard = []
    journal = journal_on(log, listen=lambda record: heard.append((record.seq, log.next_seq)))
    journal.stage(job_started(CHAIN))
    assert heard == []
    journal.stage(started("a"))
    journal.commit()
    assert heard == [(1, 3), (2, 3)]


def test_a_result_has_the_seq_of_its_line_although_another_writer_came_between():
    log = MemoryLog()
    heard = []
    journal = journal_on(log, listen=lambda record: heard.append(record.seq))
    journal.record(job_started(CHAIN), started("a"))
    journal.stage(succeeded("a"))
    log.append({"type": "my.note"}, {"type": "my.note"})
    journal.stage(started("b"))
    journal.commit()
    seqs = [r.seq for r in log.read(ev.AnyJobEvent) if isinstance(r.event, ev.StepSucceeded)]
    assert [journal.state.steps["a"].success.seq] == seqs == [5]
    assert journal.state.seq == 6
    assert heard == [1, 2, 5, 6]


def test_a_commit_that_fails_says_so():
    log = MemoryLog()
    journal = journal_on(log)
    journal.stage(job_started(CHAIN))
    log.close()
    with pytest.raises(LogPoisoned):
        journal.commit()


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (ev.StepFailed(step="a", data=ev.StepFault()), "ERROR"),
        (ev.JobFailed(data=ev.Ended()), "ERROR"),
        (ev.StepRetrying(step="a", data=ev.StepFault()), "WARN"),
        (ev.StepInterrupted(step="a", data=ev.Note()), "WARN"),
        (ev.StepInvalidated(step="a", data=ev.Note()), "WARN"),
        (ev.LLMResponse(step="a", data=ev.Answered(success=False)), "WARN"),
        (ev.LLMResponse(step="a", data=ev.Answered(success=True)), "INFO"),
        (ev.LLMResponse(step="a", data=ev.Answered()), "INFO"),
        (ev.StepSucceeded(step="a", data=ev.StepEnd()), "INFO"),
        ({"type": "step.failed"}, "ERROR"),
        ({"type": "anything"}, "INFO"),
    ],
)
def test_each_line_has_the_level_of_its_event(event, level):
    fields = line_fields("j")
    for _ in range(2):  # the second time from memory
        assert fields(event) == {"level": level, "job_id": "j"}
