"""The same random commands to the engine on every store, against one simple model of what must come of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.stateful.commands import Commands
from tests.stateful.facts import WAITING, Call, End, Fate
from tests.support.faulty_store import Loss
from tests.support.flows import flow
from tests.support.redis_server import standalone
from voiceflow_worker import CallRequest
from voiceflow_worker.model.jobs.job import JobState as S
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.reports.status import SessionStatus

STEPS = 50
NUMBERS = st.sampled_from([f"+6580000{place:03d}" for place in range(20)])
TEXTS = st.sampled_from(["Your order is ready.", "Your order is ready.", "Your order is late."])
KEYS = st.sampled_from([None, None, None, "order-1", "order-2"])
BATCHES = st.sampled_from([None, "spring", "autumn"])
VALID_FOR = st.sampled_from([None, None, None, 30, 90, 600, 7200])
BUSY_AGAIN = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta(minutes=2))
REDIALS = st.sampled_from([None, BUSY_AGAIN])
LOSSES = st.sampled_from([Loss.NOTHING, Loss.NOTHING, Loss.BEFORE, Loss.AFTER])
FATES = st.sampled_from([Fate.CREATED, Fate.CREATED, Fate.CREATED, Fate.UNHEARD, *Fate])
ENDS = st.sampled_from([End.COMPLETED, End.BUSY, *End])


class EngineOnEveryStore(RuleBasedStateMachine):
    """Draws the commands. What a rule does with what it draws, and what must hold then, is in `Commands`."""

    portal: BlockingPortal
    urls: Callable[[], dict[str, str]]
    all: Commands

    @initialize(data=st.data(), amount=st.integers(2, 5))
    def begin(self, data: st.DataObject, amount: int) -> None:
        self.all = Commands(self.portal, self.urls())
        self.enqueue(data, amount)

    def teardown(self) -> None:
        if hasattr(self, "all"):
            self.all.close()

    @rule(data=st.data(), amount=st.integers(1, 4))
    def enqueue(self, data: st.DataObject, amount: int) -> None:
        now = self.all.clock.now()
        text, key, batch_id = data.draw(TEXTS), data.draw(KEYS), data.draw(BATCHES)
        self.all.enqueue(
            [
                CallRequest(
                    flow=flow(data.draw(NUMBERS), text),
                    priority=data.draw(st.sampled_from([0, 0, 1])),
                    batch_id=batch_id,
                    unique_key=key,
                    valid_until=None if (seconds := data.draw(VALID_FOR)) is None else now + timedelta(seconds=seconds),
                    redial=data.draw(REDIALS),
                )
                for _ in range(amount)
            ]
        )

    def _work(self, data: st.DataObject) -> None:
        """A worker's round: it takes what is due, and sends it as far as it gets."""
        for held in self.all.lease(data.draw(st.integers(1, 4))):
            flight = self.all.journal(held)
            if flight is None or data.draw(st.integers(0, 5)) == 0:
                continue
            self.all.leave(flight, data.draw(FATES), data.draw(ENDS))
            heard = data.draw(st.sampled_from(["answer", "answer", "answer", "summary", "nothing"]))
            if heard == "answer":
                self.all.answer(flight, data.draw(LOSSES))
            elif heard == "summary" and flight.post.placed:
                self.all.summary(flight, data.draw(LOSSES), by_session=data.draw(st.booleans()))

    # Hypothesis draws each rule as often as any other: what happens most in life is a rule three times.
    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        self._work(data)

    @rule(data=st.data())
    def work_on(self, data: st.DataObject) -> None:
        self._work(data)

    @rule(data=st.data(), seconds=st.sampled_from([1, 61, 131]))
    def work_later(self, data: st.DataObject, seconds: int) -> None:
        self.all.clock.advance(timedelta(seconds=seconds))
        self._work(data)

    @rule(limit=st.integers(1, 4), loss=LOSSES)
    def lease(self, limit: int, loss: Loss) -> None:
        self.all.lease(limit, loss)

    @precondition(lambda self: self.all.held)
    @rule(data=st.data(), loss=LOSSES, step=st.sampled_from(["journal", "journal", "put back"]))
    def go_on_with_what_is_held(self, data: st.DataObject, loss: Loss, step: str) -> None:
        held = data.draw(st.sampled_from(self.all.held))
        if step == "put back":
            self.all.put_back(held, loss)
        else:
            self.all.journal(held, loss)

    @precondition(lambda self: any(flight.post.fate is None for flight in self.all.flights))
    @rule(data=st.data(), fate=FATES, end=ENDS)
    def leave(self, data: st.DataObject, fate: Fate, end: End) -> None:
        waiting = [flight for flight in self.all.flights if flight.post.fate is None]
        self.all.leave(data.draw(st.sampled_from(waiting)), fate, end)

    @precondition(lambda self: any(flight.may_be_answered for flight in self.all.flights))
    @rule(data=st.data(), loss=LOSSES)
    def answer(self, data: st.DataObject, loss: Loss) -> None:
        waiting = [flight for flight in self.all.flights if flight.may_be_answered]
        self.all.answer(data.draw(st.sampled_from(waiting)), loss)

    @precondition(lambda self: any(flight.may_be_answered for flight in self.all.flights))
    @rule(data=st.data(), loss=LOSSES, before=LOSSES)
    def answer_after_a_sweep(self, data: st.DataObject, loss: Loss, before: Loss) -> None:
        self.all.clock.advance(timedelta(seconds=61))
        self.all.sweep(before)
        waiting = [flight for flight in self.all.flights if flight.may_be_answered]
        self.all.answer(data.draw(st.sampled_from(waiting)), loss)

    @precondition(lambda self: any(flight.post.placed for flight in self.all.flights))
    @rule(data=st.data(), loss=LOSSES, by_session=st.booleans(), times=st.integers(1, 2))
    def summary(self, data: st.DataObject, loss: Loss, by_session: bool, times: int) -> None:
        flight = data.draw(st.sampled_from([flight for flight in self.all.flights if flight.post.placed]))
        for _ in range(times):
            self.all.summary(flight, loss, by_session=by_session)

    @rule(loss=LOSSES)
    def sweep(self, loss: Loss) -> None:
        self.all.sweep(loss)

    @rule(seconds=st.sampled_from([10, 61, 131, 1801]), loss=LOSSES)
    def sweep_later(self, seconds: int, loss: Loss) -> None:
        self.all.clock.advance(timedelta(seconds=seconds))
        self.all.sweep(loss)

    @precondition(lambda self: self._calls(S.IN_DOUBT))
    @rule(data=st.data(), waits=st.booleans())
    def resolve(self, data: st.DataObject, waits: bool) -> None:
        if waits:
            self.all.clock.advance(timedelta(seconds=131))
        self.all.resolve(data.draw(st.sampled_from(self._calls(S.IN_DOUBT))))

    @precondition(lambda self: self._calls())
    @rule(data=st.data(), order=st.sampled_from(["cancel", "redial", "redial by force"]))
    def order(self, data: st.DataObject, order: str) -> None:
        call = data.draw(st.sampled_from(self._calls(*(WAITING if order == "cancel" else ())) or self._calls()))
        if order == "cancel":
            self.all.cancel(call)
        else:
            self.all.redial(call, force=order == "redial by force")

    @rule(
        order=st.sampled_from(["hold", "resume", "resume", "cancel"]),
        batch_id=BATCHES,
        minutes=st.sampled_from([None, 1, 10]),
    )
    def gates(self, order: str, batch_id: str | None, minutes: int | None) -> None:
        if order == "hold":
            self.all.hold(batch_id, None if minutes is None else self.all.clock.now() + timedelta(minutes=minutes))
        elif order == "resume" or batch_id is None:
            self.all.resume(batch_id)
        else:
            self.all.cancel_batch(batch_id)

    def _calls(self, *states: S) -> list[Call]:
        return [call for call in self.all.calls.by_id.values() if not states or call.state in states]


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio") as opened:
        yield opened


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = standalone(tmp_path_factory.mktemp("redis")).start()
    yield server.url
    server.kill()


