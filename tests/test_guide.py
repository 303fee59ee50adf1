"""The migration guide of version 2.1, block by block: what it shows is what its reader gets.

Each test holds the commands of one block, typed in a fresh folder with the installed scripts.
"""

import importlib.metadata
import json
import re

import pytest

from userkit import User, events, needs_bash, needs_jq, outputs, types

pytestmark = needs_bash

DAG_OF_FOUR = """
    import asyncio
    from orchestrator import DAG, DAGNode, FileStore, read_events, run_dag

    calls = []

    def run_architect(context, dep_results):
        calls.append("architect")
        return {"design": context["task"]}

    async def run_builder(context, dep_results):
        calls.append("builder")
        return "code of " + dep_results["architect"].output["design"]

    def run_docs(context, dep_results):
        calls.append("docs")
        return "text of " + dep_results["architect"].output["design"]

    async def run_qa(context, dep_results):
        calls.append("qa")
        if context.get("fails"):
            raise RuntimeError("not good enough")
        return [dep_results["builder"].output, dep_results["docs"].output]

    dag = DAG()
    dag.add_node(DAGNode(id="architect", fn=run_architect, needs=[]))
    dag.add_node(DAGNode(id="builder", fn=run_builder, needs=["architect"]))
    dag.add_node(DAGNode(id="docs", fn=run_docs, needs=["architect"]))
    dag.add_node(DAGNode(id="qa", fn=run_qa, needs=["builder", "docs"]))

    job_id, events = "job_123", "runs/job_123/events.jsonl"
"""

JOB_OF_FOUR = """
    project: four
    steps:
      one: {run: "echo one >> ran.txt; echo 1"}
      two: {needs: [one], run: "echo two >> ran.txt; echo 2"}
      three: {needs: [two], run: "echo three >> ran.txt; cat cause.txt"}
      four: {needs: [three], run: "echo four >> ran.txt; echo 4"}
"""


@pytest.fixture
def user(tmp_path):
    return User(tmp_path)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A folder in which the tiny example ran twice, the second time as the guide's job_123."""
    user = User(tmp_path_factory.mktemp("walked"))
    user.examples()
    user.sh("orchestrator run --spec examples/tiny_spec.yaml")
    user.job().rename(user.home / "runs" / "job_000")
    user.sh("orchestrator run --spec examples/tiny_spec.yaml")
    user.jobs()[-1].rename(user.home / "runs" / "job_123")
    return user


# --- breaking changes ------------------------------------------------------------------------


def test_safe_write_returns_a_dict(user):
    shown = user.python("""
        import hashlib, pathlib
        from orchestrator import FileStore
        filestore, content = FileStore("out"), "Grüße\\n"

        result = filestore.safe_write("file.txt", content)
        path = result["path"]
        sha256 = result["sha256"]

        assert isinstance(result, dict)
        assert path == pathlib.Path("out/file.txt").absolute(), path
        assert path.read_text(encoding="utf-8") == content
        assert sha256 == hashlib.sha256(content.encode()).hexdigest()
        print(dict(result.items()) | {"path": path.name, "sha256": "..."})
    """)
    assert shown.out == (
        "{'path': 'file.txt', 'sha256': '...', 'size_bytes': 8, 'wrote': True,"
        " 'reason': 'created'}\n"
    )


def test_dict_access_in_place_of_the_tuple(user):
    shown = user.python("""
        from orchestrator import FileStore
        filestore, content = FileStore("out"), "abc"
        for _ in range(2):
            result = filestore.safe_write("file.txt", content)
            if result["wrote"]:
                print(f"Wrote {result['size_bytes']} bytes to {result['path']}")
        print(result["reason"])
        print(filestore.safe_write("file.txt", "d", mode="append")["reason"])
        print(filestore.safe_write("file.txt", "e", mode="overwrite")["reason"])
    """)
    path = user.home / "out" / "file.txt"
    assert shown.out == f"Wrote 3 bytes to {path}\nnochange\nappended\noverwritten\n"


