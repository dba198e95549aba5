"""Copies of a whole store into an empty one, of the same kind or another.

The old store is held, then closed: from there on nobody but the copy changes it, so the copy is only read and written,
page by page, and one that was cut short is written again, which changes nothing of what is there. The new store is
closed until both are the same, and gets the id of the old one: keyed digests of numbers and keys stay what they are,
and the journal files of the workers, which are in folders of that id, protect the new store too. It stays held until a
person resumes its queues.
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
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import EventKind, Store
from voiceflow_worker.core.ports.controls import GATES
from voiceflow_worker.core.ports.identity import QueueNames, new_revision
from voiceflow_worker.core.ports.probe import READINESS
from voiceflow_worker.core.ports.reading import gates_at
from voiceflow_worker.core.ports.reads import ByKey, Due, Listing
from voiceflow_worker.core.ports.record_set import json_records, noting_unreadable
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
from voiceflow_worker.errors import InvalidInputError, StoreError, StoreUnavailableError, StoreVersionError
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


class CopyOf(NamedTuple):
    """Where a store was copied to or from, by its id and URL, and when the copy was whole; None before."""

    id: str
    url: str
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
            if await self._whole_at(target) is not None:
                return None
            has_begun = await copy_of(target, "from") is not None
        await self._close(by, within=within, has_begun=has_begun)
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
        if known is None or await _closed(self.source) is None:
            raise InvalidInputError(f"no copy of {self.source.url} has begun: there is nothing to give up")
        if known.url != self.to:
            raise InvalidInputError(
                f"{self.source.url} is copied to {known.url}, not to {self.to}: nothing was changed. Give that store"
            )
        self._refuse_whole(known)
        now = self.source.clock.now()
        entry = AuditEntry.of(by, "store copy", at=now, result=f"gave up the copy to {known.url}")
        await self._decide(known, Write(puts=entry.puts(), drops=_OPENS))
        with suppress(StoreUnavailableError):  # it stays closed as it is
            async with opened() as target:
                begun = await copy_of(target, "from")
                if begun is not None and begun.id == self.source.id:
                    why = f"the copy of {self.source.url} in it was given up; empty it"
                    other = json_records(target, COPIES, CopyOf).text(begun._replace(id=new_revision()))
                    puts = (Put(CLOSED, CLOSED_KEY, why, None), Put(COPIES, "from", other, None))
                    await target.write(BulkWrite(writes=(Write(puts=puts),)), now=target.clock.now())

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
        known = await copy_of(self.source, "to")
        if (why := await _closed(self.source)) is not None:
            if not has_begun and known is not None:
                self._refuse_whole(known)
            if not has_begun and (known is None or known.url != self.to):
                raise InvalidInputError(
                    f"the store {self.source.url} is closed already: {why}. Finish that copy, or give it up (--abandon)"
                )
            return
        reason = f"copied from {self.source.url} to {self.to}: resume there, once workers and receivers run on it"
        until = self.source.clock.monotonic() + within.total_seconds()
        while True:
            for queue in await QueueNames(self.source).known():
                held = Gate.of(queue, None, GateState.HELD, since=self.source.clock.now(), reason=reason)
                await order_gate(self.source, held)
            while opened := await self._open_calls():
                if self.source.clock.monotonic() >= until:
                    raise InvalidInputError(
                        f"{', '.join(opened)}; the queues are held now, and nothing was copied. Let a worker run on "
                        f"{self.source.url} until they are settled, and copy then; or go on with `voiceflow resume`"
                    )
                await self.source.clock.sleep(_LOOK_EVERY)
            now = self.source.clock.now()
            sentence = (
                f"it was copied to {self.to}, or is being copied. Give workers, receivers and commands that store; if "
                "the copy was cut short, `voiceflow store copy` with the same two stores finishes it"
            )
            entry = AuditEntry.of(by, "store copy", at=now, result=f"closed {self.source.url}, copied to {self.to}")
            mark = json_records(self.source, COPIES, CopyOf).text(CopyOf(self.source.id, self.to))
            puts = (Put(CLOSED, CLOSED_KEY, sentence, None), Put(COPIES, "to", mark, None), *entry.puts())
            await self.source.write(BulkWrite(writes=(Write(puts=puts),), together=True), now=now)
            queues = await QueueNames(self.source).known()
            still_held = [queue for queue in queues if await gates_at(self.source, queue, [None])]
            if len(still_held) == len(queues) and not await self._open_calls():
                return
            # A queue or a resume has come between.
            await self.source.write(BulkWrite(writes=(Write(drops=_OPENS),)), now=self.source.clock.now())

    async def _decide(self, known: CopyOf, write: Write) -> None:
        """Write to the old store that the copy is whole, or given up: the first of the two counts.

        Raises StoreError if the other one, or another copy, came first.
        """
        stands = Same(COPIES, "to", json_records(self.source, COPIES, CopyOf).text(known))
        bulk = BulkWrite(writes=(replace(write, conditions=(stands,)),))
        (answer,) = await self.source.write(bulk, now=self.source.clock.now())
        if answer.result is not Result.DONE:
            raise StoreError(
                f"the copy of {self.source.url} was ended or given up meanwhile, by another process: `voiceflow audit` "
                "on that store names who did it"
            )

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

    async def _whole_at(self, target: Store) -> datetime | None:
        """Whether a store can become the new one: when the copy in it was whole, None if it is to be filled.

        Raises InvalidInputError for a store with something else in it.
        """
        known = await copy_of(target, "from")
        if known is not None and known.id == self.source.id:
            return known.whole_at
        has = [part.name for part in await self._parts(target) if await part.read(target, None)]
        if known is not None or has:
            what = f"a copy of {known.url}" if known is not None else ", ".join(dict.fromkeys(has))
            raise InvalidInputError(
                f"the store {target.url} is not empty: it has {what}. Nothing was changed. Copy to a new store: "
                "another file, schema, prefix or database"
            )
        return None

    async def _adopt(self, target: Store) -> None:
        """Close the new store, and give it the id of the old one. It must then be opened anew."""
        if await self._whole_at(target) is None and target.id != self.source.id:
            await target.write(BulkWrite(writes=(await self._mark(target, None),)), now=target.clock.now())
            sequence = (await copyable(self.source).contents()).sequence
            await copyable(target).adopt(self.source.id, sequence=sequence)

    async def _mark(self, target: Store, whole_at: datetime | None) -> Write:
        """That the store is a copy: closed until it is whole."""
        mark = json_records(target, COPIES, CopyOf).text(CopyOf(self.source.id, self.source.url, whole_at))
        put = Put(COPIES, "from", mark, None)
        if whole_at is not None:
            return Write(puts=(put,), drops=(Drop(CLOSED, CLOSED_KEY, None),))
        why = (
            f"a copy of {self.source.url} is being written into it. Wait for `voiceflow store copy`, or order it again "
            "if it was cut short"
        )
        return Write(puts=(put, Put(CLOSED, CLOSED_KEY, why, None)))

    async def _fill(self, target: Store) -> None:
        """Copy all; what an earlier try has written, stays. Raises StoreVersionError for what cannot be read."""
        if target.id != self.source.id:
            raise StoreError(
                f"the store {target.url} did not take the id of {self.source.url}: a version before made it. Copy to "
                "a new store"
            )
        closing = await self._mark(target, None)
        for part in await self._parts(self.source):
            async for page in self._pages(part, self.source):
                match part.name:
                    case "calls":
                        writes = [Write(change=Insert(job), tally=tally_change(None, job)) for job in page]
                    case "events":
                        await self._add_events(target, page)
                        continue
                    case namespace:
                        writes = self._records(namespace, target, page)
                await self._write(target, closing, writes)
        for queue in await QueueNames(self.source).known():
            async for page in copyable(self.source).tombstones(queue, now=self._now):
                await self._bury(target, closing, queue, page)

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

    async def _bury(self, target: Store, closing: Write, queue: str, page: Sequence[tuple[Job, datetime]]) -> None:
        """Store tombstones: each call is stored, and deleted in the same bulk write."""
        keys = tuple(job.unique_key or "" for job, _ in page)
        known = {job.unique_key for job in await target.jobs(ByKey(queue, keys), now=self._now)}
        new = [(replace(job, revision=new_revision()), until) for job, until in page if job.unique_key not in known]
        for start in range(0, len(new), PAGE):
            made = new[start : start + PAGE]
            writes = [Write(change=Insert(job)) for job, _ in made]
            await self._write(target, closing, writes + [Write(change=Delete(job, until)) for job, until in made])

    async def _write(self, target: Store, closing: Write, writes: Sequence[Write]) -> None:
        bulk = BulkWrite(writes=(*writes, closing), together=True, durable=False)
        answers = await target.write(bulk, now=self._now)
        if any(answer.result is not Result.DONE for answer in answers):
            wrong = next(answer for answer in answers if answer.result not in {Result.DONE, Result.ROLLED_BACK})
            raise StoreError(f"the store {target.url} did not take a page of the copy: {wrong.result} {wrong.owner}")

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
        now = target.clock.now()
        # First the old store, which is not opened again from here on, whatever becomes of the new one.
        known, why = await copy_of(self.source, "to"), await _closed(self.source)
        whole = CopyOf(self.source.id, self.to, now)
        mark = json_records(self.source, COPIES, CopyOf).text(whole)
        puts = (Put(COPIES, "to", mark, None), Put(CLOSED, CLOSED_KEY, why or "", None))
        await self._decide(known or whole, Write(puts=puts))
        await target.write(BulkWrite(writes=(await self._mark(target, now),)), now=now)
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
                await self._write(target, await self._mark(target, None), writes)
        raise self._differs(f"totals of queue {queue}", target, "")

    def _differs(self, what: str, target: Store, detail: str) -> StoreError:
        return StoreError(
            f"{what} differ between {self.source.url} and {target.url}{detail}. The new store stays closed: empty it, "
            "and copy again, or give the copy up (--abandon)"
        )

    # --- both ---

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


async def _closed(store: Store) -> str | None:
    found = await store.records({CLOSED: [CLOSED_KEY]}, now=store.clock.now())
    return next((record.value for record in found[CLOSED]), None)


def copyable(store: Store) -> Copyable:
    """The store as one that can be copied. Raises InvalidInputError for one that cannot."""
    if not hasattr(store, "adopt"):
        raise InvalidInputError(f"the backend of {store.url} cannot copy: it lacks the methods of `Copyable`")
    return cast("Copyable", store)
