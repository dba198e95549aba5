"""The same random commands to the engine on every store: all give the same answers, and nobody is rung twice or late.

The memory store is the reference, which `tests/explorer` walks through. Here the other stores must do what it does, and
what truly became of each POST at 8x8 is kept beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import count
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.lowlevel import checkpoint
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.contract.samples import ManualClock
from tests.support.faulty_store import FaultyStore, Loss
from tests.support.flows import flow
from tests.support.stores import EVERY
from tests.support.voices import created, not_sent, refused, unknown
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, Job, open_store
from voiceflow_worker.core.admission import CheckedCall, new_job
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite
from voiceflow_worker.core.sending.journal import Journal, Requeue
from voiceflow_worker.core.settling.settle import PostAnswer, Settler
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.core.writes import all_or_none, inserted
from voiceflow_worker.errors import StoreUnavailableError, VoiceflowError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import JobState as S
from voiceflow_worker.model.jobs.job import NoteKind, RedialPolicy
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

QUEUE = "default"
LEASE = timedelta(seconds=60)
POLICY = CallPolicy(summary_deadline=timedelta(minutes=30))
STEPS = 50
NUMBERS = st.sampled_from([f"+6580000{place:03d}" for place in range(20)])
TEXTS = st.sampled_from(["Your order is ready.", "Your order is ready.", "Your order is late."])
KEYS = st.sampled_from([None, None, None, "order-1", "order-2"])
BATCHES = st.sampled_from([None, "spring", "autumn"])
VALID_FOR = st.sampled_from([None, None, None, 30, 90, 600, 7200])
BUSY_AGAIN = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta(minutes=2))
REDIALS = st.sampled_from([None, BUSY_AGAIN])
LOSSES = st.sampled_from([Loss.NOTHING, Loss.NOTHING, Loss.BEFORE, Loss.AFTER])


class Fate(StrEnum):
    """What truly became of a POST. Those with a status got a session."""

    COMPLETED = "COMPLETED"
    BUSY = "BUSY"
    FAILED = "FAILED"
    DROPPED = "dropped before it rang, as its validity had passed (-2007)"
    REFUSED = "refused"
    LATE = "too late for 8x8"
    TURNED_AWAY = "turned away"
    NOT_SENT = "not sent"
    VANISHED = "it vanished on the way, and nobody knows"


SESSIONS = {
    Fate.COMPLETED: SessionStatus.COMPLETED,
    Fate.BUSY: SessionStatus.BUSY,
    Fate.FAILED: SessionStatus.FAILED,
    Fate.DROPPED: SessionStatus.ERROR,
}
FATES = st.sampled_from([Fate.COMPLETED, Fate.COMPLETED, Fate.BUSY, Fate.BUSY, *Fate])


class StandingClock(ManualClock):
    """A wall clock that only a command moves; who sleeps goes on at once, and has slept."""

    async def sleep(self, seconds: float) -> None:
        await checkpoint()
        self._monotonic += max(seconds, 0)


class Side:
    """One store, and the engine's parts on it."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.store = FaultyStore(store)
        self.queue = CallQueue(self.store, QUEUE, policy=POLICY)
        self.settler = Settler(self.store, POLICY)
        self.journal = Journal(self.store, POLICY, lease=LEASE)

    async def again(self, command: Callable[[], Awaitable[object]]) -> object:
        """A command that is given again when the store was away, as its caller would."""
        try:
            return await command()
        except StoreUnavailableError:
            return await command()

    async def sweep(self) -> None:
        # By a worker that has just started: it remembers no cancelled batch that has nothing to end.
        sweeper = Sweeper(self.store, queue=QUEUE, policy=POLICY)
        await self.again(sweeper.sweep)


