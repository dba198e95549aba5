"""Proof that an answer belongs to its POST. HTTP/1.1 has no such proof, and servers may send unrequested answers."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Protocol

from voiceflow_worker.gateway.answers.answer import Answer
from voiceflow_worker.gateway.answers.verdict import judge_foreign
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict, VerdictKind

LONGEST_WAIT = 3.0
"""Connections are kept only if the wait for silence after an answer takes at most this many seconds. Otherwise each
call gets a new connection, and its answer needs no proof. Calls that wait for silence count as in flight, so with
longer waits a campaign with a few refusals would fall behind its rate."""
LATE = 60.0
"""The seconds for which a response time counts at least. It is forgotten before three times as many have passed."""
SHORTEST = 1.0
"""The shortest wait, in seconds, after which no answer is expected."""
REMEMBERED = 4096
"""The number of session ids of recent answers that one client remembers."""


class Exchange(Protocol):
    """One POST and its answer. Call `over` once, after the verdict."""

    @property
    def answer(self) -> Answer:
        """The answer, which may be incomplete."""
        ...

    @property
    def has_own_connection(self) -> bool:
        """Whether the POST was the only request of its connection, and nothing more came with its answer."""
        ...

    async def falls_silent(self, wait: float) -> bool:
        """Whether it is certain that nothing more arrives on the connection within `wait` seconds."""
        ...

    def over(self, *, keep: bool) -> None:
        """Release the connection. With `keep`, it may be used for another POST."""
        ...


class AnswerProof:
    """Judges whether the answers of one client belong to their POSTs. `at_most` is the read timeout, in seconds.

    An answer CREATED with a new session is believed. Two kinds of answers may be left over from another request:
    answers which say that nobody was called, and answers with the session of an earlier answer. These are believed only
    if the POST had its own connection, or if nothing follows the answer.
    """

    __slots__ = ("_at_most", "_sessions", "_times")

    def __init__(self, *, at_most: float) -> None:
        self._at_most = at_most
        self._times = AnswerTimes()
        self._sessions = RecentSessions()

    def waited(self, seconds: float) -> None:
        """Record how many seconds an answer took, or how long a POST waited in vain for one."""
        self._times.add(seconds, at=time.monotonic())

    async def judge(self, verdict: Verdict, exchange: Exchange, *, progress: PostProgress) -> tuple[Verdict, bool]:
        """The verdict that may be believed, and whether the connection may be used again.

        While answers are slow, no connection is used again. A hold does not wait for the proof, which takes a second
        or more.
        """
        wait = self._times.long_enough(at=time.monotonic(), at_most=self._at_most)
        keep = wait <= LONGEST_WAIT
        repeats = verdict.session_id is not None and self._sessions.were_given(verdict.session_id)
        leaves_a_doubt = verdict.kind is VerdictKind.UNKNOWN
        if (verdict.kind is VerdictKind.CREATED or leaves_a_doubt) and not repeats:
            return verdict, keep and not leaves_a_doubt
        if exchange.has_own_connection:
            return verdict, keep and not leaves_a_doubt
        if leaves_a_doubt:
            return judge_foreign(verdict), False
        if verdict.hold is not None:
            await progress.hold(verdict.hold)
        answer = exchange.answer
        if not (answer.is_whole and answer.states_its_length and await exchange.falls_silent(wait)):
            return judge_foreign(verdict), False
        if repeats:
            self._sessions.do_repeat()
        return verdict, keep


class AnswerTimes:
    """The slowest of the recent response times. The argument `at` is the current time, in monotonic seconds."""

    __slots__ = ("_before", "_began", "_now")

    def __init__(self) -> None:
        self._began = float("-inf")
        self._now = 0.0
        self._before = 0.0

    def add(self, seconds: float, *, at: float) -> None:
        """Record how many seconds an answer took, or how long a POST waited in vain for one."""
        self._turn(at)
        self._now = max(self._now, seconds)

    def long_enough(self, *, at: float, at_most: float) -> float:
        """Seconds after which no answer is expected: twice the slowest recent response time, within limits.

        The result is at most `at_most`, but never less than one second.
        """
        self._turn(at)
        return max(SHORTEST, min(2 * max(self._now, self._before), at_most))

    def _turn(self, at: float) -> None:
        if at - self._began < LATE:
            return
        self._before = self._now if at - self._began < 2 * LATE else 0.0
        self._now = 0.0
        self._began = at


class RecentSessions:
    """The last 4096 session ids that one client received. An answer with one of them may be that to another call."""

    __slots__ = ("_are_unique", "_ids")

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._are_unique = True

    def were_given(self, session_id: str) -> bool:
        """Remember a session id. Returns whether it was known already; after `do_repeat` was called, always False."""
        if not self._are_unique:
            return False
        if session_id in self._ids:
            return True
        self._ids[session_id] = None
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        return False

    def do_repeat(self) -> None:
        """Record that the server gives several calls the same id, as a stand-in for 8x8 may. Ids then prove nothing."""
        self._are_unique = False
        self._ids.clear()
