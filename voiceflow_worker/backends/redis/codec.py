"""The form in which scripts take units and give answers, jobs and events. No script decodes a record or a body.

An optional text is '' if it is missing. Otherwise it is '=' followed by the text, so an empty text differs from a
missing one. A time is in microseconds since 1970 UTC, and '' if it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from voiceflow_worker.backends.record import event_from, from_micros, head_of, job_from, newer, record_of, to_micros
from voiceflow_worker.backends.redis.connection.scripts import Argument
from voiceflow_worker.backends.tombstones import known_state, remembered, tombstone_of
from voiceflow_worker.core.ports import Event
from voiceflow_worker.core.ports.identity import queue_of
from voiceflow_worker.core.store_port import (
    Absent,
    Answer,
    AtMost,
    Delete,
    Insert,
    Need,
    OpenGate,
    Owner,
    Record,
    Replace,
    Result,
    Same,
    Unit,
    gate_key,
)
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import outcome_name

_PLAIN = {"done": Result.DONE, "stale": Result.STALE, "unvetted": Result.UNVETTED, "withheld": Result.WITHHELD}


def optional(text: str | None) -> str:
    """An optional text in the form that scripts store: '' for None, otherwise '=' and the text."""
    return "" if text is None else f"={text}"


def micros(time: datetime | None) -> str | int:
    """An optional time in the form that scripts store: '' for None, otherwise microseconds since 1970 UTC."""
    return "" if time is None else to_micros(time)


# --- Units for write.lua -----------------------------------------------------------------------------------------


def unit_arguments(unit: Unit) -> list[Argument]:
    """The arguments of `write.lua` for a unit."""
    change = unit.change
    queue = "-" if change is None else change.job.queue
    if unit.events:
        queue = queue_of(unit.events[0].job_id)
    args: list[Argument]
    match change:
        case Insert(job):
            args = ["insert", queue, job.id, "", job.revision, optional(job.unique_key)]
        case Replace(revision, job):
            args = ["move", queue, job.id, revision, job.revision, ""]
        case Delete(job):
            args = ["delete", queue, job.id, job.revision, "", ""]
        case None:
            args = ["", queue, "", "", "", ""]
    args.append(len(unit.needs))
    for need in unit.needs:
        args += _need(need, unit)
    args.append(len(unit.puts))
    for put in unit.puts:
        args += (put.namespace, put.key, put.value, micros(put.ends_at), put.mode.value)
    args.append(len(unit.drops))
    for drop in unit.drops:
        args += (drop.namespace, drop.key, optional(drop.value))
    args.append(len(unit.events))
    for event in unit.events:
        args += (to_micros(event.at), _event_text(event))
    args += ("" if unit.wakes is None else unit.wakes, len(unit.tally))
    for field, amount in unit.tally.items():
        args += (field, amount)
    changed = _change(unit)
    return [*args, len(changed), *changed]


def _change(unit: Unit) -> Sequence[Argument]:
    match unit.change:
        case Insert(job):
            (_, _, state, due, rev, worker, prio, batch, dest, key, valid, active) = head_of(job)
            return (
                state, due, rev, optional(worker), prio, optional(batch), optional(dest), optional(key),
                "" if valid is None else valid, "" if active is None else active, record_of(job), job.body,
                job.body_digest, optional(outcome_name(job)),
            )  # fmt: skip
        case Replace(_, job):
            return (
                job.state.value, to_micros(job.due_at), optional(job.worker_id), micros(job.active_until),
                record_of(job), optional(outcome_name(job)),
            )  # fmt: skip
        case Delete(job, keep_key_until):
            return (to_micros(keep_key_until), _grave_of(job))
        case None:
            return ()


def _need(need: Need, unit: Unit) -> list[Argument]:
    match need:
        case Absent(namespace, keys, owner):
            return ["absent", namespace, owner or "", len(keys), *keys]
        case AtMost(namespace, prefix, most, owner):
            return ["most", namespace, owner or "", prefix, most]
        case Same():
            return ["same", *same(need, (unit,))]
        case OpenGate(queue, batch):
            keys = (gate_key(queue, None),) if batch is None else (gate_key(queue, None), gate_key(queue, batch))
            return ["gate", len(keys), *keys]


def same(need: Same, units: Sequence[Unit]) -> list[Argument]:
    """The arguments of a `Same` condition; its own new value too, which counts as of an earlier try."""
    own = [put.value for unit in units for put in unit.puts if (put.namespace, put.key) == (need.namespace, need.key)]
    values = [optional(need.value), *map(optional, own)]
    return [need.namespace, need.key, len(values), *values, optional(own[-1] if own else None)]


def answer_from(unit: Unit, answer: Sequence[Any]) -> Answer:
    """The answer of `write.lua` to a unit."""
    match answer:
        case ["exists", owner, digest, state, ""]:
            return Answer(result=Result.EXISTS, owner=Owner(owner, digest, known_state(state, owner=owner)))
        case ["exists", _, _, _, grave]:
            job = buried("", grave)
            return Answer(result=Result.EXISTS, owner=Owner(job.id, job.body_digest, job.state))
        case ["not free", int(place), key, value, ends]:
            record = None if value is False else records_from((key, value, ends))[0]
            return Answer(result=Result.NOT_FREE, need=unit.needs[place], record=record)
        case [plain]:
            return Answer(result=_PLAIN[plain])
        case _:
            raise ValueError(f"the script write.lua gave an unknown answer: {answer!r}")


# --- Jobs, records and events ------------------------------------------------------------------------------------


def job_of_row(queue: str, row: Sequence[str]) -> Job:
    """The job, or the tombstone, in a row of a script. Raises StoreVersionError if a newer version wrote it."""
    if len(row) == 1:
        return buried(queue, row[0])
    (job_id, state, due, rev, worker, prio, batch, dest, key, valid, active, record, body) = row
    head = (
        job_id, queue, state, int(due), rev, _text(worker), int(prio), _text(batch), dest[1:], _text(key),
        int(valid) if valid else None, int(active) if active else None,
    )  # fmt: skip
    return job_from(head, record, body)


def records_from(fields: Sequence[str]) -> list[Record]:
    """The records that a script returned: a key, a value and an end of each."""
    return [
        Record(key, value, from_micros(int(ends)) if ends else None)
        for key, value, ends in zip(fields[::3], fields[1::3], fields[2::3], strict=True)
    ]


def event_of(text: str) -> Event:
    """The event in an outbox entry. Raises StoreVersionError for an entry of a newer version."""
    sequence, _, fields = text.partition("|")
    try:
        return event_from(int(sequence), orjson.loads(fields))
    except ValueError as error:
        raise newer(f"event {sequence}", error) from error


def _event_text(event: Event) -> str:
    fields = [event.job_id, event.kind, to_micros(event.at), event.state, event.revision, event.post]
    return orjson.dumps(fields).decode()


def _grave_of(job: Job) -> str:
    _, unique_key, job_id, digest, state, *times = tombstone_of(job)
    return f"{job_id}|{digest}|{orjson.dumps([state, unique_key, *times]).decode()}"


def buried(queue: str, grave: str) -> Job:
    """A deleted job, rebuilt from a tombstone that a script returned. It has only the fields of the tombstone."""
    _, job_id, digest, fields = grave.split("|", 3)
    state, unique_key, *times = orjson.loads(fields)
    return remembered((queue, unique_key, job_id, digest, state, *times[:4]))


def _text(kept: str) -> str | None:
    return kept[1:] if kept else None
