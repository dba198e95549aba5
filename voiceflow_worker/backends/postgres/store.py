"""The PostgreSQL store: the nine methods of `core/ports/store.py`, each one statement."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import orjson

from voiceflow_worker.backends.health import Durability, Guarantee
from voiceflow_worker.backends.postgres.codec import JOB, answer_from, job_of, plain_bulk
from voiceflow_worker.backends.postgres.database import Database
from voiceflow_worker.backends.postgres.reading import counting, read_jobs, read_records
from voiceflow_worker.backends.postgres.transaction import joined
from voiceflow_worker.backends.postgres.waiting import QueueChanges
from voiceflow_worker.backends.record import event_from, readable, to_micros, totals_from
from voiceflow_worker.core.ports import Event
from voiceflow_worker.core.ports.reads import AnyOf, Counted, Read
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    Clock,
    History,
    Record,
    Store,
    Wanted,
    WriteResult,
    checked_bulk,
)
from voiceflow_worker.errors import StoreError, StoreUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import STATE, Totals

AT_ONCE = 32
"""The number of writes that are written at once: meanwhile, others wait for what they lock.
So many need fewer locks (`lock_groups` in write.sql) than the number from which a bulk write locks the whole store."""
_WRITE = "SELECT voiceflow.write(%s::jsonb)::text"
_LEASE = f"""
SELECT {JOB}, is_same
FROM (SELECT max(store_id::text) = %s AS is_same FROM voiceflow.voiceflow_schema) AS store,
    voiceflow.lease(%s, %s, %s, CASE WHEN is_same THEN %s::integer ELSE 0 END, %s, %s) AS call
"""
_EVENTS = "SELECT sequence, job_id, kind, at, state, revision, post FROM voiceflow.read_events(%s, %s, %s)"
_CHANGES = "SELECT voiceflow.count_changes(%s, %s)"
_PUT_NOTED = "SELECT voiceflow.put_noted(%s, %s)"
_PRUNE = "SELECT voiceflow.prune(%s, %s, %s, %s)"
_TOTALS = "SELECT name, field, live FROM voiceflow.count_all(%s, %s)"


class PostgresStore:
    """An open store in a schema of a database. This object belongs to one event loop."""

    def __init__(self, url: str, database: Database, *, clock: Clock) -> None:
        self.url = url
        self.clock = clock
        self.database = database
        self.changes: QueueChanges = QueueChanges(database, clock, self._count_changes)
        self._location: str | None = None

    @property
    def id(self) -> str:
        return self.database.survey.store_id

    @property
    def server(self) -> str:
        return self.database.survey.server

    @property
    def history(self) -> History:
        """System and the timeline of its WAL. A standby that takes over begins the next timeline."""
        return self.database.survey.history

    @property
    def durability(self) -> Durability:
        return self.database.survey.durability

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        bulk = checked_bulk(bulk)
        if self.durability.guarantee is Guarantee.NONE:
            bulk = replace(bulk, durable=False)
        parts = [bulk.writes[start : start + AT_ONCE] for start in range(0, len(bulk.writes) or 1, AT_ONCE)]
        answers: list[WriteResult] = []
        for part, plain in [(part, plain_bulk(bulk, part, now=now, store_id=self.id)) for part in parts]:
            try:
                ((written,),) = await self.database.rows(_WRITE, plain)
                replies = orjson.loads(written)
                if "not_verified" in replies:
                    await self.database.check_again()
            except StoreError as error:
                error.answers = (*answers, *[None] * (len(bulk.writes) - len(answers)))
                raise
            answers += [answer_from(*each) for each in zip(part, replies, strict=True)]
            for queue in {write.wakes for write in part if write.wakes is not None}:
                self.changes.wakeups.wake(queue)
        return answers

    async def lease(
        self, queue: str, *, worker_id: str, limit: int, until: datetime, now: datetime, batch: str | None = None
    ) -> Sequence[Job]:
        found = await self.database.rows(_LEASE, self.id, queue, batch, worker_id, limit, until, now)
        (*_, is_same), *rows = found
        if not is_same:  # a pooler leads to another store, whose calls are not ours
            await self.database.check_again()
            raise StoreUnavailableError(f"the store at {self.url} is another one than before; nothing was leased")
        return list(readable(rows, job_of))

    async def jobs(self, read: Read, *, now: datetime) -> Sequence[Job]:
        return await read_jobs(self.database, read, now=now)

    async def totals(self, queue: str, *, batches: Sequence[str | None]) -> Sequence[Totals]:
        names = [batch or "" for batch in batches]
        found = totals_from(await self.database.rows(_TOTALS, queue, list(dict.fromkeys(names))), names)
        has_jobs = {name: any(field.startswith(STATE) for field in found[name].live) for name in found}
        return [found[name] if not name or has_jobs[name] else Totals() for name in names]

    async def count(self, read: Counted | AnyOf) -> int:
        statement, values = counting(read)
        ((count,),) = await self.database.rows(statement, *values)
        return int(count)

    async def records(self, wanted: Wanted, *, now: datetime) -> Mapping[str, Sequence[Record]]:
        return await read_records(self.database, wanted, now=now)

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        rows = await self.database.rows(_EVENTS, queue, after, max(limit, 0))
        return [
            event_from(sequence, (job_id, kind, to_micros(at), state, revision, post))
            for sequence, job_id, kind, at, state, revision, post in rows
        ]

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        return await self.changes.wait(queue, seen=seen, until=until)

    async def _count_changes(self, queue: str, seen: int) -> int:
        ((count,),) = await self.database.rows(_CHANGES, queue, seen)
        return int(count)

    async def prune(self, queue: str, *, now: datetime, events_before: datetime, limit: int) -> int:
        # By themselves, so that no transaction takes locks in two orders.
        ((noted,),) = await self.database.rows(_PUT_NOTED, 1000, now)
        ((pruned,),) = await self.database.rows(_PRUNE, queue, now, events_before, max(limit, 0))
        return max(int(pruned), limit if noted == 1000 else 0)

    @asynccontextmanager
    async def joined(self, connection: object) -> AsyncGenerator[Store]:
        if self._location is None:
            ((self._location,),) = await self.database.rows("SELECT voiceflow.location()")
        async with joined(connection, schema=self.database.schema, store=self, location=self._location) as within:
            yield within
