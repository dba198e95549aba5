"""The search: breadth first through everything that can happen, to the shortest way to a broken promise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.explorer.commits import Commits
from tests.explorer.jobs import JobBook, PromiseBrokenError, swept_alone
from tests.explorer.promises import Promises
from tests.explorer.scene import REAL, Rules, Scene
from tests.explorer.steps import Steps
from tests.explorer.world import World, told


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