@dataclass(eq=False)
class Dispatch:
    """A journalled POST, as each side has it. A worker that is slow, or dead, leaves it lying about."""

    jobs: Sequence[Job]
    fate: Fate | None = None
    rang_at: datetime | None = None
    is_heard: bool = True
    is_answered: bool = False

    @property
    def request_id(self) -> str:
        return self.jobs[0].posts[-1].client_request_id

    @property
    def verdict(self) -> Verdict:
        match self.fate:
            case Fate.REFUSED:
                return refused(-1014)
            case Fate.LATE:
                return refused(-1015)
            case Fate.NOT_SENT:
                return not_sent()
            case Fate.TURNED_AWAY:
                return Verdict(kind=VerdictKind.TURNED_AWAY, message="429", http_status=429)
            case Fate.VANISHED:
                return unknown()
            case _:
                return created(f"session-{self.request_id}") if self.is_heard else unknown()

    def summary(self, *, by_session: bool) -> SessionSummary:
        status = SESSIONS[self.fate or Fate.COMPLETED]
        return SessionSummary(
            session_id=f"session-{self.request_id}",
            status=status,
            status_text=status.value,
            client_request_id=None if by_session else self.request_id,
            error_code=-2007 if self.fate is Fate.DROPPED else None,
        )


def plain(answer: Any) -> Any:
    """An answer as every store must give it: the tokens of moves are each store's own."""
    match answer:
        case Job():
            return replace(answer, revision="")
        case VoiceflowError():
            return type(answer)
        case Gate():
            return answer
        case dict():
            return {key: plain(each) for key, each in answer.items()}
        case list() | tuple():
            return [plain(each) for each in answer]
        case _:
            return answer


