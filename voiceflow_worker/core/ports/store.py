"""What the engine asks of the rest: a store in three small protocols, a clock, and a voice.

A backend implements `Jobs`, `Control` and `Records` and learns no feature: the moves are pure functions of the model,
and a store only keeps what they return, each change fenced by the revision it was made from. Every method may raise
`StoreUnavailableError`; nothing is then known to have changed, and asking again is safe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable

from voiceflow_worker.model.jobs.call_log import LoggedCalls
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict


class EventKind(StrEnum):
    """What an event of the outbox tells."""

    ENDED = "ended"
    """The job reached a final state, or a late summary changed the one it was in."""
    ATTEMPTED = "attempted"
    """A POST was told the end of its call, and the job goes on (a redial), or had its end by another POST."""
    DOUBTED = "doubted"
    INCIDENT = "incident"
    OTHER = "other"
    """Something that a newer version tells of; nobody here is told."""

    @classmethod
    def _missing_(cls, value: object) -> EventKind:  # noqa: ARG003 - enum's own name for it
        return cls.OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a job, committed together with the move that made it.

    Events reach their readers at least once, and in order per job. `post` is the number of the POST it is about, 0 for
    none. `sequence` is given by the store: it grows within a queue, and 0 stands for "not stored yet".
    """

    job_id: str
    kind: EventKind
    at: datetime
    state: JobState
    revision: str
    post: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """One change of one job: `new` replaces `old` if the store still holds `old.revision`.

    `new.revision` is a token made by the writer, different from every other: a store that finds it already there knows
    that this very move was committed before and only its answer was lost.
    """

    old: Job
    new: Job
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of one job handed in: `job` is the one the store holds, `created` whether it is the new one.

    For a unique key whose job was pruned, `job` is what the tombstone remembers: its id, state and times.
    """

    job: Job
    created: bool


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """The job that owns a unique key; `body_digest` tells whether another body asks for the same key."""

    job_id: str
    body_digest: str
    state: JobState


class Order(StrEnum):
    """How `find` sorts."""

    CREATED = "created"
    """By id: a ULID, so by time of creation."""
    DUE = "due"
    ANY = "any"
    """In the order that costs the store the least: for whoever takes all there is, some at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which jobs to find; what is None does not restrict.

    `due_before` and `valid_before` are inclusive. `after` continues a listing in `Order.CREATED` behind that job id.
    `limit` None is no limit.
    """

    queue: str
    states: frozenset[JobState] | None = None
    batch_id: str | None = None
    destination: str | None = None
    unique_key: str | None = None
    due_before: datetime | None = None
    valid_before: datetime | None = None
    after: str | None = None
    order: Order = Order.CREATED
    limit: int | None = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a queue is configured to.

    `rate` in calls per second over all workers (None: unlimited), `burst` how many may leave at once after a pause,
    `max_active` how many calls may be open (None: any number).
    """

    rate: float | None = None
    burst: int = 1
    max_active: int | None = None


@dataclass(frozen=True, slots=True)
class Slots:
    """Departure times taken from the queue's rate, in order; `next_at` is when the next one would be free."""

    times: tuple[datetime, ...]
    next_at: datetime


class Jobs(Protocol):
    """The jobs of a store."""

    async def enqueue(self, jobs: Sequence[Job], *, now: datetime) -> Sequence[Enqueued]:
        """Store new jobs, all or none, and wake who waits for the queue.

        Each is stored as it is, whatever its state: a worker's journal may tell of one that was being sent. A job whose
        `unique_key` is already there (in its queue, tombstones included, or earlier in `jobs`) is not stored: the
        answer holds the one that owns the key. Handing in the same job (same id) again is harmless, so that a lost
        answer can be asked for again. Raises `KeyConflictError`, storing nothing, when an owner's `body_digest`
        differs.
        """
        ...

    async def lease(
        self,
        queue: str,
        *,
        worker_id: str,
        limit: int,
        lease_for: timedelta,
        now: datetime,
        batch_id: str | None = None,
    ) -> Sequence[Job]:
        """Take at most `limit` due queued jobs for `worker_id`.

        Highest `priority` first, then earliest `due_at`, then id. One that a newer version wrote is left out, told in
        the log, and queued again when its lease ends.

        They come back `leased`, due at `now + lease_for`, under a new revision. Jobs whose `valid_until` has passed are
        left for the sweep. Nothing is leased while the queue's gate is closed, nor from a batch whose gate is closed,
        and no more than leaves `max_active` calls open: leased jobs, and jobs whose `active_until` lies ahead, count.
        """
        ...

    async def commit(self, moves: Sequence[Move]) -> Sequence[bool]:
        """Make moves of one queue in one durable step, each on its own terms.

        True: the job now is `new` (also when this very move had been committed before). False: somebody else moved it
        first, or it is gone. When this returns, what it made is durable; events are stored with their move.
        """
        ...

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        """The jobs with these ids; unknown ones are absent.

        Raises `StoreVersionError` where a newer version wrote one of them: it is not unknown.
        """
        ...

    async def find(self, query: Query) -> Sequence[Job]:
        """The jobs of one queue that match all of `query`.

        One that a newer version wrote is left out, and told in the log.
        """
        ...

    async def count(
        self, queue: str, *, batch_id: str | None = None, due_before: datetime | None = None
    ) -> Mapping[JobState, int]:
        """How many jobs are in each state; every state is present. `due_before` is inclusive."""
        ...

    async def owners(self, queue: str, unique_keys: Sequence[str], *, now: datetime) -> Mapping[str, KeyOwner]:
        """Who owns these unique keys, tombstones included; free keys are absent."""
        ...

    async def delete(self, jobs: Sequence[Job], *, keep_keys_until: datetime) -> Sequence[bool]:
        """Delete jobs, each only while it still has the revision given; its unique key answers on until then."""
        ...

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """The events of a queue behind `after`, oldest first."""
        ...

    async def forget_events(self, queue: str, *, before: datetime) -> int:
        """Drop events from before this time; says how many."""
        ...

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        """Return when the queue's change count is no longer `seen`, or at `until`; early is allowed. Gives the count.

        The count grows when a job was enqueued or came back to `queued`, and when a gate or a limit was ordered. It is
        larger than 0, so that a first call with `seen=0` returns at once, and a change made between the caller's last
        look and this call is not slept through.
        """
        ...


