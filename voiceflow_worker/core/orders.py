"""Orders in the local journal: what a rolled back store has forgotten of them is given again.

An order is what a person has ordered, and an opt-out or an acknowledgement by a key. Each process that orders is a
*writer*: a line with the next number is in its journal file before the store gets the order, so that no crash and no
lost answer leaves it out, and the order stores that number in the same write. A writer gives one order at a time. So
what is above the number that the store has, is lost. A process looks for lost orders when it opens the store, when the
server was replaced or restarted, after an answer that was lost, and when a worker has found that the store was rolled
back. Whoever gives an order again raises the number with it: so it is given again once.

Given again is what stops calls, or makes them fewer: it wins over what starts them, whatever any clock says. A later
order in the same file alone takes it back. What makes phones ring is never given again: the queue is held, with a
sentence that names it; so it is for what cannot be given again. Nor is anything given again of a person who was erased:
an erasure is kept by the ids of calls and by digests, and those who run `service.forget.erasing_again` carry it out.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, NamedTuple, cast

import anyio
import structlog

from voiceflow_worker.core.audit import AUDIT, GIVEN_AGAIN, AuditEntry, entries_of
from voiceflow_worker.core.base.identity import QUEUES, QueueNames, counts_for
from voiceflow_worker.core.base.reading import read_each
from voiceflow_worker.core.base.record_set import Codec, report_unreadable, text_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.core.ports.controls import CANCELLED, GATES, LIMITS, gate_from, orders_in
from voiceflow_worker.core.ports.outside import ORDERS, LocalJournal, LocalJournalState, LocalOrder
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    Drop,
    Mode,
    Put,
    Record,
    Replace,
    Result,
    Same,
    Write,
    WriteResult,
)
from voiceflow_worker.core.set_rate import NAMESPACE as SET_RATE
from voiceflow_worker.core.set_rate import SetRate
from voiceflow_worker.core.suppression import ERASED, erased_group
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import ORDERED as SUPPRESSED_AGAIN
from voiceflow_worker.core.writer import Compared, Writer, compared
from voiceflow_worker.core.writes import (
    ENDED_ESCALATION,
    ERASED_CALLS,
    ERASED_KEY,
    ESCALATION,
    TOMBSTONES,
    WRITERS,
    changed,
    writer_put,
)
from voiceflow_worker.errors import (
    InvalidInputError,
    JobError,
    JournalFileError,
    SettingsError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.wording import count_of, in_words

EDIT, FORGET, RATE, RESOLVE = "edit", "forget", "rate", "resolve"
GIVEN_FOR = timedelta(days=7)
"""How long after it was given an order is given again."""
MARKS = "order"
"""Namespace of the marks of orders, by their tokens, with which the version before stored them."""
READ_BY = "orders-read"
"""Namespace of the hosts that have given orders, each with its state directory: the history of the store for which it
has read its journal."""
ERASE_AGAIN = "erase-again"
"""Namespace of the erased calls, and digests of numbers, which a store has again that was rolled back."""
NOT_GIVEN_AGAIN = "lost when the store was rolled back, and not given again"
_STOPS = frozenset({"acknowledge", "cancel", "hold", "skip-run", "stop", "suppress"})
"""Actions that stop calls. Edits, rates and erasures are given again under conditions of their own."""
_NAMED_STARTS = frozenset({"escalate", "run-now", "start"})
"""Actions that go on, if they were cut, when they are ordered again."""
_STARTS = _NAMED_STARTS | {"redial", "release", RESOLVE, "resume", "unskip-run", "unsuppress"}
"""Actions that make phones ring, or let them ring."""
_OPT_OUTS = frozenset({SUPPRESSED, SUPPRESSED_AGAIN})
_WITHOUT_PERSON = frozenset({ERASED_CALLS, ERASED_KEY, TOMBSTONES})
_FREE = frozenset({GATES, CANCELLED, SET_RATE, LIMITS})
"""The namespaces of what is ordered again by a rule of its own, whatever stands."""
_WAITING = frozenset({JobState.QUEUED, JobState.LEASED})
_NUMBER = re.compile(r"\+[0-9]{7,15}")
_PAGE = 500
_TRIES = 5
"""How often an order is given to a server that changes meanwhile."""
_NAMED = 3
"""The most lost orders that the reason of a hold names."""
_fields: Codec[dict[str, Any]] = Codec(dict[str, Any])

_log = structlog.get_logger("voiceflow.orders")


class OrderedStore:
    """A store of which the orders are in the journal of this host too. In all else it is the store itself.

    `open_journal` returns the journal, when it is first needed. An order whose line cannot be written is stored, and
    in force; a warning says that a rollback of the store may lose it.
    """

    def __init__(self, store: Store, open_journal: Callable[[], LocalJournal]) -> None:
        self.inner: Store = store
        self.clock: Clock = store.clock
        self._open_journal = open_journal
        self._journal: LocalJournal | None = None
        self._writer: Writer | None = None
        self._read_for: tuple[str, str] | None = self._server
        self._has_read = False
        self._ordering, self._looking = anyio.Lock(), anyio.Lock()
        self._erased: dict[str, datetime] = {}

    @property
    def journal(self) -> LocalJournal:
        """The journal of this host. Raises SettingsError if nobody knows its folder."""
        if self._journal is None:
            self._journal = self._open_journal()
        return self._journal

    @property
    def _server(self) -> tuple[str, str]:
        return self.inner.server, _history_of(self.inner)

    def close(self) -> None:
        """Leave the file of this process's orders to others."""
        if self._writer is not None:
            self._writer.close()

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        """Write, with the orders among it in the journal before the store gets them.

        Orders that are lost are given again before any is added to the journal, and, if another server has answered or
        an answer was lost, before this returns.
        """
        orders = self._orders_of(bulk, now)
        if orders:
            async with self._ordering:
                answers = await self._ordered(bulk, orders, now)
        else:
            answers = await self.inner.write(bulk, now=now)
        if self._read_for != self._server:
            await self.give_again()
        return answers

    def _orders_of(self, bulk: BulkWrite, now: datetime) -> Mapping[int, Sequence[LocalOrder]]:
        """The orders in a bulk write, by the places of their writes. One that starts calls is one of all its parts."""
        orders: dict[int, Sequence[LocalOrder]] = {}
        if not bulk.order and not any(map(_may_order, bulk.writes)):
            return orders
        start: Sequence[LocalOrder] = ()
        for place, write in enumerate(bulk.writes):
            found = self._orders_in(write.found or write, bulk.order, now)
            if found and _starts_calls(found[0]):
                found = start = start or found
            if found:
                orders[place] = found
        return orders

    async def _ordered(
        self, bulk: BulkWrite, orders: Mapping[int, Sequence[LocalOrder]], now: datetime
    ) -> Sequence[WriteResult]:
        # Whoever resumes a queue must know that this host has orders.
        writes, first = list(bulk.writes), min(orders)
        writes[first] = replace(writes[first], puts=(*writes[first].puts, self._read_by(now)))
        for _ in range(_TRIES):
            if not self._has_read or self._read_for is None or self._read_for != self._server:
                await self._look()
            numbered, failed, is_begun = replace(bulk, writes=tuple(writes)), None, True
            with anyio.CancelScope(shield=True):
                try:
                    self._writer = self._writer or Writer(self.inner, self.journal, ORDERS)
                    if is_begun := await self._writer.begin(at=now):
                        server = "" if self._read_for is None else self._read_for[0]
                        numbered = self._writer.numbered(numbered, orders, at=now, server=server)
                        await self._writer.append()
                except (JournalFileError, SettingsError) as error:
                    failed = error
            if is_begun:
                answers = await self._written(numbered, orders, now)
                if not any(answer.result is Result.NOT_VERIFIED for answer in answers):
                    if failed is not None:
                        _log.warning(
                            "an order is stored and in force, but it is not in the local journal of this host: it is "
                            "lost if the store is rolled back, or a server takes over that lags. Make the folder "
                            "writable, or set VOICEFLOW_STATE_DIR to one on a persistent disk",
                            action=orders[first][0].action or "opt-out",
                            error=str(failed),
                        )
                    return answers
            self.close()
            self._read_for = None
        raise StoreUnavailableError("the server of the store was replaced again and again; order it again")

    async def _written(
        self, numbered: BulkWrite, orders: Mapping[int, Sequence[LocalOrder]], now: datetime
    ) -> Sequence[WriteResult]:
        """Write orders, and record what became of them."""
        answers: Sequence[WriteResult | None] = [None] * len(numbered.writes)
        is_unknown = True
        try:
            done = answers = await self.inner.write(numbered, now=now)
        except (StoreError, InvalidInputError) as error:
            answers = getattr(error, "answers", ()) or answers
            is_unknown = isinstance(error, StoreUnavailableError) and not isinstance(error, StoreClosedError)
            raise
        finally:
            fates: dict[int, bool | None] = {}
            for place, (order, *_) in orders.items():
                answer = answers[place]
                # Who has ordered a start is told that nobody knows.
                fates[place] = None if answer is None and is_unknown and not _starts_calls(order) else False
                fates[place] = answer.result is Result.DONE if answer is not None else fates[place]
            if self._writer is not None and numbered.guard is not None:
                self._writer.record(fates)
            if None in fates.values():
                # Whether it is lost shows when the store answers again, by a file that goes no further.
                self.close()
                self._read_for = None
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _read_by(self, now: datetime) -> Put:
        # Users of one host may have state directories of their own: each must be read.
        folder = getattr(journal_of(cast("Store", self)), "folder", None)
        where = "" if folder is None else f" ({folder.parents[1]})"
        return Put(READ_BY, f"{socket.gethostname()}{where}", _history_of(self.inner), now + GIVEN_FOR)

    def _orders_in(self, write: Write, action: str, now: datetime) -> Sequence[LocalOrder]:
        """What the journal keeps of a write: a line for the opt-out of each number, and one for the rest."""
        numbers = dict.fromkeys(put.group for put in write.puts if put.namespace in _OPT_OUTS)
        of = LocalOrder(at=now, store=self.inner.id, action=action)
        jobs = [each.job for each in write.changes if isinstance(each, Replace)]
        job = jobs[0] if jobs else None
        if action == FORGET:
            puts = tuple(each for each in write.puts if _is_without_person(each))
            return [replace(of, puts=puts)] if puts else ()
        if not numbers and _starts_calls(start := replace(of, drops=write.drops)):
            return self._start_in(write, start, job)
        ends = any(put.namespace == ENDED_ESCALATION for put in write.puts)
        is_whole = (
            ends
            or action in _STOPS
            or (action == EDIT and bool(write.puts))  # not of one of its calls, which takes the edits of its batch
            or (action == RATE and any(put.namespace == SET_RATE for put in write.puts))  # its limits follow from it
        )
        found: list[LocalOrder] = []
        for number in numbers:
            puts = tuple(put for put in write.puts if put.namespace in _OPT_OUTS and put.group == number)
            found.append(self._naming(replace(of, action="" if action in _STARTS else action, puts=puts)))
        if not is_whole:
            return found
        rest = replace(of, puts=tuple(put for put in write.puts if put.namespace not in _OPT_OUTS))
        if ends:  # its calls that are taken back are orders of their own
            found += [self._naming(replace(of, job=each)) for each in jobs if action in _STOPS]
        else:
            rest = replace(rest, job=job)
        if not numbers:
            # An opt-out has no condition: that it is given again harms nobody. Nor has a cancel.
            same = tuple(each for each in write.conditions if isinstance(each, Same) and rest.job is None)
            rest = replace(rest, drops=write.drops, same=same)
        if rest.puts or rest.drops or rest.job is not None:
            found.append(self._naming(rest))
        return found

    def _start_in(self, write: Write, of: LocalOrder, job: Job | None) -> Sequence[LocalOrder]:
        """What the journal keeps of an order that is never given again: its name, and what it is about."""
        puts = tuple(put for put in write.puts if put.namespace in {AUDIT, GATES})
        is_further_part = of.action != "" and not any(put.namespace == AUDIT for put in puts)
        # A call that was placed is in doubt again, and rings nowhere.
        is_placed = of.action == RESOLVE and (job is None or job.state is not JobState.QUEUED)
        return () if is_further_part or is_placed else [self._naming(replace(of, puts=puts))]

    def _naming(self, order: LocalOrder) -> LocalOrder:
        """The order, with the digests of all numbers that it names."""
        records: list[Put | Drop | Same] = [*order.puts, *order.drops, *order.same]
        texts = [f"{each.group} {each.member} {each.value}" for each in records]
        if order.job is not None:
            texts += [*order.job.parties, order.job.body]
        numbers = {number for text in texts for number in _NUMBER.findall(text)}
        return replace(order, names=tuple(sorted(erased_group(each, store_id=self.inner.id) for each in numbers)))

    # --- After a rollback --------------------------------------------------------------------------------------------

    async def give_again(self) -> None:
        """Give the orders of this host again that the store lacks, as soon as the store is there."""
        try:
            await self._look()
        except StoreError as error:
            _log.debug("the orders of this host will be compared with the store later", error=str(error))

    async def _look(self) -> None:
        """Look for lost orders, and give them again. Raises StoreError."""
        async with self._looking:
            server, count = self._server, 0
            try:
                while lost := await self._lost():
                    count = max(count, sum(len(orders) for _, orders in lost))
                    if await self._is_given_again(lost):
                        break
                if await self._files():
                    await self._note_read()
            except SettingsError as error:
                _log.warning("the orders of this host cannot be compared with the store", error=str(error))
            self._read_for, self._has_read = server, True
        if count:
            _log.error("the store had lost orders: what stops calls was given again", orders=count)

    async def _note_read(self) -> None:
        # Most processes only read, and must not wait for who writes: they find the note of the orders.
        note = self._read_by(self.inner.clock.now())
        if (await text_records(self.inner, READ_BY).get([note.group])).get(note.group) != note.value:
            await self._put(note)

    async def _lost(self) -> list[tuple[Compared, list[_Lost]]]:
        """The files of this host that have lines above the number which the store has, with the lost orders."""
        found = await compared(self.inner, await self._files())
        for each in found:
            if not (each.file.is_numbered or each.file.is_open):
                await self._number(each)
        # Into a file of the version before that is open, its process looks.
        known = [each for each in found if each.file.is_numbered or not each.file.is_open]
        above = [each for each in known if each.number < each.newest]
        return [(each, self._lost_in(each, await self.journal.orders(each.file.name))) for each in above]

    async def _files(self) -> Sequence[LocalJournalState]:
        return await self.journal.files(ORDERS, since=self.inner.clock.now() - GIVEN_FOR)

    async def _number(self, file: Compared) -> None:
        """Give the orders in a file of the version before numbers, and store that of the last before any is lost."""
        orders, number, after = await self.journal.orders(file.file.name), 0, self.inner.clock.now() - GIVEN_FOR
        tokens = list(dict.fromkeys(order.token for _, order in orders))
        marked = set[str]()
        for start in range(0, len(tokens), _PAGE):
            marked |= set(await text_records(self.inner, MARKS).get(tokens[start : start + _PAGE]))
        for n, order in orders:
            if order.token not in marked and order.at > after and self._is_ours(order):
                break
            number = n
        await file.raise_to(self.inner, number)
        await self.journal.number_orders(file.file.name)

    def _lost_in(self, file: Compared, orders: Sequence[tuple[int, LocalOrder]]) -> list[_Lost]:
        """The orders of a file that the store has lost."""
        after, since, found = self.inner.clock.now() - GIVEN_FOR, set[object](), list[_Lost]()
        # The clock may have been set back between them.
        times = accumulate((order.at for _, order in orders), max)
        for (number, order), at in reversed(list(zip(orders, times, strict=True))):
            is_known, is_start, subjects = number <= file.file.kept, _starts_calls(order), _subjects(order)
            is_recent = self._is_ours(order) and order.at > after
            if file.number < number <= file.newest and is_recent and (is_known or order.action not in _NAMED_STARTS):
                # What this very file has taken back later is not given again.
                is_over = not is_start and not since.isdisjoint(subjects)
                found.append(_Lost(file, number, at, order, is_known, is_over))
            if is_known and (is_start or order.action == RATE):
                since |= subjects
        return found[::-1]

    def _is_ours(self, order: LocalOrder) -> bool:
        """Whether an order counts for this store: not if it was given on another copy of it."""
        return counts_for(self.inner.id, of=order.store, at=order.at)

    async def _is_given_again(self, files: Sequence[tuple[Compared, list[_Lost]]]) -> bool:
        """Give orders again, in their order; False if another process was faster with one of them."""
        lost = sorted((order for _, orders in files for order in orders), key=lambda each: each.at)
        if lost:
            await self._read_erased()
        # Before any is passed over: whoever is killed meanwhile has named them.
        await self._hold_for([each for each in lost if _starts_calls(each.order) and not self._is_erased(each.order)])
        for each in lost:
            told = [_told(put, each.entry, NOT_GIVEN_AGAIN) for put in each.order.puts if put.namespace == AUDIT]
            if self._is_erased(each.order):
                told = []
            elif not (each.is_over or _starts_calls(each.order)):
                if await self._is_given(each):
                    continue
                await self._hold_for([each])
            if not await each.file.raise_to(self.inner, each.number, told):
                return False
        return all([await file.raise_to(self.inner, file.newest) for file, _ in files])

    async def _is_given(self, lost: _Lost) -> bool:
        """Give an order again; returns False for one that cannot be."""
        try:
            return await self._give_again(lost)
        except (StoreVersionError, InvalidInputError, JobError, ValueError) as error:
            # Of a record that another version wrote, or that is damaged.
            report_unreadable(f"what the lost order {lost.order.action} has changed", error)
            return False

    async def _give_again(self, lost: _Lost) -> bool:
        order, is_given = lost.order, True
        for put in order.puts:
            if put.namespace == GATES:
                await self._order_again(put, at=order.at)
            elif put.namespace == SET_RATE:
                is_given = await SetRate(self.inner, put.group).lower_again(put.value)
        if order.job is not None:
            is_given = await self._cancel_again(order.job)
        return is_given and await self._write_again(lost)

    async def _write_again(self, lost: _Lost) -> bool:
        """Write the rest of an order again, with its number, under its conditions; returns whether they hold."""
        order, file = lost.order, lost.file
        number = writer_put(file.file.writer, lost.number, at=self.inner.clock.now())
        rest = [_told(put, lost.entry, GIVEN_AGAIN) for put in order.puts if put.namespace not in _FREE]
        # A later opt-out, of which another host has already given its order again, stays the last one.
        rest = [replace(put, mode=Mode.LONGER) if put.namespace == SUPPRESSED_AGAIN else put for put in rest]
        rest += [
            Put(ERASE_AGAIN, put.group.partition(" ")[2], "", put.ends_at)
            for put in rest
            if put.namespace == ERASED_CALLS
        ]
        same, drops = tuple(each for each in order.same if each.namespace not in _FREE), order.drops
        while True:
            is_next = Same(WRITERS, file.file.writer, file.stored)
            write = Write(conditions=(is_next, *same), puts=(*rest, number), drops=drops)
            (answer,) = await self.inner.write(BulkWrite(writes=(write,)), now=self.inner.clock.now())
            if answer.result is Result.DONE or answer.condition == is_next:  # or another process was faster
                file.stored, file.number = number.value, lost.number
                return True
            stands = answer.record
            if not (stands is not None and _is_of(answer, ESCALATION) and _has_ended(stands, order.puts)):
                break
            # However far it had come.
            same = tuple(
                replace(each, value=stands.value) if each.namespace == ESCALATION and each.value is not None else each
                for each in same
            )
            drops = tuple(replace(each, value=None) if each.namespace == ESCALATION else each for each in drops)
        if lost.entry is not None and not any(put.namespace == ENDED_ESCALATION for put in rest):
            return False
        await file.raise_to(self.inner, lost.number)  # the escalation has begun again since
        return True

    def _is_erased(self, line: LocalOrder) -> bool:
        """Whether a line names a person who was erased after it."""
        return any(self._erased.get(name, line.at) > line.at for name in line.names)

    async def _read_erased(self) -> None:
        """Who was erased, and when: of an order of before, nothing that names the person comes back."""
        for key, _ in await text_records(self.inner, ERASED_CALLS).all():
            at, _, erased = key.partition(" ")
            try:
                self._erased[erased] = datetime.fromtimestamp(float(at), UTC)
            except (ValueError, OverflowError, OSError) as error:
                report_unreadable("the time of an erasure", error)
                self._erased[erased] = datetime.max.replace(tzinfo=UTC)

    async def _hold_for(self, orders: Sequence[_Lost]) -> None:
        """Hold the queues of orders that are not given again, with a sentence that names them."""
        of_queue: dict[str, list[_Lost]] = {}
        for order in orders:
            queue = order.queue
            for name in [queue] if queue is not None else await QueueNames(self.inner).known():
                of_queue.setdefault(name, []).append(order)
        for queue, some in of_queue.items():
            named = [order.in_words() for order in some[:_NAMED]]
            named += [count_of(len(some) - _NAMED, "other order")] if len(some) > _NAMED else []
            is_lost = any(each.is_known for each in some)
            why = "the store was rolled back" if is_lost else "a process ended while it ordered"
            reason = (
                f"{why}, and {'; '.join(named)}: not given again, because that would let phones ring, or because what "
                "it changes is another since. Order again what should hold, and resume the queue"
            )
            _log.error("lost orders are not given again: the queue is held", queue=queue, orders=named)
            now, kinds = self.inner.clock.now(), frozenset({GateKind.MAY_LACK})
            held = Gate.of(queue, None, GateState.HELD, since=now, reason=reason, kinds=kinds)
            await order_gate(self.inner, held)

    async def _order_again(self, put: Put, *, at: datetime) -> None:
        """Hold or cancel again, whoever has opened it since: what stops calls wins."""
        record = _record(put)
        gate = gate_from(record)
        if gate.until is not None and gate.until <= self.inner.clock.now():
            return
        token, kinds = next(iter(orders_in(record)), None), gate.kinds - {GateKind.MAY_LACK}
        await order_gate(self.inner, replace(gate, since=at, token=token, kinds=kinds))

    async def _cancel_again(self, ordered: Job) -> bool:
        """Cancel a call again, whatever was changed of it since; returns False if it is on its way, or may be."""
        while True:
            read = await read_each(self.inner, [ordered.id])
            if (job := read.jobs.get(ordered.id)) is None:
                return not ordered.post_count and not read.unreadable
            if job.state not in _WAITING:
                return job.state.is_final
            now = self.inner.clock.now()
            kind, reason = ordered.reason_kind, ordered.reason or ""
            new = lifecycle.cancel(job, at=now, reason=reason, kind=kind, policy=CallPolicy())
            new = replace(new, due_at=ordered.due_at, kept_until=ordered.kept_until)
            (answer,) = await self.inner.write(BulkWrite(writes=(changed(job, new, at=now)[1],)), now=now)
            if answer.result is Result.DONE:
                return True

    async def _put(self, *puts: Put) -> None:
        await self.inner.write(BulkWrite(writes=(Write(puts=puts),)), now=self.inner.clock.now())


