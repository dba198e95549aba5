"""Steps of the explored world: one commit, one piece of evidence, one death; and the identity of worlds."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

from tests.explorer.jobs import BUSY, COMPLETED, DROPPED, JobBook, PromiseBrokenError
from tests.explorer.scene import POLICY, Rules, Scene, moment
from tests.explorer.world import ANSWER, IDLE, PARKED, Line, Phase, WorkerAt, World, busy, line_to, place
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

OUTCOMES = {Line.REACHED: COMPLETED, Line.WAS_BUSY: BUSY, Line.DROPPED: DROPPED}

_HAD_THE_LEASE = frozenset({Phase.LEASED, Phase.UNSURE})
_NO_TRACE = frozenset({int(Line.NOTHING), int(Line.DROPPED)})


class Commits:
    """The store, as far as it is explored: fenced commits of what the rules return."""

    def __init__(self, scene: Scene, rules: Rules, book: JobBook) -> None:
        self._scene = scene
        self._rules = rules
        self._book = book

    def killed(self, world: World, who: int) -> World:
        worker = world.workers[who]
        if worker.phase >= Phase.UNSURE:
            world = self.unheard(world, worker)
        return busy(world, who, IDLE)

    def unheard(self, world: World, worker: WorkerAt) -> World:
        """Nobody waits for this POST's answer now; a POST that was not sent, or can only come too late, is nowhere."""
        line = world.lines[worker.job][worker.post]
        too_late = line == Line.FLYING and self._book.facts[world.jobs[worker.job]].posts[worker.post].valid < 0
        nowhere = too_late or place(line) == Line.JOURNALLED
        return line_to(world, worker.job, worker.post, Line.NOTHING if nowhere else line & ~(7 * ANSWER))

    def answered(self, world: World, job: int, post: int, verdict: Verdict, *, key: Hashable, at: int) -> World:
        step = partial(self._rules.answered, number=post + 1, verdict=verdict, at=moment(at), policy=POLICY)
        moved = self.move(world, job, ("answer", post, key), step, evidence=True)
        if moved is None:
            raise PromiseBrokenError("evidence was refused")
        known = self._book.facts[moved.jobs[job]].posts[post]
        if verdict.kind is VerdictKind.CREATED and known.verdict is not VerdictKind.CREATED:
            raise PromiseBrokenError(f"CREATED was heard for POST {post + 1} and not kept: evidence is never dropped")
        return moved

    def summarised(self, world: World, job: int, post: int, outcome: Outcome, at: int) -> World:
        step = partial(self._rules.summarised, number=post + 1, outcome=outcome, at=moment(at), policy=POLICY)
        moved = self.move(world, job, ("summary", post, outcome.status, at), step, evidence=True)
        if moved is None or self._book.facts[moved.jobs[job]].posts[post].outcome is None:
            raise PromiseBrokenError(f"a summary came for POST {post + 1} and was not kept: evidence is never dropped")
        return moved

    def parked_applied(self, world: World, job: int, post: int, at: int) -> World:
        line = world.lines[job][post]
        unparked = line_to(world, job, post, line & ~PARKED)
        return self.summarised(unparked, job, post, OUTCOMES[Line(place(line))], at)

    def move(
        self, world: World, job: int, key: Hashable, step: Callable[[Job], Job], *, evidence: bool = False
    ) -> World | None:
        """One fenced commit: who holds the job by its old revision has lost it. None if the rules refuse the move."""
        old = world.jobs[job]
        new = self._book.moved(old, key, step, evidence=evidence)
        if new is None:
            return None
        if new == old:
            return world
        for who, worker in enumerate(world.workers):
            if worker.job == job and worker.phase in _HAD_THE_LEASE:
                world = self.killed(world, who)
        return world._replace(jobs=(*world.jobs[:job], new, *world.jobs[job + 1 :]))

    def without_traceless(self, world: World) -> World:
        """The same world without POSTs that left no trace."""
        for job in range(len(world.jobs)):
            if _NO_TRACE.isdisjoint(world.lines[job]):
                continue
            post = 0
            while post < len(world.lines[job]):
                if self._left_no_trace(world, job, post):
                    world = self._forgotten(world, job, post)
                else:
                    post += 1
        return world

    def _left_no_trace(self, world: World, job: int, post: int) -> bool:
        return (
            world.lines[job][post] in _NO_TRACE
            and not self._book.facts[world.jobs[job]].posts[post].may_have_rung
            and all(worker.phase < Phase.UNSURE or worker.job != job or worker.post != post for worker in world.workers)
        )

    def _forgotten(self, world: World, job: int, post: int) -> World:
        left = (*world.lines[job][:post], *world.lines[job][post + 1 :])
        return world._replace(
            jobs=(*world.jobs[:job], self._book.without(world.jobs[job], post), *world.jobs[job + 1 :]),
            lines=(*world.lines[:job], left, *world.lines[job + 1 :]),
            workers=tuple(
                worker._replace(post=worker.post - 1)
                if worker.phase >= Phase.UNSURE and worker.job == job and worker.post > post
                else worker
                for worker in world.workers
            ),
        )

    def canonical(self, world: World) -> World:
        """The same world with workers in an order, where they are alike: one for all that differ in names."""
        return world if self._scene.jumps else world._replace(workers=tuple(sorted(world.workers)))
