"""Copies of a whole store into an empty one, of the same kind or another.

A copy has what people mean by a store: its calls, the keys of deleted ones, its records and its totals. Events stay
behind, so consumers read all of them first.

The old store is held, then closed: from there on nobody but the copy changes it, so the copy is only read and written,
page by page, and one that was cut short is written again, which changes nothing of what is there. The new store is
closed until it has all, and stays held until a person resumes its queues. Its id begins with that of the old one
(`identity.copied_id`): keyed digests of numbers and keys stay what they are, and the journal files of before the copy
protect it too.

Both stores have a mark of the copy, with the id of the new store and the run that writes it now. Each write is made
under the condition that its mark stands, and the new store opens only after the old one says that the copy is whole. So
of two copies of a store one goes on, a run whose copy another one has taken over or given up changes nothing more, and
what was given up never opens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple, cast

from voiceflow_worker.core.audit import Actor, AuditEntry
from voiceflow_worker.core.base.background import LEASES
from voiceflow_worker.core.base.identity import QueueNames, copied_id, new_revision
from voiceflow_worker.core.base.probe import READINESS
from voiceflow_worker.core.base.reading import gates_at
from voiceflow_worker.core.base.record_set import json_codec, json_records, noting_unreadable
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.outcomes.outbox import positions
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import GATES
from voiceflow_worker.core.ports.reads import ByKey, Due, Listing
from voiceflow_worker.core.ports.store import (
    CLOSED,
    CLOSED_KEY,
    BulkWrite,
    Copyable,
    Delete,
    Drop,
    Insert,
    Page,
    Put,
    Result,
    Same,
    Write,
    tally_change,
)
from voiceflow_worker.core.writes import all_or_none
from voiceflow_worker.errors import InvalidInputError, StoreError, StoreVersionError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.wording import count_of, in_words

PAGE = 200
CALLS, KEYS = "calls", "keys of deleted calls"
"""The names of what is no record, where it is counted. Records are counted by namespace."""
COPIES = "copy"
"""Namespace of what stores know of copies: in the group `to`, where this one is copied to, and in the group `from`,
where it was copied from."""
_ITS_OWN = frozenset({CLOSED, COPIES, LEASES, READINESS})
"""The namespaces of what a store knows of itself alone."""
_OPENS = (Drop(CLOSED, CLOSED_KEY, None), Drop(COPIES, "to", None))
"""What opens a closed store."""
_LOOK_EVERY = 0.25
_CLOSED = {
    "to": "it was copied to {url}, or is being copied. Give workers, receivers and commands that store; if the copy "
    "was cut short, `voiceflow store copy` with the same two stores finishes it",
    "from": "a copy of {url} is being written into it, or was given up. Wait for `voiceflow store copy`, or order it "
    "again if it was cut short; once it was given up, empty this store, or copy to another one",
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
    """One kind of things in a store: the records of a namespace, or the calls of a queue."""

    name: str
    queue: str = ""

    async def page(self, store: Store, after: Any, *, now: datetime) -> Sequence[Any]:
        """The next things, behind a key."""
        if self.queue:
            return await store.jobs(Listing(queue=self.queue, after=after, limit=PAGE), now=now)
        return (await store.records({self.name: Page(after=after, limit=PAGE)}, now=now))[self.name]

    def writes(self, page: Sequence[Any]) -> list[Write]:
        """What stores a page."""
        if self.queue:
            return [Write(changes=tuple(Insert(job, tally_change(None, job)) for job in page))]
        puts = [Put(self.name, each.group, each.value, each.ends_at, member=each.member) for each in page]
        return [Write(puts=tuple(puts[start : start + 50])) for start in range(0, len(puts), 50)]


@dataclass(slots=True)
class StoreCopy:
    """A copy of the store `source` to another one, which is called `to`: always the same, and without secrets.

    If it `skips_unread`, outcomes are left behind that consumers have not read. `progress` gets the number of
    things that were copied so far, and what the last ones are.
    """

    source: Store
    to: str
    skips_unread: bool = False
    progress: Callable[[int, str], None] = lambda _done, _what: None
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

        None if the copy was whole before. Calls that are leased or being sent, and consumers, are waited for, `within`
        this time. If this is cut short anywhere, it may be run again, and goes on. Raises StoreError and
        InvalidInputError.
        """
        known = await copy_of(self.source, "to")
        async with opened() as target:
            begun = await self._begun(target, known)
            if begun is not None and begun.whole_at is not None:
                return None
            if known is not None and begun is None:
                self._check(known)
            await self._close(known, by, within=within)
            await self._step(target, "from", begun, _marks("from", self._theirs))
            if target.id != self._mark.id:
                sequence = (await copyable(self.source).contents()).sequence
                await copyable(target).adopt(self._mark.id, sequence=sequence)
        async with opened() as target:
            if target.id != self._mark.id:
                raise StoreError(
                    f"the store {target.url} did not take its new id: a version before made it, or another process has "
                    "emptied it meanwhile. Copy to a new store"
                )
            copied = await self._fill(target)
            await self._write(target, [], durable=True)  # and with it all that was written before
            whole = self._mark._replace(whole_at=self._mark.whole_at or target.clock.now())
            # First the old store, which is not opened again from here on, whatever becomes of the new one.
            await self._step(self.source, "to", self._mark, _marks("to", whole))
            await self._step(target, "from", self._theirs, _marks("from", whole._replace(url=self.source.url)))
        return copied

    async def abandon(self, by: Actor) -> None:
        """Give up a copy that is not whole, and open the old store again; its queues stay held.

        The new store stays closed for good. Raises InvalidInputError if the copy is whole, or goes to another store.
        """
        known = await copy_of(self.source, "to")
        if known is None:
            raise InvalidInputError(f"no copy of {self.source.url} has begun: there is nothing to give up")
        self._check(known)
        entry = AuditEntry.of(by, "store copy", at=self.source.clock.now(), result=f"gave up the copy to {known.url}")
        await self._step(self.source, "to", known, Write(puts=entry.puts(), drops=_OPENS))

    def _check(self, known: CopyOf) -> None:
        """Raise InvalidInputError for a copy to another store, or one that is whole: two would call the same people."""
        if known.url != self.to:
            raise InvalidInputError(
                f"{self.source.url} is copied to {known.url}, not to {self.to}: nothing was changed. Give that store, "
                "to finish the copy or to give it up (--abandon)"
            )
        if known.whole_at is not None:
            raise InvalidInputError(
                f"the copy of {self.source.url} to {known.url} is whole since {in_words(known.whole_at)}, and work may "
                "have gone on there, also under another name: nothing was changed. Copy it back instead, to a new "
                "store; if it is lost, restore its backup"
            )

    # --- the old store ---

    async def _close(self, known: CopyOf | None, by: Actor, *, within: timedelta) -> None:
        """Hold all queues of the old store, wait until nothing is on its way there, and close it, if this mark stands.

        Raises InvalidInputError if something is on its way after `within`, and StoreError.
        """
        if known is None:
            await confirm(self.source)  # that it is open
        until = self.source.clock.monotonic() + within.total_seconds()
        while True:
            entries = list[Write]()
            if known is not None:
                self._mark = known._replace(run=self._run)
            else:
                await self._hold(until)
                now = self.source.clock.now()
                entry = AuditEntry.of(by, "store copy", at=now, result=f"closed {self.source.url}, copied to {self.to}")
                entries.append(Write(puts=entry.puts()))
                self._mark = CopyOf(copied_id(self.source.id, at=now), self.to, self._run)
            await self._step(self.source, "to", known, _marks("to", self._mark), *entries)
            if self._mark.whole_at is not None or not (await self._on_its_way() or await self._open_queues()):
                return
            # A queue, a resume or an outcome has come between.
            await self._step(self.source, "to", self._mark, Write(drops=_OPENS))
            known = None

    async def _hold(self, until: float) -> None:
        clock = self.source.clock
        while True:
            for queue in await self._open_queues():
                held = Gate.of(queue, None, GateState.HELD, since=clock.now(), reason=self._reason)
                await order_gate(self.source, held)
            if not (found := await self._on_its_way()):
                return
            if clock.monotonic() >= until:
                raise InvalidInputError(
                    f"{'; '.join(found)}. The queues are held now, and nothing was copied: order the copy again then, "
                    "or go on with `voiceflow resume`"
                )
            await clock.sleep(_LOOK_EVERY)

    @property
    def _reason(self) -> str:
        return f"copied from {self.source.url} to {self.to}: resume there, once workers and receivers run on it"

    async def _open_queues(self) -> list[str]:
        """The queues without the hold of the copy."""
        queues = await QueueNames(self.source).known()
        gates = {queue: (await gates_at(self.source, queue, [None])).get(None) for queue in queues}
        return [queue for queue, gate in gates.items() if gate is None or self._reason not in gate.reason]

    async def _on_its_way(self) -> list[str]:
        """What the copy waits for, each with what ends it."""
        found = [
            f"{count_of(number, 'call')} of queue {queue} still {state}: let a worker run on {self.source.url} until "
            "they are settled"
            for queue in await QueueNames(self.source).known()
            for state in (JobState.LEASED, JobState.SENDING)
            if (number := await self.source.count(Due(queue=queue, state=state)))
        ]
        for name, position in () if self.skips_unread else await positions(self.source).all():
            reader, _, queue = name.rpartition("/")
            if await self.source.events(queue, after=position or 0, limit=1):
                found.append(
                    f"{reader.replace('/', ' ')} has not read all outcomes of queue {queue}: let it run until it has, "
                    "or leave them behind (--skip-unread)"
                )
        return found

    # --- the new store ---

    async def _begun(self, target: Store, ours: CopyOf | None) -> CopyOf | None:
        """The mark of the copy in a store that can become the new one; None if it is empty. The old one has `ours`.

        Raises InvalidInputError for a store with something else in it.
        """
        known = await copy_of(target, "from")
        if known is not None and ours is not None and known.id == ours.id:
            return known
        has = [part.name for part in await _parts(target) if await part.page(target, None, now=self._now)]
        if known is not None or has:
            what = ", ".join(dict.fromkeys(has)) if known is None else f"a copy of {known.url}"
            raise InvalidInputError(
                f"the store {target.url} is not empty: it has {what}. Nothing was changed. Copy to a new store: "
                "another file, schema, prefix or database"
            )
        return None

    @property
    def _theirs(self) -> CopyOf:
        """The mark of this run in the new store, before the copy is whole."""
        return self._mark._replace(url=self.source.url, whole_at=None)

    async def _fill(self, target: Store) -> Counter[str]:
        """Copy all, and compare; what an earlier try has written, stays. Returns what there is, by kind.

        Raises StoreVersionError for what cannot be read, and StoreError if the stores differ.
        """
        counted = Counter[str]()
        for part in await _parts(self.source):
            key = attrgetter("id") if part.queue else attrgetter("group", "member")
            after, batches = None, set[str | None]()
            while True:
                with noting_unreadable() as unreadable:
                    page = await part.page(self.source, after, now=self._now)
                if unreadable:
                    raise StoreVersionError(f"not all of {self.source.url} can be read: {min(unreadable)}")
                await self._write(target, part.writes(page))
                if await part.page(target, after, now=self._now) != page:
                    raise StoreError(
                        f"{part.name}{f' of queue {part.queue}' if part.queue else ''} differ between "
                        f"{self.source.url} and {target.url}. The new store stays closed: empty it, and copy again, or "
                        "give the copy up (--abandon)"
                    )
                if not page:
                    break
                counted[part.name] += len(page)
                self.progress(counted.total(), part.name)
                batches |= {getattr(each, "batch_id", None) for each in page}
                after = key(page[-1])
            if part.queue:
                counted[KEYS] += await self._bury(target, part.queue)
                await self._align(target, part.queue, list(batches - {None}))
                await self._align(target, part.queue, [None])
        return +counted

    async def _bury(self, target: Store, queue: str) -> int:
        """Store the keys of deleted calls: each call is stored, and deleted in the same bulk write."""
        ids = set[str]()
        async for page in copyable(self.source).tombstones(queue, now=self._now):
            keys = ByKey(queue, tuple(job.unique_key or "" for job, _ in page))
            known = {job.unique_key for job in await target.jobs(keys, now=self._now)}
            new = [(replace(job, revision=new_revision()), until) for job, until in page if job.unique_key not in known]
            for start in range(0, len(new), PAGE):
                some = new[start : start + PAGE]
                first = Write(changes=tuple(Insert(job) for job, _ in some))
                await self._write(target, [first, Write(changes=tuple(Delete(job, until) for job, until in some))])
            ids |= {job.id for job, _ in page}
        return len(ids)

    async def _align(self, target: Store, queue: str, batches: Sequence[str | None]) -> None:
        """Give counters what the calls that are there do not say: what deleted calls of a batch had counted."""
        for start in range(0, len(batches), PAGE):
            some = batches[start : start + PAGE]
            ours, theirs = [await store.totals(queue, batches=some) for store in (self.source, target)]
            for batch, old, new in zip(some, ours, theirs, strict=True):
                live, pruned = _less(old.live, new.live), _less(old.pruned, new.pruned)
                if live or pruned:
                    job = Job(
                        f"{queue}.{'0' * 26}", queue, JobState.COMPLETED, self._now, "", "", "", "", self._now,
                        revision=new_revision(), batch_id=batch,
                    )  # fmt: skip
                    deleted = _less({}, pruned)
                    insert = Write(changes=(Insert(job, _less(live, deleted)),))
                    await self._write(target, [insert, Write(changes=(Delete(job, None, deleted),))])

    # --- both ---

    async def _write(self, target: Store, writes: Sequence[Write], *, durable: bool = False) -> None:
        await self._step(target, "from", self._theirs, _marks("from", self._theirs), *writes, durable=durable)

    async def _step(
        self, store: Store, place: str, stands: CopyOf | None, write: Write, *more: Write, durable: bool = True
    ) -> None:
        """Write to one of the stores, which is closed, while this mark stands in it.

        Raises StoreError if another run has taken the copy over, ended it, or given it up.
        """
        value = None if stands is None else json_codec(CopyOf).text(stands)
        write = replace(write, conditions=(Same(COPIES, place, value),))
        bulk = BulkWrite(writes=tuple(all_or_none((write, each)) for each in more) or (write,), durable=durable)
        answers = await store.write(bulk, now=self._now)
        wrong = next((each for each in answers if each.result is not Result.DONE), None)
        if wrong is not None and wrong.result is Result.NOT_FREE:
            raise StoreError(
                f"the copy of {self.source.url} was begun, taken over, ended or given up meanwhile, by another "
                "process: `voiceflow audit` on that store names who has begun or given up one. This one has ended, "
                "and opens nothing"
            )
        if wrong is not None:
            raise StoreError(f"the store {store.url} did not take a page of the copy: {wrong.result} {wrong.owners}")


