"""A change of a job as a move: with a fresh revision, and the events that readers of the outbox wait for."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from voiceflow_worker.core.identity import new_revision
from voiceflow_worker.core.ports import Event, EventKind, Move
from voiceflow_worker.model.job import Job, JobState


def move(old: Job, new: Job, *, at: datetime) -> Move:
    """The move from `old` to `new`, under a revision of its own."""
    fresh = replace(new, revision=new_revision())
    return Move(old, fresh, tuple(_event(kind, fresh, at=at) for kind in _kinds(old, fresh)))


def _kinds(old: Job, new: Job) -> list[EventKind]:
    kinds: list[EventKind] = []
    if new.state.is_final and (new.state is not old.state or new.outcome != old.outcome):
        kinds.append(EventKind.ENDED)
    if new.state is JobState.IN_DOUBT and old.state is not JobState.IN_DOUBT:
        kinds.append(EventKind.DOUBTED)
    if len(new.notes) > len(old.notes) and new.notes[-1].kind.is_incident:
        kinds.append(EventKind.INCIDENT)
    return kinds


def _event(kind: EventKind, job: Job, *, at: datetime) -> Event:
    return Event(job_id=job.id, kind=kind, at=at, state=job.state, revision=job.revision)