class _Lost(NamedTuple):
    """An order that the store has lost, or that was taken back later in the same file (`is_over`).

    It was given `at` this time, or later by a clock that was set back. The store certainly had one that `is_known`.
    """

    file: Compared
    number: int
    at: datetime
    order: LocalOrder
    is_known: bool
    is_over: bool

    @property
    def entry(self) -> AuditEntry | None:
        """Its entry of the audit log."""
        return next(iter(entries_of([_record(put) for put in self.order.puts if put.namespace == AUDIT])), None)

    @property
    def queue(self) -> str | None:
        """Its queue; None if it is about all of them."""
        if self.order.job is not None:
            return self.order.job.queue
        return None if self.entry is None else self.entry.queue

    def in_words(self) -> str:
        """What was ordered, on what, by whom, and when."""
        entry, job = self.entry, self.order.job
        about = job.id if job is not None else (entry and (entry.batch or entry.call))
        about = about or ("the queue" if self.queue else "numbers")
        who = "" if entry is None else f" by {entry.who}"
        action = self.order.action or "removal from the suppression list"
        return f"{action} of {about}{who}, ordered at {in_words(self.order.at)}"


def _starts_calls(order: LocalOrder) -> bool:
    """Whether an order makes phones ring, or lets them ring: the end of an opt-out or of a set rate, too."""
    return order.action in _STARTS or any(drop.namespace in {SUPPRESSED, SET_RATE} for drop in order.drops)