class EngineOnEveryStore(RuleBasedStateMachine):
    portal: BlockingPortal
    urls: Callable[[], dict[str, str]]

    def __init__(self) -> None:
        super().__init__()
        self.clock = StandingClock()
        self.jobs: dict[str, Job] = {}
        self.held: list[Sequence[Job]] = []
        self.dispatches: list[Dispatch] = []
        self.outcomes: dict[str, object] = {}
        self.numbers = count(1)
        self.stack = ExitStack()
        self.sides = [
            Side(
                name,
                self.stack.enter_context(self.portal.wrap_async_context_manager(open_store(url, clock=self.clock))),
            )
            for name, url in self.urls().items()
        ]

    def teardown(self) -> None:
        self.stack.close()

    def each(self, command: Callable[[Side], Awaitable[Any]], *, loss: Loss = Loss.NOTHING) -> list[Any]:
        """Give a command on every side, and compare the answers, and all that the stores have after it."""
        answers = [self._ask(side, command, loss) for side in self.sides]
        for side, answer in zip(self.sides, answers, strict=True):
            assert plain(answer) == plain(answers[0]), side.name
        self._look()
        return answers

    def _ask(self, side: Side, command: Callable[[Side], Awaitable[Any]], loss: Loss) -> Any:
        async def awaited() -> Any:
            return await command(side)

        side.store.lose(loss, "write", "lease")
        try:
            return self.portal.call(awaited)
        except VoiceflowError as error:
            return error
        finally:
            side.store.lose(Loss.NOTHING)

    def mine(self, side: Side, jobs: Sequence[Job]) -> Job:
        """A job as this side has it."""
        return jobs[self.sides.index(side)]

    # The way of a call.

    @initialize(data=st.data(), amount=st.integers(2, 5))
    def begin(self, data: st.DataObject, amount: int) -> None:
        self.enqueue(data, amount)

    @rule(data=st.data(), amount=st.integers(1, 4))
    def enqueue(self, data: st.DataObject, amount: int) -> None:
        now = self.clock.now()
        text, key, batch_id = data.draw(TEXTS), data.draw(KEYS), data.draw(BATCHES)
        made: list[Job] = []
        for _ in range(amount):
            seconds = data.draw(VALID_FOR)
            request = CallRequest(
                flow=flow(data.draw(NUMBERS), text),
                priority=data.draw(st.sampled_from([0, 0, 1])),
                batch_id=batch_id,
                unique_key=key,
                valid_until=None if seconds is None else now + timedelta(seconds=seconds),
                redial=data.draw(REDIALS),
            )
            # Not random: the order of jobs and the jitter of their backoff come from their ids.
            job_id = f"{QUEUE}.{next(self.numbers):026d}"
            made.append(
                new_job(CheckedCall.of(request, at=now), job_id=job_id, revision=new_revision(), queue=QUEUE, at=now)
            )
        step = BulkWrite(writes=(all_or_none(list(map(inserted, made))),))

        async def written(side: Side) -> object:
            return await side.store.write(step, now=now)

        self.each(written)

    def _work(self, data: st.DataObject) -> None:
        """A worker's round: it takes what is due, and sends it as far as it gets."""
        for jobs in self._lease(data.draw(st.integers(1, 4)), Loss.NOTHING):
            dispatch = self._journal(jobs, Loss.NOTHING)
            if dispatch is None or data.draw(st.integers(0, 5)) == 0:
                continue
            self._leave(dispatch, data.draw(FATES), is_heard=data.draw(st.integers(0, 3)) > 0)
            heard = data.draw(st.sampled_from(["answer", "answer", "answer", "summary", "nothing"]))
            if heard == "answer":
                self._answer(dispatch, data.draw(LOSSES))
            elif heard == "summary" and dispatch.fate in SESSIONS:
                self._summary(dispatch, data.draw(LOSSES), by_session=data.draw(st.booleans()))

    # Hypothesis draws each rule as often as any other: what happens most in life is a rule three times.
    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        self._work(data)

    @rule(data=st.data())
    def work_on(self, data: st.DataObject) -> None:
        self._work(data)

    @rule(data=st.data(), seconds=st.sampled_from([1, 61, 131]))
    def work_later(self, data: st.DataObject, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        self._work(data)

    @rule(limit=st.integers(1, 4), loss=LOSSES)
    def lease(self, limit: int, loss: Loss) -> None:
        self.held += self._lease(limit, loss)

    def _lease(self, limit: int, loss: Loss) -> list[Sequence[Job]]:
        now = self.clock.now()
        leased = self.each(
            lambda side: side.store.lease(QUEUE, worker_id="worker", limit=limit, until=now + LEASE, now=now), loss=loss
        )
        return [] if isinstance(leased[0], VoiceflowError) else list(zip(*leased, strict=True))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), loss=LOSSES, step=st.sampled_from(["journal", "journal", "put back"]))
    def go_on_with_what_is_held(self, data: st.DataObject, loss: Loss, step: str) -> None:
        jobs = data.draw(st.sampled_from(self.held))
        self.held.remove(jobs)
        if step == "put back":
            self._put_back(jobs, loss)
        else:
            self._journal(jobs, loss)

    def _put_back(self, jobs: Sequence[Job], loss: Loss) -> None:
        self.each(lambda side: side.journal.requeue([Requeue(self.mine(side, jobs), "put back")]), loss=loss)

    def _journal(self, jobs: Sequence[Job], loss: Loss) -> Dispatch | None:
        async def begun(side: Side) -> tuple[list[Job], bool]:
            sending, refused = await side.journal.begin([self.mine(side, jobs)])
            return [each.job for each in sending], bool(refused)

        answers = self.each(begun, loss=loss)
        if answers[0][1]:
            self._put_back(jobs, Loss.NOTHING)
        if not answers[0][0]:
            return None
        dispatch = Dispatch([sending[0] for sending, _ in answers])
        self.dispatches.append(dispatch)
        return dispatch

    @precondition(lambda self: any(dispatch.fate is None for dispatch in self.dispatches))
    @rule(data=st.data(), fate=FATES, is_heard=st.booleans())
    def leave(self, data: st.DataObject, fate: Fate, is_heard: bool) -> None:
        waiting = [dispatch for dispatch in self.dispatches if dispatch.fate is None]
        self._leave(data.draw(st.sampled_from(waiting)), fate, is_heard=is_heard)

    def _leave(self, dispatch: Dispatch, fate: Fate, *, is_heard: bool) -> None:
        """It may leave late; then 8x8 refuses it."""
        is_late = self.clock.now() >= dispatch.jobs[0].posts[-1].valid_until
        if is_late and fate in SESSIONS:
            fate = Fate.LATE
        elif fate is Fate.LATE and not is_late:
            fate = Fate.VANISHED
        dispatch.fate, dispatch.is_heard = fate, is_heard
        if fate in SESSIONS and fate is not Fate.DROPPED:
            dispatch.rang_at = self.clock.now()

    @precondition(lambda self: self._unanswered())
    @rule(data=st.data(), loss=LOSSES, seconds=st.sampled_from([0, 61]), before=LOSSES)
    def answer(self, data: st.DataObject, loss: Loss, seconds: int, before: Loss) -> None:
        """The answer of a POST comes, perhaps after a sweep has doubted it."""
        if seconds:
            self.sweep(seconds, before)
        self._answer(data.draw(st.sampled_from(self._unanswered())), loss)

    def _unanswered(self) -> list[Dispatch]:
        return [dispatch for dispatch in self.dispatches if dispatch.fate is not None and not dispatch.is_answered]

    def _answer(self, dispatch: Dispatch, loss: Loss) -> None:
        dispatch.is_answered = True
        number = dispatch.jobs[0].post_count

        async def settled(side: Side) -> object:
            job = self.mine(side, dispatch.jobs)
            answer = PostAnswer(job, number, dispatch.verdict, side.store.clock.now())

            async def settle() -> Job:
                (found,) = await side.settler.verdicts([answer])
                if isinstance(found, BaseException):
                    raise found
                return found

            return await side.again(settle)

        (answer, *_) = self.each(settled, loss=loss)
        assert isinstance(answer, Job), "evidence was refused"

    @precondition(lambda self: any(dispatch.fate in SESSIONS for dispatch in self.dispatches))
    @rule(data=st.data(), loss=LOSSES, by_session=st.booleans(), times=st.integers(1, 2))
    def summary(self, data: st.DataObject, loss: Loss, by_session: bool, times: int) -> None:
        dispatch = data.draw(st.sampled_from([dispatch for dispatch in self.dispatches if dispatch.fate in SESSIONS]))
        for _ in range(times):
            self._summary(dispatch, loss, by_session=by_session)

    def _summary(self, dispatch: Dispatch, loss: Loss, *, by_session: bool) -> None:
        told = dispatch.summary(by_session=by_session)
        self.each(lambda side: side.again(partial(side.settler.summary, told)), loss=loss)
        post = self.jobs[dispatch.jobs[0].id].post(dispatch.jobs[0].post_count)
        assert by_session or (post is not None and post.outcome is not None), "evidence is never dropped"

    @rule(seconds=st.sampled_from([0, 10, 61, 131, 1801]), loss=LOSSES)
    def sweep(self, seconds: int, loss: Loss) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        self.each(Side.sweep, loss=loss)

    # What people order.

    @precondition(lambda self: self._ids(S.IN_DOUBT))
    @rule(data=st.data(), waits=st.booleans())
    def resolve(self, data: st.DataObject, waits: bool) -> None:
        """A person looks at 8x8, sees what is true, and says so; too early, they are told to come again."""
        if waits:
            self.clock.advance(timedelta(seconds=131))
        job_id = data.draw(st.sampled_from(self._ids(S.IN_DOUBT)))
        post = self.jobs[job_id].open_post
        assert post is not None
        placed = any(each.request_id == post.client_request_id and each.fate in SESSIONS for each in self.dispatches)
        self.each(lambda side: side.queue.resolve(job_id, placed=placed, note="seen at 8x8"))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), order=st.sampled_from(["cancel", "redial", "redial by force"]))
    def order(self, data: st.DataObject, order: str) -> None:
        waiting = self._ids(S.QUEUED, S.LEASED) if order == "cancel" else []
        job_id = data.draw(st.sampled_from(waiting or self._ids(*S)))
        if order == "cancel":
            self.each(lambda side: side.queue.cancel(job_id))
        else:
            self.each(lambda side: side.queue.redial(job_id, force=order == "redial by force"))

    @rule(
        order=st.sampled_from(["hold", "resume", "resume", "cancel"]),
        batch_id=BATCHES,
        minutes=st.sampled_from([None, 1, 10]),
    )
    def gates(self, order: str, batch_id: str | None, minutes: int | None) -> None:
        if order == "hold":
            until = None if minutes is None else self.clock.now() + timedelta(minutes=minutes)
            self.each(lambda side: side.queue.hold(batch_id=batch_id, until=until, reason="a test"))
        elif order == "resume" or batch_id is None:
            self.each(lambda side: side.queue.resume(batch_id=batch_id))
        else:
            self.each(lambda side: side.queue.cancel_batch(batch_id))

    def _ids(self, *states: S) -> list[str]:
        return [job.id for job in self.jobs.values() if job.state in states]

    # What must hold after every command.

    def _look(self) -> None:
        async def seen(side: Side) -> Any:
            jobs = await find_jobs(side.store, Listing(queue=QUEUE, limit=None))
            states = {state: amount for state, amount in (await side.queue.status()).states.items() if amount}
            events: dict[str, list[object]] = {}  # those of each job in order; a sweep finds jobs in any order
            for each in await side.store.events(QUEUE):
                events.setdefault(each.job_id, []).append((each.kind, each.state, each.post))
            return {job.id: plain(job) for job in jobs}, states, events

        found = [self._ask(side, seen, Loss.NOTHING) for side in self.sides]
        for side, each in zip(self.sides, found, strict=True):
            assert each == found[0], side.name
        self.jobs, states, _ = found[0]
        assert states == Counter(job.state for job in self.jobs.values())
        rings = Counter((each.jobs[0].id, each.jobs[0].redials) for each in self.dispatches if each.rang_at is not None)
        assert all(times == 1 for times in rings.values()), "a phone rang twice for one attempt"
        for dispatch in self.dispatches:
            self._judge(dispatch, self.jobs[dispatch.jobs[0].id])

    def _judge(self, dispatch: Dispatch, job: Job) -> None:
        post = job.post(dispatch.jobs[0].post_count)
        if post is not None and post.outcome is not None:
            stands = self.outcomes.setdefault(dispatch.request_id, post.outcome)
            assert stands == post.outcome, "an outcome was replaced by another"
        if dispatch.rang_at is None:
            return
        assert post is not None, "a phone rang, and the job knows of no POST"
        assert dispatch.rang_at < post.valid_until
        assert job.valid_until is None or dispatch.rang_at < job.valid_until, "a phone rang late"
        waits = job.state in {S.QUEUED, S.LEASED, S.EXPIRED, S.CANCELLED}
        assert not (waits and post.redial == job.redials), "a phone rang, and its job does as if it had not"
        assert not any(note.kind is NoteKind.RANG_TWICE for note in job.notes)


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio") as opened:
        yield opened


FEW = 1
"""A look, each day; what is hard to find, the many examples find."""


@pytest.mark.timeout(900)  # many examples, on a busy machine
@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(FEW, id="few"),
        pytest.param(max(settings().max_examples // 2, 1), marks=pytest.mark.slow, id="many"),
    ],
)
def test_every_store_gives_the_same_answers(
    portal: BlockingPortal, fresh_url: Callable[[str], str], examples: int
) -> None:
    def urls() -> dict[str, str]:
        return {backend: fresh_url(backend) for backend in EVERY}

    machine = type("Machine", (EngineOnEveryStore,), {"portal": portal, "urls": staticmethod(urls)})
    # A failure of the few is told at once. The many are made shorter first, which may take five minutes.
    phases = set(Phase) - ({Phase.shrink, Phase.explain} if examples <= FEW else set())
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=STEPS, phases=phases)
    )
