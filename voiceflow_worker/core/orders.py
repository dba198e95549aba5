"""Orders in the local journal: what a rolled back store has forgotten of them is given again.

An order is what a person has ordered, and an opt-out or an acknowledgement by a key. Only a yes is an order: once the
store has one, and its number, a line is in the journal file of the process (`core.writer`), before anybody hears the
yes. What was refused or cut is ordered again by a person. A process looks for lost orders when it opens the store, when
the server was replaced or restarted, and when a worker has found that the store was rolled back. Whoever gives an order
again raises the number with it: so it is given again once.

Given again is what stops calls, or makes them fewer: it wins over what starts them, whatever any clock says. A later
order in the same file alone takes it back. What makes phones ring is never given again: the queue is held, with a
sentence that names it; so it is for what cannot be given again. Nor is anything given again of a person who was erased;
of an erasure itself, only the opt-out that it has left is given again.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, NamedTuple

import anyio
import structlog

from voiceflow_worker.core.audit import AUDIT, GIVEN_AGAIN, AuditEntry, entries_of
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import read_each
from voiceflow_worker.core.base.record_set import Codec, report_unreadable, text_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.core.ports.controls import GATES, gate_from, orders_in
from voiceflow_worker.core.ports.outside import ORDERS, LocalJournal, LocalJournalState, LocalOrder
from voiceflow_worker.core.ports.store import BulkWrite, Cancelling, Mode, Order, Put, Result, Write, WriteResult
from voiceflow_worker.core.set_rate import NAMESPACE as SET_RATE
from voiceflow_worker.core.set_rate import SetRate
from voiceflow_worker.core.suppression import erased_group
from voiceflow_worker.core.writer import UNREAD_LINES, Compared, Writer, compared, history_of
from voiceflow_worker.core.writes import ERASED_CALLS, changed
from voiceflow_worker.errors import (
    InvalidInputError,
    JobError,
    JournalFileError,
    SettingsError,
    StoreError,
    StoreForgetsError,
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
NOT_GIVEN_AGAIN = "lost when the store was rolled back, and not carried out again"
_PROTECTS = frozenset({"suppress"})
"""Actions whose entry has a line of its own: their first write may have no order, or only opt-outs."""
_STARTS = frozenset({"escalate", "start", "release"})
"""Actions that are one order as a whole, of which none of its parts is given again."""
_CHANGES = "replace"
"""The action of a list that changes calls: what it has cancelled is given again, and the list is named."""
_NUMBER = re.compile(r"\+[0-9]{7,15}")
_TRIES = 5
"""How often an order is given to a server, or given again to a record, that changes meanwhile."""
_NAMED = 3
"""The most lost orders that the reason of a hold names."""
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
        self._writer: Writer | None = None
        self._read_for, self._has_read = self._server, False
        self._ordering, self._looking = anyio.Lock(), anyio.Lock()
        self._erased: dict[str, datetime] = {}

    @cached_property
    def local_journal(self) -> LocalJournal:
        """The journal of this host. Raises SettingsError if nobody knows its folder."""
        return self._open_journal()

    @property
    def _server(self) -> tuple[str, str]:
        return self.inner.server, history_of(self.inner)

    def close(self) -> None:
        """Leave the file of this process's orders to others."""
        if self._writer is not None:
            self._writer.close()

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        """Write, with the orders that the store takes in the journal before this returns.

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
        action = "" if entry is None else entry.action
        is_whole, unnamed = action in _STARTS, partial(LocalOrder, at=now, store=self.inner.id)
        named = partial(unnamed, entry=None if action == FORGET else bulk.entry, action=action)
        starts = is_whole or action == _CHANGES
        of_whole = [self._naming(named(order=Order(starts=starts)))] if starts or action in _PROTECTS else []
        for place, write in enumerate(bulk.writes):
            given = [each for each in write.orders if not is_whole and (entry is not None or each.alone)]
            # An opt-out goes without the entry: an erasure of others whom that names must leave it.
            lines_of = [unnamed if each.alone and not (each.queue or each.starts) else named for each in given]
            found = [self._naming(line(order=each)) for line, each in zip(lines_of, given, strict=True)]
            also = of_whole if any(put.namespace == AUDIT for put in write.puts) else []
            if found or also:
                lines[place] = [*found, *also] if found else also
        return lines

    async def _ordered(
        self, bulk: BulkWrite, orders: Mapping[int, Sequence[LocalOrder]], now: datetime
    ) -> Sequence[WriteResult]:
        # Whoever resumes a queue must know that this host has orders.
        writes, first = list(bulk.writes), min(orders)
        writes[first] = replace(writes[first], puts=(*writes[first].puts, self._read_by(now)))
        for _ in range(_TRIES):
            if not self._has_read or self._read_for != self._server:
                try:
                    await self._look()
                except StoreForgetsError:
                    if not bulk.stops:
                        raise
            numbered, failed, is_begun = replace(bulk, writes=tuple(writes)), None, True
            with anyio.CancelScope(shield=True):
                try:
                    self._writer = self._writer or Writer(self.inner, self.local_journal, ORDERS)
                    if is_begun := await self._writer.begin(at=now):
                        numbered = self._writer.numbered(numbered, orders, at=now, server=self._read_for[0])
                except (JournalFileError, SettingsError) as error:
                    failed = error
            if is_begun:
                answers: Sequence[WriteResult | None] = ()
                try:
                    given = answers = await self.inner.write(numbered, now=now)
                except StoreError as error:
                    answers = error.answers
                    raise
                finally:
                    done = {place for place, each in enumerate(answers) if getattr(each, "result", None) is Result.DONE}
                    await self._keep(orders, sorted(done & orders.keys()), failed)
                if not any(answer.result is Result.NOT_VERIFIED for answer in given):
                    return given
            self.close()
            self._has_read = False
        raise StoreUnavailableError("the server of the store was replaced again and again; order it again")

    async def _keep(
        self, orders: Mapping[int, Sequence[LocalOrder]], stored: Sequence[int], failed: Exception | None
    ) -> None:
        """Write the lines of the orders that the store has, unless the file has `failed`: then it is logged."""
        if self._writer is not None and stored and failed is None:
            with anyio.CancelScope(shield=True):
                try:
                    self._writer.has_stored(stored)
                    await self._writer.append(stored)
                except JournalFileError as error:
                    failed = error
        if stored and failed is not None:
            _log.warning(
                "an order is stored and in force, but it is not in the local journal of this host: it is lost if the "
                "store is rolled back, or a server takes over that lags. Make the folder writable, or set "
                "VOICEFLOW_STATE_DIR to one on a persistent disk",
                action=orders[stored[0]][0].action or "opt-out",
                error=str(failed),
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _read_by(self, now: datetime) -> Put:
        # Users of one host may have state directories of their own: each must be read.
        folder = None
        with suppress(SettingsError):
            folder = getattr(self.local_journal, "folder", None)
        where = "" if folder is None else f" ({folder.parents[1]})"
        return Put(READ_BY, f"{socket.gethostname()}{where}", history_of(self.inner), now + GIVEN_FOR)

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
                # Most processes only read, and must not wait for who writes: they find the note of the orders.
                note, notes = self._read_by(now := self.inner.clock.now()), text_records(self.inner, READ_BY)
                if await self._files() and await notes.get([note.group]) != {note.group: note.value}:
                    await self.inner.write(BulkWrite(writes=(Write(puts=(note,)),)), now=now)
            except SettingsError as error:
                _log.warning("the orders of this host cannot be compared with the store", error=str(error))
            self._read_for, self._has_read = server, True
        if count:
            _log.error("the store had lost orders: what stops calls was carried out again", orders=count)

    async def _lost(self) -> list[tuple[Compared, list[_Lost]]]:
        """The files of this host that have lines above the number which the store has, with the lost orders."""
        found = [each for each in await compared(self.inner, await self._files()) if each.is_lost]
        if found:
            await self._read_erased()
        read = [(each, await self.local_journal.entries(each.file.name)) for each in found]
        for unread in filter(None, (each.unread(entries) for each, entries in read)):
            kinds = frozenset({GateKind.MAY_LACK, GateKind.UNREAD_FILES})
            for name in await QueueNames(self.inner).known():
                now, reason = self.inner.clock.now(), UNREAD_LINES.format(lines=unread, what="orders")
                _log.error("lost orders cannot be read: the queue is held", queue=name, unread=unread)
                await order_gate(self.inner, Gate.of(name, None, GateState.HELD, since=now, reason=reason, kinds=kinds))
        return [(each, self._lost_in(each, entries.orders)) for each, entries in read]

    async def _files(self) -> Sequence[LocalJournalState]:
        return await self.local_journal.files(ORDERS, since=self.inner.clock.now() - GIVEN_FOR)

    def _lost_in(self, file: Compared, orders: Sequence[tuple[int, LocalOrder]]) -> list[_Lost]:
        """The orders of a file that the store has lost."""
        after, since, found = self.inner.clock.now() - GIVEN_FOR, set[str](), list[_Lost]()
        # The clock may have been set back between them.
        times = accumulate((line.at for _, line in orders), max)
        for (number, line), at in reversed(list(zip(orders, times, strict=True))):
            order = line.order
            if number > file.number and line.store == self.inner.id and line.at > after:
                is_erased = any(self._erased.get(name, line.at) > line.at for name in line.names)
                # What this very file has taken back later is not given again.
                is_over = is_erased or (not order.starts and not since.isdisjoint(order.about))
                kept = replace(line, entry=None) if is_erased else line
                found.append(_Lost(file, number, at, kept, is_over))
            if order.starts or any(put.namespace == SET_RATE for put in order.puts):
                since |= set(order.about)
        return found[::-1]

    async def _is_given_again(self, files: Sequence[tuple[Compared, list[_Lost]]]) -> bool:
        """Give orders again, in their order; False if another process was faster with one of them."""
        lost = sorted((line for _, lines in files for line in lines), key=lambda each: each.at)
        # Before any is passed over: whoever is killed meanwhile has named them.
        await self._hold_for([each for each in lost if each.line.order.starts and not each.is_over])
        for each in lost:
            if not (each.is_over or each.line.order.starts):
                if (is_given := await self._is_given(each)) is None:
                    return False
                if is_given:
                    continue
                await self._hold_for([each])
            told = Write(puts=each.told(NOT_GIVEN_AGAIN))
            if (await each.file.raise_to(self.inner, each.number, told)).result is not Result.DONE:
                return False
        raised = [await file.raise_to(self.inner, file.file.kept) for file, _ in files]
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
        order, first = lost.line.order, next(iter(lost.line.order.puts), None)
        if order.cancels is not None:
            return Write() if await self._cancel_again(order.cancels) else None
        if first is not None and first.namespace == GATES:
            await self._close_again(first, at=lost.line.at)
            return Write()
        if first is not None and first.namespace == SET_RATE:
            return Write() if await SetRate(self.inner, first.group).lower_again(first.value) else None
        return Write(conditions=order.same, puts=order.puts, drops=order.drops)

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
            for name in [order.queue] if order.queue is not None else await QueueNames(self.inner).known():
                of_queue.setdefault(name, []).append(order)
        for queue, some in of_queue.items():
            all_named = list(dict.fromkeys(order.in_words() for order in some))
            named, others = all_named[:_NAMED], len(all_named) - _NAMED
            named += [count_of(others, "other order")] if others > 0 else []
            reason = (
                f"the store was rolled back, and {'; '.join(named)}: not carried out again, because that would let "
                "phones ring, or because what it changes is another since. Order again what should hold"
            )
            _log.error("lost orders are not carried out again: the queue is held", queue=queue, orders=named)
            now, kinds = self.inner.clock.now(), frozenset({GateKind.MAY_LACK})
            held = Gate.of(queue, None, GateState.HELD, since=now, reason=reason, kinds=kinds)
            await order_gate(self.inner, held)

    async def _close_again(self, put: Put, *, at: datetime) -> None:
        """Hold or cancel again, whoever has opened it since: what stops calls wins."""
        gate = gate_from(put)
        if gate.until is not None and gate.until <= self.inner.clock.now():
            return
        token, kinds = next(iter(orders_in(put)), None), gate.kinds - {GateKind.MAY_LACK}
        await order_gate(self.inner, replace(gate, since=at, token=token, kinds=kinds))

    async def _cancel_again(self, order: Cancelling) -> bool:
        """Cancel a call again, whatever was changed of it since; returns False if it is on its way, or may be."""
        while True:
            read = await read_each(self.inner, [order.job])
            if (job := read.jobs.get(order.job)) is None:
                return not order.post_count and not read.unreadable
            if job.state not in {JobState.QUEUED, JobState.LEASED}:
                return job.state.is_final
            now = self.inner.clock.now()
            new = lifecycle.cancel(job, at=now, reason=order.reason, kind=order.kind, policy=CallPolicy())
            new = replace(new, due_at=order.due_at)
            (answer,) = await self.inner.write(BulkWrite(writes=(changed(job, new, at=now)[1],)), now=now)
            if answer.result is Result.DONE:
                return True


class _Lost(NamedTuple):
    """An order that the store has lost, given `at` this time, or later by a clock that was set back.

    It `is_over` if it was taken back later in the same file, or names a person who was erased since.
    """

    file: Compared
    number: int
    at: datetime
    line: LocalOrder
    is_over: bool

    @property
    def entry(self) -> AuditEntry | None:
        """Its entry of the audit log."""
        return _entry_in(self.line.entry)

    @property
    def queue(self) -> str | None:
        """Its queue; None if it is about all of them."""
        return self.line.order.queue or (None if self.entry is None else self.entry.queue)

    def told(self, result: str) -> tuple[Put, ...]:
        """What stores in its entry what became of it."""
        return () if self.entry is None else replace(self.entry, result=result).puts(mode=Mode.KEEP)

    def in_words(self) -> str:
        """What was ordered, on what, by whom, and when."""
        entry, cancels = self.entry, self.line.order.cancels
        about = cancels.job if cancels is not None else (entry and (entry.batch or entry.call))
        about = about or ("the queue" if self.queue else "numbers")
        who = "" if entry is None else f" by {entry.who}"
        at = self.line.at if entry is None else entry.at
        return f"{self.line.action or 'removal from the suppression list'} of {about}{who}, ordered at {in_words(at)}"


def _entry_in(put: Put | None) -> AuditEntry | None:
    """The entry of the audit log in a record."""
    return next(iter(entries_of([] if put is None else [put])), None)


async def give_orders_again(store: Store) -> None:
    """Give the orders of this host again that the store lacks, if they are in a journal."""
    if isinstance(store, OrderedStore):
        await store.give_again()


async def hosts_not_read(store: Store) -> Sequence[str]:
    """The hosts, each with its state directory, that have given orders which nobody has compared with this server."""
    hosts = await text_records(store, READ_BY).all()
    return [host for host, history in hosts if history != history_of(store)]
