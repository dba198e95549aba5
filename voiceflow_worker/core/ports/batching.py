"""Batching of trips to the store: items handed in during one trip go together with the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

import anyio

from voiceflow_worker.errors import StoreUnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Waiting(Generic[Item, Result]):
    __slots__ = ("answer", "has_left", "is_answered", "item", "woken")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.woken: anyio.Event | None = None
        self.answer: Result | BaseException | None = None
        self.is_answered = False
        self.has_left = False


class Batcher(Generic[Item, Result]):
    """Collects items and flushes them together; each caller gets its own result, or its own error.

    `flush` takes all items that wait and gives one result or exception for each, in order; if it raises, all its
    callers get that error. There is no background task: the first caller leads, and then passes the lead on. A caller
    that is cancelled by a cancel scope is cancelled after its item was flushed. One that is cancelled past all scopes
    (asyncio's own `Task.cancel`) interrupts its flush: the others of that flush get `StoreUnavailableError`, because it
    is not known what was stored.
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
            if not mine.is_answered:
                await self._lead()
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        return cast("Result", mine.answer)

    async def _wait(self, mine: _Waiting[Item, Result]) -> None:
        mine.woken = anyio.Event()
        try:
            await mine.woken.wait()
        except BaseException:
            mine.has_left = True
            if mine.woken.is_set() and not mine.is_answered:
                self._hand_on()
            raise

    async def _lead(self) -> None:
        self._led = True
        batch, self._waiting = self._waiting, []
        answers: Sequence[Result | BaseException] | None = None
        try:
            answers = await self._flush([each.item for each in batch])
        except Exception as error:  # noqa: BLE001 - each of the callers gets it
            answers = [error] * len(batch)
        finally:
            if answers is None:
                answers = [StoreUnavailableError("the trip to the store was interrupted; try again")] * len(batch)
            for each, answer in zip(batch, answers, strict=True):
                each.answer, each.is_answered = answer, True
                if each.woken is not None:
                    each.woken.set()
            self._hand_on()

    def _hand_on(self) -> None:
        """Wake the first caller that waits: it leads next. Items of callers that have left go with the next trip."""
        for each in self._waiting:
            if not each.has_left and each.woken is not None:
                each.woken.set()
                return
        self._led = False
