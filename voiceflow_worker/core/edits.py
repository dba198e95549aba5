"""The edit of a batch: its waiting calls get another window, validity, priority or source, in slices.

A call keeps its unique key and the digest by which its row is recognised, so the same file again adds nothing. A call
that was sent keeps what it was sent with.

The edit is stored first, as a record of the batch. Then no call of the batch gets a journal entry before it has taken
the edit (`writes.journal_entry`), and each call that comes back into the queue takes it, from wherever it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from voiceflow_worker.core import writes
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import count_states, find_pages
from voiceflow_worker.core.base.record_set import Codec, report_unreadable
from voiceflow_worker.core.gates import SENT_WITHIN, until_left
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import Storing
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Put, Record, Result, Same, Write
from voiceflow_worker.errors import ChangedSinceError, InvalidInputError, StoreVersionError
from voiceflow_worker.finding import Message
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.country_windows import CountryWindows, first_opening
from voiceflow_worker.model.flows.callflow import body_from
from voiceflow_worker.model.flows.rules import VALIDITY_EXPIRED
from voiceflow_worker.model.jobs.job import Job, JobState, NoteKind
from voiceflow_worker.model.jobs.lifecycle import noted, release
from voiceflow_worker.model.numbers.reading import Sources
from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.model.window import CallWindow

PAGE = 200
"""The most calls that are edited in one bulk write."""
_CHECK_AGAIN = 0.2
_TRY_AGAIN = timedelta(minutes=1)
EDITS = "batch-edit"
"""Namespace of the edits of batches that calls may still have to take: in the group of the queue, by batch."""
_WAITING = frozenset({JobState.QUEUED, JobState.LEASED})
_MAY_COME_BACK = frozenset({JobState.SENDING, JobState.SUBMITTED, JobState.IN_DOUBT})

_log = structlog.get_logger("voiceflow.edits")


@checked
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEdit:
    """What waiting calls get; what is None stays. `names` are the fields that were given, as for a campaign.

    Of a window, only the parts that were given are changed.
    """

    names: frozenset[str]
    windows: CountryWindows | None = None
    valid_until: datetime | None = None
    priority: int | None = None
    sources: Sources | None = None

    def of(self, job: Job, *, at: datetime) -> Job:
        """A job after the edit; the same object if nothing changes. POSTs keep the source from which they were sent.

        Raises InvalidInputError for a number that there is no window or no source for.
        """
        window = self._window(job)
        source, body, posts = job.source, job.body, job.posts
        if self.sources is not None and (source := self.sources.to(job.destination)) != job.source:
            with suppress(ValueError):  # a broken body: its call ends when it is to be sent
                body = body_from(body, source)
            posts = tuple(replace(post, source=job.source_of(post)) for post in posts)
        new = replace(
            job,
            window=window,
            valid_until=self.valid_until or job.valid_until,
            priority=job.priority if self.priority is None else self.priority,
            source=source,
            body=body,
            posts=posts,
        )
        if new == job:
            return job
        if window == job.window or window is None:
            return new
        begin = max(at, job.due_at if job.post_count else job.not_before or job.created_at)
        opening = first_opening(
            window, numbers=job.numbers, time_zone=job.time_zone, at=begin, valid_until=new.valid_until
        )
        # One that opens too late leaves the call to its validity, which ends it.
        problem = opening.problem
        if problem is not None and problem.code != VALIDITY_EXPIRED:
            raise InvalidInputError(problem.message)
        return replace(
            new,
            due_at=opening.at,
            first_due_at=opening.at,
            goes_first=False,
            time_zone=opening.time_zone,
            reason=None,
            reason_kind=None,
            missed_windows=0,
        )

    @property
    def values(self) -> tuple[object, ...]:
        """What was given, by which another edit is another one."""
        windows = None if self.windows is None else self.windows.fields()
        sources = None if self.sources is None else self.sources.by_country
        return sorted(self.names), windows, self.valid_until, self.priority, sources

    def _window(self, job: Job) -> CallWindow | None:
        if self.windows is None:
            return job.window
        window = self.windows.to(job.numbers)
        if job.window is None:
            return window
        parts = {
            part: getattr(window if name in self.names else job.window, part)
            for part, name in (("spans", "window"), ("days", "days"), ("holidays", "holidays"))
        }
        zone = window.time_zone if "window_time_zone" in self.names else job.window.time_zone
        return CallWindow(**parts, time_zone=zone)


class OrderedEdit(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An edit as it is stored: for the calls of its batch that were enqueued by `at`, with a note for each."""

    token: str
    at: datetime
    note: str
    names: frozenset[str] = frozenset()
    windows: Mapping[str, str] | None = None
    valid_until: datetime | None = None
    priority: int | None = None
    sources: Mapping[str, str] | None = None

    @classmethod
    def of(cls, edit: BatchEdit, *, at: datetime, note: str) -> OrderedEdit:
        """An edit that is ordered now, for calls that were enqueued by `at`."""
        return cls(
            token=new_revision(),
            at=at,
            note=note,
            names=edit.names,
            windows=None if edit.windows is None else edit.windows.fields(),
            valid_until=edit.valid_until,
            priority=edit.priority,
            sources=None if edit.sources is None else edit.sources.by_country,
        )

    @property
    def edit(self) -> BatchEdit:
        """The edit. Raises InvalidInputError if this installation cannot read its window."""
        return BatchEdit(
            names=self.names,
            windows=None if self.windows is None else CountryWindows.of_fields(self.windows),
            valid_until=self.valid_until,
            priority=self.priority,
            sources=None if self.sources is None else Sources(self.sources),
        )

    @property
    def changes(self) -> frozenset[str]:
        """What it changes. An edit of which later ones change everything is not kept."""
        given = {"valid_until": self.valid_until, "priority": self.priority, "source": self.sources}
        parts = self.names if self.windows is not None else frozenset[str]()
        return parts | {name for name, value in given.items() if value is not None}


