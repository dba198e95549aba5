"""The product, broken on purpose in one place: the laboratory must find each of these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.contract.samples import delete
from voiceflow_worker.core import writes
from voiceflow_worker.core.ports.store import AtMost, BulkWrite, Result, Write, WriteResult, is_owned_by
from voiceflow_worker.core.rollback import RollbackGuard
from voiceflow_worker.core.sending.journal import Journal
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.webhooks.menu_calls import MenuCalls


def _break(owner: object, name: str, how: Callable[..., object]) -> None:
    setattr(owner, name, how)


def _without(namespaces: Collection[str]) -> None:
    """A journal entry asks for no absence of records in these namespaces."""
    entry: Any = writes.journal_entry

    def unconditional(job: Job, **given: Any) -> Any:
        new, write = entry(job, **given)
        kept = [
            condition
            for condition in write.conditions
            if not (isinstance(condition, AtMost) and condition.namespace in namespaces)
        ]
        return new, replace(write, conditions=tuple(kept))

    _break(writes, "journal_entry", unconditional)


def _requeue_sending() -> None:
    """The sweep sends again what a dead worker was sending."""

    def doubt(job: Job, *, at: datetime, reason: str, policy: object) -> Job:
        return lifecycle.requeued(job, due_at=at, reason=reason)

    _break(lifecycle, "doubt", doubt)


def _no_number_lock() -> None:
    """Every number counts as free."""
    _without({writes.NUMBER, writes.SECOND_PARTY})


def _no_expiry() -> None:
    """No validity is looked at, when a call is leased and when it leaves, and the wire carries none of the call's."""
    begin = lifecycle.begin

    def unlimited(job: Job, **given: Any) -> Job:
        return replace(begin(replace(job, valid_until=None), **given), valid_until=job.valid_until)

    _break(lifecycle, "begin", unlimited)

    def never(self: Job, *, at: datetime) -> bool:
        return False

    _break(Job, "is_expired", never)


def _no_suppression() -> None:
    """The suppression list is not looked at, neither when calls are prepared nor with the journal entry."""
    _without({SUPPRESSED})


def _endless_redials() -> None:
    """The limit of redials is not looked at."""
    redial_at = lifecycle.redial_at

    def again(job: Job, outcome: Any, *, at: datetime) -> datetime | None:
        return redial_at(replace(job, redials=0), outcome, at=at)

    _break(lifecycle, "redial_at", again)


def _no_redials() -> None:
    """No redial is granted."""

    def never(job: Job, outcome: object, *, at: datetime) -> None:
        return None

    _break(lifecycle, "redial_at", never)


def _lost_keys() -> None:
    """What was pressed is not stored."""

    async def forgotten(self: MenuCalls, *args: object, **given: object) -> None:
        return None

    _break(MenuCalls, "pressed", forgotten)


def _lost_jobs() -> None:
    """The sweep deletes what a dead worker had leased."""
    sweep = Sweeper.sweep

    async def deleting(self: Sweeper) -> Any:
        now = self._store.clock.now()
        overdue = await self._overdue(JobState.LEASED, now)
        await delete(self._store, overdue, keep_keys_until=now)
        return await sweep(self)

    _break(Sweeper, "sweep", deleting)


def _no_guard() -> None:
    """A store that was rolled back is not noticed."""

    async def well(self: RollbackGuard) -> bool:
        return True

    async def known(self: RollbackGuard) -> bool:
        return False

    async def any_store(self: RollbackGuard, *given: Any) -> BulkWrite:
        written: BulkWrite = await numbered(self, *given)
        return replace(written, guard=None)

    numbered: Any = RollbackGuard.numbered

    _break(RollbackGuard, "verify", well)
    _break(RollbackGuard, "_compare", known)
    _break(RollbackGuard, "numbered", any_store)


def _guard_reads_first() -> None:
    """Whether a number is busy is read before the journal entry, and is no condition of it."""
    original = Journal._write

    async def read_first(self: Journal, entries: Sequence[tuple[Job, Write]]) -> Sequence[WriteResult | Exception]:
        locks = [_locks_of(write) for _, write in entries]
        numbers = [group for own in locks for condition in own for group in condition.groups]
        wanted = {namespace: list(dict.fromkeys(numbers)) for namespace in (writes.NUMBER, writes.SECOND_PARTY)}
        found = await self._store.records(wanted, now=self._store.clock.now())
        standing = {(namespace, each.group): each for namespace, records in found.items() for each in records}
        await self._store.clock.sleep(0.4)  # the others do the same
        answers: list[WriteResult | Exception | None] = []
        free: list[tuple[Job, Write]] = []
        for (new, write), own in zip(entries, locks, strict=True):
            busy = (
                (condition, standing.get((condition.namespace, group)))
                for condition in own
                for group in condition.groups
            )
            refusals = (
                WriteResult(result=Result.NOT_FREE, condition=condition, record=record)
                for condition, record in busy
                if record is not None and not is_owned_by(record.value, condition.except_owner)
            )
            answers.append(next(refusals, None))
            if answers[-1] is None:
                free.append(
                    (new, replace(write, conditions=tuple(each for each in write.conditions if each not in own)))
                )
        written = iter(await original(self, free))
        return [next(written) if answer is None else answer for answer in answers]

    _break(Journal, "_write", read_first)


def _locks_of(write: Write) -> list[AtMost]:
    return [
        condition
        for condition in write.conditions
        if isinstance(condition, AtMost) and condition.namespace in {writes.NUMBER, writes.SECOND_PARTY}
    ]


SABOTAGE: Mapping[str, Callable[[], None]] = {
    "requeue-sending": _requeue_sending,
    "no-number-lock": _no_number_lock,
    "no-expiry": _no_expiry,
    "no-suppression": _no_suppression,
    "endless-redials": _endless_redials,
    "no-redials": _no_redials,
    "lost-keys": _lost_keys,
    "lost-jobs": _lost_jobs,
    "no-guard": _no_guard,
    "guard-reads-first": _guard_reads_first,
}


def with_seeded_defect(name: str | None) -> None:
    """Break this process's product, if a name is given."""
    if name is not None:
        SABOTAGE[name]()
