"""The encoding of jobs, events, gates and tombstones as texts, which scripts store without decoding them.

An optional text is '' if it is missing. Otherwise it is '=' followed by the text, so an empty text differs from a
missing one. A time is in microseconds since 1970 UTC, and '' if it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import orjson

from voiceflow_worker.backends.record import event_from, from_micros, head_of, job_from, newer, record_of, to_micros
from voiceflow_worker.backends.tombstones import known_state, remembered, tombstone_of
from voiceflow_worker.core.ports import Event, KeyOwner
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState, known_gate
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import tally_of

Argument = str | bytes | int | float


def optional(text: str | None) -> str:
    """An optional text in the form that scripts store: '' for None, otherwise '=' and the text."""
    return "" if text is None else f"={text}"


def micros(time: datetime | None) -> str | int:
    """An optional time in the form that scripts store: '' for None, otherwise microseconds since 1970 UTC."""
    return "" if time is None else to_micros(time)


def tally_text(job: Job) -> str:
    """The amounts that a job adds to totals, as scripts store them: a line for each field, with amount and name."""
    return "".join([f"{amount} {field}\n" for field, amount in tally_of(job).items()])


def new_job(job: Job) -> tuple[Argument, ...]:
    """The arguments of `write.lua` for a new job."""
    (job_id, _, state, due, rev, worker, prio, batch, dest, key, valid, active) = head_of(job)
    return (
        job_id, state, due, rev, optional(worker), prio, optional(batch), optional(dest), optional(key),
        "" if valid is None else valid, "" if active is None else active, record_of(job), job.body, job.body_digest,
        tally_text(job),
    )  # fmt: skip


def event_text(event: Event) -> str:
    """An event as scripts store it, without its sequence."""
    fields = [event.job_id, event.kind, to_micros(event.at), event.state, event.revision, event.post]
    return orjson.dumps(fields).decode()


def next_job(job: Job) -> list[Argument]:
    """The arguments of `write.lua` for the next version of a job. Its batch, number, priority and validity stay."""
    (job_id, _, state, due, rev, worker, _, _, _, _, _, active) = head_of(job)
    return [
        job_id, rev, state, due, optional(worker), "" if active is None else active, record_of(job), tally_text(job),
    ]  # fmt: skip


def job_of_row(queue: str, row: Sequence[str]) -> Job:
    """The job in a list of fields from a Redis script. Raises StoreVersionError if a newer version wrote it."""
    (job_id, state, due, rev, worker, prio, batch, dest, key, valid, active, record, body) = row
    head = (
        job_id, queue, state, int(due), rev, _text(worker), int(prio), _text(batch), dest[1:], _text(key),
        int(valid) if valid else None, int(active) if active else None,
    )  # fmt: skip
    return job_from(head, record, body)


def event_of(text: str) -> Event:
    """The event in an outbox entry. Raises StoreVersionError for an entry of a newer version."""
    sequence, _, fields = text.partition("|")
    try:
        return event_from(int(sequence), orjson.loads(fields))
    except ValueError as error:
        raise newer(f"event {sequence}", error) from error


def grave_of(job: Job) -> str:
    """The tombstone of a deleted job, as scripts store it."""
    _, unique_key, job_id, digest, state, *times = tombstone_of(job)
    return f"{job_id}|{digest}|{orjson.dumps([state, unique_key, *times]).decode()}"


def buried(queue: str, grave: str) -> Job:
    """A deleted job, rebuilt from a tombstone that a script returned. It has only the fields of the tombstone."""
    _, job_id, digest, fields = grave.split("|", 3)
    state, unique_key, *times = orjson.loads(fields)
    return remembered((queue, unique_key, job_id, digest, state, *times[:4]))


def owner_of(queue: str, answer: Sequence[str]) -> KeyOwner | None:
    """The owner of a unique key, from an answer of `owners.lua`; None for a free key."""
    match answer:
        case []:
            return None
        case [grave]:
            job = buried(queue, grave)
            return KeyOwner(job.id, job.body_digest, job.state)
        case [job_id, digest, state]:
            return KeyOwner(job_id, digest, known_state(state, owner=job_id))
        case _:
            raise ValueError(f"the script owners.lua gave an unknown answer: {answer!r}")


def gate_field(scope: GateScope, name: str) -> str:
    """The field for a gate in the hash of gates."""
    return "queue" if scope is GateScope.QUEUE else f"batch={name}"


def gate_text(gate: Gate) -> str:
    """The text that is stored for a gate. It is empty for an open gate, because open gates are not stored."""
    if gate.state is GateState.OPEN:
        return ""
    return f"{gate.state}|{micros(gate.until)}|{to_micros(gate.since)}|{gate.reason}"


def gate_of(queue: str, field: str, text: str) -> Gate:
    """The gate that is stored as `text` in `field`."""
    state, until, since, reason = text.split("|", 3)
    scope = GateScope.QUEUE if field == "queue" else GateScope.BATCH
    return Gate(
        queue=queue,
        scope=scope,
        name=queue if scope is GateScope.QUEUE else field.removeprefix("batch="),
        state=known_gate(state),
        until=from_micros(int(until)) if until else None,
        reason=reason,
        since=from_micros(int(since)),
    )


def _text(kept: str) -> str | None:
    return kept[1:] if kept else None
