"""The cache over real folders: who may use an entry, and which entries are believed."""

import os

import anyio
import anyio.lowlevel
import pytest

from eventlog.codec import Stamper
from orchestrator.cache import Cache, Call, Look
from orchestrator.cachefile import Entry
from orchestrator.cachepolicy import DEFAULT, CacheMode, CachePolicy
from orchestrator.folder import RunFolder
from orchestrator.keys import call_key, part_hashes
from orchestrator.providers.base import Reply
from orchestrator.usercache import UserCache, user_folder

NOW_NS = 1_800_000_000_000_000_000
USE, OFF, REFRESH, ONLY = CacheMode.USE, CacheMode.OFF, CacheMode.REFRESH, CacheMode.ONLY


def call(text="hello", model="m"):
    components = {"model": model, "messages": [None, text], "options": {}}
    return Call(key=call_key(components), components=components, parts=part_hashes(components))


class World:
    """Jobs below one runs/, as many as are asked for."""

    def __init__(self, base):
        self.runs = str(base / "runs")
        self.user = str(base / "user")
        self.warned = []
        self.now_ns = NOW_NS
        self.opened = []

    def close(self):
        for cache in self.opened:
            cache.close()

    def job(self, name, mode=USE, *, project="p", refresh=(), user=True):
        folder = RunFolder(self.runs, name)
        os.makedirs(folder.cache, mode=0o700, exist_ok=True)
        shared = UserCache(self.user, self.warned.append) if user else None
        cache = Cache(
            folder,
            mode,
            self.warned.append,
            project=project,
            refresh=refresh,
            user=shared,
            clock=lambda: self.now_ns,
        )
        self.opened.append(cache)
        return cache

    def file(self, job, key):
        return os.path.join(self.runs, job, ".cache", f"{key}.json")


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def entry_of(asked, text="hi", *, job="a", project="p", step="s", at_ns=NOW_NS):
    return Entry(
        key=asked.key,
        parts=asked.parts,
        job_id=job,
        project=project,
        step=step,
        created_at=Stamper()(at_ns),
        duration_s=1.0,
        provider="openai",
        model="m",
        request=asked.components,
        reply=Reply(text=text, model="m", stop_reason="stop"),
    )


def put(world, job="a", *, asked=None, policy=DEFAULT, project="p", **fields):
    asked = asked or call()
    cache = world.job(job, project=project)
    cache.store(entry_of(asked, job=job, project=project, **fields), policy)
    cache.close()
    return asked.key


def text_of(look):
    return look.entry and look.entry.reply.text


def test_an_answer_is_found_by_another_job_and_copied_there(world):
    key = put(world)
    second = world.job("b")
    assert text_of(second.look(key, "s")) == "hi"
    with open(world.file("a", key), "rb") as one, open(world.file("b", key), "rb") as other:
        assert one.read() == other.read()
    os.remove(world.file("a", key))
    assert text_of(world.job("c").look(key, "s")) == "hi"
    os.remove(world.file("b", key))
    os.remove(world.file("c", key))
    assert world.job("d").look(key, "s") == Look(None)


def test_an_index_that_was_deleted_or_broken_is_made_anew(world):
    key = put(world)
    index = os.path.join(world.runs, ".index", "cache.sqlite")
    os.remove(index)
    assert text_of(world.job("b").look(key, "s")) == "hi"
    with open(index, "wb") as file:
        file.write(b"no database" * 100)
    assert text_of(world.job("c").look(key, "s")) == "hi"


# --- whose entries ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "asked", "job", "project", "found"),
    [
        ("runs", "runs", "b", "q", True),
        ("runs", "project", "b", "p", True),
        ("runs", "project", "b", "q", False),
        ("runs", "job", "b", "p", False),
        ("runs", "job", "a", "p", True),
        ("job", "runs", "b", "p", False),
        ("job", "runs", "a", "p", True),
        ("project", "runs", "b", "q", False),
        ("project", "runs", "b", "p", True),
        ("user", "runs", "b", "q", True),
    ],
)
def test_an_entry_is_used_where_its_scope_and_the_asker_s_meet(
    world, kept, asked, job, project, found
):
    key = put(world, policy=CachePolicy(scope=kept))
    look = world.job(job, project=project).look(key, "s", CachePolicy(scope=asked))
    assert (look.entry is not None) is found


