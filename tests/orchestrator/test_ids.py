import pytest

from orchestrator.errors import UsageError
from orchestrator.ids import check_name, is_name, new_job_id


@pytest.mark.parametrize("name", ["a", "A1", "0", "a.b", "a-b_c", "x" * 64, "job_01k8", "a.."])
def test_a_name(name):
    assert is_name(name)
    assert check_name(name, "step id") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "a\n", "x" * 65, "é", "a\0", "\u0661"]
)
def test_no_name(name):
    assert not is_name(name)
    with pytest.raises(UsageError, match="is no job id") as caught:
        check_name(name, "job id")
    assert "up to 64" in caught.value.hint


def test_job_ids_sort_by_the_millisecond_they_were_made_in():
    times = [0, 1_000_000, 999_999_999_999, 10**18, 1_800_000_000 * 10**9, 10**21]
    ids = [new_job_id(time_ns, b"\xff\0\0\0") for time_ns in times]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_a_job_id_is_a_name_of_fixed_length_without_letters_that_look_alike():
    made = new_job_id(1_795_000_000 * 10**9, b"\xff\xff\xff\xff")
    assert is_name(made)
    assert len(made) == len("job_") + 16
    assert not set(made.removeprefix("job_")) & set("ilou")


def test_ids_of_one_moment_differ_by_chance():
    assert new_job_id(5, b"\0\0\0\4") != new_job_id(5, b"\0\0\0\x08")
    assert new_job_id(5, b"\0\0\0\4more") == new_job_id(5, b"\0\0\0\4")
