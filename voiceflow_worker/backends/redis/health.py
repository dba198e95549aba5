"""The health of a store in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from voiceflow_worker.backends.health import (
    Durability,
    Health,
    HealthCheck,
    durability_diagnosis,
)
from voiceflow_worker.core.ports import Store

if TYPE_CHECKING:
    from voiceflow_worker.backends.redis.store import RedisStore


class RedisHealth(Health):
    """The checks of a server. They need an open store."""

    def __init__(self, _url: str, store: Store | None) -> None:
        self._store = cast("RedisStore | None", store)

    @property
    def durability(self) -> Durability | None:
        return None if self._store is None else self._store.durability

    def checks(self) -> Mapping[str, HealthCheck]:
        if self._store is None:
            return {}
        return {"durability": partial(durability_diagnosis, self._store.durability)}
