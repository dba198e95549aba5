"""The health of a store in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from voiceflow_worker.backends.health import (
    Durability,
    Health,
    HealthCheck,
    Schema,
    durability_diagnosis,
)
from voiceflow_worker.backends.redis.durability import SCHEMA
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite

if TYPE_CHECKING:
    from voiceflow_worker.backends.redis.store import RedisStore


class RedisHealth(Health):
    """The checks of a server. They need an open store."""

    def __init__(self, _url: str, store: Store | None) -> None:
        self._store = cast("RedisStore | None", store)

    @property
    def durability(self) -> Durability | None:
        return None if self._store is None else self._store.durability

    async def schema(self) -> Schema | None:
        if self._store is None:
            return None
        return Schema(await self._store.manager.run("number"), SCHEMA)

    async def raise_schema(self) -> None:
        if self._store is not None:
            await self._store.manager.run_durably("number", {"known": SCHEMA}, BulkWrite(writes=()))

    def checks(self) -> Mapping[str, HealthCheck]:
        if self._store is None:
            return {}
        return {"durability": partial(durability_diagnosis, self._store.durability)}
