"""The audit log: each action of people is kept in the same write as what it changes, and is read page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.contract.suite import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, Loss
from tests.support.flows import flow
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import CallPolicy, CallQueue, JobState
from voiceflow_worker.actions import Operator, OperatorAction
from voiceflow_worker.actions.calls import CancelCall, Redial, Resolve
from voiceflow_worker.actions.queues import CancelBatch, Hold, Rate, RedialBatch, Resume
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.core import audit
from voiceflow_worker.core.audit import (
    KEPT,
    Actor,
    AuditEntry,
    audited,
    entries_on,
    login_name,
    read_log,
    read_page,
)  # fmt: skip
from voiceflow_worker.core.edits import BatchEdit
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Claim, Put, Result, Same, Write
from voiceflow_worker.core.retention import Retention
from voiceflow_worker.errors import RequestInProgressError, StoreUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio
SECOND = timedelta(seconds=1)
LI = Actor(on="command", login="lwei", name="Li")


class Killed(BaseException):
    """The process was killed just after the write of an action."""


async def actions(store: Store, **which: Any) -> list[str]:
    return [entry.action async for page in read_log(store, **which) for entry in page]


async def test_every_action_is_kept_by_the_write_that_does_it_though_the_process_dies_then(
    any_store: Store, voice: ScriptedVoice, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(any_store, voice)
    voice.answers = [unknown()]
    doubt = await engine.enqueue("+6587654320")
    await engine.send()
    clock.advance(timedelta(minutes=10))
    waiting = await engine.enqueue("+6587654321")
    ended = await engine.enqueue("+6587654322", batch_id="ended")
    await engine.send(limit=9)
    await engine.summarise(ended, SessionStatus.BUSY)
    await engine.summarise(waiting, SessionStatus.BUSY)
    left = await engine.enqueue("+6587654323", batch_id="march")
    who = Operator(any_store, CallPolicy(), name="Li", on=audit.Interface.COMMAND, login="lwei")

    async def dies(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(audit, "finish", dies)
    acts: list[tuple[str, OperatorAction]] = [
        ("hold", Hold(operator=who, queue="default", note="why")),
        ("resume", Resume(operator=who, queue="default", note="why")),
        ("rate", Rate(operator=who, queue="default", rate=3.0, note="why")),
        ("resolve", Resolve(operator=who, call=doubt.id, placed=True, note="why")),
        ("redial", Redial(operator=who, call=waiting.id, note="why")),
        ("redial", RedialBatch(operator=who, queue="default", batch="ended", outcomes=["busy"], note="why")),
        ("cancel", CancelCall(operator=who, call=left.id, note="why")),
        ("cancel", CancelBatch(operator=who, queue="default", batch="march", note="why")),
        ("suppress", Suppress(operator=who, numbers=["+6587654399"], note="why")),
        ("unsuppress", Unsuppress(operator=who, numbers=["+6587654399"], note="why")),
    ]
    for action, act in acts:
        clock.advance(SECOND)
        with pytest.raises(Killed):
            await act.do()
        newest, *_ = await entries_on(any_store)
        kept = (newest.action, newest.on, newest.by, newest.name, newest.note, newest.result, newest.at)
        assert kept == (action, "command", "lwei", "Li", "why", None, clock.now()), action
        assert "its result was not stored" in newest.in_words()
    numbers = [entry.numbers for entry in await entries_on(any_store) if entry.numbers]
    assert numbers == [("+6587654399",), ("+6587654399",)]
    assert [entry.call for entry in await entries_on(any_store, call=doubt.id)] == [doubt.id]
    assert len(await entries_on(any_store)) == len(acts)


async def test_every_action_of_a_program_on_its_queue_is_kept_by_the_write_that_does_it(
    any_store: Store, voice: ScriptedVoice, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(any_store, voice)
    voice.answers = [unknown()]
    doubt = await engine.enqueue("+6587654320")
    await engine.send()
    clock.advance(timedelta(minutes=10))
    first, second, third = [await engine.enqueue(f"+658765432{place}", batch_id="march") for place in (1, 2, 3)]
    queue = CallQueue(any_store, by="the nightly job")
    finish = audit.finish

    async def dies(*_: object, **__: object) -> None:
        raise Killed

    orders: list[tuple[str, str | None, Callable[[], Awaitable[object]]]] = [
        ("resolve", "placed", partial(queue.resolve, doubt.id, placed=True, note="why")),
        ("cancel", "cancelled", partial(queue.cancel, first.id, reason="why")),
        ("redial", "redialled", partial(queue.redial, first.id, note="why")),
        ("cancel", None, partial(queue.cancel_many, [first.id, second.id, doubt.id], reason="why")),
        ("hold", None, partial(queue.hold, reason="why")),
        ("resume", None, queue.resume),
        ("rate", None, partial(queue.set_rate, 3.0)),
        ("edit", None, partial(queue.edit_batch, "march", BatchEdit(names=frozenset(), priority=3), note="why")),
        ("cancel", None, partial(queue.cancel_batch, "march", reason="why")),
    ]
    for action, result, order in orders:
        clock.advance(SECOND)
        monkeypatch.setattr(audit, "finish", dies)
        with suppress(Killed):
            await order()
        (newest, *_), at = await entries_on(any_store), clock.now()
        kept = (newest.action, newest.on, newest.by, newest.name, newest.result, newest.at.replace(microsecond=0))
        assert kept == (action, "Python", login_name(), "the nightly job", result, at.replace(microsecond=0))
    assert len(await entries_on(any_store)) == len(orders)
    monkeypatch.setattr(audit, "finish", finish)
    await queue.hold(batch_id="april", reason="why")
    newest, *_ = await entries_on(any_store, "default", batch="april")
    assert newest.result == "batch april is held until somebody resumes it: why"
    assert (await queue.get(third.id)).state is JobState.CANCELLED
    await CancelBatch(operator=Operator(any_store, CallPolicy()), queue="default", batch="march").do()
    assert len(await entries_on(any_store, limit=50)) == len(orders) + 2, "an action of the commands has one entry"


async def test_what_changes_nothing_or_fails_has_no_entry(store: Store, clock: ManualClock) -> None:
    who = Operator(store, CallPolicy())
    assert (await Unsuppress(operator=who, numbers=["+6587654321"]).do()).not_done
    broken = FaultyStore(store)
    broken.lose(Loss.BEFORE, "write")
    with pytest.raises(StoreUnavailableError):
        await Hold(operator=Operator(broken, CallPolicy()), queue="default").do()
    assert await entries_on(store) == []


async def test_a_start_is_kept_before_its_first_call(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"say": "Hello", "source": "+6531234567", "voice_profile": "en-US-JennyNeural", "batch": "march"}
    campaign = Campaign.of({**fields, "rows": [{"destination": "+6587654321"}]})
    seen: list[AuditEntry] = []
    admit = type(CallQueue(store).admitter).admit

    async def looks(self: object, *given: object, **options: object) -> object:
        seen.extend(await entries_on(store))
        return await admit(self, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(CallQueue(store).admitter), "admit", looks)
    await campaign.start(CallQueue(store), by=LI)
    assert [(entry.action, entry.who, entry.batch, entry.result) for entry in seen] == [
        ("start", "Li (login lwei)", "march", None)
    ]
    (entry,) = await entries_on(store, "default", batch="march")
    assert (entry.id, entry.result) == (seen[0].id, "1 call of 1 enqueued")


async def test_the_log_is_read_in_pages_newest_first_and_ends(any_store: Store, clock: ManualClock) -> None:
    for place in range(7):
        clock.advance(SECOND)
        actor = LI if place % 2 else Actor(on="api", login="crm")
        entry = AuditEntry.of(actor, f"action {place}", at=clock.now(), queue="default")
        async with audited(any_store, entry) as store:
            await store.write(BulkWrite(writes=(Write(puts=(Put("space", f"{place}", "", None),)),)), now=clock.now())
            store.result = "done"
    first = await read_page(any_store, limit=3)
    second = await read_page(any_store, after=first[-1].id, limit=3)
    third = await read_page(any_store, after=second[-1].id, limit=3)
    names = [[entry.action for entry in page] for page in (first, second, third)]
    assert names == [["action 6", "action 5", "action 4"], ["action 3", "action 2", "action 1"], ["action 0"]]
    for by in ("li", "LWEI"):
        assert await actions(any_store, by=by) == ["action 5", "action 3", "action 1"]
    since = clock.now() - 1.5 * SECOND
    assert await actions(any_store, since=since) == ["action 6", "action 5"]
    clock.jump(KEPT)
    await CallQueue(any_store).enqueue(flow())
    await Retention(any_store, CallPolicy()).run()
    assert await actions(any_store) == []


@pytest.mark.parametrize("refused", [(0,), (0, 1), (1,), ()])
async def test_the_claim_to_a_key_goes_with_the_first_part_that_is_stored(
    any_store: Store, refused: tuple[int, ...]
) -> None:
    """The parts of a bulk write are refused each by itself; only one claim is made."""
    at = any_store.clock.now()
    claim = Claim(condition=Same("claim", "key", None), put=Put("claim", "key", "begun", at + KEPT))
    parts = [
        Write(
            conditions=(Same("other", f"{place}", "no" if place in refused else None),),
            puts=(Put("other", f"{place}", "done", None),),
        )
        for place in range(3)
    ]
    async with audited(any_store, AuditEntry.of(LI, "cancel", at=at, queue="default"), claim) as store:
        answers = await store.write(BulkWrite(writes=tuple(parts)), now=at)
    assert [answer.result is Result.DONE for answer in answers] == [place not in refused for place in range(3)]
    assert [each.value for each in (await any_store.records({"claim": ["key"]}, now=at))["claim"]] == ["begun"]
    assert len(await entries_on(any_store)) == 1
    other = replace(claim, put=replace(claim.put, value="another request"))
    with pytest.raises(RequestInProgressError):
        async with audited(any_store, AuditEntry.of(LI, "hold", at=at, queue="default"), other) as store:
            await store.write(BulkWrite(writes=(Write(puts=(Put("other", "more", "", None),)),)), now=at)