_codec: Codec[tuple[OrderedEdit, ...]] = Codec(tuple[OrderedEdit, ...])


@dataclass(frozen=True, slots=True)
class BatchEdits:
    """The edits of some batches, by queue and batch, in their order."""

    ordered: Mapping[tuple[str, str | None], tuple[OrderedEdit, ...]] = field(
        default_factory=dict[tuple[str, str | None], tuple[OrderedEdit, ...]]
    )

    @classmethod
    async def of(cls, store: Store, jobs: Iterable[Job]) -> BatchEdits:
        """The edits of the batches of these jobs. Raises StoreError."""
        keys = list(dict.fromkeys((job.queue, job.batch_id) for job in jobs if job.batch_id is not None))
        return await cls.at(store, keys) if keys else cls()

    @classmethod
    async def at(cls, store: Store, keys: Sequence[tuple[str, str]]) -> BatchEdits:
        """The edits of the batches with these keys: their queues, and their ids. Raises StoreError."""
        return cls.read(keys, (await store.records({EDITS: keys}, now=store.clock.now()))[EDITS])

    @classmethod
    def read(cls, keys: Iterable[tuple[str, str]], records: Iterable[Record]) -> BatchEdits:
        """The edits of the batches with these keys, from their records."""
        found = dict[tuple[str, str | None], tuple[OrderedEdit, ...]](dict.fromkeys(keys, ()))
        for record in records:
            try:
                found[record.group, record.member] = _codec.value(record.value)
            except (StoreVersionError, ValueError) as error:
                del found[record.group, record.member]  # its calls wait for a worker that can read it
                report_unreadable(f"the edit of batch {record.member}", error)
        return cls(found)

    def taken(self, job: Job, *, at: datetime) -> Job:
        """The job after the edits of its batch; the same object if it has taken all of them.

        Those that it has taken before change nothing. A call that cannot take one takes none after it, so that it gets
        no journal entry. While it waits, it has the reason, and is tried again in a minute.
        """
        if (edits := self.ordered.get((job.queue, job.batch_id))) is None:
            return job
        token = edits[-1].token if edits else None
        if job.edit == token:
            return job
        new, tokens = job, [each.token for each in edits]
        for each in edits[tokens.index(job.edit) + 1 :] if job.edit in tokens else edits:
            if job.created_at <= each.at:
                try:
                    edited = each.edit.of(new, at=at)
                except InvalidInputError as error:
                    return _without_the_edit(new, error, at=at)
                new = new if edited is new else noted(edited, NoteKind.EDITED, each.note, at=at)
            new = replace(new, edit=each.token)
        return replace(new, edit=token)

    def unchanged(self, job: Job) -> tuple[Same, ...]:
        """The condition that the batch of the job gets no other edit; none if this version cannot read its edits."""
        edits = self.ordered.get((job.queue, job.batch_id))
        return () if edits is None else writes.edits_taken(replace(job, edit=edits[-1].token if edits else None))


def _without_the_edit(job: Job, error: InvalidInputError, *, at: datetime) -> Job:
    """A call that cannot take an edit of its batch: it waits, and is not called by the values that the edit removed."""
    if job.state is not JobState.QUEUED:
        return job
    why = f"it cannot take an edit of its batch: {error}. Edit the batch again, or cancel the call"
    if job.reason != why:
        _log.error("a call is not called: it cannot take an edit of its batch", job=job.id, error=str(error))
    return replace(job, reason=why, reason_kind=None, due_at=max(job.due_at, at + _TRY_AGAIN))


async def edit_state(store: Store, queue: str, batch_id: str) -> str:
    """The state of a batch as edits change it: a text that is another after each edit; empty before the first one."""
    found = (await store.records({EDITS: [(queue, batch_id)]}, now=store.clock.now()))[EDITS]
    return found[0].value if found else ""


