"""Calls and their outcomes as JSON, in one form for scripts, dashboards, notifications and Airflow."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import orjson
from msgspec import structs

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.values import describe
from voiceflow_worker.model.jobs.job import Job, JobState, Post, ReasonKind
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import NO_SUCH_NUMBER, OPT_OUTS, REACHED, SessionStatus
from voiceflow_worker.model.text.printable import checked_text
from voiceflow_worker.model.text.wording import rfc3339

LONGEST = 8192
"""The largest size of a job's data, in bytes of JSON. The limit is low, because every move of the job transfers it."""


_PLAIN = (str, int, float)


def checked_data(data: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """Return the data as stored; None if there is none. Raise InvalidInputError for data that cannot be stored."""
    if not data:
        return None
    for name, value in data.items():
        if value is not None and not isinstance(value, _PLAIN):
            raise InvalidInputError(
                f"data[{name!r}] is {describe(value)}: values are texts, numbers, true, false or null; "
                "write anything else as text"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInputError(f"data[{name!r}] is {value}, which JSON cannot hold")
        for text in (name, value):
            if isinstance(text, str):
                checked_text(f"data[{name!r}]", text)
    try:
        size = len(orjson.dumps(data))
    except TypeError as error:
        raise InvalidInputError(
            f"data cannot be written as JSON ({error}); use strings as names, and whole numbers of at most 64 bits"
        ) from error
    if size > LONGEST:
        raise InvalidInputError(
            f"data has {size} bytes as JSON, but at most {LONGEST} are allowed; keep the rest in your own system"
        )
    return dict(data)


class CallResult(StrEnum):
    """The result of a call in one word. An answer that has a name is the word instead: see `result_of`."""

    ANSWERED = "answered"
    """The person answered. Keys were not asked for, have no name, or are not known: only the log has the call."""
    NO_KEY = "no_key"
    """The person answered, and pressed nothing although keys were asked for."""
    WRONG_KEY = "wrong_key"
    """The person answered, and pressed only keys that the menu does not have."""
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    DESK_BUSY = "desk_busy"
    """The person answered, and was put through, but the second party did not answer."""
    OPTED_OUT = "opted_out"
    SUPPRESSED = "suppressed"
    """Not called: the number, or that of the second party, is on the suppression list."""
    FAILED = "failed"
    DEAD_NUMBER = "dead_number"
    """The call failed, because the number does not exist, as the network has said."""
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    IN_DOUBT = "in_doubt"
    """The phone may have rung; evidence is looked for."""
    ACCEPTED = "accepted"
    """8x8 placed the call, and its end is not known."""
    OPEN = "open"
    """The call has not ended."""


def is_result(answer: str | None) -> bool:
    """Return whether the name of an answer could be taken for one of these words."""
    return re.sub(r"[\s_-]+", "_", (answer or "").strip().casefold()) in {each.value for each in CallResult}


_ENDS_UNCALLED = {JobState.EXPIRED: CallResult.EXPIRED, JobState.ACCEPTED: CallResult.ACCEPTED}
_UNREACHED = {
    SessionStatus.BUSY: CallResult.BUSY,
    SessionStatus.NO_ANSWER: CallResult.NO_ANSWER,
    SessionStatus.CANCELED: CallResult.NO_ANSWER,
}
_ASKS = f'"{Action.SAY_AND_CAPTURE.value}"'
"""A text in every body that asks for keys. JSON escapes the quotes in other texts."""


def result_of(job: Job) -> str:
    """Return the result of a call in one word: the name of the person's answer, else a `CallResult`.

    A call in progress has a result once its person gives an answer; one that waits is open, whatever came before.
    """
    newest = job.last_post
    is_waiting = job.state in {JobState.QUEUED, JobState.LEASED}
    answer = job.answer if job.state.is_final else None if newest is None or is_waiting else newest.answer
    if answer is not None:
        return answer
    if not job.state.is_final:
        return CallResult.IN_DOUBT if job.state is JobState.IN_DOUBT else CallResult.OPEN
    if job.state is JobState.CANCELLED:
        return CallResult.SUPPRESSED if job.reason_kind is ReasonKind.SUPPRESSED else CallResult.CANCELLED
    if job.state in _ENDS_UNCALLED:
        return _ENDS_UNCALLED[job.state]
    conclusive = reversed(job.conclusive_posts)  # the newest counts
    statuses = {job.status_of(post): post for post in conclusive}
    if not OPT_OUTS.isdisjoint(statuses):
        return CallResult.OPTED_OUT
    if job.state is JobState.FAILED:
        return CallResult.DEAD_NUMBER if sip_code_of(job) in NO_SUCH_NUMBER else CallResult.FAILED
    if job.state is JobState.COMPLETED or SessionStatus.COMPLETED in statuses:
        return _of_answered(job, statuses.get(SessionStatus.COMPLETED))
    status = job.outcome_status
    return CallResult.FAILED if status is None else _UNREACHED.get(status, CallResult.FAILED)


def sip_code_of(job: Job) -> int | None:
    """Return the SIP code with which the newest call of a job failed; None for another end, or if it is not known."""
    post = job.ended_post
    return None if post is None or post.outcome is None else post.outcome.sip_code_of(job.number_of(post))


def _of_answered(job: Job, post: Post | None) -> CallResult:
    """Return the result of a call that the person answered, without an answer that has a name."""
    if post is not None and post.outcome is not None and post.outcome.status not in REACHED:
        return CallResult.DESK_BUSY
    if post is not None and post.presses:
        return CallResult.ANSWERED if any(press.leads_on for press in post.presses) else CallResult.WRONG_KEY
    from_log = post is not None and post.outcome is not None and post.outcome.is_partial  # which has no keys
    asks = job.menu is not None or _ASKS in job.body
    return CallResult.NO_KEY if asks and not from_log else CallResult.ANSWERED


def call_as_json(job: Job) -> dict[str, object]:
    """Return the job with its outcome and every POST. Times are RFC 3339 in UTC."""
    post = job.last_post
    return {
        "id": job.id,
        "queue": job.queue,
        "state": job.state.value,
        "result": str(result_of(job)),
        "unique_key": job.unique_key,
        "batch_id": job.batch_id,
        "source": job.source,
        "destination": job.destination,
        "further_numbers": list(job.further_numbers),
        "priority": job.priority,
        "created_at": rfc3339(job.created_at),
        "due_at": None if job.state.is_final else rfc3339(job.due_at),
        "valid_until": rfc3339(job.valid_until),
        "time_zone": job.time_zone,
        "window": str(job.window) if job.window is not None else None,
        "redials": job.redials,
        "attempt": job.attempt,
        "session_id": job.session_id,
        "client_request_id": post.client_request_id if post else None,
        "outcome": _outcome(job.outcome, of=job),
        "answer": job.answer,
        "data": job.data,
        "menu": job.menu,
        "reason": job.reason,
        "attempts": [_post(each, number=job.number_of(each)) for each in job.posts],
        "notes": [{"at": rfc3339(note.at), "kind": note.kind.value, "text": note.text} for note in job.notes],
    }


def _outcome(outcome: Outcome | None, *, of: Job | Post) -> dict[str, object] | None:
    if outcome is None:
        return None
    return {
        "session_status": outcome.status.value if outcome.status is not None else outcome.status_text,
        "code": outcome.code,
        "message": outcome.message,
        "started_at": rfc3339(outcome.started_at),
        "ended_at": rfc3339(outcome.ended_at),
        "seconds": outcome.seconds,
        "digits": of.digits,
        "answer": of.answer,
        "last_action": outcome.last_action,
        "legs": [_leg(leg) for leg in outcome.legs],
    }


def _leg(leg: CallLeg) -> dict[str, object]:
    return {name: rfc3339(each) if isinstance(each, datetime) else each for name, each in structs.asdict(leg).items()}


def _post(post: Post, *, number: str) -> dict[str, object]:
    return {
        "number": post.number,
        "destination": number,
        "client_request_id": post.client_request_id,
        "began_at": rfc3339(post.began_at),
        "answered_at": rfc3339(post.answered_at),
        "session_id": post.session_id,
        "verdict": post.verdict.value if post.verdict is not None else None,
        "code": post.code,
        "message": post.message,
        "valid_until": rfc3339(post.valid_until),
        "outcome": _outcome(post.outcome, of=post),
        "presses": [
            {"at": rfc3339(press.at), "menu": press.menu, "digits": press.digits, "answer": press.answer}
            for press in post.presses
        ],
    }


LONGEST_REASON = 100
"""The largest number of characters of a counted reason. The text of a person may be longer."""
_COUNTED = {
    ReasonKind.SUPPRESSED: "one of its numbers, or that of a second party, is on the suppression list",
    ReasonKind.SENT_AS_ANOTHER: "the same call may have been placed before the store was rolled back",
}
"""What is counted in place of reasons that differ from call to call by ids, numbers and times."""


def counted_reason(job: Job) -> str | None:
    """Return the reason of a cancelled call, without what differs from call to call; else None."""
    if job.state is not JobState.CANCELLED:
        return None
    if job.reason_kind is not None and job.reason_kind in _COUNTED:
        return _COUNTED[job.reason_kind]
    reason = job.reason or "no reason"
    return reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 1]}…"