def test_the_three_values_by_name_in_one_line(user):
    user.python("""
        from orchestrator import FileStore
        filestore, content = FileStore("out"), "abc"
        result = filestore.safe_write("file.txt", content)
        path, sha256, size = result["path"], result["sha256"], result["size_bytes"]
        assert (path.name, len(sha256), size) == ("file.txt", 64, 3)
    """)


def test_events_carry_ts_with_a_z(walked):
    first, *_ = events(walked.home / "runs" / "job_123", "job.started")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["ts"])
    assert "timestamp" not in first


@pytest.mark.parametrize(
    "line",
    [
        '{"timestamp": "2025-10-22T10:00:00", "type": "job.started", "job_id": "old"}',
        '{"ts": "2025-10-22T10:00:00Z", "type": "job.started", "spec": "job.yaml"}',
        '{"ts": "2025-10-22T10:00:00Z", "type": "job.started", "data": {}}',
    ],
    ids=["v1", "v2.0", "v2.1"],
)
def test_read_events_gives_ts_for_every_version(user, line):
    user.write("events.jsonl", line + "\n")
    shown = user.python("""
        from orchestrator import read_events
        events_path = "events.jsonl"
        for event in read_events(events_path):
            timestamp = event["ts"]
            print(timestamp, event["type"])
    """)
    assert shown.out == "2025-10-22T10:00:00Z job.started\n"


def test_a_dag_is_declared_and_run(user):
    shown = user.python(
        DAG_OF_FOUR
        + """
    async def main():
        context = {"task": "bees"}
        results = await run_dag(dag, job_id, context, events)
        for name, result in results.items():
            print(name, result.status, result.output, result.duration_s >= 0)
        print(calls[0], sorted(calls[1:3]), calls[3])
        print(len([e for e in read_events(events) if e["type"] == "step.succeeded"]))

    asyncio.run(main())
    """
    )
    assert shown.out.splitlines() == [
        "architect succeeded {'design': 'bees'} True",
        "builder succeeded code of bees True",
        "docs succeeded text of bees True",
        "qa succeeded ['code of bees', 'text of bees'] True",
        "architect ['builder', 'docs'] qa",
        "4",
    ]


# --- caching ---------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["path", "dict", "Spec"])
def test_a_second_run_from_python_takes_the_answers_from_the_cache(user, given):
    user.examples()
    path = "examples/tiny_spec.yaml"
    specs = {
        "path": repr(path),
        "dict": "{'project': 'tiny', 'task_description': 'Count words', 'provider': 'offline'}",
        "Spec": f"orchestrator.wiring.read_spec({path!r})",
    }
    user.python(f"""
        import orchestrator, orchestrator.wiring
        spec = {specs[given]}
        first = orchestrator.run(spec)
        second = orchestrator.run(spec)
        assert first.status == second.status == "succeeded"
        assert first.steps == second.steps and first.steps["qa"]["text"]
        assert first.job_id != second.job_id
    """)
    first, second = user.jobs()
    assert [len(events(first, kind)) for kind in ("cache.miss", "cache.hit")] == [4, 0]
    assert [len(events(second, kind)) for kind in ("cache.miss", "cache.hit")] == [0, 4]


def test_the_async_twin_runs_inside_a_loop(user):
    user.examples()
    user.python("""
        import asyncio, orchestrator
        result = asyncio.run(orchestrator.run_async("examples/tiny_spec.yaml"))
        assert result.ok and result.exit_code == 0
    """)


def test_hits_and_misses_are_counted_with_grep(walked):
    shown = walked.sh("""
        grep "cache.hit" runs/job_123/events.jsonl | wc -l
        grep "cache.miss" runs/job_123/events.jsonl | wc -l
    """)
    assert shown.out.split() == ["4", "0"]
    assert walked.sh("""grep -c '"type":"cache.miss"' runs/job_000/events.jsonl""").out == "4\n"


