"""The smoke test: the small example runs, leaves what it should, is cached, and resumes."""

import json

from userkit import User, events, types


def test_the_tiny_example_runs_is_cached_and_resumes(tmp_path):
    user = User(tmp_path)
    user.examples()

    first = user.sh("orchestrator run --spec examples/tiny_spec.yaml")
    job = user.job()
    assert first.out == f"Job: {job.name}, Status: succeeded\n"
    assert {p.name for p in job.iterdir()} >= {"manifest.json", "events.jsonl", "outputs", ".cache"}
    assert types(job)[:2] == ["log.opened", "job.started"]
    assert types(job)[-1] == "job.succeeded"
    assert {"step.started", "step.succeeded", "cache.miss", "file.written"} <= set(types(job))
    manifest = json.loads((job / "manifest.json").read_text())
    assert manifest["status"] == "succeeded"
    assert manifest["completed_steps"] == ["architect", "builder", "docs", "qa"]
    for file in manifest["files"]:
        assert (job / "outputs" / file["path"]).stat().st_size == file["size_bytes"] > 0

    user.sh("orchestrator run --spec examples/tiny_spec.yaml")
    second = user.jobs()[-1]
    assert second != job
    assert len(events(second, "cache.hit")) == 4
    assert not events(second, "llm.request")

    user.sh("orchestrator run --spec examples/tiny_spec.yaml --resume")
    assert len(events(second, "step.skipped")) == 4
    assert len(user.jobs()) == 2
