"""Outcomes of calls and of attempts, for programs, and why a call was cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.records.call_json import call_as_json
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS
from voiceflow_worker.model.text.wording import rfc3339

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


class OutcomeKind(StrEnum):
    """The kind of an outcome: of the call, or of one attempt."""

    ENDED = "ended"
    """The call has ended, or a late summary has changed its end from `accepted` to another state."""
    ATTEMPTED = "attempted"
    """One attempt has ended without ending the call: a redial follows, or another attempt has ended the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOutcome:
    """The outcome of a call, or of one attempt. It is delivered at least once, and in order for each call.

    `job` is the call as it is now, and `state` the state that it reached with this outcome; the two may differ. `post`
    is the number of the POST, or 0 for a call that ended without one. `at` is the time at which the outcome was stored,
    and `sequence` the place of the outcome among those of the queue.
    """

    job: Job
    kind: OutcomeKind
    state: JobState
    post: int
    at: datetime
    sequence: int

    @property
    def id(self) -> str:
        """The idempotency key: unique to this outcome, and the same in every delivery.

        Its form is `<queue>_<ulid>_<POST number>_<state, or "attempted">`, without full stops, as Standard Webhooks
        requires for a `webhook-id`. A late summary that makes an `accepted` call `completed` gives another outcome;
        a repeated summary gives none. After an opt-out the id ends in `_optout`, because the opt-out may come in a
        further summary that does not change the state. If an earlier outcome is delivered again after that,
        it has this id too.
        """
        what = self.state.value if self.kind is OutcomeKind.ENDED else self.kind.value
        if self.kind is OutcomeKind.ENDED and self.outcome is not None:
            what += "_optout" * (self.outcome.status_of(self.job.destination) in OPT_OUTS)
        return f"{self.job.id.replace('.', '_')}_{self.post}_{what}"

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the POST's session; None for a call that ended without one."""
        post = self.job.post(self.post)
        return post.outcome if post is not None else None

    @property
    def type(self) -> str:
        """The event type: `call.ended` or `call.attempted`."""
        return f"call.{self.kind.value}"

    def as_json(self) -> dict[str, object]:
        """The outcome as JSON. `data` is the call, and `number` the POST number of one of its `attempts`, or 0."""
        return {
            "id": self.id,
            "type": self.type,
            "timestamp": rfc3339(self.at),
            "state": self.state.value,
            "number": self.post,
            "data": call_as_json(self.job),
        }