def test_a_cleared_cache_is_missed_again(user):
    user.examples()
    user.sh("orchestrator run --spec examples/tiny_spec.yaml")
    user.sh("rm -rf runs/job_*/.cache/")
    user.sh("orchestrator run --spec examples/tiny_spec.yaml")
    again = user.jobs()[-1]
    reasons = {event["data"]["reason"] for event in events(again, "cache.miss")}
    assert len(events(again, "cache.miss")) == 4
    assert reasons == {"cleared"}
    assert len(list((again / ".cache").glob("*.json"))) == 4


def test_clearing_one_of_two_folders_forgets_nothing(user):
    user.examples()
    for _ in range(2):
        user.sh("orchestrator run --spec examples/tiny_spec.yaml")
    user.sh(f"rm -rf runs/{user.jobs()[0].name}/.cache/")
    user.sh("orchestrator run --spec examples/tiny_spec.yaml")
    assert len(events(user.jobs()[-1], "cache.hit")) == 4


# --- resume ----------------------------------------------------------------------------------


def test_resume_from_failure(user):
    user.write("job.yaml", JOB_OF_FOUR)
    failed = user.sh("orchestrator run --spec job.yaml", code=1)
    job = user.job()
    assert failed.out == f"Job: {job.name}, Status: failed\n"
    assert "orch run job.yaml --resume" in failed.err

    user.write("cause.txt", "3\n")
    done = user.sh("orchestrator run --spec job.yaml --resume")
    assert done.out == f"Job: {job.name}, Status: succeeded\n"
    assert user.job() == job
    assert (user.home / "ran.txt").read_text().split() == ["one", "two", "three", "three", "four"]
    assert [e["step"] for e in events(job, "step.skipped") if e["data"].get("from_step")] == [
        "one",
        "two",
    ]
    assert user.orch("show", "latest", "three", "--json").json["output"]["text"] == "3"


def test_resume_from_python_reads_the_log_and_skips(user):
    shown = user.python(
        DAG_OF_FOUR
        + """
    async def main():
        context = {"task": "bees", "fails": True}
        results = await run_dag(dag, job_id, context, events, resume=False)
        print({name: result.status for name, result in results.items()})
        assert "not good enough" in results["qa"].error
        calls.clear()
        context = {"task": "bees"}
        results = await run_dag(dag, job_id, context, events, resume=True)
        print(calls, *(result.status for result in results.values()))
        print(results["qa"].output)

    asyncio.run(main())
    """
    )
    assert shown.out.splitlines() == [
        "{'architect': 'succeeded', 'builder': 'succeeded', 'docs': 'succeeded', 'qa': 'failed'}",
        "['qa'] skipped skipped skipped succeeded",
        "['code of bees', 'text of bees']",
    ]


# --- events ----------------------------------------------------------------------------------


def test_the_new_event_types_have_the_fields_that_the_guide_shows(walked):
    first, second = walked.home / "runs" / "job_000", walked.home / "runs" / "job_123"
    for folder, kind, step, field in (
        (first, "llm.request", "architect", "provider"),
        (first, "llm.response", "architect", "duration_s"),
        (first, "file.written", "builder", "wrote"),
        (first, "file.written", "builder", "reason"),
        (second, "cache.hit", "architect", "cache_key"),
        (first, "cache.miss", "builder", "cache_key"),
    ):
        (event,) = events(folder, kind, step)
        assert field in event["data"], (kind, field)


@needs_jq
def test_jq_finds_all_llm_calls(walked):
    shown = walked.sh("""jq 'select(.type=="llm.response")' runs/job_000/events.jsonl""")
    assert shown.out.count('"llm.response"') == 4


@needs_jq
def test_awk_adds_up_the_llm_time(walked):
    walked.sh("cp runs/job_000/events.jsonl events.jsonl")
    shown = walked.sh(r"""
        jq -r 'select(.type=="llm.response") | .data.duration_s' events.jsonl | \
          awk '{sum+=$1} END {print sum}'
    """)
    calls = events(walked.home / "runs" / "job_000", "llm.response")
    assert float(shown.out) == pytest.approx(sum(call["data"]["duration_s"] for call in calls))


