from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Program
from tests.cli.stored import enqueued, url_of, within
from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.waiting import wait_until
from voiceflow_worker import CallPolicy, Job, JobState, VoiceClient
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders.faults import Fault, FaultKind
from voiceflow_worker.sandbox.orders.orders import ExportOrder, RowOrder, Script

ANA = number(0)


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[EightByEight]:
    """8x8, where every call is answered and ends at once, and no answer to a call arrives."""
    sandbox = Sandbox(speed=1000)
    sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED, ring_seconds=0, talk_seconds=5, delay_seconds=0))
    sandbox.faults.add(Fault(fault=FaultKind.CLOSE, times=None))
    with running(sandbox) as eight:
        for name, value in eight.environment.items():
            monkeypatch.setenv(name, value)
        yield eight


def doubted(voiceflow: Program, eight: EightByEight, count: int = 1) -> list[Job]:
    """Calls that rang, and of which the worker does not know it."""

    async def work(engine: Engine) -> list[Job]:
        async with VoiceClient("key-1", "acme", base_url=eight.url) as voice:
            sender = Engine(engine.store, voice, policy=CallPolicy(first_look=timedelta(0)))
            jobs = [await sender.enqueue(number(place)) for place in range(count)]
            await sender.send()
            return [await sender.queue.get(job.id) for job in jobs]

    jobs = within(voiceflow.folder, work)
    assert {job.state for job in jobs} == {JobState.IN_DOUBT}
    wait_until_ended(eight, count)
    return jobs


def wait_until_ended(eight: EightByEight, count: int) -> None:
    ledger = eight.sandbox.ledger
    wait_until(lambda: sum(entry.outcome is not None for entry in ledger) >= count, "the end of the calls")


def state_of(voiceflow: Program, job: Job) -> Job:
    return within(voiceflow.folder, lambda engine: engine.queue.get(job.id))


def reconcile(voiceflow: Program, *options: str) -> tuple[str, ...]:
    """The words of the command, for this store."""
    return ("reconcile", *options, "--store", url_of(voiceflow.folder))


def test_what_was_placed_is_settled_with_its_price(voiceflow: Program, eight: EightByEight) -> None:
    jobs = doubted(voiceflow, eight, 3)
    ended = voiceflow(*reconcile(voiceflow, "--json"))
    assert ended.code == 0, ended.err
    assert ended.document == {"looked_at": 3, "placed": 3, "not_placed": 0, "open": 0}
    assert "asking 8x8 for its log" in ended.err
    assert [state_of(voiceflow, job).state for job in jobs] == [JobState.COMPLETED] * 3
    assert eight.rang == sorted(number(place) for place in range(3))
    assert "cost: 0.12 USD" in voiceflow("report", "--store", url_of(voiceflow.folder)).out
    assert voiceflow(*reconcile(voiceflow, "--prices")).code == 0


def test_what_has_no_row_stays_in_doubt_and_is_reported(voiceflow: Program, eight: EightByEight) -> None:
    eight.sandbox.rows.add(RowOrder(destination=ANA, never=True))
    job, other = doubted(voiceflow, eight, 2)
    ended = voiceflow(*reconcile(voiceflow))
    assert ended.code == 1
    assert "looked for 2 calls: placed 1, not placed 0, still in doubt 1" in ended.out
    assert "no row found in the log of 8x8; one may come late" in ended.out
    assert job.id in ended.out
    assert other.id not in ended.out
    assert "calls resolve" in ended.out
    assert voiceflow(*reconcile(voiceflow, "--json")).document == {
        "looked_at": 1,
        "placed": 0,
        "not_placed": 0,
        "open": 1,
    }


def test_nothing_to_look_for_is_said_and_asks_for_no_log(voiceflow: Program, eight: EightByEight) -> None:
    enqueued(voiceflow.folder)
    ended = voiceflow(*reconcile(voiceflow))
    assert (ended.code, ended.err) == (0, "")
    assert "nothing to look for" in ended.out
    assert eight.sandbox.exports.as_json() == []
    assert voiceflow(*reconcile(voiceflow, "--json")).document == {
        "looked_at": 0,
        "placed": 0,
        "not_placed": 0,
        "open": 0,
    }


def test_8x8_out_of_reach_is_exit_3_and_changes_nothing(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = doubted(voiceflow, eight)
    monkeypatch.setenv("VOICEFLOW_BASE_URL", "http://127.0.0.1:9")
    ended = voiceflow(*reconcile(voiceflow, "--json"))
    assert (ended.code, ended.out) == (3, "")
    assert "cannot begin an export" in ended.err
    assert state_of(voiceflow, job) == job


@pytest.mark.parametrize(
    ("order", "code", "told"),
    [
        (ExportOrder(status="failed"), 1, "ended with the state failed"),
        (ExportOrder(http_status=503), 3, "answered 503"),
        (ExportOrder(http_status=403), 1, "answered 403"),
    ],
)
def test_an_export_that_fails_changes_nothing(
    voiceflow: Program, eight: EightByEight, order: ExportOrder, code: int, told: str
) -> None:
    (job,) = doubted(voiceflow, eight)
    eight.sandbox.exports.add(order)
    ended = voiceflow(*reconcile(voiceflow))
    assert ended.code == code
    assert told in ended.err
    assert state_of(voiceflow, job) == job
