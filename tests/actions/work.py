"""What people order, what it is ordered about, and what undoes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from tests.console.signing_in import ended
from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, SessionStatus, Store, SuppressionList
from voiceflow_worker.actions import Operator, OperatorAction
from voiceflow_worker.actions.calls import CancelCall, Redial
from voiceflow_worker.actions.queues import CancelBatch, Hold, Rate, RedialBatch, Resume
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.service.forget import Forget

ANA = "+6587654321"
VOICE = {"window": "any", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
Work = Callable[[Store, str], Awaitable[object]]


async def listed(store: Store, call: str = "") -> str:
    await SuppressionList(store).add(ANA, reason=f"asked by mail{call and ' again'}")
    return ""


async def put_back(store: Store, _: str) -> None:
    """Somebody takes the number off the list, and somebody else puts it on again."""
    await SuppressionList(store).remove(ANA)
    await SuppressionList(store).add(ANA, reason="asked by mail again")


async def called_and_listed(store: Store) -> str:
    """A call is under way, and the number is put on the list meanwhile."""
    engine = Engine(store, ScriptedVoice())
    await engine.enqueue(ANA)
    (job,) = await engine.send()
    await listed(store)
    return job.id


async def opts_out(store: Store, call: str) -> None:
    """The person opts out in the call."""
    job = await CallQueue(store).get(call)
    await Engine(store, ScriptedVoice()).summarise(job, SessionStatus.UNSUBSCRIBED_CONTACT)
    assert "opted out" in (await SuppressionList(store).find(ANA))[ANA].reason


async def waiting(store: Store, _: str = "") -> str:
    return (await CallQueue(store).enqueue(flow(ANA), batch="march")).id


async def held(store: Store, _: str = "") -> str:
    call = await waiting(store)
    await CallQueue(store).hold(batch_id="march", reason="lunch")
    return call


async def all_held(store: Store) -> str:
    call = await waiting(store)
    await CallQueue(store).hold(reason="lunch")
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


async def reset_rate(store: Store, _: str) -> None:
    await CallQueue(store).reset_rate()


async def one_more(store: Store, _: str) -> None:
    await CallQueue(store).enqueue(flow(number(5)), batch="march")


async def cancel_one(store: Store, _: str) -> None:
    last = await CallQueue(store).enqueue(flow(number(6)), batch="march")
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
    most: tuple[Work, ...] = ()
    """Changes with which other phones would ring than it showed: also refused, though not by the write itself."""
    beside: tuple[Work, ...] = ()
    """Changes of what the question shows beside what the action overwrites: it is carried out all the same."""
    page: str = ""
    """The page of its form, without /ui/act/."""


MARCH: Mapping[str, Any] = {"queue": "default", "batch": "march"}
ACTIONS: Mapping[str, Action] = {
    "unsuppress": Action(
        prepare=called_and_listed, act=lambda who, _: Unsuppress(operator=who, numbers=[ANA]),
        changes=(put_back, opts_out, listed), page=f"unsuppress?number={quote(ANA)}",
    ),
    "suppress": Action(
        prepare=listed, act=lambda who, _: Suppress(operator=who, numbers=[ANA]), beside=(put_back, listed),
    ),
    "hold": Action(
        prepare=waiting, act=lambda who, _: Hold(operator=who, **MARCH), changes=(hold, hold_and_resume, cancel_batch),
        beside=(one_more,), page="hold?queue=default&batch=march",
    ),
    "hold a queue": Action(
        prepare=waiting, act=lambda who, _: Hold(operator=who, queue="default"), changes=(hold_the_queue,),
        beside=(one_more, set_rate), page="hold?queue=default",
    ),
    "resume": Action(
        prepare=held, act=lambda who, _: Resume(operator=who, **MARCH), changes=(resume_and_hold, hold_again),
        most=(one_more,), beside=(cancel_one, hold_the_queue, set_rate), page="resume?queue=default&batch=march",
    ),
    "resume a queue": Action(
        prepare=all_held, act=lambda who, _: Resume(operator=who, queue="default"), changes=(hold_the_queue,),
        most=(start_a_campaign,), beside=(set_rate, cancel_batch), page="resume?queue=default",
    ),
    "cancel a batch": Action(
        prepare=waiting, act=lambda who, _: CancelBatch(operator=who, **MARCH), changes=(hold, hold_and_resume),
        beside=(one_more, cancel_one), page="cancel-batch?queue=default&batch=march",
    ),
    "redial a batch": Action(
        prepare=busy_and_listed, act=lambda who, _: RedialBatch(operator=who, outcomes=["busy"], **MARCH),
        most=(is_off_the_list,), beside=(one_redial, one_more, hold),
        page="redial-batch?queue=default&batch=march&outcome=busy",
    ),
    "forget": Action(
        prepare=waiting, act=lambda who, _: Forget(operator=who, number=ANA), most=(waiting,),
    ),
    "rate": Action(
        prepare=rated, act=lambda who, _: Rate(operator=who, queue="default", rate=9), beside=(set_rate, reset_rate),
    ),
    "reset the rate": Action(
        prepare=rated, act=lambda who, _: Rate(operator=who, queue="default", resets=True), beside=(set_rate,),
    ),
    "cancel a call": Action(
        prepare=waiting, act=lambda who, call: CancelCall(operator=who, call=call), changes=(cancel_and_redial,),
        beside=(hold,), page="cancel-call?call={call}",
    ),
    "redial": Action(
        prepare=busy, act=lambda who, call: Redial(operator=who, call=call), changes=(redial_and_cancel,),
        beside=(listed, hold, hold_the_queue), page="redial?call={call}",
    ),
}  # fmt: skip
CAMPAIGN: Mapping[str, Any] = {
    "say": "Hello.",
    "rows": [{"destination": ANA}, {"destination": number(2)}],
    "batch": "march",
}
