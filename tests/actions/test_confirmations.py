"""A confirmation is bound to what it showed: every action on every interface, each with a change in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest

from tests.console.signing_in import Form, ended, receiver, signed_in
from tests.contract.samples import ManualClock
from tests.support.cut_imports import cut_import
from tests.support.engine import Engine
from tests.support.faulty_store import Dies, FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, CallQueue, JobState, SessionStatus, Store, SuppressionList, open_store
from voiceflow_worker.actions import Operator, OperatorAction
from voiceflow_worker.actions.calls import CancelCall, Redial
from voiceflow_worker.actions.imports import DiscardStaged, ReleaseStaged
from voiceflow_worker.actions.queues import CancelBatch, Hold, Rate, RedialBatch, Resume
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue_report import RowsRefusedError
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.reading import count_states, limits_of, starts_of
from voiceflow_worker.core.gates import standing_gate
from voiceflow_worker.errors import ChangedSinceError, StoreUnavailableError, VoiceflowError
from voiceflow_worker.service.forget import Forget

pytestmark = pytest.mark.anyio

ANA = "+6587654321"
VOICE = {"source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
Work = Callable[[Store, str], Awaitable[object]]


async def listed(store: Store, _: str = "") -> str:
    await SuppressionList(store).add(ANA, reason="asked by mail")
    return ""


async def put_back(store: Store, _: str) -> None:
    """Somebody takes the number off the list, and somebody else puts it on again."""
    await SuppressionList(store).remove(ANA)
    await SuppressionList(store).add(ANA, reason="asked by mail")


async def called_and_listed(store: Store) -> str:
    """A call is under way, and the number is put on the list meanwhile."""
    engine = Engine(store, ScriptedVoice())
    await engine.enqueue(ANA)
    (job,) = await engine.send()
    await listed(store)
    return job.id


async def opts_out(store: Store, call: str) -> None:
    """The person opts out in the call. The entry stays, because it is for good already."""
    job = await CallQueue(store).get(call)
    await Engine(store, ScriptedVoice()).summarise(job, SessionStatus.UNSUBSCRIBED_CONTACT)
    assert "by mail" in (await SuppressionList(store).find(ANA))[ANA].reason


async def waiting(store: Store, _: str = "") -> str:
    return (await CallQueue(store).enqueue(flow(ANA), batch_id="march")).id


async def held(store: Store, _: str = "") -> str:
    call = await waiting(store)
    await CallQueue(store).hold(batch_id="march", reason="lunch")
    return call


async def hold(store: Store, _: str) -> None:
    await CallQueue(store).hold(batch_id="march", reason="the text is wrong")


async def hold_and_resume(store: Store, _: str) -> None:
    await hold(store, "")
    await CallQueue(store).resume(batch_id="march")


async def resume_and_hold(store: Store, _: str) -> None:
    assert isinstance(store.clock, ManualClock)
    await CallQueue(store).resume(batch_id="march")
    store.clock.advance(timedelta(seconds=1))
    await CallQueue(store).hold(batch_id="march", reason="lunch")  # in the same words


async def hold_again(store: Store, _: str) -> None:
    await hold(store, "")


async def cancel_batch(store: Store, _: str) -> None:
    await CallQueue(store).cancel_batch("march")


async def rated(store: Store, _: str = "") -> str:
    await CallQueue(store).set_rate(5)
    return await waiting(store)


async def set_rate(store: Store, _: str) -> None:
    await CallQueue(store).set_rate(2)


async def set_the_same_rate(store: Store, _: str) -> None:
    await CallQueue(store).set_rate(5)


async def reset_rate(store: Store, _: str) -> None:
    await CallQueue(store).reset_rate()


async def one_more(store: Store, _: str) -> None:
    await CallQueue(store).enqueue(flow(number(5)), batch_id="march")


async def cancel_one(store: Store, _: str) -> None:
    last = await CallQueue(store).enqueue(flow(number(6)), batch_id="march")
    await CallQueue(store).cancel(last.id)


async def hold_the_queue(store: Store, _: str) -> None:
    await CallQueue(store).hold(reason="another")


async def start_a_campaign(store: Store, _: str) -> None:
    await Campaign.of({**CAMPAIGN, **VOICE, "batch": "april"}).start(CallQueue(store))


async def is_off_the_list(store: Store, _: str) -> None:
    await SuppressionList(store).remove(ANA)


async def busy_and_listed(store: Store) -> str:
    call = await busy(store)
    await listed(store)
    await ended(store, to=number(4))
    return call


async def one_redial(store: Store, call: str) -> None:
    await CallQueue(store).redial(call)


async def staged(store: Store) -> str:
    await cut_import(store)
    return ""


async def staged_again(store: Store, _: str) -> None:
    await cut_import(store, calls=4)


async def busy(store: Store, _: str = "") -> str:
    return (await ended(store)).id


async def cancel_and_redial(store: Store, call: str) -> None:
    await CallQueue(store).cancel(call)
    await CallQueue(store).redial(call)


async def redial_and_cancel(store: Store, call: str) -> None:
    await CallQueue(store).redial(call)
    await CallQueue(store).cancel(call)


@dataclass(frozen=True, kw_only=True)
class Action:
    """An action, with what somebody sees, and what changes before it is confirmed."""

    prepare: Callable[[Store], Awaitable[str]]
    act: Callable[[Operator, str], OperatorAction]
    changes: tuple[Work, ...] = ()
    shown_changes: tuple[Work, ...] = ()
    """Changes of what the question shows beside what the action overwrites."""
    page: str = ""
    """The page of its form, without /ui/act/."""
    typed: Mapping[str, str] | None = None
    ordered: tuple[str, str, Mapping[str, Any] | None] = ("", "", None)
    """The method, path and body with which a program orders it."""


MARCH: Mapping[str, Any] = {"queue": "default", "batch": "march"}
NUMBER = f"/v1/suppression/{ANA}"
BATCH, QUEUE, CALL = "/v1/batches/march", "/v1/queues/default", "/v1/calls/{call}"
ACTIONS: Mapping[str, Action] = {
    "unsuppress": Action(
        prepare=called_and_listed, act=lambda who, _: Unsuppress(operator=who, numbers=[ANA]),
        changes=(put_back, opts_out, listed),
        page=f"unsuppress?number={quote(ANA)}", ordered=("DELETE", NUMBER, None),
    ),
    "suppress": Action(
        prepare=listed, act=lambda who, _: Suppress(operator=who, numbers=[ANA]), changes=(put_back, listed),
        ordered=("PUT", NUMBER, {}),
    ),
    "hold": Action(
        prepare=waiting, act=lambda who, _: Hold(operator=who, **MARCH), changes=(hold, hold_and_resume, cancel_batch),
        page="hold?queue=default&batch=march", ordered=("POST", f"{BATCH}/hold", {}),
    ),
    "hold a queue": Action(
        prepare=waiting, act=lambda who, _: Hold(operator=who, queue="default"),
        changes=(lambda store, _: CallQueue(store).hold(reason="another"),),
        page="hold?queue=default", ordered=("POST", f"{QUEUE}/hold", {}),
    ),
    "resume": Action(
        prepare=held, act=lambda who, _: Resume(operator=who, **MARCH), changes=(resume_and_hold, hold_again),
        page="resume?queue=default&batch=march", ordered=("POST", f"{BATCH}/resume", {}),
        shown_changes=(one_more, cancel_one, hold_the_queue, set_rate),
    ),
    "resume a queue": Action(
        prepare=held, act=lambda who, _: Resume(operator=who, queue="default"),
        shown_changes=(start_a_campaign, hold_the_queue, set_rate, cancel_batch),
        page="resume?queue=default", ordered=("POST", f"{QUEUE}/resume", {}),
    ),
    "cancel a batch": Action(
        prepare=waiting, act=lambda who, _: CancelBatch(operator=who, **MARCH), changes=(hold, hold_and_resume),
        page="cancel-batch?queue=default&batch=march", ordered=("POST", f"{BATCH}/cancel", {}),
        shown_changes=(one_more, cancel_one),
    ),
    "redial a batch": Action(
        prepare=busy_and_listed, act=lambda who, _: RedialBatch(operator=who, outcomes=["busy"], **MARCH),
        shown_changes=(is_off_the_list, one_redial, one_more, hold),
        page="redial-batch?queue=default&batch=march&outcome=busy",
    ),
    "release": Action(
        prepare=staged, act=lambda who, _: ReleaseStaged(operator=who, **MARCH),
        shown_changes=(staged_again, one_more, hold), page="release-staged?queue=default&batch=march",
    ),
    "discard": Action(
        prepare=staged, act=lambda who, _: DiscardStaged(operator=who, **MARCH),
        shown_changes=(staged_again,), page="discard-staged?queue=default&batch=march",
    ),
    "forget": Action(
        prepare=waiting, act=lambda who, _: Forget(operator=who, number=ANA), shown_changes=(waiting,),
        ordered=("DELETE", f"/v1/people/{ANA}", None),
    ),
    "rate": Action(
        prepare=rated, act=lambda who, _: Rate(operator=who, queue="default", rate=9),
        changes=(set_rate, set_the_same_rate, reset_rate), ordered=("PUT", f"{QUEUE}/rate", {"rate": 9}),
    ),
    "reset the rate": Action(
        prepare=rated, act=lambda who, _: Rate(operator=who, queue="default", resets=True),
        changes=(set_rate, set_the_same_rate),
    ),
    "cancel a call": Action(
        prepare=waiting, act=lambda who, call: CancelCall(operator=who, call=call), changes=(cancel_and_redial,),
        page="cancel-call?call={call}", ordered=("POST", f"{CALL}/cancel", {}),
    ),
    "redial": Action(
        prepare=busy, act=lambda who, call: Redial(operator=who, call=call), changes=(redial_and_cancel,),
        shown_changes=(listed, hold, hold_the_queue),
        page="redial?call={call}", ordered=("POST", f"{CALL}/redial", {}),
    ),
}  # fmt: skip
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
    other = await CallQueue(store).enqueue(flow(number(8)), batch_id="other")
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
        await engine.enqueue(number(place), batch_id="march")
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


CAMPAIGN: Mapping[str, Any] = {
    "say": "Hello.",
    "rows": [{"destination": ANA}, {"destination": number(2)}],
    "batch": "march",
}


async def started_by_another(store: Store) -> None:
    """Somebody starts half of the campaign."""
    half = {**CAMPAIGN, "rows": CAMPAIGN["rows"][:1]}
    options = {"source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
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
