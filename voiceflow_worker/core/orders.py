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
from voiceflow_worker.core.base.identity import QueueNames, counts_for
from voiceflow_worker.core.base.reading import read_each
from voiceflow_worker.core.base.record_set import Codec, report_unreadable, text_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.core.ports.controls import gate_from, orders_in
from voiceflow_worker.core.ports.outside import (
    ORDERS,
    AnyOrder,
    Cancelling,
    Closing,
    Ending,
    LocalJournal,
    LocalJournalState,
    LocalOrder,
    OptOut,
    RateOrder,
    Start,
    Storing,
)
from voiceflow_worker.core.ports.store import BulkWrite, Mode, Put, Record, Result, Same, Write, WriteResult
from voiceflow_worker.core.set_rate import SetRate
from voiceflow_worker.core.suppression import erased_group
from voiceflow_worker.core.writer import Compared, Writer, compared
from voiceflow_worker.core.writes import ENDED_ESCALATION, ERASED_CALLS, ESCALATION, changed
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
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.wording import count_of, in_words

FORGET = "forget"
GIVEN_FOR = timedelta(days=7)
"""How long after it was given an order is given again."""
READ_BY = "orders-read"
"""Namespace of the hosts that have given orders, each with its state directory: the history of the store for which it
has read its journal."""
NOT_GIVEN_AGAIN = "lost when the store was rolled back, and not given again"
_PROTECTS = frozenset({FORGET, "suppress"})
"""Actions whose entry has a line of its own: their first write may have no order, or only opt-outs."""
_GOES_ON = frozenset({"escalate", "run-now", "start"})
"""Actions that go on, if they were cut, when they are ordered again."""
_STARTS = _GOES_ON | {"release"}
"""Actions that are one order as a whole, of which none of its parts is given again."""
_WAITING = frozenset({JobState.QUEUED, JobState.LEASED})
_NUMBER = re.compile(r"\+[0-9]{7,15}")
_TRIES = 5
"""How often an order is given to a server, or given again to a record, that changes meanwhile."""
_NAMED = 3
"""The most lost orders that the reason of a hold names."""
_fields: Codec[dict[str, Any]] = Codec(dict[str, Any])
_text: Codec[LocalOrder] = Codec(LocalOrder)

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
        orders = self._lines_of(bulk, now)
        if orders:
            async with self._ordering:
                answers = await self._ordered(bulk, orders, now)
        else:
            answers = await self.inner.write(bulk, now=now)
        if self._read_for != self._server:
            await self.give_again()
        return answers

    def _lines_of(self, bulk: BulkWrite, now: datetime) -> Mapping[int, Sequence[LocalOrder]]:
        """The lines for the orders in a bulk write, by the places of their writes. Some may have the same lines."""
        if bulk.entry is None and not any(write.orders for write in bulk.writes):
            return {}
        entry, lines = _entry_in(bulk.entry), dict[int, Sequence[LocalOrder]]()
        line = LocalOrder(at=now, store=self.inner.id, entry=bulk.entry, action="" if entry is None else entry.action)
        whole = Start() if line.action in _STARTS else Storing() if line.action in _PROTECTS else None
        of_whole = [] if whole is None else [self._naming(replace(line, order=whole))]
        for place, write in enumerate(bulk.writes):
            given = () if line.action in _STARTS else write.orders
            orders = [each for each in given if entry is not None or each.counts_alone]
            found = [replace(line, order=cast("AnyOrder", each)) for each in orders]
            # An opt-out goes without the entry: an erasure of others whom that names must leave it.
            found = [replace(each, action="", entry=None) if isinstance(each.order, OptOut) else each for each in found]
            keeps_entry = any(put.namespace == AUDIT for put in write.puts)
            also, named = of_whole if keeps_entry else [], list(map(self._naming, found))
            if named or also:
                lines[place] = [*named, *also] if named else also
        return lines

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
            for place, (line, *_) in orders.items():
                answer = answers[place]
                # Who has ordered a start is told that nobody knows.
                fates[place] = None if answer is None and is_unknown and not _starts_calls(line) else False
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

    def _naming(self, line: LocalOrder) -> LocalOrder:
        """The line, with the digests of all numbers that it names."""
        numbers = set(_NUMBER.findall(_text.text(line)))
        return replace(line, names=tuple(sorted(erased_group(each, store_id=self.inner.id) for each in numbers)))

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
        above = [each for each in found if each.number < each.newest]
        return [(each, self._lost_in(each, await self.journal.orders(each.file.name))) for each in above]

    async def _files(self) -> Sequence[LocalJournalState]:
        return await self.journal.files(ORDERS, since=self.inner.clock.now() - GIVEN_FOR)

    def _lost_in(self, file: Compared, orders: Sequence[tuple[int, LocalOrder]]) -> list[_Lost]:
        """The orders of a file that the store has lost."""
        after, since, found = self.inner.clock.now() - GIVEN_FOR, set[str](), list[_Lost]()
        # The clock may have been set back between them.
        times = accumulate((line.at for _, line in orders), max)
        for (number, line), at in reversed(list(zip(orders, times, strict=True))):
            is_known, is_start = number <= file.file.kept, _starts_calls(line)
            about = set[str]() if line.order is None else set(line.order.about)
            is_recent = self._is_ours(line) and line.at > after
            if file.number < number <= file.newest and is_recent and (is_known or line.action not in _GOES_ON):
                # What this very file has taken back later is not given again.
                found.append(_Lost(file, number, at, line, is_known, not is_start and not since.isdisjoint(about)))
            if is_known and (is_start or isinstance(line.order, RateOrder)):
                since |= about
        return found[::-1]

    def _is_ours(self, line: LocalOrder) -> bool:
        """Whether an order counts for this store: not if it was given on another copy of it."""
        return counts_for(self.inner.id, of=line.store, at=line.at)

    async def _is_given_again(self, files: Sequence[tuple[Compared, list[_Lost]]]) -> bool:
        """Give orders again, in their order; False if another process was faster with one of them."""
        lost = sorted((line for _, lines in files for line in lines), key=lambda each: each.at)
        if lost:
            await self._read_erased()
        # Before any is passed over: whoever is killed meanwhile has named them.
        await self._hold_for([each for each in lost if _starts_calls(each.line) and not self._is_erased(each.line)])
        for each in lost:
            told = () if self._is_erased(each.line) else each.told(NOT_GIVEN_AGAIN)
            if not (self._is_erased(each.line) or each.is_over or _starts_calls(each.line)):
                if (is_given := await self._is_given(each)) is None:
                    return False
                if is_given:
                    continue
                await self._hold_for([each])
            if (await each.file.raise_to(self.inner, each.number, Write(puts=tuple(told)))).result is not Result.DONE:
                return False
        raised = [await file.raise_to(self.inner, file.newest) for file, _ in files]
        return all(answer.result is Result.DONE for answer in raised)

    async def _is_given(self, lost: _Lost) -> bool | None:
        """Give an order again, with its number; False if it cannot be, and None if another process was faster."""
        try:
            for _ in range(_TRIES):
                if (write := await self._again(lost)) is None:
                    return False
                write = replace(write, puts=(*write.puts, *lost.told(GIVEN_AGAIN)))
                answer = await lost.file.raise_to(self.inner, lost.number, write)
                if answer.result is Result.DONE:
                    return True
                if answer.condition not in write.conditions:
                    return None
        except (StoreVersionError, InvalidInputError, JobError, ValueError) as error:
            # Of a record that another version wrote, or that is damaged.
            report_unreadable(f"what the lost order {lost.line.action} has changed", error)
        return False

    async def _again(self, lost: _Lost) -> Write | None:
        """Carry an order out again; returns what is left to be stored with its number, or None if it cannot be."""
        match lost.line.order:
            case Closing(put=put):
                await self._close_again(put, at=lost.line.at)
                return Write()
            case RateOrder(queue=str(queue), text=text):
                return Write() if await SetRate(self.inner, queue).lower_again(text) else None
            case Cancelling() as order:
                return Write() if await self._cancel_again(order) else None
            case Ending() as order:
                return await self._end_again(order)
            case Storing(puts=puts, drops=drops, same=same):
                return Write(conditions=same, puts=puts, drops=drops)
            case _:
                return None

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
            all_named = list(dict.fromkeys(order.in_words() for order in some))
            named, others = all_named[:_NAMED], len(all_named) - _NAMED
            named += [count_of(others, "other order")] if others > 0 else []
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

    async def _close_again(self, put: Put, *, at: datetime) -> None:
        """Hold or cancel again, whoever has opened it since: what stops calls wins."""
        record = _record(put)
        gate = gate_from(record)
        if gate.until is not None and gate.until <= self.inner.clock.now():
            return
        token, kinds = next(iter(orders_in(record)), None), gate.kinds - {GateKind.MAY_LACK}
        await order_gate(self.inner, replace(gate, since=at, token=token, kinds=kinds))

    async def _cancel_again(self, order: Cancelling) -> bool:
        """Cancel a call again, whatever was changed of it since; returns False if it is on its way, or may be."""
        while True:
            read = await read_each(self.inner, [order.job])
            if (job := read.jobs.get(order.job)) is None:
                return not order.post_count and not read.unreadable
            if job.state not in _WAITING:
                return job.state.is_final
            now = self.inner.clock.now()
            new = lifecycle.cancel(job, at=now, reason=order.reason, kind=order.kind, policy=CallPolicy())
            new = replace(new, due_at=order.due_at, kept_until=order.kept_until)
            (answer,) = await self.inner.write(BulkWrite(writes=(changed(job, new, at=now)[1],)), now=now)
            if answer.result is Result.DONE:
                return True

    async def _end_again(self, order: Ending) -> Write:
        """The write that ends an escalation again, however far it had come; an empty one if it has begun again since.

        So it is if the store does not have it.
        """
        (escalation,) = order.about
        key = (order.queue or "", escalation)
        found = (await self.inner.records({ESCALATION: [key]}, now=self.inner.clock.now()))[ESCALATION]
        ended = [_begun_at(put.value) for put in order.puts if put.namespace == ENDED_ESCALATION]
        if not found or _begun_at(found[0].value) not in ended:
            return Write()
        drops = [replace(each, value=None) if each.namespace == ESCALATION else each for each in order.drops]
        as_read = Same(ESCALATION, key[0], found[0].value, key[1])
        return Write(conditions=(as_read,), puts=order.puts, drops=tuple(drops))

    async def _put(self, *puts: Put) -> None:
        await self.inner.write(BulkWrite(writes=(Write(puts=puts),)), now=self.inner.clock.now())


