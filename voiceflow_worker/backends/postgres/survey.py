"""A connection to a PostgreSQL, and its checks: the kind of the server, its durability, and the store."""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

import structlog
from psycopg import AsyncConnection
from psycopg.errors import Diagnostic, OperationalError

from voiceflow_worker.backends.health import Durability, Guarantee
from voiceflow_worker.backends.postgres.url import SCHEMA, PostgresURL
from voiceflow_worker.backends.running import check_schema
from voiceflow_worker.backends.store_url import Promise
from voiceflow_worker.core.ports.store import History
from voiceflow_worker.errors import SettingsError, StoreNotDurableError, StoreUnavailableError

_log = structlog.get_logger("voiceflow.postgres")

OLDEST = 13
_ISOLATION = "read committed"
_STORE = """
SELECT store_id::text, history, voiceflow.server(), voiceflow.history()
FROM voiceflow.voiceflow_schema
"""
_NUMBER = "SELECT number FROM voiceflow.voiceflow_schema ORDER BY number DESC LIMIT 1"

_ASK = """
SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(), current_setting('server_encoding'),
    current_setting('transaction_isolation'), current_setting('synchronous_commit'),
    current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on',
    current_user::text, current_database()::text, to_regnamespace('{schema}') IS NOT NULL,
    to_regclass('{schema}.voiceflow_schema') IS NOT NULL,
    (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('{schema}') AND relkind IN ('r', 'p', 'v'))
"""


class Facts(NamedTuple):
    """Facts about a server, the store and the role of a connection, in the order of `_ASK`."""

    number: int
    is_standby: bool
    encoding: str
    isolation: str
    synchronous_commit: str
    fsync: bool
    full_page_writes: bool
    role: str
    database: str
    has_schema: bool
    is_made: bool
    tables: int


def durability_from(facts: Facts, url: PostgresURL) -> Durability:
    """Return the durability of a store on this server.

    Raises SettingsError or StoreUnavailableError for a server on which no store can work, and StoreNotDurableError for
    one that may lose commits.
    """
    where = f"the PostgreSQL at {url.shown}"
    of_role = f"ALTER ROLE {quoted(facts.role)} IN DATABASE {quoted(facts.database)} SET"
    if facts.number < OLDEST * 10_000:
        raise SettingsError(f"{where} has version {facts.number // 10_000}, which is too old; use 13 or newer")
    if facts.is_standby:
        raise StoreUnavailableError(
            f"{where} is a standby, which accepts no writes; give the primary's address, or name all hosts"
        )
    if facts.encoding != "UTF8":
        raise SettingsError(
            f"the database {facts.database} has the encoding {facts.encoding}, which cannot keep every text; create "
            "one with UTF8 (CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8')"
        )
    if facts.isolation != _ISOLATION:
        raise SettingsError(
            f"{where} begins transactions as {facts.isolation}, in which the store would check what is out of date: "
            f"{of_role} default_transaction_isolation = 'read committed'"
        )
    if facts.synchronous_commit == "off":
        lost = "a crash of this PostgreSQL loses the commits of its last second, and their calls could be made twice"
        on = f"Turn it on ({of_role} synchronous_commit = on)"
        if url.promise is not Promise.BEST_EFFORT:
            raise StoreNotDurableError(
                f"synchronous_commit is off: {lost}. {on}. Or accept that: pass "
                'durability="best-effort" (?durability=best-effort in the store URL).'
            )
        return Durability(guarantee=Guarantee.NONE, promise=f"best effort, as requested: {lost}", warning=on)
    off = " and ".join(name for name in ("fsync", "full_page_writes") if not getattr(facts, name))
    if off:
        promise = f"{off} off: a crash of the server's machine may lose commits, or damage the database"
        return Durability(
            guarantee=Guarantee.SYSTEM, promise=promise, warning=f"{promise}; turn on {off} (ALTER SYSTEM, then reload)"
        )
    return Durability(guarantee=Guarantee.DISK, promise="each commit is on the server's disk before it returns")


Row = tuple[Any, ...]


