"""Acts whose answer was lost, or beside which another person acts: each is done, before or after the other one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.actions.work import ACTIONS, ANA, VOICE, busy, listed, waiting
from tests.api.steered import doubtful, held
from tests.console.signing_in import Form, receiver, signed_in
from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import Dies, FaultyStore, Loss, StoreCall
from tests.support.flows import flow, number
from tests.support.stores import EVERY
from tests.support.voices import ScriptedVoice
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    Campaign,
    JobState,
    SessionStatus,
    Store,
    SuppressionList,
    open_store,
)
from voiceflow_worker.actions import Operator, OperatorAction
from voiceflow_worker.actions.calls import CallAction, CancelCall, Redial, Resolve
from voiceflow_worker.actions.queues import CancelBatch, Hold, Rate, RedialBatch, Resume
from voiceflow_worker.actions.suppression import ImportNumbers, Suppress, TakeBackFile, Unsuppress
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.core import suppression
from voiceflow_worker.core.audit import AUDIT, Actor, AuditEntry, Interface, entries_on
from voiceflow_worker.core.base.reading import gates_of, holds_of, limits_of
from voiceflow_worker.core.gates import standing_gate
from voiceflow_worker.core.ports.store import BulkWrite, WriteResult
from voiceflow_worker.errors import StoreError, VoiceflowError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.service.forget import Forget

pytestmark = pytest.mark.anyio


SLOW = pytest.mark.slow
PEOPLE = 3
Prepare = Callable[[Store], Awaitable[str]]
Act = Callable[[Store, str], Awaitable[object]]


async def several(store: Store) -> str:
    for place in range(PEOPLE):
        await CallQueue(store).enqueue(flow(number(place)), batch="march")
    return ""


async def several_busy(store: Store) -> str:
    engine = Engine(store, ScriptedVoice())
    await several(store)
    for job in await engine.send(limit=PEOPLE):
        await engine.summarise(job, SessionStatus.BUSY)
    return ""


async def imported(store: Store, file: Path) -> str:
    await ImportNumbers(operator=Operator(store, CallPolicy()), found=read_number_file(file)).do()
    return ""


NAMES = (
    "hold", "hold a batch", "resume", "rate", "cancel", "redial", "resolve", "cancel a batch", "redial a batch",
    "suppress", "unsuppress", "import", "take back", "forget",
)  # fmt: skip


def acts(folder: Path) -> Mapping[str, tuple[Prepare, type[OperatorAction], Mapping[str, Any]]]:
    """Each action: what it needs, its class, and its fields, of which `*` is what was prepared."""
    file = folder / "numbers.csv"
    file.write_text(f"number\n{number(1)}\n{number(2)}\n")
    march, default = {"queue": "default", "batch": "march"}, {"queue": "default"}
    return {
        "hold": (waiting, Hold, default),
        "hold a batch": (waiting, Hold, march | {"lasts": timedelta(hours=1)}),
        "resume": (held, Resume, default),
        "rate": (waiting, Rate, default | {"rate": 3.0}),
        "cancel": (waiting, CancelCall, {"call": "*"}),
        "redial": (busy, Redial, {"call": "*"}),
        "resolve": (doubtful, Resolve, {"call": "*", "placed": True}),
        "cancel a batch": (several, CancelBatch, march),
        "redial a batch": (several_busy, RedialBatch, march | {"outcomes": ["busy"]}),
        "suppress": (waiting, Suppress, {"numbers": [number(1), number(2)]}),
        "unsuppress": (listed, Unsuppress, {"numbers": [ANA]}),
        "import": (waiting, ImportNumbers, {"found": read_number_file(file)}),
        "take back": (partial(imported, file=file), TakeBackFile, {"found": read_number_file(file)}),
        "forget": (busy, Forget, {"number": ANA}),
    }


INTERFACES: Mapping[str, Actor] = {
    Interface.COMMAND: Actor(on=Interface.COMMAND, login="lwei", name="Li"),
    Interface.PAGES: Actor(on=Interface.PAGES, login="li@example.com", name="li@example.com"),
    Interface.API: Actor(on=Interface.API, login="crm", name="Li"),
    Interface.PYTHON: Actor(on=Interface.PYTHON, login="lwei", name="Li"),
    Interface.AIRFLOW: Actor(on=Interface.AIRFLOW, login="DAG d, run r, task t"),
}


DAILY = {
    "hold", "rate", "redial", "cancel a batch", "redial a batch", "import", "take back", "forget",
}  # fmt: skip
"""One act of each way to write."""
EACH = pytest.mark.parametrize(
    "on", [pytest.param(on, marks=() if on is Interface.COMMAND else pytest.mark.slow) for on in INTERFACES]
)


async def each_loss(prepare: Prepare, act: Act, *, by: Actor) -> int:
    """Lose the answer to each write of an act in turn, give the order again until it returns or is refused, and look.

    Returns how many writes the act has.
    """
    for place in count(1):
        clock = ManualClock()
        async with open_store("memory://", clock=clock) as store:
            subject = await prepare(store)
            clock.advance(timedelta(seconds=1))
            before = len(await entries_on(store, limit=99))
            writes, faulty = count(1), FaultyStore(store)

            def is_its(_: StoreCall, writes: Any = writes, place: int = place) -> bool:
                return bool(next(writes) == place)

            faulty.lose(Loss.AFTER, "write", when=is_its)
            tries = 0
            while (tries := tries + 1) <= 3:
                clock.advance(timedelta(minutes=5))  # a lease of the process before is over
                try:
                    await act(faulty, subject)
                    break
                except StoreError:
                    continue
                except VoiceflowError:
                    break
            new: list[AuditEntry] = (await entries_on(store, limit=99))[: -before or None]
            assert {(each.on, each.by, each.name) for each in new} == {(by.on, by.login, by.name)}, (place, new)
            assert len(new) <= tries, (place, new)
            if not faulty.lost[Loss.AFTER]:
                return place - 1
    raise AssertionError


@pytest.mark.parametrize(
    ("name", "on"),
    [
        pytest.param(name, on, marks=() if name in DAILY and on is Interface.COMMAND else pytest.mark.slow)
        for name in NAMES
        for on in INTERFACES
    ],
)
async def test_an_act_is_in_the_log_whichever_answer_was_lost(name: str, on: str, tmp_path: Path) -> None:
    prepare, kind, given = acts(tmp_path)[name]

    async def act(store: Store, subject: str) -> object:
        fields = {key: subject if value == "*" else value for key, value in given.items()}
        by = INTERFACES[on]
        who = Operator(store, CallPolicy(), name=by.name, on=Interface(by.on), login=by.login)
        made: OperatorAction = kind(operator=who, note="why", **fields)
        return await made.do()

    assert await each_loss(prepare, act, by=INTERFACES[on])


ORDERS: Mapping[str, tuple[Prepare, Callable[[CallQueue, str], Awaitable[object]]]] = {
    "resolve": (doubtful, lambda queue, call: queue.resolve(call, placed=True, note="why")),
    "cancel": (waiting, lambda queue, call: queue.cancel(call, reason="why")),
    "redial": (busy, lambda queue, call: queue.redial(call, note="why")),
    "hold": (waiting, lambda queue, _: queue.hold(reason="why")),
    "resume": (held, lambda queue, _: queue.resume()),
    "rate": (waiting, lambda queue, _: queue.set_rate(3.0)),
    "cancel a batch": (several, lambda queue, _: queue.cancel_batch("march", reason="why")),
}


@pytest.mark.parametrize("name", ORDERS)
async def test_an_order_of_a_program_on_its_queue_is_in_the_log(name: str) -> None:
    prepare, order = ORDERS[name]
    by = Actor.of("the nightly job")

    async def act(store: Store, subject: str) -> object:
        return await order(CallQueue(store, by="the nightly job"), subject)

    assert await each_loss(prepare, act, by=by)


class Repeating(FaultyStore):
    """A store that writes what belongs to an order once more, as after an answer that was lost, and `between` first."""

    def __init__(self, store: Store, between: Callable[[], Awaitable[object]]) -> None:
        super().__init__(store)
        self._between = between

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        first = await super().write(bulk, now=now)
        if not any(put.namespace == AUDIT for write in bulk.writes for put in write.puts):
            return first
        await self._between()
        return await super().write(bulk, now=now)


LATER: Mapping[str, tuple[Act, Callable[[Store], Awaitable[object]]]] = {
    "hold": (lambda store, _: CallQueue(store).resume(), lambda store: standing_gate(store, "default", None)),
    "resume": (
        lambda store, _: CallQueue(store).hold(reason="no"),
        lambda store: standing_gate(store, "default", None),
    ),
    "rate": (lambda store, _: CallQueue(store).set_rate(7.0), lambda store: limits_of(store, "default")),
    "suppress": (
        lambda store, _: SuppressionList(store).remove(number(1), number(2)),
        lambda store: SuppressionList(store).scan(),
    ),
    "unsuppress": (lambda store, _: SuppressionList(store).add(ANA), lambda store: SuppressionList(store).find(ANA)),
}
"""What somebody orders between a write and its repeat, and what must stand then."""


@pytest.mark.parametrize("backend", [each if each == "memory" else pytest.param(each, marks=SLOW) for each in EVERY])
@pytest.mark.parametrize("name", NAMES)
async def test_a_write_of_an_order_that_is_repeated_late_is_recognised(
    name: str, backend: str, fresh_url: Callable[[str], str], tmp_path: Path
) -> None:
    prepare, kind, given = acts(tmp_path)[name]
    later, found = LATER.get(name, (None, None))
    stands: list[object] = []
    async with open_store(fresh_url(backend), clock=(clock := ManualClock())) as store:
        subject = await prepare(store)
        clock.advance(timedelta(seconds=1))

        async def between() -> None:
            if later is not None and found is not None and not stands:
                await later(store, subject)
                stands.append(await found(store))

        fields = {key: subject if value == "*" else value for key, value in given.items()}
        who = Operator(Repeating(store, between), CallPolicy(), login="lwei")
        with suppress(VoiceflowError):  # somebody has ordered the opposite meanwhile
            await kind(operator=who, note="why", **fields).do()
        entries = [each for each in await entries_on(store, limit=99) if each.by == "lwei"]
        assert len([each for each in entries if each.note == "why" or name == "forget"]) == 1
        if found is not None:
            assert [await found(store)] == stands


async def test_the_last_write_of_an_import_is_recognised_and_has_its_result(store: Store) -> None:
    async def between() -> None:
        pass

    rows = [{"destination": number(place)} for place in range(PEOPLE)]
    campaign = Campaign.of({**VOICE, "say": "Hello", "batch": "march", "rows": rows})
    report = await campaign.start(CallQueue(Repeating(store, between)))
    (entry,) = await entries_on(store)
    assert (report.enqueued, entry.result) == (PEOPLE, f"{PEOPLE} calls of {PEOPLE} enqueued")
    assert not await holds_of(store, "default")


@EACH
async def test_the_start_of_a_campaign_is_in_the_log(on: str) -> None:
    async def nothing(_: Store) -> str:
        return ""

    async def act(store: Store, _: str) -> object:
        rows = [{"destination": number(place)} for place in range(PEOPLE)]
        campaign = Campaign.of({**VOICE, "say": "Hello", "batch": "march", "rows": rows})
        return await campaign.start(CallQueue(store), by=INTERFACES[on])

    assert await each_loss(nothing, act, by=INTERFACES[on])


@pytest.mark.parametrize(
    "address", ["hold?queue=default", "cancel-batch?queue=default&batch=march", "cancel-call?call={}"]
)
async def test_a_form_that_is_sent_again_after_its_answer_was_lost_is_in_the_log(address: str) -> None:
    for place in count(1):
        clock = ManualClock()
        async with open_store("memory://", clock=clock) as store:
            call = await waiting(store)
            faulty, writes = FaultyStore(store), count(1)
            async with signed_in(receiver(faulty)) as client:
                way = f"/ui/act/{address.format(call)}"
                form = Form((await client.get(way)).text).values(note="why")

                def is_its(_: StoreCall, writes: Any = writes, place: int = place) -> bool:
                    return bool(next(writes) == place)

                faulty.lose(Loss.AFTER, "write", when=is_its)
                codes = list[int]()
                for _ in range(3):
                    clock.advance(timedelta(seconds=1))
                    codes.append((await client.post(way.partition("?")[0], data=form)).status_code)
            found = await entries_on(store)
            assert {(entry.on, entry.name, entry.note) for entry in found} == {("pages", "Mary Tan", "why")}, codes
            if not faulty.lost[Loss.AFTER]:
                return


Asked = tuple[OperatorAction, str]

OTHERS: Mapping[str, Act] = {
    "one more call": lambda store, _: CallQueue(store).enqueue(flow(number(9)), batch="march"),
    "a hold of the batch": lambda store, _: CallQueue(store).hold(batch_id="march", reason="wrong"),
    "a hold of the queue": lambda store, _: CallQueue(store).hold(reason="wrong"),
    "a resume": lambda store, _: CallQueue(store).resume(batch_id="march"),
    "a cancelled batch": lambda store, _: CallQueue(store).cancel_batch("march"),
    "a rate": lambda store, _: CallQueue(store).set_rate(3),
    "an opt-out": lambda store, _: SuppressionList(store).add(ANA, reason="asked"),
    "a number off the list": lambda store, _: SuppressionList(store).remove(ANA),
}
BETWEEN = [
    ("resume", "a hold of the batch"), ("resume", "a cancelled batch"), ("cancel a batch", "one more call"),
    ("cancel a call", "a cancelled batch"), ("redial", "a cancelled batch"), ("redial", "a hold of the batch"),
    ("unsuppress", "an opt-out"),
]  # fmt: skip
EVERYWHERE = ["resume", "hold", "cancel a batch", "redial a batch"]


def who(store: Store) -> Operator:
    return Operator(store, CallPolicy())


async def outline(store: Store) -> object:
    """What is stored, without ids and times: calls as they would be sent, so without those that were cancelled."""
    found, now = await CallQueue(store).find(limit=None), store.clock.now()
    march = await standing_gate(store, "default", "march")
    is_over = march is not None and march.state is GateState.CANCELLED
    gone = {JobState.CANCELLED, *([JobState.QUEUED] if is_over else [])}  # no call of a cancelled batch is sent
    jobs = [job for job in found if job.state not in gone]
    if is_over:  # whether a call was redialled before the batch was cancelled makes no difference
        jobs = []
    listed = sorted(await SuppressionList(store).find(ANA))
    if listed:  # a call that was put into the queue at the same time is never sent
        sent = [job for job in jobs if job.state is not JobState.QUEUED]
        ended = [lifecycle.cancel(job, at=now, reason="", policy=CallPolicy()) for job in jobs if job not in sent]
        jobs = [*sent, *(job for job in ended if job.state not in gone)]
    limits = await limits_of(store, "default")
    return (
        sorted((job.number, job.state.value, job.priority, job.batch_id or "") for job in jobs),
        sorted((gate.name, gate.state.value, gate.reason) for gate in await gates_of(store, "default")),
        listed,
        None if limits is None else limits.rate,
        len(await holds_of(store, "default")),
    )


async def asked(store: Store, name: str) -> tuple[Asked, str]:
    """A store with what an action is about, the action, and the token of its question."""
    call = await ACTIONS[name].prepare(store)
    act = ACTIONS[name].act(who(store), call)
    return (act, (await act.question()).token), call


async def done(act: OperatorAction, token: str, store: Store) -> bool:
    """Whether the action was carried out."""
    try:
        await type(act).do(_over(act, store), token)
    except VoiceflowError:
        return False
    return True


def _over(act: OperatorAction, store: Store) -> Any:
    made: Any = ACTIONS[_name_of(act)].act(who(store), act.call if isinstance(act, CallAction) else "")
    return made


def _name_of(act: OperatorAction) -> str:
    return next(name for name, each in ACTIONS.items() if each.act(act.operator, getattr(act, "call", "")) == act)


async def tried(other: Act, store: Store, call: str) -> None:
    with suppress(VoiceflowError):
        await other(store, call)


async def explore(url: Callable[[], str], name: str, other: Act) -> int:
    """Let the other act run before each trip in turn; returns the number of trips."""
    allowed: list[object] = []
    alone: object = None
    for order in ("first", "last", "alone"):
        async with open_store(url()) as store:
            (act, token), call = await asked(store, name)
            if order == "first":
                await done(act, token, store)
            await tried(other, store, call)
            if order == "last":
                await done(act, token, store)
            allowed.append(await outline(store))
            alone = allowed[-1]
    for place in count(1):
        async with open_store(url()) as store:
            (act, token), call = await asked(store, name)
            trips = 0

            async def between(_: StoreCall, *, store: Store = store, call: str = call, place: int = place) -> None:
                nonlocal trips
                trips += 1
                if trips == place:
                    await tried(other, store, call)

            is_done = await done(act, token, FaultyStore(store, before=between))
            if trips < place:
                return trips
            found = await outline(store)
            assert found in (allowed if is_done else [alone]), (name, place, is_done)
    raise AssertionError


@pytest.mark.parametrize(("name", "other"), BETWEEN)
async def test_an_act_between_two_trips_is_before_or_after_the_whole(name: str, other: str) -> None:
    assert await explore(lambda: "memory://", name, OTHERS[other]) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("other", OTHERS)
async def test_every_act_between_two_trips_of_any(name: str, other: str) -> None:
    assert await explore(lambda: "memory://", name, OTHERS[other]) > 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("other", ["a hold of the batch", "a cancelled batch", "a number off the list"])
async def test_on_every_store(fresh_url: Callable[[str], str], backend: str, name: str, other: str) -> None:
    assert await explore(lambda: fresh_url(backend), name, OTHERS[other]) > 1


@pytest.mark.parametrize("backend", EVERY)
async def test_an_import_of_opt_outs_that_was_cut_is_completed_by_the_same_order(
    backend: str, fresh_url: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recognised is not done: two of five numbers stand, and the same order adds the others."""
    monkeypatch.setattr(suppression, "CHUNK", 2)
    numbers = [number(place) for place in range(5)]
    file = tmp_path / "numbers.csv"
    file.write_text("number\n" + "".join(f"{each}\n" for each in numbers))

    async def imports(store: Store) -> str:
        who = Operator(store, CallPolicy(), on=Interface.COMMAND, login="lwei")
        return (await ImportNumbers(operator=who, found=read_number_file(file)).do()).message

    async with open_store(fresh_url(backend), clock=ManualClock()) as store:
        with pytest.raises(StoreError):
            await imports(Dies(2).over(store))
        assert sorted(await SuppressionList(store).find(*numbers)) == numbers[:2]
        assert await imports(store) == "3 numbers added, 2 already on the list, 0 bad"
        assert sorted(await SuppressionList(store).find(*numbers)) == numbers
        results = {entry.result for entry in await entries_on(store)}
        assert results == {None, "3 numbers added, 2 already on the list, 0 bad"}
