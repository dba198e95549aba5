from __future__ import annotations

from tests.cli.running import Program
from tests.cli.stored import enqueued, url_of, within
from tests.support.engine import Engine
from voiceflow_worker import JobState
from voiceflow_worker.core.overview.heartbeat import Heartbeats


def test_the_json_has_every_field(voiceflow: Program) -> None:
    enqueued(voiceflow.folder, 2)
    found = voiceflow("status", "--json", "--store", url_of(voiceflow.folder)).document
    assert found.pop("oldest_due_seconds") >= 0
    assert found == {
        "queue": "default",
        "states": {state.value: 2 if state is JobState.QUEUED else 0 for state in JobState},
        "due": 2,
        "next_at": None,
        "rate": {"limit": None, "now": 0},
        "workers": 0,
        "holds": [],
        "waiting": {"number_busy": 0, "window": 0, "redial": 0, "rate": 0, "hold": 0, "max_per_person": 0},
        "waiting_is_exact": True,
        "receiver": False,
        "doubts": 0,
        "numbers": [],
        "total": 2,
    }


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
    assert (
        "no receiver is running, so outcomes of calls do not arrive: 1 call without a summary; run `voiceflow serve`"
        in ended.out
    )
    assert "no worker is running" in ended.out
    document = voiceflow("status", "--json", "--store", url_of(folder)).document
    assert {why: count for why, count in document["waiting"].items() if count} == {"number_busy": 2, "hold": 1}
    within(folder, lambda engine: Heartbeats(engine.store).receiver("one"))
    assert "no receiver" not in voiceflow("status", "--store", url_of(folder)).out
