"""The steps of one call so far, for `voiceflow call` and `voiceflow doctor --call`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from voiceflow_worker.cli.checks.diagnosis import Diagnosis, failure, ok, warning
from voiceflow_worker.core.events.progress import Heard
from voiceflow_worker.core.overview.story import ending, progress_in_words
from voiceflow_worker.model.jobs.job import Job, JobState, Post
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import api_code, session_error, session_status
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.model.text.moment import in_words, rfc3339
from voiceflow_worker.model.text.printable import printable_line

_LISTEN = "to receive outcomes, set VOICEFLOW_OUTCOMES=webhook and run `voiceflow serve`"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a call, or the reason why the call does not go on."""

    name: str
    at: datetime
    result: Diagnosis

    def as_json(self) -> dict[str, object]:
        """The step for scripts."""
        result = self.result.as_json()
        del result["check"]
        return {"step": self.name, "at": rfc3339(self.at), **result}

    def as_line(self) -> str:
        """The step for people, with its remedy on a line of its own."""
        line = printable_line(f"{self.at.astimezone(UTC):%H:%M:%S}  {self.name:<10}  {self.result.message}")
        remedy = self.result.remedy
        return line if remedy is None else f"{line}\n{' ' * 22}-> {printable_line(remedy)}"


def steps_of(job: Job, *, heard: Heard, now: datetime) -> list[Step]:
    """The steps of this call up to `now`, in order. `heard` has the states of its legs and its recordings."""
    until = "" if job.valid_until is None else f", valid until {in_words(job.valid_until)}"
    enqueued = f"{job.id} from {job.source} to {job.destination}, batch {job.batch_id}{until}"
    steps = [Step("enqueued", job.created_at, ok(enqueued))]
    for post in job.posts:
        steps += _sent(post)
    steps += [Step("phone", at, ok(line)) for at, line in progress_in_words(heard)]
    steps.sort(key=lambda step: step.at)
    return [*steps, *(Step(name, now, result) for name, result in _standing(job))]


def _sent(post: Post) -> Iterator[Step]:
    yield Step("journalled", post.began_at, ok(f"request {post.client_request_id} is stored, and is sent now"))
    at = post.answered_at or post.began_at
    match post.verdict:
        case None:
            return
        case VerdictKind.CREATED:
            yield Step("accepted", at, ok(f"8x8 accepted the call: session {post.session_id}; the phone should ring"))
        case VerdictKind.REFUSED if post.code is not None and post.code < 0:
            entry = api_code(post.code)
            refusal = failure(f"8x8 refused the call: {post.code}, {entry.meaning}", remedy=entry.remedy or None)
            yield Step("refused", at, refusal)
        case VerdictKind.REFUSED:
            yield Step("refused", at, failure(f"8x8 refused the call: {post.message or 'it gave no reason'}"))
        case _:
            message = f"{post.verdict.value.replace('_', ' ')}: {post.message or 'no reason was given'}"
            yield Step("answer", at, warning(message))


def _standing(job: Job) -> Iterator[tuple[str, Diagnosis]]:
    """The last step, by name and result: how the call ended, or why it waits. Nothing if neither is known."""
    if job.outcome is not None:
        yield "summary", _summary(job, job.outcome)
        return
    reason = job.reason or "no reason is known"
    match job.state:
        case JobState.QUEUED if job.reason is not None:
            yield "waits", warning(job.reason)
        case JobState.IN_DOUBT:
            yield (
                "in doubt",
                warning(f"the call may have been placed, and is not sent again without evidence ({reason})"),
            )
        case JobState.EXPIRED | JobState.CANCELLED:
            yield job.state.value, failure(f"nobody was called: {reason}")
        case JobState.ACCEPTED:
            yield "accepted", failure("8x8 accepted the call, and its outcome is unknown", remedy=_LISTEN)
        case JobState.FAILED if not any(post.verdict is VerdictKind.REFUSED for post in job.posts):
            yield "failed", failure(reason)
        case _:
            return


def _summary(job: Job, outcome: Outcome) -> Diagnosis:
    status = outcome.status_of(job.destination)
    entry = None if status is None else session_status(status)
    text = f"summary received: {ending(job)}" + ("" if entry is None else f", {entry.meaning}")
    if job.state is JobState.COMPLETED:
        return ok(text)
    remedy = None if entry is None else entry.remedy
    if outcome.code is not None:
        error = session_error(outcome.code)
        text, remedy = f"{text}: {error.meaning}", error.remedy or remedy
    return failure(text, remedy=remedy or None)
