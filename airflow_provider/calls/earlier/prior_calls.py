"""The calls that a task has made so far, numbered for each phone number or for each row's own key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from airflow_provider.calls.cancellation import was_cancelled_by_task
from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue, Job, JobState, telephone_of

AT_ONCE = 500
MARGIN = 2
"""The number of consecutive free ordinals that end a search for calls. Calls may follow a single free ordinal, which a
removed row has left."""


class Condition(Enum):
    """The progress of a prior call.

    First, rows get the prior calls with the same content. The other rows then get the remaining calls, in the order of
    these conditions.
    """

    RANG = auto()
    """The call rang, may have rung, is being sent, or was pruned."""
    WAITING = auto()
    """The call is in the queue and was never sent."""
    ENDED = auto()
    """The call was refused or expired before it rang."""
    CANCELLED = auto()
    """A person cancelled the call before it rang."""
    CANCELLED_BY_TASK = auto()
    """A task cancelled the call before it rang."""
    FREE = auto()
    """No call was enqueued."""


class RowAction(Enum):
    """The action for a row. It depends on the row's prior call."""

    KEEP = auto()
    REPLACE = auto()
    """Cancel the waiting call and make a new call."""
    MAKE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorCall:
    """One of a task's calls to a number, or for a row's own key. The call may not exist yet.

    `called` names the number or the key, and `ordinal` numbers the calls of that name from 0. `generation` is the
    number of earlier calls that this call replaced; a call that does not exist yet has -1.
    """

    called: str
    ordinal: int
    generation: int = -1
    job_id: str | None = None
    digest: str = ""
    condition: Condition = Condition.FREE
    is_own: bool = False
    """True if this task instance enqueued the call in its current batch."""
    map_index: int | None = None
    """The map index of the instance that enqueued the call, if known."""

    def action_for(self, digest: str) -> RowAction:
        """Return the action for a row that has this prior call. `digest` is the digest of the row's content."""
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
    """Return the value of `called` for a row that is identified by its phone number, in any spelling."""
    return f"number {telephone_of(number)}"


def called_key(key: str) -> str:
    """Return the value of `called` for a row that is identified by its own key."""
    return f"key {key}"


def assigned(digests: Sequence[str], calls: Iterable[PriorCall]) -> list[PriorCall]:
    """Return a prior call for each row, in the order of the rows. There must be as many calls as rows.

    A row with the same content as a call gets this call. The other rows get the remaining calls, beginning with calls
    that rang, so that a corrected text does not ring again.
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
) -> dict[str, list[PriorCall]]:
    """Return the calls that have the `wanted` ordinals, by phone number or by the row's own key."""
    places = [(called, ordinal) for called, ordinals in wanted.items() for ordinal in ordinals]
    generations: dict[tuple[str, int], list[tuple[str, str]]] = {place: [] for place in places}
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
                call = replace(
                    call,
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
    """From calls that replaced each other, return the newest that rang, else the newest waiting, else the newest."""
    for condition in (Condition.RANG, Condition.WAITING):
        for each in reversed(generations):
            if (job := jobs.get(each[0])) is not None and condition_of(job) is condition:
                return each
    return generations[-1]


def map_index_of(job: Job) -> int | None:
    """Return the map index of the task instance that enqueued this call, or None if the call's data lack it."""
    index = (job.data or {}).get("airflow_map_index")
    return index if isinstance(index, int) else None


def condition_of(job: Job | None) -> Condition:
    """Return the condition of a job. None stands for a pruned job."""
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
    """Return the job id and the body digest of each call with one of these keys. Keys without a call are left out."""
    found: dict[str, tuple[str, str]] = {}
    for start in range(0, len(keys), AT_ONCE):
        now = queue.store.clock.now()
        owners = await queue.store.jobs.owners(queue.name, keys[start : start + AT_ONCE], now=now)
        found |= {key: (owner.job_id, owner.body_digest) for key, owner in owners.items()}
    return found


MOST_GENERATIONS = 64
"""The largest number of generations of a call. Nobody clears a task that often."""

KeyOf = Callable[[int], str]
"""A function that returns the unique key of a call for a generation (the number of calls that it replaced)."""


async def newest_call(queue: CallQueue, key_of: KeyOf) -> tuple[int, Job | None]:
    """Return how often a call was replaced, and the job of its newest replacement; 0 and None if there is no call.

    If the call was pruned, its job has only the fields that are stored with the unique key.
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
