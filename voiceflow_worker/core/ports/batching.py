"""Many callers, one trip to the store: what is handed in while a trip is under way goes with the next one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import anyio

from voiceflow_worker.errors import StoreUnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Waiting(Generic[Item, Result]):
    __slots__ = ("answer", "has_left", "item", "woken")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.woken: anyio.Event | None = None
        self.answer: Result | BaseException | None = None
        self.has_left = False


class Batcher(Generic[Item, Result]):
    """Collects items and flushes them together; each caller gets its own result, or its own error.

    `flush` gets all items that are waiting and gives one result or exception for each, in order; if it raises, all its
    callers get that error. There is no task of its own: the first caller leads, and then hands the lead on. A caller
    that is cancelled by a cancel scope is cancelled after its item was flushed, never between. One that is cancelled
    past all scopes (asyncio's own `Task.cancel`) cuts its flush short: the others of that flush get
    `StoreUnavailableError`, for nobody knows what was stored.
    """

    def __init__(self, flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]]) -> None:
        self._flush = flush
        self._waiting: list[_Waiting[Item, Result]] = []
        self._led = False

    async def submit(self, item: Item) -> Result:
        """Hand in one item and wait for its result."""
        mine: _Waiting[Item, Result] = _Waiting(item)
        self._waiting.append(mine)
        with anyio.CancelScope(shield=True):
            if self._led:
                await self._wait(mine)
            if mine.answer is None:
                await self._lead()
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        if mine.answer is None:
            raise RuntimeError("a flush gave fewer results than it was handed items")
        return mine.answer

    async def _wait(self, mine: _Waiting[Item, Result]) -> None:
        mine.woken = anyio.Event()
        try:
            await mine.woken.wait()
        except BaseException:
            mine.has_left = True
            if mine.woken.is_set() and mine.answer is None:
                self._hand_on()
            raise

    async def _lead(self) -> None:
        self._led = True
        batch, self._waiting = self._waiting, []
        answers: Sequence[Result | BaseException] | None = None
        try:
            answers = await self._flush([each.item for each in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to each of the callers
            answers = [error] * len(batch)
        finally:
            if answers is None:
                answers = [StoreUnavailableError("the trip to the store was cut short; ask again")] * len(batch)
            for each, answer in zip(batch, answers, strict=True):
                each.answer = answer
                if each.woken is not None:
                    each.woken.set()
            self._hand_on()

    def _hand_on(self) -> None:
        """Wake the first of those who came meanwhile: it leads next. What nobody waits for goes with the next trip."""
        for each in self._waiting:
            if not each.has_left and each.woken is not None:
                each.woken.set()
                return
        self._led = False
