"""The action of a person who resolves calls in doubt."""

from __future__ import annotations

from datetime import datetime

from voiceflow_worker.errors import InvalidInputError, JobError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.moment import in_words
from voiceflow_worker.model.text.who import by_person
from voiceflow_worker.webhooks.pages.actions.action import (
    ActionDone,
    Confirmation,
    FieldKind,
    FormField,
    PageAction,
    call_page,
    command,
    reason_field,
    reason_in,
)
from voiceflow_worker.webhooks.pages.sign_in.forms import PageForm

INBOX = "doubts"
MOST_AT_ONCE = 100
_PLACED, _NOT_PLACED = "placed", "not-placed"


class ResolveAction(PageAction):
    """The resolution of one or several doubts, with a note."""

    name = "resolve"

    def command(self, subject: PageForm) -> str:
        """The command `voiceflow calls resolve`, for the first of the calls."""
        return command("calls", "resolve", subject.one("call")) + " --placed|--not-placed --note …"

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action. Raises JobError for a call that is not in doubt."""
        jobs = await self._jobs(subject)
        now = self._acting.store.clock.now()
        for job in jobs:
            lifecycle.resolve(job, placed=True, at=now, witnessed=now, note="", policy=self._acting.policy)
        early = [_early(job, decidable_from(job, self._acting.policy), now) for job in jobs]
        named = f"the call to {jobs[0].destination}, which is" if len(jobs) == 1 else f"{len(jobs)} calls"
        return Confirmation(
            title=f"Resolve {named} in doubt?",
            rings=(
                "“It was not placed” puts a call back in the queue; its phone rings. If you are wrong, it rings twice.",
                *filter(None, early),
            ),
            silent=("“It was placed” ends a call as accepted, so its phone does not ring again.",),
            button="Resolve",
            fields=(
                FormField(
                    name="verdict",
                    label="What happened",
                    kind=FieldKind.CHOICE,
                    value=subject.one("verdict"),
                    required=True,
                    options=((_PLACED, "It was placed"), (_NOT_PLACED, "It was not placed")),
                ),
                reason_field("How you know", subject, name="note", required=True),
            ),
            subject=tuple(pair for job in jobs for pair in (("call", job.id), ("post", _in_doubt(job)))),
            back=INBOX if len(jobs) > 1 else call_page(jobs[0].id),
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Resolve the calls. A call that cannot be resolved yet stays in doubt, and is named in the result.

        A call also stays in doubt if its POST in doubt is no longer the one that the person saw and decided about.
        """
        verdict, note = form.one("verdict"), reason_in(form, "note")
        if verdict not in {_PLACED, _NOT_PLACED}:
            raise InvalidInputError("choose what happened: the call was placed, or it was not placed")
        if not note:
            raise InvalidInputError("write how you know what happened; the note is stored with the call")
        placed, witnessed = verdict == _PLACED, None
        if not placed and self._acting.time_at_8x8 is not None:
            witnessed = await self._acting.time_at_8x8()
        done: list[Job] = []
        refused: list[str] = []
        shown = form.all("post")
        for job in await self._jobs(form):
            if job.state is JobState.IN_DOUBT and _in_doubt(job) not in shown:
                refused.append(f"{job.id} now has a different POST in doubt, {_in_doubt(job)}; look for it at 8x8")
                continue
            try:
                queue, _ = await self._acting.call(job.id)
                signed, post = by_person(who, note, "resolved"), job.open_post
                number = None if post is None else post.number
                done.append(await queue.resolve(job.id, placed=placed, note=signed, witnessed=witnessed, post=number))
            except JobError as error:
                refused.append(str(error))
        if not done:
            raise InvalidInputError("; ".join(refused))
        said = f"{count_of(len(done), 'call')} resolved as {verdict.replace('-', ' ')}"
        return ActionDone("; ".join([said, *refused]), call_page(done[0].id) if len(done) == 1 else INBOX)

    async def _jobs(self, form: PageForm) -> list[Job]:
        ids = form.all("call")
        if not ids:
            raise InvalidInputError("no call was chosen; tick the calls to resolve")
        if len(ids) > MOST_AT_ONCE:
            raise InvalidInputError(f"{len(ids)} calls are too many; resolve at most {MOST_AT_ONCE} at once")
        return [(await self._acting.call(job_id))[1] for job_id in ids]


def _in_doubt(job: Job) -> str:
    """The `clientRequestId` of the POST in doubt."""
    post = job.open_post
    return "" if post is None else post.client_request_id


def decidable_from(job: Job, policy: CallPolicy) -> datetime | None:
    """The time from which a person may say that a call in doubt was not placed, because 8x8 can no longer place it.

    None if the call is not in doubt.
    """
    post = job.open_post
    return None if post is None else post.valid_until + policy.clock_skew


def _early(job: Job, since: datetime | None, now: datetime) -> str | None:
    if since is None or now > since:
        return None
    return f"8x8 may still place the call to {job.destination}. “It was not placed” is refused until {in_words(since)}."
