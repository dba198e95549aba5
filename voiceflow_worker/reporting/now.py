"""What happens now, in a sentence: of each queue at the top of the pages, and of one batch on its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, duration_in_words
from voiceflow_worker.reporting.batches import BatchProgress, read_queues


@dataclass(frozen=True, slots=True)
class Now:
    """What happens now in a queue or a batch (`of`), in words, with times as `in_words` writes them."""

    of: BatchProgress
    words: str


def now_of(found: BatchProgress, *, is_worked: bool) -> Now:
    """Return what happens now in a queue or a batch: who is called, who waits and until when, what is in doubt.

    `is_worked` says that a worker of the queue runs.
    """
    calling, waiting = found.under_way, found.states[JobState.QUEUED] + found.states[JobState.LEASED]
    said = [f"{_people(calling)} being called" if calling else "nobody is being called"]
    if waiting:
        one = waiting == 1
        said.append(f"{waiting:,} wait{'s' if one else ''}{_until(found, is_worked=is_worked, one=one)}")
    if found.doubts:
        said.append(f"{found.doubts:,} {'is' if found.doubts == 1 else 'are'} in doubt")
    if not calling and found.done == found.total:
        said = [f"all {found.total:,} calls have ended" if found.total > 1 else "the call has ended"]
        if found.batch_id is None or not found.total:
            said = ["nobody is being called, and nobody waits"]
    return Now(found, "; ".join(said))


def _people(count: int) -> str:
    return "1 person is" if count == 1 else f"{count:,} people are"


def _until(found: BatchProgress, *, is_worked: bool, one: bool) -> str:
    """Return for what, and until when, calls wait."""
    if found.hold is not None:
        return " behind the hold"
    if found.next_call is not None:
        return f"{' until' if one else '; the next is called at'} {found.next_call.in_words()}"
    if not is_worked:
        return f": no worker of queue {found.queue} runs"
    if found.ends_at is not None:
        return f"; the last is called in about {duration_in_words(found.ends_at - found.at)}"
    return f" for {'its' if one else 'their'} turn"


async def now_in_queues(store: Store, queues: Iterable[BatchProgress] | None = None) -> list[Now]:
    """Return what happens now in the queues that have open calls or a hold; at least in one. Raises StoreError."""
    found = list(await read_queues(store, also=DEFAULT_QUEUE) if queues is None else queues)
    worked = await Heartbeats(store).rates()
    busy = [each for each in found if each.done < each.total or each.hold]
    usual = [each for each in found if each.queue == DEFAULT_QUEUE] or found
    return [now_of(each, is_worked=each.queue in worked) for each in busy or usual[:1]]
