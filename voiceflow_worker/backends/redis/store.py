"""A store in Redis: the methods of `core/ports/store.py`, each a script, so that it is atomic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
from anyio.lowlevel import checkpoint
from redis.exceptions import OutOfMemoryError

from voiceflow_worker.backends.plain import plain_condition, plain_write
from voiceflow_worker.backends.record import readable
from voiceflow_worker.backends.redis.client import RedisClient
from voiceflow_worker.backends.redis.codec import (
    LEAVES,
    answer_from,
    event_of,
    job_of_row,
    micros,
    optional,
    records_from,
)
from voiceflow_worker.backends.redis.durability import RedisDurability, Survey
from voiceflow_worker.backends.redis.faults import translated
from voiceflow_worker.backends.redis.scripts import load as load_scripts
from voiceflow_worker.backends.redis.url import parse_url
from voiceflow_worker.backends.running import ServerClock, Wakeups
from voiceflow_worker.backends.store_url import Promise
from voiceflow_worker.backends.writing import own_values
from voiceflow_worker.core.ports import Clock, Event
from voiceflow_worker.core.ports.reads import (
    AnyOf,
    ById,
    ByKey,
    Counted,
    Due,
    Expired,
    Listing,
    OfNumber,
    Read,
    Waiting,
)
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    History,
    Page,
    Record,
    Wanted,
    WriteResult,
    checked_bulk,
)
from voiceflow_worker.errors import SettingsError, StoreError, StoreUnavailableError, VoiceflowError
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import Totals

PAGE = 250
"""The most jobs that one script reads, in about three milliseconds."""
LOOKS = 1000
"""The most heads that one script examines, in about four milliseconds."""

_Rows = Sequence[Sequence[str]]


async def find(client: RedisClient, read: Read, now: datetime) -> list[Job]:
    """Return the jobs of a read. A job is returned as it is when its page is read."""
    match read:
        case ById(ids):
            rows = [row for page in _pages(ids) for row in (await client.run("jobs", {"ids": page}))[1:]]
            return list(map(job_of_row, rows))
        case ByKey(keys):
            asked = {"now": micros(now)}
            pages = _pages(list(map(optional, keys)))
            rows = [row for page in pages for row in (await client.run("jobs", asked | {"keys": page}))[1:]]
            return list(readable(rows, job_of_row))
        case Due() | Waiting() | Expired():
            return await _by_time(client, read)
        case OfNumber(number=number):
            return await _by_age(client, read, {"ages": f":number:{number}", "is_filtered": False})
        case Listing():
            return await _by_age(client, read, _indexes(read))


def index_of(read: Due | Expired | Waiting) -> str:
    """Return the end of the key of the index of a read, by time."""
    match read:
        case Due(state=state):
            return f":state:{state}"
        case Waiting(batch=batch):
            return f":batch:={batch}:queued"
        case Expired():
            return ":valid"


def latest_of(read: Due | Expired | Waiting) -> datetime | None:
    """Return the latest time in that index at which a job is one of the read."""
    return read.at if isinstance(read, Expired) else read.by


async def _by_time(client: RedisClient, read: Due | Expired | Waiting) -> list[Job]:
    """Return the jobs in an index by time. A job that was moved behind the pages before is not read again."""
    asked = {"queue": read.queue, "times": index_of(read), "latest": micros(latest_of(read))}
    found: dict[str, Job] = {}
    behind: Sequence[str] | None = None
    seen = 0
    while behind != "" and (most := min(PAGE, PAGE if read.limit is None else read.limit - seen)) > 0:
        behind, *rows = await client.run(
            "jobs", asked | {"most": most} | ({} if behind is None else {"behind": behind})
        )
        seen += len(rows)
        for job in readable(rows, job_of_row):
            found.setdefault(job.id, job)
    return list(found.values())


async def _by_age(client: RedisClient, read: OfNumber | Listing, indexes: dict[str, Any]) -> list[Job]:
    """Return the jobs in indexes of ids that pass their filters."""
    asked = {"queue": read.queue, "is_newest": read.newest, "checks": LOOKS, **indexes}
    found: list[Job] = []
    after = None
    while after != "" and (most := min(PAGE, PAGE if read.limit is None else read.limit - len(found))) > 0:
        place = {"after": after or read.after or "", "most": most}
        after, *rows = await client.run("jobs", asked | place)
        found += readable(rows, job_of_row)
    return found


def _indexes(read: Listing) -> dict[str, Any]:
    asked: dict[str, Any] = {} if read.batch is None else {"ages": f":batch:={read.batch}:ids"}
    if read.batch is None or read.states is not None:
        asked["sets"] = [f":in:{state}" for state in (JobState if read.states is None else read.states)]
    return asked | {
        "states": "" if read.states is None else f",{','.join(read.states)},",
        "outcomes": "" if read.outcomes is None else "\n".join(["", *map(optional, sorted(read.outcomes)), ""]),
        "batch": optional(read.batch),
        "is_filtered": read.outcomes is not None or None not in {read.batch, read.states},
    }


def _pages(names: Sequence[str]) -> list[Sequence[str]]:
    names = list(dict.fromkeys(names))
    return [names[start : start + PAGE] for start in range(0, len(names), PAGE)]


BLOCK_MS = 2000
"""The longest time, in milliseconds, for which an XREAD blocks. It must be less than the timeout of an answer."""
RETRY_AFTER = 0.05
"""Seconds between two tries to listen while the store cannot be reached."""


class QueueChanges:
    """The change counts of queues, with one listener per queue for all waiting tasks of this process.

    A listener blocks in XREAD on a stream with one entry, whose id is the change count less 1. The listener asks for an
    entry newer than the count that it knows. After a lost connection it therefore gets the changes made meanwhile; with
    pub/sub it would miss them. Tasks wait for the listener and not for Redis, because cancelling a blocked command
    closes its connection.
    """

    def __init__(self, client: RedisClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._wakeups = Wakeups()
        self._listened: set[str] = set()
        self._heard: dict[str, int] = {}

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        """Wait until the change count differs from `seen`, but not longer than `until`. Returns the change count."""
        if queue not in self._listened:
            self._listened.add(queue)
            self._client.start(partial(self._listen, queue))
        while True:
            change = self._wakeups.next(queue)  # first, so that no change after the read is missed
            count = await self._count(queue)
            left = (until - self._clock.now()).total_seconds()
            if count != seen or left <= 0:
                return count
            await change.wait(self._clock, within=left)
            # The listener has just heard the count, which saves a round trip before the next lease.
            if (heard := self._heard.get(queue, seen)) > seen:
                return heard

    async def _count(self, queue: str) -> int:
        key = f"{self._client.root}:queue:{queue}:changes"
        return int(await self._client.ask(("GET", key)) or 0) + 1

    async def _listen(self, queue: str) -> None:
        key = f"{self._client.root}:queue:{queue}:wake"
        while True:
            try:
                if queue not in self._heard:
                    self._heard[queue] = await self._count(queue)
                    # There may have been changes before the listener knew the count.
                    self._wakeups.wake(queue)
                after = self._heard[queue] - 1
                found = await self._client.ask(("XREAD", "BLOCK", BLOCK_MS, "STREAMS", key, f"{after}-0"))
                if found:
                    ((_, ((entry, _), *_)), *_) = found
                    self._heard[queue] = int(entry.partition("-")[0]) + 1
                    self._wakeups.wake(queue)
                    await checkpoint()  # the waiting task goes on first
            except VoiceflowError:
                # The server may come back with older data, so the count is read again.
                self._heard.pop(queue, None)
                await anyio.sleep(RETRY_AFTER)


AT_ONCE = 16
"""The most writes of one script: the server is busy with them for less than a millisecond,
and more of them would save nothing."""
_ROUNDS = 500
"""The most times that a lease runs its script again because the script found only expired or held jobs."""


class RedisStore:
    """An open store in Redis. Many processes may open the same store; this object belongs to one event loop."""

    def __init__(self, url: str, client: RedisClient, clock: Clock) -> None:
        self.url = url
        self.client = client
        self.clock = clock
        self._changes = QueueChanges(client, clock)

    @property
    def durability(self) -> RedisDurability:
        return self.client.durability

    @property
    def id(self) -> str:
        return self.durability.store_id

    @property
    def server(self) -> str:
        """Id of the server's process; always empty if the user may not see it."""
        return self.durability.server

    @property
    def history(self) -> History | None:
        """Replication id of the primary that this server has replaced, or the store's last one has."""
        return self.durability.history

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        bulk = checked_bulk(bulk)
        writes, answers = bulk.writes, list[WriteResult | None]()
        full: StoreError | None = None
        for start in range(0, len(writes) or 1, AT_ONCE):
            some = writes[start : start + AT_ONCE]
            asked: dict[str, Any] = {
                "now": micros(now),
                "writes": [plain_write(write, LEAVES) for write in some],
            }
            if bulk.guard is not None:
                own = own_values(put for write in writes for put in write.puts)
                known = plain_condition(bulk.guard.known, own)
                asked["guard"] = {"server": bulk.guard.server, "known": known}
            try:
                found = await (self.client.run_durably if bulk.durable else self.client.run)("write", asked)
            except StoreError as error:
                error.answers = (*answers, *[None] * (len(writes) - len(answers)))
                raise
            for write, each in zip(some, found, strict=True):
                if each[0] == "full":
                    full = full or translated(OutOfMemoryError(each[1]), shown=self.url)
                answers.append(None if each[0] == "full" else answer_from(write, each))
        if full is not None:
            full.answers = tuple(answers)
            raise full
        return [each for each in answers if each is not None]

    async def lease(
        self, queue: str, *, worker_id: str, limit: int, until: datetime, now: datetime, batch: str | None = None
    ) -> Sequence[Job]:
        """Lease jobs, but not durably. If the server loses a lease, its job is still queued and unsent."""
        asked = {
            "queue": queue,
            "now": micros(now),
            "limit": limit,
            "ends": micros(until),
            "worker": optional(worker_id),
            "batch": optional(batch),
        }
        for _ in range(_ROUNDS):
            stopped_early, *rows = await self.client.run("lease", asked | {"token": uuid4().hex})
            if rows or not stopped_early:
                return list(readable(rows, job_of_row))
        return []

    async def jobs(self, read: Read, *, now: datetime) -> Sequence[Job]:
        return await find(self.client, read, now)

    async def totals(self, queue: str, *, batches: Sequence[str | None]) -> Sequence[Totals]:
        if not batches:
            return []
        found = await self.client.run("totals", {"queue": queue, "batches": list(map(optional, batches))})
        return [Totals(live=_numbers(live)) for live in found]

    async def count(self, read: Counted | AnyOf) -> int:
        asked: dict[str, Any]
        if isinstance(read, AnyOf):
            any_of = [(index_of(each), micros(latest_of(each))) for each in read.reads]
            asked = {"queue": read.reads[0].queue, "any_of": any_of}
        else:
            asked = {"queue": read.queue, "by": micros(read.by), "times": index_of(read)}
        count: int = await self.client.run("count", asked)
        return count

    async def records(self, wanted: Wanted, *, now: datetime) -> Mapping[str, Sequence[Record]]:
        asked: list[dict[str, Any]] = []
        for namespace, each in wanted.items():
            if isinstance(each, Page):
                first, last = ("-", "+") if each.group is None else (f"[{each.group}\0", f"({each.group}\1")
                if each.after is not None:
                    first = f"({each.after[0]}\0{each.after[1]}"
                asked.append({"namespace": namespace, "first": first, "last": last, "most": max(each.limit, 0)})
            else:
                asked.append({"namespace": namespace, "keys": list(each)})
        answers = await self.client.run("records", {"now": micros(now), "wanted": asked}) or ()
        return {namespace: records_from(answer or ()) for namespace, answer in zip(wanted, answers, strict=True)}

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        asked = {"queue": queue, "after": after, "most": max(limit, 0)}
        return list(map(event_of, await self.client.run("events", asked)))

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        return await self._changes.wait(queue, seen=seen, until=until)

    async def prune(self, queue: str, *, now: datetime, events_before: datetime, limit: int) -> int:
        times = {"now": micros(now), "events_before": micros(events_before)}
        gone: int = await self.client.run("prune", {"queue": queue, "limit": max(limit, 0), **times})
        return gone


