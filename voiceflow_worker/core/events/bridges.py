"""Bridges from a menu: the check whether the second party may be called now."""

from __future__ import annotations

from collections.abc import Sequence

from voiceflow_worker.core import units
from voiceflow_worker.core.events.callers import MenuCall
from voiceflow_worker.core.numbers.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.numbers.suppression import entry_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import job_of
from voiceflow_worker.core.ports.reading import get_jobs
from voiceflow_worker.core.ports.store import Absent, Answer, Result, Step, Unit
from voiceflow_worker.errors import StaleJobError
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.spellings import spellings

ROUNDS = 20
"""The most times that a bridge is tried while other writers change the job."""


class Bridges:
    """Checks and notes the numbers to which a menu wants to bridge a call.

    A queued call can wait until a number is free, but a person on the line cannot wait. So a bridge is refused only if
    the number is on the suppression list, if it is the destination of another open call of a queue and not a shared
    number, or if the person's call has ended. Any number of bridges may share a number, such as that of a service desk.
    Queues do not call the number of a bridge until the person's call has its summary. If that call has no job, queues
    do not call the number for as long as a phone may ring.
    """

    def __init__(self, store: Store, policy: CallPolicy) -> None:
        self._store = store
        self._policy = policy

    async def refusal(self, numbers: Sequence[str], *, line: MenuCall, session_id: str | None) -> str | None:
        """Note these numbers until the call ends. Returns None if they may be called, else the reason as a clause.

        Raises StoreError, and StaleJobError if other writers change the job at every try.
        """
        if line.job is None or line.number is None:
            now = self._store.clock.now()
            unit = units.bridge_of_session(str(session_id), numbers, at=now, policy=self._policy)
            return _refusal(await self._write(unit), numbers)
        job = line.job
        for _ in range(ROUNDS):
            post = job.post(line.number)
            if post is None or post.outcome is not None:
                return "the call has ended"
            _, unit = units.bridge(job, line.number, numbers, at=self._store.clock.now(), policy=self._policy)
            answer = await self._write(unit)
            if answer.result is not Result.STALE:
                return _refusal(answer, numbers)
            found = (await get_jobs(self._store, [job.id])).get(job.id)
            if found is None:
                return "the call has ended"
            job = found
        raise StaleJobError(job.id)

    async def _write(self, unit: Unit) -> Answer:
        return (await self._store.write(Step(units=(unit,)), now=self._store.clock.now())).answers[0]


def _refusal(answer: Answer, numbers: Sequence[str]) -> str | None:
    if answer.result is Result.DONE or answer.record is None:
        return None
    key = answer.record.key
    number = next((each for each in numbers if key in spellings(each)), key)
    if isinstance(answer.need, Absent) and answer.need.namespace == SUPPRESSED:
        return entry_of(answer.record).in_words_of(number)
    owner = job_of(answer.record.value)
    holder = answer.record.value if owner is None else owner[0]
    return f"its second party {number} is being called in call {holder}"
