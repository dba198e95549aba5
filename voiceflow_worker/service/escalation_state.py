"""How an escalation stands: its definition as it was ordered, and what its calls and its end say of it.

Nothing tells how far a round has come but its calls. The call of each number has a key of the escalation, the round,
the step and the place in that, so whoever looks at the calls that are there knows which come next, and makes them: what
another has made meanwhile is skipped. A number that cannot be called when its turn comes gets a call that has ended.
A further round begins with the number of it in the definition, which the first who comes writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, Self

from voiceflow_worker.core.base.identity import new_revision, queue_of
from voiceflow_worker.core.base.record_set import json_codec
from voiceflow_worker.core.writes import ESCALATION, EscalationEnd
from voiceflow_worker.model.jobs.call_json import CallResult, result_of
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind
from voiceflow_worker.model.text.speakable import LONGEST_SAID, shortened
from voiceflow_worker.model.text.wording import count_of, in_words, rfc3339, write_duration
from voiceflow_worker.reporting.story import ending
from voiceflow_worker.service.escalation import Escalation

UNSENT = frozenset({JobState.QUEUED, JobState.LEASED})
RING = timedelta(seconds=90)
"""The time after `answer_within` in which a call that was placed at the last moment can still ring and be answered."""
RESOLVED = "the alert is resolved"
_LONGEST_OF_MANY = 120
_NEVER_LATER = datetime.max.replace(tzinfo=UTC)
_AND_MORE = 20
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
class Alarm:
    """One of the things that an escalation is about, such as an alert: its `mark`, and what is said of it."""

    mark: str
    text: str
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The newest escalation of an alert for somebody, the latest start of the alert that it was told of, and when.

    Alertmanager takes the end of an alert for its start if it was posted with its end alone. So a start may lie in the
    future: the alert fires since it was told.
    """

    escalation: str
    started_at: datetime | None
    told_at: datetime | None = None

    @property
    def began(self) -> datetime | None:
        """Since when the alert fires: no alert begins after it was told, whichever clock is ahead."""
        return min(self.started_at, self.told_at) if self.started_at and self.told_at else self.started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRecord:
    """What is known of an alert. `heard` is by those who are to be called (`Escalation.target`).

    `over_at` is set while it does not fire: the time at which it ended, and `over` is when that was told.
    """

    over_at: datetime | None = None
    over: datetime | None = None
    heard: Mapping[str, Heard] = field(default_factory=dict[str, Heard])
    token: str = field(default_factory=new_revision)

    def is_over(self, escalation_id: str) -> bool:
        """Whether the alert does not fire, or has newer escalations. One of which nothing is known fires."""
        return bool(self.heard) and (self.over_at is not None or escalation_id not in self.escalations)

    @property
    def escalations(self) -> set[str]:
        """The newest escalations of the alert."""
        return {each.escalation for each in self.heard.values()}


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
            return shortened(self.one.replace("{names}", live[0].text))
        said: list[str] = []
        head, counted, tail = self.many.partition("{count}")
        frame = f"{shortened(head.rstrip(), LONGEST_SAID // 2)} {counted}{tail}".lstrip() if counted else head
        room = LONGEST_SAID - len(frame) - _AND_MORE
        for alarm in live:
            text = shortened(alarm.text, _LONGEST_OF_MANY)
            if not text or len(text) > room:
                break
            said.append(text)
            room -= len(text) + len(self.between)
        left = count - len(said)
        names = self.between.join(said)
        if left and said:
            names += f" And {left} more." if self.between == " " else f" and {left} more"
        return frame.replace("{count}", str(count)).replace("{names}", names).strip(" :")