FEW = 8
EACH_DAY = pytest.param(FEW, id="few")
"""A look; what is hard to find, the many examples beside the other tests find."""


@pytest.mark.timeout(900)  # many examples, on a busy machine
@pytest.mark.parametrize(
    "examples", [EACH_DAY, pytest.param(2 * settings().max_examples, marks=pytest.mark.slow, id="many")]
)
def test_the_engine_in_memory_does_what_the_model_says(portal: BlockingPortal, examples: int) -> None:
    _run(portal, lambda: {"memory": "memory://"}, examples=examples)


@pytest.mark.timeout(900)  # many examples, on a busy machine
@pytest.mark.parametrize(
    "examples", [EACH_DAY, pytest.param(max(settings().max_examples // 3, 1), marks=pytest.mark.slow, id="many")]
)
def test_every_store_does_what_the_model_says(
    portal: BlockingPortal, redis_url: str, tmp_path: Path, examples: int
) -> None:
    numbers = count(1)

    def urls() -> dict[str, str]:
        number = next(numbers)
        return {
            "memory": "memory://",
            "sqlite": f"sqlite:///{tmp_path / f'{number}.db'}",
            "redis": f"{redis_url}?prefix={tmp_path.name}-{number}",
        }

    _run(portal, urls, examples=examples)


def _run(portal: BlockingPortal, urls: Callable[[], dict[str, str]], *, examples: int) -> None:
    machine = type("Machine", (EngineOnEveryStore,), {"portal": portal, "urls": staticmethod(urls)})
    # A failure of the few is told at once. The many are made shorter first, which may take five minutes.
    phases = set(Phase) - ({Phase.shrink, Phase.explain} if examples <= FEW else set())
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=STEPS, phases=phases)
    )