class _Lost(NamedTuple):
    """An order that the store has lost, or that was taken back later in the same file (`is_over`).

    It was given `at` this time, or later by a clock that was set back. The store certainly had one that `is_known`.
    """

    file: Compared
    number: int
    at: datetime
    line: LocalOrder
    is_known: bool
    is_over: bool

    @property
    def entry(self) -> AuditEntry | None:
        """Its entry of the audit log."""
        return _entry_in(self.line.entry)

    @property
    def queue(self) -> str | None:
        """Its queue; None if it is about all of them."""
        queue = None if self.line.order is None else self.line.order.queue
        return queue or (None if self.entry is None else self.entry.queue)

    def told(self, result: str) -> Sequence[Put]:
        """What stores in its entry what became of it."""
        return () if self.entry is None else replace(self.entry, result=result).puts(mode=Mode.KEEP)

    def in_words(self) -> str:
        """What was ordered, on what, by whom, and when."""
        entry, order = self.entry, self.line.order
        about = order.job if isinstance(order, Cancelling) else (entry and (entry.batch or entry.call))
        about = about or ("the queue" if self.queue else "numbers")
        who = "" if entry is None else f" by {entry.who}"
        action = self.line.action or ("an order" if order is None else "removal from the suppression list")
        at = self.line.at if entry is None else entry.at
        return f"{action} of {about}{who}, ordered at {in_words(at)}"


def _starts_calls(line: LocalOrder) -> bool:
    """Whether an order makes phones ring, or lets them ring. Of one of the version before, nobody knows."""
    return line.order is None or isinstance(line.order, Start)


def _entry_in(put: Put | None) -> AuditEntry | None:
    """The entry of the audit log in a record."""
    return next(iter(entries_of([] if put is None else [_record(put)])), None)


def _history_of(store: Store) -> str:
    return "" if store.history is None else store.history.name


def _record(put: Put) -> Record:
    return Record(put.group, put.value, put.ends_at, put.member)


def _begun_at(text: str) -> object:
    """When the escalation in a record has begun, as it was last begun."""
    return _fields.value(text).get("begun_at")


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
