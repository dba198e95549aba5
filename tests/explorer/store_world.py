"""Everything that can happen between workers, 8x8, people and a store, walked through the real rules and the reference.

The rules of one call are in `tests/model`; here is what is stored together: locks on numbers, attempts per
person, the suppression list, holds, changed calls, bridges, repeats of lost answers, and a store that is rolled back.
A world is a store, workers at any point of their work, and the truth about each POST. Time is in minutes, and short:
every world is finite.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from itertools import chain
from typing import Any

from tests.support.copied import copied
from voiceflow_worker.backends.memory.store import Memory
from voiceflow_worker.core import writes
from voiceflow_worker.core.gates import write_of_order
from voiceflow_worker.core.ports.controls import GATES
from voiceflow_worker.core.ports.store import BulkWrite, Guard, Put, Replace, Result, Same, Write, tally_change
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.errors import JobError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.differences import is_changeable
from voiceflow_worker.model.jobs.evidence import answered, summarised
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, PersonLimit
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

START, TICK = datetime(2026, 1, 1, 12, tzinfo=UTC), timedelta(minutes=1)
QUEUE, PERSON, OTHER = "q", "+6590000001", "+6590000002"
POLICY = CallPolicy(
    submit_window=TICK, ringing=TICK, clock_skew=timedelta(), longest_call=TICK, first_check=TICK, first_backoff=TICK,
    longest_backoff=TICK, longest_check=TICK, summary_deadline=10 * TICK,
)  # fmt: skip
VERDICTS = {
    "CREATED": Verdict(kind=VerdictKind.CREATED, message="", session_id="s"),
    "429": Verdict(kind=VerdictKind.TURNED_AWAY, message="", http_status=429),
    "nothing": Verdict(kind=VerdictKind.UNKNOWN, message=""),
    "not sent": Verdict(kind=VerdictKind.NOT_SENT, message=""),
}
_COMPLETED = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED")
_OPTED_OUT = Outcome(status=SessionStatus.COMPLETED_UNSUBSCRIBED, status_text="COMPLETED_UNSUBSCRIBED")
_MISSED = Outcome(status=SessionStatus.FAILED, status_text="FAILED", code=-2007)


class BrokenError(AssertionError):
    """Raised when a promise is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What may happen, and how often. `numbers` are those of the calls; `bridges` is what a menu bridges to.

    With `plain`, every POST leaves, is taken by 8x8, and its answer is heard.
    """

    numbers: tuple[str, ...] = (PERSON, PERSON)
    workers: int = 2
    ticks: int = 3
    posts: int = 2
    kills: int = 1
    lost_answers: int = 0
    late_repeats: int = 0
    holds: int = 0
    opt_outs: int = 0
    cancels: int = 0
    changes: int = 0
    resolves: int = 0
    bridges: str | None = None
    rollbacks: int = 0
    attempts: int | None = None
    person_opts_out: bool = False
    plain: bool = False

    @property
    def policy(self) -> CallPolicy:
        limit = None if self.attempts is None else PersonLimit(self.attempts, 100 * TICK)
        return dataclasses.replace(POLICY, max_per_person=limit)


class At(IntEnum):
    """What a worker is about to do."""

    IDLE = 0
    LEASED = 1
    ASKING = 2
    UNSURE = 3
    READY = 4
    WAITING = 5
    ANSWERED = 6
    STOPPED = 7


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, the job as it knows it, its write and when it asked for it, and what it has heard."""

    at: At = At.IDLE
    job: Job | None = None
    write: Write | None = None
    asked: int = 0
    heard: str = ""
    known: str | None = None


class Truth(IntEnum):
    """Where a POST, and the call that it asks for, are in truth."""

    FLYING = 0
    TAKEN = 1
    RINGS = 2
    TALKS = 3
    REACHED = 4
    MISSED = 5
    OVER = 6


@dataclass(frozen=True, slots=True)
class Line:
    """The truth about one POST: `valid` is the tick of its `validUntil`, `bridged` that of a menu's bridge from it."""

    request_id: str
    number: str
    valid: int
    truth: Truth = Truth.FLYING
    answer: str = ""
    bridged: int | None = None
    rang: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """One moment. `orders` has orders of people: a name, the tick of the commit, whether the command has returned."""

    memory: Memory
    workers: tuple[Worker, ...]
    lines: tuple[Line, ...] = ()
    now: int = 0
    orders: tuple[tuple[str, int, bool], ...] = ()
    late: tuple[Write, ...] = ()
    used: tuple[str, ...] = ()
    saved: Memory | None = None
    was_rolled_back: bool = False


