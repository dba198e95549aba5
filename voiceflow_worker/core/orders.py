"""Orders in the local journal: what a rolled back store has forgotten of them is given again.

An order is what a person has ordered, and an opt-out or an acknowledgement by a key. Before its write returns, the
journal of this host has it too. The write also stores a mark: an order whose mark the store lacks is lost. A process
looks for lost orders when it opens the store, when the server was replaced or restarted, and when a worker has found
that the store was rolled back. So an order is given again once, by whoever finds it first, in the order of their times,
and each under its condition: what somebody has ordered since stays. If that cannot be told, the queue is held.

What makes phones ring is not given again: its loss calls nobody. Nor is anything of a person who was erased: an erasure
is kept by the ids of calls and by digests, and those who run `service.forget.erasing_again` carry it out.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import anyio
import structlog

from voiceflow_worker.core.audit import AUDIT, AuditEntry, entries_of, entries_on
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import CANCELLED, GATES, gate_from, orders_in
from voiceflow_worker.core.ports.identity import counts_for, new_revision
from voiceflow_worker.core.ports.outside import LocalOrder, OrderJournal
from voiceflow_worker.core.ports.reading import read_each
from voiceflow_worker.core.ports.record_set import Codec, text_records
from voiceflow_worker.core.ports.store import (
    Absent,
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
from voiceflow_worker.core.suppression import ERASED, erased_group
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import ORDERED as SUPPRESSED_AGAIN
from voiceflow_worker.core.writes import ENDED_ESCALATION, ERASED_CALLS, ERASED_KEY, ESCALATION, TOMBSTONES, changed
from voiceflow_worker.errors import JournalFileError, SettingsError, StoreError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.wording import in_words

EDIT, FORGET = "edit", "forget"
GIVEN_FOR = timedelta(days=7)
"""How long after it was given an order is given again. Its mark stays a day longer."""
MARKS = "order"
"""Namespace of the marks of orders, by their tokens."""
READ_BY = "orders-read"
"""Namespace of the hosts that have given orders, each with its state directory: the history of the store for which it
has read its journal."""
ERASE_AGAIN = "erase-again"
"""Namespace of the erased calls, and digests of numbers, which a store has again that was rolled back."""
GIVEN_AGAIN = "given again from the local journal, because the store was rolled back"
_STOPS = frozenset({"acknowledge", "cancel", "hold", "skip-run", "stop", "suppress"})
_LASTS = frozenset({"rate", "resume", "unskip-run", "unsuppress"})
"""Actions that stop calls; and those that end or change what others have ordered, which would come back else."""
_AGAIN = _STOPS | _LASTS | {EDIT, FORGET}
_OVERWRITES = frozenset({"rate", "resume"})
"""The actions that write what they say over whatever stands: a later one of the same kind counts."""
_OPT_OUTS = frozenset({SUPPRESSED, SUPPRESSED_AGAIN})
_WITHOUT_PERSON = frozenset({ERASED_CALLS, ERASED_KEY, TOMBSTONES})
_WAITING = frozenset({JobState.QUEUED, JobState.LEASED})
_NUMBER = re.compile(r"\+[0-9]{7,15}")
_PAGE = 500
_fields: Codec[dict[str, Any]] = Codec(dict[str, Any])

_log = structlog.get_logger("voiceflow.orders")


class OrderedStore:
    """A store of which the orders are in the journal of this host too. In all else it is the store itself.

    `open_journal` returns the journal, when it is first needed. An order whose line cannot be written is stored, and
    in force; a warning says that a rollback of the store may lose it.
    """

    def __init__(self, store: Store, open_journal: Callable[[], OrderJournal]) -> None:
        self.inner: Store = store
        self._open_journal = open_journal
        self._journal: OrderJournal | None = None
        self._read_for: tuple[str, str] = self._server
        self._has_read = False
        self._has_failed = False
        self._looking = anyio.Lock()
        self._erased: dict[str, datetime] = {}

    @property
    def journal(self) -> OrderJournal:
        """The journal of this host. Raises SettingsError if nobody knows its folder."""
        if self._journal is None:
            self._journal = self._open_journal()
        return self._journal

    @property
    def _server(self) -> tuple[str, str]:
        return self.inner.server, _history_of(self.inner)

    def close(self) -> None:
        """Leave the file of this process's orders to others."""
        if self._journal is not None:
            self._journal.close_orders()

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        """Write, and keep the orders among it that were written in the journal.

        If another server has answered, the orders of this host that it lacks are given again before this returns, and
        before any is added to the journal: of a file, its end shows whether some are lost.
        """
        answers, kept = await self._written(bulk, now)
        if self._read_for != self._server or (kept and not self._has_read):
            await self.give_again()
        if kept:
            await self._keep(kept)
        return answers

    async def _written(self, bulk: BulkWrite, now: datetime) -> tuple[Sequence[WriteResult], Sequence[LocalOrder]]:
        kept: dict[int, Sequence[LocalOrder]] = {}
        writes = list(bulk.writes)
        for place, write in enumerate(writes):
            if orders := self._orders_in(write.found or write, bulk.order, now):
                kept[place] = orders
                writes[place] = replace(write, puts=(*write.puts, _mark(orders[0])))
        if not kept:
            return await self.inner.write(bulk, now=now), ()
        # Whoever resumes a queue must know that this host has orders.
        writes[min(kept)] = replace(writes[min(kept)], puts=(*writes[min(kept)].puts, self._read_by(now)))
        answers = await self.inner.write(replace(bulk, writes=tuple(writes)), now=now)
        return answers, [
            each for place, orders in kept.items() if answers[place].result is Result.DONE for each in orders
        ]

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
        is_whole = (
            action in _AGAIN
            or any(put.namespace == ENDED_ESCALATION for put in write.puts)
            or any(drop.namespace in _OPT_OUTS for drop in write.drops)
        )
        if not (is_whole or numbers):
            return ()
        if action == EDIT and not write.puts:
            return ()  # one of the calls of a batch, which takes the edits of the batch before it leaves
        of = LocalOrder(token=new_revision(), at=now, store=self.inner.id, action=action)
        if action == FORGET:
            puts = tuple(each for each in write.puts if _is_without_person(each))
            return [replace(of, puts=puts)] if puts else ()
        found: list[LocalOrder] = []
        for number in numbers:
            puts = tuple(put for put in write.puts if put.namespace in _OPT_OUTS and put.group == number)
            found.append(self._naming(replace(of, puts=puts)))
        if not is_whole:
            return found
        job = write.change.job if isinstance(write.change, Replace) else None
        rest = replace(of, puts=tuple(put for put in write.puts if put.namespace not in _OPT_OUTS), job=job)
        if not numbers:
            # An opt-out has no condition: that it is given again harms nobody.
            same = tuple(each for each in write.conditions if isinstance(each, Same))
            rest = replace(rest, drops=write.drops, same=same)
        if rest.puts or rest.drops or rest.job is not None:
            found.append(self._naming(rest))
        return found

    def _naming(self, order: LocalOrder) -> LocalOrder:
        """The order, with the digests of all numbers that it names."""
        records: list[Put | Drop | Same] = [*order.puts, *order.drops, *order.same]
        texts = [f"{each.group} {each.member} {each.value}" for each in records]
        if order.job is not None:
            texts += [*order.job.parties, order.job.body]
        numbers = {number for text in texts for number in _NUMBER.findall(text)}
        return replace(order, names=tuple(sorted(erased_group(each, store_id=self.inner.id) for each in numbers)))

    async def _keep(self, orders: Sequence[LocalOrder]) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await self.journal.keep_orders(orders)
        except (JournalFileError, SettingsError) as error:
            _log.warning(
                "an order is stored and in force, but it is not in the local journal of this host: it is lost if the "
                "store is rolled back, or a server takes over that lags. Make the folder writable, or set "
                "VOICEFLOW_STATE_DIR to one on a persistent disk",
                action=orders[0].action or "opt-out",
                error=str(error),
            )

    # --- After a rollback --------------------------------------------------------------------------------------------

    async def give_again(self) -> None:
        """Give the orders of this host again that the store lacks, as soon as the store is there."""
        async with self._looking:
            server = self._server
            try:
                files = await self.journal.order_files(since=self.inner.clock.now() - GIVEN_FOR)
                lost = [order for name in files for order in await self._lost(name)]
                if lost:
                    await self._read_erased()
                for orders in sorted(lost, key=lambda each: each[0].at):
                    await self._give_again(orders)
                if files:
                    await self._note_read()
            except StoreError as error:
                _log.debug("the orders of this host will be compared with the store later", error=str(error))
                self._has_failed = True
                return
            except SettingsError as error:
                lost = []
                _log.warning("the orders of this host cannot be compared with the store", error=str(error))
            self._read_for, self._has_read, self._has_failed = server, True, False
        if lost:
            _log.error("orders that the store had lost were given again", orders=len(lost))

    async def _note_read(self) -> None:
        # Most processes only read, and must not wait for who writes: they find the note of the orders.
        note = self._read_by(self.inner.clock.now())
        if (await text_records(self.inner, READ_BY).get([note.group])).get(note.group) != note.value:
            await self._put(note)

    async def _lost(self, name: str) -> list[list[LocalOrder]]:
        """The orders in a file that the store has lost, each with its lines."""
        if not (self._has_failed or await self._without_mark(await self.journal.orders(name, newest=True))):
            return []
        return await self._without_mark(await self.journal.orders(name))

    async def _without_mark(self, orders: Iterable[LocalOrder]) -> list[list[LocalOrder]]:
        after = self.inner.clock.now() - GIVEN_FOR
        found: dict[str, list[LocalOrder]] = {}
        for order in orders:
            if order.at > after and counts_for(self.inner.id, of=order.store, at=order.at):
                found.setdefault(order.token, []).append(order)
        tokens = list(found)
        for start in range(0, len(tokens), _PAGE):
            for token in await text_records(self.inner, MARKS).get(tokens[start : start + _PAGE]):
                del found[token]
        return list(found.values())

    async def _give_again(self, lines: Sequence[LocalOrder]) -> None:
        """Give one order again, of which these are the lines."""
        first = lines[0]
        lines = [line for line in lines if not any(self._erased.get(name, first.at) > first.at for name in line.names)]
        puts = [put for line in lines for put in line.puts]
        entry = next(iter(entries_of([_record(put) for put in puts if put.namespace == AUDIT])), None)
        if entry is not None and entry.action in _OVERWRITES and await self._has_later(entry):
            await self._put(_mark(first))
            return
        for put in puts:
            if put.namespace == GATES:
                await self._order_again(put, at=first.at)
        for line in lines:
            if line.job is not None:
                await self._change_again(line.job)
        rest = [_told(put, entry) for put in puts if put.namespace not in {GATES, CANCELLED}]
        # A later opt-out, of which another host has already given its order again, stays the last one.
        rest = [replace(put, mode=Mode.LONGER) if put.namespace == SUPPRESSED_AGAIN else put for put in rest]
        rest += [
            Put(ERASE_AGAIN, put.group.partition(" ")[2], "", put.ends_at)
            for put in rest
            if put.namespace == ERASED_CALLS
        ]
        same = tuple(each for line in lines for each in line.same if each.namespace not in {GATES, CANCELLED})
        drops = tuple(drop for line in lines for drop in line.drops)
        ends_one = any(put.namespace == ENDED_ESCALATION for put in rest)
        while True:
            write = Write(conditions=(Absent(MARKS, (first.token,)), *same), puts=(*rest, _mark(first)), drops=drops)
            (answer,) = await self.inner.write(BulkWrite(writes=(write,)), now=self.inner.clock.now())
            if answer.result is Result.DONE or isinstance(answer.condition, Absent):
                return
            stands = answer.record
            if not (stands is not None and _is_of(answer, ESCALATION) and _has_ended(stands, puts)):
                break
            # However far it had come.
            same = tuple(
                replace(each, value=stands.value) if each.namespace == ESCALATION and each.value is not None else each
                for each in same
            )
            drops = tuple(replace(each, value=None) if each.namespace == ESCALATION else each for each in drops)
        await self._put(_mark(first))
        if entry is not None and not ends_one and not any(line.job for line in lines):
            await self._hold_for(entry, first.at)

    async def _read_erased(self) -> None:
        """Who was erased, and when: of an order of before, nothing that names the person comes back."""
        for key, _ in await text_records(self.inner, ERASED_CALLS).all():
            at, _, erased = key.partition(" ")
            self._erased[erased] = datetime.fromtimestamp(float(at), UTC)

    async def _hold_for(self, entry: AuditEntry, at: datetime) -> None:
        """Hold the queue of an order that cannot be given again, because what it changed is another since."""
        about = entry.batch or entry.call or "the queue"
        reason = (
            f"the store was rolled back, and {entry.action} of {about} by {entry.who}, ordered at {in_words(at)}, "
            "cannot be given again, because that has changed since. Order it again if it should hold, and resume the "
            "queue"
        )
        _log.error("an order that the store had lost cannot be given again", action=entry.action, about=about)
        if entry.queue is not None:
            now, kinds = self.inner.clock.now(), frozenset({GateKind.MAY_LACK})
            held = Gate.of(entry.queue, None, GateState.HELD, since=now, reason=reason, kinds=kinds)
            await order_gate(self.inner, held)

    async def _has_later(self, entry: AuditEntry) -> bool:
        """Whether somebody has ordered the same about the same since."""
        later = await entries_on(self.inner, entry.queue, batch=entry.batch, call=entry.call)
        about = (entry.action, entry.queue, entry.batch, entry.call)
        return any(each.at > entry.at and (each.action, each.queue, each.batch, each.call) == about for each in later)

    async def _order_again(self, put: Put, *, at: datetime) -> None:
        """Hold, open or cancel again, unless somebody has opened or held it since."""
        record = _record(put)
        gate, now = gate_from(record), self.inner.clock.now()
        if gate.until is not None and gate.until <= now:
            return

        def check(stands: Gate | None) -> None:
            is_later = stands is not None and stands.since > at
            if gate.state is GateState.HELD and is_later and stands is not None and stands.state is GateState.OPEN:
                raise _SettledError
            if gate.state is GateState.OPEN and (
                is_later or (stands is not None and GateKind.MAY_LACK in stands.kinds)
            ):
                raise _SettledError

        token = next(iter(orders_in(record)), None)
        kinds = gate.kinds - {GateKind.MAY_LACK}
        try:
            await order_gate(self.inner, replace(gate, since=at, token=token, kinds=kinds), check=check)
        except _SettledError:
            return

    async def _change_again(self, new: Job) -> None:
        """Give a waiting call what the order had given it, unless it was called or changed by a person since."""
        while True:
            job = (await read_each(self.inner, [new.id])).jobs.get(new.id)
            if job is None or job.revision == new.revision or job.state not in _WAITING:
                return
            if job.post_count != new.post_count or new.notes[: len(job.notes)] != job.notes:
                return
            now = self.inner.clock.now()
            (answer,) = await self.inner.write(BulkWrite(writes=(changed(job, new, at=now)[1],)), now=now)
            if answer.result is Result.DONE:
                return

    async def _put(self, *puts: Put) -> None:
        await self.inner.write(BulkWrite(writes=(Write(puts=puts),)), now=self.inner.clock.now())


