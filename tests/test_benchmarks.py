"""The benchmark harness measures, tells, and leaves nothing behind. No time is asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[1] / "benchmarks" / "run.py"

pytestmark = pytest.mark.skipif(not RUN.exists(), reason="benchmarks are not installed with us")


def bench(*arguments, tmp):
    tmp.mkdir(exist_ok=True)
    command = [sys.executable, str(RUN), *arguments]
    return subprocess.run(
        command,
        env=os.environ | {"TMPDIR": str(tmp)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_quick_case_prints_its_table_and_writes_the_same_figures_as_json(tmp_path):
    told = tmp_path / "figures.json"
    done = bench("resume", "--quick", "--rounds", "1", "--json", str(told), tmp=tmp_path / "t")
    assert done.returncode == 0, done.stderr
    document = json.loads(told.read_text())
    (case,) = document["cases"]
    assert (case["name"], case["error"]) == ("resume", "")
    assert document["quick"] is True
    assert document["environment"]["python"].split()[-1].startswith("3.")
    row = case["rows"][0]
    assert row["what"] == "resume of 1,000 done steps, wide"
    assert (row["unit"], row["bar"]) == ("ms", "<= 10 ms")
    assert row["met"] is (row["value"] <= 10)
    for row in case["rows"]:
        assert f"| {row['what']} " in done.stdout
    assert "| met |" in done.stdout


def test_nothing_is_left_in_the_temporary_folder(tmp_path):
    done = bench("resume", "--quick", "--rounds", "1", tmp=tmp_path / "t")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "t").iterdir()) == []


def test_an_unknown_case_is_refused_with_the_known_ones_named(tmp_path):
    done = bench("chian", tmp=tmp_path / "t")
    assert done.returncode == 2
    assert "unknown case 'chian'; there are startup" in done.stderr


def test_every_case_is_listed_with_its_bar(tmp_path):
    done = bench("--list", tmp=tmp_path / "t")
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert (
        " ".join(names) == "startup diamond calls cache chain fanout scale resume"
        " append read follow large migration query jobs"
    )
    assert all("(bar: " in line for line in done.stdout.splitlines())


def setup(*arguments, peers):
    command = [sys.executable, str(RUN.parent / "setup.py"), *arguments]
    return subprocess.run(
        command,
        env=os.environ | {"ORCH_BENCH_PEERS": str(peers)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_set_up_names_the_peers_and_what_is_there(tmp_path):
    done = setup("--list", peers=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "eventsourcing    not installed" in done.stdout
    done = setup("eventsorcing", peers=tmp_path)
    assert done.returncode == 2
    assert "unknown peer 'eventsorcing'; there are eventsourcing" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def peers(monkeypatch, tmp_path):
    """One peer, made up: this very Python."""
    monkeypatch.syspath_prepend(str(RUN.parent))
    monkeypatch.setenv("ORCH_BENCH_PEERS", str(tmp_path / "peers"))
    import peers

    monkeypatch.setattr(peers, "PEERS", {"twin": ("twin==1",)})
    monkeypatch.setattr(peers, "_HERE", str(tmp_path))
    python = Path(peers.python_of("twin"))
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "drivers").mkdir()
    yield peers
    del sys.modules["peers"]


def test_a_peer_is_measured_only_when_its_installation_came_to_its_end(peers):
    assert peers.not_ready("twin") == (
        "skipped: twin is not installed (python benchmarks/setup.py twin)"
    )
    Path(peers.environment("twin"), "ready").touch()
    assert peers.not_ready("twin") == ""


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("print('{\"seconds\": 2.5}')", None),
        ("raise ValueError('no such option')", "ended with 1: ValueError: no such option"),
        ("print('done')", "printed no figures: done"),
        ("print('{}')", "printed no figures: {}"),
    ],
)
def test_a_driver_tells_its_seconds_or_why_there_are_none(peers, tmp_path, script, error):
    (tmp_path / "drivers" / "work.py").write_text(script)
    if error is None:
        assert peers.drive("twin", "work.py", 1)["seconds"] == 2.5
        return
    with pytest.raises(peers.PeerError) as caught:
        peers.drive("twin", "work.py", 1)
    assert error in str(caught.value)


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(RUN.parent))
    import harness

    yield harness
    del sys.modules["harness"]


def test_things_that_take_turns_are_compared_round_by_round(harness):
    row = harness.paired(
        "a",
        [2.0, 30.0, 9.0],
        "b",
        [1.0, 10.0, 2.0],
        unit="s",
        scale=lambda second: second,
        bar=harness.Bar("<=", 3.0),
    )
    assert (row.value, row.beside_value) == (9.0, 2.0)
    assert (row.ratio, row.spread, row.met) == (3.0, (2.0, 4.5), True)


def test_a_bar_is_about_the_ratio_or_the_value_and_can_face_either_way(harness):
    row = harness.Row(what="x", value=8.0, ratio=0.5, bar=harness.Bar(">=", 0.7))
    assert row.met is False
    assert harness.Bar("<=", 10, of="value", unit="ms").met(row) is True
    assert harness.Bar("<=", 10).met(harness.Row(what="not measured")) is None


def test_each_round_goes_in_the_other_order(harness):
    order = []

    def work(name):
        return lambda: order.append(name) or float(len(order))

    seconds = harness.interleave(2, {"a": work("a"), "b": work("b")})
    assert order == ["a", "b", "b", "a"]
    assert seconds == {"a": [1.0, 4.0], "b": [2.0, 3.0]}


def test_a_case_that_breaks_is_told_and_ends_with_1(monkeypatch, capsys, tmp_path):
    monkeypatch.syspath_prepend(str(RUN.parent))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(sys.modules)
    import run

    def broken(context):
        raise RuntimeError("nothing works")

    case = run.Case(name="broken", about="it breaks", bar="none", run=broken)
    monkeypatch.setattr(run, "CASES", {"broken": case})
    try:
        assert run.main(["broken", "--quick"]) == 1
    finally:
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", "") and str(RUN.parent) in (
                sys.modules[name].__file__ or ""
            ):
                del sys.modules[name]
    out, err = capsys.readouterr()
    assert "It broke: RuntimeError: nothing works" in out
    assert "Traceback" in err


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(RUN.parent))
    import tables

    yield tables
    del sys.modules["tables"]


def document(load, **seconds):
    cases = [
        {"name": name, "about": "x", "bar": "none", "rows": [], "seconds": taken, "error": ""}
        for name, taken in seconds.items()
    ]
    return {
        "environment": {"python": "CPython 3", "load before the first case": load},
        "quick": False,
        "cases": cases,
    }


def test_a_run_of_some_cases_updates_their_sections_of_the_readme_only(tables, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- results: begin -->\n<!-- results: end -->\nafter\n")
    order = ["a", "b", "c"]
    tables.into_readme(path, document("0.1", a=1, b=2, c=3), order)
    whole = path.read_text()
    assert "- load before the first case: 0.1\n" in whole
    tables.into_readme(path, document("0.1", a=1, b=2, c=3), order)
    assert path.read_text() == whole
    tables.into_readme(path, document("7.5", b=20), order)
    some = path.read_text()
    own = "Took 20 s.\nTaken in a run of its own; load before the first case: 7.5."
    assert own in some
    assert some.replace(own, "Took 2 s.") == whole
    tables.into_readme(path, document("0.3", a=1, b=2, c=3), order)
    assert path.read_text() == whole.replace("0.1", "0.3")


def test_a_case_that_the_readme_lacks_gets_its_place_in_the_order(tables, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("<!-- results: begin -->\n<!-- results: end -->\n")
    tables.into_readme(path, document("0.1", a=1, c=3), ["a", "c"])
    tables.into_readme(path, document("0.1", b=2), ["a", "b", "c"])
    heads = [line for line in path.read_text().splitlines() if line.startswith("###")]
    assert heads == ["### a: x", "### b: x", "### c: x"]
