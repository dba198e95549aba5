"""A simple model of the promise: what is true of each call at 8x8, and what its job is by what the engine was told.

It shares no code with the lifecycle: states follow from a few sentences, written down here once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from voiceflow_worker.model.jobs.job import JobState as S
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.reports.status import SessionStatus


class Fate(StrEnum):
    """What truly became of a POST."""

    CREATED = "created"
    UNHEARD = "created, and nobody heard the answer"
    REFUSED = "refused"
    TURNED_AWAY = "turned away"
    NOT_SENT = "not sent"
    VANISHED = "it vanished on the way, and nobody knows"
    LATE = "too late for 8x8"


class End(StrEnum):
    """How a session that was created ends."""

    COMPLETED = "COMPLETED"
    BUSY = "BUSY"
    FAILED = "FAILED"
    DROPPED = "dropped before it rang, as its validity had passed (-2007)"


class Told(StrEnum):
    """What the engine was told about a POST, other than its summary."""

    CREATED = "created"
    REFUSED = "refused"
    NOT_SENT = "not sent"
    TURNED_AWAY = "turned away"
    UNKNOWN = "unknown"
    PLACED = "a person says placed"
    NOT_PLACED = "a person says not placed"


_RULED_OUT = {Told.REFUSED, Told.NOT_SENT, Told.TURNED_AWAY, Told.NOT_PLACED}
_ANSWERS = {Told.CREATED, Told.REFUSED, Told.NOT_SENT, Told.TURNED_AWAY}
_ANSWER_OF = {
    Fate.CREATED: Told.CREATED,
    Fate.UNHEARD: Told.UNKNOWN,
    Fate.REFUSED: Told.REFUSED,
    Fate.TURNED_AWAY: Told.TURNED_AWAY,
    Fate.NOT_SENT: Told.NOT_SENT,
    Fate.VANISHED: Told.UNKNOWN,
    Fate.LATE: Told.REFUSED,
}
MISSED_WINDOWS = 3
WAITING = {S.QUEUED, S.LEASED}


@dataclass(eq=False)
class Post:
    """One POST: `fate`, `end` and `rang_at` are true; `told`, `outcome`, `session_known` are what the engine heard."""

    number: int
    redial: int
    valid_until: datetime
    fate: Fate | None = None
    end: End | None = None
    rang_at: datetime | None = None
    told: Told | None = None
    outcome: End | None = None
    session_known: bool = False

    @property
    def placed(self) -> bool:
        """Whether 8x8 has a session for it."""
        return self.end is not None

    @property
    def may_have_rung(self) -> bool:
        """By what the engine was told."""
        return self.outcome is not End.DROPPED if self.outcome is not None else self.told not in _RULED_OUT

    @property
    def is_known_placed(self) -> bool:
        if self.outcome is not None:
            return self.outcome is not End.DROPPED
        return self.told in {Told.CREATED, Told.PLACED}


@dataclass(eq=False)
class Call:
    """One job. `due_at` is as the stores have it: the model says which jobs are due, not how long a backoff is."""

    id: str
    destination: str
    priority: int
    batch_id: str | None
    unique_key: str | None
    body: str
    valid_until: datetime | None
    redial: RedialPolicy | None
    due_at: datetime
    state: S = S.QUEUED
    redials: int = 0
    missed: int = 0
    was_cancelled: bool = False
    """A person cancelled it, and has not ordered it again since: no policy redials it."""
    posts: list[Post] = field(default_factory=list)

    @property
    def open_post(self) -> Post | None:
        return next((post for post in reversed(self.posts) if post.outcome is None and post.may_have_rung), None)

    def is_expired(self, at: datetime) -> bool:
        return self.valid_until is not None and at >= self.valid_until

    def give_up(self, state: S) -> None:
        """It is not sent any more: `state`, unless a POST was placed."""
        self.was_cancelled = self.was_cancelled or state is S.CANCELLED
        if any(post.outcome not in {None, End.DROPPED} for post in self.posts):
            self.state = S.UNREACHED
        else:
            self.state = S.ACCEPTED if any(post.is_known_placed for post in self.posts) else state

    def order_again(self) -> None:
        """A person orders another call. A redial without a POST rang nobody: the new order takes its place."""
        self.redials += any(post.redial == self.redials for post in self.posts)
        self.state, self.missed, self.was_cancelled = S.QUEUED, 0, False

    def begin(self, at: datetime, *, not_after: datetime) -> Post | None:
        """Journal the next POST; None: its validity is over."""
        if self.is_expired(at):
            self.give_up(S.EXPIRED)
            return None
        end = not_after if self.valid_until is None else min(self.valid_until, not_after)
        post = Post(number=len(self.posts) + 1, redial=self.redials, valid_until=end)
        self.posts.append(post)
        self.state = S.SENDING
        return post

    def answer(self, post: Post, at: datetime) -> None:
        """The engine hears the answer that the POST's fate gives."""
        assert post.fate is not None
        told = _ANSWER_OF[post.fate]
        if told is Told.CREATED:
            self._created(post)
        elif told is Told.UNKNOWN:
            if post.told is None:
                post.told = told
                if self.state is S.SENDING and post is self.open_post:
                    self.state = S.IN_DOUBT
        elif post.told not in _ANSWERS:
            settles = self.state in {S.SENDING, S.IN_DOUBT} and post is self.open_post and post.outcome is None
            post.told = told
            if settles and post.fate is Fate.LATE:
                self._missed(at)
            elif settles:
                self.state = S.FAILED if told is Told.REFUSED else S.QUEUED

    def _created(self, post: Post) -> None:
        news, post.told, post.session_known = post.told is not Told.CREATED, Told.CREATED, True
        if not news or post.outcome is not None or self.state in {S.ACCEPTED, S.SUBMITTED}:
            return
        if self.state in WAITING or not self._newer(post):
            self.state = S.SUBMITTED

    def summary(self, post: Post, at: datetime) -> None:
        """The engine hears how the session ended."""
        if post.outcome is not None:
            return
        assert post.end is not None
        is_current = self.state in {S.SENDING, S.SUBMITTED, S.IN_DOUBT, S.ACCEPTED} and post is self.open_post
        post.outcome, post.session_known = post.end, True
        # A redial that was ordered since is ended only by a call that was answered.
        asked_again = self.state in WAITING and post.redial < self.redials and post.outcome is not End.COMPLETED
        if post.outcome is End.DROPPED:
            if is_current:
                self._missed(at)
        elif asked_again:
            return
        elif is_current or not self._newer(post) or (self.state in WAITING and post.outcome is End.COMPLETED):
            self._ended(post.outcome, at)

    def _ended(self, end: End, at: datetime) -> None:
        plan = self.redial
        goes_on = self.state is S.ACCEPTED or not self.state.is_final
        again = None if plan is None or end is not End.BUSY or self.redials >= plan.limit else at + plan.after
        if goes_on and again is not None and not self.was_cancelled and not self.is_expired(again):
            self.state, self.redials, self.missed = S.QUEUED, self.redials + 1, 0
            return
        self.state = {End.COMPLETED: S.COMPLETED, End.BUSY: S.UNREACHED, End.FAILED: S.FAILED}[end]

    def _missed(self, at: datetime) -> None:
        if self.valid_until is None or self.is_expired(at):
            self.give_up(S.EXPIRED)
            return
        self.missed += 1
        self.state = S.QUEUED if self.missed <= MISSED_WINDOWS else S.FAILED

    def _newer(self, post: Post) -> bool:
        return any(newer.number > post.number and newer.may_have_rung for newer in self.posts)