async def _order(store: Store, queue: str, batch_id: str, ordered: OrderedEdit, *, state: str | None) -> BatchEdits:
    """Store an edit for all calls of the batch that have not left; returns the edits of the batch.

    With a `state`, only over that (`edit_state`): else this raises ChangedSinceError. A call which cannot get the edit
    refuses all (InvalidInputError).
    """
    await edit_batch(store, queue, batch_id, ordered.edit, ordered_at=ordered.at, note=ordered.note, dry_run=True)
    while True:
        now = store.clock.now()
        found = (await store.records({EDITS: [(queue, batch_id)]}, now=now))[EDITS]
        was = found[0].value if found else None
        if state is not None and state != (was or ""):
            raise ChangedSinceError(
                f"batch {batch_id} has changed since it was shown: it was edited meanwhile. Nothing was done. Check it "
                "again, then decide"
            )
        kept, later = [ordered], ordered.changes
        for each in reversed(() if was is None else _codec.value(was)):
            if not each.changes <= later:
                kept.insert(0, each)
            later |= each.changes
        ends_at = now + writes.LONG_KEPT
        text = _codec.text(tuple(kept))
        puts = (
            Put(EDITS, queue, text, ends_at, member=batch_id),
            Put(writes.EDITED, queue, ordered.token, ends_at, member=batch_id),
        )
        same = (Same(EDITS, queue, was, batch_id),)
        order = Storing(queue=queue, puts=puts, same=same)
        write = Write(conditions=same, puts=puts, orders=(order,))
        (answer,) = await store.write(BulkWrite(writes=(write,)), now=now)
        if answer.result is Result.DONE:
            return BatchEdits({(queue, batch_id): tuple(kept)})


@dataclass(slots=True, kw_only=True)
class EditedCalls:
    """What became of the calls of a batch that had not ended.

    `edited` were changed, and `unchanged` were so already. `later` were added after the edit was ordered, and stay as
    they are. `leaving` were on their way: they keep what they were sent with, and take the edit if they come back.
    """

    edited: int = 0
    unchanged: int = 0
    later: int = 0
    leaving: int = 0


async def edit_batch(
    store: Store,
    queue: str,
    batch_id: str,
    edit: BatchEdit,
    *,
    ordered_at: datetime,
    note: str,
    dry_run: bool = False,
    on_call: Callable[[Job], None] | None = None,
    state: str | None = None,
    goes_on: bool = False,
) -> EditedCalls:
    """Edit the waiting calls of a batch that were enqueued by `ordered_at`, with a note in each; a dry run only counts.

    `on_call` gets each of these calls as it is afterwards. When this returns, no call leaves any more with what it had
    before; that takes two seconds at most. Raises InvalidInputError before the first change if a call that has not
    ended cannot get what the edit says, ChangedSinceError if the batch has another `state` (`edit_state`), and
    StoreError; the same edit again then goes on. With `goes_on`, it was ordered before: nothing is ordered, and the
    calls take the edits of the batch as they stand.
    """
    ordered = OrderedEdit.of(edit, at=ordered_at, note=note)
    edits, found = BatchEdits({(queue, batch_id): (ordered,)}), EditedCalls()
    states = _WAITING | _MAY_COME_BACK if dry_run else _WAITING
    every = Listing(queue=queue, batch=batch_id, states=states, limit=PAGE)
    if not dry_run:
        edits = await (
            BatchEdits.at(store, [(queue, batch_id)])
            if goes_on
            else _order(store, queue, batch_id, ordered, state=state)
        )
        found.leaving = (await count_states(store, queue, batch_id=batch_id))[JobState.SENDING]
    gives_up, is_first = store.clock.monotonic() + SENT_WITHIN, True
    while True:
        missed, found.later = 0, 0
        async with aclosing(find_pages(store, every)) as pages:
            async for page in pages:
                now = store.clock.now()
                changed: list[tuple[Job, Job]] = []
                for job in page:
                    if dry_run:
                        _require_possible(edit, job, at=now)
                    if job.state not in _WAITING:
                        continue
                    base = release(job, at=now) if job.state is JobState.LEASED else job
                    made = edits.taken(base, at=now)
                    found.later += job.created_at > ordered_at
                    if on_call is not None and job.created_at <= ordered_at:
                        on_call(made)
                    if made is not base:
                        changed.append((job, made))
                    is_edited = len(made.notes) > len(job.notes)
                    found.unchanged += is_first and not is_edited and job.created_at <= ordered_at
                done = changed if dry_run else await _store(store, changed, now=now)
                found.edited += sum(len(new.notes) > len(old.notes) for old, new in done)
                missed += len(changed) - len(done)
        is_first = False
        if dry_run or not missed or store.clock.monotonic() > gives_up:
            break
        await store.clock.sleep(_CHECK_AGAIN)
    if found.leaving:
        await until_left(store, [queue], batch_id=batch_id)
    return found


def _require_possible(edit: BatchEdit, job: Job, *, at: datetime) -> None:
    try:
        edit.of(job, at=at)
    except InvalidInputError as error:
        which = f"nothing was changed: call {job.id} to {job.destination}"
        raise InvalidInputError(Message(f"{which}: {error}", error)) from error


async def _store(store: Store, changed: list[tuple[Job, Job]], *, now: datetime) -> list[tuple[Job, Job]]:
    """Store these jobs, each if it is as it was; returns those that were."""
    if not changed:
        return []
    bulk = BulkWrite(writes=tuple(writes.changed(job, edited, at=now)[1] for job, edited in changed))
    written = await store.write(bulk, now=now)
    return [each for each, answer in zip(changed, written, strict=True) if answer.result is Result.DONE]
