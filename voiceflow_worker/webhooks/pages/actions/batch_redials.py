"""The action that redials the calls of a batch that ended with certain outcomes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import anyio

from voiceflow_worker.core.overview.gate_story import gate_in_words
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.redial import read_redial_on
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.who import by_person
from voiceflow_worker.webhooks.pages.actions.action import (
    ActionDone,
    Confirmation,
    FieldKind,
    FormField,
    PageAction,
    batch_page,
    command,
    reason_field,
    reason_in,
)
from voiceflow_worker.webhooks.pages.actions.holds import named_batch
from voiceflow_worker.webhooks.pages.sign_in.forms import PageForm

COUNT_HOLDS = timedelta(minutes=15)
"""The time for which a count of calls is valid. After that, the calls are counted again."""
COUNTING_LIMIT = timedelta(seconds=25)
REDIALLING_LIMIT = timedelta(seconds=30)
"""The time limit of a redial. After a refused redial the calls are counted again, so this limit and `COUNTING_LIMIT`
together must stay below the time limit of an action."""
_OUTCOMES = {"no_answer": "no answer", "busy": "busy", "canceled": "canceled", "failed": "failed or error"}
"""The outcomes that can be redialled, as `--outcome` names them, with their labels."""
_DOUBTS = "Calls in doubt, calls that were answered, and people who opted out."


class RedialBatchAction(PageAction):
    """The redial of a batch by outcome. A person first chooses outcomes, and then sees how many phones will ring."""

    name = "redial-batch"

    def command(self, subject: PageForm) -> str:
        outcomes = ",".join(subject.all("outcome")) or "no_answer"
        return command(
            "calls", "redial", queue=subject.one("queue"), batch=subject.exactly("batch"), outcome=outcomes, note="…"
        )

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action, with a count of the calls; without outcomes, the choice of outcomes.

        Raises InvalidInputError if no call can be redialled.
        """
        queue, batch, _ = await named_batch(self._acting, subject)
        outcomes = subject.all("outcome")
        if not outcomes:
            return await self._choice(queue, batch)
        at, times = queue.store.clock.now(), _times(subject)
        too_long = f"the batch has too many calls to be counted here; run this command instead: {self.command(subject)}"
        async with _within(COUNTING_LIMIT, too_long):
            counted = await queue.redial_batch(batch, on=outcomes, times=times, at=at, dry_run=True)
        left_out = [f"{count_of(count, 'call')} {reason}" for reason, count in counted.left_out.items()]
        if not counted.redialled:
            why = "; ".join(left_out) or "no call has ended with these outcomes"
            raise InvalidInputError(f"no call of batch {batch} can be redialled: {why}")
        held = [
            f"The calls are not sent for now: {gate_in_words(gate)}."
            for gate in await gates_of(queue.store, queue.name)
            if gate.keeps_back(batch, at=at)
        ]
        each = "its phone rings" if counted.redialled == 1 else "each phone rings"
        turn = "within the usual calling windows, rate and limits"
        return Confirmation(
            title=f"Redial {count_of(counted.redialled, 'call')} of batch {batch}?",
            rings=(f"{count_of(counted.redialled, 'call')}: {each} once more, {turn}.",),
            silent=(*(f"{line}: left out." for line in left_out), *held, _DOUBTS),
            button=f"Redial {count_of(counted.redialled, 'call')}",
            fields=(reason_field("Note", subject, name="note"),),
            subject=(
                ("queue", queue.name),
                ("batch", batch),
                *(("outcome", outcome) for outcome in outcomes),
                ("times", str(times)),
                ("at", at.isoformat()),
            ),
            back=batch_page(queue.name, batch),
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Put the counted calls back into the queue, and no other calls."""
        queue, batch, _ = await named_batch(self._acting, form)
        note = by_person(who, reason_in(form, "note"), "called again")
        times, at = _times(form), _counted_at(form.one("at"), now=queue.store.clock.now())
        too_long = "not all calls were redialled in time: redial the batch again; no call is redialled twice"
        async with _within(REDIALLING_LIMIT, too_long):
            done = await queue.redial_batch(batch, on=form.all("outcome"), times=times, note=note, at=at)
        return ActionDone(
            f"{count_of(done.redialled, 'call')} of batch {batch} will be called again", batch_page(queue.name, batch)
        )

    async def _choice(self, queue: CallQueue, batch: str) -> Confirmation:
        counts = (await queue.store.totals(queue.name, batch=batch)).outcomes
        found = {word: sum(counts.get(status.value, 0) for status in read_redial_on(word)) for word in _OUTCOMES}
        options = tuple(
            (word, f"{words}: {count_of(found[word], 'call')}") for word, words in _OUTCOMES.items() if found[word]
        )
        if not options:
            raise InvalidInputError(f"no call of batch {batch} has ended in a way that can be redialled")
        return Confirmation(
            title=f"Redial calls of batch {batch}",
            rings=("No phone yet. The next page says how many phones will ring, and asks again.",),
            silent=(_DOUBTS,),
            button="Count them",
            fields=(
                FormField(name="outcome", label="Calls that ended with", kind=FieldKind.TICKS, options=options),
                FormField(
                    name="times",
                    label="Largest number of redials by people, for each call",
                    value="1",
                    help="With 1, calls that somebody redialled before are left out.",
                ),
            ),
            subject=(("queue", queue.name), ("batch", batch)),
            back=batch_page(queue.name, batch),
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


def _counted_at(text: str, *, now: datetime) -> datetime:
    """The time of the count that the person has seen. Raises InvalidInputError if the count is too old."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not now - COUNT_HOLDS <= at <= now + COUNT_HOLDS:
        minutes = COUNT_HOLDS // timedelta(minutes=1)
        raise InvalidInputError(
            f"no call was redialled: the count that you confirmed is older than {minutes} minutes, or has no valid "
            "time. The calls were counted again; check the new count"
        )
    return min(at, now)
