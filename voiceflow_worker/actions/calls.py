"""Actions on single calls: cancel, redial, resolve."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from voiceflow_worker.actions import (
    ActionResult,
    OperatorAction,
    Question,
    Several,
    active_holds,
    changed_since,
)
from voiceflow_worker.core.base.identity import queue_of
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import why_refused
from voiceflow_worker.errors import InvalidInputError, UnreadableRecordError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.job import Job, JobState, NoteKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.wording import by_person, in_words, rfc3339
from voiceflow_worker.queue import CheckJob
from voiceflow_worker.reporting.story import one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAction(OperatorAction):
    """An action on one call."""

    call: str

    def about(self) -> Mapping[str, Any]:
        return {"queue": queue_of(self.call), "call": self.call}

    @property
    def label(self) -> str:
        return f"call {self.call}"


class CancelCall(CallAction):
    """The cancellation of a call that was not sent."""

    name_of_action: ClassVar[str] = "cancel"
    several: ClassVar[Several] = Several("Cancel {}?", "cancelled")

    async def question(self) -> Question:
        _, job = await self.operator.call(self.call)
        at = self.operator.store.clock.now()
        if not _is_cancelled(job):
            lifecycle.cancel(job, at=at, reason="", policy=self.operator.policy)
        return Question(
            title=f"Cancel the call to {job.destination}?",
            will_be_called=("Nobody. If the call is sent before you confirm, it is not cancelled.",),
            will_not_be_called=(f"{job.number} is not called, and not redialled.",),
            button="Cancel the call",
            token=token_of(job),
            subject=_named(job),
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        reason = by_person(self.operator.name, self.note, "cancelled")
        job: Job | None = None
        with suppress(UnreadableRecordError):  # a cancel ends it all the same
            _, job = await self.operator.call(self.call)
        if job is not None and _is_cancelled(job):  # it is ordered again after a lost answer
            await confirm(self.operator.store)
            said = f"{one_line(job)}: cancelled already, at {in_words(job.notes[-1].at)}"
            return ActionResult(message=said, documents=(call_as_json(job),))
        job = await self.operator.queue_of(self.call).cancel(self.call, reason=reason, check=_check(token))
        return ActionResult(message=one_line(job), documents=(call_as_json(job),))


def _is_cancelled(job: Job) -> bool:
    return job.state is JobState.CANCELLED and lifecycle.was_cancelled(job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redial(CallAction):
    """The redial of a call that has ended, if its newest POST is `post`. `force` redials a person who was reached."""

    name_of_action: ClassVar[str] = "redial"
    several: ClassVar[Several] = Several("Call the people of {} again?", "will be called again", asks=True)

    force: bool = False
    post: int | None = None

    async def question(self) -> Question:
        _, job = await self.operator.call(self.call)
        again = lifecycle.redial(job, at=self.operator.store.clock.now(), note="", force=True)
        reached = job.state in {JobState.COMPLETED, JobState.ACCEPTED} and not self.force
        consent = ", if you confirm that this person, who was reached, is called again" if reached else ""
        obstacles = tuple(await self._obstacles(job))
        return Question(
            title=f"Call {job.destination} again?",
            will_be_called=(f"{job.destination} rings again, at {in_words(again.due_at)} or later{consent}.",),
            will_not_be_called=obstacles or ("Nothing else changes.",),
            button="Call again",
            token=token_of(job),
            subject=_named(job),
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        calls, job = await self.operator.call(self.call)
        number = job.post_count if self.post is None else self.post
        note = by_person(self.operator.name, self.note, "called again")
        if job.state in {JobState.QUEUED, JobState.LEASED} and _is_decided(job, NoteKind.REDIALLED, self.post):
            await confirm(self.operator.store)
        else:
            job = await calls.redial(job.id, note=note, force=self.force, post=number, check=_check(token))
        return _about_post(f"{job.destination} will be called again at {in_words(job.due_at)} or later", job, number)

    async def _obstacles(self, job: Job) -> list[str]:
        """Return sentences about everything that prevents the call at present."""
        store = self.operator.store
        refusal = why_refused(job, await SuppressionList(store).entries_of(job.parties))
        end = "The call will be cancelled before it is sent."
        listed = [] if refusal is None else [f"The phone will not ring: {refusal[1]}. {end}"]
        return listed + await active_holds(store, job.queue, job.batch_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve(CallAction):
    """A person's decision about a call in doubt, by its POST number `post`: it was `placed`, or not.

    The note says how they know.
    """

    name_of_action: ClassVar[str] = "resolve"
    several: ClassVar[Several] = Several("Resolve {} in doubt?", "resolved as {0.verdict}", asks=True)

    placed: bool = True
    post: int | None = None
    recorded_at: datetime | None = None
    """The time by the clock of 8x8, if it is known. "Not placed" is refused while 8x8 may still place the call."""

    @property
    def verdict(self) -> str:
        """Decision of the person."""
        return "placed" if self.placed else "not placed"

    async def question(self) -> Question:
        """Make the question, for both decisions. Raises JobError for a call that is not in doubt."""
        _, job = await self.operator.call(self.call)
        now, policy = self.operator.store.clock.now(), self.operator.policy
        lifecycle.resolve(job, placed=True, at=now, recorded_at=now, note="", policy=policy)
        since, post = decidable_from(job, policy), job.open_post
        early = f"8x8 may still place the call to {job.number}. “It was not placed” is refused until "
        return Question(
            title=f"Resolve the call to {job.number}, which is in doubt?",
            will_be_called=(
                "“It was not placed” puts a call back in the queue; its phone rings. If you are wrong, it rings twice.",
                *([f"{early}{in_words(since)}."] if since is not None and now <= since else []),
            ),
            will_not_be_called=("“It was placed” ends a call as accepted, so its phone does not ring again.",),
            button="Resolve",
            facts=() if post is None else (f"{job.id} {job.number}: POST {post.number}, {in_words(post.began_at)}",),
            token="" if post is None else str(post.number),
            subject=_named(job),
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        if not (self.note or "").strip():
            raise InvalidInputError("write how you know what happened; the note is stored with the call")
        calls, job = await self.operator.call(self.call)
        newest = None if job.open_post is None else job.open_post.number
        if token is not None and token != str(newest):
            raise changed_since(self.label, now=one_line(job))
        number = newest if self.post is None else self.post
        note = by_person(self.operator.name, self.note, "resolved")
        if self.placed == (job.state is JobState.ACCEPTED) and _is_decided(job, NoteKind.RESOLVED, self.post):
            await confirm(self.operator.store)
        else:
            job = await calls.resolve(job.id, placed=self.placed, note=note, recorded_at=self.recorded_at, post=number)
        return _about_post(f"the call to {job.number} is resolved as {self.verdict}", job, number)


def _is_decided(job: Job, decided: NoteKind, post: int | None) -> bool:
    """Return whether the last thing that people decided about a call was this, after this POST: it is ordered again."""
    return post is not None and job.post_count == post and bool(job.notes) and job.notes[-1].kind is decided


def _named(job: Job) -> str:
    return f"{job.destination} {job.name}".strip()


def decidable_from(job: Job, policy: CallPolicy) -> datetime | None:
    """Return the time from which 8x8 cannot place a call in doubt any more; None if the call is not in doubt."""
    post = job.open_post
    return None if post is None else post.valid_until + policy.clock_skew


def token_of(job: Job) -> str:
    """Return what a person has seen of a call: a text that stays while a worker has it, and has not sent it yet."""
    state = JobState.QUEUED if job.state is JobState.LEASED else job.state
    return f"{state} {job.post_count} {len(job.notes)} {rfc3339(job.notes[-1].at) if job.notes else '-'}"


def _check(token: str | None) -> CheckJob:
    """Make the check that a call is as it was shown."""

    def require_same(job: Job) -> None:
        if token is not None and token_of(job) != token:
            raise changed_since(f"call {job.id}", now=one_line(job))

    return require_same


def _about_post(said: str, job: Job, number: int | None) -> ActionResult:
    """Return the result of a decision about a POST of a call."""
    document, lines = call_as_json(job), [one_line(job)]
    if number is not None and (judged := job.post(number)) is not None:
        document["judged_post"] = {"number": judged.number, "began_at": rfc3339(judged.began_at)}
        lines.append(f"the decision was about POST {judged.number}, begun at {in_words(judged.began_at)}")
    return ActionResult(message=said, documents=(document,), lines=tuple(lines))