def as_stored_alarms(alarms: Sequence[Alarm]) -> tuple[Alarm, ...]:
    """The alarms as an escalation keeps them: of many, the texts of the first are enough."""
    return tuple(
        replace(alarm, text=shortened(alarm.text) if place < _MOST_TEXTS else "") for place, alarm in enumerate(alarms)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationRecord:
    """The definition of an escalation, as it was ordered. What has come of it is in its calls, and in its end.

    `round` is the one whose calls are made, and `last` the last one that is to be. Nobody is called before
    `not_before`, for its reason. From `until` on, no round begins: no notification has named its alerts for
    `forget_after`. `request_digest` is the digest of what was asked for. `token` is new with each write, as a
    compare-and-swap wants it.
    """

    unique_key: str
    request_digest: str
    escalation: dict[str, object]
    created_at: datetime
    begun_at: datetime
    alarms: tuple[Alarm, ...] = ()
    wording: Wording | None = None
    not_before: datetime | None = None
    not_before_reason: str | None = None
    until: datetime | None = None
    round: int = 1
    last: int | None = None
    closed_at: datetime | None = None
    reason: str | None = None
    token: str = field(default_factory=new_revision)

    @classmethod
    def new(cls, escalation: Escalation, *, at: datetime, alarms: Sequence[Alarm] = (), **fields: Any) -> Self:
        """The definition of an escalation that begins now."""
        return cls(
            escalation=escalation.as_json(), created_at=at, begun_at=at, last=escalation.rounds,
            alarms=as_stored_alarms(alarms), **fields,
        )  # fmt: skip

    def text(self) -> str:
        """The text of the record, with a new token."""
        return json_codec(EscalationRecord).text(replace(self, token=new_revision()))

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, and is among those that have."""
        return self.closed_at is not None

    @property
    def listed_at(self) -> datetime:
        """The time of its place in the list: when it began, began again or ended."""
        return self.closed_at or self.begun_at

    def joined(self, alarms: Sequence[Alarm], *, left_out: int, until: datetime | None) -> EscalationRecord:
        """The record with further alarms, or the same ones on again."""
        every = {each.mark: each for each in (*self.alarms, *alarms)}
        wording = None if self.wording is None else replace(self.wording, left_out=self.wording.left_out + left_out)
        return replace(self, alarms=as_stored_alarms([*every.values()]), wording=wording, until=until or self.until)

    def begun_again(self, *, rounds: int | None, at: datetime, until: datetime | None) -> EscalationRecord:
        """The definition of one that nobody has acknowledged, for so many further rounds."""
        last = None if rounds is None else self.round + rounds
        return replace(
            self, begun_at=at, round=self.round + 1, last=last, until=until, closed_at=None, reason=None
        )  # fmt: skip


class Turn(NamedTuple):
    """One call of an escalation: its round, its step in that and its place in the step, from 1, and its number."""

    round: int
    step: int
    place: int
    number: str

    def key(self, escalation_id: str) -> str:
        """The unique key of the call."""
        return f"{escalation_id}/{self.round}/{self.step}/{self.place}"

    def shown_step(self, per_round: int) -> int:
        """The number of its step as it is shown, over all rounds, of which each has so many."""
        return (self.round - 1) * per_round + self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationStatus:
    """An escalation as it stands `at` a time: what has happened at each step, and who has acknowledged.

    It is computed from its definition, with the `text` of that, its end and its calls: `jobs` are those of its round
    and of the one before. `uncallable` says why a number cannot be called, by its step and place. `over` are the marks
    of its alarms that fire no more, or have another escalation since. `blocked` says why nothing can call now, such as
    that no worker runs. `may_ring` counts the calls that an order to end it found on their way, and that may still
    ring.
    """

    id: str
    record: EscalationRecord
    text: str
    ordered: Escalation
    uncallable: Mapping[tuple[int, int], str]
    at: datetime
    end: EscalationEnd | None = None
    over: frozenset[str] = frozenset()
    jobs: Mapping[str, Job] = field(default_factory=dict[str, Job])
    blocked: str | None = None
    may_ring: int = 0

    @property
    def queue(self) -> str:
        """The queue of the escalation and its calls."""
        return queue_of(self.id)

    @property
    def batch_id(self) -> str:
        """The batch of the calls."""
        return self.ordered.batch_id or self.id.partition(".")[2]

    @property
    def state(self) -> EscalationState:
        """The state."""
        if self.end is not None:
            return EscalationState.STOPPED if self.end.reason is not None else EscalationState.ACKNOWLEDGED
        return EscalationState.UNANSWERED if self.record.is_closed else EscalationState.OPEN

    @property
    def is_open(self) -> bool:
        """Whether further numbers may be called."""
        return self.state is EscalationState.OPEN

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """What it is about."""
        return tuple(replace(each, ended=each.mark in self.over) for each in self.record.alarms)

    @property
    def is_resolved(self) -> bool:
        """Whether it is about alarms that are over, all of them."""
        return bool(self.record.alarms) and self.over.issuperset(each.mark for each in self.record.alarms)

    @property
    def unique_key(self) -> str:
        """The key that it was started with."""
        return self.record.unique_key

    @property
    def created_at(self) -> datetime:
        """When it was started."""
        return self.record.created_at

    @property
    def acknowledged(self) -> EscalationEnd | None:
        """Who has acknowledged it."""
        return self.end if self.state is EscalationState.ACKNOWLEDGED else None

    @property
    def reason(self) -> str | None:
        """Why it has ended, if nobody has acknowledged it."""
        return self.record.reason if self.end is None else self.end.reason

    @property
    def resting_until(self) -> datetime | None:
        """Until when it calls nobody, because its alert was acknowledged shortly before."""
        until = self.record.not_before
        return until if self.is_open and not self.jobs and until is not None and self.at < until else None

    @property
    def ended_at(self) -> datetime | None:
        """When it has ended, or all of its rounds were over."""
        return self.record.closed_at if self.end is None else self.end.at

    # -- its calls ----------------------------------------------------------------------------------------------------

    def job(self, turn: Turn) -> Job | None:
        """The call that was made at this turn."""
        return self.jobs.get(turn.key(self.id))

    def every(self, number: int) -> list[list[Turn]]:
        """All steps of a round, with the numbers that cannot be called."""
        steps = ((each,) if isinstance(each, str) else each for each in self.ordered.numbers)
        return [
            [Turn(number, step, place, each) for place, each in enumerate(numbers, 1)]
            for step, numbers in enumerate(steps, 1)
        ]

    def round(self, number: int) -> list[list[Turn]]:
        """The steps of a round: one after the other, with what is called at once.

        After the last one, numbers whose phones were busy at their turns have a round of their own.
        """
        steps = [
            [turn for turn in step if (turn.step, turn.place) not in self.uncallable] for step in self.every(number)
        ]
        if self.record.last is not None and number > self.record.last:
            before = (turn._replace(round=number - 1) for step in steps for turn in step)
            return [[turn._replace(round=number)] for turn in before if _is_passed_over(self.job(turn))]
        return [step for step in steps if step]

    @property
    def rounds(self) -> range:
        """Its round and the one before."""
        return range(max(self.record.round - 1, 1), self.record.round + 1)

    def turn(self, at: datetime) -> list[Turn]:
        """What is called now: the newest step that has a call, or, if all of its calls are over, the next one.

        Empty if that was the last one.
        """
        steps = self.round(self.record.round)
        made = max((place for place, step in enumerate(steps) if any(map(self.job, step))), default=None)
        if made is not None and not all(self.is_over(turn, at) for turn in steps[made]):
            return steps[made]
        following = [*steps[0 if made is None else made + 1 :], *self.round(self.record.round + 1)]
        return following[0] if following else []

    def following(self) -> tuple[list[Turn], datetime] | None:
        """Who is called next if nobody acknowledges, and by when; None if nobody is, or if a call waits before them."""
        if not self.is_open:
            return None
        now, after = self.turn(self.at), self.turn(_NEVER_LATER)
        if not after or any(self.job(turn) is not None for turn in after):
            return None
        jobs = [job for turn in now if (job := self.job(turn)) is not None]
        began = [job.created_at if job.last_post is None else job.last_post.began_at for job in jobs]
        ends = [each + self.ordered.answer_within + RING for each in began]
        return after, max([*ends, self.begins_at(after[0]), self.at])

    def begins_at(self, turn: Turn) -> datetime:
        """The time before which nobody is called at this turn."""
        calls = [self.job(each) for step in self.every(self.record.round) for each in step]
        first = [job.created_at for job in calls if job is not None]
        is_further = self.record.last is not None and turn.round > self.record.last
        round_begins = self.record.begun_at
        if turn.round > self.record.round and first and not is_further:
            round_begins = min(first) + self.ordered.answer_within
        return max(round_begins, self.record.not_before or round_begins)

    def is_over(self, turn: Turn, at: datetime) -> bool:
        """Whether there is no reason to wait any longer for what comes of the call at this turn."""
        job = self.job(turn)
        if job is None or job.state in UNSENT:
            return False
        # A call that was certainly placed, and of which no summary comes, may still be answered.
        has_ended = job.state is JobState.IN_DOUBT or (job.state.is_final and job.state is not JobState.ACCEPTED)
        began = job.created_at if job.last_post is None else job.last_post.began_at
        return has_ended or at >= began + self.ordered.answer_within + RING

    def has_others(self, turn: Turn) -> bool:
        """Whether others are called in the round of this turn."""
        return any(each.number != turn.number for step in self.round(turn.round) for each in step)

    @property
    def can_be_joined(self) -> bool:
        """Whether further alarms can be told by its first calls, because none has left."""
        has_left = any(job.state not in UNSENT for job in self.jobs.values())
        return self.is_open and not self.is_resolved and self.record.round == 1 and not has_left

    # -- what is said -------------------------------------------------------------------------------------------------

    @property
    def escalation(self) -> Escalation:
        """What was ordered, with the words of its next call, which are about the alarms that have not ended."""
        wording, alarms = self.record.wording, self.alarms
        if wording is None:
            return self.ordered
        many = sum(not alarm.ended for alarm in alarms) > 1
        how = self.ordered.how
        if many and how is None:
            how = f"Press {self.ordered.key} for all."
        return replace(self.ordered, say=wording.of(alarms), how=how)

    def data(self) -> dict[str, object]:
        """The data of its next call, for its menu, and for the condition under which it may leave."""
        return {**self.escalation.data(), ESCALATION: self.id}

    @property
    def why_ended(self) -> str:
        """Why nobody further is called, as a clause."""
        if self.end is not None:
            return self.end.reason or f"{self.end.who} acknowledged"
        return self.record.reason or "the escalation has ended"

    def _result(self, turn: Turn, job: Job, at: datetime) -> tuple[str, str]:
        """What has come of a call so far, in a word and in a sentence."""
        key = self.ordered.key
        if self.end is not None and self.end.reason is None and self.end.call_id == job.id:
            return EscalationState.ACKNOWLEDGED.value, f"acknowledged with key {key}"
        if job.answer == "yes":
            return "pressed_late", f"pressed {key}{'' if self.is_open else ' after it had ended'}"
        result, reason = result_of(job), f": {job.reason}" if job.reason else ""
        if not job.body:
            return job.state.value, f"its call was deleted; it was {job.state.value}"
        if job.state is JobState.CANCELLED:
            return PASSED_OVER.get(job.reason_kind, result), f"was not called{reason}"
        if (known := _WORDS.get(result)) is not None:
            return result, known.format(key=key)
        if job.state.is_final:
            end = ending(job)
            return result, f"could not be called: {end}" if end and not reason else f"was not called{reason}"
        if job.state in UNSENT and not self.is_open:
            return CallResult.CANCELLED, f"was not called: {self.why_ended}"
        if job.state in UNSENT:
            return result, f"waits to be called{reason}"
        if self.is_over(turn, at):
            return result, f"its call has not ended within {write_duration(self.ordered.answer_within + RING)}"
        return result, "is being called" if self.is_open else f"was being called when {self.why_ended}"

    def _step(self, turn: Turn, at: datetime) -> EscalationStep:
        told = partial(
            EscalationStep, step=turn.shown_step(len(self.ordered.numbers)), round=turn.round, number=turn.number
        )
        if (why := self.uncallable.get((turn.step, turn.place))) is not None:
            return told(result="refused", message=f"was not called: {why}")
        if (job := self.job(turn)) is not None:
            result, message = self._result(turn, job, at)
            return told(result=result, message=message, call_id=job.id, at=job.created_at)
        why = "earlier numbers come first" if self.is_open else self.why_ended
        why += " before" if self.end is not None and self.end.reason is None else ""
        return told(result="not_called", message=f"not called: {why}")

    @property
    def steps(self) -> tuple[EscalationStep, ...]:
        """What has come of each of its calls, and what comes next, in its round and the one before."""
        last = self.record.last
        return tuple(
            self._step(turn, self.ended_at or self.at)
            for number in self.rounds
            for step in (self.every if last is None or number <= last else self.round)(number)
            for turn in step
        )

    def in_words(self) -> str:
        """The escalation in one sentence."""
        sent = f"; {count_of(self.may_ring, 'call')} had been sent before that, and may still ring"
        return self._end_in_words() + (sent if self.may_ring else "")

    def _end_in_words(self) -> str:
        done = self.acknowledged
        if done is not None:
            how = f" with key {self.ordered.key}" if done.number is not None else ""
            return f"{done.who} acknowledged at {in_words(done.at)}{how}"
        if self.state is EscalationState.STOPPED:
            return f"it was ended before anybody acknowledged: {self.reason}"
        if self.resting_until is not None:
            return f"nobody is called until {in_words(self.resting_until)}: {self.record.not_before_reason}"
        if self.is_open:
            now = next((each for each in reversed(self.steps) if each.at is not None), self.steps[0])
            many = "" if now.round == 1 else f" of round {now.round}"
            place = (now.step - 1) % len(self.ordered.numbers) + 1
            blocked = f"; nobody can be called: {self.blocked}" if self.blocked else ""
            at_once = [each for each in self.steps if each.step == now.step]
            calls = ", ".join(f"{each.number} {each.message}" for each in at_once)
            return f"at step {place} of {len(self.ordered.numbers)}{many}: {calls}{blocked}"
        why = f": {self.reason}" if self.reason else ""
        return f"none of {', '.join(self.ordered.every_number)} acknowledged{why}"

    def as_json(self) -> dict[str, object]:
        """The status as JSON, with the fields of the escalation. Times are RFC 3339 in UTC."""
        done, per_round = self.acknowledged, len(self.ordered.numbers)
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
            "acknowledged": None
            if done is None
            else {
                "at": rfc3339(done.at),
                "step": None if done.call_key is None else turn_of_key(done.call_key).shown_step(per_round),
                "number": done.number,
                "call_id": done.call_id,
                "by": done.by,
            },
            "alarms": [{"text": each.text, "ended": each.ended} for each in self.alarms],
            "steps": [{**asdict(each), "at": rfc3339(each.at)} for each in self.steps],
            **{name: each for name, each in self.escalation.as_json().items() if name not in {"numbers", "batch"}},
        }


def _is_passed_over(job: Job | None) -> bool:
    return job is not None and job.state is JobState.CANCELLED and job.reason_kind is ReasonKind.NUMBER_BUSY


def turn_of_key(unique_key: str | None) -> Turn:
    """The turn in the unique key of a call of an escalation, without its number."""
    _, number, step, place = (unique_key or "").rsplit("/", 3)
    return Turn(int(number), int(step), int(place), "")


PASSED_OVER: Mapping[ReasonKind | None, str] = {
    ReasonKind.NUMBER_BUSY: "number_busy",
    ReasonKind.MAX_PER_PERSON: "number_busy",
    ReasonKind.WINDOW: "outside_window",
}
"""The results of calls that were taken back because of what they waited for."""
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
