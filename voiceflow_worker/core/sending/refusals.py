"""What becomes of leased calls whose conditions do not hold: each ends, or goes back to the queue with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from voiceflow_worker.core import units
from voiceflow_worker.core.numbers.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.numbers.suppression import entry_of
from voiceflow_worker.core.ports.store import (
    GATES,
    Absent,
    Answer,
    AtMost,
    Need,
    OpenGate,
    Record,
    Result,
    Unit,
    belongs,
    gate_from,
    gate_key,
    is_closed,
)
from voiceflow_worker.core.sending.journal import Refused, Unsent
from voiceflow_worker.model.jobs.call_json import BUSY, CAPPED
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy, spread
from voiceflow_worker.model.numbers.phone import spellings

NUMBER_BUSY = timedelta(seconds=2)
"""The time that a job waits if its number is busy with another call."""
LONGEST_LINE = timedelta(minutes=1)
"""The longest wait of a job behind other jobs that its worker has leased for the same busy number."""
CHECKED_AGAIN = timedelta(seconds=1)
"""The time that a job waits if the store must first be compared with the journal files."""


def keys_of(needs: Sequence[Need]) -> dict[str, list[str]]:
    """The keys of the records that decide these conditions, by namespace; those of limits by prefix are left out."""
    keys: dict[str, dict[str, None]] = {}
    for need in needs:
        match need:
            case Absent(namespace, wanted):
                keys.setdefault(namespace, {}).update(dict.fromkeys(wanted))
            case OpenGate(queue, batch):
                keys.setdefault(GATES, {}).update({gate_key(queue, None): None, gate_key(queue, batch): None})
            case _:
                pass
    return {namespace: list(wanted) for namespace, wanted in keys.items()}


def refused_by(unit: Unit, standing: Mapping[str, Mapping[str, Record]]) -> Answer | None:
    """The answer that `write` would give to a unit, as far as these records show; None if they refuse nothing."""
    for need in unit.needs:
        match need:
            case Absent(namespace, keys, owner):
                held = standing.get(namespace, {})
                found = next((held[key] for key in keys if key in held and not belongs(held[key].value, owner)), None)
            case OpenGate(queue, batch):
                gates = standing.get(GATES, {})
                scopes = (gates.get(gate_key(queue, None)), gates.get(gate_key(queue, batch)))
                found = next((gate for gate in scopes if is_closed(gate)), None)
            case _:
                found = None
        if found is not None:
            return Answer(result=Result.NOT_FREE, need=need, record=found)
    return None


def sorted_out(
    refused: Sequence[Refused], *, at: datetime, leased_at: float, policy: CallPolicy
) -> tuple[list[tuple[Job, str]], list[Unsent]]:
    """The refused jobs that end, each with its reason, and those that go back to the queue.

    Jobs with the same busy number come due one after the other, in the order of leasing. Without this, many calls that
    bridge to one line would all be leased and put back every two seconds.
    """
    ended: list[tuple[Job, str]] = []
    back: list[Unsent] = []
    waiting: dict[str, timedelta] = {}
    for job, answer in refused:
        record = answer.record
        match answer.need:
            case Absent(namespace) if namespace == SUPPRESSED and record is not None:
                ended.append((job, _suppressed_words(job, record)))
            case OpenGate() if record is not None:
                back.append(Unsent(job, f"held before it left: {gate_from(record).reason}"))
            case AtMost(namespace) if namespace == units.PERSON and record is not None:
                until = record.ends_at or at + NUMBER_BUSY
                back.append(Unsent(job, _capped_words(policy), max(until - at, timedelta())))
            case Absent() | AtMost() if record is not None:
                number = record.key.partition(" ")[0]
                turn = NUMBER_BUSY * (0.75 + 0.5 * spread(f"{number}{leased_at}"))
                waiting[number] = min(waiting.get(number, timedelta()) + turn, LONGEST_LINE)
                back.append(Unsent(job, _busy_words(job, number), waiting[number]))
            case _:
                back.append(Unsent(job, "held back: the store was restarted just before it left", CHECKED_AGAIN))
    return ended, back


def _suppressed_words(job: Job, record: Record) -> str:
    entry = entry_of(record)
    number = next((each for each in job.parties if record.key in spellings(each)), record.key)
    return entry.in_words() if number == job.destination else entry.in_words_of(number)


def _capped_words(policy: CallPolicy) -> str:
    limit = policy.max_per_person
    return "" if limit is None else f"its number has had {limit.in_words()}, {CAPPED}"


def _busy_words(job: Job, number: str) -> str:
    second = next((each for each in job.parties[1:] if number in spellings(each)), None)
    if second is None or number in spellings(job.destination):
        return f"its number {BUSY}"
    return f"its second party {second} {BUSY} (if many calls may use a number at once, list it as shared)"
