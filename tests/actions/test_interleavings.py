"""Another person acts between any two trips to the store of a confirmed action: as if one had been after the other.

The confirmed action either is refused, and only the other one was carried out; or what is stored is what it and the
other one leave if they are carried out one after the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any, cast

import pytest

from tests.actions.test_confirmations import ACTIONS, ANA, MARCH
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.stores import EVERY
from voiceflow_worker import CallPolicy, CallQueue, JobState, Store, SuppressionList, open_store
from voiceflow_worker.actions import Operator, OperatorAction
from voiceflow_worker.actions.calls import CallAction
from voiceflow_worker.actions.edits import EditBatch
from voiceflow_worker.core.base.reading import gates_of, limits_of, starts_of
from voiceflow_worker.core.edits import BatchEdits
from voiceflow_worker.core.gates import standing_gate
from voiceflow_worker.errors import VoiceflowError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import GateState

pytestmark = pytest.mark.anyio
Act = Callable[[Store, str], Awaitable[object]]
Asked = tuple[OperatorAction, str]

OTHERS: Mapping[str, Act] = {
    "an edit": lambda store, _: EditBatch(operator=who(store), changes={"priority": "2"}, **MARCH).do(),
    "one more call": lambda store, _: CallQueue(store).enqueue(flow(number(9)), batch_id="march"),
    "a hold of the batch": lambda store, _: CallQueue(store).hold(batch_id="march", reason="wrong"),
    "a hold of the queue": lambda store, _: CallQueue(store).hold(reason="wrong"),
    "a resume": lambda store, _: CallQueue(store).resume(batch_id="march"),
    "a cancelled batch": lambda store, _: CallQueue(store).cancel_batch("march"),
    "a rate": lambda store, _: CallQueue(store).set_rate(3),
    "an opt-out": lambda store, _: SuppressionList(store).add(ANA, reason="asked"),
    "a number off the list": lambda store, _: SuppressionList(store).remove(ANA),
}
DAILY = [
    ("edit", "an edit"), ("edit", "one more call"), ("resume", "a hold of the batch"), ("resume", "a cancelled batch"),
    ("cancel a batch", "one more call"), ("cancel a batch", "an edit"), ("cancel a call", "a cancelled batch"),
    ("cancel a call", "an edit"), ("redial", "a cancelled batch"), ("redial", "a hold of the batch"),
    ("unsuppress", "an opt-out"),
]  # fmt: skip
EVERYWHERE = ["edit", "resume", "hold", "cancel a batch", "redial a batch", "release"]


def who(store: Store) -> Operator:
    return Operator(store, CallPolicy())


async def outline(store: Store) -> object:
    """What is stored, without ids and times: calls as they would be sent, so without those that were cancelled."""
    found, now = await CallQueue(store).find(limit=None), store.clock.now()
    edits = await BatchEdits.of(store, found)
    march = await standing_gate(store, "default", "march")
    is_over = march is not None and march.state is GateState.CANCELLED
    gone = {JobState.CANCELLED, *([JobState.QUEUED] if is_over else [])}  # no call of a cancelled batch is sent
    jobs = [edits.taken(job, at=now) for job in found if job.state not in gone]
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
        len(await starts_of(store, "default")),
    )


async def asked(store: Store, name: str) -> tuple[Asked, str]:
    """A store with what an action is about, the action, and the version of its question."""
    call = await ACTIONS[name].prepare(store)
    act = ACTIONS[name].act(who(store), call)
    return (act, (await act.question()).version), call


async def done(act: OperatorAction, version: str, store: Store) -> bool:
    """Whether the action was carried out."""
    try:
        await type(act).do(_over(act, store), version)
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


async def explore(url: Callable[[], str], name: str, other: Act, seed: Callable[[], object] = lambda: None) -> int:
    """Let the other act run before each trip in turn; returns the number of trips. `seed` makes a defect before."""
    allowed: list[object] = []
    alone: object = None
    for order in ("first", "last", "alone"):
        async with open_store(url()) as store:
            (act, version), call = await asked(store, name)
            if order == "first":
                await done(act, version, store)
            await tried(other, store, call)
            if order == "last":
                await done(act, version, store)
            allowed.append(await outline(store))
            alone = allowed[-1]
    seed()
    for place in count(1):
        async with open_store(url()) as store:
            (act, version), call = await asked(store, name)
            trips = 0

            async def between(_: StoreCall, *, store: Store = store, call: str = call, place: int = place) -> None:
                nonlocal trips
                trips += 1
                if trips == place:
                    await tried(other, store, call)

            is_done = await done(act, version, FaultyStore(store, before=between))
            if trips < place:
                return trips
            found = await outline(store)
            assert found in (allowed if is_done else [alone]), (name, place, is_done)
    raise AssertionError


@pytest.mark.parametrize(("name", "other"), DAILY)
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
@pytest.mark.parametrize("other", ["an edit", "a hold of the batch", "a cancelled batch", "a number off the list"])
async def test_on_every_store(fresh_url: Callable[[str], str], backend: str, name: str, other: str) -> None:
    assert await explore(lambda: fresh_url(backend), name, OTHERS[other]) > 1


@pytest.mark.parametrize("defect", ["no condition", "no comparison"])
@pytest.mark.parametrize("name", ["edit", "resume"])
async def test_a_seeded_defect_is_found(monkeypatch: pytest.MonkeyPatch, name: str, defect: str) -> None:
    asked_again = OperatorAction._asked_again

    async def weak(self: OperatorAction, version: str) -> Any:
        question = await (self.question() if defect == "no comparison" else asked_again(self, version))
        return replace(question, state=cast("str", None)) if defect == "no condition" else question

    other = OTHERS["an edit" if name == "edit" else "a hold of the batch"]
    with pytest.raises(AssertionError):
        await explore(
            lambda: "memory://", name, other, lambda: monkeypatch.setattr(OperatorAction, "_asked_again", weak)
        )
