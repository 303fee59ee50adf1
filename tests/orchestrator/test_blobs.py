import hashlib

import pytest

from orchestrator import blobs
from orchestrator.blobs import BlobDamaged, BlobMissing, BlobStore
from orchestrator.disk import DirFiles
from orchestrator.errors import OrchestratorError
from orchestrator.events import BlobRef


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "artifacts"


def test_a_blob_lies_under_its_hash_and_comes_back(folder):
    store = BlobStore(folder)
    ref = store.put(b"data")
    digest = hashlib.sha256(b"data").hexdigest()
    assert ref == BlobRef(blob=f"sha256:{digest}", bytes=4)
    assert [path.name for path in folder.iterdir()] == [digest]
    assert store.get(ref) == b"data"
    assert store.holds(ref)


def test_storing_twice_writes_once(folder):
    ref = BlobStore(folder).put(b"data")
    before = next(folder.iterdir()).stat().st_ino
    assert BlobStore(folder).put(b"data") == ref
    assert [path.stat().st_ino for path in folder.iterdir()] == [before]


def test_a_blob_is_durable_before_put_returns(folder):
    calls = []

    class Recorder(DirFiles):
        def sync(self, fd):
            calls.append("sync")
            super().sync(fd)

        def rename_at(self, folder, old, new):
            calls.append("rename")
            super().rename_at(folder, old, new)

    BlobStore(folder, files=Recorder()).put(b"data")
    assert calls == ["sync", "rename", "sync"]


def test_a_missing_blob_is_named(folder):
    store = BlobStore(folder)
    ref = BlobRef(blob="sha256:" + "0" * 64, bytes=1)
    assert not store.holds(ref)
    with pytest.raises(BlobMissing, match="0000 is missing"):
        store.get(ref)


@pytest.mark.parametrize("content", [b"", b"dat", b"dbta", b"data!"])
def test_a_damaged_blob_is_found_and_a_later_put_makes_it_whole(folder, content):
    store = BlobStore(folder)
    ref = store.put(b"data")
    next(folder.iterdir()).write_bytes(content)
    assert not store.holds(ref)
    with pytest.raises(BlobDamaged, match="damaged"):
        store.get(ref)
    store.put(b"data")
    assert store.get(ref) == b"data"


def test_a_reference_of_another_size_does_not_hold(folder):
    store = BlobStore(folder)
    ref = store.put(b"data")
    wrong = BlobRef(blob=ref.blob, bytes=5)
    assert not store.holds(wrong)
    with pytest.raises(BlobDamaged):
        store.get(wrong)


@pytest.mark.parametrize("name", ["", "sha256:../../etc/passwd", "sha256:ABC", "md5:" + "0" * 64])
def test_a_reference_that_names_no_blob_leads_nowhere(folder, name):
    store = BlobStore(folder)
    assert not store.holds(BlobRef(blob=name, bytes=1))
    with pytest.raises(BlobDamaged, match="names no blob"):
        store.get(BlobRef(blob=name, bytes=1))


def test_a_link_in_place_of_a_blob_is_not_read(folder, tmp_path):
    store = BlobStore(folder)
    ref = store.put(b"data")
    path = next(folder.iterdir())
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert not store.holds(ref)


def test_a_blob_over_the_limit_is_refused(folder, monkeypatch):
    monkeypatch.setattr(blobs, "MAX_BYTES", 3)
    with pytest.raises(OrchestratorError, match="limit is 3"):
        BlobStore(folder).put(b"data")
    assert not folder.exists()
