"""The actions on a single call: cancel it, or redial it."""

from __future__ import annotations

from voiceflow_worker.core.numbers.suppression import SuppressionList, why_refused
from voiceflow_worker.core.overview.gate_story import gate_in_words
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import Job, JobState
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

_CALLED = frozenset({JobState.COMPLETED, JobState.ACCEPTED})


class CancelCallAction(PageAction):
    """The cancellation of a call that was not sent."""

    name = "cancel-call"

    def command(self, subject: PageForm) -> str:
        return command("calls", "cancel", subject.one("call"), reason="…")

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action. Raises JobError if the call may have been sent."""
        queue, job = await self._acting.call(subject.one("call"))
        lifecycle.cancel(job, at=queue.store.clock.now(), reason="", policy=self._acting.policy)
        return Confirmation(
            title=f"Cancel the call to {job.destination}?",
            rings=("Nothing. If the call is sent before you confirm, it is not cancelled.",),
            silent=(f"{job.destination} is not called, and not redialled.",),
            button="Cancel the call",
            fields=(reason_field("Reason", subject),),
            subject=(("call", job.id),),
            back=call_page(job.id),
            is_for_good=True,
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        queue, job = await self._acting.call(form.one("call"))
        job = await queue.cancel(job.id, reason=by_person(who, reason_in(form), "cancelled"))
        return ActionDone(f"The call to {job.destination} is {job.state.value}", call_page(job.id))


class RedialAction(PageAction):
    """The redial of a call that has ended."""

    name = "redial"

    def command(self, subject: PageForm) -> str:
        return command("calls", "redial", subject.one("call"), note="…", post=subject.one("posts") or None)

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action. Raises JobError if the call has not ended, or is no longer valid."""
        queue, job = await self._acting.call(subject.one("call"))
        again = lifecycle.redial(job, at=queue.store.clock.now(), note="", force=True)
        fields = [reason_field("Note", subject, name="note")]
        if job.state in _CALLED:
            fields.append(
                FormField(name="force", label="Call again, although this person was reached", kind=FieldKind.TICK)
            )
        return Confirmation(
            title=f"Call {job.destination} again?",
            rings=(f"{job.destination} rings once more, at {in_words(again.due_at)} or later.",),
            silent=tuple(await self._obstacles(queue, job)) or ("Nothing else changes.",),
            button="Call again",
            fields=tuple(fields),
            subject=(("call", job.id), ("posts", str(job.post_count))),
            back=call_page(job.id),
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Put the call back in the queue. Raises InvalidInputError if it was redialled after the question was shown."""
        queue, job = await self._acting.call(form.one("call"))
        if str(job.post_count) != form.one("posts"):
            raise InvalidInputError(f"this call was redialled after the page was opened; open call {job.id} again")
        note = by_person(who, reason_in(form, "note"), "called again")
        job = await queue.redial(job.id, note=note, force=form.one("force") == "yes", post=job.post_count)
        return ActionDone(
            f"{job.destination} will be called again at {in_words(job.due_at)} or later", call_page(job.id)
        )

    async def _obstacles(self, queue: CallQueue, job: Job) -> list[str]:
        """Sentences about everything that prevents the call at present."""
        now = queue.store.clock.now()
        found: list[str] = []
        refusal = why_refused(job, await SuppressionList(queue.store).standing(job.parties))
        if refusal is not None:
            found.append(f"The phone will not ring: {refusal[1]}. The call will be cancelled when its turn comes.")
        found += [
            f"The call will {'not' if gate.state is GateState.CANCELLED else 'not yet'} be sent: {gate_in_words(gate)}."
            for gate in await gates_of(queue.store, queue.name)
            if gate.keeps_back(job.batch_id, at=now)
        ]
        return found
