"""Imports of lists: while one is stored, its batch has a hold, which only the end of the import drops.

An import has a record (`IMPORTS`), which is a condition of each of its writes. If its process dies, the batch stays
held, and says so. The same list goes on with it; another one takes it over once it has written nothing for a minute.
Each batch keeps which import was its last one, and by what its rows differ (`LISTS`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from voiceflow_worker.core.base.identity import BATCH_KEPT, batch_puts, queue_put
from voiceflow_worker.core.base.reading import holds_of
from voiceflow_worker.core.base.record_set import json_codec
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import hold_put, not_cancelled
from voiceflow_worker.core.ports.store import BulkWrite, Condition, Drop, Put, Result, Same, Write
from voiceflow_worker.errors import TakenOverError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState, HoldKind

IMPORTS, LISTS = "import", "list"
"""Namespaces of imports that have not ended, by queue and id, and of the last import of each batch, by queue and batch.
The value of the last one is its id, `begun` or `ended`, a digest of the list, and by what its rows differ."""
TAKEN_OVER_AFTER = timedelta(minutes=1)
"""How long an import must have written nothing before another list takes it over."""
BEAT = timedelta(seconds=10)
"""How long an import writes without saying that it still does."""


class Run(Struct, frozen=True, kw_only=True):
    """An import that has not ended: the `digest` of its list, when it `began`, and when it `wrote` last."""

    digest: str
    began: datetime
    wrote: datetime


class BatchList(NamedTuple):
    """What the store has of the lists of a batch: the record of the last one, and the hold of one that has not ended.

    `run` is the record of that one; None if it was cancelled or taken over in another of its batches.
    """

    batch: str
    last: str | None = None
    hold: Gate | None = None
    run: str | None = None

    @property
    def identity(self) -> str | None:
        """Name of that by which the rows of the batch differ; None for a batch without a list."""
        return None if self.last is None else self.last.split(" ", 3)[3]

    def has_ended(self, digest: str) -> bool:
        """Return whether the last list of the batch was one with this digest, and was imported whole."""
        return self.hold is None and self.last is not None and self.last.split(" ", 3)[1:3] == ["ended", digest]

    def open_run(self) -> Run | None:
        """Return the import that holds the batch, if it may still go on."""
        return None if self.run is None else json_codec(Run).value(self.run)


async def lists_of(store: Store, queue: str, batches: Iterable[str]) -> dict[str, BatchList]:
    """Return what the store has of the lists of these batches. Raises StoreError."""
    names = sorted(batches)
    if not names:
        return {}
    now = store.clock.now()
    last = (await store.records({LISTS: [(queue, name) for name in names]}, now=now))[LISTS]
    holds = {hold.name: hold for hold in await holds_of(store, queue, names) if hold.holder is HoldKind.IMPORT}
    wanted = {str(hold.token) for hold in holds.values()}
    runs = (
        (await store.records({IMPORTS: [(queue, each) for each in sorted(wanted)]}, now=now))[IMPORTS] if holds else ()
    )
    values, by_id = {record.member: record.value for record in last}, {record.member: record.value for record in runs}
    return {
        name: BatchList(name, values.get(name), hold := holds.get(name), by_id.get(str(hold.token)) if hold else None)
        for name in names
    }


class Import:
    """An import that stores calls in its batches. Methods raise TakenOverError if another list has taken it over."""

    def __init__(self, store: Store, queue: str, *, run_id: str, value: str, batches: Mapping[str, BatchList]) -> None:
        self._store, self._queue = store, queue
        self._batches = batches
        self._value = value
        self.id: str = run_id

    @classmethod
    async def begin(
        cls,
        store: Store,
        queue: str,
        batches: Mapping[str, BatchList],
        *,
        run_id: str,
        digest: str,
        identity: str,
        reason: str,
        conditions: Sequence[Condition] = (),
        puts: Sequence[Put] = (),
    ) -> Import | None:
        """Hold these batches, or go on with an import of the same list, or take over one that has stopped.

        None if an import has begun in one of them since they were read. Raises StoreError.
        """
        now, runs = (
            store.clock.now(),
            {str(each.hold.token): each for each in batches.values() if each.hold is not None},
        )
        same = [each for each in runs.values() if (run := each.open_run()) is not None and run.digest == digest]
        if same and len(runs) == 1 and all(each.hold is not None for each in batches.values()):
            (one,) = same
            return cls(store, queue, run_id=str(one.hold and one.hold.token), value=one.run or "", batches=batches)
        value = json_codec(Run).text(Run(digest=digest, began=now, wrote=now))
        ends = now + BATCH_KEPT
        holds = {name: _hold(queue, name, run_id, reason=reason, since=now) for name in batches}
        begun = dict.fromkeys(batches, f"{run_id} begun {digest} {identity}")
        required = [*conditions]
        for name, each in batches.items():
            held = None if each.hold is None else hold_put(each.hold)
            put = hold_put(holds[name])
            required += [
                not_cancelled(queue, name),
                Same(LISTS, queue, each.last, name),
                Same(put.namespace, put.group, None if held is None else held.value, put.member),
            ]
        for each_id, each in runs.items():
            required += [] if each.run is None else [Same(IMPORTS, queue, each.run, each_id)]
        made = [queue_put(queue), *puts, Put(IMPORTS, queue, value, None, member=run_id)]
        for name, hold in holds.items():
            made += [hold_put(hold), Put(LISTS, queue, begun[name], ends, member=name)]
            made += batch_puts(queue, name, at=now, is_campaign=True)
        drops = tuple(Drop(IMPORTS, queue, None, each_id) for each_id in runs)
        write = Write(conditions=tuple(required), puts=tuple(made), drops=drops)
        (answer,) = await store.write(BulkWrite(writes=(write,)), now=now)
        if answer.result is not Result.DONE:
            return None
        after = {name: each._replace(last=begun[name], hold=holds[name]) for name, each in batches.items()}
        return cls(store, queue, run_id=run_id, value=value, batches=after)

    @property
    def condition(self) -> Same:
        """Condition of each write of the import."""
        return Same(IMPORTS, self._queue, self._value, self.id)

    async def beat(self) -> None:
        """Say that the import still writes, if it has not said so lately."""
        run, now = json_codec(Run).value(self._value), self._store.clock.now()
        if now - run.wrote < BEAT:
            return
        value = json_codec(Run).text(Run(digest=run.digest, began=run.began, wrote=now))
        write = Write(conditions=(self.condition,), puts=(Put(IMPORTS, self._queue, value, None, member=self.id),))
        await self._write(BulkWrite(writes=(write,), durable=False))
        self._value = value

    async def end(self, *, puts: Sequence[Put] = (), drops: Sequence[Drop] = ()) -> None:
        """Open the batches, in the write that stores these records. Raises StoreError."""
        ends = self._store.clock.now() + BATCH_KEPT
        conditions, made = list[Condition]([self.condition]), list[Put](puts)
        digest = json_codec(Run).value(self._value).digest
        gone = [Drop(IMPORTS, self._queue, self._value, self.id), *drops]
        for name, each in self._batches.items():
            ended = " ".join([self.id, "ended", digest, each.identity or ""])
            conditions.append(Same(LISTS, self._queue, each.last, name))
            made.append(Put(LISTS, self._queue, ended, ends, member=name))
            if each.hold is not None:
                put = hold_put(each.hold)
                gone.append(Drop(put.namespace, put.group, put.value, put.member))
        write = Write(conditions=tuple(conditions), puts=tuple(made), drops=tuple(gone), wakes=self._queue)
        await self._write(BulkWrite(writes=(write,)))

    async def _write(self, bulk: BulkWrite) -> None:
        (answer,) = await self._store.write(bulk, now=self._store.clock.now())
        if answer.result is not Result.DONE:
            raise TakenOverError(next(iter(self._batches), None))


def _hold(queue: str, batch: str, run_id: str, *, reason: str, since: datetime) -> Gate:
    gate = Gate.of(queue, batch, GateState.HELD, since=since, reason=reason)
    return replace(gate, holder=HoldKind.IMPORT, token=run_id)


async def drop_imports(store: Store, queue: str, batch: str) -> None:
    """End the imports of a batch that was cancelled, or that has no call: nothing of them is waited for."""
    each = (await lists_of(store, queue, [batch]))[batch]
    if each.hold is None:
        return
    put = hold_put(each.hold)
    drops = (
        Drop(put.namespace, put.group, put.value, put.member),
        Drop(IMPORTS, queue, each.run, str(each.hold.token)),
    )
    await store.write(BulkWrite(writes=(Write(drops=drops, wakes=queue),)), now=store.clock.now())
