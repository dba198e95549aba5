"""A job: one call to be placed, with every POST that was made for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from msgspec import Struct

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.flows.bodies import second_parties
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED, SessionStatus
from voiceflow_worker.model.reports.verdict import NOBODY_CALLED, VerdictKind
from voiceflow_worker.model.text.wording import folded
from voiceflow_worker.model.window import CallWindow


class JobState(StrEnum):
    """The state of a job, with the meaning of its `due_at`."""

    QUEUED = "queued"
    """The job waits. At `due_at` it may be sent."""
    LEASED = "leased"
    """A worker holds the job, and nothing has been sent. At `due_at` the lease ends, and the job is queued again."""
    SENDING = "sending"
    """The POST may have left. At `due_at` the lease ends, and the job is in doubt."""
    SUBMITTED = "submitted"
    """8x8 answered CREATED. At `due_at` the wait for the summary ends."""
    IN_DOUBT = "in_doubt"
    """The call may have been placed. At `due_at` evidence is looked for again."""
    COMPLETED = "completed"
    """The person was reached. A job in this state, or in one of the following states, may be deleted at `due_at`."""
    UNREACHED = "unreached"
    """No answer, busy, cancelled, or on the block list, and no redial is left."""
    FAILED = "failed"
    """8x8 refused the call, or could not connect it."""
    EXPIRED = "expired"
    """Its validity ended before the call could be placed."""
    CANCELLED = "cancelled"
    """The job was cancelled before it was sent."""
    ACCEPTED = "accepted"
    """The call was placed, and its end is unknown: no summary came. A late summary still settles the job."""

    @property
    def is_final(self) -> bool:
        """True if the job has ended (a late summary may still add to it)."""
        return self in FINAL_STATES


FINAL_STATES = frozenset(
    {JobState.COMPLETED, JobState.UNREACHED, JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED, JobState.ACCEPTED}
)


ON_THE_WAY = frozenset({JobState.SENDING, JobState.SUBMITTED, JobState.IN_DOUBT})
"""The states of calls that may have left, and whose end is not known."""
ENDED_UNSENT = frozenset({JobState.CANCELLED, JobState.EXPIRED, JobState.FAILED})
"""The states of calls that ended before a phone rang, unless one of their POSTs may have rung."""
_DID_NOT_RING = NOBODY_CALLED | {VerdictKind.NOT_PLACED}
_PLACED = frozenset({VerdictKind.CREATED, VerdictKind.PLACED})


class KeyPress(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The keys that a person pressed in answer to `menu`, reported by the event (VCA) `event_id`.

    `answer` is the name that the menu gave to these keys. Keys that do not `leads_on` are wrong keys.
    """

    at: datetime
    menu: str
    digits: str
    event_id: str | None = None
    answer: str | None = None
    leads_on: bool = False


