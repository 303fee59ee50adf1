import pytest

from orchestrator.blobs import BlobMissing, BlobStore
from orchestrator.keys import encode_output
from orchestrator.outputs import INLINE_MAX_BYTES, Outputs, as_ref
from orchestrator.state import Success


@pytest.fixture
def outputs(tmp_path):
    return Outputs(BlobStore(tmp_path / "artifacts"))


def keep(outputs, value):
    return outputs.keep(value, encode_output("s", value))


def success(output):
    return Success(step="s", seq=1, key="k", output=output, output_sha256="h")


def test_a_small_output_is_kept_in_the_event_as_a_value_of_its_own(outputs):
    given = {"list": [1, (2, 3)]}
    kept = keep(outputs, given)
    given["list"].append("later")  # as a step may, that kept what it returned
    assert kept == {"list": [1, [2, 3]]}
    assert as_ref(kept) is None


def test_what_is_loaded_is_the_callers_own(outputs):
    for value in ({"list": [1]}, {"list": ["x" * INLINE_MAX_BYTES]}):
        kept = keep(outputs, value)
        outputs.load(kept)["list"].append("spoilt")
        assert outputs.load(kept) == value


@pytest.mark.parametrize("extra", [0, 1])
def test_an_output_over_the_limit_is_a_blob(outputs, extra):
    text = "x" * (INLINE_MAX_BYTES - 2 + extra)
    kept = keep(outputs, text)
    assert (as_ref(kept) is not None) == bool(extra)
    assert outputs.load(kept) == text


def test_a_blob_is_read_again_by_another_process(outputs):
    kept = keep(outputs, ["x" * INLINE_MAX_BYTES])
    assert Outputs(outputs.blobs).load(kept) == ["x" * INLINE_MAX_BYTES]


def test_only_so_much_is_kept_in_memory(outputs, monkeypatch, tmp_path):
    monkeypatch.setattr("orchestrator.outputs.CACHED_BYTES", 3 * INLINE_MAX_BYTES)
    kept = [keep(outputs, f"{i}" * (INLINE_MAX_BYTES + 1)) for i in range(5)]
    for blob in (tmp_path / "artifacts").iterdir():
        blob.unlink()
    assert outputs.load(kept[4]) == "4" * (INLINE_MAX_BYTES + 1)
    with pytest.raises(BlobMissing):
        outputs.load(kept[0])


@pytest.mark.parametrize("value", [{"$blob": "sha256:" + "0" * 64, "bytes": 1}, {"$blob": 5}])
def test_an_output_that_looks_like_a_reference_is_none(outputs, value):
    kept = keep(outputs, value)
    assert kept != value
    assert outputs.load(kept) == value


def test_another_programs_odd_reference_is_its_value(outputs):
    assert outputs.load({"$blob": 5}) == {"$blob": 5}
    assert outputs.holds(success({"$blob": 5})) == ""


def test_an_output_that_is_gone_or_changed_is_told(outputs, tmp_path):
    kept = keep(outputs, "x" * (INLINE_MAX_BYTES + 1))
    assert outputs.holds(success(kept)) == ""
    assert outputs.holds(success("inline")) == ""
    (blob,) = (tmp_path / "artifacts").iterdir()
    blob.write_bytes(b"y")
    assert "gone from artifacts/, or changed" in outputs.holds(success(kept))
    blob.unlink()
    assert "gone from artifacts/, or changed" in outputs.holds(success(kept))
