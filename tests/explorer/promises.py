"""Promises that hold in every state of the explored world."""

from __future__ import annotations

from collections import Counter

from tests.explorer.jobs import BUSY, COMPLETED, Facts, JobBook
from tests.explorer.scene import Scene
from tests.explorer.world import RANG, World, place
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.verdict import VerdictKind

S = JobState
_WAITS = frozenset({S.QUEUED, S.LEASED})
_NEVER_SENT = frozenset({S.EXPIRED, S.CANCELLED})
_TOLD = frozenset({S.COMPLETED, S.UNREACHED})


class Promises:
    """Judges worlds; what concerns one job alone is judged once for each pair of job and lines."""

    def __init__(self, scene: Scene, book: JobBook) -> None:
        self._scene = scene
        self._book = book
        self._judged: dict[tuple[int, tuple[int, ...]], str | None] = {}

    def broken(self, world: World) -> str | None:
        """The sentence of the promise that this world breaks, if it breaks one."""
        for job, lines in zip(world.jobs, world.lines, strict=True):
            if (job, lines) not in self._judged:
                self._judged[job, lines] = self._judge(self._book.facts[job], lines)
            if (verdict := self._judged[job, lines]) is not None:
                return verdict
        return None

    def _judge(self, facts: Facts, lines: tuple[int, ...]) -> str | None:
        posts = facts.posts
        rings = Counter(post.redial for post, line in zip(posts, lines, strict=True) if place(line) in RANG)
        if not self._scene.mistaken and any(count > 1 for count in rings.values()):
            return "the phone rang twice for one attempt: never twice"
        if facts.state in _NEVER_SENT and any(post.may_have_rung for post in posts):
            return f"a job is {facts.state} although one of its POSTs may have rung"
        if facts.state in _WAITS and any(post.may_have_rung and post.redial == facts.redials for post in posts):
            return f"a job is {facts.state}, to be sent, although a POST of this attempt may have rung"
        return _judge_state(facts) or _judge_end(facts)

    def is_good(self, world: World) -> bool:
        """Whether every job has ended, or is in doubt and so before people's eyes, or is at this scene's limit."""
        return all(
            facts.state.is_final or facts.state is S.IN_DOUBT or len(facts.posts) >= self._scene.posts
            for facts in (self._book.facts[job] for job in world.jobs)
        )


def _judge_state(facts: Facts) -> str | None:
    """A state says something about the POSTs: it must be so."""
    open_post = None if facts.open is None else facts.posts[facts.open]
    match facts.state:
        case S.SENDING | S.IN_DOUBT if open_post is None:
            return f"a job is {facts.state} without an open POST"
        case S.SUBMITTED if open_post is None:
            return "a job waits for the summary of no POST"
        case S.SUBMITTED if not any(
            post.verdict in {VerdictKind.CREATED, VerdictKind.PLACED} and post.outcome is None for post in facts.posts
        ):
            return "a job is submitted without a POST that was created"
        case _:
            return None


def _judge_end(facts: Facts) -> str | None:
    """What a job came to agrees with what is known of its POSTs."""
    now = [post for post in facts.posts if post.redial == facts.redials]
    evident = [post for post in now if post.is_evident]
    if len(evident) > 1 and not facts.incident:
        return "two POSTs of one attempt are known to have been placed, and no incident was noted"
    if not facts.state.is_final or not evident:
        return None
    outcomes = [post.outcome for post in evident]
    told = {S.ACCEPTED, S.COMPLETED} if COMPLETED in outcomes else {S.ACCEPTED}
    if outcomes[-1] is None and facts.state not in told:
        return f"a call is known to have been placed, no summary told its end, and its job is {facts.state}"
    if outcomes[-1] is not None and COMPLETED in outcomes and facts.state is not S.COMPLETED:
        return f"a call is known to have been answered, and its job is {facts.state}"
    answered = any(post.outcome == COMPLETED for post in facts.posts)
    if outcomes == [BUSY] and not answered and facts.state is not S.UNREACHED:
        return f"a call is known to have been busy, and its job is {facts.state}"
    return None
