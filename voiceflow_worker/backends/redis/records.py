"""Records in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from voiceflow_worker.backends.instant import to_micros
from voiceflow_worker.backends.redis.connection.codec import Argument, micros, optional
from voiceflow_worker.backends.redis.connection.keys import Keys
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.backends.redis.registers import Registers

_LOOKS = 1000
"""Records looked at by one script."""


class RedisRecords:
    """The port `Records` in Redis. A namespace is in one slot, so a call with many keys is one script."""

    def __init__(self, link: Link, keys: Keys, registers: Registers) -> None:
        self._link = link
        self._keys = keys
        self._registers = registers

    async def put_if_absent(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> Mapping[str, str]:
        """Store each value whose key is absent; gives, for every key, the value that stands now."""
        if not values:
            return {}
        await self._registers.namespace(namespace)
        args: list[Argument] = [to_micros(now), micros(expires_at), *_pairs(values)]
        standing = await self._link.run_durably("record_put_if_absent", self._keys.namespace(namespace), args)
        return dict(zip(values, standing, strict=True))

    async def put(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> None:
        """Store values, replacing what is there."""
        del now
        if not values:
            return
        await self._registers.namespace(namespace)
        args: list[Argument] = [micros(expires_at), *_pairs(values)]
        await self._link.run_durably("record_put", self._keys.namespace(namespace), args)

    async def get(self, namespace: str, keys: Sequence[str], *, now: datetime) -> Mapping[str, str]:
        """The values of these keys; absent ones are left out."""
        if not keys:
            return {}
        found = await self._link.run("record_get", self._keys.namespace(namespace), [to_micros(now), *keys])
        return {key: value for key, value in zip(keys, found, strict=True) if value is not None}

    async def scan(
        self, namespace: str, *, now: datetime, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[tuple[str, str]]:
        """Keys with this prefix behind `after`, in order, with their values."""
        found: list[tuple[str, str]] = []
        # 0xFF does not occur in UTF-8: it sorts after every key with the prefix, and before all others.
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
        """Delete records; a value that is not None must be the one that stands, or the record stays."""
        if not keys:
            return
        args = [argument for key, value in keys.items() for argument in (key, optional(value))]
        await self._link.run("record_delete", self._keys.namespace(namespace), args)

    async def prune(self, *, now: datetime) -> int:
        """Drop records and tombstones whose time has passed, some at a time; says how many."""
        dropped = 0
        for namespace in await self._registers.namespaces():
            dropped += await self._link.drop_all("record_prune", self._keys.namespace(namespace), now)
        for queue in await self._registers.queues():
            dropped += await self._link.drop_all("prune_graves", self._keys.queue(queue), now)
        return dropped


def _pairs(values: Mapping[str, str]) -> list[Argument]:
    return [argument for pair in values.items() for argument in pair]
