"""Many callers, one trip to the store: what is handed in while a trip is under way goes with the next one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import anyio

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Waiting(Generic[Item, Result]):
    __slots__ = ("answer", "item", "woken")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.woken: anyio.Event | None = None
        self.answer: Result | BaseException | None = None


class Batcher(Generic[Item, Result]):
    """Collects items and flushes them together; each caller gets its own result, or its own error.

    `flush` gets all items that are waiting and gives one result or exception for each, in order; if it raises, all its
    callers get that error. There is no task of its own: the first caller leads, and then hands the lead on. A caller
    that is cancelled is cancelled after its item was flushed, never between.
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
                mine.woken = anyio.Event()
                await mine.woken.wait()
            if mine.answer is None:
                await self._lead()
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        if mine.answer is None:
            raise RuntimeError("a flush gave fewer results than it was handed items")
        return mine.answer

    async def _lead(self) -> None:
        self._led = True
        batch, self._waiting = self._waiting, []
        try:
            answers: Sequence[Result | BaseException] = await self._flush([each.item for each in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to each of the callers
            answers = [error] * len(batch)
        for each, answer in zip(batch, answers, strict=True):
            each.answer = answer
            if each.woken is not None:
                each.woken.set()
        # Whoever came meanwhile waits; the first of them leads next.
        if self._waiting and (first := self._waiting[0].woken) is not None:
            first.set()
        else:
            self._led = False
