"""Orders in the local journal: the opt-outs that a rolled back store has forgotten come back, other orders are named.

An order is a write with an entry of the audit log, or one that changes the suppression list. Once the store has it, and
the number of its line, the line is in the journal file of this process (`core.writer`), before anybody hears the yes.
A process compares its host's files with the store when it opens the store, when the server was replaced or restarted,
and when a worker has found that the store was rolled back. Then each queue is held: the opt-outs that the store lacks
are on the list again, and a person reads in the reason of the hold which other orders to give again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any

import anyio
import structlog

from voiceflow_worker.core.audit import AUDIT, AuditEntry, entries_of
from voiceflow_worker.core.base.identity import QueueNames, new_revision
from voiceflow_worker.core.gates import write_of_order
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.core.ports.controls import GATES, gate_member
from voiceflow_worker.core.ports.outside import ORDERS, LocalJournal, OrderLine
from voiceflow_worker.core.ports.store import BulkWrite, Put, Result, Write, WriteResult
from voiceflow_worker.core.suppression import CHUNK
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.writer import UNREAD_LINES, Compared, Writer, compared, history_of, numbers_in
from voiceflow_worker.core.writes import all_or_none
from voiceflow_worker.errors import JournalFileError, SettingsError, StoreError, StoreUnavailableError
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.text.wording import count_of

READ_FOR = timedelta(days=8)
"""The age up to which journal files are compared with the store."""
HELD = "the store was rolled back to an older state, and lacks what was ordered on this host ({lost}; see {file})"
_TRIES = 5
"""How often an order is given to a server that is replaced meanwhile."""
_NAMED = 5
"""The most lost orders that the reason of a hold names."""

_log = structlog.get_logger("voiceflow.orders")


class OrderedStore:
    """A store whose orders are also in the journal of this host. In all else it is the store itself.

    `open_journal` returns the journal, when it is first needed. An order whose line cannot be written is stored, and
    in force; a warning says that a rollback of the store may lose it.
    """

    def __init__(self, store: Store, open_journal: Callable[[], LocalJournal]) -> None:
        self.inner: Store = store
        self.clock: Clock = store.clock
        self._open_journal = open_journal
        self._writer: Writer | None = None
        self._compared_with, self._is_compared = self._server, False
        self._ordering, self._comparing = anyio.Lock(), anyio.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @cached_property
    def local_journal(self) -> LocalJournal:
        """Journal of this host. Raises SettingsError if nobody knows its folder."""
        return self._open_journal()

    @property
    def _server(self) -> tuple[str, str]:
        return self.inner.server, history_of(self.inner)

    def close(self) -> None:
        """Leave the file of this process's orders to others."""
        if self._writer is not None:
            self._writer.close()

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        """Write, and add the orders that the store takes to the journal before this returns. Raises StoreError."""
        lines = {place: line for place, each in enumerate(bulk.writes) if (line := self._line_of(each, now))}
        if lines:
            async with self._ordering:
                answers = await self._ordered(bulk, lines, now)
        else:
            answers = await self.inner.write(bulk, now=now)
        if self._compared_with != self._server:
            await self.put_opt_outs_back()
        return answers

    def _line_of(self, write: Write, now: datetime) -> OrderLine | None:
        """Return the line of the order in a write; None if there is none."""
        entry = next((put for put in write.puts if put.namespace == AUDIT), None)
        listed = tuple(put for put in write.puts if put.namespace == SUPPRESSED)
        unlisted = tuple(drop.group for drop in write.drops if drop.namespace == SUPPRESSED)
        if entry is None and not listed and not unlisted:
            return None
        return OrderLine(at=now, store=self.inner.id, entry=entry, listed=listed, unlisted=unlisted)

    async def _ordered(self, bulk: BulkWrite, lines: Mapping[int, OrderLine], now: datetime) -> Sequence[WriteResult]:
        for _ in range(_TRIES):
            if not self._is_compared or self._compared_with != self._server:
                await self._compare()
            numbered, failed, is_begun = bulk, None, True
            with anyio.CancelScope(shield=True):
                try:
                    self._writer = self._writer or Writer(self.inner, self.local_journal, ORDERS)
                    if is_begun := await self._writer.begin(at=now):
                        each = {place: [line] for place, line in lines.items()}
                        numbered = self._writer.numbered(bulk, each, at=now, server=self._compared_with[0])
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
                    await self._keep(sorted(done & lines.keys()), failed)
                if not any(answer.result is Result.NOT_VERIFIED for answer in given):
                    return given
            self.close()
            self._is_compared = False
        raise StoreUnavailableError("the server of the store was replaced again and again; order it again")

    async def _keep(self, stored: Sequence[int], failed: Exception | None) -> None:
        """Write the lines of the orders that the store has; if the file has `failed`, log a warning."""
        if self._writer is not None and stored and failed is None:
            with anyio.CancelScope(shield=True):
                try:
                    stored = await self._written_now(self._writer, stored)
                    self._writer.has_stored(stored)
                    await self._writer.append(stored)
                except (JournalFileError, StoreError) as error:
                    failed = error
        if stored and failed is not None:
            _log.warning(
                "an order is stored and in force, but it is not in the local journal of this host: it is lost if the "
                "store is rolled back, or a server takes over that lags. Make the folder writable, or set "
                "VOICEFLOW_STATE_DIR to one on a persistent disk",
                error=str(failed),
            )

    async def _written_now(self, writer: Writer, places: Sequence[int]) -> Sequence[int]:
        """Return those of these writes whose numbers the store has: an order that stood before stores none."""
        number = int((await numbers_in(self.inner).get([writer.name])).get(writer.name) or 0)
        return [place for place in places if writer.number_of(place) <= number]

    # --- After a rollback --------------------------------------------------------------------------------------------

    async def put_opt_outs_back(self) -> None:
        """Put the opt-outs of this host back that the store lacks, as soon as the store is there."""
        try:
            await self._compare()
        except StoreError as error:
            _log.debug("the orders of this host will be compared with the store later", error=str(error))

    async def _compare(self) -> None:
        """Compare the files of this host with the store; hold each queue if it lacks orders. Raises StoreError."""
        async with self._comparing:
            server, since = self._server, self.inner.clock.now() - READ_FOR
            try:
                for file in await compared(self.inner, await self.local_journal.files(ORDERS, since=since)):
                    if file.is_lost:
                        await self._recover(file)
            except SettingsError as error:
                _log.warning("the orders of this host cannot be compared with the store", error=str(error))
            self._compared_with, self._is_compared = server, True

    async def _recover(self, file: Compared) -> None:
        """Put the opt-outs of a file back, then hold the queues, and store its number, in one write."""
        entries = await self.local_journal.entries(file.file.name)
        lines = [line for line in file.lost(entries.orders) if line.store == self.inner.id]
        listed, entries_by_id = dict[str, Put](), dict[str, AuditEntry]()
        for line in lines:
            for group in line.unlisted:  # of a number, the newest line counts
                listed.pop(group, None)
            listed |= {put.group: put for put in line.listed}
            entries_by_id |= {each.id: each for each in entries_of([line.entry] if line.entry else [])}
        named = [each.in_words() for each in entries_by_id.values()]
        puts = list(listed.values())
        for start in range(0, len(puts), CHUNK):
            again = Write(puts=tuple(puts[start : start + CHUNK]))
            await self.inner.write(BulkWrite(writes=(again,)), now=self.inner.clock.now())
        others = [count_of(len(named) - _NAMED, "other order")] if len(named) > _NAMED else []
        back = [f"{count_of(len(listed), 'opt-out')} put back"] if listed else []
        lost = [*back, *(f"not carried out again: {each}" for each in [*named[:_NAMED], *others])]
        if (unread := file.unread(entries)) is not None:
            await hold_each_queue(self.inner, UNREAD_LINES.format(lines=unread, what="orders"), GateKind.UNREAD_FILES)
        if not lost:  # of another store under this URL
            await file.raise_to(self.inner, file.file.number)
            return
        reason = HELD.format(lost="; ".join(lost), file=file.file.name)
        answer = await hold_each_queue(
            self.inner, reason, also=file.raising(file.file.number, at=self.inner.clock.now())
        )
        if answer.result is Result.DONE:
            _log.error("the store had lost orders: each queue is held", opt_outs=len(listed), orders=named)


async def hold_each_queue(store: Store, reason: str, *kinds: GateKind, also: Write | None = None) -> WriteResult:
    """Hold each queue of a store until a person resumes it, in one write that makes `also` too.

    Returns NOT_FREE, and holds nothing, if a condition of `also` failed. Raises StoreError.
    """
    also = also or Write()
    while True:
        now, names = store.clock.now(), list(await QueueNames(store).known())
        keys = [(name, gate_member(None)) for name in names]
        found = (await store.records({GATES: keys}, now=now))[GATES] if keys else ()
        standing = {record.group: record for record in found}
        held = partial(Gate.of, since=now, reason=reason, kinds=frozenset({GateKind.MAY_LACK, *kinds}))
        holds = [
            write_of_order(standing.get(name), held(name, None, GateState.HELD), token=new_revision())[1]
            for name in names
        ]
        (answer,) = await store.write(BulkWrite(writes=(all_or_none([*holds, also]),)), now=now)
        if answer.result is Result.DONE or answer.condition in also.conditions:
            return answer


async def put_opt_outs_back(store: Store) -> None:
    """Put the opt-outs of this host back that the store lacks, if its orders are in a journal."""
    if isinstance(store, OrderedStore):
        await store.put_opt_outs_back()