class _SettledError(Exception):
    """Somebody has ordered something else since."""


def _history_of(store: Store) -> str:
    return "" if store.history is None else store.history.name


def _mark(order: LocalOrder) -> Put:
    return Put(MARKS, order.token, "", order.at + GIVEN_FOR + timedelta(days=1))


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


def _told(put: Put, entry: AuditEntry | None) -> Put:
    """The entry of the audit log says that the order was given again."""
    if put.namespace != AUDIT or entry is None:
        return put
    told = replace(entry, result=GIVEN_AGAIN).puts(mode=Mode.KEEP)
    return next((each for each in told if each.group == put.group), put)


async def give_orders_again(store: Store) -> None:
    """Give the orders of this host again that the store lacks, if they are in a journal."""
    if isinstance(store, OrderedStore):
        await store.give_again()


def journal_of(store: Store) -> OrderJournal | None:
    """The journal of this host; None if the store has none, or nobody knows its folder."""
    try:
        journal: OrderJournal | None = getattr(store, "journal", None)
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
def with_journal(store: Store, open_journal: Callable[[], OrderJournal]) -> Generator[Store]:
    """The store, with its orders in a journal, unless nothing of them can be lost."""
    if store.history is not None and store.history.is_trusted:
        yield store
        return
    ordered = OrderedStore(store, open_journal)
    try:
        yield cast("Store", ordered)
    finally:
        ordered.close()
