"""Ready is who could take a summary now; alive is who answers at all; present is who runs, as others can know."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import apsw
import orjson
import pytest
from anyio import to_thread

from tests.support.faulty_store import FaultyStore, nothing
from tests.support.waiting import until
from tests.support.workers import enqueued
from tests.webhooks.receiving import SECRET, events_app, other, posting, receiver_of, receiving, summary
from voiceflow_worker import CallQueue, Store, open_store
from voiceflow_worker.core.base.background import BackgroundTasks
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.progress import LegState
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.reports.events import CallAction, CallStatus, SessionSummary
from voiceflow_worker.webhooks.readiness import present

pytestmark = pytest.mark.anyio


async def test_a_store_that_is_away_is_reported_in_a_sentence_and_liveness_is_not_touched(
    store: Store,
) -> None:
    async def away(_: object) -> None:
        raise StoreUnavailableError("the file is locked")

    faulty = FaultyStore(store, before=away)
    async with posting(receiver_of(faulty).app) as sender:
        answer = await sender.client.get("/readyz")
        assert (await sender.client.get("/healthz")).status_code == 200
        faulty.before = nothing
        assert (await sender.client.get("/readyz")).json() == {"status": "ok"}
    assert (answer.status_code, answer.json()) == (503, {"error": "the store cannot be reached, or is locked"})


async def test_a_receiver_tells_the_figures_of_every_queue_of_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what a store has would be told by nobody while its workers are replaced."""
    monkeypatch.setattr("voiceflow_worker.service.metrics.SHARED_FOR", 60.0)
    await enqueued(store, 2)
    await CallQueue(store, "reminders").hold(reason="lunch")
    await CallQueue(store, "paused").hold(until=datetime.now(UTC) + timedelta(minutes=5))
    faulty = FaultyStore(store)
    async with posting(receiver_of(faulty).app) as sender:
        lines = (await sender.client.get("/metrics")).text.splitlines()
        asked = list[object]()

        async def note(call: object) -> None:
            asked.append(call)

        faulty.before = note
        for _ in range(3):
            assert "voiceflow_queue_jobs" in (await sender.client.get("/metrics")).text
    assert not asked, "whoever asks again and again loads no store"
    assert {
        "voiceflow_store_up 1.0",
        'voiceflow_queue_jobs{queue="default",state="queued"} 2.0',
        'voiceflow_queue_held{queue="default"} 0.0',
        'voiceflow_queue_held{queue="reminders"} 1.0',
        'voiceflow_queue_stopped{queue="reminders"} 1.0',
        'voiceflow_queue_held{queue="paused"} 1.0',
        'voiceflow_queue_stopped{queue="paused"} 0.0',
        'voiceflow_queue_conditions{condition="holds",level="warning",queue="reminders"} 1.0',
    } <= set(lines)