def test_the_scope_user_reaches_other_runs_folders(world, tmp_path):
    policy = CachePolicy(scope="user")
    key = put(world, policy=policy)
    elsewhere = World(tmp_path / "elsewhere")
    elsewhere.user = world.user
    assert elsewhere.job("x").look(key, "s").entry is None
    assert text_of(elsewhere.job("x").look(key, "s", policy)) == "hi"
    elsewhere.close()
    assert os.stat(world.user).st_mode & 0o777 == 0o700


def test_a_user_folder_that_others_can_write_is_not_used(world):
    os.makedirs(world.user)
    os.chmod(world.user, 0o777)
    policy = CachePolicy(scope="user")
    key = put(world, policy=policy)
    os.remove(world.file("a", key))
    assert world.job("b").look(key, "s", policy).entry is None
    assert "others can write" in world.warned[0]


def test_the_user_folder_follows_the_environment():
    assert user_folder({"ORCH_CACHE_DIR": "/x"}) == "/x"
    assert user_folder({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == "/c/orchestrator"
    assert user_folder({"XDG_CACHE_HOME": "c", "HOME": "/h"}) == "/h/.cache/orchestrator"
    assert user_folder({}) == ""


# --- age and modes ----------------------------------------------------------------------------


def test_an_entry_that_is_too_old_is_expired_and_stays(world):
    key = put(world)
    world.now_ns += 61_000_000_000
    cache = world.job("b")
    look = cache.look(key, "s", CachePolicy(ttl_s=60))
    assert look == Look(None, "expired")
    assert cache.why_missed("s", call(), look) == ("expired", key)
    assert text_of(cache.look(key, "s", CachePolicy(ttl_s=62))) == "hi"


def test_of_several_entries_one_that_is_young_enough_is_taken(world):
    put(world, "a", text="old")
    world.now_ns += 100_000_000_000
    key = put(world, "b", text="new", at_ns=world.now_ns)
    cache = world.job("a")
    assert text_of(cache.look(key, "s", CachePolicy(ttl_s=50))) == "new"


@pytest.mark.parametrize("mode", [OFF, REFRESH])
def test_off_and_refresh_do_not_look(world, mode):
    key = put(world)
    cache = world.job("b", mode)
    assert cache.look(key, "s").entry is None
    cache.store(entry_of(call(), "anew", job="b"))
    assert os.path.exists(world.file("b", key)) is (mode is REFRESH)
    assert text_of(cache.look(key, "s")) == ("anew" if mode is REFRESH else None)


def test_one_step_can_be_refreshed_alone(world):
    key = put(world)
    cache = world.job("b", refresh=["s"])
    assert cache.look(key, "s").entry is None
    assert cache.why_missed("s", call(), Look(None)) == ("refresh", "")
    assert text_of(cache.look(key, "other")) == "hi"


def test_a_step_that_says_no_neither_reads_nor_writes(world):
    key = put(world)
    no = CachePolicy(use=False)
    cache = world.job("b")
    assert cache.look(key, "s", no).entry is None
    assert cache.why_missed("s", call(), Look(None), no)[0] == "not asked for"
    cache.store(entry_of(call(), job="b"), no)
    assert not os.path.exists(world.file("b", key))
    assert world.job("c", ONLY).mode("s", no) is ONLY


def test_a_miss_names_what_differs_from_the_nearest_entry_not_the_newest(world):
    put(world, "a", asked=call("hello", "m"))
    put(world, "b", asked=call("other", "n"), at_ns=NOW_NS + 10**9)
    cache = world.job("c")
    asked = call("hello", "k")
    assert cache.why_missed("s", asked, Look(None)) == ("model", call("hello", "m").key)
    assert cache.why_missed("t", asked, Look(None)) == ("first", "")


# --- what is not believed ---------------------------------------------------------------------


def _torn(path):
    os.truncate(path, os.stat(path).st_size // 2)


def _edited(path):
    with open(path, "r+b") as file:
        data = file.read().replace(b'"hi"', b'"no"')
        file.seek(0)
        file.write(data)


def _another(path):
    with open(path, "wb") as file:
        file.write(b'{"key":"x"}')


def _writable(path):
    os.chmod(path, 0o606)


def _link(path):
    os.rename(path, path + ".moved")
    os.symlink(path + ".moved", path)


def _pipe(path):
    os.remove(path)
    os.mkfifo(path)


def _folder(path):
    os.remove(path)
    os.mkdir(path)


def _huge(path):
    os.truncate(path, (64 << 20) + 1)


HARM = [_torn, _edited, _another, _writable, _link, _pipe, _folder, _huge]


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__[1:])
def test_an_entry_that_can_t_be_believed_is_a_miss_and_set_aside(world, harm):
    key = put(world)
    path = world.file("a", key)
    harm(path)
    cache = world.job("b")
    assert cache.look(key, "s").entry is None
    assert len(world.warned) == 1
    assert path in world.warned[0]
    assert os.path.lexists(path + ".bad")
    assert not os.path.lexists(path)
    assert cache.look(key, "s").entry is None
    assert len(world.warned) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_entry_of_another_user_is_a_miss(world):
    key = put(world)
    os.chown(world.file("a", key), 4321, -1)
    assert world.job("b").look(key, "s").entry is None
    assert "uid 4321" in world.warned[0]


def test_a_bad_entry_does_not_hide_a_good_one(world):
    put(world, "a")
    key = put(world, "b")
    _edited(world.file("b", key))
    assert text_of(world.job("c").look(key, "s")) == "hi"


# --- equal work at the same time --------------------------------------------------------------


def run_together(world, works, mode=USE):
    """Let steps with the same call run at once; return what each made of it."""
    cache = world.job("a", mode)
    asked = call()
    calls, got = [], {}

    async def one(name, work):
        async with cache.turn(asked.key, name):
            look = cache.look(asked.key, name)
            if look.entry is not None:
                got[name] = "hit"
                return
            calls.append(name)
            got[name] = await work()
            if got[name] == "ok":
                cache.store(entry_of(asked))

    async def main():
        async with anyio.create_task_group() as group:
            for name, work in works.items():
                group.start_soon(one, name, work)

    anyio.run(main)
    assert len(cache._flights) == 0
    return calls, got


async def ok():
    await anyio.lowlevel.checkpoint()
    return "ok"


async def failing():
    await anyio.lowlevel.checkpoint()
    return "failed"


async def stopped():
    with anyio.move_on_after(0):
        await anyio.sleep(1)
    return "timed out"


def test_equal_calls_in_flight_are_made_once(world):
    calls, got = run_together(world, {"x": ok, "y": ok, "z": ok})
    assert calls == ["x"]
    assert got == {"x": "ok", "y": "hit", "z": "hit"}


@pytest.mark.parametrize("leader", [failing, stopped])
def test_a_leader_that_fails_or_times_out_strands_nobody_and_shares_nothing(world, leader):
    calls, got = run_together(world, {"x": leader, "y": ok, "z": ok})
    assert calls == ["x", "y"]
    assert got["z"] == "hit"


def test_a_leader_that_is_cancelled_lets_the_next_one_go(world):
    cache = world.job("a")
    went = []

    async def main():
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def leader():
                with scope:
                    async with cache.turn("k", "x"):
                        await anyio.sleep(60)

            async def follower():
                async with cache.turn("k", "y"):
                    went.append("y")

            group.start_soon(leader)
            group.start_soon(follower)
            await anyio.wait_all_tasks_blocked()
            assert went == []
            scope.cancel()

    anyio.run(main)
    assert went == ["y"]
    assert len(cache._flights) == 0


def test_under_refresh_equal_calls_are_still_made_once(world):
    put(world, "z")
    calls, got = run_together(world, {"x": ok, "y": ok}, REFRESH)
    assert (calls, got["y"]) == (["x"], "hit")


def test_without_a_cache_equal_calls_do_not_wait_for_each_other(world):
    calls, _ = run_together(world, {"x": ok, "y": ok}, OFF)
    assert calls == ["x", "y"]
