"""Batching of trips to the store: items that are submitted during one trip go together in the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar, cast

import anyio

from voiceflow_worker.errors import StoreUnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Waiting(Generic[Item, Result]):
    __slots__ = ("answers", "has_left", "items", "woken")

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.woken: anyio.Event | None = None
        self.answers: Sequence[Result | BaseException] | None = None
        self.has_left = False


class Batcher(Generic[Item, Result]):
    """Collects items and flushes them together. Each caller gets its own results or errors.

    `flush` takes all waiting items and returns one result or exception for each, in order. If it raises, every caller
    with an item in this flush gets the error. There is no background task: the first caller runs the flush, and a
    caller that waited runs the next one. A caller in a cancelled scope ends only after its items were flushed. If the
    caller that runs the flush is cancelled without a scope (by asyncio's `Task.cancel`), the flush is interrupted. The
    other callers of that flush get `StoreUnavailableError`, because it is not known what was stored.
    """

    def __init__(self, flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]]) -> None:
        self._flush = flush
        self._waiting: list[_Waiting[Item, Result]] = []
        self._led = False

    async def submit(self, item: Item) -> Result:
        """Submit one item, and wait for its result."""
        (answer,) = await self.submit_all([item])
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def submit_all(self, items: Sequence[Item]) -> Sequence[Result | BaseException]:
        """Submit items together for one trip. Waits for them, and returns the result or error of each, in order."""
        mine: _Waiting[Item, Result] = _Waiting(items)
        self._waiting.append(mine)
        with anyio.CancelScope(shield=True):
            if self._led:
                await self._wait(mine)
            if mine.answers is None:
                await self._lead()
        return cast("Sequence[Result | BaseException]", mine.answers)

    async def _wait(self, mine: _Waiting[Item, Result]) -> None:
        mine.woken = anyio.Event()
        try:
            await mine.woken.wait()
        except BaseException:
            mine.has_left = True
            if mine.woken.is_set() and mine.answers is None:
                self._hand_on()
            raise

    async def _lead(self) -> None:
        self._led = True
        batch, self._waiting = self._waiting, []
        items = [item for each in batch for item in each.items]
        answers: Sequence[Result | BaseException] | None = None
        try:
            answers = await self._flush(items)
        except Exception as error:  # noqa: BLE001 - each of the callers gets it
            answers = [error] * len(items)
        finally:
            if answers is None:
                answers = [StoreUnavailableError("the request to the store was interrupted; try again")] * len(items)
            left = iter(answers)
            for each in batch:
                each.answers = list(islice(left, len(each.items)))
                if each.woken is not None:
                    each.woken.set()
            self._hand_on()

    def _hand_on(self) -> None:
        """Wake the first caller that still waits. That caller flushes all items, even those of cancelled callers."""
        for each in self._waiting:
            if not each.has_left and each.woken is not None:
                each.woken.set()
                return
        self._led = False
