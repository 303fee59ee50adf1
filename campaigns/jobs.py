"""Jobs that are killed again and again until they are done, and jobs whose log is cut anywhere.

A leg is a real one (`orchestrator.run`, a model server with a real socket, shells and Python
children), in a process that is forked so that the time goes into killing it and not into
starting it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from random import Random
from typing import Any, NamedTuple

import orchestrator
import orchestrator.providers.http
import orchestrator.steps.llm
import orchestrator.steps.python
import orchestrator.steps.shell
import orchestrator.wiring  # all that a leg needs is loaded before it is forked
from orchestrator.jobs import Jobs
from orchestrator.petition import bring, new_request
from orchestrator.testing import ModelServer, serve
from orchestrator.wiring import JobResult

from .children import fork
from .job_story import HELPER, INNER, faults, inner, may_come_again, result, spec

KILLS_PER_JOB = 25
BY_PROGRESS = 0.7
LEG_MAX_S = 120.0
QUESTIONS_MAX = 100


class Told(NamedTuple):
    """What a worker found."""

    counts: Counter[str]
    wrong: list[str]


class Job:
    """One job in a folder of its own.

    Args:
        folder: for the spec, what it names, and `runs/`.
        seed: decides the spec.
        server: answers the model calls.
        steps: how many.
    """

    def __init__(self, folder: str, seed: int, server: ModelServer, steps: int) -> None:
        self._folder, self._server = folder, server
        os.makedirs(folder, exist_ok=True)
        self.tally = os.path.join(folder, "tally.txt")
        self._told = os.path.join(folder, "outputs.json")
        self._spec = os.path.join(folder, "job.json")
        for path, text in (
            (self.tally, ""),
            (self._spec, json.dumps(spec(seed, steps))),
            (os.path.join(folder, "helper.py"), HELPER),
            (os.path.join(folder, INNER), json.dumps(inner())),
        ):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

    @property
    def run_folder(self) -> str:
        """The folder of the one job."""
        return os.path.join(self._folder, "runs", _job_of(self._folder))

    @property
    def log_bytes(self) -> int:
        """The size of the job's log; 0 where there is none yet."""
        try:
            return os.path.getsize(os.path.join(self.run_folder, "events.jsonl"))
        except (OSError, ValueError):
            return 0

    def leg(self) -> None:
        """Run one leg to its end, in this process."""
        quiet = os.open(os.path.join(self._folder, "said.txt"), os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        ended, answer = self._run(""), ""
        for _ in range(QUESTIONS_MAX):
            kinds = {failure.kind for failure in ended.state.failures}
            if ended.status == "waiting":
                self._approve(ended)
            elif "interrupted" in kinds and not answer:  # what looks after it fails with it
                answer = "rerun"
            else:
                break
            ended = self._run(answer)
        if ended.status != "succeeded":
            raise SystemExit(f"the job {ended.status}: {ended.state.failures}")
        with open(self._told, "w", encoding="utf-8") as file:
            json.dump(ended.outputs, file)

    def _run(self, answer: str) -> JobResult:
        return orchestrator.run(
            self._spec,
            runs_dir=os.path.join(self._folder, "runs"),
            resume=True,
            on_interrupted=answer,
            inputs={"tally": self.tally, "marks": self._folder},
            environ={**os.environ, **self._server.environ()},
        )

    def _approve(self, ended: JobResult) -> None:
        """Say yes to what the job asks, as `orch approve` does."""
        jobs = Jobs(os.path.join(self._folder, "runs"))
        folder = jobs.find(ended.job_id)
        for name in list(ended.state.asking):
            asked = ended.state.steps[name].asked
            assert asked is not None
            request = new_request(kind="approve", step=name, key=asked.key, note="yes")
            bring(jobs, folder, request, lambda said: None)

    def whole_leg(self) -> str:
        """Run a leg that nobody disturbs, in a child; return what went wrong, if anything."""
        pid = fork(self.leg)
        code = _ended(pid, LEG_MAX_S)
        return "" if code == 0 else f"an undisturbed leg ended with {code}: {self.said}"

    @property
    def said(self) -> str:
        """The end of what legs printed."""
        with open(os.path.join(self._folder, "said.txt"), encoding="utf-8") as file:
            return file.read()[-600:]

    def result(self) -> str:
        """Return a hash of all that the job leaves for its user."""
        with open(self._told, encoding="utf-8") as file:
            return result(self.run_folder, json.load(file))

    def asked(self) -> Counter[str]:
        """Return how often the server was asked each step's prompt; calls that it took count."""
        prompts = (
            call.body["messages"][-1]["content"]
            for call in self._server.calls()
            if isinstance(call.body, dict) and call.body.get("messages")
        )
        return Counter(prompt.partition(":")[0] for prompt in prompts)


def _job_of(folder: str) -> str:
    """Return the one job; who is killed right after it has made a folder leaves that empty."""
    runs = os.path.join(folder, "runs")
    names = [name for name in os.listdir(runs) if name.startswith("job_")]
    (name,) = (n for n in names if os.path.isfile(os.path.join(runs, n, "events.jsonl")))
    return name


def _until_grown(job: Job, size: int, pid: int, limit_s: float) -> None:
    """Wait until a job's log is so large, or the child has ended, or it took too long."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until and job.log_bytes < size:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.001)


def _ended(pid: int, limit_s: float) -> int:
    """Wait for a child; one that takes longer is killed."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGALRM


def _undisturbed(folder: str, seed: int, server: ModelServer, steps: int) -> tuple[str, float]:
    """Return the result of the job that nobody disturbs, and the seconds it takes."""
    job = Job(folder, seed, server, steps)
    began = time.monotonic()
    if why := job.whole_leg():
        raise RuntimeError(why)
    return job.result(), time.monotonic() - began


def _kill_story(scratch: str, seed: int, server: ModelServer, steps: int, kills: int) -> Told:
    """Kill one job until it is done; return what was counted and what is wrong."""
    rng = Random(seed)
    counts: Counter[str] = Counter()
    wanted, takes_s = _undisturbed(os.path.join(scratch, "whole"), seed, server, steps)
    server.reset()
    job = Job(os.path.join(scratch, "killed"), seed, server, steps)
    code: int | None = None
    while counts["kills"] < kills and code is None:
        size = job.log_bytes
        pid = fork(job.leg)
        if rng.random() < BY_PROGRESS:  # at a moment when something has been recorded
            size += rng.choice((1, 500, 2_000, 5_000))
            _until_grown(job, size, pid, takes_s * 3)
            time.sleep(rng.uniform(0, 0.01))
        else:
            time.sleep(rng.uniform(0, takes_s * rng.choice((0.2, 0.5, 1.0))))
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            continue
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        counts["kills"] += 1
    if code is None:
        if why := job.whole_leg():
            return Told(counts, [why])
    elif code:
        return Told(counts, [f"a leg ended with {code}: {job.said}"])
    counts["jobs"] += 1
    wrong = faults(job.run_folder, job.tally, job.asked())
    if job.result() != wanted:
        wrong.append("its outputs or files are not those of the undisturbed job")
    with open(os.path.join(job.run_folder, "events.jsonl"), "rb") as file:
        text = file.read()
    counts["events"] += text.count(b"\n")
    counts["attempts cut off"] += text.count(b'"type":"step.interrupted"')
    counts["results taken over"] += text.count(b'"already succeeded"')
    counts["approvals"] += text.count(b'"type":"step.approved"')
    counts["questions about effects"] += text.count(b"must not happen twice")
    counts["failed attempts"] += text.count(b'"type":"step.retrying"')
    return Told(counts, wrong)


def _cut_story(scratch: str, seed: int, server: ModelServer, steps: int, stride: int) -> Told:
    """Cut one job's log at every event, and at every byte of some lines; resume each prefix."""
    folder, kept = os.path.join(scratch, "job"), os.path.join(scratch, "kept")
    whole = Job(folder, seed, server, steps)
    if why := whole.whole_leg():
        return Told(Counter(), [why])
    wanted = whole.result()
    os.rename(folder, kept)
    with open(os.path.join(kept, "runs", _job_of(kept), "events.jsonl"), "rb") as file:
        lines = file.read().splitlines(keepends=True)
    ends = [sum(map(len, lines[:count])) for count in range(1, len(lines) + 1)]
    last = range(ends[-2] + 1, ends[-1])
    cuts = [(end, "at an event") for end in ends] + [(at, "in the last line") for at in last]
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for at, where in cuts[::stride]:
        server.reset()
        shutil.copytree(kept, folder)  # to the same place: its path is an input
        job = Job(folder, seed, server, steps)
        log = os.path.join(job.run_folder, "events.jsonl")
        os.truncate(log, at)
        recorded = _succeeded(log)
        if why := job.whole_leg():
            wrong.append(f"cut at byte {at}: {why}")
        else:
            found = faults(job.run_folder, job.tally, job.asked())
            if again := recorded & _effects_of(job.tally):
                found.append(f"recorded, and run again: {sorted(again)}")
            if job.result() != wanted:
                found.append("other outputs or files than the whole job's")
            wrong += [f"cut at byte {at}: {why}" for why in found]
        counts[f"cut {where}"] += 1
        shutil.rmtree(folder)
    return Told(counts, wrong)


def _succeeded(log: str) -> set[str]:
    """Return the steps whose success stands in a log, by a reader of our own."""
    names = set()
    with open(log, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                event = json.loads(line)
                if event["type"] == "step.succeeded" and not may_come_again(event["step"]):
                    item = f"[{event['item']}]" if "item" in event else ""
                    names.add(event["step"] + item)
    return names


def _effects_of(tally: str) -> set[str]:
    with open(tally, encoding="utf-8") as file:
        return set(file.read().split())


def _work(task: tuple[str, int, int, int, str | None]) -> Told:
    how, seed, steps, number, folder = task
    story = _kill_story if how == "kill" else _cut_story
    with tempfile.TemporaryDirectory(dir=folder) as scratch, serve(delay_s=0.005) as server:
        try:
            counts, wrong = story(scratch, seed, server, steps, number)
        except Exception as error:  # noqa: BLE001 - it is told, and the campaign goes on
            return Told(Counter(), [f"seed {seed}: {type(error).__name__}: {error}"])
    return Told(counts, [f"seed {seed}: {why}" for why in wrong])


def _all(tasks: list[Any], workers: int) -> Told:
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with multiprocessing.get_context("spawn").Pool(min(workers, len(tasks))) as pool:
        for told in pool.imap_unordered(_work, tasks):
            counts += told.counts
            wrong += told.wrong
    return Told(counts, wrong)


def main_kill(kills: int, seed: int, workers: int, steps: int, folder: str | None) -> int:
    """Kill jobs so many times, each until it is done; return how often it was wrong."""
    print(f"jobs killed: seed {seed}, {steps} steps a job, {workers} processes")
    began = time.perf_counter()
    told = Told(Counter(), [])
    begun = 0
    # A job may be done before it was killed as often as it could be: then others follow.
    while (left := kills - told.counts["kills"]) > 0 and begun < kills and not told.wrong:
        count = -(-left // KILLS_PER_JOB)
        tasks = [
            ("kill", seed + number, steps, min(left, KILLS_PER_JOB), folder)
            for number in range(begun, begun + count)
        ]
        begun += count
        more = _all(tasks, workers)
        told = Told(told.counts + more.counts, told.wrong + more.wrong)
    _print(told, began, f"{told.counts['kills']:,} kills of {told.counts['jobs']:,} jobs")
    return len(told.wrong)


def main_cut(
    jobs: int, seed: int, workers: int, steps: int, stride: int, folder: str | None
) -> int:
    """Cut the logs of so many jobs, resume each prefix; return how often it was wrong."""
    print(f"jobs cut: seed {seed}, {steps} steps a job, every {stride}. cut, {workers} processes")
    began = time.perf_counter()
    tasks = [("cut", seed + number, steps, stride, folder) for number in range(jobs)]
    told = _all(tasks, workers)
    cuts = sum(count for name, count in told.counts.items() if name.startswith("cut "))
    _print(told, began, f"{cuts:,} cuts")
    return len(told.wrong)


def _print(told: Told, began: float, what: str) -> None:
    for name, count in sorted(told.counts.items()):
        print(f"{name:<24} {count:>10,}")
    print(f"{what}, {len(told.wrong)} wrong, in {time.perf_counter() - began:.0f} s")
    for why in told.wrong[:5]:
        print(f"WRONG: {why}")
