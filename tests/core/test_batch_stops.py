"""A batch stops itself at the limits given with it, and goes on when a person resumes it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, nothing
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, Job
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.stops import BatchStops, stop_rules
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.evidence import charged
from voiceflow_worker.model.jobs.policy import LeastAnswerRate, StopRules, read_answer_rate, read_cost
from voiceflow_worker.model.reports.outcome import Charge
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

S = SessionStatus
HALF_OF_FOUR = StopRules(answer_rate_below=LeastAnswerRate(50, 4))
FIFTY = StopRules(after_cost=Decimal(50))
PEOPLE = 30


@pytest.fixture
async def engine(store: Store) -> Engine:
    """A batch `march` of many calls that wait."""
    engine = Engine(store, ScriptedVoice())
    for place in range(PEOPLE):
        await engine.enqueue(number(place), batch_id="march")
    return engine


@pytest.fixture
def stops(store: Store) -> BatchStops:
    return BatchStops(store, "default")


async def ended(engine: Engine, *statuses: SessionStatus) -> list[Job]:
    """The next calls, each with its outcome."""
    jobs: list[Job] = []
    for status in statuses:
        leased_at = engine.store.clock.monotonic()
        (dispatch,) = await engine.submitter.prepare(await engine.lease(1), leased_at=leased_at)
        await engine.finish(dispatch)
        await engine.summarise(dispatch.job, status)
        jobs.append(await engine.queue.get(dispatch.job.id))
    return jobs


async def cost(engine: Engine, job: Job, price: str, currency: str = "USD") -> None:
    """The price of a call becomes known."""
    charge = Charge(price=Decimal(price), currency=currency)
    apply = partial(charged, number=1, session_id=job.session_id or "", charge=charge)
    await Changes(engine.store, engine.policy).change(job.id, apply)


async def hold(engine: Engine, batch_id: str = "march") -> str | None:
    """The reason for which the batch is held after a sweep."""
    await engine.stops.check()
    gates = [gate for gate in await gates_of(engine.store, "default") if gate.name == batch_id]
    return gates[0].reason if gates else None


async def test_a_batch_whose_calls_are_leased_while_the_rules_are_read_is_checked_the_next_time(store: Store) -> None:
    faulty = FaultyStore(store)
    engine = Engine(faulty, ScriptedVoice())
    for place, batch_id in enumerate(("first", "second", "first", "second")):
        await engine.enqueue(number(place), batch_id=batch_id, priority=-place)
        await engine.stops.put(batch_id, StopRules(answer_rate_below=LeastAnswerRate(50, 1)))
    await ended(engine, S.NO_ANSWER)

    async def leased_meanwhile(_: object) -> None:
        faulty.before = nothing
        await ended(engine, S.NO_ANSWER)

    faulty.before = leased_meanwhile
    await hold(engine)
    assert await hold(engine, "second") is not None
    assert await hold(engine, "first") is not None


async def test_too_few_answers_hold_the_batch_with_the_figure_and_the_limit(engine: Engine, stops: BatchStops) -> None:
    await stops.put("march", HALF_OF_FOUR)
    await ended(engine, S.NO_ANSWER, S.BUSY, S.NO_ANSWER)
    assert await hold(engine) is None
    await ended(engine, S.COMPLETED)
    assert await hold(engine) == "stopped itself: 1 of 4 calls were answered (25.0%), less than the required 50%"
    assert await engine.lease() == []


async def test_a_cost_holds_the_batch_in_each_currency_alone(engine: Engine, stops: BatchStops) -> None:
    await stops.put("march", FIFTY)
    jobs = await ended(engine, S.COMPLETED, S.COMPLETED, S.COMPLETED)
    await cost(engine, jobs[0], "49.99", "USD")
    await cost(engine, jobs[1], "49.99", "SGD")
    assert await hold(engine) is None
    await cost(engine, jobs[2], "0.01", "SGD")
    assert await hold(engine) == "stopped itself: its calls have cost 50 SGD, and the limit is 50"


async def test_other_batches_go_on(engine: Engine, stops: BatchStops) -> None:
    await stops.put("march", HALF_OF_FOUR)
    await ended(engine, *[S.BUSY] * 4)
    await engine.enqueue(number(99), batch_id="april")
    assert await hold(engine, "april") is None
    assert await hold(engine, "march") is not None
    assert [job.batch_id for job in await engine.lease()] == ["april"]


async def test_a_persons_hold_stays_theirs_whatever_its_note_says(engine: Engine, stops: BatchStops) -> None:
    """It does not count as the rule's: what the batch reached meanwhile holds it when it is resumed."""
    await stops.put("march", HALF_OF_FOUR)
    note = "stopped itself: the customer called"
    await ended(engine, *[S.BUSY] * 4)
    await engine.queue.hold(reason=note, batch_id="march")
    assert await hold(engine) == note
    await engine.queue.resume(batch_id="march")
    reason = "stopped itself: 0 of 4 calls were answered (0.0%), less than the required 50%"
    assert await hold(engine) == reason


