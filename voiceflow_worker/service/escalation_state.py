"""How an escalation stands: its alarms and steps, who acknowledged it, and how all of that is stored and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from itertools import accumulate
from typing import Any, Self

from voiceflow_worker.core.base.identity import new_revision, queue_of
from voiceflow_worker.core.base.record_set import json_codec
from voiceflow_worker.core.writes import ESCALATION
from voiceflow_worker.model.jobs.call_json import CallResult, result_of
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.wording import count_of, in_words, rfc3339
from voiceflow_worker.reporting.story import ending
from voiceflow_worker.service.escalation import Escalation

UNSENT = frozenset({JobState.QUEUED, JobState.LEASED})
RESOLVED = "the alert is resolved"
LONGEST_SAID = 500
"""The most characters that are spoken of alarms."""
_LONGEST_OF_MANY = 120
_MOST_TEXTS = 20


class EscalationState(StrEnum):
    """The state of an escalation."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    UNANSWERED = "unanswered"
    """All numbers were called or skipped in all rounds, and nobody has pressed the key. Somebody still may."""
    STOPPED = "stopped"
    """It was ended by an order, or because its alerts are resolved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationStep:
    """A call of an escalation, or a number skipped: what came of it, in one word (`result`) and in a sentence.

    The words are those of calls (`CallResult`); and `acknowledged`; `outside_window` and `refused` for a number that
    was skipped; `pressed_late` for a key after the end; `not_called` for a step whose turn has not come. `call_id`
    is the id of its call, if it has one. Numbers that are called at once have the same `step`.
    """

    step: int
    round: int = 1
    number: str
    result: str
    message: str
    call_id: str | None = None
    at: datetime | None = None
    """The time at which it was called or skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Who acknowledged, and when: a person by the key in a call, or somebody (`by`) by an order."""

    at: datetime
    step: int | None = None
    number: str | None = None
    call_id: str | None = None
    by: str | None = None

    @property
    def who(self) -> str:
        """The number, or the name, of who acknowledged."""
        return self.number or self.by or "somebody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One of the things that an escalation is about, such as an alert: its `mark`, and what is said of it."""

    mark: str
    text: str
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How alarms are spoken: of one, and of several, with `{count}` and `{names}`, their texts.

    `left_out` is how many more there are, of which nothing is known.
    """

    one: str = "Alert: {names}"
    many: str = "{count} alarms: {names}"
    between: str = " "
    left_out: int = 0

    def of(self, alarms: Sequence[Alarm]) -> str:
        """The sentence about the alarms that have not ended; about all of them if all have."""
        live = [alarm for alarm in alarms if not alarm.ended] or list(alarms)
        count = len(live) + self.left_out
        if count == 1:
            return self.one.replace("{names}", live[0].text[:LONGEST_SAID])
        said: list[str] = []
        room = LONGEST_SAID
        for alarm in live:
            text = _cut(alarm.text, _LONGEST_OF_MANY)
            if not text or len(text) > room:
                break
            said.append(text)
            room -= len(text)
        left = count - len(said)
        names = self.between.join(said)
        if left and said:
            names += f" And {left} more." if self.between == " " else f" and {left} more"
        return self.many.replace("{count}", str(count)).replace("{names}", names).strip(" :")


def as_stored_alarms(alarms: Sequence[Alarm]) -> tuple[Alarm, ...]:
    """The alarms as an escalation keeps them: of many, the texts of the first are enough."""
    return tuple(
        replace(alarm, text=alarm.text[:LONGEST_SAID] if place < _MOST_TEXTS else "")
        for place, alarm in enumerate(alarms)
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """What an escalation is stored and shown with alike."""

    unique_key: str
    created_at: datetime
    state: EscalationState = EscalationState.OPEN
    ended_at: datetime | None = None
    reason: str | None = None
    acknowledged: Acknowledgement | None = None
    alarms: tuple[Alarm, ...] = ()
    not_before_reason: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether further numbers may be called."""
        return self.state is EscalationState.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationStatus(_Standing):
    """An escalation as it stands: what has happened at each step, and who has acknowledged.

    `steps` are those of the round in progress and of the one before. `resting_until` is set while it calls nobody, for
    the reason `not_before_reason`: its alert was acknowledged shortly before. `blocked` says why nothing can call now,
    such as that no worker runs. `may_ring` counts the calls that an order to end it found on their way, and that may
    still ring.
    """

    id: str
    queue: str
    batch_id: str
    steps: tuple[EscalationStep, ...]
    escalation: Escalation
    resting_until: datetime | None = None
    blocked: str | None = None
    may_ring: int = 0

    def in_words(self) -> str:
        """The escalation in one sentence."""
        sent = f"; {count_of(self.may_ring, 'call')} had been sent before that, and may still ring"
        return self._end_in_words() + (sent if self.may_ring else "")

    def _end_in_words(self) -> str:
        done = self.acknowledged
        if done is not None:
            how = f" with key {self.escalation.key}" if done.number is not None else ""
            return f"{done.who} acknowledged at {in_words(done.at)}{how}"
        if self.state is EscalationState.STOPPED:
            return f"it was ended before anybody acknowledged: {self.reason}"
        if self.resting_until is not None:
            return f"nobody is called until {in_words(self.resting_until)}: {self.not_before_reason}"
        if self.is_open:
            now = next((each for each in reversed(self.steps) if each.at is not None), self.steps[0])
            many = "" if now.round == 1 else f" of round {now.round}"
            place = (now.step - 1) % len(self.escalation.numbers) + 1
            blocked = f"; nobody can be called: {self.blocked}" if self.blocked else ""
            at_once = [each for each in self.steps if each.step == now.step]
            calls = ", ".join(f"{each.number} {each.message}" for each in at_once)
            return f"at step {place} of {len(self.escalation.numbers)}{many}: {calls}{blocked}"
        return f"none of {', '.join(self.escalation.every_number)} acknowledged"

    def as_json(self) -> dict[str, object]:
        """The status as JSON, with the fields of the escalation. Times are RFC 3339 in UTC."""
        done = self.acknowledged
        return {
            "id": self.id,
            "queue": self.queue,
            "state": self.state.value,
            "unique_key": self.unique_key,
            "batch_id": self.batch_id,
            "created_at": rfc3339(self.created_at),
            "ended_at": rfc3339(self.ended_at),
            "reason": self.reason,
            "message": self.in_words(),
            "resting_until": rfc3339(self.resting_until),
            "blocked": self.blocked,
            "may_ring": self.may_ring,
            "acknowledged": None if done is None else {**asdict(done), "at": rfc3339(done.at)},
            "alarms": [{"text": each.text, "ended": each.ended} for each in self.alarms],
            "steps": [{**asdict(each), "at": rfc3339(each.at)} for each in self.steps],
            **{name: each for name, each in self.escalation.as_json().items() if name not in {"numbers", "batch"}},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationRecord(_Standing):
    """A stored escalation. `step` is the number of the step whose turn it is, from 1, and `last` that of the last one.

    Here each number has a step of its own: of several that are called at once, `step` is the first until all are over.
    `owed` are the places of numbers whose phones were busy at their turns: they have the steps after the last one.
    `finished_steps` are the steps that are over, without those of older rounds whose calls have ended. The first step
    of a round other than the first waits for `round_starts_at`. With `not_before`, no step begins earlier, for the
    reason `not_before_reason`. Keys that were pressed before `begun_at` are of before it was begun again.
    `request_digest` is the digest of what was asked for. `token` is new with each write, as a compare-and-swap wants
    it.
    """

    request_digest: str
    escalation: dict[str, object]
    begun_at: datetime
    round_starts_at: datetime
    last: int | None = None
    step: int = 1
    owed: tuple[int, ...] = ()
    finished_steps: tuple[EscalationStep, ...] = ()
    wording: Wording | None = None
    not_before: datetime | None = None
    token: str = field(default_factory=new_revision)

    @classmethod
    def new(cls, escalation: Escalation, *, at: datetime, alarms: Sequence[Alarm] = (), **fields: Any) -> Self:
        """The record of an escalation that begins now."""
        last = None if escalation.rounds is None else escalation.rounds * len(escalation.every_number)
        return cls(
            escalation=escalation.as_json(), created_at=at, begun_at=at, round_starts_at=at, last=last,
            alarms=as_stored_alarms(alarms), **fields,
        )  # fmt: skip

    def restarted(self, size: int, rounds: int | None, *, at: datetime) -> EscalationRecord:
        """The record of an escalation that had ended, for further rounds of `size` steps."""
        step = ((self.step - 2) // size + 1) * size + 1 if self.step > 1 else 1  # the first step of a round
        return replace(
            self,
            state=EscalationState.OPEN,
            step=step,
            last=None if rounds is None else step - 1 + rounds * size,
            owed=(),
            begun_at=at,
            ended_at=None,
            reason=None,
        )

    def text(self) -> str:
        """The text of the record, with a new token."""
        renewed = replace(self, token=new_revision())
        return json_codec(EscalationRecord).text(renewed)

    @property
    def listed_at(self) -> datetime:
        """The time of its place in the list: when it began, began again or ended."""
        return self.ended_at or self.begun_at

    def joined(self, alarms: Sequence[Alarm], *, left_out: int) -> EscalationRecord:
        """The record with further alarms, or the same ones on again."""
        every = {each.mark: each for each in (*self.alarms, *alarms)}
        wording = None if self.wording is None else replace(self.wording, left_out=self.wording.left_out + left_out)
        return replace(self, alarms=as_stored_alarms([*every.values()]), wording=wording)

    def with_alarms(self, marks: Mapping[str, bool]) -> EscalationRecord:
        """The record with these alarms ended (True), or on again (False)."""
        alarms = tuple(replace(each, ended=marks.get(each.mark, each.ended)) for each in self.alarms)
        return replace(self, alarms=alarms)


@dataclass(frozen=True, slots=True)
class FoundEscalation:
    """An escalation as it was read: its record, the text of that, and the calls of its steps, by their numbers."""

    id: str
    record: EscalationRecord
    text: str
    escalation: Escalation
    jobs: Mapping[int, Job]

    @property
    def queue(self) -> str:
        """The queue of the escalation and its calls."""
        return queue_of(self.id)

    @property
    def batch_id(self) -> str:
        """The batch of the calls."""
        return self.escalation.batch_id or self.id.partition(".")[2]

    @property
    def size(self) -> int:
        """The number of steps in a round."""
        return len(self.escalation.every_number)

    def place(self, step: int) -> int:
        """The place, from 0, of the number of a step."""
        last, owed = self.record.last, self.record.owed
        return owed[step - last - 1] if last is not None and last < step <= last + len(owed) else (step - 1) % self.size

    def number(self, step: int) -> str:
        """The number of a step, as it was given."""
        return self.escalation.every_number[self.place(step)]

    def turn_at(self, step: int) -> range:
        """The steps that are taken at once from this one on; empty after the last one."""
        last, owed = self.record.last, self.record.owed
        if last is not None and step > last:
            return range(step, min(step, last + len(owed)) + 1)
        return range(step, step + self._sizes[self._group_of(self.place(step))])

    @property
    def turn(self) -> range:
        """The steps whose turn it is."""
        return self.turn_at(self.record.step)

    @property
    def waiting(self) -> list[int]:
        """The steps whose turn it is, without those that are over."""
        over = {each.step for each in self.record.finished_steps}
        return [step for step in self.turn if step not in over]

    @property
    def turn_has_begun(self) -> bool:
        """Whether one of the steps whose turn it is has a call, or was skipped."""
        return len(self.waiting) < len(self.turn) or any(step in self.jobs for step in self.turn)

    @property
    def _sizes(self) -> list[int]:
        return [1 if isinstance(each, str) else len(each) for each in self.escalation.numbers]

    def _group_of(self, place: int) -> int:
        """The place, from 0, in the list of what is called at once, of the place of a number."""
        return next(group for group, end in enumerate(accumulate(self._sizes)) if place < end)

    def _shown_step(self, step: int) -> int:
        """The number of a step as it is shown: the same for what is called at once."""
        groups, last = len(self.escalation.numbers), self.record.last
        if last is not None and step > last:
            return last // self.size * groups + step - last
        return (step - 1) // self.size * groups + self._group_of(self.place(step)) + 1

    def round_of(self, step: int) -> int:
        """The round of a step, from 1."""
        return (min(step, self.record.last or step) - 1) // self.size + 1

    @property
    def is_over(self) -> bool:
        """Whether all steps of all rounds are over."""
        return self.record.last is not None and self.record.step > self.record.last + len(self.record.owed)

    def owing(self, step: int) -> FoundEscalation:
        """The escalation whose number has another turn after all others, because its phone is busy at this one."""
        if self.record.last is None:
            return self
        return replace(self, record=replace(self.record, owed=(*self.record.owed, self.place(step))))

    @property
    def can_be_joined(self) -> bool:
        """Whether further alarms can be told by its first calls, because none has left."""
        return self.record.is_open and self.record.step == 1 and all(job.state in UNSENT for job in self.jobs.values())

    @property
    def spoken(self) -> Escalation:
        """The escalation with the words of its next call, which are about the alarms that have not ended."""
        wording, alarms = self.record.wording, self.record.alarms
        if wording is None:
            return self.escalation
        many = sum(not alarm.ended for alarm in alarms) > 1
        how = self.escalation.how
        if many and how is None:
            how = f"Press {self.escalation.key} for all."
        return replace(self.escalation, say=wording.of(alarms), how=how)

    def data(self) -> dict[str, object]:
        """The data of its next call, for its menu, and for the condition under which it may leave."""
        return {**self.spoken.data(), ESCALATION: self.id}

    @property
    def pressed(self) -> Acknowledgement | None:
        """The first key press among the calls since it was begun."""
        presses = [
            Acknowledgement(at=press.at, step=step, number=job.number_of(post), call_id=job.id)
            for step, job in self.jobs.items()
            for post in job.posts
            for press in post.presses
            if press.answer == "yes" and press.at >= self.record.begun_at
        ]
        return min(presses, key=lambda each: each.at, default=None)

    def step_of(self, job: Job) -> int | None:
        """The step of a call; None if it is of an older round."""
        return next((step for step, each in self.jobs.items() if each.id == job.id), None)

    def ending(self, job: Job) -> str | None:
        """What came of a call that is no reason to wait any longer, in words; None while it is in progress."""
        if job.state is JobState.IN_DOUBT:
            return _WORDS[CallResult.IN_DOUBT]
        # A call that was certainly placed, and of which no summary comes, may still be answered.
        return None if not job.state.is_final or job.state is JobState.ACCEPTED else self._words_of(job)

    def _words_of(self, job: Job) -> str:
        """What has come of a call so far, in words."""
        done = self.record.acknowledged
        if done is not None and done.call_id == job.id:
            return f"acknowledged with key {self.escalation.key}"
        if job.answer == "yes":
            late = "" if self.record.is_open else " after it had ended"
            return f"pressed {self.escalation.key}{late}"
        if (known := _WORDS.get(result_of(job))) is not None:
            return known.format(key=self.escalation.key)
        reason = f": {job.reason}" if job.reason else ""
        if job.state.is_final:
            end = ending(job)
            return f"could not be called: {end}" if end and not reason else f"was not called{reason}"
        return f"waits to be called{reason}" if job.state in UNSENT else "is being called"

    def of_call(self, step: int, job: Job) -> EscalationStep:
        """A step with what its call says now."""
        done = self.record.acknowledged
        result = result_of(job)
        if done is not None and done.call_id == job.id:
            result = EscalationState.ACKNOWLEDGED.value
        elif job.answer == "yes":
            result = "pressed_late"
        return self._step(step, result, self._words_of(job), call_id=job.id, at=job.created_at)

    def skipped(self, step: int, result: str, why: str, *, at: datetime) -> EscalationStep:
        """A step that is skipped for this reason."""
        return self._step(step, result, f"was not called: {why}", at=at)

    def not_called(self, step: int, why: str) -> EscalationStep:
        """A step whose turn has not come."""
        return self._step(step, "not_called", f"not called: {why}")

    def _step(self, step: int, result: str, message: str, **more: Any) -> EscalationStep:
        numbered: dict[str, Any] = {"step": step, "round": self.round_of(step), "number": self.number(step)}
        return EscalationStep(**numbered, result=result, message=message, **more)

    def shown(self, *, blocked: str | None = None, may_ring: int = 0) -> EscalationStatus:
        """The escalation with what its calls say now."""
        record = self.record
        rests = record.is_open and record.step == 1 and not self.jobs
        alike: dict[str, Any] = {each.name: getattr(record, each.name) for each in fields(_Standing)}
        if (done := record.acknowledged) is not None and done.step is not None:
            alike["acknowledged"] = replace(done, step=self._shown_step(done.step))
        return EscalationStatus(
            **alike,
            id=self.id,
            queue=self.queue,
            batch_id=self.batch_id,
            steps=tuple(replace(each, step=self._shown_step(each.step)) for each in self._shown_steps()),
            escalation=self.spoken,
            resting_until=record.not_before if rests else None,
            blocked=blocked,
            may_ring=may_ring,
        )

    def _shown_steps(self) -> list[EscalationStep]:
        return sorted((*self._over_steps(), *self._further_steps()), key=lambda each: each.step)

    def _over_steps(self) -> Iterator[EscalationStep]:
        for finished in self.record.finished_steps:
            job = self.jobs.get(finished.step)
            # Of a deleted call, the record says what came of it.
            is_newer = False
            if job is not None and job.body and job.state is not JobState.CANCELLED:
                is_newer = job.answer == "yes" or job.state.is_final
            yield self.of_call(finished.step, job) if job is not None and is_newer else finished

    def _further_steps(self) -> Iterator[EscalationStep]:
        record = self.record
        last = (
            self.round_of(record.step) * self.size
            if record.is_open or (record.step - 1) % self.size
            else record.step - 1
        )
        if record.last is not None and last >= record.last:
            last = record.last + len(record.owed)
        over = {each.step for each in record.finished_steps}
        for step in range(record.step, last + 1):
            if step in over:
                continue
            job = self.jobs.get(step)
            if job is not None and job.body:
                yield self.of_call(step, job)
                continue
            done = record.acknowledged
            why = "earlier numbers come first" if record.is_open else record.reason or "the escalation has ended"
            why = why if done is None else f"{done.who} acknowledged before"
            yield self.not_called(step, why)


_WORDS: Mapping[str, str] = {
    CallResult.ANSWERED: "answered, and did not press {key}",
    CallResult.NO_KEY: "answered, and pressed no key",
    CallResult.WRONG_KEY: "answered, and did not press {key}",
    CallResult.BUSY: "was busy",
    CallResult.NO_ANSWER: "did not answer",
    CallResult.OPTED_OUT: "did not answer, and has opted out of calls",
    CallResult.IN_DOUBT: "it is not known whether the phone rang",
    CallResult.ACCEPTED: "was called, and how the call ended is not known",
}
"""What came of a call, by its result."""
