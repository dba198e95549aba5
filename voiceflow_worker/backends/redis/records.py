"""Records in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from voiceflow_worker.backends.record import to_micros
from voiceflow_worker.backends.redis.connection.codec import Argument, micros, optional
from voiceflow_worker.backends.redis.connection.keys import Keys
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.backends.redis.registers import Registers
from voiceflow_worker.core.ports import Records

_LOOKS = 1000
"""The most records that one script examines."""


class RedisRecords(Records):
    """The port `Records` in Redis. A namespace is in one hash slot, so one script handles all keys of a request."""

    def __init__(self, link: Link, keys: Keys, registers: Registers) -> None:
        self._link = link
        self._keys = keys
        self._registers = registers

    async def put_if_absent(
        self,
        namespace: str,
        values: Mapping[str, str],
        *,
        expires_at: datetime | None,
        now: datetime,
    ) -> Mapping[str, str]:
        if not values:
            return {}
        await self._registers.note(self._keys.namespaces, namespace)
        args: list[Argument] = [to_micros(now), micros(expires_at), *_pairs(values)]
        standing = await self._link.run_durably("record_put_if_absent", self._keys.namespace(namespace), args)
        return dict(zip(values, standing, strict=True))

    async def put(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> None:
        del now
        if not values:
            return
        await self._registers.note(self._keys.namespaces, namespace)
        args: list[Argument] = [micros(expires_at), *_pairs(values)]
        await self._link.run_durably("record_put", self._keys.namespace(namespace), args)

    async def get(self, namespace: str, keys: Sequence[str], *, now: datetime) -> Mapping[str, str]:
        if not keys:
            return {}
        found = await self._link.run("record_get", self._keys.namespace(namespace), [to_micros(now), *keys])
        return _held(keys, found)

    async def scan(
        self, namespace: str, *, now: datetime, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        # The byte 0xFF does not occur in UTF-8, so prefix + 0xFF sorts after every key with the prefix.
        to: Argument = b"(" + prefix.encode() + b"\xff" if prefix else "+"
        while limit > len(found):
            start = f"({after}" if after and after >= prefix else f"[{prefix}"
            args: list[Argument] = [to_micros(now), start, to, limit - len(found), _LOOKS]
            after, *pairs = await self._link.run("record_scan", self._keys.namespace(namespace), args)
            found += zip(pairs[::2], pairs[1::2], strict=True)
            if not after:
                break
        return found

    async def delete(self, namespace: str, keys: Mapping[str, str | None]) -> None:
        if not keys:
            return
        args: list[Argument] = [argument for key, value in keys.items() for argument in (key, optional(value))]
        await self._link.run("record_delete", self._keys.namespace(namespace), args)

    async def prune(self, *, now: datetime) -> int:
        dropped = 0
        for namespace in await self._registers.names(self._keys.namespaces):
            dropped += await self._link.drop_all("record_prune", self._keys.namespace(namespace), now)
        for queue in await self._registers.names(self._keys.queues):
            dropped += await self._link.drop_all("prune_graves", self._keys.queue(queue), now)
        return dropped


def _held(keys: Sequence[str], values: Sequence[str | None]) -> Mapping[str, str]:
    return {key: value for key, value in zip(keys, values, strict=True) if value is not None}


def _pairs(values: Mapping[str, str]) -> list[Argument]:
    return [argument for pair in values.items() for argument in pair]
