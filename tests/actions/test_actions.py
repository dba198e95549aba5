"""Acts of people, apart from the commands and pages that ask and show: their questions, checks, deeds and results."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.console.signing_in import ended, in_doubt
from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    InvalidInputError,
    JobState,
    SessionStatus,
    Store,
    SuppressionList,
    open_store,
)
from voiceflow_worker.actions import ActionRefusedError, Operator, OperatorAction, UnknownSubjectError
from voiceflow_worker.actions.calls import CancelCall, Redial, Resolve
from voiceflow_worker.actions.queues import CancelBatch, Hold, RedialBatch, Resume
from voiceflow_worker.actions.suppression import ImportNumbers, Suppress, TakeBackFile, Unsuppress
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.core.audit import Actor, Interface, entries_on
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.errors import ChangedSinceError, IllegalMoveError, JobError, PhoneNumberError
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.menu_data import do_not_call_again
from voiceflow_worker.model.copying import replace
from voiceflow_worker.reporting.batches import read_batch, read_batches

pytestmark = pytest.mark.anyio


@pytest.fixture
async def mary(clock: ManualClock) -> AsyncGenerator[Operator]:
    async with open_store("memory://", clock=clock) as store:
        yield Operator(store, CallPolicy(), "Mary Tan")


async def waiting(store: Store, count: int = 1) -> None:
    for place in range(count):
        await CallQueue(store).enqueue(flow(number(place)), batch="march")


async def test_a_question_says_what_rings_and_what_does_not(mary: Operator) -> None:
    await in_doubt(mary.store)
    await waiting(mary.store, 3)
    asked = await CancelBatch(operator=mary, queue="default", batch="march").question()
    assert asked.will_be_called == ("Nobody: no call is in progress. 1 call in doubt may have rung.",)
    assert "3 waiting calls" in asked.will_not_be_called[0]


async def test_a_batch_without_calls_is_unknown_in_one_wording(mary: Operator) -> None:
    await waiting(mary.store)
    wrong: list[OperatorAction] = [
        act(operator=mary, queue="default", batch="Marhc") for act in (Hold, Resume, CancelBatch)
    ]
    wrong.append(RedialBatch(operator=mary, queue="default", batch="Marhc", outcomes=["busy"]))
    for act in wrong:
        for ask in (act.question, act.do):
            with pytest.raises(UnknownSubjectError, match=r"batch Marhc has no calls in .* did you mean march\?"):
                await ask()
    assert await gates_of(mary.store, "default") == []


async def test_a_program_is_refused_a_batch_without_calls_too(mary: Operator) -> None:
    queue = CallQueue(mary.store)
    await waiting(mary.store)
    orders: list[Callable[[], Awaitable[object]]] = [
        partial(queue.hold, batch_id="Marhc"), partial(queue.resume, batch_id="Marhc"),
        partial(queue.cancel_batch, "Marhc"), partial(queue.redial_batch, "Marhc", on="busy"),
        partial(queue.redial_batch, "Marhc", on="busy", dry_run=True), partial(queue.wait_for_batch, "Marhc"),
    ]  # fmt: skip
    for order in orders:
        with pytest.raises(InvalidInputError, match=r"batch Marhc has no calls in .* did you mean march\?"):
            await order()
    assert await gates_of(mary.store, "default") == []
    assert await entries_on(mary.store) == []


async def test_a_verdict_about_one_post_does_not_settle_the_doubt_about_the_next(
    mary: Operator, clock: ManualClock
) -> None:
    engine, (doubt,) = await in_doubt(mary.store)
    act = Resolve(operator=mary, call=doubt.id, placed=False, note="not in the portal")
    asked = await act.question()
    clock.advance(timedelta(minutes=5))
    await act.do(asked.token)
    (again,) = await engine.send()
    assert (again.state, again.post_count) == (JobState.IN_DOUBT, 2)
    clock.advance(timedelta(minutes=5))
    for seen in (asked.token, "", "x"):
        with pytest.raises(ChangedSinceError, match="has changed since it was shown"):
            await act.do(seen)
    with pytest.raises(IllegalMoveError, match="POST 2, begun at"):
        await Resolve(operator=mary, call=doubt.id, placed=False, note="not in the portal", post=1).do()
    assert (await act.do((await act.question()).token)).documents[0]["state"] == "queued"


async def test_two_people_who_ask_for_one_redial_redial_once(mary: Operator) -> None:
    busy = await ended(mary.store)
    act = Redial(operator=mary, call=busy.id)
    asked = await act.question()
    await act.do(asked.token)
    engine = Engine(mary.store, ScriptedVoice())
    (again,) = await engine.send()
    await engine.summarise(again, SessionStatus.BUSY)
    for seen in (asked.token, "", "x"):
        with pytest.raises(ChangedSinceError, match="has changed since it was shown"):
            await act.do(seen)
    with pytest.raises(IllegalMoveError, match="POST 2 is now the newest"):
        await Redial(operator=mary, call=busy.id, post=1).do()
    assert (await CallQueue(mary.store).get(busy.id)).state is JobState.UNREACHED


async def test_the_token_of_a_redial_is_of_a_question(mary: Operator) -> None:
    await ended(mary.store)
    act = RedialBatch(operator=mary, queue="default", batch="march", outcomes=["busy"])
    asked = await act.question()
    at, _, digest = asked.token.partition(" ")
    for seen in ("", "never", digest, f"{at} ", f"2026-07-01 {digest}", f"9999-01-01T00:00:00+00:00 {digest}"):
        with pytest.raises(ChangedSinceError):
            await act.do(seen)
    assert (await act.do(asked.token)).documents[0]["redialled"] == 1
    with pytest.raises(ActionRefusedError, match="no call of batch march can be redialled"):
        await act.question()


async def test_the_question_of_a_redial_says_what_keeps_the_phone_silent(mary: Operator) -> None:
    job = await ended(mary.store)
    await Hold(operator=mary, queue="default", batch="march", note="lunch").do()
    await Suppress(operator=mary, numbers=[job.destination], note="asked by mail").do()
    asked = await Redial(operator=mary, call=job.id).question()
    assert ["asked by mail" in asked.will_not_be_called[0], "batch march is held" in asked.will_not_be_called[1]] == [
        True,
        True,
    ]


@pytest.mark.parametrize("ends", [{"until": True}, {"lasts": True}])
async def test_a_suppression_has_one_end(mary: Operator, clock: ManualClock, ends: dict[str, bool]) -> None:
    until, lasts = clock.now() + timedelta(days=1), timedelta(days=1)
    with pytest.raises(InvalidInputError, match="exclude each other"):
        await Suppress(operator=mary, numbers=["+6587654321"], until=until, lasts=lasts).do()
    one = Suppress(
        operator=mary,
        numbers=["+6587654321"],
        until=until if "until" in ends else None,
        lasts=lasts if "lasts" in ends else None,
    )
    await one.do()
    (entry,) = await SuppressionList(mary.store).scan()
    assert (entry.until, entry.reason) == (until, "put on the list by Mary Tan")


async def test_a_doubt_is_not_resolved_without_saying_how_one_knows(mary: Operator) -> None:
    _, (doubt,) = await in_doubt(mary.store)
    for note in (None, "", "  "):
        with pytest.raises(InvalidInputError, match="how you know"):
            await Resolve(operator=mary, call=doubt.id, note=note).do()
    assert (await CallQueue(mary.store).get(doubt.id)).state is JobState.IN_DOUBT


async def test_a_hold_ends_by_itself_or_when_somebody_resumes_and_shortens_no_other(
    mary: Operator, clock: ManualClock
) -> None:
    await waiting(mary.store)
    with pytest.raises(InvalidInputError, match="a hold of 0 holds nothing"):
        await Hold(operator=mary, queue="default", lasts=timedelta()).do()
    held = await Hold(operator=mary, queue="default", batch="march", lasts=timedelta(hours=2)).do()
    assert (held.documents[0]["name"], held.notes) == ("march", ())
    (gate,) = await gates_of(mary.store, "default")
    assert (gate.until, gate.reason) == (clock.now() + timedelta(hours=2), "held by Mary Tan")
    shorter = await Hold(operator=mary, queue="default", batch="march", lasts=timedelta(hours=1)).do()
    assert (shorter.message, "nothing was changed" in shorter.notes[0]) == (held.message, True)
    resume = Resume(operator=mary, queue="default", batch="march")
    seen = (await resume.question()).token
    await resume.do(seen)
    assert (await resume.do(seen)).message == "batch march is open; it was not held"
    await resume.do()
    assert await gates_of(mary.store, "default") == []


async def test_a_batch_is_cancelled_for_good(mary: Operator) -> None:
    await waiting(mary.store, 3)
    await CallQueue(mary.store).enqueue(flow(number(9)), batch="april")
    done = await CancelBatch(operator=mary, queue="default", batch="march", note="moved").do()
    assert done.documents == ({"batch_id": "march", "cancelled": 3},)
    done = await CancelBatch(operator=mary, queue="default", batch="march").do()
    assert re.fullmatch("batch march was cancelled already, at .* UTC: moved [(]by Mary Tan[)]", done.message)
    found = await CallQueue(mary.store).find(states=[JobState.CANCELLED])
    assert [(job.batch_id, job.reason) for job in found] == [("march", "moved (by Mary Tan)")] * 3
    again = await Resume(operator=mary, queue="default", batch="march").do()
    assert (again.not_done, "enqueue its calls as a new batch" in again.message) == (True, True)
    with pytest.raises(UnknownSubjectError, match="no batch is named"):
        await CancelBatch(operator=mary, queue="default").do()


async def test_a_call_that_may_have_left_is_not_cancelled_and_no_doubt_is_redialled(mary: Operator) -> None:
    job = await CallQueue(mary.store).enqueue(flow(number(5)))
    await CancelCall(operator=mary, call=job.id).do()
    cancelled = await CallQueue(mary.store).get(job.id)
    assert (cancelled.state, cancelled.notes[0].text) == (JobState.CANCELLED, "cancelled by Mary Tan")
    asked = await CancelCall(operator=mary, call=job.id).question()
    again = await CancelCall(operator=mary, call=job.id).do(asked.token)
    assert (again.not_done, "cancelled already, at 20" in again.message) == (False, True)
    assert await CallQueue(mary.store).get(job.id) == cancelled
    _, (doubt,) = await in_doubt(mary.store)
    for act, why in (
        (CancelCall(operator=mary, call=doubt.id), "a call cannot be taken back"),
        (Redial(operator=mary, call=doubt.id, force=True), "while it is in doubt, a person can resolve it"),
    ):
        for ask in (act.question, act.do):
            with pytest.raises(JobError, match=why):
                await ask()
    assert await CallQueue(mary.store).get(doubt.id) == doubt


async def test_the_cancellation_of_a_call_names_the_number_whose_turn_it_is(mary: Operator) -> None:
    job = await CallQueue(mary.store).enqueue(flow(number(5)), further_numbers=[number(6)])
    engine = Engine(mary.store, ScriptedVoice())
    await engine.send()
    await engine.summarise(job, SessionStatus.BUSY)
    assert (
        f"{number(6)} is not called" in (await CancelCall(operator=mary, call=job.id).question()).will_not_be_called[0]
    )


async def test_who_was_reached_is_called_again_by_force_alone(mary: Operator) -> None:
    busy, reached = await ended(mary.store), await ended(mary.store, SessionStatus.COMPLETED)
    again = await Redial(operator=mary, call=busy.id, note="asked for it").do()
    assert (again.documents[0]["state"], again.documents[0]["reason"]) == ("queued", "asked for it (by Mary Tan)")
    assert "the decision was about POST 1" in again.lines[-1]
    unsent = await CallQueue(mary.store).enqueue(flow(number(8)))
    await CancelCall(operator=mary, call=unsent.id).do()
    assert "judged_post" not in (await Redial(operator=mary, call=unsent.id).do()).documents[0], "it was never sent"
    assert (
        "if you confirm that this person, who was reached"
        in (await Redial(operator=mary, call=reached.id).question()).will_be_called[0]
    )
    with pytest.raises(JobError, match="force the redial to call again"):
        await Redial(operator=mary, call=reached.id).do()
    assert (await Redial(operator=mary, call=reached.id, force=True).do()).documents[0]["state"] == "queued"


async def test_only_the_calls_that_were_counted_are_redialled_and_each_once(mary: Operator, clock: ManualClock) -> None:
    jobs = [await ended(mary.store) for _ in range(2)]
    listed = await ended(mary.store, to=number(7))
    await Suppress(operator=mary, numbers=[listed.destination]).do()
    engine = Engine(mary.store, ScriptedVoice())
    await engine.enqueue(number(8), batch="march")
    await CallQueue(mary.store).hold(batch_id="march")
    act = RedialBatch(operator=mary, queue="default", batch="march", outcomes=["busy"])
    asked = await act.question()
    assert asked.title == "Redial 2 calls of batch march?"
    told = " ".join(asked.will_not_be_called)
    assert ("1 call on the suppression list: left out" in told, "batch march is held" in told) == (True, True)
    await CallQueue(mary.store).resume(batch_id="march")
    asked = await act.question()
    clock.advance(timedelta(minutes=1))
    (late,) = await engine.send()
    await engine.summarise(late, SessionStatus.BUSY)
    assert (await act.do(asked.token)).documents[0]["redialled"] == 2
    with pytest.raises(ChangedSinceError):
        await act.do(asked.token)
    states = {job.id: job.state for job in await CallQueue(mary.store).find()}
    assert [states[job.id] for job in jobs] == [JobState.QUEUED] * 2
    assert [states[job.id] for job in (listed, late)] == [JobState.UNREACHED] * 2


@pytest.mark.parametrize(("ours", "theirs", "is_free"), [(140, 0, False), (0, 140, True), (140, None, True)])
async def test_not_placed_is_judged_by_the_clock_of_8x8_where_it_is_known(
    mary: Operator, clock: ManualClock, ours: int, theirs: int | None, is_free: bool
) -> None:
    _, (doubt,) = await in_doubt(mary.store)
    recorded_at = None if theirs is None else clock.now() + timedelta(seconds=theirs)
    clock.advance(timedelta(seconds=ours))
    act = Resolve(operator=mary, call=doubt.id, placed=False, note="not in the portal", recorded_at=recorded_at)
    if is_free:
        assert (await act.do()).documents[0]["state"] == "queued"
        return
    with pytest.raises(JobError, match="8x8 may still place"):
        await act.do()


async def test_numbers_are_put_on_the_list_and_taken_off_all_or_none(mary: Operator) -> None:
    listed = SuppressionList(mary.store)
    for bad in ("no number", "8765 4321"):
        with pytest.raises(PhoneNumberError):
            await Suppress(operator=mary, numbers=["+6587654321", bad]).do()
    assert await listed.scan() == []
    await Suppress(operator=mary, numbers=["8765 4321", "+6587654322"], country="SG", note="by mail").do()
    assert [(each.number, each.reason) for each in await listed.scan()] == [
        ("+6587654321", "by mail (by Mary Tan)"), ("+6587654322", "by mail (by Mary Tan)"),
    ]  # fmt: skip
    off = Unsuppress(operator=mary, numbers=["+6587654321", "+6587654329"])
    assert (await off.question()).title == "Take +6587654321 off the suppression list?"
    done = await off.do()
    assert (done.not_done, done.documents) == (
        True, ({"number": "+6587654321", "removed": True}, {"number": "+6587654329", "removed": False}),
    )  # fmt: skip
    with pytest.raises(ActionRefusedError, match="is not on the suppression list"):
        await off.question()


async def test_every_number_of_a_file_is_imported_and_taken_back_only_as_a_whole(
    mary: Operator, tmp_path: Path
) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text("Name,Phone\nAna,8765 4321\nBen,none\n")
    found = read_number_file(path, country="SG")
    for added in (1, 0):
        done = await ImportNumbers(operator=mary, found=found, note="CRM").do()
        assert done.documents == ({"rows": 2, "added": added, "known": 1 - added, "rejected": 1},)
        assert done.refused[0].startswith("1 of 2 lines is not a number: line 3: 'none' is not one")
    assert [each.reason for each in await SuppressionList(mary.store).scan()] == ["CRM (by Mary Tan), from numbers.csv"]
    back = await TakeBackFile(operator=mary, found=found).do()
    assert (back.not_done, "nothing is taken off" in back.message) == (True, True)
    assert [each.number for each in await SuppressionList(mary.store).scan()] == ["+6587654321"]


# -- who ordered it ----------------------------------------------------------------------------------------------------


async def test_the_newest_orders_of_a_batch_say_who_gave_them_and_how_they_ended(
    mary: Operator, clock: ManualClock
) -> None:
    store, fields = (
        mary.store,
        {"say": "Hello", "window": "any", "source": "+6531234567", "voice_profile": "en-US-JennyNeural"},
    )
    campaign = Campaign.of(
        {**fields, "batch": "march", "rows": [{"destination": number(1)}, {"destination": number(2)}]}
    )
    await campaign.start(CallQueue(store), by=Actor(on=Interface.AIRFLOW, login="DAG d, run r", name="Li"))
    who = Operator(store, CallPolicy(), on=Interface.COMMAND, login="mary")
    clock.advance(timedelta(seconds=1))
    await Hold(operator=who, queue="default", batch="march", note="a wrong date").do()
    with pytest.raises(JobError):
        await Redial(operator=who, call=(await CallQueue(store).find())[0].id).do()
    (batch,) = (await read_batches(store, ["default"])).batches
    assert batch.ordered == (await read_batch(store, "default", "march")).ordered
    hold, start = batch.ordered
    assert (start.who, start.on, start.result) == ("Li (login DAG d, run r)", "Airflow", "2 calls of 2 enqueued")
    assert (hold.by, hold.note, "hold by mary, command: batch march is held" in hold.in_words()) == (
        "mary", "a wrong date", True,
    )  # fmt: skip


async def test_who_is_suppressed_by_any_interface_has_no_waiting_call_and_the_batch_says_who_ordered_it(
    mary: Operator, tmp_path: Path
) -> None:
    await waiting(mary.store, 4)
    path = tmp_path / "numbers.csv"
    path.write_text(f"{number(1)}\n")
    press = Caller(now=mary.store.clock.now(), digits="9", menu="ask", number=number(2), store=mary.store)
    by_login = replace(mary, name=None, login="mtan", on=Interface.API)
    await Suppress(operator=by_login, numbers=[number(0)], note="asked by mail").do()
    await ImportNumbers(operator=mary, found=read_number_file(path)).do()
    await do_not_call_again(press)
    jobs = {job.destination: job for job in await CallQueue(mary.store).find(limit=None)}
    assert [jobs[number(place)].state for place in range(4)] == [JobState.CANCELLED] * 3 + [JobState.QUEUED]
    said = [str(jobs[number(place)].reason) for place in range(3)]
    for text, why in zip(said, ["mtan", "Mary Tan", "pressed 9 in the menu ask"], strict=True):
        assert "on the suppression list" in text
        assert why in text
    entries = await entries_on(mary.store, "default", batch="march")
    assert {(entry.numbers, entry.who, entry.on) for entry in entries if entry.action == "suppress"} == {
        ((number(0),), "mtan", "api"),
        ((number(1),), "Mary Tan", "Python"),
        ((number(2),), "the person called", "menu"),
    }
