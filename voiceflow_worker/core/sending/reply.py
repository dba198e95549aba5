"""Replies to POSTs: verdicts, and the holds that answers cause."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.reports.outcome import MISSED_WINDOW_CODES
from voiceflow_worker.model.reports.verdict import Hold, Verdict
from voiceflow_worker.model.text.wording import duration_in_words


@dataclass(slots=True)
class Reply:
    """The verdict of one POST, kept until it is stored.

    The values are computed once. If each try to store them computed them again, a correct clock would look wrong beside
    the time in the old answer, and each hold would start again. `gate` is a hold that is not stored yet, and
    `held_until` is the end of a stored hold.
    """

    verdict: Verdict
    at: datetime
    gate: Gate | None = None
    held_until: datetime | None = None


def hold_of(verdict: Verdict, *, sent_at: datetime, answered_at: datetime, clock_skew: timedelta) -> Hold | None:
    """The hold that follows from an answer to a POST that left at `sent_at`.

    A missed submit window (-1015, -2007) means a slow network, or a clock that is wrong. The Date header of the answer
    shows which of the two it is: 8x8 wrote it after the POST had left and before the answer arrived.
    """
    if verdict.hold is not None:
        return verdict.hold
    date = verdict.server_date
    if verdict.code not in MISSED_WINDOW_CODES or date is None:
        return None
    off = max(date - answered_at, timedelta()) + min(date - sent_at, timedelta())
    if abs(off) <= clock_skew:
        return None
    return Hold(
        reason=f"the clock of this machine is {duration_in_words(abs(off))} "
        f"{'behind' if off > timedelta() else 'ahead of'} the clock of 8x8; set the clock (NTP), then resume the queue",
        until_opened=True,
    )
