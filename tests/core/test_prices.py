"""Prices of calls that ended, read from the log of 8x8: only the prices change."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.samples import ManualClock
from tests.core.test_reconcile import ANA, BEN, WrittenLog
from tests.support.engine import Engine
from tests.support.flows import SOURCE
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import Job, JobState
from voiceflow_worker.campaigns.report_files import report_line
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.reconcile import Prices, Reconciler
from voiceflow_worker.model.jobs.call_json import call_as_json, result_of
from voiceflow_worker.model.jobs.call_log import ExportRow, LoggedSession
from voiceflow_worker.model.reports.outcome import Charge
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.reporting.report import build_report

pytestmark = pytest.mark.anyio

PRICE = Decimal("0.0400")


@pytest.fixture
def log(clock: ManualClock) -> WrittenLog:
    return WrittenLog(clock)


def row(
    log: WrittenLog, session_id: str | None, *, price: Decimal | None = PRICE, currency: str | None = "USD"
) -> None:
    now = log.clock.now()
    log.rows.append(
        ExportRow(
            session_id=session_id, source=SOURCE, destination=ANA, initiated_at=now, connected_at=now,
            disconnected_at=now, seconds=20.0, status=SessionStatus.COMPLETED, status_text="COMPLETED",
            price=price, currency=currency, billed_seconds=60.0,
        )
    )  # fmt: skip


async def ended(engine: Engine, destination: str = ANA, *, batch_id: str | None = None) -> Job:
    job = await engine.enqueue(destination, batch_id=batch_id)
    await engine.send()
    await engine.summarise(await engine.queue.get(job.id))
    return await engine.queue.get(job.id)


def prices(engine: Engine, log: WrittenLog) -> Prices:
    return Prices(engine.store, log, queue=engine.name, policy=engine.policy)


async def test_a_price_is_filled_in_and_nothing_else_changes(engine: Engine, log: WrittenLog) -> None:
    job = await ended(engine)
    row(log, job.session_id)
    events = await engine.store.events(engine.name)
    found = await prices(engine, log).read()
    assert found.as_json() == {"looked_at": 1, "priced": 1, "open": 0, "cost": {"USD": 0.04}}
    after = await engine.queue.get(job.id)
    assert after.charge == Charge(price=PRICE, currency="USD", billed_seconds=60.0)
    assert (after.state, after.outcome, after.due_at) == (job.state, job.outcome, job.due_at)
    assert await engine.store.events(engine.name) == events
    told = call_as_json(after)["outcome"]
    assert isinstance(told, dict)
    assert (told["price"], told["currency"], told["billed_seconds"]) == (0.04, "USD", 60.0)
    assert (await prices(engine, log).read()).looked_at == 0
    assert len(log.asked) == 1


@pytest.mark.parametrize("knows", ["its summary", "the log alone"])
async def test_the_sip_status_of_a_row_says_why_a_call_failed(store: Store, log: WrittenLog, knows: str) -> None:
    engine = Engine(store, ScriptedVoice() if knows == "its summary" else ScriptedVoice(answer=lambda _: unknown()))
    job = await engine.enqueue(ANA)
    await engine.send()
    if knows == "its summary":
        await engine.summarise(await engine.queue.get(job.id), SessionStatus.FAILED)
        assert result_of(await engine.queue.get(job.id)) == "failed"
    row(log, (await engine.queue.get(job.id)).session_id or "s-1", price=Decimal(0))
    log.rows = [
        replace(each, status=SessionStatus.FAILED, connected_at=None, seconds=0.0, sip_code=404) for each in log.rows
    ]
    await Reconciler(store, log, queue=engine.name, policy=engine.policy).everything()
    await prices(engine, log).read()
    assert result_of(await engine.queue.get(job.id)) == "dead_number"


async def test_a_call_without_an_outcome_keeps_its_state(engine: Engine, log: WrittenLog, clock: ManualClock) -> None:
    """A call that 8x8 accepted, and whose summary may still come: a row must not end the wait for it."""
    job = await engine.enqueue(ANA)
    await engine.send()
    submitted = await engine.queue.get(job.id)
    row(log, submitted.session_id)
    assert (await prices(engine, log).read()).looked_at == 0  # it has not ended
    assert (await engine.queue.get(job.id)).state is JobState.SUBMITTED


async def test_only_a_batch_or_a_time_is_looked_at(engine: Engine, log: WrittenLog, clock: ManualClock) -> None:
    first = await ended(engine, batch_id="march")
    clock.advance(timedelta(hours=1))
    second = await ended(engine, BEN, batch_id="april")
    row(log, first.session_id)
    row(log, second.session_id)
    assert (await prices(engine, log).read(since=clock.now() + timedelta(seconds=1))).looked_at == 0
    assert (await prices(engine, log).read(batch_id="april")).looked_at == 1
    assert (await engine.queue.get(first.id)).charge is None


async def test_a_row_that_settles_a_doubt_brings_its_price(store: Store, log: WrittenLog) -> None:
    engine = Engine(store, ScriptedVoice(answer=lambda _: unknown()))
    job = await engine.enqueue(ANA)
    await engine.send()
    row(log, "s-1")
    await Reconciler(store, log, queue=engine.name, policy=engine.policy).everything()
    after = await engine.queue.get(job.id)
    assert (after.state, after.charge) == (
        JobState.COMPLETED,
        Charge(price=PRICE, currency="USD", billed_seconds=60.0),
    )


async def test_a_report_adds_up_costs_and_seconds(engine: Engine, log: WrittenLog) -> None:
    first, second = await ended(engine), await ended(engine, BEN)
    row(log, first.session_id)
    row(log, second.session_id, currency="SGD", price=Decimal("0.1"))
    await ended(engine, "+6587654323")
    await prices(engine, log).read()
    found = (await build_report(engine.store, engine.name, None)).as_json()
    assert {key: found[key] for key in ("cost", "placed", "priced")} == {
        "cost": {"SGD": 0.1, "USD": 0.04}, "placed": 3, "priced": 2
    }  # fmt: skip
    assert found["seconds"] == sum((job.outcome.seconds or 0) for job in (first, second, second) if job.outcome)
    line = report_line(await engine.queue.get(first.id))
    assert (line.price, line.currency, line.billed_seconds) == ("0.0400", "USD", "60")


def test_a_session_has_a_price_where_every_leg_tells_it() -> None:
    legs: Any
    for legs, price in [
        ([(PRICE, "USD", True), (PRICE, "USD", True)], "0.0800"),
        ([(PRICE, "USD", True), (None, None, False)], "0.0400"),  # nobody answered the second: nothing is billed
        ([(PRICE, "USD", True), (None, "USD", True)], None),
        ([(PRICE, "USD", True), (PRICE, "SGD", True)], None),
        ([(PRICE, None, True)], None),
        ([(PRICE, "USD", True), (PRICE, None, True)], None),
        ([(Decimal(0), None, False)], "0"),
        ([(None, None, False)], None),
    ]:
        rows = tuple(
            ExportRow(session_id="s-1", price=told, currency=currency, seconds=20.0 if connected else 0.0)
            for told, currency, connected in legs
        )
        charge = LoggedSession("s-1", rows).charge
        assert (str(charge.price) if charge else None) == price
