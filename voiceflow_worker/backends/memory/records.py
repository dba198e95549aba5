"""Records in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.memory.state import SharedState
from voiceflow_worker.core.ports import Records


@dataclass(frozen=True, slots=True)
class _Record:
    value: str
    expires_at: datetime | None

    def stands(self, *, at: datetime) -> bool:
        return self.expires_at is None or at < self.expires_at

    def ends_before(self, end: datetime | None) -> bool:
        return self.expires_at is not None and (end is None or self.expires_at < end)


class MemoryRecords(Records):
    """The port `Records` in memory."""

    def __init__(self, state: SharedState) -> None:
        self._tombstones = state.tombstones
        self._namespaces: dict[str, dict[str, _Record]] = {}

    async def put_if_absent(
        self,
        namespace: str,
        values: Mapping[str, str],
        *,
        expires_at: datetime | None,
        now: datetime,
        durably: bool = True,
        keep_later_end: bool = False,
    ) -> Mapping[str, str]:
        del durably
        await checkpoint()
        held = self._namespaces.setdefault(namespace, {})
        for key, value in values.items():
            standing = held.get(key)
            stays = standing is not None and standing.stands(at=now)
            if stays and standing is not None and standing.value == value:
                stays = keep_later_end and not standing.ends_before(expires_at)
            if not stays:
                held[key] = _Record(value, expires_at)
        return {key: held[key].value for key in values}

    async def put(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> None:
        await checkpoint()
        del now
        held = self._namespaces.setdefault(namespace, {})
        held.update({key: _Record(value, expires_at) for key, value in values.items()})

    async def put_if_longer(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> Mapping[str, str]:
        await checkpoint()
        held = self._namespaces.setdefault(namespace, {})
        for key, value in values.items():
            standing = held.get(key)
            if standing is None or not standing.stands(at=now) or standing.ends_before(expires_at):
                held[key] = _Record(value, expires_at)
        return {key: held[key].value for key in values}

    async def get(self, namespace: str, keys: Sequence[str], *, now: datetime) -> Mapping[str, str]:
        await checkpoint()
        held = self._namespaces.get(namespace, {})
        return {key: held[key].value for key in keys if key in held and held[key].stands(at=now)}

    async def scan(
        self, namespace: str, *, now: datetime, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[tuple[str, str]]:
        await checkpoint()
        held = self._namespaces.get(namespace, {})
        keys = sorted(key for key in held if key > after and key.startswith(prefix) and held[key].stands(at=now))
        return [(key, held[key].value) for key in keys[: max(limit, 0)]]

    async def delete(self, namespace: str, keys: Mapping[str, str | None], *, ends_at: datetime | None = None) -> None:
        await checkpoint()
        held = self._namespaces.get(namespace, {})
        for key, expected in keys.items():
            found = held.get(key)
            if found is None or (ends_at is not None and found.expires_at != ends_at):
                continue
            if expected is None or found.value == expected:
                del held[key]

    async def prune(self, *, now: datetime) -> int:
        await checkpoint()
        dropped = 0
        for held in self._namespaces.values():
            passed = [key for key, record in held.items() if not record.stands(at=now)]
            for key in passed:
                del held[key]
            dropped += len(passed)
        over = [place for place, (_, until) in self._tombstones.items() if until <= now]
        for place in over:
            del self._tombstones[place]
        return dropped + len(over)
