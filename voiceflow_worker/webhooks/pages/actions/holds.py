"""The actions on gates: hold and resume a queue or a batch, and cancel a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from voiceflow_worker.core.overview.gate_story import closed_in_words, gate_in_words
from voiceflow_worker.core.ports.batch_names import BatchNames
from voiceflow_worker.core.ports.reading import count_states, gates_of, limits_of
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.rate import rate_in_words
from voiceflow_worker.model.text.who import by_person
from voiceflow_worker.webhooks.pages.actions.action import (
    ActingStore,
    ActionDone,
    Confirmation,
    FormField,
    PageAction,
    UnknownSubjectError,
    batch_page,
    command,
    end_in,
    reason_field,
    reason_in,
)
from voiceflow_worker.webhooks.pages.sign_in.forms import PageForm

NOTHING_LEFT = "Nothing: no call is under way."

States = Mapping[JobState, int]


class HoldAction(PageAction):
    """The hold of a queue or of one batch."""

    name = "hold"

    def command(self, subject: PageForm) -> str:
        return command("hold", queue=subject.one("queue"), batch=subject.exactly("batch") or None, reason="…")

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action. It says how many calls wait and will not ring, and how many are under way."""
        queue, batch, states = await _subject(self._acting, subject)
        waiting = count_of(_waiting(states), "waiting call")
        return Confirmation(
            title=f"Hold {_named(queue, batch)}?",
            rings=(_under_way(states),),
            silent=(f"{waiting}. Nothing more rings until somebody resumes, or the time below has passed.",),
            button="Hold",
            fields=(
                reason_field("Reason", subject),
                FormField(
                    name="for",
                    label="Resume automatically after",
                    value=subject.one("for"),
                    help="Such as 10m or 2h. Leave this empty to hold until somebody resumes.",
                ),
            ),
            subject=_hidden(queue, batch),
            back=_page(queue, batch),
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        queue, batch, _ = await _subject(self._acting, form)
        until = end_in(form, queue.store, label="resume after")
        if until is not None and until <= queue.store.clock.now():
            raise InvalidInputError(
                "the duration of a hold must be above 0: give a duration such as 10m, or leave it empty"
            )
        before = await gates_of(queue.store, queue.name)
        gate = await queue.hold(batch_id=batch, until=until, reason=by_person(who, reason_in(form), "held"))
        unchanged = "nothing was changed: an earlier hold lasts longer, or as long; " if gate in before else ""
        return ActionDone(f"{unchanged}{closed_in_words(gate)}", _page(queue, batch))


class ResumeAction(PageAction):
    """The resumption of a held queue or batch."""

    name = "resume"

    def command(self, subject: PageForm) -> str:
        return command("resume", queue=subject.one("queue"), batch=subject.exactly("batch") or None)

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action. It says which calls will ring, and which other holds remain."""
        queue, batch, states = await _subject(self._acting, subject)
        limits = await limits_of(queue.store, queue.name)
        rate = rate_in_words(limits.rate if limits is not None else None)
        rings = f"{count_of(_waiting(states), 'waiting call')}. Those that are due begin to ring (rate: {rate})."
        closed = await _closed(queue)
        own = _own(closed, batch)
        ends = () if own is None or own.state is GateState.CANCELLED else (f"{closed_in_words(own)}. This hold ends.",)
        others = [gate for gate in closed if not _is_of(gate, batch)]
        held = [f"{gate_in_words(gate)}, and stays so." for gate in others if batch is None or _is_of(gate, None)]
        outside = "Calls outside their calling windows, or before their due time, wait until then."
        return Confirmation(
            title=f"Resume {_named(queue, batch)}?",
            rings=(*ends, rings),
            silent=(*held, outside),
            button="Resume",
            subject=(*_hidden(queue, batch), ("hold", _digest(own))),
            back=_page(queue, batch),
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:  # noqa: ARG002 - an open gate keeps no reason
        """Open the gate. Raises InvalidInputError if a new hold was set meanwhile, or the batch is cancelled."""
        queue, batch, _ = await _subject(self._acting, form)
        own = _own(await _closed(queue), batch)
        if own is not None and _digest(own) != form.one("hold"):
            raise InvalidInputError(f"another hold was set after this page was opened: {closed_in_words(own)}")
        gate = await queue.resume(batch_id=batch)
        if gate.state is not GateState.OPEN:
            raise InvalidInputError(f"{gate_in_words(gate)}, and stays so; enqueue its calls as a new batch")
        return ActionDone(f"{gate.scope.value} {gate.name} is open", _page(queue, batch))


class CancelBatchAction(PageAction):
    """The cancellation of a batch. It cannot be undone."""

    name = "cancel-batch"

    def command(self, subject: PageForm) -> str:
        return command("calls", "cancel", queue=subject.one("queue"), batch=subject.exactly("batch"), reason="…")

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action. It says how many waiting calls will end, and how many are under way."""
        queue, batch, states = await named_batch(self._acting, subject)
        waiting = count_of(_waiting(states), "waiting call")
        return Confirmation(
            title=f"Cancel {_named(queue, batch)} for good?",
            rings=(_under_way(states),),
            silent=(
                f"{waiting}: cancelled when you confirm.",
                "Redials of this batch, and calls that are added to the batch later. They are cancelled too.",
            ),
            button="Cancel the batch for good",
            fields=(reason_field("Reason", subject),),
            subject=_hidden(queue, batch),
            back=_page(queue, batch),
            is_for_good=True,
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        queue, batch, _ = await named_batch(self._acting, form)
        ended = await queue.cancel_batch(batch, reason=by_person(who, reason_in(form), "the batch was cancelled"))
        said = f"batch {batch} is cancelled for good; {count_of(ended, 'waiting call')} ended and will not be sent"
        return ActionDone(said, _page(queue, batch))


async def named_batch(acting: ActingStore, form: PageForm) -> tuple[CallQueue, str, States]:
    """The queue and the batch that a form names, and the batch's calls by state. Raises UnknownSubjectError."""
    queue, batch, states = await _subject(acting, form)
    if batch is None:
        raise UnknownSubjectError("no batch is named; this cannot be done to a whole queue")
    return queue, batch, states


async def _subject(acting: ActingStore, form: PageForm) -> tuple[CallQueue, str | None, States]:
    """The queue and the batch (or None) that a form names, and their calls by state. Raises UnknownSubjectError."""
    queue, batch = acting.queue(form.one("queue")), form.exactly("batch") or None
    if batch is not None and not await BatchNames(acting.store, queue.name).has_calls(batch):
        raise UnknownSubjectError(f"queue {queue.name} has no calls of batch {batch[:100]}")
    return queue, batch, await count_states(acting.store, queue.name, batch_id=batch)


async def _closed(queue: CallQueue) -> list[Gate]:
    now = queue.store.clock.now()
    return [gate for gate in await gates_of(queue.store, queue.name) if gate.is_closed(at=now)]


def _is_of(gate: Gate, batch: str | None) -> bool:
    if batch is None:
        return gate.scope is GateScope.QUEUE
    return gate.scope is GateScope.BATCH and gate.name == batch


def _own(closed: Sequence[Gate], batch: str | None) -> Gate | None:
    """The gate of this batch, or of the queue if `batch` is None. Returns None for an open gate."""
    return next((gate for gate in closed if _is_of(gate, batch)), None)


def _digest(gate: Gate | None) -> str:
    """A digest of a hold's reason, for a hidden field of the form; empty if there is no hold."""
    return "" if gate is None else hashlib.sha256(gate.reason.encode()).hexdigest()[:16]


def _waiting(states: States) -> int:
    return states[JobState.QUEUED] + states[JobState.LEASED]


def _under_way(states: States) -> str:
    """A sentence about the calls that a hold does not stop."""
    gone = states[JobState.SENDING] + states[JobState.SUBMITTED]
    doubts = states[JobState.IN_DOUBT]
    sentence = f"{count_of(gone, 'call')} under way: not interrupted." if gone else NOTHING_LEFT
    return f"{sentence} {count_of(doubts, 'call')} in doubt may have rung." if doubts else sentence


def _named(queue: CallQueue, batch: str | None) -> str:
    return f"queue {queue.name}" if batch is None else f"batch {batch} of queue {queue.name}"


def _hidden(queue: CallQueue, batch: str | None) -> tuple[tuple[str, str], ...]:
    return (("queue", queue.name), *((("batch", batch),) if batch is not None else ()))


def _page(queue: CallQueue, batch: str | None) -> str:
    return "" if batch is None else batch_page(queue.name, batch)
