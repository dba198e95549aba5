"""What an escalation is, what becomes of it at each place of its ladder, and how both are stored and told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Self, cast

from voiceflow_worker.core.overview.story import ending
from voiceflow_worker.core.ports.identity import new_revision, queue_of
from voiceflow_worker.core.ports.record_set import json_codec
from voiceflow_worker.errors import CallFlowError, InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.ivr.approval import approval_call, approval_data
from voiceflow_worker.model.country_windows import CountryWindows, certain_zone
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.jobs.admission import priority_problem, text_findings
from voiceflow_worker.model.jobs.call_json import CallResult, result_of
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import checked_duration, in_words, read_duration, rfc3339, write_duration
from voiceflow_worker.model.window import CallWindow

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

MOST_NUMBERS = 50
HELD = "held"
UNSENT = frozenset({JobState.QUEUED, JobState.LEASED})
_OWN = ("numbers", "say", "key", "answer_within", "how")
_SHARED = (
    "source", "voice_profile", "country", "window", "days", "holidays", "window_time_zone", "batch", "priority",
)  # fmt: skip
_HOURS = ("window", "days", "holidays", "window_time_zone")
FIELDS = (*_OWN, *_SHARED)
"""The fields of an escalation, as `Escalation.of` reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Whom to call one after the other, and what to say, until somebody presses `key`.

    Each place of `numbers` rings at most once; a number may have several places. `say` is spoken, and then `how`, by
    default "Press 1 to acknowledge." A person is called within `answer_within`, or not at all. The next place is called
    when the call has ended without `key`, or may have rung and nobody knows, or 90 seconds after `answer_within`. A
    place is passed over if its number cannot be called: it is no number, is on the suppression list, is outside of its
    `window`, or the queue or batch is held for longer than `answer_within`. National numbers need `country`. Raises
    InvalidInputError.
    """

    numbers: Sequence[str]
    say: str
    source: str
    voice_profile: str
    key: str = "1"
    answer_within: timedelta = timedelta(minutes=2)
    how: str | None = None
    country: str | None = None
    window: CallWindow | CountryWindows | None = None
    batch_id: str | None = None
    """The batch of the calls; by default one of their own, which has the name of the ladder."""
    priority: int = 1_000

    def __post_init__(self) -> None:
        if isinstance(self.numbers, str) or not 1 <= len(self.numbers) <= MOST_NUMBERS:
            raise _refused([("numbers", f"give a list of 1 to {MOST_NUMBERS} numbers, in the order of the calls")])
        object.__setattr__(self, "numbers", tuple(self.numbers))
        for name in ("say", "source", "voice_profile"):
            if not getattr(self, name).strip():
                raise _refused([(name, "it is empty; give a text")])
        if len(self.key) != 1 or self.key not in "0123456789":
            raise _refused([("key", f"{self.key[:60]!r} is no key that is heard; give one digit")])
        checked_duration("answer_within", self.answer_within)
        if self.answer_within <= timedelta():
            raise _refused([("answer_within", "it is not above 0; give a duration, such as 30s")])
        if self.batch_id is not None and not 1 <= len(self.batch_id) <= MAX_ID_CHARACTERS:
            raise _refused([("batch", f"{self.batch_id[:60]!r} must have 1 to {MAX_ID_CHARACTERS} characters")])
        if problem := priority_problem(self.priority):
            raise _refused([("priority", problem)])
        if findings := text_findings({str(name): value for name, value in self.as_json().items()}):
            raise CallFlowError(findings)
        try:
            self.data()
        except InvalidInputError:
            raise _refused([("say", "it is too long to be spoken, with the sentence after it; shorten it")]) from None

    @classmethod
    def of(cls, given: Mapping[str, object], *, settings: Settings | None = None, any_number: bool = False) -> Self:
        """The escalation with these fields, as texts, or as what such texts mean; `numbers` is a list, or has commas.

        The fields that a campaign has too have its names and forms (`Campaign.of`). What is not given comes from the
        `settings`. With `any_number`, one place that can be called is enough: the others are passed over. Raises
        InvalidInputError, with a finding for each unknown and wrong field.
        """
        from voiceflow_worker.campaigns.campaign import Campaign

        known = ", ".join(FIELDS)
        wrong: list[tuple[str, str]] = [
            (name[:40], f"is not a field of an escalation; the fields are {known}")
            for name, value in given.items()
            if value is not None and name not in FIELDS
        ]
        values: dict[str, object] = {}
        for name in ("say", "key", "how"):
            text = given.get(name)
            if isinstance(text, str) and (text.strip() or name == "how"):
                values[name] = text
            elif text is not None or name == "say":
                wrong.append((name, "give a text"))
        if (within := given.get("answer_within")) is not None:
            try:
                values["answer_within"] = within if isinstance(within, timedelta) else read_duration(str(within))
            except ValueError as error:
                wrong.append(("answer_within", str(error)))
        if (numbers := _listed(given.get("numbers"))) is None:
            wrong.append(("numbers", "it is missing; give a list of numbers, in the order of the calls"))
        shared = {name: given[name] for name in _SHARED if given.get(name) is not None}
        try:
            options = Campaign.of({"rows": (), "batch": "-", **shared}, settings=settings, foreign=True).options
            values |= {"source": options.source, "voice_profile": options.voice_profile}
            wrong += [
                (name, f"it is missing; give it, or set VOICEFLOW_{name.upper()}")
                for name in ("source", "voice_profile")
                if not values[name]
            ]
        except InvalidInputError as error:
            wrong += [(found.column or "", found.message) for found in error.findings] or [("", str(error))]
        else:
            values |= {"country": options.country, "window": options.window}
            values["batch_id"] = options.batch_id if "batch" in shared else None
            if "priority" in shared:
                values["priority"] = options.priority
        if wrong:
            raise _refused(wrong)
        read = cls(numbers=numbers, **values)  # type: ignore[arg-type]
        misfits = list(read.misfits())
        if misfits and not (any_number and len(misfits) < len(read.numbers)):
            raise _refused(("numbers", f"place {place}: {why}") for place, why in misfits)
        return read

    def misfits(self) -> Iterator[tuple[int, str]]:
        """The places that cannot be called, and why: their number, or what is said to it."""
        for place, number in enumerate(self.numbers, 1):
            try:
                known = read_number(number, self.country).e164
                self.call(known).validated()
                if self.window is not None:
                    window = CountryWindows.of(self.window).to([known])
                    _ = window.time_zone or certain_zone([known])
            except InvalidInputError as error:
                yield place, "; ".join(found.message for found in error.findings) or str(error)

    def call(self, number: str) -> CallFlow:
        """The call to this number, in E.164 form. Raises InvalidInputError."""
        return approval_call(
            number,
            source=self.source,
            question=self.say,
            voice_profile=self.voice_profile,
            choices=self.choices,
            how=self.spoken_how,
        )

    def data(self) -> dict[str, object]:
        """The data of each call, for the menu `approval`. Raises InvalidInputError."""
        return approval_data(self.say, voice_profile=self.voice_profile, choices=self.choices, how=self.spoken_how)

    @property
    def choices(self) -> Mapping[str, str]:
        """The one choice of the menu, by its key."""
        return {self.key: "acknowledged"}

    @property
    def spoken_how(self) -> str:
        """The sentence that names the key."""
        return f"Press {self.key} to acknowledge." if self.how is None else self.how

    def as_json(self) -> dict[str, object]:
        """The escalation as JSON, with the names that `of` reads; the hours, days and holidays of `window` are one."""
        return {
            "numbers": list(self.numbers),
            "say": self.say,
            "key": self.key,
            "how": self.how,
            "answer_within": write_duration(self.answer_within),
            "source": self.source,
            "voice_profile": self.voice_profile,
            "country": self.country,
            **dict.fromkeys(_HOURS, None),
            **({} if self.window is None else CountryWindows.of(self.window).fields()),
            "batch": self.batch_id,
            "priority": self.priority,
        }


def _listed(numbers: object) -> list[str] | None:
    """The numbers in a list, or in a text with commas; None if there is none."""
    if isinstance(numbers, str):
        numbers = numbers.split(",")
    if not isinstance(numbers, list | tuple):
        return None
    texts = [str(number).strip() for number in cast("Sequence[object]", numbers)]
    return [text for text in texts if text] or None


def _refused(wrong: Iterable[tuple[str, str]]) -> InvalidInputError:
    """The error for fields, each with why it is refused."""
    told = list(wrong)
    said = "; ".join(f"{name}: {why}" if name else why for name, why in told)
    return InvalidInputError(said).found(*(Finding(column=name or None, message=why) for name, why in told))


class LadderState(StrEnum):
    """The state of a ladder."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    UNANSWERED = "unanswered"
    """All places were called or passed over, and nobody has pressed the key. Somebody still may."""
    STOPPED = "stopped"
    """It was ended by an order, such as that of an alert that is resolved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place of a ladder: whether it was called, and what came of it, in one word (`result`) and in a sentence.

    The words are those of calls (`CallResult`); and `acknowledged`; `held`, `outside_window` and `refused` for a place
    that was passed over; `not_called` for one whose turn has not come. `call_id` is the id of its call, if it has one.
    """

    place: int
    number: str
    result: str
    message: str
    call_id: str | None = None
    at: datetime | None = None
    """The time at which it was called or passed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Who pressed the key, and when."""

    place: int
    number: str
    call_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """An escalation under way, or ended: what has happened at each place, and who has acknowledged."""

    id: str
    queue: str
    unique_key: str
    batch_id: str
    state: LadderState
    created_at: datetime
    ended_at: datetime | None
    reason: str | None
    acknowledged: Acknowledgement | None
    places: tuple[Place, ...]
    escalation: Escalation

    @property
    def is_open(self) -> bool:
        """Whether a further place may be called."""
        return self.state is LadderState.OPEN

    def in_words(self) -> str:
        """The ladder in one sentence."""
        done = self.acknowledged
        if done is not None:
            return f"{done.number} acknowledged at {in_words(done.at)} with key {self.escalation.key}"
        if self.state is LadderState.STOPPED:
            return f"it was ended before anybody acknowledged: {self.reason}"
        if self.is_open:
            now = next((each for each in reversed(self.places) if each.at is not None), self.places[0])
            return f"at place {now.place} of {len(self.places)}: {now.number} {now.message}"
        return f"none of {', '.join(self.escalation.numbers)} acknowledged"

    def as_json(self) -> dict[str, object]:
        """The ladder as JSON, with the fields of its escalation. Times are RFC 3339 in UTC."""
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
            "acknowledged": None
            if done is None
            else {"place": done.place, "number": done.number, "call_id": done.call_id, "at": rfc3339(done.at)},
            "places": [
                {
                    "place": each.place,
                    "number": each.number,
                    "result": each.result,
                    "message": each.message,
                    "call_id": each.call_id,
                    "at": rfc3339(each.at),
                }
                for each in self.places
            ],
            **{name: each for name, each in self.escalation.as_json().items() if name not in {"numbers", "batch"}},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRecord:
    """A stored ladder. `passed` are the places that are over, and the next one is being called while it is open.

    `token` is new with each write, as a compare-and-swap wants it. `asked` is the digest of what was asked for.
    """

    unique_key: str
    asked: str
    escalation: dict[str, object]
    created_at: datetime
    token: str = field(default_factory=new_revision)
    passed: tuple[Place, ...] = ()
    state: LadderState = LadderState.OPEN
    ended_at: datetime | None = None
    reason: str | None = None
    acknowledged: Acknowledgement | None = None

    def text(self) -> str:
        """The text of the record."""
        return json_codec(LadderRecord).dump_json(self, exclude_none=True).decode()

    def read(self) -> Escalation:
        """The escalation. Its values were checked when the ladder was started."""
        fields = dict(self.escalation)
        batch, hours = fields.pop("batch", None), {name: fields.pop(name, None) for name in _HOURS}
        fields["batch_id"] = batch
        fields["answer_within"] = read_duration(str(fields["answer_within"]))
        fields["window"] = CountryWindows.of_fields(hours) if hours["window"] is not None else None
        return Escalation(**fields)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class FoundLadder:
    """A ladder as it was read: its record, the text of that, and the calls of its places."""

    id: str
    record: LadderRecord
    text: str
    escalation: Escalation
    jobs: Mapping[int, Job]

    @property
    def queue(self) -> str:
        """The queue of the ladder and its calls."""
        return queue_of(self.id)

    @property
    def batch_id(self) -> str:
        """The batch of the calls."""
        return self.escalation.batch_id or self.id.partition(".")[2]

    @property
    def place(self) -> int:
        """The place whose turn it is, from 1; one more than there are when all are over."""
        return len(self.record.passed) + 1

    @property
    def acknowledged(self) -> Acknowledgement | None:
        """The first key press among the calls, from the record when the calls are deleted."""
        presses = [
            Acknowledgement(place=place, number=job.number_of(post), call_id=job.id, at=press.at)
            for place, job in self.jobs.items()
            for post in job.posts
            for press in post.presses
            if press.answer == "yes"
        ]
        return self.record.acknowledged or min(presses, key=lambda each: each.at, default=None)

    def ending(self, job: Job) -> str | None:
        """What came of a call that is no reason to wait any longer, in words; None while it is under way."""
        if job.state is JobState.IN_DOUBT:
            return _WORDS[CallResult.IN_DOUBT]
        # A call that was certainly placed, and of which no summary comes, may still be answered.
        return None if not job.state.is_final or job.state is JobState.ACCEPTED else self.in_words(job)

    def in_words(self, job: Job) -> str:
        """What has come of a call so far, in words."""
        if job.answer == "yes":
            return f"acknowledged with key {self.escalation.key}"
        if (known := _WORDS.get(result_of(job))) is not None:
            return known.format(key=self.escalation.key)
        reason = f": {job.reason}" if job.reason else ""
        if job.state.is_final:
            end = ending(job)
            return f"could not be called: {end}" if end and not reason else f"was not called{reason}"
        return f"waits to be called{reason}" if job.state in UNSENT else "is being called"

    def of_call(self, place: int, job: Job) -> Place:
        """A place with what its call says now."""
        return Place(
            place=place,
            number=self.escalation.numbers[place - 1],
            result=LadderState.ACKNOWLEDGED.value if job.answer == "yes" else result_of(job),
            message=self.in_words(job),
            call_id=job.id,
            at=job.created_at,
        )

    def shown(self) -> Ladder:
        """The ladder with what its calls say now: a late key counts, and a doubt may have been solved."""
        record, done = self.record, self.acknowledged
        state = LadderState.ACKNOWLEDGED if done is not None else record.state
        return Ladder(
            id=self.id,
            queue=self.queue,
            unique_key=record.unique_key,
            batch_id=self.batch_id,
            state=state,
            created_at=record.created_at,
            ended_at=record.ended_at,
            reason=record.reason,
            acknowledged=done,
            places=tuple(self._shown_place(place, state) for place in range(1, len(self.escalation.numbers) + 1)),
            escalation=self.escalation,
        )

    def _shown_place(self, place: int, state: LadderState) -> Place:
        passed = self.record.passed[place - 1] if place <= len(self.record.passed) else None
        job = self.jobs.get(place)
        if job is not None and job.body:  # of a deleted call, the record says what came of it
            is_newer = job.answer == "yes" or (job.state.is_final and passed is not None and passed.result != HELD)
            if passed is None or is_newer:
                return self.of_call(place, job)
        if passed is not None:
            return passed
        done = self.acknowledged
        why = "its turn has not come" if state is LadderState.OPEN else self.record.reason or "the ladder has ended"
        why = why if done is None else f"{done.number} acknowledged before"
        message = f"not called: {why}"
        return Place(place=place, number=self.escalation.numbers[place - 1], result="not_called", message=message)


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
