"""What a worker tells of its own work, and of the escalations of its queue."""

from __future__ import annotations

import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest

from tests.contract.suite import ManualClock
from tests.support.faulty_store import FaultyStore
from tests.support.manual_time import time_passing
from tests.support.stores import clocked
from tests.support.voices import Answer, ScriptedVoice, created, not_sent, refused, unknown
from tests.support.workers import enqueued, worker_for
from voiceflow_worker import CallQueue, Escalation, Worker, start_escalation
from voiceflow_worker.core.base.background import Task, fault_in_words
from voiceflow_worker.core.gates import hold_until_left
from voiceflow_worker.core.heartbeats import EVERY, HEARD, Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.core.sending.pacer import Pacer
from voiceflow_worker.core.settling.verdicts import WorkCounts
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.gcra import SendSlot
from voiceflow_worker.model.reports.verdict import NotSentCause, Verdict, VerdictKind
from voiceflow_worker.service import metrics
from voiceflow_worker.service.metrics import Figures, metrics_app, metrics_text, of_process, of_queue, of_work
from voiceflow_worker.service.on_call import follow
from voiceflow_worker.service.whole_queue import of_faults, read_queue

pytestmark = pytest.mark.anyio


store = clocked("memory")


def told(counts: WorkCounts) -> list[str]:
    return metrics_text(Figures(lambda: of_work(counts))).decode().splitlines()


async def test_each_post_is_counted_by_its_verdict_and_by_its_duration(store: Store, clock: ManualClock) -> None:
    queue = await enqueued(store, 5)
    busy = Verdict(kind=VerdictKind.TURNED_AWAY, message="too many requests", http_status=429)
    answers: list[Answer] = [created(), refused(-1002), unknown(), busy, not_sent(), RuntimeError("a fault")]

    def slowly(_placement: Placement) -> Answer:
        clock.advance(timedelta(seconds=0.2))
        return answers.pop(0) if answers else created()

    worker = worker_for(store, ScriptedVoice(answer=slowly), concurrency=1)
    async with time_passing(clock):
        await worker.drain()
    assert sum((await queue.status()).states.values()) == 5
    lines = told(worker.counts)
    verdicts = sorted(line for line in lines if line.startswith("voiceflow_worker_verdicts_total"))
    assert verdicts == [
        f'voiceflow_worker_verdicts_total{{detail="{detail}",verdict="{verdict}"}} {count}.0'
        for detail, verdict, count in [
            ("", "unknown", 2),
            ("200", "created", 2),
            ("400", "refused", 1),
            ("429", "turned_away", 1),
            ("unreachable", "not_sent", 1),
        ]
    ]
    # All but the one of which nothing left.
    assert 'voiceflow_worker_post_seconds_bucket{le="0.1"} 0.0' in lines
    assert 'voiceflow_worker_post_seconds_bucket{le="2.5"} 6.0' in lines
    assert "voiceflow_worker_post_seconds_count 6.0" in lines
    assert "voiceflow_worker_in_flight 0.0" in lines


async def test_a_slot_that_has_passed_is_counted_and_so_is_its_call(clock: ManualClock) -> None:
    now = clock.now()
    pacer = Pacer(clock, queue="default", rate=1)
    clock.advance(timedelta(seconds=30))
    assert not await pacer.wait_for_slot(SendSlot(now, now + timedelta(seconds=1)), within=2)
    counts = WorkCounts(slots_missed=pacer.missed)
    counts.count_verdict(Verdict(kind=VerdictKind.NOT_SENT, cause=NotSentCause.MISSED_SLOT, message="too late"))
    lines = told(counts)
    assert "voiceflow_worker_slots_missed_total 1.0" in lines
    assert 'voiceflow_worker_verdicts_total{detail="missed_slot",verdict="not_sent"} 1.0' in lines


def test_what_fails_has_one_word_as_its_label() -> None:
    for task in Task:
        counts = WorkCounts(failing=Counter({task: 1}))
        assert re.findall(r'^voiceflow_worker_failing\{task="([a-z_]+)"\} 1.0$', "\n".join(told(counts)), re.MULTILINE)