async def test_a_resumed_batch_is_measured_anew(engine: Engine, stops: BatchStops) -> None:
    """The figure that held it does not hold it again; the next four calls may."""
    await stops.put("march", HALF_OF_FOUR)
    await ended(engine, *[S.BUSY] * 4)
    assert await hold(engine) is not None
    await engine.queue.resume(batch_id="march")
    assert await hold(engine) is None
    await ended(engine, *[S.BUSY] * 3)
    assert await hold(engine) is None
    await ended(engine, S.BUSY)
    reason = "stopped itself: since it was resumed, 0 of 4 calls were answered (0.0%), less than the required 50%"
    assert await hold(engine) == reason
    await engine.queue.resume(batch_id="march")
    await ended(engine, *[S.COMPLETED] * 4)
    assert await hold(engine) is None


async def test_calls_that_end_while_it_is_held_do_not_hold_it_again(engine: Engine, stops: BatchStops) -> None:
    await stops.put("march", HALF_OF_FOUR)
    flying = [dispatch for dispatch in await engine.prepare() if await engine.journal_of(dispatch) is not None]
    for dispatch in flying[:4]:
        await engine.summarise(dispatch.job, S.BUSY)
    assert await hold(engine) is not None
    for dispatch in flying[4:]:
        await engine.summarise(dispatch.job, S.BUSY)
    assert await hold(engine) is not None
    await engine.queue.resume(batch_id="march")
    assert await hold(engine) is None


async def test_a_hold_of_a_person_is_not_the_end_of_a_rule(engine: Engine, stops: BatchStops) -> None:
    """What was counted behind it holds the batch when it is resumed."""
    await stops.put("march", HALF_OF_FOUR)
    await ended(engine, *[S.BUSY] * 4)
    await engine.queue.hold(batch_id="march", reason="lunch")
    assert await hold(engine) == "lunch"
    await engine.queue.resume(batch_id="march")
    assert str(await hold(engine)).startswith("stopped itself: 0 of 4")


async def test_a_batch_that_has_sent_everything_is_not_held(engine: Engine, stops: BatchStops) -> None:
    await stops.put("march", HALF_OF_FOUR)
    await ended(engine, *[S.BUSY] * PEOPLE)
    assert await hold(engine) is None


async def test_a_second_file_replaces_only_the_limits_that_it_names(engine: Engine, stops: BatchStops) -> None:
    await stops.put("march", HALF_OF_FOUR)
    await stops.put("march", FIFTY)
    await ended(engine, *[S.BUSY] * 4)
    assert await hold(engine) is not None


async def test_a_batch_is_looked_at_again_when_calls_of_it_are_leased(engine: Engine, stops: BatchStops) -> None:
    await stops.put("march", HALF_OF_FOUR)
    await ended(engine, *[S.BUSY] * PEOPLE)
    assert await hold(engine) is None
    await engine.enqueue(number(99), batch_id="march")
    await engine.enqueue(number(98), batch_id="march")
    await engine.lease(1)
    assert await hold(engine) is not None


async def test_a_look_costs_the_same_however_many_batches_have_rules(any_store: Store, clock: ManualClock) -> None:
    costs: list[int] = []
    for amount in (1, 50):
        store = FaultyStore(any_store)
        stops = BatchStops(store, "default")
        for place in range(amount):
            await stops.put(f"{amount}-{place}", FIFTY)
        (job,) = await enqueued_in(any_store, f"{amount}-0")
        before = store.made.total()
        for _ in range(10):
            stops.leased([job])
            await stops.check()
            clock.advance(timedelta(seconds=1))
        costs.append(store.made.total() - before)
    assert costs[0] == costs[1]


async def enqueued_in(store: Store, batch_id: str) -> list[Job]:
    return [await CallQueue(store).enqueue(flow(number(int(batch_id[0]))), batch_id=batch_id)]


def test_an_answer_rate_without_a_meaning_is_refused() -> None:
    for text in ["5", "5%", "5/200", "0%/200", "101%/200", "5%/0", "%/200", "five%/200"]:
        with pytest.raises(ValueError, match="give a percentage and a number of calls, such as 5%/200"):
            read_answer_rate(text)


def test_a_cost_without_a_meaning_is_refused() -> None:
    for text in ["0", "-1", "much", "nan", "inf", ""]:
        with pytest.raises(ValueError, match="is not a cost"):
            read_cost(text)


def test_limits_are_read_as_they_are_written() -> None:
    assert str(read_answer_rate("5 % / 200")) == "5%/200"
    assert read_answer_rate("2.5%/1000") == LeastAnswerRate(2.5, 1000)
    assert read_cost("12.50") == Decimal("12.5")
    with pytest.raises(InvalidInputError):
        LeastAnswerRate(0, 200)


async def test_rules_that_two_set_at_once_are_both_kept(
    store: Store, stops: BatchStops, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, between = store.records, [HALF_OF_FOUR]

    async def slowly(*args: Any, **how: Any) -> Any:
        found = await read(*args, **how)
        if between:
            await BatchStops(store, "default").put("march", between.pop())
        return found

    monkeypatch.setattr(store, "records", slowly)
    await stops.put("march", FIFTY)
    kept = (await stop_rules(store).within("default").get(["march"]))["march"]
    assert kept == StopRules(after_cost=FIFTY.after_cost, answer_rate_below=HALF_OF_FOUR.answer_rate_below)
