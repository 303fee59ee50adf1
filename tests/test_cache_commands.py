"""`orch cache`: looking into it, explaining it, clearing it, carrying it over."""

import io
import json
import os
import shutil
import tarfile

import pytest

from userkit import User, events, outputs

SPEC = """
    project: p
    inputs: {topic: {default: bees}, model: {default: echo}}
    steps:
      ask:
        llm:
          provider: offline
          system: Be brief.
          prompt: |
            First line.
            Of {{ inputs.topic }}.
            Last line.
          options: {temperature: 0}
      make: {run: 'seq 1 9000; echo x > $ORCH_OUTPUTS/f.txt', cache: true}
      plain: {run: 'echo 1'}
"""


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A folder with two jobs, whose prompts differ in one line."""
    base = tmp_path_factory.mktemp("lived")
    user = User(base / "home", XDG_CACHE_HOME=str(base / "cache-home"))
    user.write("job.yaml", SPEC)
    user.orch("run", "job.yaml")
    user.orch("run", "job.yaml", "--set", "topic=ants")
    return user


@pytest.fixture
def user(lived, tmp_path):
    shutil.copytree(lived.home, tmp_path / "home")
    return User(tmp_path / "home", XDG_CACHE_HOME=str(tmp_path / "cache-home"))


def entries(user, *args):
    return user.orch("cache", "list", "--json", *args).json["rows"]


def test_entries_are_listed_once_with_how_many_jobs_hold_them(user):
    rows = entries(user)
    told = [(row["kind"], row["step"], row["holders"]) for row in rows]
    # The newest first: of the first job's two, which run at once, either may be it.
    assert told[0] == ("answer", "ask", 1)
    assert sorted(told[1:]) == [("answer", "ask", 1), ("step", "make", 2)]
    assert len(entries(user, "--step", "make")) == 1
    assert entries(user, "--project", "q") == []


def test_an_entry_is_shown_by_the_beginning_of_its_key(user):
    (row,) = entries(user, "--step", "make")
    shown = user.orch("cache", "show", row["key"][:12]).json
    assert shown["result"]["files"][0]["path"] == "f.txt"
    assert sorted(shown["holders"]) == [job.name for job in user.jobs()]
    assert "no entry begins" in user.orch("cache", "show", "xyz", code=2).err


def test_why_names_what_differs_and_shows_the_difference(user):
    first, second = user.jobs()
    assert "no job ever kept" in user.orch("cache", "why", first.name, "ask").out
    said = user.orch("cache", "why", second.name, "ask").out
    assert f"compared with {first.name}" in said
    assert "  messages\n" in said
    lines = [line.strip().strip('"\\n,') for line in said.splitlines()]
    assert "-Of bees." in lines
    assert "+Of ants." in lines
    document = user.orch("cache", "why", second.name, "ask", "--json").json
    assert [d["component"] for d in document["differences"]] == ["messages"]
    hit = user.orch("cache", "why", second.name, "make", "--json").json
    assert (hit["result"], hit["compared_with"]) == ("hit", first.name)


def test_why_compares_a_step_without_a_cache_with_the_job_before(user):
    user.write("job.yaml", SPEC.replace("echo 1", "echo 2"))
    user.orch("run", "job.yaml")
    said = user.orch("cache", "why", "latest", "plain", "--json").json
    assert said["result"] == "none"
    assert said["compared_with"] == user.jobs()[1].name
    assert [d["component"] for d in said["differences"]] == ["command"]
    assert "no step 'nope'" in user.orch("cache", "why", "latest", "nope", code=2).err


def test_verify_finds_what_can_t_be_believed_and_prune_removes_it(user):
    assert user.orch("cache", "verify").err.startswith("4 checked, 0 bad")
    path = next((user.jobs()[0] / ".cache").glob("*.json"))
    path.write_bytes(path.read_bytes()[:-9])
    done = user.orch("cache", "verify", code=1)
    assert str(path.relative_to(user.home)) in done.out
    assert user.orch("cache", "prune", "--bad", "--dry-run").out.count("\n") == 1
    assert path.exists()
    user.orch("cache", "prune", "--bad")
    assert not path.exists()
    user.orch("cache", "verify")


def test_prune_removes_by_age_and_by_size_the_oldest_first(user):
    assert "0 files" in user.orch("cache", "prune", "--older-than", "1").err
    assert "2 files" in user.orch("cache", "prune", "--max-mb", "0.0025").err
    assert {row["holders"] for row in entries(user)} == {1}
    assert "are gone" in user.orch("cache", "prune", "--older-than", "0").err
    assert entries(user) == []


def test_a_cleared_entry_is_a_miss_that_says_so(user):
    user.orch("cache", "clear", user.jobs()[1].name)
    assert len(entries(user)) == 2
    user.orch("cache", "clear", "--all")
    user.orch("run", "job.yaml")
    (miss,) = events(user.jobs()[2], "cache.miss", "ask")
    assert miss["data"]["reason"] == "cleared"
    assert "clear what?" in user.orch("cache", "clear", code=2).err


def test_stats_count_what_is_there(user):
    stats = user.orch("cache", "stats", "--json").json
    assert (stats["entries"], stats["copies"], stats["jobs"], stats["hits"]) == (3, 4, 2, 1)


def test_what_is_exported_is_taken_in_elsewhere_and_used_there(user, tmp_path):
    user.orch("cache", "export", tmp_path / "all.tar.gz")
    assert os.stat(tmp_path / "all.tar.gz").st_mode & 0o777 == 0o600
    other = User(tmp_path / "other", XDG_CACHE_HOME=str(tmp_path / "none"))
    assert "3 entries" in other.orch("cache", "import", tmp_path / "all.tar.gz").err
    other.write("job.yaml", SPEC)
    other.orch("run", "job.yaml")
    assert len(events(other.job(), "cache.hit")) == 2
    assert outputs(other.job()) == {"f.txt": "x\n"}
    (folder,) = (other.home / "runs").glob("imported_*")
    assert len(other.orch("list", "--json").json["rows"]) == 1
    other.orch("cache", "clear", folder.name)
    assert len(entries(other)) == 2


def test_nothing_in_an_imported_file_is_believed(user, tmp_path):
    user.orch("cache", "export", tmp_path / "all.tar")
    with tarfile.open(tmp_path / "all.tar") as archive:
        good = {m.name: archive.extractfile(m).read() for m in archive}
    name, data = next(item for item in good.items() if item[0].startswith("answers/"))
    forged = json.loads(data)
    forged["duration_s"] = 99.0
    members = {
        name: json.dumps(forged).encode(),
        "answers/../../evil.json": data,
        "/etc/evil": data,
        "blobs/" + "0" * 64: b"other",
    }
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("answers/" + "1" * 64 + ".json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    other = User(tmp_path / "other")
    done = other.orch("cache", "import", tmp_path / "bad.tar", code=1)
    assert done.err.count("was left out") == 5
    assert [path.name for path in (other.home / "runs").rglob("*") if path.is_file()] == []
    (tmp_path / "no.tar").write_text("no tar")
    assert "no exported cache" in other.orch("cache", "import", tmp_path / "no.tar", code=2).err
    assert "can't import" in other.orch("cache", "import", tmp_path / "none.tar", code=4).err
