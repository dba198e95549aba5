"""Time that passes on a manual clock while a test waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import sniffio

from tests.contract.samples import ManualClock
from tests.support.faulty_store import FaultyStore
from voiceflow_worker import Worker
from voiceflow_worker.backends.running import BlockingThread, Then, Work

STEP = timedelta(milliseconds=100)

_committing: set[object] = set()
"""What the threads of stores in SQLite have not written yet, in this process."""


def counted(do: Callable[[BlockingThread, Work, Then], None]) -> Callable[[BlockingThread, Work, Then], None]:
    """The method that gives work to such a thread, and counts it: its threads are no threads of anyio."""

    def count(thread: BlockingThread, work: Work, then: Then) -> None:
        each = object()
        _committing.add(each)

        def works() -> None:
            try:
                work()
            finally:
                _committing.discard(each)

        do(thread, works, then)

    return count


@asynccontextmanager
async def time_passing(
    clock: ManualClock, *, step: timedelta = STEP, stores: Collection[FaultyStore] = ()
) -> AsyncIterator[None]:
    """Let time pass while the block lasts, whenever somebody sleeps: fifty times as quick as in life, or slower.

    No time passes while a call of one of these `stores` is under way: a busy machine does not make it slow.
    """

    async def pass_time() -> None:
        while True:
            await anyio.sleep(0.002)  # the pace of the clock: so much real time for each step
            if stores:
                await all_blocked()
            if clock.sleepers and not any(store.under_way for store in stores):
                clock.advance(step)

    async with anyio.create_task_group() as group:
        group.start_soon(pass_time)
        yield
        group.cancel_scope.cancel()


async def all_blocked() -> None:
    """Return when no task of this event loop has anything left to do.

    As `anyio.wait_all_tasks_blocked`, which on asyncio looks every 100 ms of real time only.
    """
    if sniffio.current_async_library() != "asyncio":
        return await anyio.wait_all_tasks_blocked()
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    while True:
        await asyncio.sleep(0)
        if not ready:
            return None


async def passing(
    clock: ManualClock,
    during: Callable[[], Awaitable[object]],
    *beside: Callable[[], Coroutine[object, object, object]],
    within: timedelta = timedelta(hours=1),
) -> None:
    """Let time pass until something is done, and what is done beside it: to the next wake-up, whenever nobody works.

    What takes longer than `within` on this clock is cancelled, and raises TimeoutError.
    """
    is_done, ends = False, clock.now() + within
    async with anyio.create_task_group() as group:

        async def run() -> None:
            nonlocal is_done
            try:
                async with anyio.create_task_group() as others:
                    for each in beside:
                        others.start_soon(each)
                    await during()
            finally:
                is_done = True

        group.start_soon(run)
        # Time goes on for those that are cancelled, or a store's trip would never end.
        with anyio.CancelScope(shield=True):
            while not is_done:
                await all_blocked()
                while _committing or anyio.to_thread.current_default_thread_limiter().borrowed_tokens:
                    # A thread, such as the flush of a file, sets no event.
                    await anyio.sleep(0.0002 if _committing else 0.001)
                    await all_blocked()
                # A sleep is rounded to microseconds: without a least step it may have a nanosecond left for ever.
                clock.advance(max(clock.next_wake or timedelta(0), timedelta(microseconds=1)))
                if clock.now() > ends:
                    group.cancel_scope.cancel()
    if clock.now() > ends:
        raise TimeoutError(f"not done within {within}")


async def passing_beside(
    clock: ManualClock, workers: Sequence[Worker], during: Callable[[], Coroutine[object, object, object]]
) -> None:
    """Run workers, and let time pass, until something is done that stops them."""
    await passing(clock, during, *(worker.run for worker in workers))