class Connection(AsyncConnection[Row]):
    """One connection in autocommit mode, without prepared statements, which a transaction pooler cannot keep."""

    is_unconfirmed: bool = False
    """Whether the server has committed without waiting for a standby, which it says in a warning in its language."""

    @classmethod
    async def connect(  # type: ignore[override]
        cls,
        conninfo: str = "",
        *,
        check: Callable[[Connection], Awaitable[None]],
        failed: Callable[[Exception], object] | None = None,
        **options: Any,
    ) -> Self:
        """Connect, and check the server. Before an error is raised, `failed` is called with it."""
        try:
            made = await super().connect(conninfo, autocommit=True, prepare_threshold=None, **options)
            try:
                made.add_notice_handler(made.hear)
                await check(made)
            except BaseException:
                await made.close()
                raise
        except Exception as error:
            if failed is not None:
                failed(error)
            raise
        return made

    def hear(self, notice: Diagnostic) -> None:
        self.is_unconfirmed = self.is_unconfirmed or notice.source_function == "SyncRepWaitForLSN"

    def require_confirmed(self) -> None:
        """Raise StoreUnavailableError if what was just committed is not where the server was to wait for it."""
        unconfirmed, self.is_unconfirmed = self.is_unconfirmed, False
        if unconfirmed:
            raise StoreUnavailableError(
                "PostgreSQL has committed without waiting for its standbys, because that was cancelled: a failover "
                "would lose what was written"
            )

    async def rows(self, statement: str, *values: object) -> list[Row]:
        """Run a statement, and return its rows. Values come in binary, whatever DateStyle and the like are."""
        cursor = await self.execute(statement.encode(), values or None, binary=True)
        has_rows = cursor.pgresult is not None and cursor.pgresult.nfields  # `description` names their types, too
        return await cursor.fetchall() if has_rows else []

    async def run(self, script: str) -> None:
        await self.execute(script.encode())

    async def require_silent(self) -> None:
        """Close the connection if the server has said something since the last answer: mostly, that it ends it.

        Raises OperationalError then.
        """
        looked = select.poll()
        looked.register(self.pgconn.socket, select.POLLIN)
        if looked.poll(0):
            await self.close()
            raise OperationalError("the server has closed the connection")


class Survey:
    """The checks of each new connection, which after a failover may lead to another server.

    Without `finds_store`, a schema without a store passes.
    """

    def __init__(self, url: PostgresURL) -> None:
        self.finds_store = False
        self._url = url
        self._facts: Facts | None = None
        self._durability: Durability | None = None
        self.store_id: str = ""
        self.server: str = ""
        """The incarnation of the server that was connected last."""
        self._made_in = self._history = ""

    @property
    def facts(self) -> Facts:
        if self._facts is None:
            raise RuntimeError("the store has not been opened")
        return self._facts

    @property
    def durability(self) -> Durability:
        if self._durability is None:
            raise RuntimeError("the store has not been opened")
        return self._durability

    @property
    def history(self) -> History:
        return History(self._history, self._made_in, self._url.trusts_failover)

    async def check(self, connection: Connection) -> None:
        """Check a new connection. Raises VoiceflowError or psycopg.Error."""
        facts = Facts(*(await connection.rows(_ASK.format(schema=quoted(self._url.schema))))[0])
        found = durability_from(facts, self._url)
        was, self._durability, self._facts = self._durability, found, facts
        if found.warning is not None and was is not None and found.warning != was.warning:
            _log.warning(
                "this PostgreSQL should be configured differently", store=self._url.shown, warning=found.warning
            )
        if not facts.is_made:
            if self.finds_store:
                raise StoreUnavailableError(
                    f"there is no store any more in the schema {self._url.schema} of {self._url.shown}: it was "
                    "dropped, or this is another server; find out which before you make one",
                )
            return
        rows = await connection.rows(self._url.named(_NUMBER))
        number = rows[0][0] if rows else 0
        check_schema(number, SCHEMA, f"at {self._url.shown}", own="give the store its own schema (?schema=)")
        ((store_id, made_in, server, current),) = await connection.rows(self._url.named(_STORE))
        if self.store_id and not self._is_same(store_id, current):
            raise StoreUnavailableError(
                f"{self._url.shown} leads to another store now than the one that this process has opened, so nothing "
                "is read, stored or sent here. Find out where the name or the pooler leads to. If the store was moved "
                "on purpose, restart this process"
            )
        self.store_id, self.server, self._made_in, self._history = store_id, server, made_in, current

    def _is_same(self, store_id: str, history: str) -> bool:
        """Return True for the store that was opened: not another one, and no copy in another database system."""
        systems = {each.partition("/")[0] for each in (history, self._history)} - {""}
        return store_id == self.store_id and len(systems) <= 1


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
