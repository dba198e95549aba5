"""What the journal files of a host say about a store: whether it has forgotten calls that were sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.core.guard.tombstones import known_as_pruned
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.journal_files import Witness
from voiceflow_worker.core.ports.reading import read_each
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.setback import is_forgotten

PAGE = 200


@dataclass(frozen=True, slots=True)
class JournalledCall:
    """One job as a journal file tells it; after `pruned_from` the store may have deleted it in good order."""

    job: Job
    pruned_from: datetime

    @classmethod
    def of(cls, job: Job, *, retention: timedelta) -> JournalledCall:
        """A job ends after its POST began, and is kept for the retention from then on."""
        return cls(job, job.posts[-1].began_at + retention)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalCheck:
    """What the journal files of this host say about a store.

    `files` read, `calls` that they tell of, and the `forgotten` ones among them; `set_back` is whether the store is
    known to have had any of these.
    """

    files: int
    calls: int
    forgotten: tuple[Job, ...]
    set_back: bool


async def check_journals(store: Store, witness: Witness, *, queue: str, policy: CallPolicy) -> JournalCheck:
    """Compare every journal file of this host with the store, changing nothing."""
    now = store.clock.now()
    files = await witness.files(queue)
    kept: set[str] = set()
    calls: set[str] = set()
    forgotten: dict[str, Job] = {}
    for file in files:
        retention = min(file.retention, policy.retention)
        if file.kept is not None:
            known = await forgotten_of(store, [JournalledCall.of(file.kept, retention=retention)], now=now)
            kept |= {told.job.id for told, _ in known}
        told = [JournalledCall.of(job, retention=retention) for job in await witness.entries(queue, file.name)]
        calls |= {each.job.id for each in told}
        for start in range(0, len(told), PAGE):
            found = await forgotten_of(store, told[start : start + PAGE], now=now)
            forgotten |= {each.job.id: each.job for each, _ in found}
    # A file whose worker is just writing is ahead of the store by what is on its way: that alone means nothing.
    return JournalCheck(
        files=len(files), calls=len(calls), forgotten=tuple(forgotten.values()) if kept else (), set_back=bool(kept)
    )


async def forgotten_of(
    store: Store, told: Sequence[JournalledCall], *, now: datetime
) -> list[tuple[JournalledCall, Job | None]]:
    """Those of which the store knows less than it is told, with what it has of them."""
    stored = await read_each(store.jobs, [each.job.id for each in told])
    found: list[tuple[JournalledCall, Job | None]] = []
    for each in told:
        job = stored.jobs.get(each.job.id)
        if each.job.id in stored.unreadable:
            continue  # a newer version went on with it: it was not forgotten
        if now < each.pruned_from if job is None else is_forgotten(each.job, job):
            found.append((each, job))
    # Whoever ended a job decided when it goes, which may be sooner than this process would have let it go.
    pruned = await known_as_pruned(store, [each.job for each, job in found if job is None], now=now)
    return [(each, job) for each, job in found if each.job.id not in pruned]