@dataclass(eq=False)
class Gate:
    """The queue's gate, or a batch's: closed until a time, or, without one, until somebody opens it."""

    closed: bool = False
    until: datetime | None = None
    cancelled: bool = False

    def is_closed(self, at: datetime) -> bool:
        return self.cancelled or (self.closed and (self.until is None or at < self.until))

    def hold(self, at: datetime, until: datetime | None) -> None:
        if self.cancelled:
            return
        longer = until is None or (self.until is not None and until > self.until)
        if not self.is_closed(at) or (self.until is not None and longer):
            self.closed, self.until = True, until

    def open(self) -> None:
        self.closed, self.until = False, None


class Calls:
    """All calls of the queue, and what the engine's commands must make of them."""

    def __init__(self) -> None:
        self.by_id: dict[str, Call] = {}
        self.gates: dict[str | None, Gate] = {}

    def gate(self, batch_id: str | None) -> Gate:
        return self.gates.setdefault(batch_id, Gate())

    def owner(self, key: str) -> tuple[str, str] | None:
        """Who owns a unique key: a job's id and its body."""
        return next(((call.id, call.body) for call in self.by_id.values() if call.unique_key == key), None)

    def due(self, at: datetime, limit: int) -> list[str]:
        """Whom a lease takes, in order."""
        if self.gate(None).is_closed(at):
            return []
        ready = [
            call
            for call in self.by_id.values()
            if call.state is S.QUEUED
            and call.due_at <= at
            and not call.is_expired(at)
            and (call.batch_id is None or not self.gate(call.batch_id).is_closed(at))
        ]
        ready.sort(key=lambda call: (-call.priority, call.due_at, call.id))
        return [call.id for call in ready[:limit]]

    def sweep(self, at: datetime) -> None:
        """What is overdue moves on."""
        overdue = [call for call in self.by_id.values() if call.due_at <= at]
        for call in overdue:
            if call.state is S.SENDING:
                call.state = S.IN_DOUBT
            elif call.state is S.SUBMITTED:
                call.state = S.ACCEPTED
            elif call.state is S.LEASED:
                call.state = S.QUEUED
        for call in self._queued():
            if call.is_expired(at):
                call.give_up(S.EXPIRED)
            elif call.batch_id is not None and self.gate(call.batch_id).cancelled:
                call.give_up(S.CANCELLED)

    def end_cancelled(self, at: datetime) -> None:
        """Leases that are over end, and then what waits in a cancelled batch."""
        for call in self.by_id.values():
            if call.state is S.LEASED and call.due_at <= at:
                call.state = S.QUEUED
        for call in self._queued():
            if call.batch_id is not None and self.gate(call.batch_id).cancelled:
                call.give_up(S.CANCELLED)

    def _queued(self) -> Iterable[Call]:
        return [call for call in self.by_id.values() if call.state is S.QUEUED]


STATUS = {
    End.COMPLETED: SessionStatus.COMPLETED,
    End.BUSY: SessionStatus.BUSY,
    End.FAILED: SessionStatus.FAILED,
    End.DROPPED: SessionStatus.ERROR,
}
