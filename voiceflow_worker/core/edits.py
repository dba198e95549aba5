"""The edit of a batch: its waiting calls get another window, validity, priority or source, in slices.

A call keeps its unique key and the digest by which its row is recognised, so the same file again adds nothing. A call
that was sent keeps what it was sent with.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.core.gates import SENT_WITHIN
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.reading import count_states, find_pages
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Edit, Result, Write, tally_change
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.country_windows import CountryWindows, first_opening
from voiceflow_worker.model.flows.callflow import body_from
from voiceflow_worker.model.flows.rules import VALIDITY_EXPIRED
from voiceflow_worker.model.jobs.job import Job, JobState, NoteKind
from voiceflow_worker.model.jobs.lifecycle import noted
from voiceflow_worker.model.numbers.sources import Sources
from voiceflow_worker.model.window import CallWindow

PAGE = 200
"""The most calls that are edited in one bulk write."""
_CHECK_AGAIN = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEdit:
    """What waiting calls get; what is None stays. `names` are the fields that were given, as for a campaign.

    Of a window, only the parts that were given are changed.
    """

    names: frozenset[str]
    windows: CountryWindows | None = None
    valid_until: datetime | None = None
    priority: int | None = None
    sources: Sources | None = None

    def of(self, job: Job, *, at: datetime) -> Job:
        """A waiting job after the edit; the same object if nothing changes.

        The source of a call that was sent before stays, because 8x8 reports that call by it. Raises InvalidInputError
        for a number that there is no window or no source for.
        """
        window = self._window(job)
        source, body = job.source, job.body
        if self.sources is not None and not job.post_count:
            source = self.sources.to(job.destination)
            body = body if source == job.source else body_from(body, source)
        new = replace(
            job,
            window=window,
            valid_until=self.valid_until or job.valid_until,
            priority=job.priority if self.priority is None else self.priority,
            source=source,
            body=body,
        )
        if new == job:
            return job
        if window == job.window or window is None:
            return new
        begin = max(at, job.due_at if job.post_count else job.not_before or job.created_at)
        opening = first_opening(
            window, numbers=job.numbers, time_zone=job.time_zone, at=begin, valid_until=new.valid_until
        )
        # One that opens too late leaves the call to its validity, which ends it.
        problem = opening.problem
        if problem is not None and problem.code != VALIDITY_EXPIRED:
            remedies = () if problem.remedy is None else (problem.remedy,)
            raise InvalidInputError(
                f"nothing was changed: call {job.id} to {job.destination}: {problem.message}"
            ).remedied(*remedies)
        return replace(
            new, due_at=opening.at, time_zone=opening.time_zone, reason=None, reason_kind=None, missed_windows=0
        )

    def _window(self, job: Job) -> CallWindow | None:
        if self.windows is None:
            return job.window
        window = self.windows.to(job.numbers)
        if job.window is None:
            return window
        parts = {
            part: getattr(window if name in self.names else job.window, part)
            for part, name in (("spans", "window"), ("days", "days"), ("holidays", "holidays"))
        }
        zone = window.time_zone if "window_time_zone" in self.names else job.window.time_zone
        return CallWindow(**parts, time_zone=zone)


@dataclass(slots=True, kw_only=True)
class EditedCalls:
    """What became of the waiting calls of a batch.

    `edited` were changed, and `unchanged` were so already. `later` were added after the edit was ordered, and `leaving`
    are about to leave: both stay as they are.
    """

    edited: int = 0
    unchanged: int = 0
    later: int = 0
    leaving: int = 0


async def edit_batch(
    store: Store,
    queue: str,
    batch_id: str,
    edit: BatchEdit,
    *,
    ordered_at: datetime,
    note: str,
    dry_run: bool = False,
    on_call: Callable[[Job], None] | None = None,
) -> EditedCalls:
    """Edit the waiting calls of a batch that were enqueued by `ordered_at`, with a note in each; a dry run only counts.

    `on_call` gets each of these calls as it is afterwards. A call that changes meanwhile is looked at again, and so are
    calls that a worker has taken, as long as they may come back: for two seconds. Raises InvalidInputError before the
    first change if a call cannot get what the edit says, and StoreError; the same edit again then goes on.
    """
    every = Listing(queue=queue, batch=batch_id, states=frozenset({JobState.QUEUED}), limit=PAGE)
    found, is_first = EditedCalls(), True
    if not dry_run:  # so that a call which cannot get it refuses all
        await edit_batch(store, queue, batch_id, edit, ordered_at=ordered_at, note=note, dry_run=True)
    gives_up = store.clock.monotonic() + SENT_WITHIN
    while True:
        missed, found.later = 0, 0
        async with aclosing(find_pages(store, every)) as pages:
            async for page in pages:
                now = store.clock.now()
                waiting = [job for job in page if job.created_at <= ordered_at]
                found.later += len(page) - len(waiting)
                made = [(job, edit.of(job, at=now)) for job in waiting]
                if on_call is not None:
                    for _, new in made:
                        on_call(new)
                changed = [(job, new) for job, new in made if new is not job]
                found.unchanged += len(waiting) - len(changed) if is_first else 0
                done = len(changed) if dry_run else await _store(store, changed, note=note, now=now)
                found.edited += done
                missed += len(changed) - done
        is_first = False
        found.leaving = (await count_states(store, queue, batch_id=batch_id))[JobState.LEASED]
        if dry_run or not (missed or found.leaving) or store.clock.monotonic() > gives_up:
            return found
        await store.clock.sleep(_CHECK_AGAIN)


async def _store(store: Store, changed: list[tuple[Job, Job]], *, note: str, now: datetime) -> int:
    """Store these jobs, each if it is as it was; returns how many were."""
    if not changed:
        return 0
    writes: list[Write] = []
    for job, edited in changed:
        new = replace(noted(edited, NoteKind.EDITED, note, at=now), revision=new_revision())
        writes.append(Write(change=Edit(job.revision, new), tally=tally_change(job, new), wakes=job.queue))
    written = await store.write(BulkWrite(writes=tuple(writes)), now=now)
    return sum(answer.result is Result.DONE for answer in written)
