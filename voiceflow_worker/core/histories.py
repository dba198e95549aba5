"""Histories of a store: notices that another server has taken over, and holds the queue, because it may lack writes.

No journal entry records an opt-out that a server lacks, and no server knows what it lacks. So each queue keeps the
names of the histories that its workers have followed, and a store keeps the one in which it was made: a server that
lags lacks later records, but has that one. A worker compares them with the history of its server, with those that it
has seen itself, and with those in the local journals of its machine.
"""

from __future__ import annotations

import structlog

from voiceflow_worker.core.gates import write_of_order
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import GATES, gate_member
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.store import BulkWrite, Key, Put, Result, Same, Write
from voiceflow_worker.model.jobs.gate import Gate

_log = structlog.get_logger("voiceflow.rollback")

HISTORIES = "history"
"""The namespace of the histories that the workers of each queue have followed: `<token> <name>…`, the newest last. The
token is new with each write."""
_MOST = 1000
"""The most names that a record keeps: more than the journal files of a machine have while they are kept. One that
were dropped, and that a file still has, would be taken for a new one."""


class Histories:
    """Follows the histories of a store for one worker of a queue."""

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._seen: dict[str, None] = {}

    def note(self, name: str) -> None:
        """Note the history that a local journal of this machine has followed."""
        self._seen[name] = None

    @property
    def name(self) -> str:
        """What a local journal shall note: the history that this worker follows; empty if there is none to follow."""
        history = self._store.history
        return "" if history is None else history.name

    async def follow(self, hold: Gate) -> Gate | None:
        """Follow the history of the store's server; if it is new to the queue, the hold is ordered, and returned.

        If failovers are trusted, it is not: only a server that lacks a history which this machine has seen certainly
        lacks writes. The record of the queue and the hold are one write. So one worker alone orders the hold of a
        queue, and not once more after a person has ended it. Raises StoreError.
        """
        history = self._store.history
        if history is None:
            return None
        wanted: dict[str, list[str | Key]] = {HISTORIES: [self._queue], GATES: [(self._queue, gate_member(None))]}
        while True:
            found = await self._store.records(wanted, now=self._store.clock.now())
            record, gate_record = next(iter(found[HISTORIES]), None), next(iter(found[GATES]), None)
            known = [history.made_in] if record is None else record.value.split()[1:]
            new = [name for name in dict.fromkeys((*self._seen, history.name)) if name not in known]
            gate = None
            if record is not None and not new:
                break
            names = " ".join([*known, *new][-_MOST:])
            write = Write(
                conditions=(Same(HISTORIES, self._queue, None if record is None else record.value),),
                puts=(Put(HISTORIES, self._queue, f"{new_revision()} {names}", None),),
            )
            if new and not (history.is_trusted and self._seen.keys().isdisjoint(new)):
                gate, order = write_of_order(gate_record, hold, token=new_revision())
                write = Write(
                    conditions=(*order.conditions, *write.conditions),
                    puts=(*order.puts, *write.puts),
                    wakes=self._queue,
                )
            (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=hold.since)
            if answer.result is Result.DONE:
                break
        self._seen[history.name] = None
        if gate is not None:
            _log.error("another server has taken over: the queue is held", queue=self._queue)
        return gate
