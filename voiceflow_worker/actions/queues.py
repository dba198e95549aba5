"""Actions on queues and batches: hold, resume, a new rate, cancel, redial."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from voiceflow_worker.actions import (
    ActionRefusedError,
    ActionResult,
    OperatorAction,
    Question,
    UnknownSubjectError,
    active_holds,
    changed_since,
    require_name,
)
from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.base.reading import count_states, gates_at, gates_of, holds_of, limits_of
from voiceflow_worker.core.gates import CheckGate, hold_until_left, standing_gate
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import by_person, count_of, in_words, rate_in_words, rfc3339
from voiceflow_worker.reporting.gates import closed_in_words, gate_as_json, gate_in_words

if TYPE_CHECKING:
    from voiceflow_worker.core.settling.changes import RedialledBatch
    from voiceflow_worker.queue import CallQueue

States = Mapping[JobState, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAction(OperatorAction):
    """An action on a queue, or on one batch of it."""

    queue: str
    batch: str | None = None

    def about(self) -> Mapping[str, Any]:
        return {"queue": self.queue, "batch": self.batch}

    @property
    def calls(self) -> CallQueue:
        """Queue of the action."""
        return self.operator.queue(self.queue)

    @property
    def label(self) -> str:
        """Queue or batch in words."""
        return f"queue {self.queue}" if self.batch is None else f"batch {self.batch} of queue {self.queue}"

    async def counted(self) -> States:
        """Count the calls by state. Raises UnknownSubjectError for a batch without calls."""
        store, queue = self.operator.store, self.queue
        require_name(queue)
        if (unknown := await BatchNames(store, queue).why_unknown(self.batch)) is not None:
            raise UnknownSubjectError(unknown)
        return await count_states(store, queue, batch_id=self.batch)

    async def gate_token(self) -> str:
        """Return the token of the gate of the queue or the batch."""
        store = self.operator.store
        return token_of(await standing_gate(store, self.queue, self.batch), at=store.clock.now())

    def check_gate(self, token: str | None) -> CheckGate:
        """Make the check that the gate still has this token."""
        now = self.operator.store.clock.now()

        def require_same(gate: Gate | None) -> None:
            if token is not None and token_of(gate, at=now) != token:
                state = "it is open" if gate is None or not gate.is_closed(at=now) else closed_in_words(gate)
                raise changed_since(self.label, now=state)

        return require_same

    async def still_sending(self, order: str) -> tuple[str, ...]:
        """Return a sentence about the calls that had left before an order that has waited for them (`until_left`)."""
        left = (await count_states(self.operator.store, self.queue, batch_id=self.batch))[JobState.SENDING]
        return (f"{count_of(left, 'call')} had been sent before {order}, and may still ring",) if left else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(QueueAction):
    """The hold of a queue or a batch: no more calls are sent. Without `lasts`, until somebody resumes."""

    name_of_action: ClassVar[str] = "hold"

    lasts: timedelta | None = None

    async def question(self) -> Question:
        states = await self.counted()
        return Question(
            title=f"Hold {self.label}?",
            will_be_called=(_under_way(states),),
            will_not_be_called=(
                f"{_waiting(states)} at present. Nothing more rings until somebody resumes, or the hold has ended.",
            ),
            button="Hold",
            token=await self.gate_token(),
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        if self.lasts is not None and self.lasts <= timedelta():
            raise InvalidInputError("a hold of 0 holds nothing: give a duration such as 10m, or none")
        await self.counted()
        queue, store = self.queue, self.operator.store
        until = None if self.lasts is None else store.clock.now() + self.lasts
        before = (await gates_at(store, queue, [self.batch])).values()
        reason, check = by_person(self.operator.name, self.note, "held"), self.check_gate(token)
        gate = await hold_until_left(store, queue, batch_id=self.batch, until=until, reason=reason, check=check)
        if gate.state is GateState.OPEN:
            raise ActionRefusedError(f"{self.label} is open: somebody has resumed it since this hold was stored")
        notes = list(await self.still_sending("the hold"))
        if gate in before:
            notes.append("nothing was changed: an earlier hold lasts longer, or as long")
        return ActionResult(message=closed_in_words(gate), documents=(gate_as_json(gate),), notes=tuple(notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(QueueAction):
    """The end of the hold of a queue or a batch; with `unread_files`, also of one because nobody could read these.

    Its token names the hold, and how many calls may ring at most (`resume_token`).
    """

    name_of_action: ClassVar[str] = "resume"

    unread_files: bool = False

    async def question(self) -> Question:
        store, now, states = self.operator.store, self.operator.store.clock.now(), await self.counted()
        own, limits = await standing_gate(store, self.queue, self.batch), await limits_of(store, self.queue)
        is_held = own is not None and own.state is GateState.HELD and own.is_closed(at=now)
        rate = rate_in_words(limits.rate if limits is not None else None)
        stay = [gate for gate in await gates_of(store, self.queue) if gate.is_closed(at=now) and gate != own]
        of_others = self.batch is None
        return Question(
            title=f"Resume {self.label}?",
            will_be_called=(
                *([f"{closed_in_words(own)}. This hold ends."] if own is not None and is_held else []),
                f"At most {_waiting(states)}. Those that are due begin to ring (rate: {rate}).",
            ),
            will_not_be_called=(
                *(
                    f"{gate_in_words(gate)}, and stays so."
                    for gate in stay
                    if of_others or gate.keeps_back(self.batch, at=now)
                ),
                "Calls outside their calling windows, or before their due time, wait until then.",
                *_doubts(states),
            ),
            button="Resume",
            token=f"{token_of(own, at=now)} {waiting(states)}",
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        """Open the gate. A batch without calls is opened too, and then reported as unknown."""
        store, now, own = self.operator.store, self.operator.store.clock.now(), None
        hold, _, most = (token or "").rpartition(" ")
        if token is not None and not most.isdecimal():
            raise changed_since(self.label)
        gate = await standing_gate(store, self.queue, self.batch)
        if token is not None and (gate is None or not gate.is_closed(at=now)):  # it is ordered again
            gate = gate or Gate.of(self.queue, self.batch, GateState.OPEN, since=now)
            if gate.state is GateState.OPEN and self.batch is not None:
                gate = next(iter(await holds_of(store, self.queue, [self.batch])), gate)
            return await self._opened(gate, was=None)
        would_ring = waiting(await count_states(store, self.queue, batch_id=self.batch))
        check = self.check_gate(hold)

        def look(gate: Gate | None) -> None:
            nonlocal own
            own = gate
            if gate is None or token is None or not gate.is_closed(at=now):
                return
            check(gate)
            if would_ring > int(most):
                raise changed_since(self.label, now=f"{count_of(would_ring, 'call')} would ring, not at most {most}")

        try:
            gate = await self.calls.resume(batch_id=self.batch, unread_files=self.unread_files, check=look)
        except InvalidInputError:
            await self.counted()
            raise
        return await self._opened(gate, was=own)

    async def _opened(self, gate: Gate, *, was: Gate | None) -> ActionResult:
        """Return the result, with the gate as it is and as it was."""
        was_held = was is not None and was.is_closed(at=self.operator.store.clock.now())
        states = await self.counted()
        is_open = gate.state is GateState.OPEN or gate.holder is not None
        closed = "" if is_open else f"{gate_in_words(gate)}, and stays so: enqueue its calls as a new batch"
        said = closed or f"{gate.scope.value} {gate.name} is open{'' if was_held else '; it was not held'}"
        notes = [] if gate.holder is None else [f"it stays held, until that ends: {closed_in_words(gate)}"]
        document = {**gate_as_json(gate), "doubts": states[JobState.IN_DOUBT]}
        notes += _doubts(states) if is_open else ()
        return ActionResult(message=said, documents=(document,), notes=tuple(notes), not_done=not is_open)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(QueueAction):
    """A new rate for all workers of a queue, in calls per second; None is unlimited.

    With `resets`, the rate that a person set is withdrawn instead.
    """

    name_of_action: ClassVar[str] = "rate"

    rate: float | None = None
    resets: bool = False

    async def carry_out(self, token: str | None) -> ActionResult:
        calls, was_set = self.calls, False
        if self.resets:
            was_set = await calls.reset_rate()
        else:
            await calls.set_rate(self.rate)
        limits = await limits_of(self.operator.store, calls.name)
        rate = None if limits is None else limits.rate
        document = {"queue": calls.name, "rate": rate, "is_set": limits is not None}
        said = f"the rate of queue {calls.name} is {rate_in_words(rate)} for all its workers"
        if self.resets:
            done = "has the rate of its workers' settings again" if was_set else "had no rate set by hand"
            said = f"queue {calls.name} {done}"
        return ActionResult(message=said, documents=(document,))


class BatchAction(QueueAction):
    """An action on a batch that cannot be taken back."""

    is_irreversible: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Batch of the action. Raises UnknownSubjectError if none is named."""
        if self.batch is None:
            raise UnknownSubjectError("no batch is named; this cannot be done to a whole queue")
        return self.batch


