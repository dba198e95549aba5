"""What people do to queues, calls and the suppression list: hold, resume, cancel, redial, resolve, suppress.

Each act has one question, its checks, its deed and its result. Commands and pages make an act, ask, carry it out, and
show the result. Its methods raise StoreError, InvalidInputError, JobError and ActRefusedError.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from voiceflow_worker.core.overview.ordered import Interface, Ordered, remember
from voiceflow_worker.core.overview.story import closed_in_words, gate_as_json, gate_in_words, one_line
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import queue_of
from voiceflow_worker.core.ports.names import BatchNames
from voiceflow_worker.core.ports.reading import count_states, gates_at, gates_of, limits_of
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.core.suppression import Suppression, SuppressionList, why_refused
from voiceflow_worker.errors import InvalidInputError, JobNotFoundError, VoiceflowError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.reading import every_reading, read_number
from voiceflow_worker.model.text.wording import QUEUE_NAME, by_person, count_of, in_words, rate_in_words, rfc3339

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.files.number_file import NumberFile
    from voiceflow_worker.core.settling.changes import RedialledBatch

COUNT_HOLDS = timedelta(minutes=15)
"""The time for which a count of calls to redial is valid. After that, the calls must be counted again."""
_LONGEST_NAMED = 100

TimeAt8x8 = Callable[[], Awaitable[datetime | None]]
"""A function that asks 8x8 for the time of its clock; None if there is no answer."""
States = Mapping[JobState, int]


class ActRefusedError(VoiceflowError):
    """Raised when an act cannot be done as things stand. Nothing was changed."""


class UnknownSubjectError(ActRefusedError):
    """Raised when an act names a queue or a batch that the store does not have."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A person who acts on a store, with the policy of its workers. Without a `name`, reasons name nobody.

    Each act is kept with the interface that it was ordered `on`, and with the name, or else the `login` of the person.
    """

    store: Store
    policy: CallPolicy
    name: str | None = None
    on: Interface = Interface.PYTHON
    login: str | None = None
    time_at_8x8: TimeAt8x8 | None = None

    def queue(self, name: str) -> CallQueue:
        """The queue with this name. Raises UnknownSubjectError for a text that cannot be the name of a queue."""
        if not QUEUE_NAME.fullmatch(name):
            raise UnknownSubjectError(f"{name[:_LONGEST_NAMED]!r} is not the name of a queue")
        return CallQueue(self.store, name, policy=self.policy)

    async def call(self, job_id: str) -> tuple[CallQueue, Job]:
        """The queue of a call, and the call. Raises JobNotFoundError."""
        name = queue_of(job_id)
        if not QUEUE_NAME.fullmatch(name):
            raise JobNotFoundError(job_id[:_LONGEST_NAMED])
        queue = self.queue(name)
        return queue, await queue.get(job_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The question before an act. `rings` and `silent` say which phones will ring and which will not.

    `seen` is what the person has seen, for `Act.do`. `button` is the answer yes.
    """

    title: str
    rings: tuple[str, ...]
    silent: tuple[str, ...]
    button: str
    seen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActResult:
    """The result of an act: a sentence, remarks, and one JSON document for each thing that was changed.

    `lines` say more than the sentence. `undone` means that something was left as it was, and the sentence says why.
    """

    said: str
    documents: tuple[Mapping[str, object], ...] = ()
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    undone: bool = False


class Act(ABC):
    """Something that a person can do."""

    operator: Operator
    name_of_act: ClassVar[str]
    is_for_good: ClassVar[bool] = False
    """Whether the act cannot be taken back, or only before phones ring: every interface asks first."""

    @abstractmethod
    async def question(self) -> Question:
        """The question before the act. This changes nothing. Raises an error if the act would be refused."""

    async def do(self, seen: str | None = None) -> ActResult:
        """Carry out the act, and keep who ordered it. With `seen` of a question, it is refused if that is no longer so.

        An act that leaves everything as it was is not kept.
        """
        done = await self.carry_out(seen)
        if not done.undone:
            who, about = self.operator, self.about()
            order = Ordered(
                at=who.store.clock.now(), act=self.name_of_act, said=done.said, on=who.on, by=who.name or who.login,
                note=getattr(self, "note", None) or None, batch=about.get("batch"), call=about.get("call"),
            )  # fmt: skip
            await remember(who.store, about.get("queue"), order)
        return done

    @abstractmethod
    async def carry_out(self, seen: str | None) -> ActResult:
        """The deed of `do`."""

    def about(self) -> Mapping[str, str | None]:
        """The `queue`, `batch` and `call` that the act is about, as far as there are any."""
        return {}


