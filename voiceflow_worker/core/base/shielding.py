"""Work that a cancellation of its caller does not cut."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def run_shielded(work: Callable[[], Awaitable[T]], *, on_cancel: Callable[[], object] = lambda: None) -> T:
    """Run work to its end, and return its result. If the caller is cancelled meanwhile, raise that afterwards.

    `on_cancel` is called at the first cancellation. The work has a task of its own, because asyncio's `Task.cancel` of
    the caller's task follows no shield. The end of the event loop cancels every task, and this one, too.
    """
    ended, results, failed = anyio.Event(), list[T](), list[BaseException]()
    cancelled: BaseException | None = None

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            try:
                results.append(await work())
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - raised below, and not in a group
                failed.append(error)
            finally:
                ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        while not ended.is_set():
            try:
                with anyio.CancelScope(shield=cancelled is not None):
                    await ended.wait()
            except anyio.get_cancelled_exc_class() as error:
                if cancelled is None:
                    cancelled = error
                    on_cancel()
    if cancelled is not None:
        raise cancelled
    if failed:
        raise failed[0]
    return results[0]
