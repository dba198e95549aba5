"""The calls that a task has made so far: for each number (or row's own key) the first, the second, and so on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from airflow_provider.calls.cancellation import was_cancelled_by_task
from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue, Job, JobState

AT_ONCE = 500
MARGIN = 2
"""How many free ordinals end a search: removed rows may have had one in between."""


class Condition(Enum):
    """The progress of a call, in the order in which a row with another text takes over calls."""

    RANG = auto()
    """It rang, may have rung, or is being sent; or it was pruned, so that nobody knows."""
    WAITING = auto()
    """It is in the queue and was never sent."""
    ENDED = auto()
    """It was refused or expired before it rang."""
    CANCELLED = auto()
    """A person cancelled it before it rang."""
    CANCELLED_BY_TASK = auto()
    """A task cancelled it before it rang."""
    FREE = auto()
    """Nobody has enqueued a call."""


class RowAction(Enum):
    """The action for a row, given its prior call."""

    KEEP = auto()
    REPLACE = auto()
    """Cancel the waiting call and make a new one."""
    MAKE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorCall:
    """The n-th call of a task to one number, or for the key of one row, n being `ordinal`.

    `generation` is -1 if there was no such call.
    """

    called: str
    ordinal: int
    generation: int = -1
    job_id: str | None = None
    digest: str = ""
    condition: Condition = Condition.FREE
    is_own: bool = False
    """Whether this task instance enqueued it, in the batch that it now uses."""
    map_index: int | None = None
    """The index of the instance that enqueued it, if known."""

    def action_for(self, digest: str) -> RowAction:
        """The action for a row with this call and this digest of its content."""
        same = self.digest == digest
        match self.condition:
            case Condition.FREE | Condition.CANCELLED_BY_TASK:
                return RowAction.MAKE
            case Condition.RANG | Condition.CANCELLED:
                return RowAction.KEEP
            case Condition.WAITING:
                return RowAction.KEEP if same and self.is_own else RowAction.REPLACE
            case Condition.ENDED:
                return RowAction.KEEP if same else RowAction.MAKE


def called_number(number: str) -> str:
    """The name of a row without a key of its own: the number that it calls."""
    return f"number {number}"


def called_key(key: str) -> str:
    """The name of a row with a key of its own."""
    return f"key {key}"


def assigned(digests: Sequence[str], calls: Iterable[PriorCall]) -> list[PriorCall]:
    """A prior call for each of the rows to one number, in their order; there must be at least as many.

    Rows with the same content come first. The others take calls that rang first, so that a corrected text does not
    ring again.
    """
    left = sorted(calls, key=lambda call: (call.condition.value, call.ordinal))
    found: list[PriorCall | None] = []
    for digest in digests:
        same = next((call for call in left if call.condition is not Condition.FREE and call.digest == digest), None)
        if same is not None:
            left.remove(same)
        found.append(same)
    return [call if call is not None else left.pop(0) for call in found]


async def prior_calls(
    queue: CallQueue,
    identity: TaskIdentity,
    wanted: Mapping[str, Collection[int]],
    *,
    batch_id: str,
    older: Mapping[str, Sequence[Job]],
) -> dict[str, list[PriorCall]]:
    """The calls to these numbers (or for these keys) at these ordinals.

    `older` are calls that an older release enqueued under other keys: they have the first ordinals.
    """
    places = [(called, ordinal) for called, ordinals in wanted.items() for ordinal in ordinals]
    generations = {
        (called, ordinal): [(job.id, job.body_digest) for job in older.get(called, ())[ordinal : ordinal + 1]]
        for called, ordinal in places
    }
    asked = places
    while asked:
        keys = {place: identity.call_key(*place, generation=len(generations[place])) for place in asked}
        owners = await key_owners(queue, list(keys.values()))
        asked = [place for place in asked if keys[place] in owners]
        for place in asked:
            generations[place].append(owners[keys[place]])
    found: dict[str, list[PriorCall]] = {called: [] for called in wanted}
    for start in range(0, len(places), AT_ONCE):
        some = places[start : start + AT_ONCE]
        jobs = await queue.store.jobs.get([job_id for place in some for job_id, _ in generations[place]])
        for called, ordinal in some:
            call = PriorCall(called=called, ordinal=ordinal)
            if made := generations[called, ordinal]:
                job_id, digest = _alive(made, jobs)
                job = jobs.get(job_id)
                call = PriorCall(
                    called=called,
                    ordinal=ordinal,
                    generation=len(made) - 1,
                    job_id=job_id,
                    digest=digest,
                    condition=condition_of(job),
                    is_own=job is not None
                    and job.batch_id == batch_id
                    and (batch_id == identity.batch_id() or identity.owns(job.data)),
                    map_index=None if job is None else map_index_of(job),
                )
            found[called].append(call)
    return found


def _alive(generations: Sequence[tuple[str, str]], jobs: Mapping[str, Job]) -> tuple[str, str]:
    """The newest generation, unless an older one rang or is waiting again after a redial."""
    for condition in (Condition.RANG, Condition.WAITING):
        for each in reversed(generations):
            if (job := jobs.get(each[0])) is not None and condition_of(job) is condition:
                return each
    return generations[-1]


def map_index_of(job: Job) -> int | None:
    """The index of the task instance that enqueued this call; None if its data do not have one."""
    index = (job.data or {}).get("airflow_map_index")
    return index if isinstance(index, int) else None


def condition_of(job: Job | None) -> Condition:
    """The condition of this call; None is a pruned one."""
    if job is None:
        return Condition.RANG
    if job.state in {JobState.QUEUED, JobState.LEASED}:
        return Condition.WAITING if job.attempt == 0 else Condition.RANG
    if was_cancelled_by_task(job):
        return Condition.CANCELLED_BY_TASK
    if not never_rang(job):
        return Condition.RANG
    return Condition.CANCELLED if job.state is JobState.CANCELLED else Condition.ENDED


async def key_owners(queue: CallQueue, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The ids and body digests of the calls with these keys; free keys are absent."""
    found: dict[str, tuple[str, str]] = {}
    for start in range(0, len(keys), AT_ONCE):
        now = queue.store.clock.now()
        owners = await queue.store.jobs.owners(queue.name, keys[start : start + AT_ONCE], now=now)
        found |= {key: (owner.job_id, owner.body_digest) for key, owner in owners.items()}
    return found


MOST_GENERATIONS = 64
"""More than anybody clears a task."""

KeyOf = Callable[[int], str]
"""The unique key of one call by its generation."""


async def newest_call(queue: CallQueue, key_of: KeyOf) -> tuple[int, Job | None]:
    """The number of a call's newest generation, and its job.

    If that job was pruned, it has only the fields that are kept with its unique key.
    """
    keys = [key_of(number) for number in range(MOST_GENERATIONS)]
    jobs, now = queue.store.jobs, queue.store.clock.now()
    owners = await jobs.owners(queue.name, keys[:4], now=now)
    if keys[3] in owners:
        owners = await jobs.owners(queue.name, keys, now=now)
    generation = next((number for number, key in enumerate(keys) if key not in owners), MOST_GENERATIONS) - 1
    if generation < 0:
        return 0, None
    owner = owners[keys[generation]]
    found = await jobs.get([owner.job_id])
    if owner.job_id in found:
        return generation, found[owner.job_id]
    now = queue.store.clock.now()
    pruned = Job(
        id=owner.job_id,
        queue=queue.name,
        state=owner.state,
        due_at=now,
        destination="",
        body="",
        body_digest=owner.body_digest,
        source="",
        created_at=now,
    )
    return generation, pruned
