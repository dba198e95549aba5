"""The port `Records` over the reference of the memory store."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.memory.reference import Memory, MemoryDomain
from voiceflow_worker.core.ports import Records
from voiceflow_worker.core.store_port import Mode, Put, Record, Unit

_NO_EVENTS = datetime.min.replace(tzinfo=UTC)


class MemoryRecords(Records):
    """The port `Records` in memory."""

    def __init__(self, domain: MemoryDomain) -> None:
        self._domain = domain

    @property
    def _memory(self) -> Memory:
        return self._domain.memory

    def _put(self, put: Put, now: datetime) -> str:
        self._memory.answer(Unit(puts=(put,)), now)
        return self._memory.recorded[put.namespace][put.key].value

    async def put_if_absent(
        self,
        namespace: str,
        values: Mapping[str, str],
        *,
        expires_at: datetime | None,
        now: datetime,
    ) -> Mapping[str, str]:
        await checkpoint()
        standing: dict[str, str] = {}
        for key, value in values.items():
            held = self._memory.record(namespace, key, now)
            mode = Mode.ALWAYS if held is not None and held.value == value else Mode.KEEP
            standing[key] = self._put(Put(namespace, key, value, expires_at, mode), now)
        return standing

    async def put(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> None:
        await checkpoint()
        for key, value in values.items():
            self._put(Put(namespace, key, value, expires_at), now)

    async def get(self, namespace: str, keys: Sequence[str], *, now: datetime) -> Mapping[str, str]:
        await checkpoint()
        return {key: held.value for key in keys if (held := self._memory.record(namespace, key, now)) is not None}

    async def scan(
        self, namespace: str, *, now: datetime, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[tuple[str, str]]:
        await checkpoint()
        found = (each for each in self._memory.prefixed(namespace, prefix, now) if each.key > after)
        return [(each.key, each.value) for each in found][: max(limit, 0)]

    async def delete(self, namespace: str, keys: Mapping[str, str | None]) -> None:
        await checkpoint()
        held = self._memory.recorded.get(namespace, {})
        for key, expected in keys.items():
            found: Record | None = held.get(key)
            if found is not None and expected in {None, found.value}:
                del held[key]

    async def prune(self, *, now: datetime) -> int:
        await checkpoint()
        return sum(self._memory.prune(queue, now, _NO_EVENTS, sys.maxsize) for queue in self._queues())

    def _queues(self) -> set[str]:
        return {"", *(queue for queue, _ in self._memory.tombstones)}
