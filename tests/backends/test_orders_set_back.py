"""Orders of people, and a store that is set back: who was not to be called, does not ring, on any store."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.set_back import SetBack
from tests.support.voices import ScriptedVoice, unknown
from tests.support.workers import NO_WEBHOOKS, enqueued, set_limits
from voiceflow_worker import CallQueue, Campaign, JobState, RedialPolicy, SessionStatus, Store
from voiceflow_worker.actions import Operator
from voiceflow_worker.actions.queues import Hold
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.core.audit import Actor, entries_on
from voiceflow_worker.core.base.reading import gates_at, limits_of
from voiceflow_worker.core.gates import hold_until_left
from voiceflow_worker.core.orders import NOT_GIVEN_AGAIN, OrderedStore
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.core.set_rate import SetRate
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import StoreUnavailableError, TooLateError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.policy import CallPolicy, read_redial_on

pytestmark = pytest.mark.anyio

PEOPLE = 6
EVERYBODY = frozenset(range(PEOPLE))
Order = Callable[[Store, Sequence[str]], Awaitable[object]]


async def hold(store: Store, _: Sequence[str]) -> None:
    await Hold(operator=Operator(store, CallPolicy(), name="Ann"), queue="default", note="a fire").do()


async def hold_batch(store: Store, _: Sequence[str]) -> None:
    await CallQueue(store).hold(batch_id="march", reason="wrong text")


async def cancel(store: Store, ids: Sequence[str]) -> None:
    with suppress(TooLateError):  # who orders it again is told that it has ended
        await CallQueue(store).cancel(ids[0])


async def cancel_many(store: Store, ids: Sequence[str]) -> None:
    await CallQueue(store).cancel_many(ids[:4])


async def cancel_batch(store: Store, _: Sequence[str]) -> None:
    await CallQueue(store).cancel_batch("march")


async def opt_out(store: Store, _: Sequence[str]) -> None:
    await Suppress(operator=Operator(store, CallPolicy()), numbers=(number(0), number(1))).do()


ORDERS: Mapping[str, tuple[Order, frozenset[int]]] = {
    "hold": (hold, EVERYBODY),
    "hold a batch": (hold_batch, EVERYBODY),
    "cancel": (cancel, frozenset({0})),
    "cancel many": (cancel_many, frozenset(range(4))),
    "cancel a batch": (cancel_batch, EVERYBODY),
    "opt out": (opt_out, frozenset({0, 1})),
}
"""Each order that stops calls, and who does not ring then."""


@pytest.fixture
def world(request: pytest.FixtureRequest, fresh_url: Callable[[str], str], tmp_path: Path) -> Generator[SetBack]:
    made = SetBack(request, request.param, fresh_url(request.param), tmp_path)
    yield made
    made.forget()


on_each_store = pytest.mark.parametrize(
    "world",
    ["sqlite", *(pytest.param(each, marks=pytest.mark.slow) for each in ("memory", "redis", "postgres"))],
    indirect=True,
)


async def rung(store: Store) -> set[int]:
    """Who rings when a worker sends all that may be sent."""
    voice = ScriptedVoice()
    await Engine(store, voice, policy=NO_WEBHOOKS).send(limit=100)
    return {place for place in EVERYBODY if number(place) in voice.rang}


class Killed(BaseException):
    """The process was killed."""


def fails(store: Store, how: str) -> None:
    """Let the first write of an order fail: lost is its answer, its second half, or, with the answer, its process."""
    ordered = cast("OrderedStore", store)
    inner, failed = ordered.inner, list[str]()

    async def cut(call: StoreCall) -> None:
        if how == "cut" and _is_order(call) and not failed:
            failed.append(how)
            bulk, error = call.arguments[0], StoreUnavailableError("the answer was lost")
            half = bulk.writes[: len(bulk.writes) // 2]
            answers = await inner.write(replace(bulk, writes=half), **call.options)
            error.answers = [*answers, *[None] * (len(bulk.writes) - len(half))]
            raise error

    async def lost(call: StoreCall) -> None:
        if _is_order(call) and not failed:
            failed.append(how)
            raise Killed if how == "killed" else StoreUnavailableError("the answer was lost")

    ordered.inner = FaultyStore(inner, before=cut, after=lost)


def _is_order(call: StoreCall) -> bool:
    return call.name == "write" and any(write.puts or write.changes for write in call.arguments[0].writes)


CASES = [
    (failure, repeated)
    for failure in ("nothing", "lost", "cut", "killed")
    for repeated in ("", "one", "two")
    if not (failure == "nothing" and repeated == "one")
]
EVERYDAY = [("nothing", ""), ("lost", "one"), ("killed", "two")]
ALL_STORES = [*EVERYDAY, ("cut", "")]


def on_some_stores() -> list[Any]:
    """Each case on a file; some on all stores; a few each day."""
    return [
        pytest.param(backend, case, id=f"{backend}-{case}", marks=() if is_daily else pytest.mark.slow)
        for case in CASES
        for backend in ("memory", "sqlite", "redis", "postgres")
        if backend == "sqlite" or case in ALL_STORES
        for is_daily in [backend == "memory" and case in EVERYDAY]
    ]


@pytest.mark.parametrize(("world", "case"), on_some_stores(), indirect=["world"])
@pytest.mark.parametrize("name", ORDERS)
async def test_who_was_not_to_be_called_does_not_ring_after_the_store_was_set_back(
    world: SetBack, name: str, case: tuple[str, str]
) -> None:
    """An order whose answer was lost, that was cut, or whose process was killed; repeated."""
    (order, stopped), (failure, repeated) = ORDERS[name], case
    ids = await world.begins(PEOPLE, "march")

    async with world.on("one") as store:
        if failure != "nothing":
            fails(store, failure)
            with suppress(StoreUnavailableError, Killed):
                await order(store, ids)
        else:
            await order(store, ids)
    if repeated:
        async with world.on(repeated) as store:
            await order(store, ids)
    # Each machine that has said yes has the order: also if the others are lost together with the server.
    for back in (("three", "two", "one"), ("one", "two", "three"), (repeated or "one",)):
        world.set_back()
        for machine in back:
            async with world.on(machine):
                pass
        async with world.on(back[-1]) as store:
            held = await gates_at(store, "default", [None])
            if name != "hold":
                assert not held, "no order is left out"
                await CallQueue(cast("OrderedStore", store).inner).resume()  # on a machine that is lost
            called = await rung(store)
            if failure == "nothing" or repeated:
                assert called == EVERYBODY - stopped
            else:  # nobody has heard a yes
                assert called >= EVERYBODY - stopped


async def reason_of(store: Store) -> str:
    """Why the queue is held; empty if it is not."""
    gates = await gates_at(store, "default", [None])
    return gates[None].reason if None in gates else ""


async def redial(store: Store, ids: Sequence[str]) -> None:
    await CallQueue(store, by="Ann").redial(ids[0], force=True)


async def unsuppress(store: Store, _: Sequence[str]) -> None:
    await Unsuppress(operator=Operator(store, CallPolicy(), name="Ann"), numbers=(number(5),)).do()


async def not_placed(store: Store, ids: Sequence[str]) -> None:
    later = store.clock.now() + timedelta(days=2)
    await CallQueue(store, by="Ann").resolve(ids[1], placed=False, note="looked", recorded_at=later)


async def higher_rate(store: Store, _: Sequence[str]) -> None:
    await CallQueue(store, by="Ann").set_rate(50)


async def reset_rate(store: Store, _: Sequence[str]) -> None:
    await CallQueue(store, by="Ann").reset_rate()


async def resume(store: Store, _: Sequence[str]) -> None:
    await CallQueue(store, by="Ann").resume(batch_id="march")


async def start(store: Store, _: Sequence[str], *, replaces: bool = False) -> None:
    fields = {
        "say": "Hello", "source": "+6531234567", "voice_profile": "en-US-JennyNeural", "batch": "april",
        "window": "any",
        "replace": replaces,
    }  # fmt: skip
    rows = [{"destination": number(4)}]
    await Campaign.of({**fields, "rows": rows}).start(CallQueue(store), by=Actor(name="Ann"))


STARTS: Mapping[str, tuple[Order, str]] = {
    "redial": (redial, "redial of {0} by Ann"),
    "unsuppress": (unsuppress, "unsuppress of numbers by Ann"),
    "not placed": (not_placed, "resolve of {1} by Ann"),
    "a higher rate": (higher_rate, "rate of the queue by Ann"),
    "a rate that is withdrawn": (reset_rate, "rate of the queue by Ann"),
    "resume": (resume, "resume of march by Ann"),
    "start": (start, "start of april by Ann"),
    "a list that changes calls": (partial(start, replaces=True), "replace of april by Ann"),
}
"""What lets phones ring, and how it is named."""


async def at_rest(store: Store) -> list[str]:
    """Nobody of a batch would ring: one is cancelled, one in doubt, one has opted out, and the batch is held."""
    queue = await enqueued(store, 1, batch="march")
    voice = ScriptedVoice()
    voice.answers = [unknown()]
    doubtful = await queue.enqueue(flow(number(1)), batch="april", priority=9)
    await Engine(store, voice, policy=NO_WEBHOOKS).send(limit=1)
    (first,) = await queue.find(batch_id="march")
    await queue.cancel(first.id)
    await enqueued(store, 4, first=2, batch="march")
    await SuppressionList(store).add(number(5))
    await set_limits(store, "default", Limits(rate=20))
    await queue.set_rate(5)
    await queue.hold(batch_id="march", reason="wrong text")
    return [first.id, doubtful.id]


@on_each_store
@pytest.mark.parametrize("name", STARTS)
async def test_what_lets_phones_ring_is_not_given_again_and_is_named_in_a_hold(world: SetBack, name: str) -> None:
    order, named = STARTS[name]
    async with world.on("elsewhere") as store:
        ids = await at_rest(store)
    world.save()
    async with world.on() as store:
        await order(store, ids)
        assert not await reason_of(store)
    world.set_back()
    async with world.on() as store:
        assert f"the store was rolled back, and {named.format(*ids)}" in await reason_of(store)
        assert (await entries_on(store))[0].result == NOT_GIVEN_AGAIN
        await CallQueue(cast("OrderedStore", store).inner).resume()
        assert not await rung(store)
        limits = await limits_of(store, "default")
        assert limits is not None
        assert limits.rate == 5
    async with world.on() as store:
        assert not await reason_of(store), "it is named once"


@on_each_store
@pytest.mark.parametrize("day", [-1, 0, 1])
@pytest.mark.parametrize("batch", [None, "march"])
async def test_an_older_resume_undoes_no_newer_hold_whatever_clocks_say(
    world: SetBack, day: int, batch: str | None
) -> None:
    """Of two machines, one has lost the resume; its clock was another for the order before."""
    await world.begins(PEOPLE, "march")
    async with world.on("one") as store:
        clock = store.clock
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(type(clock), "now", shifted(type(clock).now, timedelta(days=day)))
            await hold_until_left(store, "default", batch_id="april")
        await CallQueue(store).resume(batch_id=batch)
    world.set_back()
    async with world.on("two") as store:
        await CallQueue(store).hold(batch_id=batch, reason="a fire")
    async with world.on("one") as store:
        gates = await gates_at(store, "default", [None, batch])
        assert gates[batch].reason.startswith("a fire")
        assert f"resume of {batch or 'the queue'}" in gates[None].reason
        assert not await rung(store)


@on_each_store
@pytest.mark.parametrize("day", [-1, 0, 1])
async def test_a_lost_hold_stands_again_whatever_clocks_say(world: SetBack, day: int) -> None:
    """Also after a newer resume that was ordered where nobody knew of the hold."""
    async with world.on("two") as store:
        await enqueued(store, PEOPLE, batch="march")
        clock = store.clock
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(type(clock), "now", shifted(type(clock).now, timedelta(days=day)))
            await CallQueue(store).hold()
            await CallQueue(store).resume()
    world.save()
    async with world.on("one") as store:
        await CallQueue(store).hold(reason="a fire")
    world.set_back()
    async with world.on("two") as store:
        await CallQueue(store).resume()
    async with world.on("one") as store:
        assert await reason_of(store) == "a fire"
        assert not await rung(store)


def shifted(now: Callable[[Any], datetime], by: timedelta) -> Callable[[Any], datetime]:
    return lambda clock: now(clock) + by


@on_each_store
@pytest.mark.parametrize("rate", [3.0, 7.0, None])
async def test_a_rate_below_the_one_that_stands_holds_again_for_all_workers(world: SetBack, rate: float | None) -> None:
    """Also where a worker with other limits started before it, of which the store knows nothing any more."""
    async with world.on() as store:
        await enqueued(store, 1)
        await SetRate(store, "default").begin(Limits(rate=5, burst=2))
    world.save()
    async with world.on() as store:
        await SetRate(store, "default").begin(Limits(rate=20, burst=9))
        await CallQueue(store).set_rate(rate)
    world.set_back()
    async with world.on() as store:
        limits = await limits_of(store, "default")
        assert limits is not None
        assert (limits.rate, limits.burst) == (3 if rate == 3 else 5, 2)
        assert bool(await reason_of(store)) is (rate != 3)
        _, later = await SetRate(store, "default").begin(Limits(rate=20))
        assert later.rate == (3 if rate == 3 else 20)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["redis", "postgres"], indirect=True)
async def test_orders_are_kept_where_failovers_are_trusted(world: SetBack) -> None:
    world.url += "&failover=trusted"
    ids = await world.begins(PEOPLE, "march")
    async with world.on() as store:
        await SuppressionList(store).add(number(0))
        await CallQueue(store).cancel(ids[1])
    world.set_back()
    async with world.on() as store:
        assert await rung(store) == EVERYBODY - {0, 1}


@on_each_store
async def test_an_opt_out_in_a_call_outlives_a_store_that_is_set_back_though_its_answer_was_lost(
    world: SetBack,
) -> None:
    """8x8 sends the event again, to another machine."""
    async with world.on() as store:
        first = await CallQueue(store).enqueue(flow(number(0)), priority=9)
        engine = Engine(store, ScriptedVoice())
        await engine.send(limit=1)
        await CallQueue(store).enqueue(flow(number(0)), batch="later")
    world.save()
    async with world.on("one") as store:
        fails(store, "killed")
        with suppress(Killed):
            await Engine(store, ScriptedVoice()).summarise(first, SessionStatus.UNSUBSCRIBED_CONTACT)
    shutil.rmtree(world.folder / "one")
    async with world.on("two") as store:
        await Engine(store, ScriptedVoice()).summarise(first, SessionStatus.UNSUBSCRIBED_CONTACT)
    world.set_back()
    async with world.on("two") as store:
        assert await SuppressionList(store).find(number(0))
        assert not await rung(store)


@on_each_store
async def test_a_lost_cancel_of_a_call_that_is_on_its_way_again_is_named_in_a_hold(world: SetBack) -> None:
    async with world.on() as store:
        queue = CallQueue(store, redial=RedialPolicy(on=read_redial_on("busy"), limit=3, after=timedelta(0)))
        call = await queue.enqueue(flow(number(0)))
        await Engine(store, ScriptedVoice()).send()
    world.save()
    async with world.on() as store:
        await Engine(store, ScriptedVoice()).summarise(call, SessionStatus.BUSY)
        assert (await CallQueue(store, by="Ann").cancel(call.id)).state is not JobState.QUEUED
    world.set_back()
    async with world.on() as store:
        assert f"cancel of {call.id} by Ann" in await reason_of(store)
        await Engine(store, ScriptedVoice()).summarise(call, SessionStatus.BUSY)
        assert not await rung(store)
