"""Actions on queues and batches: hold, resume, a new rate, cancel, redial."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar, Self

from voiceflow_worker.actions import (
    ActionRefusedError,
    ActionResult,
    Operator,
    OperatorAction,
    Question,
    Several,
    UnknownSubjectError,
    active_holds,
    changed_since,
    require_name,
)
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.base.reading import count_states, find_pages, gates_at, gates_of, limits_of, totals_of
from voiceflow_worker.core.gates import CheckGate, hold_until_left, standing_gate, until_left
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import JobState, NoteKind
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, by_person, count_of, in_words, rate_in_words
from voiceflow_worker.reporting.gates import closed_in_words, gate_as_json, gate_in_words

if TYPE_CHECKING:
    from voiceflow_worker.core.settling.changes import RedialledBatch
    from voiceflow_worker.queue import CallQueue

PAGE, MOST_COUNTED = 1000, 20_000
"""The waiting calls that are read in one trip, and the most that are counted before a resume."""
TAKEN_UP_FOR = timedelta(days=1)
"""How long a redial of a batch that was cut is taken up by the same order."""
COUNT_HOLDS = timedelta(minutes=15)
"""The time for which a count of calls is valid. After that, the calls must be counted again."""

_BATCHES = ("batch", "batches")

States = Mapping[JobState, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAction(OperatorAction):
    """An action on a queue, or on one batch of it."""

    operator: Operator
    queue: str
    batch: str | None = None
    note: str | None = None

    def about(self) -> Mapping[str, str | None]:
        return {"queue": self.queue, "batch": self.batch}

    @property
    def calls(self) -> CallQueue:
        """The queue."""
        return self.operator.queue(self.queue)

    @property
    def subject(self) -> str:
        """The queue or the batch beside others: queues may have batches of one name."""
        of = "" if self.queue == DEFAULT_QUEUE else f" ({self.queue})"
        return f"queue {self.queue}" if self.batch is None else f"{self.batch}{of}"

    @property
    def label(self) -> str:
        """The queue or the batch in words."""
        return f"queue {self.queue}" if self.batch is None else f"batch {self.batch} of queue {self.queue}"

    async def counted(self) -> States:
        """The calls by state. Raises UnknownSubjectError for a batch without calls."""
        store, queue = self.operator.store, self.queue
        require_name(queue)
        if (unknown := await BatchNames(store, queue).why_unknown(self.batch)) is not None:
            raise UnknownSubjectError(unknown)
        return await count_states(store, queue, batch_id=self.batch)

    async def gate_state(self) -> str:
        """The state of the gate of the queue or the batch."""
        store = self.operator.store
        return _state_of(await standing_gate(store, self.queue, self.batch), at=store.clock.now())

    async def ordered(self) -> tuple[str, ...]:
        """What people have ordered of the queue or the batch: a text that changes with each order of theirs.

        Neither calls that are sent nor their ends change it; nor do calls that programs add to a queue, outside of
        campaigns.
        """
        store, parts = self.operator.store, [await self.gate_state()]
        if self.batch is None:
            parts.append(await self.calls.rate_state())
        else:
            totals = await totals_of(store, self.queue, self.batch)
            parts += [str(sum(totals.states.values())), str(totals.states[JobState.CANCELLED])]
        last = await entries_on(store, self.queue, batch=self.batch)
        return (*parts, *(entry.id for entry in last))

    def check_gate(self, state: str | None) -> CheckGate | None:
        """The check that the gate still has this state."""
        now = self.operator.store.clock.now()

        def require_expected(gate: Gate | None) -> None:
            if _state_of(gate, at=now) != state:
                stands = "it is open" if gate is None or not gate.is_closed(at=now) else gate_in_words(gate)
                raise changed_since(self.label, now=stands)

        return None if state is None else require_expected

    async def gate_now(self) -> Mapping[str, Any]:
        """The gate of the queue or the batch as it is now, as JSON."""
        store, now = self.operator.store, self.operator.store.clock.now()
        gate = (await gates_at(store, self.queue, [self.batch])).get(self.batch)
        return gate_as_json(gate or Gate.of(self.queue, self.batch, GateState.OPEN, since=now))

    async def held(self) -> list[str]:
        """The states of the gates that keep the calls of the batch from being sent (`active_holds`)."""
        store, at = self.operator.store, self.operator.store.clock.now()
        gates = await gates_of(store, self.queue)
        return sorted(_state_of(gate, at=at) for gate in gates if gate.keeps_back(self.batch, at=at))

    async def still_sending(self, order: str) -> tuple[str, ...]:
        """A sentence about the calls that had left before an order that has waited for them (`until_left`)."""
        left = (await count_states(self.operator.store, self.queue, batch_id=self.batch))[JobState.SENDING]
        return (f"{count_of(left, 'call')} had been sent before {order}, and may still ring",) if left else ()

    async def closed(self) -> list[Gate]:
        """The closed gates of the queue and of its batches, and that of this batch if it was cancelled."""
        store, queue = self.operator.store, self.queue
        now, own = store.clock.now(), (await gates_at(store, self.queue, [self.batch])).values()
        gates = [*await gates_of(store, queue), *own]
        return [gate for gate in dict.fromkeys(gates) if gate.is_closed(at=now)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(QueueAction):
    """The hold of a queue or a batch: no more calls are sent. Without `lasts`, until somebody resumes."""

    name_of_action: ClassVar[str] = "hold"
    several: ClassVar[Several] = Several("Hold {}?", "on hold", _BATCHES, in_each=False)

    lasts: timedelta | None = None

    async def question(self) -> Question:
        states, state = await self.counted(), await self.gate_state()
        return Question(
            title=f"Hold {self.label}?",
            will_be_called=(_under_way(states),),
            will_not_be_called=(
                f"{_waiting(states)} at present. Nothing more rings until somebody resumes, or the hold has ended.",
            ),
            button="Hold",
            version=self.version_of(state),  # it stops calls: their number is no reason to refuse it
            state=state,
            subject=self.subject,
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        if self.lasts is not None and self.lasts <= timedelta():
            raise InvalidInputError("a hold of 0 holds nothing: give a duration such as 10m, or none")
        await self.counted()
        queue, store = self.queue, self.operator.store
        until = None if self.lasts is None else self.operator.ordered_at + self.lasts
        before = (await gates_at(store, queue, [self.batch])).values()
        gate = await hold_until_left(
            store,
            queue,
            batch_id=self.batch,
            until=until,
            reason=by_person(self.operator.name, self.note, "held"),
            check=self.check_gate(state),
        )
        if gate.state is GateState.OPEN:
            raise ActionRefusedError(f"{self.label} is open: somebody has resumed it since this hold was stored")
        notes = list(await self.still_sending("the hold"))
        if gate in before:
            notes.append("nothing was changed: an earlier hold lasts longer, or as long")
        return ActionResult(message=closed_in_words(gate), documents=(gate_as_json(gate),), notes=tuple(notes))

    async def answer_again(self, answer: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The gate as it is now. A request that was cut has ordered the hold, and somebody may have resumed since."""
        if answer is None:
            await until_left(self.operator.store, [self.queue], batch_id=self.batch)
        return await self.gate_now()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(QueueAction):
    """The end of the hold of a queue or a batch; with `unread_files`, also of one because nobody could read these."""

    name_of_action: ClassVar[str] = "resume"
    several: ClassVar[Several] = Several("Resume {}?", "resumed", _BATCHES, in_each=False)

    unread_files: bool = False

    async def question(self) -> Question:
        now, state, states = self.operator.store.clock.now(), await self.gate_state(), await self.counted()
        closed = await self.closed()
        limits = await limits_of(self.operator.store, self.calls.name)
        rate = rate_in_words(limits.rate if limits is not None else None)
        own = self._own(closed)
        ends = () if own is None or own.state is GateState.CANCELLED else (f"{closed_in_words(own)}. This hold ends.",)
        also = "" if self.batch is not None else " at present, and what programs add until you confirm"
        stay = [gate for gate in closed if gate is not own and (self.batch is None or gate.scope is GateScope.QUEUE)]
        return Question(
            title=f"Resume {self.label}?",
            will_be_called=(
                *ends,
                f"{_waiting(states)}{also}. Those that are due begin to ring (rate: {rate}).",
                *await self.told_before(),
            ),
            will_not_be_called=(
                *(f"{gate_in_words(gate)}, and stays so." for gate in stay),
                "Calls outside their calling windows, or before their due time, wait until then.",
                *_doubts(states),
            ),
            button="Resume",
            version=self.version_of(
                state,
                await self.ordered(),
                sorted((gate.name, gate.start, _state_of(gate, at=now)) for gate in stay),
                rate,
                most=() if self.batch is None else (waiting(states),),
            ),
            state=state,
            subject=self.subject,
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        """Open the gate. A batch without calls is opened too, and then reported as unknown."""
        now = self.operator.store.clock.now()

        was_held, own = False, None

        def look(gate: Gate | None) -> None:
            nonlocal was_held, own
            was_held, own = gate is not None and gate.is_closed(at=now), gate
            if gate is not None and was_held and state is not None and _state_of(gate, at=now) != state:
                raise changed_since(self.label, now=closed_in_words(gate))

        try:
            gate = await self.calls.resume(batch_id=self.batch, unread_files=self.unread_files, check=look)
        except InvalidInputError:
            await self.counted()
            raise
        states = await self.counted()
        is_open = gate.state is GateState.OPEN
        closed = "" if is_open else f"{gate_in_words(gate)}, and stays so: enqueue its calls as a new batch"
        said = closed or f"{gate.scope.value} {gate.name} is open{'' if was_held else '; it was not held'}"
        staged = await self.calls.staged(self.batch) if self.batch is not None and is_open else ()
        notes = [
            f"{count_of(each.calls, 'call')} are held until their import ends: {closed_in_words(each.gate)}"
            for each in staged
        ]
        document = {**gate_as_json(gate), "doubts": states[JobState.IN_DOUBT]}
        notes += _doubts(states) if is_open else ()
        return ActionResult(message=said, documents=(document,), notes=tuple(notes), not_done=not is_open)

    async def told_before(self) -> tuple[str, ...]:
        """How many of the waiting calls are of how many batches, and how many people they would ring more than once.

        Of many calls, those that were enqueued first are counted.
        """
        batches, people, count = set[str | None](), Counter[str](), 0
        waits = Listing(queue=self.queue, batch=self.batch, states=frozenset({JobState.QUEUED}), limit=PAGE)
        async with aclosing(find_pages(self.operator.store, waits)) as pages:
            async for page in pages:
                for job in page:
                    batches.add(job.batch_id)
                    people[phone_identity(job.destination)] += 1
                if (count := count + len(page)) >= MOST_COUNTED:
                    break
        twice = sum(number > 1 for number in people.values())
        if not twice and len(batches) < 2:
            return ()
        of_them = "Of the first " if count >= MOST_COUNTED else ""
        calls = f"{of_them}{count_of(count, 'waiting call')}"
        of = f"{len(batches)} batch{'' if len(batches) == 1 else 'es'}"
        rings = "1 person would be" if twice == 1 else f"{twice} people would be"
        return (f"{calls} of {of}: {rings} called more than once.",)

    async def answer_again(self, answer: Mapping[str, Any] | None) -> Mapping[str, Any]:
        return {**await self.gate_now(), "doubts": (await self.counted())[JobState.IN_DOUBT]}

    def _own(self, closed: Sequence[Gate]) -> Gate | None:
        """The closed gate that this action opens."""
        scope, name = (GateScope.QUEUE, self.queue) if self.batch is None else (GateScope.BATCH, self.batch)
        return next((gate for gate in closed if gate.start is None and (gate.scope, gate.name) == (scope, name)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(QueueAction):
    """A new rate for all workers of a queue, in calls per second; None is unlimited.

    With `resets`, the rate that a person set is withdrawn instead.
    """

    name_of_action: ClassVar[str] = "rate"

    rate: float | None = None
    resets: bool = False

    async def question(self) -> Question:
        state, states = await self.calls.rate_state(), await self.counted()
        limits = await limits_of(self.operator.store, self.calls.name)
        now = "not set yet" if limits is None else rate_in_words(limits.rate)
        to = "that of the workers' settings" if self.resets else rate_in_words(self.rate)
        return Question(
            title=f"Change the rate of {self.label} to {to}?",
            will_be_called=(f"{_waiting(states)}, at the new rate from now on. The rate is {now}.",),
            will_not_be_called=("Calls behind a hold, outside their calling windows, or before their due time.",),
            button="Change the rate",
            version=self.version_of(state),
            state=state,
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        calls = self.calls

        def require_same(found: str) -> None:
            if found != state:
                raise changed_since(f"the rate of queue {calls.name}")

        check = None if state is None else require_same
        if not self.resets:
            await calls.set_rate(self.rate, check=check)
        was_set = await calls.reset_rate(check=check) if self.resets else False
        document = await self._rate_now()
        said = f"the rate of queue {calls.name} is {rate_in_words(document['rate'])} for all its workers"
        if self.resets:
            done = "has the rate of its workers' settings again" if was_set else "had no rate set by hand"
            said = f"queue {calls.name} {done}"
        return ActionResult(message=said, documents=(document,))

    async def answer_again(self, answer: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The rate as it is now. A request that was cut has set it, and somebody may have set another since."""
        return await self._rate_now() if answer is None else answer

    async def _rate_now(self) -> Mapping[str, Any]:
        limits = await limits_of(self.operator.store, self.calls.name)
        return {
            "queue": self.calls.name, "rate": None if limits is None else limits.rate, "is_set": limits is not None
        }  # fmt: skip


class BatchAction(QueueAction):
    """An action on a batch that cannot be taken back."""

    is_irreversible: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The batch. Raises UnknownSubjectError if none is named."""
        if self.batch is None:
            raise UnknownSubjectError("no batch is named; this cannot be done to a whole queue")
        return self.batch


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedAction(BatchAction):
    """An action on the calls of a batch that were counted `at` a time; by default, now."""

    at: datetime | None = None

    def as_shown(self, version: str) -> Self:
        """The action on the calls that were counted. Raises ActionRefusedError if the count is too old."""
        now, micros = self.operator.store.clock.now(), "".join(version.split(".")[1:2])
        if _MICROSECONDS.fullmatch(micros) is None:  # no version of a count
            return self
        at = _EPOCH + int(micros) * _MICROSECOND
        if not now - COUNT_HOLDS <= at <= now + COUNT_HOLDS:
            minutes = COUNT_HOLDS // timedelta(minutes=1)
            raise ActionRefusedError(
                f"nothing was done: the count that you confirmed is older than {minutes} minutes; count the calls "
                "again, and check the new count"
            )
        return replace(self, at=min(at, now))

    def count_version(self, at: datetime, *shown: object, most: Sequence[int]) -> str:
        """The version of a question about the calls that were counted at this time."""
        return self.version_of(*shown, most=((at - _EPOCH) // _MICROSECOND, *most))


_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS = re.compile(r"[0-9]{1,16}")


class CancelBatch(BatchAction):
    """The cancellation of a batch: its waiting calls end, and nothing can be added to it."""

    name_of_action: ClassVar[str] = "cancel"
    several: ClassVar[Several] = Several("Cancel {}?", "cancelled", _BATCHES, in_each=False)

    async def question(self) -> Question:
        state, states = await self.gate_state(), await self.counted()
        return Question(
            title=f"Cancel {self.label} for good?",
            will_be_called=(_under_way(states),),
            will_not_be_called=(
                f"{_waiting(states)}: cancelled when you confirm.",
                "Redials of this batch, and calls that are added to the batch later. They are cancelled too.",
            ),
            button="Cancel the batch for good",
            version=self.version_of(state, await self.ordered(), most=(waiting(states),)),
            state=state,
            subject=self.subject,
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        name = self.name
        await self.counted()
        before = await standing_gate(self.operator.store, self.queue, name)
        ended = await self.calls.cancel_batch(
            name,
            reason=by_person(self.operator.name, self.note, "the batch was cancelled"),
            check=self.check_gate(state),
        )
        said = f"batch {name} is cancelled for good; {count_of(ended, 'waiting call')} ended and will not be sent"
        if before is not None and before.state is GateState.CANCELLED and not ended:
            said = f"batch {name} was cancelled already, at {in_words(before.since)}: {before.reason}"
        notes = await self.still_sending("the cancellation")
        return ActionResult(message=said, documents=({"batch_id": name, "cancelled": ended},), notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedialBatch(CountedAction):
    """The redial of the calls of a batch that ended with some outcomes, and that people redialled less than `times`.

    One that was cut within a day is taken up if it is ordered again by the same filter, unless another one is `new`:
    then the calls are those that it had selected, without those that it has redialled.
    """

    name_of_action: ClassVar[str] = "redial"

    outcomes: Sequence[str]
    times: int = 1
    new: bool = False

    async def question(self) -> Question:
        """The question with a count. Raises ActionRefusedError if no call can be redialled."""
        from voiceflow_worker.core.settling.changes import SINCE

        at, ordered = self.at or self.operator.store.clock.now(), await self.ordered()
        found = await self._redialled(at, dry_run=True)
        left_out = [
            f"{count_of(count, 'call')} {reason}" for reason, count in found.left_out.items() if reason != SINCE
        ]
        if not found.redialled:
            why = "; ".join(left_out) or "no call has ended with these outcomes"
            raise ActionRefusedError(f"no call of batch {self.batch} can be redialled: {why}")
        phones = count_of(found.redialled, "call")
        each = "its phone rings" if found.redialled == 1 else "each phone rings"
        return Question(
            title=f"Redial {phones} of batch {self.batch}?",
            will_be_called=(f"{phones}: {each} again, within the usual calling windows, rate and limits.",),
            will_not_be_called=(
                *(f"{line}: left out." for line in left_out),
                *await active_holds(self.operator.store, self.queue, self.batch),
                "Calls in doubt, calls that were answered, and people who opted out.",
            ),
            button=f"Redial {phones}",
            facts=await self._taken_up(found.redialled),
            version=self.count_version(at, ordered, await self.held(), sorted(left_out), most=(found.redialled,)),
            state=_digest_of(found.ids),
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        """Put calls back into the queue: those that were counted."""
        at, ids = self.at or self.operator.store.clock.now(), None
        if state is not None:
            ids = (await self._redialled(at, dry_run=True)).ids
            if _digest_of(ids) != state:
                raise changed_since(self.label)
        taken_up = await self._taken_up(None)
        done = await self._redialled(at, among=ids)
        notes = tuple(f"left out: {count_of(count, 'call')} {reason}" for reason, count in done.left_out.items())
        notes += taken_up
        said = f"redialled: {count_of(done.redialled, 'call')} of batch {self.batch}"
        return ActionResult(message=said, documents=(done.as_json(),), notes=notes)

    async def _cut_at(self, at: datetime) -> datetime | None:
        """When the redial that this one takes up was ordered, which was cut; None for none."""
        if self.new:
            return None
        entries = await entries_on(self.operator.store, self.queue, batch=self.batch)
        same = [each for each in entries if (each.action, each.asked) == ("redial", self._asked()) and each.at < at]
        # Of several that were cut, each took up the one before it.
        cut = list(takewhile(lambda each: each.is_unknown and at - TAKEN_UP_FOR < each.at, same))
        return cut[-1].at if cut else None

    async def _taken_up(self, left: int | None) -> tuple[str, ...]:
        """A sentence about the redial that was cut, of which so many calls are `left`."""
        store = self.operator.store
        if (cut_at := await self._cut_at(store.clock.now())) is None:
            return ()
        done, of_batch = 0, Listing(queue=self.queue, batch=self.batch, limit=PAGE)
        async with aclosing(find_pages(store, of_batch)) as pages:
            async for page in pages:
                notes = [(note.kind, note.at) for job in page for note in job.notes]
                done += sum(kind is NoteKind.REDIALLED and cut_at - COUNT_HOLDS <= at <= cut_at for kind, at in notes)
        rest = "the others follow" if left is None else f"{left} are left"
        of = "" if left is None else f" of {done + left}"
        return (f"{done}{of} were redialled at {in_words(cut_at)}; {rest}; `--new` begins another redial",)

    async def _redialled(
        self, at: datetime, *, dry_run: bool = False, among: Container[str] | None = None
    ) -> RedialledBatch:
        note, on = by_person(self.operator.name, self.note, "called again"), ",".join(self.outcomes)
        cut_at = await self._cut_at(at)
        at = at if cut_at is None else cut_at
        await self.counted()
        return await self.calls.redial_batch(
            self.name, on=on, times=self.times, note=note, at=at, dry_run=dry_run, among=among
        )


def _digest_of(ids: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sorted(ids)).encode()).hexdigest()


def waiting(states: States) -> int:
    """The calls that wait."""
    return states[JobState.QUEUED] + states[JobState.LEASED]


def _waiting(states: States) -> str:
    return count_of(waiting(states), "waiting call")


def _doubts(states: States) -> tuple[str, ...]:
    """A sentence about the calls in doubt, which the end of a hold does not send."""
    doubts = states[JobState.IN_DOUBT]
    said = f"{count_of(doubts, 'call')} in doubt: not called again until resolved"
    return (f"{said} (`voiceflow calls list --state in_doubt`, `voiceflow calls resolve`).",) if doubts else ()


def _under_way(states: States) -> str:
    """A sentence about the calls that a hold does not stop."""
    gone, doubts = states[JobState.SENDING] + states[JobState.SUBMITTED], states[JobState.IN_DOUBT]
    said = f"{count_of(gone, 'call')} in progress: not interrupted." if gone else "Nobody: no call is in progress."
    return f"{said} {count_of(doubts, 'call')} in doubt may have rung." if doubts else said


def _digest(gate: Gate | None) -> str:
    """A digest of a hold; empty if there is none. Pauses of one cause that follow each other have the same one."""
    if gate is None:
        return ""
    since = "" if gate.until is not None else gate.since.isoformat()
    return hashlib.sha256(f"{since} {gate.reason}".encode()).hexdigest()[:16]


def _state_of(gate: Gate | None, *, at: datetime) -> str:
    """What a gate is, as a text that changes with each order; empty if no order counts any more."""
    if gate is None or (gate.state is GateState.HELD and not gate.is_closed(at=at)):
        return ""
    return f"{gate.state}-{_digest(gate)}" if gate.state is GateState.HELD else f"{gate.state}-{gate.since.isoformat()}"
