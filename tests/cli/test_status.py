from __future__ import annotations

from tests.cli.running import Program
from tests.cli.stored import completed, empty, enqueued, in_doubt, url_of, within
from tests.support.engine import Engine
from voiceflow_worker import JobState
from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.core.ports import Limits


def test_the_json_has_every_field(voiceflow: Program) -> None:
    enqueued(voiceflow.folder, 2)
    found = voiceflow("status", "--json", "--store", url_of(voiceflow.folder)).document
    assert found.pop("oldest_due_seconds") >= 0
    assert found == {
        "queue": "default",
        "states": {state.value: 2 if state is JobState.QUEUED else 0 for state in JobState},
        "due": 2,
        "rate": {"limit": None, "now": 0},
        "workers": 0,
        "holds": [],
        "waiting": {"number_busy": 0, "window": 0, "redial": 0, "rate": 0, "hold": 0, "max_per_person": 0},
        "waiting_is_exact": True,
        "receiver": False,
        "doubts": 0,
        "lost": 0,
        "numbers": [],
        "total": 2,
    }


def test_an_empty_queue_has_no_oldest(voiceflow: Program) -> None:
    store = ("--store", empty(voiceflow.folder))
    found = voiceflow("status", "--json", *store).document
    assert (found["oldest_due_seconds"], found["total"], found["due"]) == (None, 0, 0)


def test_holds_are_reported(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 1, batch_id="march")
    voiceflow("hold", "--batch", "march", "--reason", "wrong date", *store)
    assert voiceflow("status", "--json", *store).document["holds"] == [
        {"scope": "batch", "name": "march", "until": None, "reason": "wrong date"}
    ]
    assert "batch march is held until somebody resumes it: wrong date" in voiceflow("status", *store).out


def test_people_read_where_it_stands(voiceflow: Program) -> None:
    folder = voiceflow.folder
    enqueued(folder, 3)
    completed(folder)
    in_doubt(folder)
    within(folder, lambda engine: engine.queue.hold(reason="lunch"))
    ended = voiceflow("status", "--store", url_of(folder))
    assert ended.code == 0
    assert "calls.db: 5 calls" in ended.out
    assert "in doubt: 1; see `voiceflow calls list --state in_doubt`" in ended.out
    assert "queue default is held" in ended.out
    assert ended.err == ""


def test_a_queue_without_calls_has_no_table(voiceflow: Program) -> None:
    out = voiceflow("status", "--store", empty(voiceflow.folder)).out
    assert out.splitlines()[1] == "rate: not set yet; now 0 calls/s, by 0 workers"
    within(voiceflow.folder, lambda engine: engine.store.control.configure("default", Limits(rate=20.0, max_active=3)))
    out = voiceflow("status", "--store", url_of(voiceflow.folder)).out
    assert out.splitlines()[1] == "rate: 20 calls/s, at most 3 open calls; now 0 calls/s, by 0 workers"


def test_people_read_why_calls_wait_and_that_nobody_receives(voiceflow: Program) -> None:
    folder = voiceflow.folder

    async def work(engine: Engine) -> None:
        await engine.enqueue()
        await engine.send()  # 8x8 has it, and its phone is busy until a summary comes
        for _ in range(2):
            await engine.enqueue()
        await engine.prepare()
        await engine.enqueue("+6587654399", batch_id="march")
        await engine.queue.hold(batch_id="march")

    within(folder, work)
    ended = voiceflow("status", "--store", url_of(folder))
    assert "waiting: 2 for a busy number, 1 behind a hold" in ended.out
    assert "NO RECEIVER IS RUNNING: 1 call accepted by 8x8, without a summary; `voiceflow serve`" in ended.out
    assert "no worker is running" in ended.out
    document = voiceflow("status", "--json", "--store", url_of(folder)).document
    assert {why: count for why, count in document["waiting"].items() if count} == {"number_busy": 2, "hold": 1}
    within(folder, lambda engine: Heartbeats(engine.store).receiver("one"))
    assert "NO RECEIVER" not in voiceflow("status", "--store", url_of(folder)).out
