"""What a task has called so far: for each number (or row's own key) its first call, its second, and so on.

A slot is one of them, with the newest of the calls that took each other's place in it. What is to become of a row whose
slot is known is a pure function.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.taken_back import was_taken_back
from voiceflow_worker import CallQueue, Job, JobState

AT_ONCE = 500
MARGIN = 2
"""How many ordinals are looked at beyond those asked for: rows that were removed had them."""


class Condition(Enum):
    """How far the call of a slot has come; in the order in which a row takes one that has another text."""

    RANG = auto()
    """It rang, is being sent, may have rung, or nothing is known but that it was: never again."""
    WAITING = auto()
    """It is in the queue, and nothing of it was ever sent."""
    ENDED = auto()
    """It ended without ringing anywhere: refused, expired."""
    CANCELLED = auto()
    """A person took it back, and it never rang."""
    TAKEN_BACK = auto()
    """The task took it back, and it never rang."""
    FREE = auto()
    """There is none."""


class Fate(Enum):
    """What is to become of a row, given its slot."""

    KEEP = auto()
    """Its call is there."""
    REPLACE = auto()
    """Its call waits, and is another one now: taken back, and made anew."""
    MAKE = auto()
    """It needs a new call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The newest call of a task to one number (or row's key) at one ordinal; `generation` -1 and no job for none."""

    called: str
    ordinal: int
    generation: int = -1
    job_id: str | None = None
    digest: str = ""
    condition: Condition = Condition.FREE
    is_in_place: bool = False
    """Whether it was handed in by this very task instance, into the batch that it names now."""
    map_index: int | None = None
    """The index of the instance that handed it in, if it is known."""

    def fate(self, digest: str) -> Fate:
        """What becomes of a row with this slot and this digest of what it says."""
        same = self.digest == digest
        match self.condition:
            case Condition.FREE | Condition.TAKEN_BACK:
                return Fate.MAKE
            case Condition.RANG | Condition.CANCELLED:
                return Fate.KEEP
            case Condition.WAITING:
                return Fate.KEEP if same and self.is_in_place else Fate.REPLACE
            case Condition.ENDED:
                return Fate.KEEP if same else Fate.MAKE


def assigned(digests: Sequence[str], slots: Iterable[Slot]) -> list[Slot]:
    """A slot for each of the rows that call one number, in their order: first those that say the same, then the rest.

    The rest take calls that rang before calls that did not: a text that was corrected must not ring again. There must
    be as many slots as rows.
    """
    left = sorted(slots, key=lambda slot: (slot.condition.value, slot.ordinal))
    found: list[Slot | None] = []
    for digest in digests:
        same = next((slot for slot in left if slot.condition is not Condition.FREE and slot.digest == digest), None)
        if same is not None:
            left.remove(same)
        found.append(same)
    return [slot if slot is not None else left.pop(0) for slot in found]


async def slots_of(
    queue: CallQueue,
    identity: TaskIdentity,
    wanted: Mapping[str, Collection[int]],
    *,
    batch_id: str,
    older: Mapping[str, Sequence[Job]],
) -> dict[str, list[Slot]]:
    """The slots of these numbers (or rows' keys) at these ordinals.

    `older` are calls that an older release made for this task under other keys: they hold the first ordinals.
    """
    places = [(called, ordinal) for called, ordinals in wanted.items() for ordinal in ordinals]
    generations: dict[tuple[str, int], list[_Call]] = {
        (called, ordinal): [_Call(job.id, job.body_digest) for job in older.get(called, ())[ordinal : ordinal + 1]]
        for called, ordinal in places
    }
    asked = places
    while asked:
        keys = {place: identity.call_key(*place, generation=len(generations[place])) for place in asked}
        owners = await owned(queue, list(keys.values()))
        asked = [place for place in asked if keys[place] in owners]
        for place in asked:
            generations[place].append(_Call(*owners[keys[place]]))
    slots: dict[str, list[Slot]] = {called: [] for called in wanted}
    for start in range(0, len(places), AT_ONCE):
        some = places[start : start + AT_ONCE]
        jobs = await queue.store.jobs.get([call.job_id for place in some for call in generations[place]])
        for called, ordinal in some:
            slots[called].append(
                _slot(called, ordinal, generations[called, ordinal], jobs, identity=identity, batch_id=batch_id)
            )
    return slots


@dataclass(frozen=True, slots=True)
class _Call:
    """One generation of a slot."""

    job_id: str
    digest: str


def _slot(
    called: str,
    ordinal: int,
    generations: Sequence[_Call],
    jobs: Mapping[str, Job],
    *,
    identity: TaskIdentity,
    batch_id: str,
) -> Slot:
    """The slot with the call that counts: the newest, unless an older one rang or waits again (by a redial)."""
    if not generations:
        return Slot(called=called, ordinal=ordinal)
    alive = [
        each
        for condition in (Condition.RANG, Condition.WAITING)
        for each in reversed(generations)
        if (job := jobs.get(each.job_id)) is not None and condition_of(job) is condition
    ]
    call = (alive or generations[-1:])[0]
    job = jobs.get(call.job_id)
    return Slot(
        called=called,
        ordinal=ordinal,
        generation=len(generations) - 1,
        job_id=call.job_id,
        digest=call.digest,
        condition=condition_of(job),
        is_in_place=job is not None and is_in_place(job, identity, batch_id),
        map_index=None if job is None else map_index_of(job),
    )


def map_index_of(job: Job) -> int | None:
    """The index of the task instance that handed the call in; None if its data do not have one."""
    index = (job.data or {}).get("airflow_map_index")
    return index if isinstance(index, int) else None


def condition_of(job: Job | None) -> Condition:
    """How far this call has come; None is one that was pruned, and nobody knows whether it rang."""
    if job is None:
        return Condition.RANG
    if job.state in {JobState.QUEUED, JobState.LEASED}:
        return Condition.WAITING if job.attempt == 0 else Condition.RANG
    if was_taken_back(job):
        return Condition.TAKEN_BACK
    if not never_rang(job):
        return Condition.RANG
    return Condition.CANCELLED if job.state is JobState.CANCELLED else Condition.ENDED


def is_in_place(job: Job, identity: TaskIdentity, batch_id: str) -> bool:
    """Whether this very task instance handed the call in, into this batch.

    A call elsewhere is not its own to wait for: another instance sends it, or takes it back.
    """
    return job.batch_id == batch_id and (batch_id == identity.batch_id() or identity.owns(job.data))


async def owned(queue: CallQueue, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The id and the digest of the calls that have these keys; keys that are free are left out."""
    found: dict[str, tuple[str, str]] = {}
    for start in range(0, len(keys), AT_ONCE):
        now = queue.store.clock.now()
        owners = await queue.store.jobs.owners(queue.name, keys[start : start + AT_ONCE], now=now)
        found |= {key: (owner.job_id, owner.body_digest) for key, owner in owners.items()}
    return found
