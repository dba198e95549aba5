"""Commands that steer and show a queue: status, queues, batches, hold, resume, rate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.cli.running import Program
from tests.cli.stored import completed, empty, enqueued, in_doubt, url_of, within
from tests.support.engine import Engine
from tests.support.flows import flow
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.gates import hold_until_left
from voiceflow_worker.core.heartbeats import Heartbeats, WorkerBeat
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.window import CallWindow


def test_people_read_why_calls_wait_and_that_nobody_receives(voiceflow: Program) -> None:
    folder = voiceflow.folder

    async def work(engine: Engine) -> None:
        await engine.enqueue()
        await engine.send()  # 8x8 has it, and its phone is busy until a summary comes
        for _ in range(2):
            await engine.enqueue()
        await engine.send()
        await engine.enqueue("+6587654399", batch="march")
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
    assert {why: count for why, count in document["waiting"].items() if count} == {
        "number_busy": 2,
        "hold": 1,
        "receiver": 1,
    }
    within(folder, lambda engine: Heartbeats(engine.store).receiver("one"))
    assert "no receiver" not in voiceflow("status", "--store", url_of(folder)).out


def beats(rate: float, batches: dict[str, float]) -> Callable[[Engine], Awaitable[None]]:
    async def work(engine: Engine) -> None:
        beat = WorkerBeat(worker_id="worker-1", queue="default", rate=rate, in_flight=3, batches=batches)
        await Heartbeats(engine.store).worker(beat)

    return work


def test_each_batch_with_its_progress_rate_and_remaining_time(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 30, batch="people")
    completed(voiceflow.folder, batch_id="people")
    enqueued(voiceflow.folder, 2, batch="march/1")
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
    enqueued(voiceflow.folder, 3, batch="people")
    within(voiceflow.folder, beats(2.5, {"people": 2.5}))
    voiceflow("hold", "--batch", "people", "--note", "wrong text", *store)
    (people,) = voiceflow("batches", "--json", *store).lines
    assert people["ends_at"] is None
    assert (people["hold"]["scope"], people["hold"]["name"], people["hold"]["reason"]) == (
        "batch", "people", "wrong text",
    )  # fmt: skip
    assert "batch people is held until somebody resumes it: wrong text" in voiceflow("batches", *store).out
    (queue,) = voiceflow("status", "--all", "--json", *store).lines
    assert queue["hold"] is None


def test_a_batch_whose_window_is_closed_says_when_its_next_call_may_begin(voiceflow: Program) -> None:
    store, zone = ("--store", url_of(voiceflow.folder)), ZoneInfo("Asia/Singapore")
    opens = (datetime.now(zone) + timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
    window = CallWindow.parse(f"{opens:%H:%M}-{opens + timedelta(hours=1):%H:%M}")

    async def work(engine: Engine) -> None:
        await engine.queue.enqueue(flow(), batch="people", window=window, time_zone="Asia/Singapore")

    within(voiceflow.folder, work)
    (people,) = voiceflow("batches", "--json", *store).lines
    assert datetime.fromisoformat(people["next_at"]) == opens
    assert datetime.fromisoformat(voiceflow("status", "--json", *store).document["next_at"]) == opens
    for command in ("batches", "status"):
        assert f"the next call may begin at {opens:%Y-%m-%d %H:%M:%S} Asia/Singapore" in voiceflow(command, *store).out


def test_queues_are_those_with_a_worker_or_a_batch_a_hold_and_the_given_one(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 3, batch="people")
    voiceflow("hold", "--queue", "alarms", *store)
    assert "queue default is open; it was not held" in voiceflow("resume", *store).out
    listed = voiceflow("status", "--all", "--json", "--queue", "other", *store).lines
    assert [(each["queue"], each["total"], each["hold"] and each["hold"]["scope"]) for each in listed] == [
        ("alarms", 0, "queue"), ("default", 3, None), ("other", 0, None),
    ]  # fmt: skip
    assert not any("batch_id" in each for each in listed)


def test_a_queue_is_held_and_opened_in_the_name_of_a_person(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 1, batch="march")
    who = ("--note", "wrong text", "--as", "Mary Tan")
    held = voiceflow("hold", *who, "--json", *store)
    reason = "wrong text (by Mary Tan)"
    assert (held.code, held.err) == (0, "")
    found = held.document
    assert datetime.fromisoformat(found.pop("since")) <= datetime.now(UTC)
    assert found == {"scope": "queue", "name": "default", "state": "held", "until": None, "reason": reason}
    shorter = voiceflow("hold", "--for", "1m", *store)
    assert (shorter.code, reason in shorter.out, "nothing was changed" in shorter.err) == (0, True, True)
    assert voiceflow("hold", "--for", "0", *store).code == 2
    found = voiceflow("hold", "--batch", "march", "--for", "10m", "--json", *store).document
    until = datetime.fromisoformat(found["until"])
    assert timedelta(minutes=9) < until - datetime.now(UTC) <= timedelta(minutes=10)
    assert voiceflow("rate", "5", *who, *store).code == 0
    assert voiceflow("resume", *who, "--json", *store).document["state"] == "open"
    kept = voiceflow("status", "--json", *store).document["ordered"]
    assert [each["action"] for each in kept if (each["as"], each["note"]) == ("Mary Tan", "wrong text")] == [
        "resume", "rate", "hold",
    ]  # fmt: skip
    in_doubt(voiceflow.folder)
    told = [line.partition(":")[0] for line in voiceflow("status", *store).out.splitlines()]
    assert told[-4:] == ["in doubt", "ordered", "ordered", "ordered"], "what stands in the way comes first"
    voiceflow("calls", "cancel", "--batch", "march", "--yes", *store)
    ended = voiceflow("resume", "--batch", "march", "--json", *store)
    assert (ended.code, ended.document["state"]) == (1, "cancelled")
    assert "enqueue its calls as a new batch" in ended.err


def test_a_rate_is_shown_changed_and_reset(voiceflow: Program) -> None:
    store = ("--store", empty(voiceflow.folder))
    assert voiceflow("rate", *store).out == "queue default has no rate yet: the first worker that starts sets it\n"
    assert voiceflow("rate", "0.5", *store).out == "the rate of queue default is 0.5 calls/s for all its workers\n"
    assert voiceflow("rate", "--json", *store).document == {"queue": "default", "rate": 0.5, "is_set": True}
    assert voiceflow("rate", "unlimited", "--json", *store).document["rate"] is None
    assert "unlimited" in voiceflow("status", *store).out
    assert "the rate of its workers' settings again" in voiceflow("rate", "--reset", *store).out
    assert "no rate set by hand" in voiceflow("rate", "--reset", *store).out


@pytest.mark.parametrize("given", [["0"], ["-3"], ["fast"], ["nan"], ["5", "--reset"]])
def test_what_is_not_a_rate_is_refused(voiceflow: Program, given: list[str]) -> None:
    store = ("--store", empty(voiceflow.folder))
    ended = voiceflow("rate", *given, *store)
    assert (ended.code, ended.out) == (2, "")
    assert "rate" in ended.err or "--reset" in ended.err
    assert voiceflow("rate", "--json", *store).document["rate"] is None


COMMANDS = [
    ["hold"], ["calls", "list"], ["report"],
]  # fmt: skip


def gates(voiceflow: Program) -> list[Gate]:
    async def work(engine: Engine) -> list[Gate]:
        return list(await gates_of(engine.store, engine.queue.name))

    return within(voiceflow.folder, work)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_batch_without_calls_exits_1_with_near_names(voiceflow: Program, command: list[str]) -> None:
    enqueued(voiceflow.folder, 1, batch="march-2027")
    enqueued(voiceflow.folder, 1, batch="other")
    ended = voiceflow(*command, "--batch", "March-2072", "--store", url_of(voiceflow.folder))
    assert (ended.code, ended.out) == (1, "")
    assert "batch March-2072 has no calls in queue default" in ended.err
    assert "did you mean march-2027?" in ended.err
    assert gates(voiceflow) == []
    assert voiceflow(*command, "--batch", "march-2027", "--store", url_of(voiceflow.folder)).code == 0


def test_a_hold_of_a_batch_whose_calls_are_gone_can_be_lifted(voiceflow: Program) -> None:
    async def work(engine: Engine) -> None:
        await hold_until_left(engine.store, "default", batch_id="gone")

    enqueued(voiceflow.folder, 1, batch="march")
    within(voiceflow.folder, work)
    ended = voiceflow("resume", "--batch", "gone", "--store", url_of(voiceflow.folder))
    assert ended.code == 1
    assert "has no calls" in ended.err
    assert gates(voiceflow) == []


def test_the_audit_log_tells_who_ordered_what(voiceflow: Program) -> None:
    store = ("--store", "sqlite:///calls.db")
    assert voiceflow("doctor", "--make", *store).code == 0
    assert voiceflow("suppress", "add", "+6587654321", "--as", "Mary Tan", "--note", "asked by mail", *store).code == 0
    assert voiceflow("rate", "5", *store).code == 0
    shown = voiceflow("audit", *store)
    assert "rate by " in shown.out.splitlines()[0]
    assert "suppress by Mary Tan (login " in shown.out.splitlines()[1]
    (entry,) = voiceflow("audit", "--by", "mary tan", "--json", *store).lines
    assert (entry["action"], entry["on"], entry["as"], entry["numbers"], entry["note"], entry["result"]) == (
        "suppress", "command", "Mary Tan", ["+6587654321"], "asked by mail", "1 number on the list",
    )  # fmt: skip
    assert entry["by"]
    assert "the audit log has no such entry" in voiceflow("audit", "--by", "Li", *store).err
    cut = voiceflow("audit", "--since", "1h", "--limit", "1", *store)
    assert "at most 1 line listed; --limit 0 lists all" in cut.err