Found = tuple[str, World]
CHANGED = '{"text":"changed"}'
"""The body of a call that was changed."""


def moment(tick: int) -> datetime:
    return START + tick * TICK


class Explorer:
    """A search, breadth first, to the shortest way to a broken promise."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._policy = scene.policy

    def run(self, most: int = 300_000) -> tuple[int, list[str]]:
        """The number of states, and the way to the first broken promise; empty if all hold."""
        first = self._first()
        seen: dict[Hashable, int] = {_key(first): 0}
        worlds: list[World | None] = [first]
        ways: list[tuple[int, str]] = [(-1, "")]
        for place, world in enumerate(worlds):
            assert world is not None
            try:
                for text, after in self._after(world):
                    self._judge(after)
                    key = _key(after)
                    if key not in seen:
                        seen[key] = len(worlds)
                        worlds.append(after)
                        ways.append((place, text))
            except BrokenError as error:
                return len(worlds), [*_told(ways, place), str(error)]
            worlds[place] = None  # its memory is no longer needed
            if len(worlds) > most:
                raise RuntimeError(f"more than {most:,} states: make the scene smaller")
        return len(worlds), []

    def _first(self) -> World:
        memory = Memory()
        for place, number in enumerate(self._scene.numbers):
            job = Job(
                id=f"{QUEUE}.j{place}", queue=QUEUE, state=JobState.QUEUED, due_at=START, revision=f"r{place}",
                destination=number, body="{}", body_digest="", source="+6531234567", created_at=START,
            )  # fmt: skip
            memory.write(BulkWrite(writes=(writes.enqueued(job, at=START, store_id="store"),)), START)
        return World(memory, (Worker(),) * self._scene.workers)

    # --- what every world must keep ---

    def _judge(self, world: World) -> None:
        jobs = world.memory.jobs.values()
        counted: Counter[str] = Counter()
        for job in jobs:
            counted.update(tally_change(None, job))
        live = {name: amount for name, amount in world.memory.live[QUEUE, None].items() if amount}
        if live != {name: amount for name, amount in counted.items() if amount}:
            raise BrokenError(f"the counters are {live}, and the jobs give {dict(counted)}")
        if world.was_rolled_back:
            return
        open_posts = {post.client_request_id for job in jobs for post in job.posts if post.is_open}
        for namespace in (writes.NUMBER, writes.SECOND_PARTY, writes.BRIDGE):
            for record in chain.from_iterable(world.memory.recorded.get(namespace, {}).values()):
                if record.value.startswith(QUEUE) and record.value not in open_posts:
                    raise BrokenError(f"{namespace} {record.group} is still kept: the call of {record.value} is over")

    def _judge_ring(self, world: World, line: Line, number: str) -> None:
        for other in world.lines:
            is_bridge = (
                other.truth is Truth.TALKS
                and other.bridged is not None
                and self._scene.bridges == number
                and world.now == other.bridged
            )
            if other.request_id != line.request_id and (
                (other.truth is Truth.RINGS and other.number == number) or is_bridge
            ):
                raise BrokenError(f"two phones ring at once for {number}: one open call per number")
        job = line.request_id.rpartition(".")[0]
        if any(each.rang and each.request_id.startswith(f"{job}.") for each in world.lines if each != line):
            raise BrokenError(f"{job} rings twice")
        if self._scene.attempts is not None:
            rung = sum(each.rang for each in world.lines if each.number == number and each != line)
            if rung >= self._scene.attempts:
                raise BrokenError(f"{number} is called {rung + 1} times: more often than the limit")

    def _judge_leaving(self, world: World, job: Job) -> None:
        for name, _, returned in world.orders:
            is_other = name == "change" and job.body == CHANGED
            if returned and not is_other and (name not in {"cancel", "change"} or job.id.endswith("j0")):
                raise BrokenError(f"{job.id} leaves after the {name} has returned")

    # --- everything that can happen next ---

    def _after(self, world: World) -> Iterator[Found]:
        if world.now < self._scene.ticks:
            yield "a minute passes", self._tick(world)
        for place in range(len(world.workers)):
            yield from self._worker(world, place)
        for line in world.lines:
            yield from self._line(world, line)
        for job in world.memory.jobs.values():
            yield from self._sweep(world, job)
        yield from self._people(world)
        for place, write in enumerate(world.late):
            left = world.late[:place] + world.late[place + 1 :]
            yield "the repeat of a write arrives late", replace(self._written(world, write)[0], late=left)
        if self._scene.rollbacks and not world.was_rolled_back:
            if world.saved is None:
                yield "the store is backed up", replace(world, saved=world.memory)
            elif world.saved is not world.memory:
                yield "the store is rolled back", replace(world, memory=world.saved, saved=None, was_rolled_back=True)

    def _tick(self, world: World) -> World:
        now = world.now + 1
        lines: list[Line] = []
        for line in world.lines:
            ends = line
            if line.truth in {Truth.FLYING, Truth.TAKEN} and now > line.valid:
                ends = replace(line, truth=Truth.MISSED if line.truth is Truth.TAKEN else Truth.OVER)
            elif (line.truth is Truth.RINGS and now > line.valid) or line.truth is Truth.TALKS:
                ends = replace(line, truth=Truth.REACHED)
            lines.append(ends)
        return replace(world, now=now, lines=tuple(lines))

    def _worker(self, world: World, place: int) -> Iterator[Found]:
        worker, name, at = world.workers[place], f"worker {'AB'[place]}", moment(world.now)
        job = worker.job
        if worker.at is At.IDLE:
            yield from self._lease(world, place, worker)
        if job is None:
            return
        idle = Worker(known=worker.known)
        yield from self._kill(world, place, worker)
        match worker.at:
            case At.LEASED if at < job.due_at:
                sent, write = writes.journal_entry(
                    job,
                    at=at,
                    lease_until=at + TICK,
                    policy=self._policy,
                    store_id="store",
                )
                if self._scene.rollbacks:
                    put = writes.writer_put(f"w{place}", _next(worker), at=at)
                    write = replace(write, puts=(*write.puts, put))
                asking = replace(worker, at=At.ASKING, job=sent, write=write, asked=world.now)
                text = f"{name} asks for the journal entry of {sent.posts[-1].client_request_id}"
                yield text, _busy(world, place, asking)
            case At.LEASED:
                yield f"{name} finds its lease over", _busy(world, place, idle)
            case At.ASKING | At.UNSURE:
                yield from self._ask(world, place, worker, job)
            case At.READY:
                yield from self._send(world, place, worker, job)
            case At.WAITING:
                line = next(each for each in world.lines if each.request_id == job.posts[-1].client_request_id)
                for heard in {line.answer, "" if self._scene.plain else "nothing"} - {""}:
                    yield f"{name} hears {heard}", _busy(world, place, replace(worker, at=At.ANSWERED, heard=heard))
            case At.ANSWERED:
                verdict = VERDICTS[worker.heard]
                yield from self._evidence(
                    _busy(world, place, idle),
                    job.id,
                    lambda known: answered(known, job.post_count, verdict, at=at, policy=self._policy),
                    f"{name} stores {worker.heard} for {job.id}",
                )
            case _:
                pass

    def _kill(self, world: World, place: int, worker: Worker) -> Iterator[Found]:
        if not self._may(world, "kill", self._scene.kills) or worker.at is At.STOPPED:
            return
        killed = self._use(_busy(world, place, Worker()), "kill")
        yield f"worker {'AB'[place]} is killed", killed
        if worker.write is not None and worker.at is At.ASKING:
            on_its_way = replace(killed, late=(*killed.late, worker.write))
            yield f"worker {'AB'[place]} is killed, and its write is on its way", on_its_way

    def _lease(self, world: World, place: int, worker: Worker) -> Iterator[Found]:
        if any(job.post_count >= self._scene.posts for job in world.memory.jobs.values()):
            return
        memory, at = copied(world.memory), moment(world.now)
        for each in memory.lease(QUEUE, worker_id="w", limit=1, until=at + TICK, now=at, batch=None):
            for other in memory.jobs.values() if each.returned_at is None else ():
                is_due = other.state is JobState.QUEUED and other.due_at <= at
                if is_due and other.returned_at is not None and at <= other.returned_at + lifecycle.RETRIES_FIRST:
                    raise BrokenError(f"{each.id} is leased before {other.id}, which a worker had and gave back")
            mine = replace(worker, at=At.LEASED, job=each)
            yield f"worker {'AB'[place]} leases {each.id}", _busy(replace(world, memory=memory), place, mine)

    def _send(self, world: World, place: int, worker: Worker, job: Job) -> Iterator[Found]:
        if world.now == worker.asked:
            self._judge_leaving(world, job)
            valid = int((job.posts[-1].valid_until - START) / TICK)
            line = Line(job.posts[-1].client_request_id, job.destination, valid)
            gone = _busy(world, place, replace(worker, at=At.WAITING, write=None))
            yield f"{line.request_id} leaves worker {'AB'[place]}", replace(gone, lines=(*world.lines, line))
        if world.now != worker.asked or not self._scene.plain:
            unsent = _busy(world, place, replace(worker, at=At.ANSWERED, heard="not sent", write=None))
            yield f"worker {'AB'[place]} sends nothing for {job.id}", unsent

    def _ask(self, world: World, place: int, worker: Worker, job: Job) -> Iterator[Found]:
        name, write = f"worker {'AB'[place]}", worker.write
        assert write is not None
        known = None
        if self._scene.rollbacks:
            known = writes.writer_same(f"w{place}", worker.known)
        after, result = self._written(world, write, known)
        idle = Worker(known=worker.known)
        match result:
            case Result.DONE:
                mine = replace(worker, at=At.READY, known=str(_next(worker)) if self._scene.rollbacks else None)
                yield f"{name} has its journal entry", _busy(after, place, mine)
                if worker.at is At.ASKING and self._may(world, "lost", self._scene.lost_answers):
                    unsure = _busy(after, place, replace(worker, at=At.UNSURE))
                    yield f"{name} has its journal entry, and does not hear it", self._use(unsure, "lost")
                if self._may(world, "late", self._scene.late_repeats):
                    again = replace(_busy(after, place, mine), late=(*after.late, write))
                    yield f"{name} has its journal entry, and the driver repeats the write", self._use(again, "late")
            case Result.NOT_FREE:
                (change,) = write.changes
                assert isinstance(change, Replace)
                held = world.memory.jobs.get(job.id)
                if held is None or held.revision != change.revision:
                    yield f"{name} drops {job.id}", _busy(world, place, idle)
                    return
                released = lifecycle.release(held, at=moment(world.now), due_at=moment(world.now + 1))
                _, back = writes.changed(held, released, at=START)
                yield f"{name} puts {job.id} back: not free", _busy(self._written(world, back)[0], place, idle)
            case Result.NOT_VERIFIED:
                yield (
                    f"{name} sends nothing more: the store was rolled back",
                    _busy(world, place, replace(worker, at=At.STOPPED, write=None)),
                )
            case _:
                yield f"{name} finds {job.id} changed", _busy(world, place, idle)

    def _line(self, world: World, line: Line) -> Iterator[Found]:
        what, now = line.request_id, world.now
        is_waited_for = any(
            worker.at is At.WAITING and worker.job and worker.job.posts[-1].client_request_id == what
            for worker in world.workers
        )

        def to(after: Line, at: World = world) -> World:
            return replace(at, lines=tuple(after if each == line else each for each in at.lines))

        match line.truth:
            case Truth.FLYING:
                yield f"8x8 takes {what}", to(replace(line, truth=Truth.TAKEN, answer="CREATED"))
                if is_waited_for and not self._scene.plain:
                    yield f"8x8 turns {what} away", to(replace(line, truth=Truth.OVER, answer="429"))
            case Truth.TAKEN:
                self._judge_ring(world, line, line.number)
                yield f"the phone RINGS for {what}", to(replace(line, truth=Truth.RINGS, rang=True))
            case Truth.RINGS:
                yield f"the person answers {what}", to(replace(line, truth=Truth.TALKS))
                yield f"{what} ends unanswered", to(replace(line, truth=Truth.REACHED))
            case Truth.TALKS:
                yield f"the call of {what} ends", to(replace(line, truth=Truth.REACHED))
                if self._scene.bridges is not None and line.bridged is None and line.number == PERSON:
                    yield from self._bridge(world, line, self._scene.bridges, to)
            case Truth.REACHED | Truth.MISSED:
                outcome = _MISSED if line.truth is Truth.MISSED else _COMPLETED
                if self._scene.person_opts_out and line.rang:
                    outcome = _OPTED_OUT
                job_id, _, number = what.rpartition(".")
                over = to(replace(line, truth=Truth.OVER))
                if outcome is _OPTED_OUT:
                    over = replace(over, orders=(*over.orders, ("opt-out in a call", now, True)))
                yield from self._evidence(
                    over,
                    job_id,
                    lambda job: summarised(job, int(number), outcome, at=moment(now), policy=self._policy),
                    f"the summary of {what} comes",
                )
            case Truth.OVER:
                pass

    def _bridge(self, world: World, line: Line, number: str, to: Callable[..., World]) -> Iterator[Found]:
        job_id, _, post = line.request_id.rpartition(".")
        job = world.memory.jobs[job_id]
        _, write = writes.bridge(job, int(post), [number], at=moment(world.now), policy=self._policy, store_id="store")
        after, result = self._written(world, write)
        if result is Result.DONE:
            self._judge_ring(world, line, number)
            yield f"a menu bridges {line.request_id}", to(replace(line, bridged=world.now), after)

    def _evidence(self, world: World, job_id: str, change: Callable[[Job], Job], text: str) -> Iterator[Found]:
        """Evidence is applied to the job as it is now, and is never refused."""
        job = world.memory.jobs.get(job_id)
        if job is None:
            return
        try:
            new = change(job)
            if new.state is JobState.QUEUED:
                new = change(job)
        except JobError:
            if world.was_rolled_back:  # the store has lost the POST: its worker restores it, which is not explored here
                return
            raise
        if new is job:
            yield text, world
            return
        _, write = writes.settled(job, new, at=moment(world.now), policy=self._policy, store_id="store")
        after, result = self._written(world, write)
        if result is not Result.DONE:
            raise BrokenError(f"evidence was refused: {result}")
        yield text, after
        if self._may(world, "late", self._scene.late_repeats):
            yield (
                f"{text}, and the driver repeats the write",
                self._use(replace(after, late=(*after.late, write)), "late"),
            )

    def _sweep(self, world: World, job: Job) -> Iterator[Found]:
        at = moment(world.now)
        new: Job | None = None
        if job.state is JobState.LEASED and job.due_at <= at:
            new = lifecycle.release(job, at=at)
        elif job.state is JobState.SENDING and job.due_at <= at:
            new = lifecycle.doubt(job, at=at, reason="", policy=self._policy)
        if new is not None:
            _, write = writes.settled(job, new, at=at, policy=self._policy, store_id="store")
            yield f"the sweep takes up {job.id}", self._written(world, write)[0]

    def _people(self, world: World) -> Iterator[Found]:
        at, memory = moment(world.now), world.memory
        for name, most in (
            ("hold", self._scene.holds),
            ("opt-out", self._scene.opt_outs),
            ("cancel", self._scene.cancels),
            ("change", self._scene.changes),
        ):
            if not self._may(world, name, most):
                continue
            write = self._order(name, memory, at)
            if write is None:
                continue
            after, result = self._written(world, write)
            assert result is Result.DONE
            orders = (*after.orders, (name, world.now, False))
            yield f"a person orders the {name}", self._use(replace(after, orders=orders), name)
        for place, (name, tick, returned) in enumerate(world.orders):
            sending = any(job.state is JobState.SENDING for job in memory.jobs.values())
            is_of_one = name in {"cancel", "change"}
            if not returned and (not sending or world.now > tick or is_of_one):
                done = (*world.orders[:place], (name, tick, True), *world.orders[place + 1 :])
                yield f"the {name} has returned", replace(world, orders=done)
        if self._may(world, "resolve", self._scene.resolves):
            for job in memory.jobs.values():
                yield from self._resolve(world, job)

    def _order(self, name: str, memory: Memory, at: datetime) -> Write | None:
        if name == "hold":
            ordered = Gate.of(QUEUE, None, GateState.HELD, since=at)
            return write_of_order(memory.record(GATES, QUEUE, at), ordered, token="t")[1]
        if name == "opt-out":
            return Write(puts=(Put(SUPPRESSED, PERSON, "", None),))
        job = memory.jobs[f"{QUEUE}.j0"]
        if not is_changeable(job):
            return None
        if name == "change":
            asked = replace(job, body=CHANGED, body_digest="changed")
            return writes.edited(job, asked, at=at, store_id="store")[1]
        return writes.changed(job, lifecycle.cancel(job, at=at, reason="", policy=self._policy), at=at)[1]

    def _resolve(self, world: World, job: Job) -> Iterator[Found]:
        """A person says "not placed", who is right, once the POST's validity has passed."""
        post, at = job.open_post, moment(world.now)
        rang = post is not None and any(each.rang for each in world.lines if each.request_id == post.client_request_id)
        if job.state is not JobState.IN_DOUBT or post is None or rang or at <= post.valid_until:
            return
        new = lifecycle.resolve(job, placed=False, at=at, recorded_at=at, note="", policy=self._policy)
        _, write = writes.settled(job, new, at=at, policy=self._policy, store_id="store")
        yield f"a person says that {job.id} was not placed", self._use(self._written(world, write)[0], "resolve")

    # --- what steps have in common ---

    def _written(self, world: World, write: Write, known: Same | None = None) -> tuple[World, Result]:
        memory = copied(world.memory)
        guard = None if known is None else Guard(memory.server, known)
        (answer,) = memory.write(BulkWrite(writes=(write,), guard=guard), moment(world.now))
        return replace(world, memory=memory), answer.result

    def _may(self, world: World, what: str, most: int) -> bool:
        return world.used.count(what) < most

    def _use(self, world: World, what: str) -> World:
        return replace(world, used=tuple(sorted((*world.used, what))))


