import os
import socket

import pytest

from orchestrator import publish
from orchestrator.errors import FailureKind, StepError
from orchestrator.events import FileRef
from orchestrator.filestore import FileStore
from orchestrator.publish import media_type_of, publish_folder


@pytest.fixture
def left(tmp_path):
    folder = tmp_path / "left"
    folder.mkdir()
    return folder


@pytest.fixture
def outputs(tmp_path):
    return FileStore(tmp_path / "outputs")


def publish_all(left, outputs, **options):
    return publish_folder(str(left), outputs, lambda path: None, **options)


def refused(left, outputs):
    with pytest.raises(StepError) as caught:
        publish_all(left, outputs)
    assert caught.value.kind == FailureKind.OUTPUT
    assert outputs.list_files() == []
    return caught.value.message


def test_every_file_is_published_in_the_order_of_paths(left, outputs):
    (left / "sub" / "empty").mkdir(parents=True)
    (left / "sub" / "b.json").write_text("{}")
    (left / "z.md").write_text("# z")
    (left / "a").write_bytes(b"\0")
    found = publish_all(left, outputs)
    assert [published.file.path for published in found] == ["a", "sub/b.json", "z.md"]
    assert found[2].file == FileRef(
        path="z.md",
        sha256=outputs.digest("z.md")[0],
        size_bytes=3,
        media_type="text/markdown",
    )
    assert all(published.wrote and published.reason == "created" for published in found)
    assert outputs.list_files() == ["a", "sub/b.json", "z.md"]
    assert found[0].event_data.path == "a"
    assert found[0].event_data.reason == "created"


def test_a_second_attempt_with_the_same_files_changes_nothing(left, outputs):
    (left / "a").write_text("x")
    publish_all(left, outputs)
    again = publish_all(left, outputs)
    assert [(published.wrote, published.reason) for published in again] == [(False, "nochange")]


def test_files_go_below_the_prefix_and_are_claimed_under_it(left, outputs):
    (left / "a").write_text("x")
    claimed = []
    publish_folder(str(left), outputs, claimed.append, prefix="reports/2026")
    assert claimed == outputs.list_files() == ["reports/2026/a"]


def test_an_unsafe_prefix_is_refused(left, outputs):
    (left / "a").write_text("x")
    with pytest.raises(StepError, match=r"'\.\.'"):
        publish_all(left, outputs, prefix="..")


def test_nothing_is_written_if_one_path_is_taken(left, outputs):
    for name in ("a", "b"):
        (left / name).write_text("x")

    def claim(path):
        if path == "b":
            raise StepError("b is taken", kind=FailureKind.OUTPUT)

    with pytest.raises(StepError, match="taken"):
        publish_folder(str(left), outputs, claim)
    assert outputs.list_files() == []


def test_links_are_refused_wherever_they_lead(left, outputs, tmp_path):
    (left / "a").write_text("x")
    for target in ("a", "/etc/passwd", "nowhere", tmp_path):
        (left / "link").symlink_to(target)
        assert "'link' in ORCH_OUTPUTS is a symlink" in refused(left, outputs)
        (left / "link").unlink()


def test_special_files_are_refused(left, outputs):
    os.mkfifo(left / "pipe")
    assert "'pipe' in ORCH_OUTPUTS is a special file" in refused(left, outputs)
    (left / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(left)  # the name of a socket must be short
        try:
            listener.bind("sock")
        finally:
            os.chdir(here)
        assert "special file" in refused(left, outputs)


@pytest.mark.parametrize("name", [b"a\\b", b"a\nb", b"\xff", "a\u202eb".encode(), b"nul.txt"])
def test_unsafe_names_are_refused(left, outputs, name):
    with open(os.path.join(os.fsencode(left), name), "wb"):
        pass
    assert "unsafe path" in refused(left, outputs)


def test_a_folder_that_was_swapped_for_a_link_is_refused(left, outputs):
    left.rmdir()
    left.symlink_to("/etc")
    assert "can't publish" in refused(left, outputs)


def test_a_path_that_is_a_folder_in_outputs_is_an_error_of_the_step(left, outputs):
    outputs.safe_write("a/b", "x")
    (left / "a").write_text("x")
    with pytest.raises(StepError, match="EISDIR") as caught:
        publish_all(left, outputs)
    assert caught.value.kind == FailureKind.OUTPUT


def test_too_many_files_are_refused(left, outputs, monkeypatch):
    monkeypatch.setattr(publish, "MAX_FILES", 2)
    for name in "ab":
        (left / name).write_text("x")
    assert len(publish_all(left, outputs)) == 2
    (left / "c").write_text("x")
    with pytest.raises(StepError, match="over 2 files"):
        publish_all(left, outputs)


def test_a_hard_link_is_published_as_a_copy(left, outputs, tmp_path):
    (tmp_path / "original").write_text("x")
    os.link(tmp_path / "original", left / "a")
    publish_all(left, outputs)
    (tmp_path / "original").write_text("changed")
    assert outputs.read_text("a") == "x"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.md", "text/markdown"),
        ("a/B.JSON", "application/json"),
        ("a.tar.gz", "application/gzip"),
        ("a.tiff", "image/tiff"),
        ("a.unheard-of", "application/octet-stream"),
        ("Makefile", "application/octet-stream"),
        (".json", "application/octet-stream"),
    ],
)
def test_the_media_type_follows_from_the_name_alone(path, expected):
    assert media_type_of(path) == expected
