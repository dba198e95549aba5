"""Circuit breakers of one process: refusals in a row hold a batch, doubts in a row hold a queue for a growing time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.outcome import BODY_CODES
from voiceflow_worker.model.reports.status import session_error
from voiceflow_worker.model.text.wording import in_words

MOST_REFUSALS = 10
"""The number of refusals in a row, for one reason, after which a batch is held."""
MOST_DOUBTS = 5
"""The number of doubts in a row after which a queue is held."""
DOUBTS_COUNT_FOR = timedelta(minutes=15)
"""Doubts that are further apart are not in a row."""
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=10), timedelta(minutes=5)
"""How long a queue is held after doubts in a row. The wait doubles with each call that is tried, and in doubt again."""

VOICE_REFUSED, SOURCE_REFUSED, SOURCE_NOT_LISTED = -1002, -1014, -2008
ANSWER_CODES = frozenset({VOICE_REFUSED, SOURCE_REFUSED})
"""Codes of answers that every row gets, because their cause is in the account or the flow."""
SUMMARY_CODES = ANSWER_CODES | BODY_CODES | {SOURCE_NOT_LISTED}
"""Codes in session summaries that every row gets, because their cause is in the account or the flow."""

_log = structlog.get_logger("voiceflow.breakers")


class Answer(Struct, frozen=True):
    """What 8x8 said of a call: the `code` with which it was refused, and its words; None for a call that was taken.

    With `is_summary`, its session summary said so; `was_answered` if somebody has heard the call.
    """

    job: Job
    code: int | None = None
    message: str = ""
    is_summary: bool = False
    was_answered: bool = False


@dataclass(slots=True)
class _Doubts:
    """The doubts of a queue in a row. `held_at` is the time of the newest of its `holds`."""

    length: int
    at: datetime
    holds: int = 0
    held_at: datetime | None = None


class CircuitBreakers:
    """Counts refusals and doubts in a row, of the calls that this process settles. A hold begins the count again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._refused: dict[tuple[str, str | None], dict[tuple[int, bool], int]] = {}
        self._doubts: dict[str, _Doubts] = {}

    async def note(self, answers: Sequence[Answer]) -> None:
        """Count the refusals among these answers, which came in this order and are stored."""
        for each in answers:
            batch = each.job.queue, each.job.batch_id
            if each.code is None:
                runs = self._refused.get(batch, {})
                for key in [key for key in runs if _shows_gone(each, *key)]:
                    del runs[key]
                continue
            runs = self._refused.setdefault(batch, {})
            key = each.code, each.is_summary
            runs[key] = runs.get(key, 0) + 1
            if runs[key] >= MOST_REFUSALS:
                del runs[key]
                await self._hold(Gate.of(*batch, GateState.HELD, since=self._store.clock.now(), reason=_reason(each)))

    async def note_doubts(self, queue: str, doubts: Sequence[Answer], *, is_clear: bool) -> None:
        """Count the doubts of a queue, which are stored. A clear answer ends their row."""
        if is_clear:
            self._doubts.pop(queue, None)
            return
        now, row = self._store.clock.now(), self._doubts.get(queue)
        if row is None or row.at < now - DOUBTS_COUNT_FOR:
            row = self._doubts[queue] = _Doubts(0, now)
        began = [post.began_at for each in doubts if (post := each.job.last_post) is not None]
        # Those that were on their way when the queue was held say nothing about the time after that.
        new = sum(row.held_at is None or at > row.held_at for at in began)
        row.length, row.at = row.length + new, now
        if not new or row.length < MOST_DOUBTS:
            return
        row.holds, row.held_at = row.holds + 1, now
        until = now + min(FIRST_WAIT * (1 << min(row.holds - 1, 10)), LONGEST_WAIT)
        reason = (
            f"8x8 gave no clear answer, call after call; the last: {doubts[-1].message}. One call is tried at "
            f"{in_words(until)}, and the others go on once 8x8 answers"
        )
        await self._hold(Gate.of(queue, None, GateState.HELD, since=now, until=until, reason=reason))

    async def _hold(self, gate: Gate) -> None:
        try:
            await order_gate(self._store, gate)
        except StoreError as error:
            _log.warning("a queue or batch was not held: the store failed", name=gate.name, error=str(error))
        else:
            _log.error("a queue or batch is held", scope=gate.scope.value, name=gate.name, reason=gate.reason)


def _shows_gone(taken: Answer, code: int, is_summary: bool) -> bool:  # noqa: FBT001 - a key of a count
    """Return whether a call that was taken shows that the cause of refusals with this code is gone."""
    if taken.is_summary is not is_summary:
        return False
    return taken.was_answered or code not in BODY_CODES


def _reason(refused: Answer) -> str:
    code = refused.code or 0
    entry = session_error(code)
    said = f"; 8x8 says: {refused.message}" if refused.message.casefold() not in {"", entry.meaning.casefold()} else ""
    cause = (
        f"8x8 refuses calls from {refused.job.source}: {entry.meaning} ({code}, {MOST_REFUSALS} calls in a row){said}"
    )
    return f"{cause}. {entry.remedy.removesuffix('.')}"