_ORDERED = _OPT_OUTS | {ENDED_ESCALATION, SET_RATE}


def _may_order(write: Write) -> bool:
    """Whether a write without an action may have an order in it: as most writes have none, this is quick."""
    written = write.found or write
    records: list[Put | Drop] = [*written.puts, *written.drops]
    return any(each.namespace in _ORDERED for each in records)


def _subjects(order: LocalOrder) -> set[object]:
    """What an order is about, by which a later one in the same file takes it back."""
    records: list[Put | Drop] = [*(put for put in order.puts if put.namespace != QUEUES), *order.drops]
    found: set[object] = {(each.namespace, each.group, each.member) for each in records if each.namespace != AUDIT}
    entries = entries_of([_record(put) for put in order.puts if put.namespace == AUDIT])
    return found | {each.call for each in entries if each.call} | ({order.job.id} if order.job is not None else set())


def _history_of(store: Store) -> str:
    return "" if store.history is None else store.history.name


def _record(put: Put) -> Record:
    return Record(put.group, put.value, put.ends_at, put.member)


def _is_of(answer: WriteResult, namespace: str) -> bool:
    return isinstance(answer.condition, Same) and answer.condition.namespace == namespace


def _has_ended(escalation: Record, puts: Sequence[Put]) -> bool:
    """Whether one of these has ended the escalation, as it was last begun."""
    ended = [_fields.value(put.value) for put in puts if put.namespace == ENDED_ESCALATION]
    return any(each.get("begun_at") == _fields.value(escalation.value).get("begun_at") for each in ended)


