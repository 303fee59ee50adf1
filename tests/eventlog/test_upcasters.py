"""Events of a program's own older versions: brought up to date, or handed out as they are."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from logkit import put

from eventlog import (
    Decoder,
    Event,
    EventInvalid,
    Log,
    LogOpened,
    Rejected,
    UnknownEvent,
    Upcasters,
    follow,
    read,
    read_dicts,
    read_events,
)
from eventlog.versions import MAX_STEPS

DATA = Path(__file__).parent.parent / "data" / "versions"


class Payment(msgspec.Struct, frozen=True):
    cents: int
    currency: str


class Order(msgspec.Struct, frozen=True):
    order: str


class Paid(Event, frozen=True, kw_only=True, tag="paid"):
    v: int = 3
    order: str
    data: Payment


class Refunded(Event, frozen=True, kw_only=True, tag="refunded"):
    data: Order


Types = Paid | Refunded | LogOpened


def shop() -> Upcasters:
    upcasters = Upcasters()

    @upcasters.step("paid", 1)
    def to_cents(event: dict[str, Any]) -> dict[str, Any]:
        event["data"]["cents"] = round(event["data"].pop("euros") * 100)
        return event

    @upcasters.step("paid", 2)
    def with_currency(event: dict[str, Any]) -> dict[str, Any]:
        return event | {"data": event["data"] | {"currency": "EUR"}}

    @upcasters.step("refund", 1)
    def renamed(event: dict[str, Any]) -> dict[str, Any]:
        return event | {"type": "refunded"}

    return upcasters


def paid(order: str, cents: int) -> Paid:
    return Paid(order=order, data=Payment(cents, "EUR"))


REFUNDED = Refunded(data=Order("a"))
NOW = {
    "paid_v1": [paid("a", 250), paid("b", 199), REFUNDED, UnknownEvent(type="noted", data=1)],
    "paid_v2": [paid("a", 250), REFUNDED],
    "paid_v3": [paid("a", 250), REFUNDED],
    "paid_v4": [UnknownEvent(type="paid", data={"amount": "2.50 EUR"}), paid("b", 1)],
    "paid_unsealed": [paid("a", 250), REFUNDED],
}


@pytest.mark.parametrize("name", NOW)
def test_a_log_of_any_version_is_read_as_today_s(name):
    path = DATA / f"{name}.jsonl"
    ways = [
        read_events(path, Types, upcasters=shop()),
        read_events(path, Types, upcasters=shop(), verify=True),
        (record.event for record in read(path, Types, upcasters=shop(), verify=True)),
        (record.event for record in follow(path, Types, upcasters=shop(), until=lambda: True)),
    ]
    for way in ways:
        assert [event for event in way if not isinstance(event, LogOpened)] == NOW[name]


@pytest.mark.parametrize("name", NOW)
def test_dicts_are_brought_up_to_date_and_keep_what_is_the_line_s(name):
    path = DATA / f"{name}.jsonl"
    before, after = list(read_dicts(path)), list(read_dicts(path, upcasters=shop()))
    known = [event for event in after if event["type"] != "log.opened"]
    for found, due in zip(known, NOW[name], strict=True):
        if isinstance(due, UnknownEvent):
            assert (found["type"], found["data"]) == (due.type, due.data)
        else:
            assert msgspec.convert(found, Types) == due
    for old, new in zip(before, after, strict=True):
        for member in ("seq", "ts", "dur", "prev", "sum"):
            assert old.get(member) == new.get(member)
        assert list(new)[:2] == ["seq", "ts"]


def test_all_data_of_the_tests_is_covered():
    assert {path.stem for path in DATA.glob("paid_*.jsonl")} == set(NOW)


def test_events_of_the_latest_version_are_read_by_the_block(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    with Log(path) as log:
        log.append(*(paid(str(n), n) for n in range(50)), {"type": "other", "v": 9})
    expected = list(read(path, Types, upcasters=shop()))
    monkeypatch.setattr(Decoder, "__call__", lambda *_: pytest.fail("a line was read by itself"))
    assert list(read(path, Types, upcasters=shop())) == expected
    assert len(list(read_events(path, Types, upcasters=shop()))) == 52


@pytest.mark.parametrize("v", ["2.0", '"3"', "true", "0", "-1", "null", "[3]"])
def test_a_version_that_is_none_is_no_version_we_know(tmp_path, v):
    path = tmp_path / "events.jsonl"
    line = f'{{"type":"paid","v":{v},"order":"a","data":{{"cents":1,"currency":"EUR"}}}}\n'
    put(path, line.encode())
    (event,) = read_events(path, Types, upcasters=shop())
    assert event == UnknownEvent(type="paid", data={"cents": 1, "currency": "EUR"})
    (found,) = read_dicts(path, upcasters=shop())
    assert found == {"seq": 0} | msgspec.json.decode(line)


def test_without_upcasters_an_older_event_is_refused_and_a_later_one_unknown(tmp_path):
    rejected: list[Rejected] = []
    events = list(read_events(DATA / "paid_v2.jsonl", Paid | LogOpened, rejected=rejected))
    assert len(events) == 2
    assert [one.seq for one in rejected] == [1]
    assert "version 2, where 3 is due" in rejected[0].reason
    (_, later, now) = read_events(DATA / "paid_v4.jsonl", Paid)
    assert isinstance(later, UnknownEvent)
    assert now == paid("b", 1)


class Unversioned(Event, frozen=True, kw_only=True, tag="paid"):
    data: Payment


def test_a_type_that_got_versions_later_is_unknown_where_it_no_longer_fits(tmp_path):
    (_, later, now) = read_events(DATA / "paid_v4.jsonl", Unversioned)
    assert later == UnknownEvent(type="paid", data={"amount": "2.50 EUR"})
    assert now == Unversioned(data=Payment(1, "EUR"))
    with pytest.raises(EventInvalid):  # what has no later version is no later event
        list(read_events(DATA / "paid_v1.jsonl", Unversioned))


@pytest.mark.parametrize("fault", ["raise", "none", "gap", "circle", "unencodable", "wrong"])
def test_an_upcaster_that_fails_is_one_line_that_can_not_be_read(fault):
    upcasters = Upcasters()

    @upcasters.step("paid", 2)
    def last(event: Any) -> Any:
        return event

    if fault != "gap":

        @upcasters.step("paid", 1)
        def first(event: Any) -> Any:
            match fault:
                case "raise":
                    raise KeyError("euros")
                case "none":
                    return None
                case "unencodable":
                    return event | {"data": {"cents": object()}}
                case "wrong":
                    return event | {"data": {"cents": "many"}}
                case _:
                    return event | {"type": "paid.again"}

        @upcasters.step("paid.again", 1)
        def again(event: Any) -> Any:
            return event | {"type": "paid"}

    texts = {
        "raise": "the upcaster of version 1 of paid failed: KeyError('euros')",
        "none": "the upcaster of version 1 of paid returned no dict",
        "gap": "no upcaster takes paid from version 1 to 2",
        "circle": "go in a circle",
        "unencodable": "gave no JSON",
        "wrong": "can't be read",
    }
    path = DATA / "paid_v1.jsonl"
    rejected: list[Rejected] = []
    assert len(list(read_events(path, Paid, upcasters=upcasters, rejected=rejected))) == 3
    assert [one.seq for one in rejected] == [1, 2]
    assert texts[fault] in rejected[0].reason
    with pytest.raises(EventInvalid) as caught:
        list(read_events(path, Paid, upcasters=upcasters))
    assert (caught.value.seq, caught.value.path) == (1, str(path))
    assert caught.value.offset
    if fault not in {"unencodable", "wrong"}:
        with pytest.raises(EventInvalid) as caught:
            list(read_dicts(path, upcasters=upcasters))
        assert caught.value.seq == 1


def test_long_chains_are_walked(tmp_path):
    upcasters = Upcasters()
    for version in range(1, MAX_STEPS):
        upcasters.step("counted", version)(lambda event: event | {"data": event["data"] + 1})
    path = tmp_path / "events.jsonl"
    put(path, b'{"type":"counted","data":1}\n')
    (found,) = read_dicts(path, upcasters=upcasters)
    assert (found["v"], found["data"]) == (MAX_STEPS, MAX_STEPS)


def test_a_registry_refuses_what_can_not_be_meant():
    upcasters = shop()
    with pytest.raises(ValueError, match="version 2 of paid already"):
        upcasters.step("paid", 2)
    with pytest.raises(ValueError, match="begin with 1"):
        upcasters.step("paid", 0)
    assert [upcasters.latest(kind) for kind in ("paid", "refund", "other")] == [3, 2, 1]


def test_a_struct_must_write_the_version_that_its_upcasters_lead_to():
    class Older(Event, frozen=True, kw_only=True, tag="paid"):
        v: int = 2
        data: Any

    class Silent(Event, frozen=True, kw_only=True, tag="paid", omit_defaults=True):
        v: int = 3
        data: Any

    for struct, said in ((Older, "writes 2"), (Unversioned, "writes none"), (Silent, "none")):
        with pytest.raises(TypeError, match=f"to version 3, and {struct.__name__} {said}|{said}"):
            Decoder(struct, upcasters=shop())
    for struct in (Older, Unversioned, Silent):
        Decoder(struct)


def test_what_is_written_now_is_read_back_with_and_without_upcasters(tmp_path):
    path = tmp_path / "events.jsonl"
    events = [paid("a", 1), REFUNDED]
    with Log(path) as log:
        log.append(*events)
    for given in (None, shop()):
        assert list(read_events(path, Types, upcasters=given))[1:] == events


def test_upcasters_see_no_more_than_the_event(tmp_path):
    upcasters = Upcasters()
    seen = []

    @upcasters.step("paid", 1)
    def note(event: dict[str, Any]) -> dict[str, Any]:
        seen.append(sorted(event))
        return event

    for _ in itertools.chain(
        read_dicts(DATA / "paid_v1.jsonl", upcasters=upcasters),
        read_events(DATA / "paid_v1.jsonl", LogOpened, upcasters=upcasters),
    ):
        pass
    assert seen == [["data", "order", "type"]] * 4
