"""The health of a store in a PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from voiceflow_worker.backends.health import (
    Durability,
    Health,
    HealthCheck,
    Making,
    Schema,
    durability_diagnosis,
)
from voiceflow_worker.backends.postgres.survey import NUMBER
from voiceflow_worker.backends.postgres.url import SCHEMA
from voiceflow_worker.core.ports import Store

if TYPE_CHECKING:
    from voiceflow_worker.backends.postgres.store import PostgresStore

_RAISE = "UPDATE voiceflow.voiceflow_schema SET number = %s WHERE number = %s"


class PostgresHealth(Health):
    """The checks of a server. They need an open store."""

    def __init__(self, url: str, store: Store | None) -> None:
        self._url = url
        self._store = cast("PostgresStore | None", store)

    @property
    def durability(self) -> Durability | None:
        return None if self._store is None else self._store.durability

    @property
    def making(self) -> Making:
        from voiceflow_worker.backends.postgres.opening import making_of

        return making_of(self._url)

    def checks(self) -> Mapping[str, HealthCheck]:
        if self._store is None:
            return {}
        return {"durability": partial(durability_diagnosis, self._store.durability)}

    async def schema(self) -> Schema | None:
        if self._store is None:
            return None
        ((number,),) = await self._store.database.rows(NUMBER)
        return Schema(number, SCHEMA)

    async def raise_schema(self) -> None:
        if self._store is not None:
            await self._store.database.rows(_RAISE, SCHEMA, SCHEMA - 1)
