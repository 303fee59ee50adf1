"""Tasks that begin one by one and end together."""

import asyncio

import anyio
import pytest

from orchestrator.crew import crew

BACKENDS = ["asyncio", "trio"]
PATIENCE_S = 20.0


@pytest.fixture(params=BACKENDS)
def run(request):
    """Run a coroutine function on one of the event loops."""
    if request.param == "trio":
        pytest.importorskip("trio")

    def running(main):
        async def limited():
            with anyio.fail_after(PATIENCE_S):
                return await main()

        return anyio.run(limited, backend=request.param)

    return running


async def forever(ended):
    try:
        await anyio.sleep_forever()
    finally:
        ended.append("cancelled")


def test_all_that_was_begun_has_ended_when_the_body_is_left(run):
    ended = []

    async def one(name):
        await anyio.lowlevel.checkpoint()
        ended.append(name)

    async def main():
        async with crew() as tasks:
            for name in "abc":
                tasks.start(one, name)
            assert ended == []
        assert sorted(ended) == ["a", "b", "c"]

    run(main)


def test_what_runs_is_cancelled_until_it_obeys(run):
    swallowed = []

    async def stubborn(times):
        for _ in range(times):
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                swallowed.append(1)
        await anyio.sleep_forever()

    async def main():
        async with crew() as tasks:
            tasks.start(stubborn, 3)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel()
            await tasks.wait()
            assert len(swallowed) == 3

    run(main)


def test_what_has_not_begun_when_all_is_cancelled_never_begins(run):
    begun = []

    async def one(what):
        begun.append(what)

    async def main():
        async with crew() as tasks:
            tasks.start(one, 1)
            tasks.cancel()
            await tasks.wait()

    run(main)
    assert begun == []


def test_a_body_that_raises_ends_the_tasks_and_its_error_is_raised_as_it_is(run):
    ended = []

    async def main():
        async with crew() as tasks:
            tasks.start(forever, ended)
            await anyio.wait_all_tasks_blocked()
            raise KeyError("mine")

    with pytest.raises((KeyError, BaseExceptionGroup)) as caught:
        run(main)
    assert ended == ["cancelled"]
    error = caught.value
    assert isinstance(getattr(error, "exceptions", [error])[0], KeyError)


def test_what_a_task_raises_ends_the_body_and_the_others():
    ended = []

    async def fail(what):
        await anyio.lowlevel.checkpoint()
        raise ValueError(what)

    async def main():
        async with crew() as tasks:
            tasks.start(forever, ended)
            tasks.start(fail, "x")
            await anyio.sleep_forever()

    with pytest.raises(ValueError, match="x"):
        anyio.run(main)
    assert ended == ["cancelled"]


def test_a_cancelled_caller_waits_for_what_cleans_up(run):
    cleaned = []

    async def slow_to_end(_):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
            cleaned.append(1)

    async def main():
        with anyio.CancelScope() as scope:
            async with crew() as tasks:
                tasks.start(slow_to_end, None)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                await anyio.sleep_forever()
        assert cleaned == [1]
        assert scope.cancelled_caught

    run(main)


def test_somebody_who_cancels_every_task_of_the_loop_leaves_nobody_waiting():
    async def one(what):
        raise AssertionError(f"{what} began")

    async def main():
        async with crew() as tasks:
            before = asyncio.all_tasks()
            tasks.start(one, "it")
            (begun,) = asyncio.all_tasks() - before
            begun.cancel()
            await anyio.sleep_forever()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_a_step_sees_its_own_cancellation_and_may_open_groups_of_its_own(run):
    seen = []

    async def with_children(_):
        async with anyio.create_task_group() as group:
            group.start_soon(forever, seen)
            group.start_soon(forever, seen)

    async def main():
        async with crew() as tasks:
            tasks.start(with_children, None)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel()

    run(main)
    assert seen == ["cancelled", "cancelled"]
