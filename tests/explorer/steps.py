"""Everything that can happen next, one step of one party at a time. The real rules decide what it does to a job."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

from tests.explorer.world import (
    ANSWER,
    ASKED,
    BUSY,
    COMPLETED,
    COPY,
    DROPPED,
    EARLY,
    FULL,
    IDLE,
    LEASE,
    POLICY,
    RANG,
    SKEW,
    UNCLEAR,
    VERDICTS,
    Answer,
    JobBook,
    Left,
    Line,
    Phase,
    PromiseBrokenError,
    Rules,
    Scene,
    WorkerAt,
    World,
    answer,
    busy,
    copies,
    line_to,
    moment,
    place,
    with_line,
)
from voiceflow_worker.model.jobs.job import Job, JobState
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

    def early_applied(self, world: World, job: int, post: int, at: int) -> World:
        line = world.lines[job][post]
        without_early = line_to(world, job, post, line & ~EARLY)
        return self.summarised(without_early, job, post, OUTCOMES[Line(place(line))], at)

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


S = JobState
Found = tuple[str, World, bool]
"""What happened, the world after it, and whether it happens without a person or a broken clock."""

_UNCLEAR_SUMMARY = Verdict(kind=VerdictKind.CREATED, message="an unknown status", session_id="session")


class Steps:
    """The next steps of a scene under a set of rules."""

    def __init__(self, scene: Scene, rules: Rules, book: JobBook, commits: Commits) -> None:
        self._scene = scene
        self._commits = commits
        self._rules = rules
        self._book = book
        self._names = ["worker A", "worker B"]

    def first(self) -> World:
        """Where everything begins: jobs waiting, nobody busy."""
        scene = self._scene
        return World(
            jobs=(self._book.first,),
            lines=((),),
            workers=(IDLE, IDLE),
            off=0,
            left=Left(len(scene.jumps) and 1, scene.cancels, scene.resolves, scene.calls_again),
        )

    def after(self, world: World) -> list[Found]:
        """All steps from here."""
        found: list[Found] = [("a minute passes", self._tick(world), True)]
        for who in range(len(world.workers)):
            self._worker(world, who, found)
        for job in range(len(world.jobs)):
            for post in range(len(world.lines[job])):
                self._line(world, job, post, found)
            self._sweep(world, job, 0, found)
            if world.off:
                self._sweep(world, job, world.off, found)
            self._person(world, job, found)
        if world.left.jumps:
            left = world.left._replace(jumps=world.left.jumps - 1)
            found += [
                (f"worker A's clock jumps by {by:+d} min", world._replace(off=by, left=left), False)
                for by in self._scene.jumps
            ]
        return [(text, self._commits.without_traceless(after), alone) for text, after, alone in found]

    # --- time ---

    def _tick(self, world: World) -> World:
        jobs = tuple(self._book.later(job) for job in world.jobs)
        lines = world.lines
        for job, job_id in enumerate(jobs):
            for post, line in enumerate(lines[job]):
                if self._book.facts[job_id].posts[post].valid >= 0:
                    continue
                if place(line) == Line.TAKEN:
                    lines = with_line(lines, job, post, self._ended(line, Line.DROPPED))
                elif line == Line.FLYING and WorkerAt(Phase.WAITING, job, post, 0) not in world.workers:
                    lines = with_line(lines, job, post, Line.NOTHING)
        return world._replace(jobs=jobs, lines=lines)

    # --- workers ---

    def _worker(self, world: World, who: int, found: list[Found]) -> None:
        worker, name = world.workers[who], self._names[who]
        off = world.off if who == 0 else 0
        if worker.phase == Phase.IDLE:
            self._lease(world, who, off, found)
            return
        found.append((f"{name} is killed", self._commits.killed(world, who), True))
        match worker.phase:
            case Phase.LEASED:
                self._prepare(world, who, off, found)
            case Phase.UNSURE:
                again = busy(world, who, worker._replace(phase=Phase.READY))
                found.append((f"{name} asks again and hears that its journal entry is there", again, True))
            case Phase.READY:
                self._send(world, who, off, found)
            case Phase.WAITING:
                self._hear(world, who, found)
            case _:
                self._settle(world, who, off, found)

    def _lease(self, world: World, who: int, off: int, found: list[Found]) -> None:
        for job, job_id in enumerate(world.jobs):
            facts = self._book.facts[job_id]
            if facts.state is not S.QUEUED or facts.due > off or len(facts.posts) >= self._scene.posts:
                continue
            if facts.expires is not None and facts.expires <= off:
                continue
            step = partial(self._rules.lease, worker_id="w", until=moment(off + LEASE))
            leased = self._commits.move(world, job, ("lease", off), step)
            if leased is not None:
                leased = busy(leased, who, WorkerAt(Phase.LEASED, job, 0, 0))
                found.append((f"{self._names[who]} leases the job", leased, True))

    def _prepare(self, world: World, who: int, off: int, found: list[Found]) -> None:
        job, name = world.workers[who].job, self._names[who]
        expires = self._book.facts[world.jobs[job]].expires
        if expires is not None and expires <= off:
            step = partial(self._rules.expire, at=moment(off), policy=POLICY)
            self._found(found, f"{name} finds the job expired", self._commits.move(world, job, ("expire", off), step))
        else:
            self._journal(world, who, off, found)

    def _journal(self, world: World, who: int, at: int, found: list[Found]) -> None:
        job, name = world.workers[who].job, self._names[who]
        begin = partial(self._rules.begin, at=moment(at), lease_until=moment(at + LEASE), policy=POLICY)
        post = len(world.lines[job])
        lines = (*world.lines[:job], (*world.lines[job], int(Line.JOURNALLED)), *world.lines[job + 1 :])
        begun = self._commits.move(world._replace(lines=lines), job, ("begin", at), begin)
        if begun is None:
            return
        text = f"{name} journals POST {post + 1} of the job"
        found.append((text, busy(begun, who, WorkerAt(Phase.READY, job, post, 0)), True))
        if self._scene.lost_replies:
            unsure = busy(begun, who, WorkerAt(Phase.UNSURE, job, post, 0))
            found.append((f"{text}, and does not hear that it did", unsure, True))

    def _send(self, world: World, who: int, off: int, found: list[Found]) -> None:
        worker, name = world.workers[who], self._names[who]
        job, post = worker.job, worker.post
        nothing_sent = worker._replace(phase=Phase.ANSWERED, extra=Answer.NOT_SENT)
        unsent = busy(line_to(world, job, post, Line.NOTHING), who, nothing_sent)
        if self._book.facts[world.jobs[job]].posts[post].valid <= off:
            found.append((f"{name} finds that the window of POST {post + 1} is over", unsent, True))
            return
        sent = busy(line_to(world, job, post, Line.FLYING), who, worker._replace(phase=Phase.WAITING))
        found.append((f"POST {post + 1} of the job leaves {name}", sent, True))
        if self._scene.refusals:
            found.append((f"{name} is refused a connection for POST {post + 1}", unsent, True))

    def _hear(self, world: World, who: int, found: list[Found]) -> None:
        worker, name = world.workers[who], self._names[who]
        came = answer(world.lines[worker.job][worker.post])
        silent = self._commits.unheard(world, worker)
        if came:
            heard = busy(silent, who, worker._replace(phase=Phase.ANSWERED, extra=came))
            found.append((f"{name} hears {Answer(came).name} for POST {worker.post + 1}", heard, True))
        timeout = Answer.UNKNOWN if self._rules.timeout is VerdictKind.UNKNOWN else Answer.NOT_SENT
        gave_up = busy(silent, who, worker._replace(phase=Phase.ANSWERED, extra=timeout))
        found.append((f"{name} hears nothing for POST {worker.post + 1} (read timeout, reset)", gave_up, True))

    def _settle(self, world: World, who: int, off: int, found: list[Found]) -> None:
        worker, name = world.workers[who], self._names[who]
        job, post, said = worker.job, worker.post, Answer(worker.extra)
        stored = self._commits.answered(world, job, post, VERDICTS[said], key=(said, off), at=off)
        text = f"{name} stores {said.name} for POST {post + 1} of the job"
        found.append((text, busy(stored, who, IDLE), True))
        if self._scene.lost_replies:
            found.append((f"{text}, and does not hear that it did", stored, True))

    # --- the network and 8x8 ---

    def _line(self, world: World, job: int, post: int, found: list[Found]) -> None:
        line = world.lines[job][post]
        valid = self._book.facts[world.jobs[job]].posts[post].valid
        what = f"POST {post + 1} of the job"
        match place(line):
            case Line.FLYING:
                waited_for = WorkerAt(Phase.WAITING, job, post, 0) in world.workers
                ends = [Answer.MISSED] if valid <= 0 else []
                ends += [Answer.REFUSED, Answer.TURNED_AWAY] if valid >= 0 and self._scene.refusals else []
                for end in ends if waited_for else []:
                    refused = line_to(world, job, post, Line.NOTHING + ANSWER * end)
                    found.append((f"8x8 answers {what} with {end.name}", refused, True))
                if valid >= 0:
                    taken = Line.TAKEN + (ANSWER * Answer.CREATED if waited_for else 0)
                    found.append((f"8x8 takes {what}", line_to(world, job, post, taken), True))
            case Line.TAKEN:
                if valid >= 0:
                    self._judge_ring(world, job, post)
                    rang = line_to(world, job, post, line - Line.TAKEN + Line.RANG)
                    found.append((f"the phone RINGS for {what}", rang, True))
                if valid <= 0 or self._scene.full:
                    dropped = line_to(world, job, post, self._ended(line, Line.DROPPED))
                    why = "it has no free line" if self._scene.full else "its validUntil has passed"
                    found.append((f"8x8 drops {what}: {why}", dropped, True))
            case Line.RANG:
                ends_as = (Line.REACHED, Line.WAS_BUSY) if self._scene.busy else (Line.REACHED,)
                for end_as in ends_as:
                    over = line_to(world, job, post, self._ended(line, end_as))
                    found.append((f"the call of {what} ends as {end_as.name}", over, True))
            case _:
                pass
        facts = self._book.facts[world.jobs[job]].posts[post]
        if self._scene.asks and place(line) == Line.REACHED and not facts.asked and (facts.session or facts.outcome):
            press = partial(self._rules.pressed, number=post + 1, press=ASKED, at=moment(0), policy=POLICY)
            pressed = self._commits.move(world, job, ("press", post), press, evidence=True)
            self._found(found, f"it becomes known that the person asked in {what} to be called back", pressed)
        if self._scene.export and place(line) in RANG:
            self._logged(world, job, post, found)
        if copies(line):
            self._summary(world, job, post, found)

    def _ended(self, line: int, end: Line) -> int:
        unclear = UNCLEAR if self._scene.unclear and end is not Line.DROPPED else 0
        return line - place(line) + end + COPY * self._scene.copies + unclear

    def _judge_ring(self, world: World, job: int, post: int) -> None:
        facts = self._book.facts[world.jobs[job]]
        if facts.expires is not None and facts.expires < 0:
            raise PromiseBrokenError(f"POST {post + 1} rings after the job's valid_until: never late")

    def _summary(self, world: World, job: int, post: int, found: list[Found]) -> None:
        line = world.lines[job][post]
        what = f"summary of POST {post + 1} of the job"
        outcome = FULL if self._scene.full and place(line) == Line.DROPPED else OUTCOMES[Line(place(line))]
        fewer = line_to(world, job, post, line - COPY)
        settled = self._commits.summarised(fewer, job, post, outcome, 0)
        found.append((f"the {what} comes ({outcome.status_text})", settled, True))
        if self._scene.without_id and not self._book.facts[world.jobs[job]].posts[post].session:
            early = line_to(world, job, post, (line - COPY) | EARLY)
            found.append((f"the {what} comes without its clientRequestId, and is early", early, True))
        if line & UNCLEAR:
            clearer = line_to(world, job, post, line & ~UNCLEAR)
            unclear = self._commits.answered(clearer, job, post, _UNCLEAR_SUMMARY, key="unclear", at=0)
            found.append((f"a {what} comes with an unknown status", unclear, True))

    def _logged(self, world: World, job: int, post: int, found: list[Found]) -> None:
        outcome = OUTCOMES.get(Line(place(world.lines[job][post])))
        step = partial(
            self._rules.found_placed,
            number=post + 1,
            session_id=f"session {post + 1}",
            outcome=outcome,
            at=moment(0),
            policy=POLICY,
        )
        logged = self._commits.move(world, job, ("log", post, outcome and outcome.status), step, evidence=True)
        self._found(found, f"the log of 8x8 shows POST {post + 1} of the job", logged)

    # --- the sweep ---

    def _sweep(self, world: World, job: int, off: int, found: list[Found]) -> None:
        facts = self._book.facts[world.jobs[job]]
        at, rules, policy = moment(off), self._rules, POLICY
        name = f"the sweep{' of worker A' if off else ''}"
        if facts.state is S.QUEUED and facts.expires is not None and facts.expires <= off:
            step = partial(rules.expire, at=at, policy=policy)
            expired = self._commits.move(world, job, ("expire", off), step)
            self._found(found, f"{name} ends the job: its validity has passed", expired)
        if facts.state is S.IN_DOUBT and rules.overdue_doubt is not None:
            step = partial(rules.overdue_doubt, at=at, policy=policy)
            looked = self._commits.move(world, job, ("look", off), step)
            self._found(found, f"{name} looks again at the job", looked)
        early = [post for post, line in enumerate(world.lines[job]) if line & EARLY and facts.posts[post].session]
        for post in early:
            applied = self._commits.early_applied(world, job, post, off)
            found.append((f"{name} applies the summary that was early for POST {post + 1}", applied, True))
        if facts.due > off:
            return
        match facts.state:
            case S.LEASED:
                back = self._commits.move(world, job, ("release", off), partial(rules.release, at=at))
                self._found(found, f"{name} puts the job back: its lease ended", back)
            case S.SENDING:
                step = partial(rules.overdue_sending, at=at, reason="", policy=policy)
                doubted = self._commits.move(world, job, ("doubt", off), step)
                self._found(found, f"{name} takes up the job: its lease ended while sending", doubted)
            case S.SUBMITTED if not early:
                step = partial(rules.overdue_submitted, at=at, policy=policy)
                over = self._commits.move(world, job, ("give up", off), step)
                self._found(found, f"{name} gives up waiting for the summary of the job", over)
            case _:
                pass

    # --- people ---

    def _person(self, world: World, job: int, found: list[Found]) -> None:
        left, rules, policy = world.left, self._rules, POLICY
        facts = self._book.facts[world.jobs[job]]
        if left.cancels:
            step = partial(rules.cancel, at=moment(0), reason="", policy=policy)
            fewer = world._replace(left=left._replace(cancels=left.cancels - 1))
            done = self._commits.move(fewer, job, "cancel", step)
            self._found(found, "a person cancels the job", done, alone=False)
        if left.calls_again:
            step = partial(rules.redial, at=moment(0), note="", force=True)
            fewer = world._replace(left=left._replace(calls_again=left.calls_again - 1))
            done = self._commits.move(fewer, job, "redial", step)
            self._found(found, "a person asks to call the job again", done, alone=False)
        if not left.resolves or facts.state is not S.IN_DOUBT or facts.open is None:
            return
        fewer = world._replace(left=left._replace(resolves=left.resolves - 1))
        rang = place(world.lines[job][facts.open]) in RANG
        # 8x8's own clock may differ from ours by the skew, to the worse.
        recorded_at = world.off if rules.local_journal == "worker A" else SKEW
        for placed in (True, False):
            if rang and not placed and not self._scene.mistaken:
                continue  # who looks sees that it rang
            step = partial(
                rules.resolve, placed=placed, at=moment(0), recorded_at=moment(recorded_at), note="", policy=policy
            )
            done = self._commits.move(fewer, job, ("resolve", placed, recorded_at), step)
            said = "was placed" if placed else "was not placed"
            self._found(found, f"a person says that the job {said}", done, alone=False)

    # --- what steps have in common ---

    @staticmethod
    def _found(found: list[Found], text: str, world: World | None, *, alone: bool = True) -> None:
        if world is not None:
            found.append((text, world, alone))
