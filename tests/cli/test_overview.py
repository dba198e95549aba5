"""`voiceflow queues` and `voiceflow batches` show what each holds and how far it has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.cli.running import Program
from tests.cli.stored import completed, enqueued, url_of, within
from tests.support.engine import Engine
from tests.support.flows import flow
from voiceflow_worker.core.overview.heartbeat import Heartbeats, WorkerBeat
from voiceflow_worker.model.hours.window import CallWindow


def beats(rate: float, batches: dict[str, float]) -> Callable[[Engine], Awaitable[None]]:
    async def work(engine: Engine) -> None:
        beat = WorkerBeat(worker_id="worker-1", queue="default", rate=rate, in_flight=3, batches=batches)
        await Heartbeats(engine.store).worker(beat)

    return work


def test_each_batch_with_its_progress_rate_and_remaining_time(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 30, batch_id="people")
    completed(voiceflow.folder, batch_id="people")
    enqueued(voiceflow.folder, 2, batch_id="march/1")
    within(voiceflow.folder, beats(2.5, {"people": 2.0}))
    march, people = voiceflow("batches", "--json", *store).lines
    assert (march["batch_id"], march["queue"], march["total"], march["done"]) == ("march/1", "default", 2, 0)
    assert (march["rate_now"], march["ends_at"], march["hold"], march["doubts"]) == (0, None, None, 0)
    assert (people["total"], people["done"], people["rate_now"]) == (31, 1, 2.0)
    assert people["states"]["queued"] == 30
    left = datetime.fromisoformat(people["ends_at"]) - datetime.now(UTC)
    assert timedelta(seconds=5) < left <= timedelta(seconds=15)
    table = voiceflow("batches", *store).out
    assert "people" in table
    assert "0:00:15" in table


def test_a_held_batch_names_its_hold_and_has_no_end(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 3, batch_id="people")
    within(voiceflow.folder, beats(2.5, {"people": 2.5}))
    voiceflow("hold", "--batch", "people", "--reason", "wrong text", *store)
    (people,) = voiceflow("batches", "--json", *store).lines
    assert people["ends_at"] is None
    assert (people["hold"]["scope"], people["hold"]["name"], people["hold"]["reason"]) == (
        "batch",
        "people",
        "wrong text",
    )
    assert "batch people is held until somebody resumes it: wrong text" in voiceflow("batches", *store).out
    (queue,) = voiceflow("queues", "--json", *store).lines
    assert queue["hold"] is None


def test_a_batch_whose_window_is_closed_says_when_its_next_call_may_begin(voiceflow: Program) -> None:
    store, zone = ("--store", url_of(voiceflow.folder)), ZoneInfo("Asia/Singapore")
    opens = (datetime.now(zone) + timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
    window = CallWindow.parse(f"{opens:%H:%M}-{opens + timedelta(hours=1):%H:%M}")

    async def work(engine: Engine) -> None:
        await engine.queue.enqueue(flow(), batch_id="people", window=window, time_zone="Asia/Singapore")

    within(voiceflow.folder, work)
    (people,) = voiceflow("batches", "--json", *store).lines
    assert datetime.fromisoformat(people["next_at"]) == opens
    assert datetime.fromisoformat(voiceflow("status", "--json", *store).document["next_at"]) == opens
    for command in ("batches", "status"):
        assert f"the next call may begin at {opens:%Y-%m-%d %H:%M:%S} Asia/Singapore" in voiceflow(command, *store).out


def test_queues_are_those_with_a_worker_or_a_batch_and_the_given_one(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 3, batch_id="people")
    voiceflow("hold", *store)
    default, other = voiceflow("queues", "--json", "--queue", "other", *store).lines
    assert (default["queue"], default["total"], default["hold"]["scope"]) == ("default", 3, "queue")
    assert (other["queue"], other["total"], other["hold"]) == ("other", 0, None)
    assert "batch_id" not in default
