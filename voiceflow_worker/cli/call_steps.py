"""The steps of one call so far, for `doctor --call`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from voiceflow_worker.cli.checks.diagnosis import Level
from voiceflow_worker.core.events.progress import Heard
from voiceflow_worker.core.overview.progress_text import progress_in_words
from voiceflow_worker.core.overview.story import ending
from voiceflow_worker.model.jobs.job import Job, JobState, Post
from voiceflow_worker.model.records.call_json import rfc3339
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import api_code, session_error, session_status
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.model.text.moment import in_words
from voiceflow_worker.model.text.printable import printable_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happened, or that keeps the call from going on, and what to do about it."""

    name: str
    at: datetime
    message: str
    level: Level = Level.OK
    remedy: str | None = None

    @property
    def is_same_as(self) -> tuple[str, str]:
        """What tells one step from another, whenever it is looked at."""
        return self.name, self.message

    def as_json(self) -> dict[str, object]:
        """The step for scripts."""
        return {
            "step": self.name,
            "at": rfc3339(self.at),
            "level": self.level.value,
            "message": self.message,
            "remedy": self.remedy,
        }

    def as_line(self) -> str:
        """The step for people, its remedy on a line of its own."""
        line = f"{self.at.astimezone(UTC):%H:%M:%S}  {self.name:<10}  {self.message}"
        indent = " " * 22
        return printable_line(line) + ("" if self.remedy is None else f"\n{indent}-> {printable_line(self.remedy)}")


def failed(name: str, at: datetime, message: str, *, remedy: str | None = None) -> Step:
    """A step that was not taken."""
    return Step(name=name, at=at, message=message, level=Level.FAILURE, remedy=remedy)


def steps_of(job: Job, *, heard: Heard, now: datetime) -> list[Step]:
    """What has happened to this call by `now`, in order."""
    steps = [_enqueued(job)]
    for post in job.posts:
        steps += _sent(post)
    steps += [Step(name="phone", at=at, message=line) for at, line in progress_in_words(heard)]
    steps.sort(key=lambda step: step.at)
    steps += _standing(job, now=now)
    return steps


def _enqueued(job: Job) -> Step:
    until = "" if job.valid_until is None else f", valid until {in_words(job.valid_until)}"
    return Step(
        name="enqueued",
        at=job.created_at,
        message=f"{job.id} from {job.source} to {job.destination}, batch {job.batch_id}{until}",
    )


def _sent(post: Post) -> Iterator[Step]:
    yield Step(name="journalled", at=post.began_at, message=f"{post.client_request_id} is in the store, and leaves")
    at = post.answered_at or post.began_at
    match post.verdict:
        case None:
            return
        case VerdictKind.CREATED:
            yield Step(name="accepted", at=at, message=f"8x8 took it: session {post.session_id}; the phone should ring")
        case VerdictKind.REFUSED:
            if post.code is not None and post.code < 0:
                entry = api_code(post.code)
                yield failed(
                    "refused", at, f"8x8 refused it: {post.code}, {entry.meaning}", remedy=entry.remedy or None
                )
            else:
                yield failed("refused", at, f"8x8 refused it: {post.message or 'it did not say why'}")
        case _:
            message = f"{post.verdict.value.replace('_', ' ')}: {post.message or 'no reason was given'}"
            yield Step(name="answer", at=at, message=message, level=Level.WARNING)


def _standing(job: Job, *, now: datetime) -> Iterator[Step]:
    """How it ended, or what it waits for."""
    if job.outcome is not None:
        yield _summary(job, job.outcome, now=now)
        return
    reason = job.reason or "no reason is known"
    match job.state:
        case JobState.QUEUED if job.reason is not None:
            yield Step(name="waits", at=now, message=job.reason, level=Level.WARNING)
        case JobState.IN_DOUBT:
            message = f"it may have been placed, and is not sent again ({reason}); its summary would tell"
            yield Step(name="in doubt", at=now, message=message, level=Level.WARNING)
        case JobState.EXPIRED:
            yield failed("expired", now, f"it was not called: {reason}")
        case JobState.CANCELLED:
            yield failed("cancelled", now, f"it was not called: {reason}")
        case JobState.ACCEPTED:
            yield failed("accepted", now, "8x8 took it, and nothing tells how it ended", remedy=_LISTEN)
        case JobState.FAILED if not any(post.verdict is VerdictKind.REFUSED for post in job.posts):
            yield failed("failed", now, reason)
        case _:
            return


_LISTEN = "VOICEFLOW_OUTCOMES=webhook and `voiceflow serve` tell how calls end"


def _summary(job: Job, outcome: Outcome, *, now: datetime) -> Step:
    status = outcome.status_of(job.destination)
    entry = None if status is None else session_status(status)
    text = f"summary came: {ending(job)}" + ("" if entry is None else f", {entry.meaning}")
    if job.state is JobState.COMPLETED:
        return Step(name="summary", at=now, message=text)
    remedy = None if entry is None else entry.remedy
    if outcome.code is not None:
        error = session_error(outcome.code)
        text, remedy = f"{text}: {error.meaning}", error.remedy or remedy
    return failed("summary", now, text, remedy=remedy or None)
