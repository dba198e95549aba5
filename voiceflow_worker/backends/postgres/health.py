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
    durability_diagnosis,
)
from voiceflow_worker.backends.postgres.survey import grants, quoted
from voiceflow_worker.core.ports import Store
from voiceflow_worker.finding import Diagnosis, failure

if TYPE_CHECKING:
    from voiceflow_worker.backends.postgres.store import PostgresStore

_LACKS = """
WITH ours AS (SELECT * FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND NOT relispartition)
SELECT privilege || ' on ' || name FROM (
    SELECT privilege, relname::text, CASE
        WHEN relkind IN ('r', 'p') AND privilege <> 'USAGE' AND (privilege = 'SELECT' OR relname <> 'voiceflow_schema')
            THEN has_table_privilege(oid, privilege)
        WHEN relkind = 'S' AND privilege = 'USAGE' THEN has_sequence_privilege(oid, privilege) END
    FROM ours, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE']) AS privilege
    UNION ALL SELECT 'EXECUTE', proname, has_function_privilege(oid, 'EXECUTE')
    FROM pg_proc WHERE pronamespace = to_regnamespace(%s)
) AS needed (privilege, name, is_given) WHERE NOT is_given ORDER BY 1
"""
"""What the role may not do that workers do. A partition has no rights of its own: those of its table count."""
_SHOWN = 5


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
        return {"rights": self._rights, "durability": partial(durability_diagnosis, self._store.durability)}

    async def _rights(self) -> Diagnosis | None:
        if self._store is None:
            return None
        database = self._store.database
        lacks = [each for (each,) in await database.rows(_LACKS, *[quoted(database.schema)] * 2)]
        if not lacks:
            return None
        role, more = database.survey.facts.role, f", and {len(lacks) - _SHOWN} more" if lacks[_SHOWN:] else ""
        return failure(
            f"the role {role} lacks {', '.join(lacks[:_SHOWN])}{more}: what needs it is refused",
            remedy=f"let the owner of the store run: {grants(database.schema, role)}",
        )
