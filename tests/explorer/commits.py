"""Steps of the explored world: one commit, one piece of evidence, one death; and the identity of worlds."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

from tests.explorer.jobs import BUSY, COMPLETED, DROPPED, JobBook, PromiseBrokenError
from tests.explorer.scene import NOW, POLICY, Rules, Scene, moment
from tests.explorer.world import ANSWER, IDLE, PARKED, Line, Phase, WorkerAt, World, busy, line_to, place
from voiceflow_worker.core import units
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

OUTCOMES = {Line.REACHED: COMPLETED, Line.WAS_BUSY: BUSY, Line.DROPPED: DROPPED}

_HAD_THE_LEASE = frozenset({Phase.LEASED, Phase.LOCKED, Phase.UNSURE})
_NO_TRACE = frozenset({int(Line.NOTHING), int(Line.DROPPED)})


class Commits:
    """The store, as far as it is explored: fenced commits of what the rules return."""

    def __init__(self, scene: Scene, rules: Rules, book: JobBook) -> None:
        self._scene = scene
        self._rules = rules
        self._book = book
        self._needed: dict[int, bool] = {}

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
        releases = world.releases
        is_over = self._scene.jobs > 1 and self._needs_its_number(old) and not self._needs_its_number(new)
        if is_over and self._rules.locks:
            releases = tuple(sorted({*releases, (job, False)}))
        return world._replace(jobs=(*world.jobs[:job], new, *world.jobs[job + 1 :]), releases=releases)

    def _needs_its_number(self, job: int) -> bool:
        known = self._needed.get(job)
        if known is None:
            known = self._needed[job] = units.may_ring(self._book.jobs[job], at=NOW, policy=POLICY)
        return known

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
        """The same world with jobs and workers in an order, where they are alike: one for all that differ in names."""
        if self._scene.jumps:
            return world
        in_order = tuple(sorted(world.workers))
        straight = world if in_order == world.workers else world._replace(workers=in_order)
        if len(world.jobs) == 1:
            return straight
        if world.jobs[0] < world.jobs[1]:
            return straight
        # Equal jobs may still differ in their lines and workers: then the smaller of the two worlds stands for both.
        crossed = World(
            jobs=(world.jobs[1], world.jobs[0]),
            lines=(world.lines[1], world.lines[0]),
            workers=tuple(
                sorted(
                    worker if worker.phase == Phase.IDLE else worker._replace(job=1 - worker.job)
                    for worker in world.workers
                )
            ),
            lock=(1 - world.lock[0], world.lock[1]) if world.lock else (),
            releases=tuple(sorted((1 - owner, stale) for owner, stale in world.releases)),
            off=world.off,
            left=world.left,
        )
        return min(straight, crossed)
