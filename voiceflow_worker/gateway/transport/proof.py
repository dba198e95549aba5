"""Proof that an answer belongs to its POST. HTTP/1.1 has no such proof, and servers may send unrequested answers."""

from __future__ import annotations

import time

from voiceflow_worker.gateway.answers.answer import Answer
from voiceflow_worker.gateway.answers.verdict import judge_foreign
from voiceflow_worker.gateway.transport.answer_times import AnswerTimes
from voiceflow_worker.gateway.transport.evidence import Watch
from voiceflow_worker.gateway.transport.recent_sessions import RecentSessions
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict, VerdictKind

LONGEST_WAIT = 3.0
"""Connections are kept only if the wait for silence after an answer takes at most this many seconds. Otherwise each
call gets a new connection, and its answer needs no proof. Calls that wait for silence count as in flight, so with
longer waits a campaign with a few refusals would fall behind its rate."""


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

    async def judge(
        self, verdict: Verdict, *, watch: Watch, answer: Answer, progress: PostProgress
    ) -> tuple[Verdict, bool]:
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
        if watch.has_own_connection(answer):
            return verdict, keep and not leaves_a_doubt
        if leaves_a_doubt:
            return judge_foreign(verdict), False
        if verdict.hold is not None:
            await progress.hold(verdict.hold)
        if not (answer.is_whole and answer.states_its_length and await watch.falls_silent(wait)):
            return judge_foreign(verdict), False
        if repeats:
            self._sessions.do_repeat()
        return verdict, keep
