"""The health of a store in Redis: the durability of commits, and the memory that calls take."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from voiceflow_worker.backends.health import (
    Health,
    HealthCheck,
    Schema,
    durability_diagnosis,
    failover_diagnosis,
    server_clock_diagnosis,
)
from voiceflow_worker.backends.redis.durability import SCHEMA, Guarantee
from voiceflow_worker.core.ports import Store
from voiceflow_worker.finding import Diagnosis, ok, warning

if TYPE_CHECKING:
    from voiceflow_worker.backends.redis.store import RedisStore


class RedisHealth(Health):
    """The checks of a server. They need an open store."""

    def __init__(self, _url: str, store: Store | None) -> None:
        self._store = cast("RedisStore | None", store)

    @property
    def advice(self) -> str | None:
        return None if self._store is None else self._store.durability.warning

    @property
    def degraded(self) -> str | None:
        return None if self._store is None else self._store.durability.degraded

    async def schema(self) -> Schema | None:
        if self._store is None:
            return None
        return Schema(await self._store.manager.run("number"), SCHEMA)

    async def raise_schema(self) -> None:
        if self._store is not None:
            await self._store.manager.run_durably("number", {"known": SCHEMA})

    def checks(self) -> Mapping[str, HealthCheck]:
        if self._store is None:
            return {}
        return {
            "durability": partial(durability, self._store),
            "failover": partial(failover_diagnosis, self._store),
            "memory": partial(memory, self._store),
            "server clock": partial(server_clock_diagnosis, self._store.clock),
        }


async def durability(store: RedisStore) -> Diagnosis:
    """Check that the server cannot lose a commit that it has confirmed."""
    found = store.durability
    return durability_diagnosis(found.promise, warned=found.warning, forgets=found.guarantee is Guarantee.NONE)


async def memory(store: RedisStore) -> Diagnosis:
    """Check that the server stores calls in its compact form, which takes less memory."""
    found = await store.packing()
    if found is None:
        return ok("not checked, because this Redis does not allow CONFIG GET")
    shown = f"{found.setting} is {found.up_to}"
    if found.up_to >= found.enough:
        return ok(f"{shown}: calls are stored in the compact form")
    return warning(
        f"{shown}: a call takes about 0.6 KB more memory than it needs",
        remedy=f"CONFIG SET {found.setting} {found.enough}, then CONFIG REWRITE; calls that are already stored take "
        "less memory after Redis has restarted",
    )
