"""The health of a store in a PostgreSQL: durability, its standby, open transactions, connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from voiceflow_worker.backends.health import (
    Durability,
    Figure,
    Health,
    HealthCheck,
    Making,
    Schema,
    durability_diagnosis,
)
from voiceflow_worker.backends.postgres.database import Database
from voiceflow_worker.backends.postgres.survey import NUMBER, quoted
from voiceflow_worker.backends.postgres.url import SCHEMA
from voiceflow_worker.core.ports import Store
from voiceflow_worker.finding import Diagnosis, failure, ok, warning
from voiceflow_worker.model.text.wording import duration_in_words

if TYPE_CHECKING:
    from voiceflow_worker.backends.postgres.store import PostgresStore

OLD = timedelta(minutes=5)
"""The age at which an open transaction is reported."""
FIGURES: Mapping[str, str] = {
    "oldest_transaction_seconds": "The age of the database's oldest open transaction, which keeps dead rows from being "
    "removed.",
    "connections_left": "Connections that the role of the store may still open.",
}
"""The figures of a store, by their names, with their meanings."""


_RAISE = "UPDATE voiceflow.voiceflow_schema SET number = %s WHERE number = %s"


class PostgresHealth(Health):
    """The checks and figures of a server. They need an open store."""

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
        database = self._store.database
        return {
            "durability": partial(durability_diagnosis, self._store.durability),
            "standby": partial(standby, database),
            "transactions": partial(transactions, database),
        }

    async def schema(self) -> Schema | None:
        if self._store is None:
            return None
        ((number,),) = await self._store.database.rows(NUMBER)
        return Schema(number, SCHEMA)

    async def raise_schema(self) -> None:
        if self._store is not None:
            await self._store.database.rows(_RAISE, SCHEMA, SCHEMA - 1)

    async def figures(self) -> Sequence[Figure]:
        if self._store is None:
            return ()
        database = self._store.database
        oldest = await _oldest(database)
        values = {
            "oldest_transaction_seconds": 0.0 if oldest is None else oldest.age.total_seconds(),
            "connections_left": await _connections_left(database),
        }
        return [Figure(name=name, meaning=meaning, value=values[name]) for name, meaning in FIGURES.items()]


# -- the standby -------------------------------------------------------------------------------------------------------

# Others than a member of pg_read_all_stats see only how many there are.
_NOBODY_CONFIRMS = """
SELECT current_setting('synchronous_standby_names') <> ''
    AND current_setting('synchronous_commit') NOT IN ('off', 'local')
    AND NOT EXISTS (SELECT FROM pg_stat_replication WHERE coalesce(sync_state, 'sync') IN ('sync', 'quorum'))
"""


async def standby(database: Database) -> Diagnosis | None:
    """Check that commits return."""
    ((nobody_confirms,),) = await database.rows(_NOBODY_CONFIRMS)
    if nobody_confirms:
        return failure(
            "commits wait for a synchronous standby, but none is connected: nothing is stored, and no call is sent",
            remedy="start the standby, or change synchronous_standby_names if there is none any more",
        )
    return None


# -- open transactions -------------------------------------------------------------------------------------------------

# All may see that others have a transaction, by `backend_xmin`; its age is for members of pg_read_all_stats.
_OLDEST = """
SELECT pid::text, application_name, usename::text, state, extract(epoch FROM clock_timestamp() - xact_start)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND xact_start IS NOT NULL
UNION ALL
SELECT NULL, gid, owner::text, 'prepared', extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts WHERE database = current_database()
ORDER BY 5 DESC LIMIT 1
"""
_SEES_ALL = "SELECT pg_has_role('pg_read_all_stats', 'USAGE')"


class _Transaction(NamedTuple):
    """An open transaction; a prepared one has no process, and its name as the application."""

    pid: str | None
    application: str
    user: str
    state: str
    age: timedelta


async def _oldest(database: Database) -> _Transaction | None:
    for pid, application, user, state, seconds in await database.rows(_OLDEST):
        return _Transaction(pid, application, user, state, timedelta(seconds=seconds))
    return None


async def transactions(database: Database) -> Diagnosis:
    """Check that no transaction has been open for long."""
    oldest = await _oldest(database)
    if oldest is None or oldest.age < OLD:
        ((sees_all,),) = await database.rows(_SEES_ALL)
        role = quoted(database.survey.facts.role)
        unseen = f"; those of other roles cannot be seen (GRANT pg_read_all_stats TO {role})"
        return ok(f"none is older than {duration_in_words(OLD)}{'' if sees_all else unseen}")
    if oldest.pid is None:
        who, end = f"prepared as {oldest.application}", f"COMMIT PREPARED or ROLLBACK PREPARED '{oldest.application}'"
    else:
        who = f"process {oldest.pid}, application {oldest.application or 'without a name'}, {oldest.state}"
        end = (
            f"end it where it was begun, or with SELECT pg_terminate_backend({oldest.pid}); "
            "idle_in_transaction_session_timeout ends such transactions by itself"
        )
    return warning(
        f"a transaction of {oldest.user} has been open for {duration_in_words(oldest.age)} ({who}): until it ends, "
        "vacuum removes no dead rows from any table, so that all become slower",
        remedy=end,
    )


# -- connections -------------------------------------------------------------------------------------------------------

_CONNECTIONS = """
WITH used AS (
    SELECT datname, usename FROM pg_stat_activity
    WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
)
SELECT least(
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
        - coalesce(current_setting('reserved_connections', true), '0')::integer - (SELECT count(*) FROM used),
    (SELECT nullif(datconnlimit, -1) - (SELECT count(*) FROM used WHERE datname = current_database())
        FROM pg_database WHERE datname = current_database()),
    (SELECT nullif(rolconnlimit, -1) - (SELECT count(*) FROM used WHERE usename = session_user)
        FROM pg_roles WHERE rolname = session_user)
)::integer
"""


async def _connections_left(database: Database) -> int:
    """Connections that the limits of the server, of the database and of the role leave."""
    ((left,),) = await database.rows(_CONNECTIONS)
    return max(int(left), 0)
