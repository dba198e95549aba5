"""Moves of jobs, each with a new revision and the events for readers of the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState


class EventKind(StrEnum):
    """The kind of an event of the outbox."""

    ENDED = "ended"
    """The job reached a final state, or a late summary changed its final state."""
    ATTEMPTED = "attempted"
    """An attempt of the job has ended without ending the job: a redial follows, or another POST has ended the job."""
    DOUBTED = "doubted"
    INCIDENT = "incident"
    OTHER = "other"
    """A kind that only a newer version knows; readers of this version skip it."""

    @classmethod
    def _missing_(cls, value: object) -> EventKind:  # noqa: ARG003 - enum's own name for it
        return cls.OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a job, committed together with its move.

    Events reach their readers at least once, and in order per job. `post` is the number of the POST, 0 for none. The
    store sets `sequence`, which grows within a queue; 0 means that the event is not stored yet.
    """

    job_id: str
    kind: EventKind
    at: datetime
    state: JobState
    revision: str
    post: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """One change of one job: `new` replaces `old` if the store still has `old.revision`.

    Only this move has the revision of `new`. If the store already has this revision, the move was committed, and only
    the answer was lost.
    """

    old: Job
    new: Job
    events: tuple[Event, ...] = ()


def move(old: Job, new: Job, *, at: datetime) -> Move:
    """The move from `old` to `new`, with a new revision."""
    fresh = replace(new, revision=new_revision())
    events = tuple(
        Event(job_id=fresh.id, kind=kind, at=at, state=fresh.state, revision=fresh.revision, post=post)
        for kind, post in _news(old, fresh)
    )
    return Move(old, fresh, events)


def _news(old: Job, new: Job) -> Iterator[tuple[EventKind, int]]:
    """The events of a change, each as its kind and its POST number. Events of attempts come before the job's end."""
    settled = _newly_settled(old, new)
    ended = new.state.is_final and (new.state is not old.state or new.outcome != old.outcome)
    end = max(settled or _with_a_further_outcome(old, new), default=new.post_count) if ended else 0
    for number in settled:
        if not (ended and number == end):
            yield EventKind.ATTEMPTED, number
    if ended:
        yield EventKind.ENDED, end
    if new.state is JobState.IN_DOUBT and old.state is not JobState.IN_DOUBT:
        yield EventKind.DOUBTED, new.post_count
    if len(new.notes) > len(old.notes) and new.notes[-1].kind.is_incident:
        yield EventKind.INCIDENT, new.post_count


def _with_a_further_outcome(old: Job, new: Job) -> list[int]:
    """The POSTs whose outcome was replaced by another, for example because the person answered another session."""
    known = {post.number: post.outcome for post in old.posts if post.outcome is not None}
    return [post.number for post in new.posts if post.number in known and post.outcome != known[post.number]]


def _newly_settled(old: Job, new: Job) -> list[int]:
    """The POSTs that rang and have their first outcome now. A POST that missed its window (-2007) did not ring."""
    if new.posts is old.posts:
        return []
    known = {post.number for post in old.posts if post.outcome is not None}
    return [
        post.number
        for post in new.posts
        if post.outcome is not None and post.outcome.was_placed and post.number not in known
    ]
