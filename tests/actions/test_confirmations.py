"""A confirmation is bound to what it showed: every action on every interface, each with a change in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import fields, replace
from itertools import count
from typing import Any

import pytest

from tests.actions.work import ACTIONS, ANA, CAMPAIGN, MARCH, VOICE, Action, Work, listed
from tests.console.signing_in import Form, receiver, signed_in
from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import Dies, FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, CallQueue, JobState, Store, SuppressionList, open_store
from voiceflow_worker.actions import Operator
from voiceflow_worker.actions.queues import CancelBatch, Hold, Resume
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue_report import RowsRefusedError
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.reading import count_states, limits_of, starts_of
from voiceflow_worker.core.gates import standing_gate
from voiceflow_worker.errors import ChangedSinceError, StoreUnavailableError, VoiceflowError

pytestmark = pytest.mark.anyio


EACH = pytest.mark.parametrize("name", ACTIONS)
FIRST = {name: (action.changes or action.shown_changes)[0] for name, action in ACTIONS.items()}
"""For the interfaces: they hand on what the actions judge."""


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
        await starts_of(store, "default"),
        await standing_gate(store, "default", None),
        await standing_gate(store, "default", "march"),
        await limits_of(store, "default"),
        await CallQueue(store).rate_state(),
    )


@EACH
async def test_by_a_program_in_python(name: str) -> None:
    action = ACTIONS[name]
    for change in (*action.changes, *action.shown_changes):
        async with fresh() as store:
            call = await action.prepare(store)
            act = action.act(Operator(store, CallPolicy()), call)
            seen = (await act.question()).version
            await change(store, call)
            before = await everything(store)
            with pytest.raises(ChangedSinceError, match="has changed since it was shown"):
                await act.do(seen)
            assert await everything(store) == before, change


@EACH
async def test_between_the_look_of_an_action_and_its_write(name: str) -> None:
    for change in ACTIONS[name].changes:
        async with fresh() as store:
            await is_overtaken(store, ACTIONS[name], change)


async def is_overtaken(store: Store, action: Action, change: Work) -> None:
    """The change comes after the action has read everything, right before its first write."""
    call = await action.prepare(store)
    seen = (await action.act(Operator(store, CallPolicy()), call).question()).version
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
    action, change = ACTIONS[name], FIRST[name]
    call = await action.prepare(store)
    address = f"/ui/act/{action.page.format(call=call)}"
    async with signed_in(receiver(store)) as client:
        form = Form((await client.get(address)).text).values(**(action.typed or {}))
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


@EACH
async def test_a_confirmation_counts_once_and_for_its_own_action_and_subject(store: Store, name: str) -> None:
    who, call = Operator(store, CallPolicy()), await ACTIONS[name].prepare(store)
    act = ACTIONS[name].act(who, call)
    seen = (await act.question()).version
    other = await CallQueue(store).enqueue(flow(number(8)), batch="other")
    values: Mapping[str, Any] = {
        "batch": "other", "call": other.id, "numbers": [number(8)], "number": number(8), "changes": {"priority": "5"},
        "rate": 8.0, "outcomes": ["no_answer"], "times": 2,
    }  # fmt: skip
    before = await everything(store)
    for field, value in values.items():
        if field in {each.name for each in fields(act)}:  # type: ignore[arg-type]
            with pytest.raises(VoiceflowError):
                await replace(act, **{field: value}).do(seen)  # type: ignore[type-var]
    for another in ACTIONS.values():
        if type(made := another.act(who, call)) is not type(act):
            with pytest.raises(VoiceflowError):
                await made.do(seen)
    assert await everything(store) == before
    if name != "resume a queue":  # what was added to the queue is what programs do
        assert not (await act.do(seen)).not_done
        assert await everything(store) != before
        with pytest.raises(VoiceflowError):
            await act.do(seen)


async def test_calls_that_are_sent_meanwhile_keep_nobody_from_stopping_the_rest(store: Store) -> None:
    who, engine = Operator(store, CallPolicy()), Engine(store, ScriptedVoice())
    for place in range(4):
        await engine.enqueue(number(place), batch="march")
    acts = [
        Hold(operator=who, **MARCH), Resume(operator=who, **MARCH), CancelBatch(operator=who, **MARCH),
    ]  # fmt: skip
    for act in acts:
        seen = (await act.question()).version
        if not isinstance(act, Resume):
            await engine.send(limit=1)
        assert not (await act.do(seen)).not_done
    assert (await count_states(store, "default"))[JobState.CANCELLED] == 2


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


async def started_by_another(store: Store) -> None:
    """Somebody starts half of the campaign."""
    half = {**CAMPAIGN, "rows": CAMPAIGN["rows"][:1]}
    options = {"window": "any", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
    await Campaign.of({**half, **options}).start(CallQueue(store))


async def said_in_april(store: Store) -> None:
    """Another batch calls the second person with the same words."""
    await Campaign.of({**CAMPAIGN, **VOICE, "rows": CAMPAIGN["rows"][1:], "batch": "april"}).start(CallQueue(store))


async def test_who_was_called_before_is_called_again_as_the_preview_counted_them(store: Store) -> None:
    """Ann's preview says that one person was called before; then Bob calls the other one, and Ann says: call again."""
    queue, own = CallQueue(store), {**CAMPAIGN, **VOICE, "batch": "may"}
    await started_by_another(store)
    seen = await Campaign.of(own).preview(queue)
    assert (seen.again, (await Campaign.of({**own, "again": True}).preview(queue)).again) == (1, 1)
    await said_in_april(store)
    before = [job.id for job in await queue.find()]
    with pytest.raises(ChangedSinceError, match="who was called before"):
        await Campaign.of({**own, "again": True}).start(queue, expected_version=seen.version)
    assert [job.id for job in await queue.find()] == before
    seen = await Campaign.of(own).preview(queue)
    done = await Campaign.of({**own, "again": True}).start(queue, expected_version=seen.version)
    assert (seen.again, done.enqueued, done.again) == (2, 2, 0)


@pytest.mark.parametrize("change", [listed, said_in_april, started_by_another])
@pytest.mark.parametrize("again", [False, True])
async def test_the_version_of_a_preview_is_of_every_count(store: Store, change: Any, again: bool) -> None:
    campaign = Campaign.of({**CAMPAIGN, **VOICE, "again": again})
    seen = (await campaign.preview(CallQueue(store))).version
    await change(store)
    before = [job.id for job in await CallQueue(store).find()]
    if change is said_in_april and not again:
        with pytest.raises(RowsRefusedError):  # nobody said: call again
            await campaign.start(CallQueue(store), expected_version=seen)
    else:
        with pytest.raises(ChangedSinceError):
            await campaign.start(CallQueue(store), expected_version=seen)
    assert [job.id for job in await CallQueue(store).find()] == before