def test_a_process_tells_its_start_its_version_and_the_room_on_its_disk(tmp_path: Path) -> None:
    lines = metrics_text(Figures(lambda: of_process(tmp_path))).decode().splitlines()
    values = {line.split("{")[0].split(" ")[0]: float(line.split(" ")[-1]) for line in lines if line[0] != "#"}
    assert time.time() - 3600 * 24 < values["process_start_time_seconds"] < time.time()
    assert values["voiceflow_build_info"] == 1
    assert 0 < values["voiceflow_state_disk_free_ratio"] < 1
    assert metrics_text(Figures(lambda: of_process(tmp_path / "missing")))


@pytest.mark.parametrize("fault", ["raises", "is silent"])
async def test_the_metrics_of_the_process_are_served_within_a_second_while_the_store_is_away(
    store: Store, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "SHARED_FOR", 0.0)

    async def away(_call: object) -> None:
        if fault == "raises":
            raise StoreUnavailableError("nobody listens")
        await anyio.sleep_forever()

    faulty = FaultyStore(store)
    counts = WorkCounts(in_flight=3, verdicts_waiting=2)
    app = metrics_app(CallQueue(faulty), Figures(lambda: of_work(counts)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as prometheus:
        there = (await prometheus.get("/metrics")).text
        assert "voiceflow_store_up 1.0" in there
        faulty.before = away
        with anyio.fail_after(1):
            answer = await prometheus.get("/metrics")
        with anyio.fail_after(1):
            assert (await prometheus.get("/healthz")).status_code == 200
    assert answer.status_code == 200
    lines = answer.text.splitlines()
    assert {"voiceflow_store_up 0.0", "voiceflow_worker_in_flight 3.0", "voiceflow_worker_verdicts_waiting 2.0"} <= {
        *lines
    }
    of_store = {line.partition("{")[0].partition(" ")[0] for line in lines if line.startswith("voiceflow_")}
    assert not {name for name in of_store if name.startswith("voiceflow_queue")}
    assert {name for name in of_store if name.startswith("voiceflow_store")} == {"voiceflow_store_up"}


async def test_a_store_that_is_too_busy_for_its_figures_is_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    async def busy(call: object) -> None:
        asked.append(call)
        if len(asked) > 1:
            await anyio.sleep_forever()

    faulty = FaultyStore(store)
    monkeypatch.setattr(metrics, "SHARED_FOR", 0.0)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(metrics_app(CallQueue(faulty))), base_url="http://worker"
    ) as prometheus:
        assert "voiceflow_store_figures_seconds 0." in (await prometheus.get("/metrics")).text
        faulty.before = busy
        monkeypatch.setattr(metrics, "FIGURES_WITHIN", 0.05)
        lines = (await prometheus.get("/metrics")).text.splitlines()
    assert [each for each in lines if each.startswith(("voiceflow_store", "voiceflow_queue"))] == [
        "voiceflow_store_up 1.0"
    ]


async def test_all_who_fell_silent_together_are_told_and_not_that_nobody_runs_until_they_could_be_heard(
    store: Store, clock: ManualClock
) -> None:
    queue = await enqueued(store, 2)
    beats, worker = Heartbeats(store), WorkerBeat(worker_id="w", queue="default", rate=0, in_flight=0)

    async def told() -> list[str]:
        return [each.message for each in (await read_queue(queue)).conditions if each.check in {"store", "workers"}]

    await beats.receiver("r")
    await beats.worker(worker)
    clock.advance(HEARD)
    assert await told() == []
    clock.advance(timedelta(minutes=5))
    (silent,) = await told()
    assert silent.startswith("not every worker and receiver is heard: they were killed, or the store was away")
    assert "; receiver r until 2026-" in silent
    assert "; worker w until 2026-" in silent
    await beats.receiver("r")
    assert await told() == [silent.replace("receiver r until 2026-01-05 12:00:00 UTC; ", "")], (
        "nor could the worker yet"
    )
    for _ in range(3):
        clock.advance(EVERY)
        await beats.receiver("r")
    (gone,) = await told()
    assert gone.startswith("no worker is running, but 2 calls are due")
    await beats.worker(worker)
    assert await told() == []


def test_tasks_that_fail_for_one_cause_are_one_line() -> None:
    now, away = datetime.now(UTC), "the store cannot be reached"
    causes = {
        Task.SWEEP: (now, f"{away}; seen by w"),
        Task.LEASE: (now - timedelta(seconds=2), away),
        Task.HEARTBEAT: (now, "the disk is slow"),
    }
    told = [each.message for each in of_faults({task: fault_in_words(*cause) for task, cause in causes.items()})]
    assert [each.partition(" (since ")[0] for each in told] == [
        f"failing: {Task.LEASE}, and 1 more",
        f"failing: {Task.HEARTBEAT}",
    ]


async def test_no_verdict_waits_while_the_store_takes_them(store: Store, clock: ManualClock) -> None:
    await enqueued(store, 3)
    seen: set[int] = set()

    async def note(_: object) -> None:
        seen.add(worker.counts.verdicts_waiting)

    worker = worker_for(FaultyStore(store, before=note), ScriptedVoice(answer=lambda _: created()), rate=2)
    async with time_passing(clock):
        await worker.drain()
    assert seen == {0}


async def test_a_call_without_an_outcome_is_overdue_long_before_its_deadline(store: Store, clock: ManualClock) -> None:
    await enqueued(store, 3)
    queue = CallQueue(store)
    async with time_passing(clock):
        await Worker(store, ScriptedVoice(answer=lambda _: created()), rate=None).drain()
    overdue = [(await queue.status()).overdue_outcomes]
    for minutes in (14, 2):
        clock.advance(timedelta(minutes=minutes))
        overdue.append((await queue.status()).overdue_outcomes)
    assert overdue == [0, 0, 3]
    found = await read_queue(queue)
    text = metrics_text(Figures(lambda: of_queue(found))).decode()
    assert 'voiceflow_queue_overdue_outcomes{queue="default"} 3.0' in text
    assert (await queue.status()).as_json()["overdue_outcomes"] == 3


async def test_a_hold_of_the_queue_is_told_apart_from_those_of_batches(store: Store) -> None:
    queue = await enqueued(store, 1)

    async def told() -> tuple[bool, bool, bool]:
        found = await read_queue(queue)
        text = metrics_text(Figures(lambda: of_queue(found))).decode()
        lines = ("holds{", "held{", 'conditions{condition="holds",level="warning",')
        return tuple(f'voiceflow_queue_{each}queue="default"}} 1.0' in text for each in lines)  # type: ignore[return-value]

    assert await told() == (False, False, False)
    await hold_until_left(queue.store, "default", batch_id="march")
    assert await told() == (True, False, True)
    await queue.resume(batch_id="march")
    await queue.hold()
    assert await told() == (True, True, True)


async def test_what_nobody_acknowledges_and_what_is_left_out_is_counted(store: Store) -> None:
    async def scraped() -> list[float]:
        transport = httpx.ASGITransport(metrics_app(CallQueue(store), Figures(lambda: of_process(None))))
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as prometheus:
            lines = (await prometheus.get("/metrics")).text.splitlines()
        values = dict(line.rpartition(" ")[::2] for line in lines)
        return [float(values[f"voiceflow_on_call_{each}_total"]) for each in ("unanswered", "left_out")]

    queue, before = CallQueue(store), await scraped()
    alarm = Escalation(
        numbers=["+6587654321", "nobody"], say="Fire.", source="+6531234567", voice_profile="en-IE-EmilyNeural"
    )
    await start_escalation(queue, alarm, name="oncall-1")
    assert await scraped() == [before[0], before[1] + 1]
    await queue.cancel_many([job.id for job in await queue.find()])
    await follow(queue)
    assert await scraped() == [before[0] + 1, before[1] + 1]
