"""Histories of a store: notices that another server has taken over, and holds the queue if it may lack writes.

No journal entry records an opt-out that a server lacks. So each queue keeps the names of the histories that its
workers have followed, and a store keeps the one in which it was made: a server that lags lacks later records, but has
that one. A worker compares them with the history of its server, with those that it has seen itself, and with those in
the local journals of its machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import structlog

from voiceflow_worker.core.gates import write_of_order
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import GATES, gate_member
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.store import BulkWrite, History, Key, Put, Result, Same, Write
from voiceflow_worker.model.jobs.gate import Gate

_log = structlog.get_logger("voiceflow.rollback")

HISTORIES = "history"
"""The namespace of the histories that the workers of each queue have followed: `<token> <loses or whole> <name>…`, the
newest last. The token is new with each write."""
_MOST = 32
"""The most names that a record keeps."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The histories that a store, a process or a journal has followed, the newest last.

    `may_lose_writes` is True if a server that takes over from the newest one may lack writes that had returned.
    """

    names: tuple[str, ...]
    may_lose_writes: bool

    @classmethod
    def of(cls, history: History) -> Self:
        """One history, as what was followed so far."""
        return cls((history.name,) if history.name else (), history.may_lose_writes)

    @classmethod
    def read(cls, text: str) -> Self:
        """What is in a text of `text`."""
        kind, *names = text.split()
        return cls(tuple(names), kind != "whole")

    @property
    def text(self) -> str:
        """These histories, as they are stored."""
        return " ".join(["loses" if self.may_lose_writes else "whole", *self.names])

    def followed_by(self, *names: str, may_lose_writes: bool) -> Followed:
        """These histories, and those with these names that are not among them."""
        added = (name for name in dict.fromkeys(names) if name and name not in self.names)
        return Followed((*self.names, *added)[-_MOST:], may_lose_writes)


class Histories:
    """Follows the histories of a store for one worker of a queue."""

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._seen: dict[str, bool] = {}

    def note(self, text: str) -> None:
        """Note what a local journal of this machine has seen of the store."""
        seen = Followed.read(text)
        self._seen |= dict.fromkeys(seen.names, seen.may_lose_writes)

    @property
    def text(self) -> str:
        """What a local journal shall note: the history that this worker follows; empty if there is none to follow."""
        history = self._store.history
        return "" if history is None else Followed.of(history).text

    async def follow(self, hold: Gate) -> Gate | None:
        """Follow the history of the store's server; if it may lack what was stored, the hold is ordered, and returned.

        The record of the queue and the hold are one write. So one worker alone orders the hold of a queue, and not
        once more after a person has ended it. Raises StoreError.
        """
        history = self._store.history
        if history is None:
            return None
        wanted: dict[str, list[str | Key]] = {HISTORIES: [self._queue], GATES: [(self._queue, gate_member(None))]}
        while True:
            found = await self._store.records(wanted, now=self._store.clock.now())
            record, gate_record = next(iter(found[HISTORIES]), None), next(iter(found[GATES]), None)
            stored = None if record is None else record.value.partition(" ")[2]
            known = Followed.of(history.created_in or history) if stored is None else Followed.read(stored)
            after = known.followed_by(*self._seen, history.name, may_lose_writes=history.may_lose_writes)
            gate = None
            if record is not None and after == known:
                break
            write = Write(
                conditions=(Same(HISTORIES, self._queue, None if record is None else record.value),),
                puts=(Put(HISTORIES, self._queue, f"{new_revision()} {after.text}", None),),
            )
            if may_lack(known, history, self._seen):
                gate, order = write_of_order(gate_record, hold, token=new_revision())
                write = Write(
                    conditions=(*order.conditions, *write.conditions),
                    puts=(*order.puts, *write.puts),
                    wakes=self._queue,
                )
            (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=hold.since)
            if answer.result is Result.DONE:
                break
        if history.name:
            self._seen[history.name] = history.may_lose_writes
        if gate is not None:
            _log.error("another server has taken over: the queue is held", queue=self._queue)
        return gate


def may_lack(known: Followed, history: History, seen: Mapping[str, bool]) -> bool:
    """Whether a server may lack writes of a store that has followed the `known` histories.

    It does so certainly if this machine has `seen` a history that the store does not know. It may if its own history is
    new, and commits of the one before did not wait for it.
    """
    if any(name not in known.names for name in seen):
        return True
    is_new = history.name != "" and history.name not in known.names
    return is_new and (known.may_lose_writes or any(seen.get(name, False) for name in known.names[-1:]))
