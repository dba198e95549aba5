"""The journeys by the public names of Python."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio

from tests.acceptance.journeys.interface import WORDS, Again, Call, Driver, Person
from voiceflow_worker import (
    CallQueue,
    Campaign,
    SuppressionList,
    VoiceClient,
    Worker,
    WorkerOptions,
    call_as_json,
    load_settings,
    open_store,
)
from voiceflow_worker.errors import TooEarlyError

Found = TypeVar("Found")


class Python(Driver):
    """A program on the store."""

    def drain(self) -> None:
        async def drain(queue: CallQueue) -> None:
            async with VoiceClient.from_env() as voice:
                await Worker(queue.store, voice, rate=None, options=WorkerOptions(policy=queue.policy)).drain()

        self._do(drain)

    def start(self, batch: str, people: Sequence[Person], **fields: Any) -> Again:
        given = {**WORDS, **fields, "batch": batch, "rows": [*people]}
        return self._order(lambda queue: Campaign.of(given, settings=load_settings()).start(queue))

    def calls(self, batch: str) -> Sequence[Call]:
        return [call_as_json(job) for job in self._do(lambda queue: queue.find(batch_id=batch))]

    def hold(self, batch: str) -> None:
        self._do(lambda queue: queue.hold(batch_id=batch))

    def resume(self, batch: str) -> None:
        self._do(lambda queue: queue.resume(batch_id=batch))

    def cancel_call(self, call: Call) -> None:
        self._do(lambda queue: queue.cancel(call["id"]))

    def cancel_batch(self, batch: str) -> None:
        self._do(lambda queue: queue.cancel_batch(batch))

    def redial_busy(self, batch: str) -> Again:
        return self._order(lambda queue: queue.redial_batch(batch, on="busy"))

    def suppress(self, number: str) -> None:
        self._do(lambda queue: SuppressionList(queue.store, policy=queue.policy).add(number))

    def resolve(self, call: Call, *, placed: bool) -> None:
        async def resolve(queue: CallQueue) -> None:
            try:
                await queue.resolve(call["id"], placed=placed, note="8x8 says so")
            except TooEarlyError:
                return

        self._do(resolve)

    def _order(self, work: Callable[[CallQueue], Awaitable[object]]) -> Again:
        self._do(work)
        return partial(self._do, work)

    def _do(self, work: Callable[[CallQueue], Awaitable[Found]]) -> Found:
        async def do() -> Found:
            settings = load_settings()
            async with open_store(self.on.store) as store:
                return await work(CallQueue(store, policy=settings.policy()))

        return anyio.run(do)
