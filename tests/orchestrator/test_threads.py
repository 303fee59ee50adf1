import contextvars
import threading

import anyio
import pytest

from orchestrator.fence import AttemptOver, Fence, check, current
from orchestrator.threads import Threads

PATIENCE_S = 20.0


def in_threads(main):
    async def body():
        threads = Threads()
        try:
            return await main(threads)
        finally:
            threads.close()

    return anyio.run(body)


def test_what_the_function_returns_is_returned():
    async def main(threads):
        return await threads.run(divmod, 7, 2)

    assert in_threads(main) == (3, 1)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_what_it_raises_is_raised(error):
    def fail():
        raise error

    async def main(threads):
        with pytest.raises(type(error)) as caught:
            await threads.run(fail)
        return caught.value

    assert in_threads(main) is error


def test_stop_iteration_does_not_stop_the_caller_in_silence():
    async def main(threads):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await threads.run(next, iter(()))

    in_threads(main)


def test_it_runs_elsewhere_with_the_callers_context():
    mark = contextvars.ContextVar("mark")

    async def main(threads):
        mark.set("here")
        seen, where = await threads.run(lambda: (mark.get(), threading.current_thread()))
        return seen, where is threading.current_thread(), where.daemon

    assert in_threads(main) == ("here", False, True)


def test_a_cancelled_call_is_left_alone_and_its_thread_ends():
    release = threading.Event()
    workers = []

    def hang():
        workers.append(threading.current_thread())
        release.wait(PATIENCE_S)

    async def main(threads):
        with anyio.move_on_after(0.01) as scope:
            await threads.run(hang)
        assert scope.cancelled_caught
        return await threads.run(threading.current_thread)

    other = in_threads(main)
    assert other is not workers[0]
    release.set()
    for worker in (*workers, other):
        worker.join(PATIENCE_S)
        assert not worker.is_alive()


def test_a_fence_marks_its_code_and_what_that_starts():
    async def main(threads):
        seen = []
        with Fence("j", "a", 1) as fence:
            seen += [current(), await threads.run(current)]
            check("write")
        seen.append(current())
        return seen == [fence, fence, None], fence.over

    assert in_threads(main) == (True, True)


def test_a_fence_refuses_what_goes_on_after_it():
    go_on, refused = threading.Event(), []

    def late():
        go_on.wait(PATIENCE_S)
        try:
            check("write")
        except AttemptOver as error:
            refused.append(error.render())

    with Fence("j", "a", 3):
        context = contextvars.copy_context()
    worker = threading.Thread(target=context.run, args=(late,))
    worker.start()
    go_on.set()
    worker.join(PATIENCE_S)
    check("write")  # this code is no attempt's
    assert "can't write: attempt 3 of step a is over" in refused[0]