class Control(Protocol):
    """Rates, gates and departure times of queues."""

    async def configure(self, queue: str, limits: Limits) -> None:
        """Set the queue's limits for all workers."""
        ...

    async def limits(self, queue: str) -> Limits | None:
        """The queue's limits; None if it was never configured."""
        ...

    async def gate(self, ordered: Gate) -> Gate:
        """Carry out an order for a gate by the rules of `model.gate.merged` at `ordered.since`.

        Gives what stands now.
        """
        ...

    async def gates(self, queue: str) -> Sequence[Gate]:
        """The gates of a queue and of its batches that were ever ordered, open ones left out."""
        ...

    async def cancelling(self, queue: str, *, limit: int) -> Sequence[Gate]:
        """Gates of cancelled batches that have queued jobs, at most `limit` of them."""
        ...

    async def forget_gates(self, queue: str, *, before: datetime) -> int:
        """Drop gates of batches without a job, ordered before this time; says how many.

        Only gates that keep nothing: cancelled and open ones, and holds that ended before this time.
        """
        ...

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        """Take up to `wanted` departure times, none later than `now + horizon`, at the queue's rate and burst.

        `now` may lie ahead: no time is given before it. Times are shared by all workers (GCRA, `model.gcra`). An
        unlimited or unconfigured queue gives `wanted` times at `now`. After a clock was set back by more than ten
        seconds, departures go on within the horizon and an interval of the rate.
        """
        ...


class Records(Protocol):
    """Small values under keys, in namespaces, many at a time, each until a time (None: for good).

    A record whose time has passed is absent for every method.
    """

    async def put_if_absent(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> Mapping[str, str]:
        """Store each value whose key is absent; gives, for every key, the value that stands now.

        Where the standing value equals the one handed in, it gets the new expiry: so a lock can be taken again by its
        owner.
        """
        ...

    async def put(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> None:
        """Store values, replacing what is there."""
        ...

    async def get(self, namespace: str, keys: Sequence[str], *, now: datetime) -> Mapping[str, str]:
        """The values of these keys; absent ones are left out."""
        ...

    async def scan(
        self, namespace: str, *, now: datetime, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[tuple[str, str]]:
        """Keys with this prefix behind `after`, in order, with their values."""
        ...

    async def delete(self, namespace: str, keys: Mapping[str, str | None]) -> None:
        """Delete records; a value that is not None must be the one that stands, or the record stays."""
        ...

    async def prune(self, *, now: datetime) -> int:
        """Drop records and tombstones whose time has passed; says how many."""
        ...


class Clock(Protocol):
    """The time of a store: aware UTC, the same for all its users up to the clock skew."""

    def now(self) -> datetime:
        """The time now, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep on this clock; at most 0 is a checkpoint."""
        ...


class Store(Protocol):
    """What `open_store` gives: one store, opened."""

    @property
    def url(self) -> str:
        """The URL it was opened by, without secrets."""
        ...

    @property
    def jobs(self) -> Jobs:
        """The jobs."""
        ...

    @property
    def control(self) -> Control:
        """Rates, gates, departure times."""
        ...

    @property
    def records(self) -> Records:
        """Small values with a time to live."""
        ...

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One POST, ready to leave: the stored body and what is added to it on the wire."""

    body: str
    client_request_id: str
    valid_until: datetime


class Voice(Protocol):
    """What the engine asks of a gateway."""

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:
        """POST one call, once, and say what came of it.

        Never raises for what the network or the service does: whatever is not understood is `UNKNOWN`. A placement
        whose `valid_until` is not after `now` is not sent (`NOT_SENT`). Cancellation propagates; `progress` then tells
        whether anything may have left.
        """
        ...


class CallLog(Protocol):
    """The log that 8x8 keeps of calls: evidence for calls of which nobody knows whether they were placed."""

    async def logged_calls(self, *, since: datetime, until: datetime) -> LoggedCalls:
        """All rows of this range of time, as far as the log has them by now: they come late.

        This may take minutes. Raises `CallLogError`, and `CallLogUnavailableError` where trying again may help.
        """
        ...


@runtime_checkable
class Restartable(Protocol):
    """A store behind which a server may be restarted, replaced or restored while it is open."""

    async def incarnation(self, queue: str) -> str:
        """Another text whenever another server, or the same one started anew, answers for this queue."""
        ...