# --- Queues and batches -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAct(Act):
    """An act on a queue, or on one batch of it."""

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
    def named(self) -> str:
        """The queue or the batch in words."""
        return f"queue {self.queue}" if self.batch is None else f"batch {self.batch} of queue {self.queue}"

    async def counted(self) -> States:
        """The calls by state. Raises UnknownSubjectError for a batch without calls."""
        store, queue = self.operator.store, self.calls.name
        if (unknown := await BatchNames(store, queue).why_unknown(self.batch)) is not None:
            raise UnknownSubjectError(unknown)
        return await count_states(store, queue, batch_id=self.batch)

    async def closed(self) -> list[Gate]:
        """The closed gates of the queue and of its batches."""
        store = self.operator.store
        now = store.clock.now()
        return [gate for gate in await gates_of(store, self.calls.name) if gate.is_closed(at=now)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(QueueAct):
    """The hold of a queue or a batch: no more calls are sent. Without `lasts`, until somebody resumes."""

    name_of_act: ClassVar[str] = "hold"

    lasts: timedelta | None = None

    async def question(self) -> Question:
        states = await self.counted()
        return Question(
            title=f"Hold {self.named}?",
            rings=(_under_way(states),),
            silent=(f"{_waiting(states)}. Nothing more rings until somebody resumes, or the hold ends by itself.",),
            button="Hold",
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        if self.lasts is not None and self.lasts <= timedelta():
            raise InvalidInputError("a hold of 0 holds nothing: give a duration such as 10m, or none")
        await self.counted()
        calls, store = self.calls, self.operator.store
        until = None if self.lasts is None else store.clock.now() + self.lasts
        before = (await gates_at(store, calls.name, [self.batch])).values()
        gate = await calls.hold(
            batch_id=self.batch, until=until, reason=by_person(self.operator.name, self.note, "held")
        )
        left = (await count_states(store, calls.name, batch_id=self.batch))[JobState.SENDING]
        notes = [f"{count_of(left, 'call')} had left before the hold, and may still ring"] if left else []
        if gate in before:
            notes.append("nothing was changed: an earlier hold lasts longer, or as long")
        return ActResult(said=closed_in_words(gate), documents=(gate_as_json(gate),), notes=tuple(notes))


class Resume(QueueAct):
    """The end of the hold of a queue or a batch."""

    name_of_act: ClassVar[str] = "resume"

    async def question(self) -> Question:
        states, closed = await self.counted(), await self.closed()
        limits = await limits_of(self.operator.store, self.calls.name)
        rate = rate_in_words(limits.rate if limits is not None else None)
        own = self._own(closed)
        ends = () if own is None or own.state is GateState.CANCELLED else (f"{closed_in_words(own)}. This hold ends.",)
        stay = [gate for gate in closed if gate is not own and (self.batch is None or gate.scope is GateScope.QUEUE)]
        starts = [gate for gate in closed if gate.start is not None and gate.name == self.batch]
        ends = (*ends, *(f"{closed_in_words(gate)}. The calls that it has stored may ring." for gate in starts))
        return Question(
            title=f"Resume {self.named}?",
            rings=(*ends, f"{_waiting(states)}. Those that are due begin to ring (rate: {rate})."),
            silent=(
                *(f"{gate_in_words(gate)}, and stays so." for gate in stay),
                "Calls outside their calling windows, or before their due time, wait until then.",
            ),
            button="Resume",
            seen=_digest(own),
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        """Open the gate. A batch without calls is opened too, and then reported as unknown."""
        now = self.operator.store.clock.now()

        def is_seen(gate: Gate) -> bool:
            return seen is None or not gate.is_closed(at=now) or _digest(gate) == seen

        gate = await self.calls.resume(batch_id=self.batch, over=is_seen)
        if not is_seen(gate):
            raise ActRefusedError(f"another hold was set since the question: {closed_in_words(gate)}")
        await self.counted()
        is_open = gate.state is GateState.OPEN
        closed = "" if is_open else f"{gate_in_words(gate)}, and stays so: enqueue its calls as a new batch"
        said = closed or f"{gate.scope.value} {gate.name} is open"
        return ActResult(said=said, documents=(gate_as_json(gate),), undone=not is_open)

    def _own(self, closed: Sequence[Gate]) -> Gate | None:
        """The closed gate that this act opens."""
        scope, name = (GateScope.QUEUE, self.queue) if self.batch is None else (GateScope.BATCH, self.batch)
        return next((gate for gate in closed if gate.start is None and (gate.scope, gate.name) == (scope, name)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(QueueAct):
    """A new rate for all workers of a queue, in calls per second; None is unlimited.

    With `resets`, the rate that a person set is withdrawn instead.
    """

    name_of_act: ClassVar[str] = "rate"

    rate: float | None = None
    resets: bool = False

    async def question(self) -> Question:
        states = await self.counted()
        to = "that of the next worker that starts" if self.resets else rate_in_words(self.rate)
        return Question(
            title=f"Change the rate of {self.named} to {to}?",
            rings=(f"{_waiting(states)}, at the new rate from now on.",),
            silent=("Calls behind a hold, outside their calling windows, or before their due time.",),
            button="Change the rate",
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        calls = self.calls
        if not self.resets:
            await calls.set_rate(self.rate)
        was_set = await calls.reset_rate() if self.resets else False
        limits = await limits_of(self.operator.store, calls.name)
        rate = None if limits is None else limits.rate
        said = f"the rate of queue {calls.name} is {rate_in_words(rate)} for all its workers"
        if self.resets:
            done = "gets the rate of the next worker that starts" if was_set else "had no rate set by hand"
            said = f"queue {calls.name} {done}"
        return ActResult(said=said, documents=({"queue": calls.name, "rate": rate, "is_set": limits is not None},))


class BatchAct(QueueAct):
    """An act on a batch that cannot be taken back."""

    is_for_good: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The batch. Raises UnknownSubjectError if none is named."""
        if self.batch is None:
            raise UnknownSubjectError("no batch is named; this cannot be done to a whole queue")
        return self.batch


class CancelBatch(BatchAct):
    """The cancellation of a batch: its waiting calls end, and nothing can be added to it."""

    name_of_act: ClassVar[str] = "cancel"

    async def question(self) -> Question:
        _, states = self.name, await self.counted()
        return Question(
            title=f"Cancel {self.named} for good?",
            rings=(_under_way(states),),
            silent=(
                f"{_waiting(states)}: cancelled when you confirm.",
                "Redials of this batch, and calls that are added to the batch later. They are cancelled too.",
            ),
            button="Cancel the batch for good",
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        name, _ = self.name, await self.counted()
        ended = await self.calls.cancel_batch(
            name, reason=by_person(self.operator.name, self.note, "the batch was cancelled")
        )
        said = f"batch {name} is cancelled for good; {count_of(ended, 'waiting call')} ended and will not be sent"
        return ActResult(said=said, documents=({"batch_id": name, "cancelled": ended},))


@dataclass(frozen=True, slots=True, kw_only=True)
class RedialBatch(BatchAct):
    """The redial of the calls of a batch that ended with some outcomes, and that people redialled less than `times`."""

    name_of_act: ClassVar[str] = "redial"

    outcomes: Sequence[str]
    times: int = 1

    async def question(self) -> Question:
        """The question with a count. Raises ActRefusedError if no call can be redialled."""
        at = self.operator.store.clock.now()
        found = await self._ordered(at, dry_run=True)
        left_out = [f"{count_of(count, 'call')} {reason}" for reason, count in found.left_out.items()]
        if not found.redialled:
            why = "; ".join(left_out) or "no call has ended with these outcomes"
            raise ActRefusedError(f"no call of batch {self.batch} can be redialled: {why}")
        phones = count_of(found.redialled, "call")
        each = "its phone rings" if found.redialled == 1 else "each phone rings"
        return Question(
            title=f"Redial {phones} of batch {self.batch}?",
            rings=(f"{phones}: {each} once more, within the usual calling windows, rate and limits.",),
            silent=(
                *(f"{line}: left out." for line in left_out),
                *await kept_back(self.operator.store, self.queue, self.batch),
                "Calls in doubt, calls that were answered, and people who opted out.",
            ),
            button=f"Redial {phones}",
            seen=at.isoformat(),
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        """Put calls back into the queue: those that were counted, if the count was `seen`."""
        now = self.operator.store.clock.now()
        done = await self._ordered(now if seen is None else _counted_at(seen, now=now))
        notes = tuple(f"left out: {count_of(count, 'call')} {reason}" for reason, count in done.left_out.items())
        said = f"redialled: {count_of(done.redialled, 'call')} of batch {self.batch}"
        return ActResult(said=said, documents=(done.as_json(),), notes=notes)

    async def _ordered(self, at: datetime, *, dry_run: bool = False) -> RedialledBatch:
        note, on = by_person(self.operator.name, self.note, "called again"), ",".join(self.outcomes)
        done = await self.calls.redial_batch(self.name, on=on, times=self.times, note=note, at=at, dry_run=dry_run)
        await self.counted()
        return done


# --- Single calls -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAct(Act):
    """An act on one call. `seen` is the number of its newest POST."""

    operator: Operator
    call: str
    note: str | None = None

    def about(self) -> Mapping[str, str | None]:
        return {"queue": queue_of(self.call), "call": self.call}


class CancelCall(CallAct):
    """The cancellation of a call that was not sent."""

    name_of_act: ClassVar[str] = "cancel"

    async def question(self) -> Question:
        _, job = await self.operator.call(self.call)
        at = self.operator.store.clock.now()
        lifecycle.cancel(job, at=at, reason="", policy=self.operator.policy)
        return Question(
            title=f"Cancel the call to {job.destination}?",
            rings=("Nothing. If the call is sent before you confirm, it is not cancelled.",),
            silent=(f"{job.number} is not called, and not redialled.",),
            button="Cancel the call",
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        calls, job = await self.operator.call(self.call)
        job = await calls.cancel(job.id, reason=by_person(self.operator.name, self.note, "cancelled"))
        return ActResult(said=one_line(job), documents=(call_as_json(job),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Redial(CallAct):
    """The redial of a call that has ended. `force` redials a person who was reached."""

    name_of_act: ClassVar[str] = "redial"

    force: bool = False

    async def question(self) -> Question:
        _, job = await self.operator.call(self.call)
        again = lifecycle.redial(job, at=self.operator.store.clock.now(), note="", force=True)
        reached = job.state in {JobState.COMPLETED, JobState.ACCEPTED} and not self.force
        consent = ", if you order it although this person was reached" if reached else ""
        return Question(
            title=f"Call {job.destination} again?",
            rings=(f"{job.destination} rings once more, at {in_words(again.due_at)} or later{consent}.",),
            silent=tuple(await self._obstacles(job)) or ("Nothing else changes.",),
            button="Call again",
            seen=str(job.post_count),
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        calls, job = await self.operator.call(self.call)
        number = job.post_count if seen is None else _post_number(seen)
        note = by_person(self.operator.name, self.note, "called again")
        job = await calls.redial(job.id, note=note, force=self.force, post=number)
        return _about_post(f"{job.destination} will be called again at {in_words(job.due_at)} or later", job, number)

    async def _obstacles(self, job: Job) -> list[str]:
        """Sentences about everything that prevents the call at present."""
        store = self.operator.store
        refusal = why_refused(job, await SuppressionList(store).standing(job.parties))
        end = "The call will be cancelled when its turn comes."
        listed = [] if refusal is None else [f"The phone will not ring: {refusal[1]}. {end}"]
        return listed + await kept_back(store, job.queue, job.batch_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve(CallAct):
    """A person's decision about a call in doubt: it was `placed`, or not. A note says how they know."""

    name_of_act: ClassVar[str] = "resolve"

    placed: bool = True
    witnessed: datetime | None = None
    """The time by the clock of 8x8, if it is known. "Not placed" is refused while 8x8 may still place the call."""

    async def question(self) -> Question:
        """The question, for both decisions. Raises JobError for a call that is not in doubt."""
        _, job = await self.operator.call(self.call)
        now, policy = self.operator.store.clock.now(), self.operator.policy
        lifecycle.resolve(job, placed=True, at=now, witnessed=now, note="", policy=policy)
        since, post = decidable_from(job, policy), job.open_post
        early = f"8x8 may still place the call to {job.number}. “It was not placed” is refused until "
        return Question(
            title=f"Resolve the call to {job.number}, which is in doubt?",
            rings=(
                "“It was not placed” puts a call back in the queue; its phone rings. If you are wrong, it rings twice.",
                *([f"{early}{in_words(since)}."] if since is not None and now <= since else []),
            ),
            silent=("“It was placed” ends a call as accepted, so its phone does not ring again.",),
            button="Resolve",
            seen="" if post is None else str(post.number),
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        if not (self.note or "").strip():
            raise InvalidInputError("write how you know what happened; the note is stored with the call")
        calls, job = await self.operator.call(self.call)
        newest = None if job.open_post is None else job.open_post.number
        number = newest if seen is None else _post_number(seen)
        note = by_person(self.operator.name, self.note, "resolved")
        job = await calls.resolve(job.id, placed=self.placed, note=note, witnessed=self.witnessed, post=number)
        return _about_post(one_line(job), job, number)


def decidable_from(job: Job, policy: CallPolicy) -> datetime | None:
    """The time from which a person may say that a call in doubt was not placed, because 8x8 can no longer place it.

    None if the call is not in doubt.
    """
    post = job.open_post
    return None if post is None else post.valid_until + policy.clock_skew


# --- The suppression list -----------------------------------------------------------------------------------------

_GOES_ON = "Calls that were already sent. They are not stopped."
_SHOWN = 5
"""The most bad lines of a file that a result tells."""
_ENDS = "Waiting calls to these numbers, in every queue. They end unsent when their turn comes."


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAct(Act):
    """An act on the suppression list. Numbers stay on it for good, `until` a time, or as long as it `lasts`."""

    operator: Operator
    numbers: Sequence[str] = ()
    country: str | None = None
    note: str | None = None
    until: datetime | None = None
    lasts: timedelta | None = None

    @property
    def listed(self) -> SuppressionList:
        """The list."""
        return SuppressionList(self.operator.store)

    async def add(self, numbers: Iterable[str]) -> Mapping[str, Suppression]:
        """Put numbers on the list, with the note and the name of the operator, if it is known."""
        if self.until is not None and self.lasts is not None:
            raise InvalidInputError("a time and a duration exclude each other: give one of them")
        who, now = self.operator.name, self.operator.store.clock.now()
        until = self.until if self.lasts is None else now + self.lasts
        reason = self.note or "" if who is None else by_person(who, self.note, "put on the list")
        return await self.listed.add(*numbers, reason=reason, until=until, country=self.country)


class Suppress(ListAct):
    """The addition of numbers to the list. Nothing is changed if one of them is not a telephone number."""

    name_of_act: ClassVar[str] = "suppress"

    async def question(self) -> Question:
        return Question(
            title="Stop calling these numbers?",
            rings=(_GOES_ON,),
            silent=(_ENDS, "New calls to these numbers. They are refused."),
            button="Put the numbers on the list",
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        standing = await self.add(self.numbers)
        found = [number for text in self.numbers for number in every_reading(text, self.country)]
        doubts = [message for number in found for message in number.messages]
        return ActResult(
            said=f"{count_of(len(standing), 'number')} on the list",
            documents=tuple(entry.as_json() for entry in standing.values()),
            lines=tuple(_entry(entry) for entry in standing.values()),
            notes=tuple(f"warning: {text}" for text in doubts),
        )


class Unsuppress(ListAct):
    """The removal of numbers from the list."""

    name_of_act: ClassVar[str] = "unsuppress"

    async def question(self) -> Question:
        """The question. Raises ActRefusedError if no number is on the list."""
        found = await self.listed.find(*self.numbers, country=self.country)
        if not found:
            raise ActRefusedError(f"{', '.join(self.numbers)[:_LONGEST_NAMED]} is not on the suppression list")
        return Question(
            title=f"Take {', '.join(found)} off the suppression list?",
            rings=("Waiting calls to this number, and calls that are enqueued from now on.",),
            silent=("Calls that have ended because of the list.", "Calls that 8x8 stops by its own block list."),
            button="Take the number off the list",
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        found = await self.listed.find(*self.numbers, country=self.country)
        gone = await self.listed.remove(*self.numbers, country=self.country)
        wanted = dict.fromkeys(read_number(number, self.country).e164 for number in self.numbers)
        lines = [f"{each} is off the list" if each in found else f"{each} was not on the list" for each in wanted]
        return ActResult(
            said="; ".join(lines),
            documents=tuple({"number": each, "removed": each in gone} for each in wanted),
            lines=tuple(lines),
            undone=len(gone) < len(wanted),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportNumbers(ListAct):
    """The addition of the numbers of a file. With bad lines, nothing is imported, unless `skips_bad` is True."""

    name_of_act: ClassVar[str] = "suppress"

    found: NumberFile | None = None
    skips_bad: bool = False

    async def question(self) -> Question:
        return Question(
            title="Stop calling the numbers in a file?",
            rings=(_GOES_ON,),
            silent=(_ENDS, "Nothing is imported if a line is not a number, unless such lines are skipped."),
            button="Import",
        )

    async def carry_out(self, seen: str | None) -> ActResult:
        if self.found is None:
            raise InvalidInputError("choose a file with numbers")
        if self.found.findings and not self.skips_bad:
            return refused_import(self.found)
        numbers = self.found.numbers
        known = len(await self.listed.find(*numbers))
        await self.add(numbers)
        return _imported(self.found, added=len(numbers) - known, known=known)


def refused_import(found: NumberFile) -> ActResult:
    """The result of an import of a file with bad lines: nothing is imported."""
    it = "it" if len(found.findings) == 1 else "them"
    said = f"{found.bad_in_words}; nothing is imported. Correct {it}"
    return replace(_imported(found, added=0, known=0), said=said, undone=True)


def _imported(found: NumberFile, *, added: int, known: int) -> ActResult:
    bad, doubts = len(found.findings), found.warnings
    note = f"warning: {count_of(len(doubts), 'number')} may have been misread"
    return ActResult(
        said=f"{count_of(added, 'number')} added, {known} already on the list, {bad} bad",
        documents=({"rows": found.rows, "added": added, "known": known, "rejected": bad},),
        lines=tuple(f"line {each.row}: {each.message}" for each in found.findings[:_SHOWN]),
        notes=(f"{note}, such as line {doubts[0].row}: {doubts[0].message}",) if doubts else (),
    )


# --- Words --------------------------------------------------------------------------------------------------------


def _waiting(states: States) -> str:
    return count_of(states[JobState.QUEUED] + states[JobState.LEASED], "waiting call")


def _under_way(states: States) -> str:
    """A sentence about the calls that a hold does not stop."""
    gone, doubts = states[JobState.SENDING] + states[JobState.SUBMITTED], states[JobState.IN_DOUBT]
    said = f"{count_of(gone, 'call')} under way: not interrupted." if gone else "Nothing: no call is under way."
    return f"{said} {count_of(doubts, 'call')} in doubt may have rung." if doubts else said


async def kept_back(store: Store, queue: str, batch: str | None) -> list[str]:
    """Sentences about the gates that keep calls from being sent."""
    closed = [gate for gate in await gates_of(store, queue) if gate.keeps_back(batch, at=store.clock.now())]
    return [f"Nothing is sent as long as {gate_in_words(gate)}." for gate in closed]


def _digest(gate: Gate | None) -> str:
    """A digest of a hold; empty if there is none. Pauses of one cause that follow each other have the same one."""
    if gate is None:
        return ""
    since = "" if gate.until is not None else gate.since.isoformat()
    return hashlib.sha256(f"{since} {gate.reason}".encode()).hexdigest()[:16]


def _counted_at(seen: str, *, now: datetime) -> datetime:
    """The time of the count that the person has seen. Raises ActRefusedError if the count is too old."""
    try:
        at = datetime.fromisoformat(seen)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not now - COUNT_HOLDS <= at <= now + COUNT_HOLDS:
        minutes = COUNT_HOLDS // timedelta(minutes=1)
        raise ActRefusedError(
            f"no call was redialled: the count that you confirmed is older than {minutes} minutes, or has no valid "
            "time; count the calls again, and check the new count"
        )
    return min(at, now)


def _post_number(seen: str) -> int:
    """The number of the POST that a person has seen; 0 for none."""
    return int(seen[:9]) if seen.isascii() and seen.isdigit() else 0


def _about_post(said: str, job: Job, number: int | None) -> ActResult:
    """The result of a decision about a POST of a call."""
    document, lines = call_as_json(job), [one_line(job)]
    if number is not None and (judged := job.post(number)) is not None:
        document["judged_post"] = {"number": judged.number, "began_at": rfc3339(judged.began_at)}
        lines.append(f"the decision was about POST {judged.number}, begun at {in_words(judged.began_at)}")
    return ActResult(said=said, documents=(document,), lines=tuple(lines))


def _entry(entry: Suppression) -> str:
    end = f"until {in_words(entry.until)}" if entry.until else "any more"
    return f"{entry.number} will not be called {end}" + (f": {entry.reason}" if entry.reason else "")