def test_grep_counts_hits_in_a_log(walked):
    walked.sh("cp runs/job_123/events.jsonl events.jsonl")
    assert walked.sh('grep -c "cache.hit" events.jsonl').out == "4\n"


def test_the_three_questions_as_named_queries(walked):
    rate = walked.orch("events", "query", "cache-hit-rate", "runs/job_123", "--json").json
    assert rate["rows"][0]["hits"] == 4
    time = walked.orch("events", "query", "llm-time", "runs/job_000", "--json").json
    assert sum(row["calls"] for row in time["rows"]) == 4
    versions = walked.orch("events", "query", "log-versions", "runs", "--json").json
    assert versions["rows"]


# --- step by step ----------------------------------------------------------------------------


def test_the_installed_version_is_the_guide_s():
    assert importlib.metadata.version("unified-orchestrator") == "2.1.0"
    assert "dev" in importlib.metadata.metadata("unified-orchestrator").get_all("Provides-Extra")


def test_caching_is_seen_with_grep_over_all_jobs(user):
    user.write("job.yaml", "{project: p, task_description: Count words, provider: offline}\n")
    user.sh("orchestrator run --spec job.yaml")
    assert user.sh("grep cache.miss runs/*/events.jsonl").out.count("\n") == 4
    user.sh("orchestrator run --spec job.yaml")
    assert user.sh("grep cache.hit runs/*/events.jsonl").out.count("\n") == 4


# --- troubleshooting -------------------------------------------------------------------------


def test_unpacking_the_result_says_what_the_guide_quotes(user):
    failed = user.python(
        """
        from orchestrator import FileStore
        path, sha256, size = FileStore("out").safe_write("file.txt", "abc")
        """,
        code=None,
    )
    lines = failed.err.splitlines()
    assert "TypeError: 'WriteResult' object is not iterable" in lines
    assert any('result["path"]' in line for line in lines), failed


def test_the_cache_folder_and_its_events_are_there(walked):
    listed = walked.sh("ls -la runs/job_*//.cache/").out
    assert listed.count(".json\n") == 8
    assert walked.sh("grep cache runs/job_*/events.jsonl").out.count("\n") >= 8


def test_succeeded_steps_are_seen_with_grep(walked):
    assert walked.sh("grep step.succeeded runs/job_*/events.jsonl").out.count("\n") == 8


def test_both_entry_points_and_both_forms_do_the_same(user):
    user.write("job.yaml", "{project: p, task_description: Count words, provider: offline}\n")
    user.sh("orch run job.yaml")
    user.sh("orch run --spec job.yaml")
    user.sh("orchestrator run job.yaml")
    made = [outputs(job) for job in user.jobs()]
    assert len(made) == 3
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 4


# --- smoke test ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoked(tmp_path_factory):
    user = User(tmp_path_factory.mktemp("smoked"))
    user.examples()
    user.sh("orchestrator run --spec examples/tiny_spec.yaml")
    return user


def test_the_structure_of_a_run_folder(smoked):
    assert {"manifest.json", "events.jsonl", "outputs"} <= set(
        smoked.sh("ls runs/job_*/").out.split()
    )
    assert ".cache" in smoked.sh("ls -a runs/job_*/").out.split()
    manifest = json.loads((smoked.job() / "manifest.json").read_text())
    assert manifest["job_id"] == smoked.job().name


@needs_jq
def test_the_events_go_through_jq(smoked):
    shown = smoked.sh("cat runs/job_*/events.jsonl | jq").out
    for kind in ("job.started", "step.started", "step.succeeded", "cache.miss", "file.written"):
        assert f'"type": "{kind}"' in shown


def test_resuming_a_finished_job_skips_every_step(user):
    user.examples()
    user.sh("orchestrator run --spec examples/tiny_spec.yaml")
    before = outputs(user.job())
    user.sh("orchestrator run --spec examples/tiny_spec.yaml --resume")
    assert user.sh("grep step.skipped runs/job_*/events.jsonl").out.count("\n") == 4
    assert types(user.job())[-1] == "job.succeeded"
    assert outputs(user.job()) == before