class Post(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One POST of a job.

    `client_request_id` is `<job id>.<number>`, and `valid_until` the `validUntil` that was sent. `redial` counts the
    redials granted before it: two POSTs of one `redial` that may both have rung are an incident. `outcome_known_at` is
    set if a person had redialled before the outcome became known. `bridged` are the numbers to which menus bridged the
    session, and `place` is that of the called number among the person's.
    """

    number: int
    client_request_id: str
    began_at: datetime
    valid_until: datetime
    redial: int = 0
    answered_at: datetime | None = None
    verdict: VerdictKind | None = None
    code: int | None = None
    message: str | None = None
    session_id: str | None = None
    outcome: Outcome | None = None
    outcome_known_at: datetime | None = None
    presses: tuple[KeyPress, ...] = ()
    bridged: tuple[str, ...] = ()
    place: int = 0

    @property
    def digits(self) -> str | None:
        """Keys pressed in this call, in groups with commas between; None if there were none."""
        return ",".join(press.digits for press in self.presses) or None

    @property
    def answer(self) -> str | None:
        """Name of the last keys that have a name; None without such keys."""
        return next((press.answer for press in reversed(self.presses) if press.answer is not None), None)

    @property
    def may_have_rung(self) -> bool:
        """True if this POST counts as an attempt: a phone may have rung for it."""
        if self.outcome is not None:
            return self.outcome.was_placed
        return self.verdict not in _DID_NOT_RING

    @property
    def was_placed(self) -> bool:
        """True if the POST was placed, by its summary, its answer, the log or a person."""
        if self.outcome is not None:
            return self.outcome.was_placed
        return self.verdict in _PLACED

    @property
    def is_open(self) -> bool:
        """True if a phone may have rung or may still ring for this POST, and no summary has come."""
        return self.outcome is None and self.may_have_rung


class NoteKind(StrEnum):
    """The kind of a note."""

    RANG_TWICE = "rang_twice"
    """Incident: two POSTs of one job may both have rung, without a redial between them."""
    RESOLVED = "resolved"
    REDIALLED = "redialled"
    CANCELLED = "cancelled"
    CHANGED = "changed"
    """The job was changed before it was sent; the text says in what."""
    MADE_AGAIN = "made_again"
    """The job was made again, as the call whose key ends in `/again-N`; the text is N."""

    @property
    def is_incident(self) -> bool:
        """True if two POSTs may have rung, so that a person must look at the job."""
        return self is NoteKind.RANG_TWICE


class ReasonKind(StrEnum):
    """The reason of a job, for programs. Other reasons are for people alone, and have no kind."""

    NUMBER_BUSY = "number_busy"
    """The job waits because its number, or that of a second party, is busy with another call."""
    MAX_PER_PERSON = "max_per_person"
    """The job waits because its person has had all allowed attempts."""
    WINDOW = "window"
    """The job waits until its calling window opens."""
    SUPPRESSED = "suppressed"
    """The job has ended because one of its numbers, or that of a second party, is on the suppression list."""
    BY_PERSON = "by_person"
    """The job was cancelled by a person, or its batch was: for good, whatever list its person is in afterwards."""
    REMOVED = "removed"
    """The job was cancelled because nobody orders it any more: its list is without its row, or its task was stopped."""
    SENT_AS_ANOTHER = "sent_as_another"
    """The job has ended because the same call may have been sent under another id, before the store was rolled back."""


class Note(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A remark in the history of a job, for people."""

    at: datetime
    kind: NoteKind
    text: str


class Edits(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The `digest` of what a changed job says now, and of all that it was `made` with (`asked_digest`)."""

    digest: str
    made: str


class RedialPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The session statuses after which to call again, the most redials, and one wait, or one for each status."""

    on: frozenset[SessionStatus]
    limit: int
    after: timedelta | Mapping[SessionStatus, timedelta]

    def __post_init__(self) -> None:
        waits = self.after if isinstance(self.after, Mapping) else {None: self.after}
        for wait in waits.values():
            if self.limit < 0 or wait < timedelta():
                raise InvalidInputError(
                    f"a redial policy needs limit >= 0 and after >= 0; got limit={self.limit}, after={wait}"
                )
        if isinstance(self.after, Mapping) and (wrong := self.on ^ self.after.keys()):
            why = {True: "has no wait before its redial: give it one", False: "has a wait, but gets no redial"}
            raise InvalidInputError("; ".join(f"{each.lower()} {why[each in self.on]}" for each in sorted(wrong)))

    def wait(self, status: SessionStatus | None) -> timedelta:
        """Return the wait after this status; the longest one after a status that is not in `on`."""
        if not isinstance(self.after, Mapping):
            return self.after
        found = None if status is None else self.after.get(status)
        return max(self.after.values(), default=timedelta()) if found is None else found


_UUID = re.compile(r"\{?([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}?")


def usual_key(key: str) -> str:
    """Return a unique key as it is kept: a UUID in small letters and without braces."""
    return key if (found := _UUID.fullmatch(key)) is None else found[1].lower()


_AGAIN = re.compile(r"(.+)/again-([1-9]\d*)", re.DOTALL)


def split_key(key: str) -> tuple[str, int]:
    """Return the key of the first call of a row, and which of its calls this is: `k/again-2` is the second of k."""
    found = _AGAIN.fullmatch(key)
    return (key, 1) if found is None else (found[1], int(found[2]))


def again_key(key: str, number: int) -> str:
    """Return the key of the call as which the call with a key is made again."""
    return f"{split_key(key)[0]}/again-{number}"


def person_in(data: Mapping[str, object]) -> str:
    """Return the name of the person: the value of the column `name`; empty without one."""
    return next((str(value).strip() for column, value in data.items() if value and folded(column) == "name"), "")


MOST_NUMBERS = 10
"""The most numbers of one person."""


class Job(Struct, frozen=True):
    """One call to be placed. It is immutable: moves return a new job.

    Stores have an index on the first group of fields. `body` is the 8x8 request body without `validUntil` and
    `clientRequestId`; `body_digest` is that of the body with which the job was enqueued, also if it has `edits`.
    `revision` is a token of the last writer. Until `active_until` the call counts against `max_active`.

    `further_numbers` are called after `destination`, if a number was busy or did not answer; `place` is that of the
    number whose turn it is. `first_due_at` is when the next call was first due, if not when the job was, and
    `returned_at` when it first came back into the queue after that. A job that `goes_first` is leased before others of
    its priority. `redials` counts each further call that was granted. `worker_id` is the worker that holds the job, or
    the import that stored it. Of `posts`, only the oldest that placed no call may be dropped.

    `data` are flat JSON values of the user, which are not sent to 8x8. `menu` names the first IVR menu. `window` is in
    its own zone, else in `time_zone`. `validity` is the span from which `valid_until` was counted. If the job
    `ends_because` of something, it gets no further attempt after the call that is on its way.
    """

    id: str
    queue: str
    state: JobState
    due_at: datetime
    destination: str
    body: str
    body_digest: str
    source: str
    created_at: datetime

    revision: str = ""
    worker_id: str | None = None
    priority: int = 0
    batch_id: str | None = None
    unique_key: str | None = None
    valid_until: datetime | None = None
    active_until: datetime | None = None

    not_before: datetime | None = None
    first_due_at: datetime | None = None
    returned_at: datetime | None = None
    goes_first: bool = False
    time_zone: str | None = None
    reason: str | None = None
    reason_kind: ReasonKind | None = None
    failures: int = 0
    missed_windows: int = 0
    post_count: int = 0
    redials: int = 0
    redial: RedialPolicy | None = None
    data: Mapping[str, Any] | None = None
    menu: str | None = None
    posts: tuple[Post, ...] = ()
    notes: tuple[Note, ...] = ()
    further_numbers: tuple[str, ...] = ()
    place: int = 0
    validity: str | None = None
    edits: Edits | None = None
    ends_because: str | None = None
    window: CallWindow | None = None

    def __repr__(self) -> str:
        """Name the call, without its number and text: a log or a traceback may show it to anybody."""
        return f"<Job {self.id}: {self.state.value}>"

    @property
    def digest(self) -> str:
        """Digest of what the job says now."""
        return self.body_digest if self.edits is None else self.edits.digest

    @property
    def urgency(self) -> int:
        """Order of leasing, the highest first: twice the priority, and one more if it goes first."""
        return 2 * self.priority + self.goes_first

    @property
    def first_due(self) -> datetime:
        """Time at which the next call was first due: how late it is counts from then."""
        if self.first_due_at is not None:
            return self.first_due_at
        begin = self.not_before or self.created_at
        return self.opens(at=begin) or begin

    @property
    def numbers(self) -> tuple[str, ...]:
        """Numbers of the person, in the order in which they are called."""
        return self.destination, *self.further_numbers

    @property
    def number(self) -> str:
        """Number whose turn it is: the one that the next POST calls, or that the newest has called."""
        return self.numbers[self.place] if self.place else self.destination

    @property
    def second_parties(self) -> tuple[str, ...]:
        """Numbers that the flow bridges to the call."""
        return second_parties(self.body)

    @property
    def parties(self) -> tuple[str, ...]:
        """Every number that the job may make ring: those of the person, and those that are bridged to the call."""
        return *self.numbers, *self.second_parties

    def number_of(self, post: Post) -> str:
        """Return the number of the person that this POST called."""
        return self.numbers[post.place]

    def parties_of(self, post: Post) -> tuple[str, ...]:
        """Return every number that the call of this POST may have made ring, with those of its menus."""
        return self.number_of(post), *self.second_parties, *post.bridged

    def status_of(self, post: Post) -> SessionStatus | None:
        """Return the status of this POST's call to the person; None without an outcome, or for an unknown status."""
        return None if post.outcome is None else post.outcome.status_of(self.number_of(post))

    @property
    def again(self) -> int | None:
        """N of the call as which this one was made again, whose key ends in `/again-N`; None if it was not."""
        return next((int(note.text) for note in self.notes if note.kind is NoteKind.MADE_AGAIN), None)

    @property
    def may_call(self) -> bool:
        """True if the job may still ring a phone, or may have rung one."""
        return self.state not in ENDED_UNSENT or any(post.may_have_rung for post in self.posts)

    @property
    def name(self) -> str:
        """Name of the person; empty without one."""
        return person_in(self.data or {})

    @property
    def noted_at(self) -> datetime:
        """Newest time by the store's clock: enqueued, POST begun or answered, or decision of a person."""
        times = [self.created_at, *(note.at for note in self.notes)]
        times += (at for post in self.posts for at in (post.began_at, post.answered_at) if at is not None)
        return max(times)

    @property
    def touched_at(self) -> datetime:
        """Newest time of all, with the ends of sessions by 8x8's clock."""
        ends = (post.outcome.ended_at for post in self.posts if post.outcome is not None)
        return max([self.noted_at, *filter(None, ends)])

    @property
    def attempt(self) -> int:
        """Number of POSTs that may have rung. A 429 does not count; a redial does."""
        return sum(1 for post in self.posts if post.may_have_rung)

    @property
    def last_post(self) -> Post | None:
        """Newest POST."""
        return self.posts[-1] if self.posts else None

    @property
    def open_post(self) -> Post | None:
        """Newest POST that may have rung and has no outcome. The state of the job refers to it."""
        for post in reversed(self.posts):
            if post.is_open:
                return post
        return None

    @property
    def ended_post(self) -> Post | None:
        """Newest POST that has an outcome."""
        for post in reversed(self.posts):
            if post.outcome is not None:
                return post
        return None

    @property
    def outcome(self) -> Outcome | None:
        """Outcome of the newest POST that has one."""
        post = self.ended_post
        return None if post is None else post.outcome

    @property
    def outcome_status(self) -> SessionStatus | None:
        """Status of the call to the person by the newest outcome; None without one, or if it is unknown."""
        post = self.ended_post
        return None if post is None else self.status_of(post)

    @property
    def digits(self) -> str | None:
        """Keys that were pressed in the newest call with key presses."""
        return next((post.digits for post in reversed(self.posts) if post.presses), None)

    @property
    def answer(self) -> str | None:
        """Answer of the person, by the name that a menu gives to keys: the last one of all calls."""
        return next((answer for post in reversed(self.posts) if (answer := post.answer) is not None), None)

    @property
    def has_outcome(self) -> bool:
        """True if a POST is known to have been placed and ended. The job then never becomes expired or cancelled."""
        return any(post.outcome is not None and post.outcome.was_placed for post in self.posts)

    @property
    def placed_post(self) -> Post | None:
        """Newest POST since the last redial that is known to have been placed."""
        return next((post for post in reversed(self.posts) if post.redial == self.redials and post.was_placed), None)

    @property
    def rounds(self) -> int:
        """Redials that began with the person's first number again: the limit of a redial policy counts these."""
        further = {post.redial for post in self.posts if post.place} | ({self.redials} if self.place else set[int]())
        return self.redials - len(further)

    @property
    def redialled_at(self) -> datetime | None:
        """Time at which a person last redialled the job."""
        return max((note.at for note in self.notes if note.kind is NoteKind.REDIALLED), default=None)

    @property
    def conclusive_posts(self) -> Sequence[Post]:
        """POSTs, newest first, after which no further redial is granted: the person answered or opted out.

        A POST from before the last redial is left out if a person redialled after its outcome became known, or if the
        policy redials calls with this outcome.
        """
        by_person = self.redialled_at
        redialled = frozenset[SessionStatus]() if self.redial is None else self.redial.on - OPT_OUTS

        def counts(post: Post) -> bool:
            status = self.status_of(post)
            if status not in REACHED | OPT_OUTS:
                return False
            late = post.outcome_known_at
            is_newer = by_person is None or post.began_at > by_person or (late is not None and late >= by_person)
            return post.redial == self.redials or (is_newer and status not in redialled)

        return [post for post in reversed(self.posts) if counts(post)]

    @property
    def settling_post(self) -> Post | None:
        """POST that settles the job if its newest POST placed no call; None if the job may be sent again."""
        return self.placed_post or next(iter(self.conclusive_posts), None)

    @property
    def session_id(self) -> str | None:
        """Session id of the newest POST that has one."""
        return next((post.session_id for post in reversed(self.posts) if post.session_id), None)

    def request_id(self, number: int) -> str:
        """Return the `clientRequestId` of the POST with this number."""
        return f"{self.id}.{number}"

    def post(self, number: int) -> Post | None:
        """Return the POST with this number, if it is recorded."""
        for post in reversed(self.posts):  # asked some ten times for each call: a generator takes twice as long
            if post.number == number:
                return post
        return None

    def is_expired(self, *, at: datetime) -> bool:
        """Return whether the validity of the job has passed."""
        return self.valid_until is not None and at >= self.valid_until

    def opens(self, *, at: datetime) -> datetime | None:
        """Return the first time from `at` on at which the calling window is open; `at` itself without a window.

        None if the window never opens, or if its zone or its holidays are unknown to this installation.
        """
        if self.window is None:
            return at
        zone = self.window.zone_for(self.time_zone)
        try:
            return self.window.opens(at, zone) if zone is not None else None
        except InvalidInputError:
            return None

    def rings_from(self, *, at: datetime) -> datetime | None:
        """Return the first time from `at` on, within window and validity; None without one."""
        opens = self.opens(at=at)
        return None if opens is None or self.is_expired(at=opens) else opens

    def closes(self, *, at: datetime) -> datetime | None:
        """Return the end of the window that is open at `at`; None if it has none for about a week."""
        zone = None if self.window is None else self.window.zone_for(self.time_zone)
        return self.window.closes(at, zone) if self.window is not None and zone is not None else None

    def may_ring(self, *, at: datetime) -> bool:
        """Return whether the calling window is open; True without a window."""
        return self.window is None or self.opens(at=at) == at
