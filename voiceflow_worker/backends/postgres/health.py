"""What a store in a PostgreSQL tells of itself: the durability of commits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from voiceflow_worker.backends.health import Health, Look, judged_promise
from voiceflow_worker.backends.postgres.survey import Guarantee
from voiceflow_worker.core.ports import Store
from voiceflow_worker.finding import Diagnosis

if TYPE_CHECKING:
    from voiceflow_worker.backends.postgres.store import PostgresStore


class PostgresHealth(Health):
    """The checks of a server and of the tables of a store. They need an open store."""

    def __init__(self, _url: str, store: Store | None) -> None:
        self._store = cast("PostgresStore | None", store)

    @property
    def advice(self) -> str | None:
        return None if self._store is None else self._store.durability.warning

    def checks(self) -> Mapping[str, Look]:
        return {} if self._store is None else {"durability": partial(durability, self._store)}


async def durability(store: PostgresStore) -> Diagnosis:
    """Check that the server cannot lose a commit that it has confirmed."""
    found = store.durability
    return judged_promise(found.promise, warned=found.warning, forgets=found.guarantee is Guarantee.NONE)