def _next(worker: Worker) -> int:
    """The number of its next line in its local journal."""
    return int(worker.known or 0) + 1


def _busy(world: World, place: int, worker: Worker) -> World:
    return replace(world, workers=(*world.workers[:place], worker, *world.workers[place + 1 :]))


def _told(ways: list[tuple[int, str]], place: int) -> list[str]:
    told: list[str] = []
    while place > 0:
        place, text = ways[place]
        told.append(text)
    return told[::-1]


def _key(world: World) -> Hashable:
    """What tells worlds apart: revisions only by which of them are equal, ended records not at all."""
    names: dict[str, str] = {}

    def named(revision: str) -> str:
        return names.setdefault(revision, f"#{len(names)}")

    def of(job: Job | None) -> Hashable:
        if job is None:
            return None
        rests = job.state.is_final or job.state is JobState.IN_DOUBT
        due = START if rests else max(job.due_at, moment(world.now))
        waits = job.state is JobState.QUEUED
        came_back = START if waits and job.returned_at is not None else None
        job = replace(job, first_due_at=None, returned_at=came_back, goes_first=waits and job.goes_first)
        return replace(job, revision=named(job.revision), due_at=due, reason=None, notes=(), failures=0)

    def write_of(write: Write | None) -> Hashable:
        change = write.changes[0] if write is not None and write.changes else None
        return (named(change.revision), of(change.job)) if isinstance(change, Replace) else None

    def memory_of(memory: Memory | None) -> Hashable:
        if memory is None:
            return None
        now = moment(world.now)
        jobs = tuple(of(job) for _, job in sorted(memory.jobs.items()))
        records = tuple(
            (
                namespace,
                record.group,
                record.member,
                names.get(record.value, record.value),
                record.ends_at,
            )
            for namespace, kept in sorted(memory.recorded.items())
            for record in sorted(chain.from_iterable(kept.values()))
            if record.ends_at is None or record.ends_at > now
        )
        return jobs, records

    def worker_of(worker: Worker) -> Any:
        return (
            worker.at, of(worker.job), write_of(worker.write), worker.asked if worker.at is At.READY else 0,
            worker.heard, worker.known, )  # fmt: skip

    # Which of two workers it is makes no difference, unless each has written what the store must have.
    alike = sorted(world.workers, key=lambda each: (each.at, each.heard, each.asked, each.job.id if each.job else ""))
    workers = alike if all(each.known is None for each in world.workers) else world.workers
    lines = frozenset(line for line in world.lines if line.rang or line.truth is not Truth.OVER)
    return (
        memory_of(world.memory), tuple(worker_of(each) for each in workers), lines, world.now, world.orders,
        tuple(write_of(each) for each in world.late), world.used, memory_of(world.saved), world.was_rolled_back,
    )  # fmt: skip


def explore(scene: Scene, *, most: int = 300_000) -> tuple[int, list[str]]:
    """The number of states, and the shortest way to the first broken promise; empty if all promises hold."""
    return Explorer(scene).run(most)
