"""A confirmation is bound to what it showed: every action on every interface, each with a change in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, suppress
from itertools import count

import pytest

from tests.actions.work import ACTIONS, ANA, Action, Work, listed
from tests.console.signing_in import Form, receiver, signed_in
from tests.contract.samples import ManualClock
from tests.support.faulty_store import Dies, FaultyStore, StoreCall
from tests.support.flows import number
from voiceflow_worker import CallPolicy, CallQueue, Store, SuppressionList, open_store
from voiceflow_worker.actions import Operator
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.reading import holds_of, limits_of
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.gates import standing_gate
from voiceflow_worker.errors import ChangedSinceError, StoreUnavailableError

pytestmark = pytest.mark.anyio


EACH = pytest.mark.parametrize("name", ACTIONS)


def fresh() -> AbstractAsyncContextManager[Store]:
    return open_store("memory://", clock=ManualClock())


@pytest.fixture
async def store() -> AsyncGenerator[Store]:
    async with fresh() as opened:
        yield opened


async def everything(store: Store) -> object:
    """What people can change, as it stands."""
    jobs = await CallQueue(store).find()
    return (
        await SuppressionList(store).state(ANA),
        [(job.id, job.state, len(job.notes), job.priority) for job in jobs],
        await holds_of(store, "default"),
        await standing_gate(store, "default", None),
        await standing_gate(store, "default", "march"),
        await limits_of(store, "default"),
        await text_records(store, "set-rate").all(),
    )


@EACH
async def test_what_the_order_overwrites_and_who_would_ring_are_conditions(name: str) -> None:
    action = ACTIONS[name]
    for change in (*action.changes, *action.most):
        async with fresh() as store:
            call = await action.prepare(store)
            act = action.act(Operator(store, CallPolicy()), call)
            token = (await act.question()).token
            await change(store, call)
            before = await everything(store)
            for seen in (token, "", "x"):
                with pytest.raises(ChangedSinceError, match="has changed since it was shown"):
                    await act.do(seen)
            assert await everything(store) == before, change


@EACH
async def test_what_stands_beside_it_is_none(name: str) -> None:
    action = ACTIONS[name]
    for change in action.beside:
        async with fresh() as store:
            call = await action.prepare(store)
            act = action.act(Operator(store, CallPolicy()), call)
            token = (await act.question()).token
            await change(store, call)
            assert not (await act.do(token)).not_done, change


@EACH
async def test_between_the_look_of_an_action_and_its_write(name: str) -> None:
    for change in ACTIONS[name].changes:
        async with fresh() as store:
            await is_overtaken(store, ACTIONS[name], change)


async def is_overtaken(store: Store, action: Action, change: Work) -> None:
    """The change comes after the action has read everything, right before its first write."""
    call = await action.prepare(store)
    seen = (await action.act(Operator(store, CallPolicy()), call).question()).token
    after: list[object] = []

    async def overtakes(asked: StoreCall) -> None:
        if asked.name == "write" and not after:
            after.append(None)
            await change(store, call)
            after.append(await everything(store))

    slow = FaultyStore(store, before=overtakes)
    with pytest.raises(ChangedSinceError):
        await action.act(Operator(slow, CallPolicy()), call).do(seen)
    assert await everything(store) == after[1]


@pytest.mark.parametrize("name", [name for name, action in ACTIONS.items() if action.page])
async def test_on_the_console(store: Store, name: str) -> None:
    action = ACTIONS[name]
    change = (*action.changes, *action.most)[0]
    call = await action.prepare(store)
    address = f"/ui/act/{action.page.format(call=call)}"
    async with signed_in(receiver(store)) as client:
        form = Form((await client.get(address)).text).values()
        await change(store, call)
        before = await everything(store)
        answer = await client.post(address.partition("?")[0], data=form)
        assert answer.status_code in {409, 404}, answer.headers
        assert "changed since it was shown" in answer.text
    assert await everything(store) == before


@EACH
async def test_an_audit_entry_stands_from_the_write_that_changes_something_on(name: str) -> None:
    """The process dies before each of its writes in turn."""
    for place in count(1):
        async with open_store("memory://", clock=ManualClock()) as store:
            call = await ACTIONS[name].prepare(store)
            before, kept = await everything(store), len(await entries_on(store))
            process = Dies(place)
            with suppress(StoreUnavailableError):
                await ACTIONS[name].act(Operator(process.over(store), CallPolicy()), call).do()
            is_changed = await everything(store) != before
            assert len(await entries_on(store)) == kept + is_changed, (name, place)
        if not process.is_dead:
            assert is_changed
            return


async def test_a_removal_without_a_question_leaves_what_comes_meanwhile(store: Store) -> None:
    """A command asks nothing; an opt-out that comes while it runs stays all the same."""
    await listed(store)
    came: list[object] = []

    async def overtakes(asked: StoreCall) -> None:
        if asked.name == "write" and not came:
            came.append(None)
            await SuppressionList(store).add(ANA, reason="opted out")

    with pytest.raises(ChangedSinceError, match="was put on the suppression list meanwhile"):
        await SuppressionList(FaultyStore(store, before=overtakes)).remove(ANA)
    assert ANA in await SuppressionList(store).find(ANA)
    assert await SuppressionList(store).remove(ANA, number(3)) == [ANA]
