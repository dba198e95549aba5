"""Gates, limits and departure times in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from voiceflow_worker.backends.redis.connection.clients import Client
from voiceflow_worker.backends.redis.connection.codec import Argument, gate_of
from voiceflow_worker.backends.redis.connection.keys import Keys
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.core.ports import Control, Limits, Slots
from voiceflow_worker.core.store_port import GATES, gate_key
from voiceflow_worker.model.jobs.gate import Gate

_GATES_AT_ONCE = 200


class RedisControl(Control):
    """The port `Control` in Redis."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys

    async def configure(self, queue: str, limits: Limits) -> None:
        args: list[Argument] = [
            "" if limits.rate is None else repr(float(limits.rate)),
            limits.burst,
            "" if limits.max_active is None else limits.max_active,
        ]
        await self._link.run_durably("configure", self._keys.queue(queue), args)

    async def limits(self, queue: str) -> Limits | None:
        (rate, burst, most), _ = await self._link.run("read_control", self._keys.queue(queue))
        if burst is None:
            return None
        return Limits(rate=float(rate) if rate else None, burst=int(burst), max_active=int(most) if most else None)

    async def gates(self, queue: str) -> Sequence[Gate]:
        _, pairs = await self._link.run("read_control", self._keys.queue(queue))
        return _gates(queue, pairs)

    async def cancelling(self, queue: str, *, limit: int) -> Sequence[Gate]:
        return _gates(queue, await self._link.run("cancelling", self._keys.queue(queue), [limit]))

    async def forget_gates(self, queue: str, *, before: datetime) -> int:
        key = self._keys.queue(queue)
        dropped = cursor = 0
        while True:
            cursor, read = await self._link.ask(partial(_some_gates, key=f"{key}:gates", cursor=cursor))
            old: list[Argument] = [self._keys.namespace(GATES)]
            for field, text in read.items():
                gate = gate_of(queue, field, text)
                if gate.is_spent(at=before):
                    old += (field, text, gate_key(queue, gate.name))
            if len(old) > 1:
                dropped += int(await self._link.run("forget_gates", key, old))
            if not cursor:
                return dropped

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        args: list[Argument] = [wanted, repr(now.timestamp()), repr(horizon.total_seconds())]
        answer = await self._link.run("take", self._keys.queue(queue), args)
        if not answer:
            return Slots((now,) * max(wanted, 0), now)
        # Epoch seconds in a float are exact to 0.25 µs, so a time in whole microseconds is restored exactly.
        next_at, *times = (datetime.fromtimestamp(float(seconds), UTC) for seconds in answer)
        return Slots(tuple(times), next_at)


def _gates(queue: str, pairs: Sequence[str]) -> Sequence[Gate]:
    return [gate_of(queue, field, text) for field, text in zip(pairs[::2], pairs[1::2], strict=True)]


async def _some_gates(client: Client, *, key: str, cursor: int) -> tuple[int, Mapping[str, str]]:
    """The next cursor (0 at the end), and the gates of a queue that were read from `cursor` on."""
    return await client.hscan(key, cursor=cursor, count=_GATES_AT_ONCE)
