"""Copies of a whole store into an empty one, of the same kind or another.

The old store is held, then closed: from there on nobody but the copy changes it, so the copy is only read and written,
page by page, and one that was cut short is written again, which changes nothing of what is there. The new store is
closed until both are the same, and stays held until a person resumes its queues. Its id begins with that of the old one
(`identity.copied_id`): keyed digests of numbers and keys stay what they are, and the journal files of before the copy
protect it too.

Both stores have a mark of the copy, with the id of the new store and the run that writes it now. Each write is made
under the condition that its mark stands. So of two copies of a store one goes on, a run whose copy another one has
taken over or given up changes nothing more, and what was given up never opens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple, cast

from voiceflow_worker.core.audit import Actor, AuditEntry
from voiceflow_worker.core.base.identity import QueueNames, copied_id, new_revision
from voiceflow_worker.core.base.probe import READINESS
from voiceflow_worker.core.base.reading import gates_at
from voiceflow_worker.core.base.record_set import json_records, noting_unreadable
from voiceflow_worker.core.gates import order_gate, write_of_order
from voiceflow_worker.core.ports import EventKind, Store
from voiceflow_worker.core.ports.controls import GATES, gate_member
from voiceflow_worker.core.ports.reads import ByKey, Due, Listing
from voiceflow_worker.core.ports.store import (
    CLOSED,
    CLOSED_KEY,
    BulkWrite,
    Copyable,
    Delete,
    Drop,
    Event,
    Insert,
    Key,
    Page,
    Put,
    Record,
    Result,
    Same,
    Write,
    tally_change,
)
from voiceflow_worker.core.rollback import HISTORIES
from voiceflow_worker.errors import InvalidInputError, StoreError, StoreVersionError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.wording import count_of, in_words

PAGE = 200
CALLS, EVENTS, TOMBSTONES = "calls", "events", "keys of deleted calls"
"""The names of what is no record, where it is counted. Records are counted by namespace."""
COPIES = "copy"
"""Namespace of what stores know of copies: in the group `to`, where this one is copied to, and in the group `from`,
where it was copied from."""
_ITS_OWN = frozenset({CLOSED, COPIES, READINESS})
"""The namespaces of what a store knows of itself alone."""
_OPENS = (Drop(CLOSED, CLOSED_KEY, None), Drop(COPIES, "to", None))
"""What opens a closed store."""
_LOOK_EVERY = 0.25

Progress = Callable[[int, str], None]
"""A function that gets how many things more were read, and what they are."""


_CLOSED = {
    "to": "it was copied to {url}, or is being copied. Give workers, receivers and commands that store; if the copy "
    "was cut short, `voiceflow store copy` with the same two stores finishes it",
    "from": "a copy of {url} is being written into it. Wait for `voiceflow store copy`, or order it again if it was "
    "cut short",
}
"""Why a store is closed that is copied `to` or `from` another one."""


class CopyOf(NamedTuple):
    """Where a store was copied to or from: the id of the new store, the URL of the other one, and the run that goes on.

    `whole_at` is when the copy was whole; None before.
    """

    id: str
    url: str
    run: str
    whole_at: datetime | None = None


class _Part(NamedTuple):
    """One kind of things in a store: their name, how a page behind a key is read, and the key of one."""

    name: str
    read: Callable[[Store, Any], Awaitable[Sequence[Any]]]
    key: Callable[[Any], Any]
    queue: str = ""


def _key_of_record(record: Record) -> Key:
    return record.group, record.member


@dataclass(slots=True)
class StoreCopy:
    """A copy of the store `source` to another one, which is called `to`: always the same, and without secrets."""

    source: Store
    to: str
    progress: Progress = lambda _more, _what: None
    _now: datetime = field(init=False)
    _run: str = field(default_factory=new_revision, init=False)
    _mark: CopyOf = field(init=False)
    """The mark of this run in the old store; that in the new one differs in its URL."""

    def __post_init__(self) -> None:
        self._now = self.source.clock.now()  # what ends from here on, is carried too

    async def run(
        self, opened: Callable[[], AbstractAsyncContextManager[Store]], by: Actor, *, within: timedelta
    ) -> Counter[str] | None:
        """Copy the store into the one that `opened` opens; returns what each of them has now, by kind.

        None if the copy was whole before. Calls that are leased or being sent are waited for, `within` this time. If
        this is cut short anywhere, it may be run again, and goes on. Raises StoreError and InvalidInputError.
        """
        async with opened() as target:
            begun = await self._begun(target)
            if begun is not None and begun.whole_at is not None:
                return None
        await self._close(by, within=within, has_begun=begun is not None)
        async with opened() as target:
            await self._adopt(target)
        async with opened() as target:
            await self._fill(target)
            return await self._finish(target)

    async def abandon(self, opened: Callable[[], AbstractAsyncContextManager[Store]], by: Actor) -> None:
        """Give up a copy that is not whole, and open the old store again; its queues stay held.

        What is in the new store stays closed for good, also if that cannot be reached. Raises InvalidInputError if the
        copy is whole, or goes to another store than the one that `opened` opens.
        """
        known = await copy_of(self.source, "to")
        if known is None:
            raise InvalidInputError(f"no copy of {self.source.url} has begun: there is nothing to give up")
        if known.url != self.to:
            raise InvalidInputError(
                f"{self.source.url} is copied to {known.url}, not to {self.to}: nothing was changed. Give that store"
            )
        self._refuse_whole(known)
        now = self.source.clock.now()
        entry = AuditEntry.of(by, "store copy", at=now, result=f"gave up the copy to {known.url}")
        await self._step(self.source, "to", known, Write(puts=entry.puts(), drops=_OPENS))
        with suppress(StoreError):  # it stays closed as it is
            async with opened() as target:
                begun = await copy_of(target, "from")
                if begun is not None and begun.id == known.id:
                    why = f"the copy of {self.source.url} in it was given up; empty it"
                    given_up = _mark_put(target, "from", begun._replace(run=self._run))
                    write = Write(puts=(given_up, Put(CLOSED, CLOSED_KEY, why, None)))
                    await self._step(target, "from", begun, write)

    # --- the old store ---

    async def counts(self, store: Store) -> Counter[str]:
        """The number of calls, events and records of a store, by kind. It reads all of it."""
        found: Counter[str] = Counter()
        for part in await self._parts(store):
            async for page in self._pages(part, store):
                found[part.name] += len(page)
        for queue in await QueueNames(store).known():
            async for buried in copyable(store).tombstones(queue, now=self._now):
                found[TOMBSTONES] += len(buried)
        return +found

    async def _close(self, by: Actor, *, within: timedelta, has_begun: bool) -> None:
        """Hold all queues of the old store, wait until no call is leased or being sent, and close it.

        Raises InvalidInputError if it is being copied elsewhere, or if calls are still open after `within`.
        """
        reason = f"copied from {self.source.url} to {self.to}: resume there, once workers and receivers run on it"
        known, why = await copy_of(self.source, "to"), await _closed(self.source)
        if known is not None and not has_begun:
            self._refuse_whole(known)
        if why is not None and (known is None or not (has_begun or known.url == self.to)):
            raise InvalidInputError(
                f"the store {self.source.url} is closed already: {why}. Finish that copy, or give it up (--abandon)"
            )
        if known is not None:
            self._mark = known._replace(run=self._run)
            await self._step(self.source, "to", known, _marks(self.source, "to", self._mark))
            await self._hold_closed(reason)
            return
        until = self.source.clock.monotonic() + within.total_seconds()
        while True:
            for queue in await QueueNames(self.source).known():
                await order_gate(self.source, self._held(queue, reason))
            while opened := await self._open_calls():
                if self.source.clock.monotonic() >= until:
                    raise InvalidInputError(
                        f"{', '.join(opened)}; the queues are held now, and nothing was copied. Let a worker run on "
                        f"{self.source.url} until they are settled, and copy then; or go on with `voiceflow resume`"
                    )
                await self.source.clock.sleep(_LOOK_EVERY)
            now = self.source.clock.now()
            entry = AuditEntry.of(by, "store copy", at=now, result=f"closed {self.source.url}, copied to {self.to}")
            self._mark = CopyOf(copied_id(self.source.id, at=now), self.to, self._run)
            await self._step(self.source, "to", None, _marks(self.source, "to", self._mark), Write(puts=entry.puts()))
            queues = await QueueNames(self.source).known()
            still_held = [queue for queue in queues if await gates_at(self.source, queue, [None])]
            if len(still_held) == len(queues) and not await self._open_calls():
                return
            # A queue or a resume has come between.
            await self._step(self.source, "to", self._mark, Write(drops=_OPENS))

    def _held(self, queue: str, reason: str) -> Gate:
        return Gate.of(queue, None, GateState.HELD, since=self.source.clock.now(), reason=reason)

    async def _hold_closed(self, reason: str) -> None:
        """Hold the queues of the closed store that are open: who has closed it was cut short before he saw that."""
        for queue in await QueueNames(self.source).known():
            if not await gates_at(self.source, queue, [None]):
                found = await self.source.records({GATES: [(queue, gate_member(None))]}, now=self._now)
                _, order = write_of_order(
                    next(iter(found[GATES]), None), self._held(queue, reason), token=new_revision()
                )
                await self._step(self.source, "to", self._mark, _marks(self.source, "to", self._mark), order)

    def _refuse_whole(self, known: CopyOf) -> None:
        """Raise InvalidInputError if the copy is whole, wherever it is now: both stores would call the same people."""
        if known.whole_at is not None:
            raise InvalidInputError(
                f"the copy of {self.source.url} to {known.url} is whole since {in_words(known.whole_at)}, and work may "
                "have gone on there, also under another name: nothing was changed. Copy it back instead, to a new "
                "store; if it is lost, restore its backup"
            )

    async def _open_calls(self) -> list[str]:
        return [
            f"{count_of(number, 'call')} of queue {queue} still {state}"
            for queue in await QueueNames(self.source).known()
            for state in (JobState.LEASED, JobState.SENDING)
            if (number := await self.source.count(Due(queue=queue, state=state)))
        ]

    # --- the new store ---

    async def _begun(self, target: Store) -> CopyOf | None:
        """The mark of the copy in a store that can become the new one; None if it is empty.

        Raises InvalidInputError for a store with something else in it.
        """
        known, ours = await copy_of(target, "from"), await copy_of(self.source, "to")
        if known is not None and ours is not None and known.id == ours.id:
            return known
        has = [part.name for part in await self._parts(target) if await part.read(target, None)]
        if known is not None or has:
            what = ", ".join(dict.fromkeys(has))
            if known is not None:
                what = f"a copy of {known.url}{'' if known.whole_at else ' that was given up, or is being written'}"
            raise InvalidInputError(
                f"the store {target.url} is not empty: it has {what}. Nothing was changed. Copy to a new store: "
                "another file, schema, prefix or database"
            )
        return None

    @property
    def _theirs(self) -> CopyOf:
        """The mark of this run in the new store, before the copy is whole."""
        return self._mark._replace(url=self.source.url, whole_at=None)

    async def _adopt(self, target: Store) -> None:
        """Close the new store for this run, and give it its id. It must then be opened anew."""
        begun = await self._begun(target)
        if begun is not None and begun.whole_at is not None:
            raise self._overtaken()
        await self._step(target, "from", begun, _marks(target, "from", self._theirs))
        if target.id != self._mark.id:
            sequence = (await copyable(self.source).contents()).sequence
            await copyable(target).adopt(self._mark.id, sequence=sequence)

    async def _fill(self, target: Store) -> None:
        """Copy all; what an earlier try has written, stays. Raises StoreVersionError for what cannot be read."""
        if target.id != self._mark.id:
            raise StoreError(
                f"the store {target.url} did not take its new id: a version before made it, or another process has "
                "emptied it meanwhile. Copy to a new store"
            )
        for part in await self._parts(self.source):
            async for page in self._pages(part, self.source):
                match part.name:
                    case "calls":
                        writes = [Write(change=Insert(job), tally=tally_change(None, job)) for job in page]
                    case "events":
                        await self._write(target, [])
                        await self._add_events(target, page)
                        continue
                    case namespace:
                        writes = self._records(namespace, target, page)
                await self._write(target, writes)
        for queue in await QueueNames(self.source).known():
            async for page in copyable(self.source).tombstones(queue, now=self._now):
                await self._bury(target, queue, page)

    def _records(self, namespace: str, target: Store, page: Sequence[Record]) -> list[Write]:
        if namespace == HISTORIES and target.history is not None:  # it is no failover that the new server is another
            new = f" {target.history.made_in} {target.history.name}"
            page = [each._replace(value=f"{new_revision()} {each.value.partition(' ')[2]}{new}") for each in page]
        puts = [Put(namespace, each.group, each.value, each.ends_at, member=each.member) for each in page]
        return [Write(puts=tuple(puts[start : start + 50])) for start in range(0, len(puts), 50)]

    async def _add_events(self, target: Store, page: Sequence[Event]) -> None:
        if any(event.kind is EventKind.OTHER for event in page):
            raise StoreVersionError(f"{self.source.url} has events of a newer version: upgrade this installation")
        await copyable(target).add_events(page)

    async def _bury(self, target: Store, queue: str, page: Sequence[tuple[Job, datetime]]) -> None:
        """Store tombstones: each call is stored, and deleted in the same bulk write."""
        keys = tuple(job.unique_key or "" for job, _ in page)
        known = {job.unique_key for job in await target.jobs(ByKey(queue, keys), now=self._now)}
        new = [(replace(job, revision=new_revision()), until) for job, until in page if job.unique_key not in known]
        for start in range(0, len(new), PAGE):
            made = new[start : start + PAGE]
            writes = [Write(change=Insert(job)) for job, _ in made]
            await self._write(target, writes + [Write(change=Delete(job, until)) for job, until in made])

    async def _write(self, target: Store, writes: Sequence[Write], *, durable: bool = False) -> None:
        await self._step(target, "from", self._theirs, _marks(target, "from", self._theirs), *writes, durable=durable)

    async def _finish(self, target: Store) -> Counter[str]:
        """Compare both stores, and open the new one; returns what each of them has, by kind.

        Raises StoreError if they differ.
        """
        counted: Counter[str] = Counter()
        for part in await self._parts(self.source):
            async for page in self._pages(part, self.source, beside=target):
                counted[part.name] += len(page)
                if part.name == CALLS:
                    await self._align(target, part.queue, list({job.batch_id for job in page} - {None}))
        for queue in await QueueNames(self.source).known():
            await self._align(target, queue, [None])
            counted[TOMBSTONES] += await self._compare_tombstones(target, queue)
        await self._write(target, [], durable=True)  # and with it all that was written before
        whole = self._mark._replace(whole_at=self._mark.whole_at or target.clock.now())
        # First the old store, which is not opened again from here on, whatever becomes of the new one.
        await self._step(self.source, "to", self._mark, _marks(self.source, "to", whole))
        opens = _marks(target, "from", self._theirs._replace(whole_at=whole.whole_at))
        await self._step(target, "from", self._theirs, opens)
        return +counted

    async def _compare_tombstones(self, target: Store, queue: str) -> int:
        found = [0, 0]
        for place, store in enumerate((self.source, target)):
            seen = set[str]()
            async for page in copyable(store).tombstones(queue, now=self._now):
                seen |= {job.id for job, _ in page}
                if place == 0 and page:
                    keys = tuple(job.unique_key or "" for job, _ in page)
                    owners = {each.unique_key: each for each in await target.jobs(ByKey(queue, keys), now=self._now)}
                    if any(owners.get(job.unique_key) != job for job, _ in page):
                        raise self._differs(TOMBSTONES, target, "")
            found[place] = len(seen)
        if found[0] != found[1]:
            raise self._differs(TOMBSTONES, target, f": {found[0]} and {found[1]}")
        return found[0]

    async def _align(self, target: Store, queue: str, batches: Sequence[str | None]) -> None:
        """Give counters what the calls that are there do not say: what deleted calls of a batch had counted."""
        for _ in range(2):
            differing = list[tuple[str | None, dict[str, int], dict[str, int]]]()
            ours = await self.source.totals(queue, batches=batches)
            theirs = await target.totals(queue, batches=batches)
            for batch, old, new in zip(batches, ours, theirs, strict=True):
                live, pruned = (
                    {name: have.get(name, 0) - lack.get(name, 0) for name in {**have, **lack}}
                    for have, lack in ((old.live, new.live), (old.pruned, new.pruned))
                )
                if any(live.values()) or any(pruned.values()):
                    differing.append((batch, live, pruned))
            if not differing:
                return
            for batch, live, pruned in differing:
                job = Job(
                    f"{queue}.{'0' * 26}", queue, JobState.COMPLETED, self._now, "", "", "", "", self._now,
                    revision=new_revision(), batch_id=batch,
                )  # fmt: skip
                added = {name: live.get(name, 0) + pruned.get(name, 0) for name in {**live, **pruned}}
                deleted = {name: -amount for name, amount in pruned.items()}
                writes = [Write(change=Insert(job), tally=added), Write(change=Delete(job, None), tally=deleted)]
                await self._write(target, writes)
        raise self._differs(f"totals of queue {queue}", target, "")

    def _differs(self, what: str, target: Store, detail: str) -> StoreError:
        return StoreError(
            f"{what} differ between {self.source.url} and {target.url}{detail}. The new store stays closed: empty it, "
            "and copy again, or give the copy up (--abandon)"
        )

    # --- both ---

    async def _step(
        self, store: Store, place: str, stands: CopyOf | None, write: Write, *more: Write, durable: bool = True
    ) -> None:
        """Write to one of the stores, which is closed, while this mark stands in it.

        Raises StoreError if another run has taken the copy over, ended it, or given it up.
        """
        value = None if stands is None else _mark_put(store, place, stands).value
        write = replace(write, conditions=(Same(COPIES, place, value),))
        bulk = BulkWrite(writes=(write, *more), together=True, durable=durable)
        answers = await store.write(bulk, now=self._now)
        wrong = next((each for each in answers if each.result not in {Result.DONE, Result.ROLLED_BACK}), None)
        if wrong is answers[0]:
            raise self._overtaken()
        if wrong is not None:
            raise StoreError(f"the store {store.url} did not take a page of the copy: {wrong.result} {wrong.owner}")

    def _overtaken(self) -> StoreError:
        return StoreError(
            f"the copy of {self.source.url} was begun, taken over, ended or given up meanwhile, by another process: "
            "`voiceflow audit` on that store names who has begun or given up one. This one has ended, and opens nothing"
        )

    async def _parts(self, store: Store) -> list[_Part]:
        """The kinds of things in a store but tombstones, gates first: nothing is sent from a copy in its middle."""
        names = [name for name in (await copyable(store).contents()).namespaces if name not in _ITS_OWN]

        async def records(namespace: str, of: Store, after: Any) -> Sequence[Record]:
            return (await of.records({namespace: Page(after=after, limit=PAGE)}, now=self._now))[namespace]

        async def calls(queue: str, of: Store, after: Any) -> Sequence[Job]:
            return await of.jobs(Listing(queue=queue, after=after, limit=PAGE), now=self._now)

        async def events(queue: str, of: Store, after: Any) -> Sequence[Event]:
            return await of.events(queue, after=after or 0, limit=PAGE)

        parts = [
            _Part(name, partial(records, name), _key_of_record)
            for name in sorted(names, key=lambda name: (name != GATES, name))
        ]
        for queue in await QueueNames(store).known():
            parts.append(_Part(CALLS, partial(calls, queue), attrgetter("id"), queue))
            parts.append(_Part(EVENTS, partial(events, queue), attrgetter("sequence"), queue))
        return parts

    async def _pages(self, part: _Part, store: Store, *, beside: Store | None = None) -> AsyncGenerator[Sequence[Any]]:
        """The pages of a part, each compared with that of the store `beside`."""
        after: Any = None
        while True:
            with noting_unreadable() as unreadable:
                page = await part.read(store, after)
            if unreadable:
                raise StoreVersionError(f"not all of {store.url} can be read: {min(unreadable)}")
            if beside is not None and await part.read(beside, after) != page and part.name != HISTORIES:
                raise self._differs(f"{part.name}{f' of queue {part.queue}' if part.queue else ''}", beside, "")
            if not page:
                return
            self.progress(len(page), part.name)
            yield page
            after = part.key(page[-1])


async def copy_of(store: Store, place: str) -> CopyOf | None:
    """Where a store was copied `from` or `to`; None if it was not."""
    return (await json_records(store, COPIES, CopyOf).get([place])).get(place)


def _mark_put(store: Store, place: str, mark: CopyOf) -> Put:
    return Put(COPIES, place, json_records(store, COPIES, CopyOf).text(mark), None)


def _marks(store: Store, place: str, mark: CopyOf) -> Write:
    """Mark a store as one of a copy. It is closed then, but for a new store that is whole, which is opened."""
    put = _mark_put(store, place, mark)
    if place == "from" and mark.whole_at is not None:
        return Write(puts=(put,), drops=(Drop(CLOSED, CLOSED_KEY, None),))
    return Write(puts=(put, Put(CLOSED, CLOSED_KEY, _CLOSED[place].format(url=mark.url), None)))


async def _closed(store: Store) -> str | None:
    found = await store.records({CLOSED: [CLOSED_KEY]}, now=store.clock.now())
    return next((record.value for record in found[CLOSED]), None)


def copyable(store: Store) -> Copyable:
    """The store as one that can be copied. Raises InvalidInputError for one that cannot."""
    if not hasattr(store, "adopt"):
        raise InvalidInputError(f"the backend of {store.url} cannot copy: it lacks the methods of `Copyable`")
    return cast("Copyable", store)
