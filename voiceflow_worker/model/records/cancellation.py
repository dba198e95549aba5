"""The reasons for which calls were cancelled, as reports count them."""

from __future__ import annotations

from voiceflow_worker.model.jobs.job import Job, JobState

LISTED = "on the suppression list"
"""A part of the reason of every call whose number, or the number of a second party, is on the suppression list."""
SENT_AS = "the same call may have been placed as"
"""The beginning of the reason of a call that may have been placed under another id, before the store was set back."""
KNOWN_AS = "the other copy of the store has this call under the id"
"""The beginning of the reason of a call that has another id in the other copy of a restore."""

LONGEST = 100
"""The largest number of characters of a counted reason. The text of a person may be longer."""
_DIFFERENT = {
    f" been {LISTED} since ": f"its number, or that of a second party, is {LISTED}",
    SENT_AS: "the same call may have been placed before the store was set back",
    KNOWN_AS: "the other copy of the store has this call under another id",
}
"""Parts of reasons that differ from call to call by ids, numbers and times, and the reasons that are counted."""


def counted_reason(job: Job) -> str | None:
    """The reason of a cancelled call, without what differs from call to call; None if the call is not cancelled."""
    if job.state is not JobState.CANCELLED:
        return None
    reason = job.reason or "no reason"
    for part, counted in _DIFFERENT.items():
        if part in reason:
            return counted
    return reason if len(reason) <= LONGEST else f"{reason[: LONGEST - 1]}…"