async def test_a_receiver_that_ends_is_not_ready_and_still_takes_events(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/calls.db") as store:
        receiver = receiver_of(store)
        async with posting(receiver.app) as sender:
            assert (await sender.client.get("/readyz")).status_code == 200
            receiver.stop()
            answer = await sender.client.get("/readyz")
            assert (answer.status_code, answer.json()) == (503, {"error": "the receiver ends"})
            assert (await sender.send()).status_code == 200


async def test_a_file_that_another_process_has_locked_is_not_ready(tmp_path: Path) -> None:
    """Reading would go on all the while: only who can write can take a summary."""
    path = tmp_path / "calls.db"
    async with open_store(f"sqlite:///{path}") as store, posting(receiver_of(store).app) as sender:
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        answer = await sender.client.get("/readyz")
        other.execute("ROLLBACK")
        other.close()
    assert (answer.status_code, answer.json()) == (503, {"error": "the store did not answer within 1 s"})


class StalledLog(apsw.VFSFile):
    """A file of a `StalledDisk`."""

    def __init__(self, disk: StalledDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__(disk.base, name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - the name that SQLite gives it
        if self._disk.stalls:
            self._disk.is_waited_for.set()
            self._disk.gave_up = not self._disk.goes_on.wait(5)
        super().xSync(flags)


class StalledDisk(apsw.VFS):
    """The default files of SQLite, whose fsync takes as long as a test wants."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.stalls = self.gave_up = False
        self.is_waited_for, self.goes_on = threading.Event(), threading.Event()
        super().__init__("stalled-disk-of-a-test", base, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> StalledLog:  # noqa: N802 - the name that SQLite gives it
        return StalledLog(self, name, flags)


@pytest.fixture
def disk() -> Iterator[StalledDisk]:
    usual = apsw.vfs_names()[0]
    disk = StalledDisk(usual)
    yield disk
    apsw.set_default_vfs(usual)
    disk.unregister()


async def test_a_disk_that_stalls_keeps_nobody_waiting_but_who_stores(tmp_path: Path, disk: StalledDisk) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'calls.db'}") as store:
        receiver = receiver_of(store)
        async with receiver.running(), posting(receiver.app) as sender, anyio.create_task_group() as group:
            disk.stalls = True
            group.start_soon(sender.client.get, "/readyz")  # which stores something
            await to_thread.run_sync(disk.is_waited_for.wait, 5)
            began = anyio.current_time()
            assert (await sender.client.get("/healthz")).status_code == 200
            assert anyio.current_time() - began < 1
            disk.stalls = False
            disk.goes_on.set()
    assert disk.is_waited_for.is_set()
    assert not disk.gave_up, "the event loop has waited for the disk"


async def test_no_answer_names_the_host_or_the_user_of_the_database() -> None:
    where = "the PostgreSQL at postgresql://dbuser@dbhost/calls cannot be reached (dbhost)"

    async def away(_call: object) -> None:
        raise StoreUnavailableError(where)

    background = BackgroundTasks(SystemClock())
    async with open_store("memory://") as store, anyio.create_task_group() as group:
        faulty = FaultyStore(store)
        receiver = receiver_of(faulty, ui_secret="a-secret-of-readers", api_secret="a-secret-of-programs")
        async with posting(receiver.app) as sender:
            faulty.before = away
            sweep = partial(faulty.records, {}, now=store.clock.now())
            group.start_soon(partial(background.run_periodically, "nothing is swept", sweep, every=9.0))
            bearer = {"Authorization": "Bearer a-secret-of-programs", "Accept": "*/*"}
            told = {
                path: (await sender.client.get(path, headers=bearer))
                for path in (
                    "/readyz",
                    "/healthz",
                    "/metrics",
                    "/v1/queues/default",
                    "/v1/calls/default.x",
                    "/ui/batches",
                )
            }
            told["event"] = await sender.send()
            group.cancel_scope.cancel()
    assert told["/healthz"].json()["failing"], "a task fails"
    assert told["/v1/queues/default"].status_code == 503
    for path, answer in told.items():
        assert "dbhost" not in answer.text + str(answer.headers), path
        assert "dbuser" not in answer.text, path


async def test_a_served_receiver_is_present_until_it_stops(store: Store) -> None:
    there = Heartbeats(store)
    async with receiver_of(store).running():
        assert await there.has_receiver()
    assert not await there.has_receiver()


async def test_a_store_that_is_away_does_not_end_the_receiver(store: Store) -> None:
    async def away(_: object) -> None:
        raise StoreUnavailableError("locked")

    faulty, there = FaultyStore(store, before=away), Heartbeats(store)
    async with present(Heartbeats(faulty), name="here", every=timedelta(milliseconds=10)):
        faulty.before = nothing
        await until(there.has_receiver)
        faulty.before = away
    assert await there.has_receiver(), "it could not take its leave"


SHORT = timedelta(milliseconds=100)


@dataclass
class Hanging:
    """Takes events once it is let; under a shield, as the engine waits for a commit that is under way."""

    let: anyio.Event = field(default_factory=anyio.Event)
    taken: list[object] = field(default_factory=list)

    async def summary(self, summary: SessionSummary) -> SummaryResult:
        await self._take(summary)
        return SummaryResult.SETTLED

    async def status(self, event: CallStatus) -> LegState | None:
        await self._take(event)
        return None

    async def _take(self, event: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.let.wait()
        self.taken.append(event)


@pytest.mark.parametrize("event", [summary(), other("CALL_STATUS")])
async def test_a_store_that_hangs_is_reported_as_503_and_the_event_is_not_cut_off(
    monkeypatch: pytest.MonkeyPatch, event: dict[str, Any]
) -> None:
    hanging = Hanging()
    monkeypatch.setattr("voiceflow_worker.asgi.limits.EVENT", SHORT)
    async with receiving(hanging, progress=hanging) as sender:
        with anyio.fail_after(20):
            assert (await sender.send(event)).status_code == 503
        assert await sender.metric("store_failures_total") == 1
        assert await sender.metric("in_progress") == 1
        assert hanging.taken == []
        hanging.let.set()

        async def is_free() -> bool:
            return await sender.metric("in_progress") == 0

        await until(is_free)
        assert len(hanging.taken) == 1, "what was under way has come to its end"
        assert (await sender.send(event)).status_code == 200, "the sender comes again, as it was told"


async def test_while_too_many_are_with_a_store_that_hangs_the_next_are_not_handed_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("voiceflow_worker.webhooks.events.MOST_LATE", 3)
    monkeypatch.setattr("voiceflow_worker.asgi.limits.EVENT", SHORT)
    hanging = Hanging()
    async with receiving(hanging) as sender:
        with anyio.fail_after(20):
            for _ in range(5):
                assert (await sender.send()).status_code == 503
        assert await sender.metric("in_progress") == 3
        assert await sender.metric("store_failures_total") == 5
        hanging.let.set()


async def test_a_menu_that_hangs_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.asgi.limits.EVENT", SHORT)

    async def menu(_event: CallAction) -> bytes:
        await anyio.sleep(2 * SHORT.total_seconds())  # longer than one limit and shorter than the other
        return b'{"callflow": []}'

    event = other("CALL_ACTION", eventData={"dtmf": "1"})
    async with receiving(on_action=menu) as sender:
        assert (await sender.send(event)).json() == {"callflow": []}
        monkeypatch.setattr("voiceflow_worker.asgi.limits.KEY_PRESS", SHORT)
        assert (await sender.send(event)).status_code == 503


async def test_what_is_with_a_store_that_hangs_is_not_cut_off_when_its_sender_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server may raise when an answer finds nobody (ASGI: OSError)."""
    let, taken = anyio.Event(), list[SessionSummary]()

    class Slow:
        async def summary(self, summary: SessionSummary) -> SummaryResult:
            await let.wait()
            taken.append(summary)
            return SummaryResult.SETTLED

    body = orjson.dumps(summary())
    headers = [(b"authorization", SECRET.encode())]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 503
        let.set()
        raise OSError("the client has gone")

    scope = {
        "type": "http", "method": "POST", "path": "/webhooks/8x8", "headers": headers, "query_string": b"",
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    monkeypatch.setattr("voiceflow_worker.asgi.limits.EVENT", SHORT)
    app = events_app(Slow())
    with anyio.fail_after(20):
        await app(scope, receive, send)
    assert len(taken) == 1
