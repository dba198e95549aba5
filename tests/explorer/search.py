"""A search, breadth first, through all that can happen, to the shortest way to a broken promise."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.explorer.steps import Commits, Steps
from tests.explorer.world import (
    BUSY,
    COMPLETED,
    RANG,
    REAL,
    Facts,
    JobBook,
    PromiseBrokenError,
    Rules,
    Scene,
    World,
    swept_alone,
    told,
)
from tests.explorer.world import place as place_of
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.verdict import VerdictKind

S = JobState
_WAITS = frozenset({S.QUEUED, S.LEASED})
_NEVER_SENT = frozenset({S.EXPIRED, S.CANCELLED})


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
        rings = Counter(post.redial for post, line in zip(posts, lines, strict=True) if place_of(line) in RANG)
        if not self._scene.mistaken and any(count > 1 for count in rings.values()):
            return "the phone rang twice for one attempt: never twice"
        if facts.state in _NEVER_SENT and any(post.may_have_rung for post in posts):
            return f"a job is {facts.state} although one of its POSTs may have rung"
        if facts.state in _WAITS and any(post.may_have_rung and post.redial == facts.redials for post in posts):
            return f"a job is {facts.state}, to be sent, although a POST of this attempt may have rung"
        return _judge_state(facts) or (self._judge_asked(facts) if self._scene.asks else None) or _judge_end(facts)

    def _judge_asked(self, facts: Facts) -> str | None:
        """A person who asked for it is called back once, and was reached."""
        asked = next((post for post in facts.posts if post.asked), None)
        rounds = 2 + self._scene.redials + self._scene.calls_again
        if facts.redials >= self._scene.numbers * rounds:
            return "a person was called back twice: once is what was asked for"
        if asked is None or not facts.state.is_final:
            return None
        if facts.state is not S.COMPLETED:
            return f"a person asked to be called back, so was reached, and the job is {facts.state}"
        may_end = self._scene.valid_for is not None or self._scene.cancels
        if asked.redial == facts.redials and not may_end:
            return "a person asked to be called back, and nobody will: never lost"
        return None

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
    if not facts.state.is_final or not evident or any(post.asked for post in facts.posts):
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


@dataclass(frozen=True, slots=True)
class Report:
    """What a search found: how many states and steps, and the shortest way to the first broken promise, if any."""

    scene: Scene
    states: int
    steps: int
    jobs: int
    seconds: float
    broken: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The report for people."""
        seen = f"{self.states:,} states, {self.steps:,} steps, {self.jobs:,} jobs in {self.seconds:.1f} s: {self.scene}"
        if self.broken is None:
            return f"{seen}: all promises hold"
        lines = "\n".join(f"{number:4}. {line}" for number, line in enumerate(self.trace, 1))
        return f"{seen}\nBROKEN: {self.broken}\n{lines}"


class Search:
    """One search."""

    def __init__(self, scene: Scene, rules: Rules) -> None:
        self._scene = scene
        self._rules = rules
        self._book = JobBook(scene)
        self._commits = Commits(scene, rules, self._book)
        self._steps = Steps(scene, rules, self._book, self._commits)
        self._promises = Promises(scene, self._book)
        self._worlds: list[World] = []
        self._from: list[int] = []
        self._alone: list[tuple[int, ...]] = []
        """For each state, those that follow from it without a person or a broken clock."""
        self._taken = 0
        self._began = time.perf_counter()

    def run(self, most: int) -> Report:
        """Search until a promise is broken, everything is seen, or there are more than `most` states (an error)."""
        first = self._steps.first()
        places = {first: 0}
        self._worlds.append(first)
        self._from.append(-1)
        at = 0
        while at < len(self._worlds):
            world = self._worlds[at]
            try:
                found = self._steps.after(world)
            except PromiseBrokenError as error:
                return self._report(at, str(error))
            self._taken += len(found)
            follows: list[int] = []
            for _, reached, alone in found:
                after = self._commits.canonical(reached)
                place = places.get(after)
                if place is None:
                    place = places[after] = len(self._worlds)
                    self._worlds.append(after)
                    self._from.append(at)
                    broken = self._promises.broken(after)
                    if broken is not None:
                        return self._report(place, broken)
                if alone:
                    follows.append(place)
            self._alone.append(tuple(follows))
            at += 1
            if len(self._worlds) > most:
                raise RuntimeError(f"more than {most:,} states: make the scene smaller, or the limit larger")
        return self._lost() or self._report(None, None)

    def _lost(self) -> Report | None:
        """The first state from which no end can be reached by itself, if there is one."""
        before: list[list[int]] = [[] for _ in self._worlds]
        for place, follows in enumerate(self._alone):
            for follow in follows:
                before[follow].append(place)
        reached = [self._promises.is_good(world) for world in self._worlds]
        edge = [place for place, good in enumerate(reached) if good]
        while edge:
            for place in before[edge.pop()]:
                if not reached[place]:
                    reached[place] = True
                    edge.append(place)
        if not all(reached):
            return self._report(reached.index(False), "from here no job ever ends by itself: never lost")
        for number, job in enumerate(self._book.jobs):
            try:
                swept_alone(job, self._rules)
            except PromiseBrokenError as error:
                with_it = (place for place, world in enumerate(self._worlds) if number in world.jobs)
                return self._report(next(with_it, None), str(error))
        return None

    def _report(self, place: int | None, broken: str | None) -> Report:
        return Report(
            scene=self._scene,
            states=len(self._worlds),
            steps=self._taken,
            jobs=len(self._book.jobs),
            seconds=time.perf_counter() - self._began,
            broken=broken,
            trace=() if place is None else (*self._told(place), f"here: {broken}"),
        )

    def _told(self, place: int) -> Iterator[str]:
        """The way to a state in sentences: walked once more, so that everybody keeps the name they began with."""
        way = [place]
        while way[-1] > 0:
            way.append(self._from[way[-1]])
        world = self._steps.first()
        for step in reversed(way[:-1]):
            text, world = next(
                (text, after)
                for text, after, _ in self._steps.after(world)
                if self._commits.canonical(after) == self._worlds[step]
            )
            yield f"{text:<72} -> {told(world, self._book)}"


def explore(scene: Scene, rules: Rules = REAL, *, most: int = 3_000_000) -> Report:
    """Everything that can happen in a scene under these rules."""
    return Search(scene, rules).run(most)