class CancelBatch(BatchAction):
    """The cancellation of a batch: its waiting calls end, and nothing can be added to it."""

    name_of_action: ClassVar[str] = "cancel"

    async def question(self) -> Question:
        states = await self.counted()
        return Question(
            title=f"Cancel {self.label} for good?",
            will_be_called=(_under_way(states),),
            will_not_be_called=(
                f"{_waiting(states)}: cancelled when you confirm.",
                "Redials of this batch, and calls that are added to the batch later. They are cancelled too.",
            ),
            button="Cancel the batch for good",
            token=await self.gate_token(),
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        name = self.name
        await self.counted()
        before = await standing_gate(self.operator.store, self.queue, name)
        ended = await self.calls.cancel_batch(
            name,
            reason=by_person(self.operator.name, self.note, "the batch was cancelled"),
            check=self.check_gate(token),
        )
        said = f"batch {name} is cancelled for good; {count_of(ended, 'waiting call')} ended and will not be sent"
        if before is not None and before.state is GateState.CANCELLED and not ended:
            said = f"batch {name} was cancelled already, at {in_words(before.since)}: {before.reason}"
        notes = await self.still_sending("the cancellation")
        return ActionResult(message=said, documents=({"batch_id": name, "cancelled": ended},), notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedialBatch(BatchAction):
    """The redial of the calls of a batch that ended with some outcomes, and that people redialled less than `times`.

    Ordered again, it redials nobody twice. Its token names the calls that ended by the time of the question, each with
    its newest POST: these ring, and no others.
    """

    name_of_action: ClassVar[str] = "redial"

    outcomes: Sequence[str]
    times: int = 1

    async def question(self) -> Question:
        """Make the question with a count. Raises ActionRefusedError if no call can be redialled."""
        at = self.operator.store.clock.now()
        found = await self._redialled(at, dry_run=True)
        left_out = [f"{count_of(count, 'call')} {reason}" for reason, count in found.left_out.items()]
        if not found.redialled:
            why = "; ".join(left_out) or "no call has ended with these outcomes"
            raise ActionRefusedError(f"no call of batch {self.batch} can be redialled: {why}")
        phones = count_of(found.redialled, "call")
        each = "its phone rings" if found.redialled == 1 else "each phone rings"
        return Question(
            title=f"Redial {phones} of batch {self.batch}?",
            will_be_called=(f"At most {phones}: {each} again, within the usual calling windows, rate and limits.",),
            will_not_be_called=(
                *(f"{line}: left out." for line in left_out),
                *await active_holds(self.operator.store, self.queue, self.batch),
                "Calls in doubt, calls that were answered, and people who opted out.",
            ),
            button=f"Redial {phones}",
            token=f"{at.isoformat()} {_digest_of(found.posts)}",
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        """Put calls back into the queue: those of the question."""
        at, among = self.operator.store.clock.now(), None
        if token is not None:
            at = self._time_in(token)
            among = (await self._redialled(at, dry_run=True)).posts
            if token != f"{at.isoformat()} {_digest_of(among)}":
                raise changed_since(self.label)
        done = await self._redialled(at, among=among)
        notes = tuple(f"left out: {count_of(count, 'call')} {reason}" for reason, count in done.left_out.items())
        said = f"redialled: {count_of(done.redialled, 'call')} of batch {self.batch}"
        return ActionResult(message=said, documents=(done.as_json(),), notes=notes)

    def _time_in(self, token: str) -> datetime:
        """Return the time of a question. Raises ChangedSinceError for a text that is no token."""
        try:
            at = datetime.fromisoformat(token.partition(" ")[0])
        except ValueError:
            raise changed_since(self.label) from None
        if at.tzinfo is None or at > self.operator.store.clock.now():
            raise changed_since(self.label)
        return at

    async def _redialled(
        self, at: datetime, *, dry_run: bool = False, among: Mapping[str, int] | None = None
    ) -> RedialledBatch:
        note, on = by_person(self.operator.name, self.note, "called again"), ",".join(self.outcomes)
        await self.counted()
        return await self.calls.redial_batch(
            self.name, on=on, times=self.times, note=note, at=at, dry_run=dry_run, among=among
        )


def _digest_of(posts: Mapping[str, int]) -> str:
    return hashlib.sha256(repr(sorted(posts.items())).encode()).hexdigest()[:24]


def waiting(states: States) -> int:
    """Count the calls that wait."""
    return states[JobState.QUEUED] + states[JobState.LEASED]


def _waiting(states: States) -> str:
    return count_of(waiting(states), "waiting call")


def _doubts(states: States) -> tuple[str, ...]:
    """Return a sentence about the calls in doubt, which the end of a hold does not send."""
    doubts = states[JobState.IN_DOUBT]
    said = f"{count_of(doubts, 'call')} in doubt: not called again until resolved"
    return (f"{said} (`voiceflow calls list --state in_doubt`, `voiceflow calls resolve`).",) if doubts else ()


def _under_way(states: States) -> str:
    """Return a sentence about the calls that a hold does not stop."""
    gone, doubts = states[JobState.SENDING] + states[JobState.SUBMITTED], states[JobState.IN_DOUBT]
    said = f"{count_of(gone, 'call')} in progress: not interrupted." if gone else "Nobody: no call is in progress."
    return f"{said} {count_of(doubts, 'call')} in doubt may have rung." if doubts else said


def token_of(gate: Gate | None, *, at: datetime) -> str:
    """Return what a gate is, as a text that changes with each order; `none` if no order counts any more."""
    if gate is None or (gate.state is GateState.HELD and not gate.is_closed(at=at)):
        return "none"
    return f"{gate.state}-{rfc3339(gate.since)}"


def resume_token(since: datetime, most: int) -> str:
    """Return the token of the end of the hold that began at `since`, with which at most so many calls ring."""
    return f"{GateState.HELD}-{rfc3339(since)} {most}"