class OutcomeKind(StrEnum):
    """The kind of an outcome: of the call, or of one attempt."""

    ENDED = "ended"
    """The call has ended, or a late summary has changed its end from `accepted` to another state."""
    ATTEMPTED = "attempted"
    """One attempt has ended without ending the call: a redial follows, or another attempt has ended the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOutcome:
    """The outcome of a call, or of one attempt. It is delivered at least once, and in order for each call.

    `job` is the call as it is now, and `state` the state that it reached with this outcome. `post` is the number of the
    POST, or 0. `at` is the time at which the outcome was stored, and `sequence` its place in the queue.
    """

    job: Job
    kind: OutcomeKind
    state: JobState
    post: int
    at: datetime
    sequence: int

    @property
    def id(self) -> str:
        """Idempotency key: unique to this outcome, and the same in every delivery.

        Its form is `<queue>_<ulid>_<POST number>_<state, or "attempted">`, without full stops, as Standard Webhooks
        requires. After an opt-out it ends in `_optout`, because that may come in a further summary that does not change
        the state.
        """
        what = self.state.value if self.kind is OutcomeKind.ENDED else self.kind.value
        if self.kind is OutcomeKind.ENDED and self.outcome is not None:
            post = self.job.post(self.post)
            what += "_optout" * (post is not None and self.job.status_of(post) in OPT_OUTS)
        return f"{self.job.id.replace('.', '_')}_{self.post}_{what}"

    @property
    def outcome(self) -> Outcome | None:
        """Outcome of the POST's session; None for a call that ended without one."""
        post = self.job.post(self.post)
        return post.outcome if post is not None else None

    @property
    def type(self) -> str:
        """Event type: `call.ended` or `call.attempted`."""
        return f"call.{self.kind.value}"

    def as_json(self) -> dict[str, object]:
        """Return the outcome as JSON: `data` is the call, `number` that of one of its `attempts`, or 0."""
        return {
            "id": self.id,
            "type": self.type,
            "timestamp": rfc3339(self.at),
            "state": self.state.value,
            "number": self.post,
            "data": call_as_json(self.job),
        }