def _is_without_person(put: Put) -> bool:
    """Whether a record of an erasure is kept in the journal: it has nothing of the person, or of others."""
    is_own_entry = put.namespace == AUDIT and put.mode is Mode.KEEP
    return is_own_entry or put.namespace in _WITHOUT_PERSON or put.group.startswith(ERASED)


def _told(put: Put, entry: AuditEntry | None, result: str) -> Put:
    """The entry of the audit log says what became of the order."""
    if put.namespace != AUDIT or entry is None:
        return put
    told = replace(entry, result=result).puts(mode=Mode.KEEP)
    return next((each for each in told if each.group == put.group), put)


async def give_orders_again(store: Store) -> None:
    """Give the orders of this host again that the store lacks, if they are in a journal."""
    if isinstance(store, OrderedStore):
        await store.give_again()


def journal_of(store: Store) -> LocalJournal | None:
    """The journal of this host; None if the store has none, or nobody knows its folder."""
    try:
        journal: LocalJournal | None = getattr(store, "journal", None)
    except SettingsError:
        return None
    return journal


async def hosts_not_read(store: Store) -> Sequence[str]:
    """The hosts that have given orders, whose journals nobody has compared with the server as it is now.

    Each is named with its state directory.
    """
    hosts = await text_records(store, READ_BY).all()
    return [host for host, history in hosts if history != _history_of(store)]


@contextmanager
def with_journal(store: Store, open_journal: Callable[[], LocalJournal]) -> Generator[Store]:
    """The store, with its orders in a journal."""
    ordered = OrderedStore(store, open_journal)
    try:
        yield cast("Store", ordered)
    finally:
        ordered.close()
