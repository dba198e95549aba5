"""The actions on calls: cancel one, redial one, and resolve calls in doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from voiceflow_worker.acts import Act, ActRefusedError, CancelCall, Operator, Question, Redial, Resolve
from voiceflow_worker.errors import InvalidInputError, JobError
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.webhooks.pages.actions.action import (
    ActionDone,
    Confirmation,
    FormField,
    PageAction,
    call_page,
    page_of,
    reason_field,
    reason_in,
)
from voiceflow_worker.webhooks.pages.sign_in.sessions import PageForm

INBOX = "doubts"
MOST_AT_ONCE = 100
_CALLED = frozenset({JobState.COMPLETED, JobState.ACCEPTED})
_PLACED, _NOT_PLACED = "placed", "not-placed"


class CancelCallAction(PageAction):
    """The cancellation of a call that was not sent."""

    name: ClassVar[str] = "cancel-call"
    words: ClassVar[str] = "calls cancel"
    argument: ClassVar[str] = "call"
    options: ClassVar[str] = "--reason …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return CancelCall(operator=operator, call=form.one("call"), note=reason_in(form))


class RedialAction(PageAction):
    """The redial of a call that has ended."""

    name: ClassVar[str] = "redial"
    words: ClassVar[str] = "calls redial"
    argument: ClassVar[str] = "call"
    options: ClassVar[str] = "--note …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        force = form.one("force") == "yes"
        return Redial(operator=operator, call=form.one("call"), note=reason_in(form, "note"), force=force)

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        _, job = await self._operator.call(form.one("call"))
        label = "Call again, although this person was reached"
        force = (FormField(name="force", label=label, kind="tick"),) if job.state in _CALLED else ()
        return (*await PageAction.fields(self, form), *force)


class ResolveAction(PageAction):
    """The resolution of one or several doubts, with a note."""

    name: ClassVar[str] = "resolve"
    words: ClassVar[str] = "calls resolve"
    argument: ClassVar[str] = "call"
    options = "--placed|--not-placed --note …"
    room = INBOX

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return self._each(form, operator)[0]

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        return (
            FormField(
                name="verdict",
                label="What happened",
                kind="choice",
                value=form.one("verdict"),
                required=True,
                options=((_PLACED, "It was placed"), (_NOT_PLACED, "It was not placed")),
            ),
            reason_field("How you know", form, name="note", required=True),
        )

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question about all of the calls. Raises JobError for a call that is not in doubt."""
        acts = self._each(subject, self._operator)
        asked = [await act.question() for act in acts]
        question = asked[0]
        if len(asked) > 1:
            jobs = [(await self._operator.call(act.call))[1] for act in acts]
            numbers = ", ".join(f"{job.destination} {job.name}".strip() for job in jobs)
            lines = [f"You decide about {numbers}.", *(line for each in asked for line in each.rings)]
            question = Question(
                title=f"Resolve {len(asked)} calls in doubt?",
                rings=tuple(dict.fromkeys(lines)),
                silent=question.silent,
                button=question.button,
            )
        shown = [(("call", act.call), (f"seen {act.call}", each.seen)) for act, each in zip(acts, asked, strict=True)]
        return Confirmation(
            question=question,
            fields=await self.fields(subject),
            subject=tuple(pair for pairs in shown for pair in pairs),
            back=page_of(subject, otherwise=INBOX),
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Resolve the calls. A call that cannot be resolved yet stays in doubt, and is named in the result.

        A call also stays in doubt if its POST in doubt is no longer the one that the person saw and decided about.
        """
        verdict = form.one("verdict")
        if verdict not in {_PLACED, _NOT_PLACED}:
            raise InvalidInputError("choose what happened: the call was placed, or it was not placed")
        operator = replace(self._operator, name=who)
        witnessed = None
        if verdict == _NOT_PLACED and operator.time_at_8x8 is not None:
            witnessed = await operator.time_at_8x8()
        done, refused = list[str](), list[str]()
        for act in self._each(form, operator):
            try:
                await replace(act, witnessed=witnessed).do(form.one(f"seen {act.call}"))
                done.append(act.call)
            except (ActRefusedError, JobError) as error:
                refused.append(str(error))
        if not done:
            raise InvalidInputError("; ".join(refused))
        said = f"{count_of(len(done), 'call')} resolved as {verdict.replace('-', ' ')}"
        return ActionDone("; ".join([said, *refused]), call_page(done[0]) if len(done) == 1 else INBOX)

    def _each(self, form: PageForm, operator: Operator) -> list[Resolve]:
        calls, note = form.all("call"), reason_in(form, "note")
        if not calls:
            raise InvalidInputError("no call was chosen; tick the calls to resolve")
        if len(calls) > MOST_AT_ONCE:
            raise InvalidInputError(f"{len(calls)} calls are too many; resolve at most {MOST_AT_ONCE} at once")
        placed = form.one("verdict") == _PLACED
        return [Resolve(operator=operator, call=call, note=note, placed=placed) for call in calls]