async def copy_of(store: Store, place: str) -> CopyOf | None:
    """Where a store was copied `from` or `to`; None if it was not."""
    return (await json_records(store, COPIES, CopyOf).get([place])).get(place)


def _marks(place: str, mark: CopyOf) -> Write:
    """Mark a store as one of a copy. It is closed then, but for a new store that is whole, which is opened."""
    put = Put(COPIES, place, json_codec(CopyOf).text(mark), None)
    if place == "from" and mark.whole_at is not None:
        return Write(puts=(put,), drops=(Drop(CLOSED, CLOSED_KEY, None),))
    return Write(puts=(put, Put(CLOSED, CLOSED_KEY, _CLOSED[place].format(url=mark.url), None)))


async def _parts(store: Store) -> list[_Part]:
    """The kinds of things in a store, gates first: nothing is sent from a copy in its middle."""
    names = [name for name in (await copyable(store).contents()).namespaces if name not in _ITS_OWN]
    queues = [_Part(CALLS, queue) for queue in await QueueNames(store).known()]
    return [_Part(name) for name in sorted(names, key=lambda name: (name != GATES, name))] + queues


def _less(these: Mapping[str, int], those: Mapping[str, int]) -> dict[str, int]:
    differences = {name: these.get(name, 0) - those.get(name, 0) for name in {**these, **those}}
    return {name: amount for name, amount in differences.items() if amount}


def copyable(store: Store) -> Copyable:
    """The store as one that can be copied. Raises InvalidInputError for one that cannot."""
    if not hasattr(store, "adopt"):
        raise InvalidInputError(f"the backend of {store.url} cannot copy: it lacks the methods of `Copyable`")
    return cast("Copyable", store)
