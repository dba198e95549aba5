"""The actions on queues and batches: hold, resume, cancel a batch, and redial a batch."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import ClassVar

import anyio

from voiceflow_worker.acts import Act, CancelBatch, Hold, Operator, Question, RedialBatch, Resume
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.policy import read_redial_on
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.webhooks.pages.actions.action import (
    ActionDone,
    Confirmation,
    FormField,
    PageAction,
    duration_in,
    page_of,
    reason_field,
    reason_in,
)
from voiceflow_worker.webhooks.pages.sign_in.sessions import PageForm

COUNTING_LIMIT = timedelta(seconds=25)
REDIALLING_LIMIT = timedelta(seconds=30)
"""The time limit of a redial. After a refused redial the calls are counted again, so this limit and `COUNTING_LIMIT`
together must stay below the time limit of an action."""
_OUTCOMES = {"no_answer": "no answer", "busy": "busy", "canceled": "canceled", "failed": "failed or error"}
"""The outcomes that can be redialled, as `--outcome` names them, with their labels."""


class HoldAction(PageAction):
    """The hold of a queue or of one batch."""

    name: ClassVar[str] = "hold"
    words: ClassVar[str] = "hold"
    options: ClassVar[str] = "--reason …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return Hold(
            operator=operator,
            queue=form.one("queue"),
            batch=form.exactly("batch") or None,
            reason=reason_in(form),
            lasts=duration_in(form, label="resume after"),
        )

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        text = "Such as 10m or 2h. Leave this empty to hold until somebody resumes."
        lasts = FormField(name="for", label="Resume automatically after", value=form.one("for"), help=text)
        return (reason_field("Reason", form), lasts)


class ResumeAction(PageAction):
    """The resumption of a held queue or batch."""

    name: ClassVar[str] = "resume"
    words: ClassVar[str] = "resume"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return Resume(operator=operator, queue=form.one("queue"), batch=form.exactly("batch") or None)


class CancelBatchAction(PageAction):
    """The cancellation of a batch. It cannot be undone."""

    name: ClassVar[str] = "cancel-batch"
    words: ClassVar[str] = "calls cancel"
    options: ClassVar[str] = "--reason …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        batch = form.exactly("batch") or None
        return CancelBatch(operator=operator, queue=form.one("queue"), batch=batch, reason=reason_in(form))


class RedialBatchAction(PageAction):
    """The redial of a batch by outcome. A person first chooses outcomes, and then sees how many phones will ring."""

    name: ClassVar[str] = "redial-batch"
    words: ClassVar[str] = "calls redial"
    options: ClassVar[str] = "--outcome {outcome} --note …"
    hidden: ClassVar[tuple[str, ...]] = ("queue", "batch", "outcome", "times")

    async def made(self, form: PageForm, operator: Operator) -> RedialBatch:
        return RedialBatch(
            operator=operator,
            queue=form.one("queue"),
            batch=form.exactly("batch") or None,
            reason=reason_in(form, "note"),
            outcomes=form.all("outcome"),
            times=_times(form),
        )

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action, with a count of the calls; without outcomes, the choice of outcomes."""
        if not subject.all("outcome"):
            return await self._choice(subject)
        too_long = f"the batch has too many calls to be counted here; run this command instead: {self.command(subject)}"
        async with _within(COUNTING_LIMIT, too_long):
            return await PageAction.confirmation(self, subject)

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Put the counted calls back into the queue, and no other calls."""
        too_long = "not all calls were redialled in time: redial the batch again; no call is redialled twice"
        async with _within(REDIALLING_LIMIT, too_long):
            return await PageAction.act(self, form, who=who)

    async def _choice(self, form: PageForm) -> Confirmation:
        act = await self.made(form, self._operator)
        batch, _ = act.name, await act.counted()
        counts = (await self._operator.store.totals(act.queue, batch=batch)).outcomes
        found = {word: sum(counts.get(status.value, 0) for status in read_redial_on(word)) for word in _OUTCOMES}
        options = tuple(
            (word, f"{words}: {count_of(found[word], 'call')}") for word, words in _OUTCOMES.items() if found[word]
        )
        if not options:
            raise InvalidInputError(f"no call of batch {batch} has ended in a way that can be redialled")
        return Confirmation(
            question=Question(
                title=f"Redial calls of batch {batch}",
                rings=("No phone yet. The next page says how many phones will ring, and asks again.",),
                silent=("Calls in doubt, calls that were answered, and people who opted out.",),
                button="Count them",
            ),
            fields=(
                FormField(name="outcome", label="Calls that ended with", kind="ticks", options=options),
                FormField(
                    name="times",
                    label="Largest number of redials by people, for each call",
                    value="1",
                    help="With 1, calls that somebody redialled before are left out.",
                ),
            ),
            subject=tuple(form.some("queue", "batch")),
            back=page_of(form),
            is_step=True,
        )


@asynccontextmanager
async def _within(limit: timedelta, otherwise: str) -> AsyncGenerator[None]:
    """Cancel the block after `limit`, and raise an InvalidInputError whose message is `otherwise`."""
    with anyio.move_on_after(limit.total_seconds()) as scope:
        yield
    if scope.cancelled_caught:
        raise InvalidInputError(otherwise)


def _times(form: PageForm) -> int:
    text = form.one("times") or "1"
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 4 and int(text)):
        raise InvalidInputError(f"{text[:20]!r} is not a number of redials; give 1 to 999")
    return int(text)
