"""The import of a campaign, as all or nothing: its calls are staged, and ring once the last of them is stored.

It begins only if no other import has begun in its batches since it was compared with their calls (`none_begun`).
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from contextlib import aclosing
from datetime import timedelta

from voiceflow_worker.campaigns.calls.values import SeenKeys
from voiceflow_worker.campaigns.plan import LOCK_LENGTH
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import calls_of_start, starts_of
from voiceflow_worker.core.imports import Staging, ending, record_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import start_put
from voiceflow_worker.core.ports.store import BulkWrite, Condition, Put, Result, Same, Write
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.queue import CallQueue

BEGUN = "import-begun"
"""Namespace of the tokens of the imports that began last, by queue and batch."""
_BEGUN_KEPT = timedelta(days=1)


async def none_begun(queue: CallQueue, batches: Iterable[str]) -> tuple[Same, ...]:
    """The conditions that no import begins in these batches from now on. Raises StoreError."""
    keys = [(queue.name, each) for each in sorted(batches)]
    found = (await queue.store.records({BEGUN: keys}, now=queue.store.clock.now()))[BEGUN] if keys else ()
    last = {record.member: record.value for record in found}
    return tuple(Same(BEGUN, name, last.get(batch_id), batch_id) for name, batch_id in keys)


async def cut_imports(
    queue: CallQueue, batches: Collection[str], seen: SeenKeys, *, changes: bool = False
) -> tuple[list[Gate], list[Finding], bool]:
    """The imports of these batches that were cut, and that rows with the keys in `seen` complete; errors about others.

    One that is half applied is completed by any list that `changes` calls, too. With them, whether one of them may be
    storing its first call. Raises StoreError.
    """
    store, completed, others, is_beginning = queue.store, list[Gate](), list[Finding](), False
    for cut in await starts_of(store, queue.name) if batches else ():
        if cut.name not in batches:
            continue
        count = missing = 0
        async with aclosing(calls_of_start(store, cut)) as pages:
            async for page in pages:
                count += len(page)
                missing += sum(job.unique_key is None or job.unique_key not in seen for job in page)
        if missing and not (changes and cut.is_half_applied):
            message = (
                f"an import of batch {cut.name} has not ended: {count_of(count, 'call')} are held, of which these rows "
                f"lack {missing}, and nobody is called for them. Start its own file again, which completes it; or "
                f"cancel the batch (`voiceflow calls cancel --batch {cut.name}`)."
            )
            others.append(Finding(kind="import_cut", message=message))
        elif count or cut.since < store.clock.now() - LOCK_LENGTH:
            completed.append(cut)
        else:
            is_beginning = True
    return completed, others, is_beginning


class Import:
    """The import of a campaign. Its calls have its `token`, and are staged while its records stand.

    Its records (`core.imports`) are stored before the first call, and go in one write after the last. If the process
    dies in between, they stay, and so do the staged calls: until the same campaign is started again, or a person
    releases or discards them; another list is refused until then. All that it stores is under the `conditions`; what
    it writes itself goes to the `store`.
    """

    def __init__(self, queue: CallQueue, store: Store, *, conditions: tuple[Condition, ...], by: Actor) -> None:
        self._queue = queue
        self._store = store
        self._by = by
        self._starts: Sequence[Gate] = ()
        self.staging: Staging = Staging(conditions=conditions, token=new_revision())
        """Under which conditions its calls are stored. It has records once it has begun."""

    async def begin(self, none: Sequence[Same], *, calls: int, puts: tuple[Put, ...] = ()) -> None:
        """Stage the calls of this import from now on, and store what they need (`puts`).

        Its batches are those of `none_begun`. Raises StoreError, IntakeError if another import has begun in one of them
        or the lock was lost, and InvalidInputError for a cancelled batch.
        """
        starts = [self._start(each.member, calls) for each in none]
        await self._queue.admitter.require_open([each.member for each in none])
        until = self._store.clock.now() + _BEGUN_KEPT
        begun = (Put(BEGUN, each.group, new_revision(), until, member=each.member) for each in none)
        await self._put(starts, Write(conditions=(*none,), puts=(*begun, *puts)))

    async def note_changes(self, done: int, total: int) -> None:
        """Note that `done` of all changes of calls that the batches had are made: it can only be completed from now on.

        Raises as `begin` does, and IntakeError if somebody else has continued or ended one of its imports meanwhile.
        """
        reason = (
            f"list of {self._store.clock.now():%H:%M} half applied: {done} of {count_of(total, 'change')} of calls, "
            f"ordered by {self._by.called}, {self._by.on}. If it was interrupted, start the same campaign again, or a "
            "newer list of it with `--replace`, which completes it"
        )
        kinds = frozenset({GateKind.HALF_APPLIED})
        noted = [replace(start, reason=reason, kinds=kinds) for start in self._starts]
        await self._put(noted, Write(conditions=tuple(self.staging.records.values())))

    async def end(self, cut: Iterable[Gate] = ()) -> None:
        """Let the calls of this import ring, and those of `cut` ones that it has completed, in one write.

        Raises as `begin` does, and IntakeError if somebody else has continued, released or discarded one of these
        imports meanwhile.
        """
        if ends := [*self._starts, *cut]:
            await self._write(ending(ends, queue=self._queue.name))

    def _start(self, batch_id: str, calls: int) -> Gate:
        reason = (
            f"perhaps not all of its {count_of(calls, 'call')} are stored, ordered by {self._by.called}, "
            f"{self._by.on}. If the import was interrupted, start the same campaign again, which adds what is missing; "
            f"or cancel the batch (`voiceflow calls cancel --batch {shlex.quote(batch_id)}`)"
        )
        now = self._store.clock.now()
        return replace(
            Gate.of(self._queue.name, batch_id, GateState.HELD, since=now, reason=reason), start=self.staging.token
        )

    async def _put(self, starts: Sequence[Gate], write: Write) -> None:
        """Store its records as they are from now on, with a write."""
        await self._write(replace(write, puts=(*map(start_put, starts), *write.puts)))
        self._starts = starts
        self.staging = replace(self.staging, records={start.name: record_of(start) for start in starts})

    async def _write(self, write: Write) -> None:
        write = replace(write, conditions=(*self.staging.conditions, *write.conditions))
        (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=self._store.clock.now())
        if answer.result is not Result.DONE:
            raise self.staging.lost(self._queue.name, answer.condition)
