"""Many calls in the restaurant's menus at once, on two receivers, with all that a telephone network adds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

import anyio
import pytest
from structlog.testing import capture_logs

from tests.ivr import restaurant
from tests.ivr.asking import UNLIMITED, Heard, Line, Receiver
from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, CallRequest, Job, Store, build_report
from voiceflow_worker.webhooks.menus import menu_events

pytestmark = pytest.mark.anyio

CALLS = 200


@pytest.fixture(params=["sqlite", "redis"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@dataclass(frozen=True)
class Plan:
    """What somebody presses, at which of it a handler runs, and what they hear last when none of them fails."""

    keys: tuple[str | None, ...]
    handled: frozenset[int]
    last: str
    connected_to: str | None = None


PLANS = [
    Plan(("1", "1", "4#"), frozenset({0, 2}), "Booked for 4, today."),
    Plan(("2", "1", "2", "12#"), frozenset({1, 3}), "Booked for 12, tomorrow."),
    Plan(("7", "1", "8", "9", "1", "2", "44#", "6#"), frozenset({1, 4, 6, 7}), "Booked for 6, tomorrow."),
    Plan(("3",), frozenset({0}), "", restaurant.DESK),
    Plan(("2", None, "9"), frozenset(), "See you soon."),
    Plan((None, "0", None), frozenset(), "Goodbye."),
    Plan(("1", None, "5", "#"), frozenset({0}), "Goodbye."),
]


@dataclass
class Caller:
    """One call: its plan, and what came of it."""

    job: Job
    plan: Plan
    dice: Random
    pressed: tuple[str, ...] = ()
    heard: Heard | None = None
    expected: str = ""
    has_failed: bool = False

    async def talk(self, receivers: list[Receiver]) -> None:
        line, sent = Line.of(self.job), list[tuple[dict[str, object], bytes]]()
        for place, keys in enumerate(self.plan.keys):
            event = line.event(keys)
            event["payload"]["eventId"] = f"{self.job.unique_key}/{place}"
            answers: list[tuple[int, bytes]] = []
            async with anyio.create_task_group() as group:
                for _ in range(self.dice.choice((1, 1, 2, 3))):
                    group.start_soon(self._send, self.dice.choice(receivers), event, answers)
            assert len(set(answers)) == 1, answers
            assert answers[0][0] == 200
            sent.append((event, answers[0][1]))
            if self.dice.random() < 0.3:  # one that is long answered comes once more
                old, answer = self.dice.choice(sent)
                assert await self.dice.choice(receivers).post(old) == (200, answer)
            self.heard = line.took(answers[0][1])
            typed = (keys or "").removesuffix("#") if line_is_typed(self.plan, place) else keys or ""
            self.pressed += (typed,) if typed else ()
            self.expected = self.plan.last
            if place in self.plan.handled and restaurant.fails(f"{self.job.unique_key}/{place}"):
                self.expected, self.has_failed = "Goodbye.", True
                return

    async def _send(self, receiver: Receiver, event: dict[str, object], answers: list[tuple[int, bytes]]) -> None:
        answers.append(await receiver.post(event))


def line_is_typed(plan: Plan, place: int) -> bool:
    """Whether what is pressed here is typed and ended with #, which is then no part of it."""
    return (plan.keys[place] or "").endswith("#") and len(plan.keys[place] or "") > 1


@pytest.mark.slow
async def test_each_of_200_calls_ends_in_the_right_place_and_the_report_sums_up(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(menu_events, "IN_ALL", UNLIMITED)
    restaurant.booked.clear()
    restaurant.ran.clear()
    receivers = [Receiver.of(store, restaurant.main, handler_limit=UNLIMITED) for store in stores]
    engine = Engine(stores[0], ScriptedVoice())
    data = [{"name": f"Customer {place}"} for place in range(CALLS)]
    requests = [
        CallRequest(
            flow=restaurant.main.call(number(place), source=restaurant.OURS, data=data[place]),
            menu="main", data=data[place], batch_id="restaurant", unique_key=f"guest-{place}",
        )
        for place in range(CALLS)
    ]  # fmt: skip
    jobs = [made.job for made in await CallQueue(stores[0]).enqueue_many(requests)]
    while await engine.send():
        pass
    callers = [Caller(job, PLANS[place % len(PLANS)], Random(place)) for place, job in enumerate(jobs)]
    with capture_logs() as logs:
        async with anyio.create_task_group() as group:
            for caller in callers:
                group.start_soon(caller.talk, receivers)

    for caller in callers:
        assert caller.heard is not None
        assert not caller.heard.asks
        assert caller.heard.text == caller.expected
        assert caller.heard.connected_to == (None if caller.has_failed else caller.plan.connected_to)
    failed = [caller for caller in callers if caller.has_failed]
    assert len(failed) >= 5
    # A busy machine has other lines in the log, of the time that something took.
    assert [log["result"] for log in logs if "result" in log] == ["failed"] * len(failed)
    assert set(restaurant.ran.values()) == {1}, "a handler ran more than once for one event"
    assert set(restaurant.booked.values()) == {1}
    assert sum(restaurant.booked.values()) == sum(caller.expected.startswith("Booked") for caller in callers)

    for job in jobs:
        await engine.summarise(job)
    stored = await stores[1].jobs.get([job.id for job in jobs])
    assert [stored[caller.job.id].digits or "" for caller in callers] == [",".join(each.pressed) for each in callers]
    report = await build_report(stores[1], "default", "restaurant")
    assert (report.total, report.outcomes) == (CALLS, {"COMPLETED": CALLS})
    assert report.digits == dict(sorted(Counter(",".join(each.pressed) for each in callers if each.pressed).items()))
    assert sum(receiver.count("failed") for receiver in receivers) == len(failed)