def _numbers(pairs: Sequence[str | int]) -> dict[str, int]:
    return {str(field): int(amount) for field, amount in zip(pairs[::2], pairs[1::2], strict=True)} if pairs else {}


@asynccontextmanager
async def open_redis(
    url: str,
    *,
    clock: Clock | None = None,
    durability: str | None = None,
    makes: bool = True,
) -> AsyncGenerator[RedisStore]:
    """Open the store at a `redis:`, `rediss:`, `valkey:`, `valkeys:` or `redis+sentinel:` URL.

    `clock` replaces the server's clock. `durability="best-effort"` (or `?durability=best-effort`) accepts a server that
    may lose data. With `makes=False`, a store that is not there is an error.

    Raises SettingsError for an invalid URL, StoreNotDurableError for a server that has no AOF, evicts keys, or does not
    show its settings, StoreVersionError for a store of another version, and StoreUnavailableError if the server does
    not answer.
    """
    parsed = parse_url(url)
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        raise SettingsError(
            f"the Redis store {parsed.shown} needs asyncio; on trio, use a store in a file (sqlite:///…)"
        )
    load_scripts()
    if durability is not None:
        parsed = replace(parsed, promise=Promise(durability))
    parsed = replace(parsed, makes=makes)
    client = RedisClient(parsed, Survey(parsed).server)
    async with client.opened():
        if clock is None:
            clock = server_clock = ServerClock(partial(_time_of, client))
            await server_clock.synchronise()
            client.start(server_clock.keep)
        yield RedisStore(parsed.shown, client, clock)


async def _time_of(client: RedisClient) -> float:
    time = await client.run("clock")
    try:
        seconds, microseconds = time
        return int(seconds) + int(microseconds) / 1e6
    except (TypeError, ValueError) as odd:
        raise StoreUnavailableError("the Redis gave its time in an unknown form; is it a Redis?") from odd
