"""What happens in a call and is told of it: its end, its keys and menus, its legs, and events in any order or lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from tests.sandbox.calling import (
    ACCOUNT,
    ANA,
    BEN,
    GOODBYE,
    HANGUP,
    KEY,
    QUICK,
    SOURCE,
    Json,
    answered,
    ask,
    asking,
    call,
    calling,
    in_turn,
    played,
    receiving,
    reporting,
    say,
)
from voiceflow_worker.model.flows.rules import write_valid_until
from voiceflow_worker.model.reports.events import ActionStatus, Direction
from voiceflow_worker.model.reports.outcome import BODY_CODES
from voiceflow_worker.model.reports.status import SessionStatus, session_error
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.call_events import InboundOrder
from voiceflow_worker.sandbox.orders import EventOrder, Press, Script, SimulatedCaller
from voiceflow_worker.sandbox.outcomes import Outcomes, listen, read_question

pytestmark = pytest.mark.anyio

CONNECTED = answered(say("One moment."), call(BEN, callRecording=True))


# -- how calls end -----------------------------------------------------------------------------------------------------


async def test_a_summary_tells_how_a_call_ended_as_the_service_words_it() -> None:
    began = datetime.now(UTC)
    request = asking(say(), HANGUP, clientRequestId="default.01J.1", clientBatchId="batch-1")
    script = {"ring_seconds": 5, "talk_seconds": 20}
    done = await played(GOODBYE, request, script=script, webhook_secret="Basic c2VjcmV0")
    assert done.receiver.authorizations == ["Basic c2VjcmV0"]
    (payload,), summary = done.receiver.of("SESSION_SUMMARY"), done.receiver.summary
    assert (payload["subAccountId"], payload["clientBatchId"]) == ("acme", "batch-1")
    assert (summary.session_id, summary.client_request_id) == (done.entry["session_id"], "default.01J.1")
    assert (summary.status, summary.last_action, summary.call_count) == (SessionStatus.COMPLETED, "HANGUP", 1)
    leg = summary.call_a
    assert leg is not None
    assert summary.started_at is not None
    assert summary.ended_at is not None
    assert leg.connected_at is not None
    assert abs(summary.started_at - began) < timedelta(seconds=10)
    assert summary.ended_at - summary.started_at == timedelta(seconds=25)
    assert leg.connected_at - summary.started_at == timedelta(seconds=5)
    assert (leg.source, leg.destination, leg.status, leg.seconds) == (SOURCE, ANA, "COMPLETED", 20)
    assert leg.mos is not None
    assert 1 <= leg.mos <= 5
    first = payload["details"]["callA"]
    assert (first["sourceCountryCode"], first["destinationCountryCode"]) == ("SG", "SG")
    assert [done.entry[name] for name in ("outcome", "seconds", "price")] == ["COMPLETED", 25.0, "0.0400"]


async def test_a_scripted_outcome_and_error_come_true() -> None:
    outcomes = {
        "NO_ANSWER": SessionStatus.NO_ANSWER,
        "no answer": SessionStatus.NO_ANSWER,
        "CANCELLED": SessionStatus.CANCELED,
        "COMPLETED_UNSUBSCRIBED": SessionStatus.COMPLETED_UNSUBSCRIBED,
        "UNSUBSCRIBED_CONTACT": SessionStatus.UNSUBSCRIBED_CONTACT,
    }
    scripts: list[Json] = [
        *({"outcome": outcome} for outcome in outcomes),
        {"outcome": "FAILED", "error_code": -2004},
        {"outcome": "ERROR", "error_code": -2010, "error_message": "Trunk full"},
        {"error_code": -2010, "ring_seconds": 2},
        *({"error_code": code} for code in BODY_CODES),  # a code is enough: the call fails, whatever the seed says
    ]
    async with reporting() as (receiver, caller):
        for script in scripts:
            await caller.script(**script, times=1)
            await caller.place()
            await caller.settled()
        entries = await caller.told()
    told = [(each["sessionStatus"], each.get("errorDetails")) for each in receiver.of("SESSION_SUMMARY")]
    assert told == [
        *((status.value, None) for status in outcomes.values()),
        ("FAILED", {"errorMsg": "no coverage for this destination", "errorCode": -2004}),
        ("ERROR", {"errorMsg": "Trunk full", "errorCode": -2010}),
        ("FAILED", {"errorMsg": "the trunk's capacity is exceeded", "errorCode": -2010}),
        *(("ERROR", {"errorMsg": session_error(code).meaning, "errorCode": code}) for code in BODY_CODES),
    ]
    # Who is on the block list of the account is never called, and nobody without a free line, unless a script says so.
    silent = {SessionStatus.UNSUBSCRIBED_CONTACT}
    assert [entry["rang"] for entry in entries] == [
        *(status not in silent for status in outcomes.values()), True, False, True, *[True] * len(BODY_CODES)
    ]  # fmt: skip
    assert all(entry["heard"] == [] for entry in entries[-len(BODY_CODES) :])


async def test_a_call_that_is_dialled_after_its_validity_ends_with_2007_and_never_rings() -> None:
    async with reporting(speed=1.0) as (receiver, caller):
        await caller.script(destination=ANA, dial_seconds=0.3, delay_seconds=0)
        await caller.script(destination=BEN, dial_seconds=0.3, ring_seconds=0, outcome="BUSY", delay_seconds=0)
        for number, seconds in ((ANA, 0.2), (BEN, 60)):
            until = write_valid_until(datetime.now(UTC) + timedelta(seconds=seconds))
            assert (await caller.place(number, validUntil=until)).status_code == 200
        assert [entry["rang"] for entry in await caller.told()] == [False, False]
        await caller.settled()
        assert [entry["rang"] for entry in await caller.told()] == [False, True]
    summaries = receiver.of("SESSION_SUMMARY")
    by_code = {payload.get("errorDetails", {}).get("errorCode"): payload for payload in summaries}
    assert set(by_code) == {-2007, None}
    assert [by_code[-2007][name] for name in ("sessionStatus", "callCount", "details")] == ["ERROR", 0, {}]


async def test_most_calls_are_answered_and_some_end_in_each_other_way() -> None:
    outcomes = Outcomes(0)
    plans = [outcomes.plan(f"65876{place:05d}", []) for place in range(5000)]
    share = {status: count / 50 for status, count in Counter(plan.status for plan in plans).items()}
    assert 65 < share[SessionStatus.COMPLETED] < 80
    assert all(share[status] > 1 for status in (SessionStatus.NO_ANSWER, SessionStatus.BUSY, SessionStatus.FAILED))
    assert all(plan.code is not None for plan in plans if plan.status is SessionStatus.FAILED)
    assert all((plan.talk_seconds > 0) is plan.is_answered for plan in plans)


# -- events that come twice, late, in another order, elsewhere, or not at all ------------------------------------------


async def test_a_summary_can_be_repeated_dropped_or_nameless() -> None:
    async with reporting() as (receiver, caller):
        await caller.script(destination=ANA, duplicates=2)
        await caller.script(destination=BEN, drop=True, times=1)
        await caller.script(destination=BEN, no_client_request_id=True)
        await caller.place(ANA, clientRequestId="a")
        await caller.place(BEN, clientRequestId="b")
        third = await caller.place(BEN, clientRequestId="c", clientBatchId="batch")
        await caller.settled()
    summaries = receiver.of("SESSION_SUMMARY")
    assert Counter(payload.get("clientRequestId") for payload in summaries) == {"a": 3, None: 1}
    (nameless,) = [payload for payload in summaries if "clientRequestId" not in payload]
    assert (nameless["sessionId"], nameless["clientBatchId"]) == (third.json()["sessionId"], "batch")


async def test_a_delivery_is_tried_once_unless_retries_are_ordered_and_a_receiver_that_is_away_is_written_down() -> (
    None
):
    async with reporting(GOODBYE, 503, 503, 503) as (receiver, caller):
        await caller.place(ANA)
        await caller.settled()
        assert len(receiver.events) == 1
        await caller.script(retries=5)
        await caller.place(BEN)
        await caller.settled()
        assert [delivery["status"] for delivery in await caller.told("deliveries")] == [503, 503, 503, 200]
    async with calling(Sandbox(webhook="http://127.0.0.1:9/hook", speed=QUICK)) as caller:
        answer = await caller.place(clientRequestId="a")
        await caller.settled()
        (delivery,) = await caller.told("deliveries")
    assert (delivery["status"], "ConnectError" in delivery["error"]) == (None, True)
    assert (delivery["client_request_id"], delivery["session_id"]) == ("a", answer.json()["sessionId"])


async def test_summaries_go_where_they_were_registered_for() -> None:
    async with reporting({}) as (first, caller), receiving({}) as second:

        async def registered(method: str, path: str = "", **given: object) -> Any:
            answer = await caller.client.request(
                method, f"{caller.url}{ACCOUNT}/webhooks{path}", json=given, headers=KEY
            )
            assert answer.is_success, answer.text
            await caller.place()
            await caller.settled()
            return answer

        listed = await registered("POST", type="VSS", url=second.url, httpAuthHeader="Bearer hook")
        await registered("POST", type="VSS", url=second.url, active=False)
        await registered("DELETE", "/VSS")
    entry = {"type": "VSS", "url": second.url, "enabled": True, "httpAuthHeaderAvailable": True}
    assert entry in listed.json()["webhooks"]
    assert first.events == []
    assert second.authorizations == ["Bearer hook"]


async def test_a_question_may_come_several_times_and_is_answered_once() -> None:
    done = await played(GOODBYE, orders=[{"event": "VCA", "duplicates": 3}])
    questions = done.receiver.questions
    assert (len(questions), done.receiver.summary.status) == (4, SessionStatus.COMPLETED)
    assert all(question == questions[0] for question in questions)
    asked = [entry for entry in done.delivered if entry["event_type"] == "CALL_ACTION"]
    assert (len(asked), len({entry["answer"] for entry in asked})) == (4, 1)
    assert {entry["event_id"] for entry in asked} == {questions[0]["eventId"]}
    assert all(entry["seconds"] > 0 for entry in done.delivered)


async def test_the_summary_may_come_before_the_last_questions_duplicate() -> None:
    orders: list[Json] = [{"event": "VCA", "times": 1}, {"event": "VCA", "duplicates": 1, "duplicate_after": "VSS"}]
    receiver = (await played(in_turn(answered(ask(), place="here"), GOODBYE, GOODBYE), orders=orders)).receiver
    assert receiver.order == ["CALL_ACTION", "CALL_ACTION", "SESSION_SUMMARY", "CALL_ACTION"]
    first, second, late = receiver.questions
    assert late == second != first


async def test_a_question_that_is_lost_or_fails_ends_the_session_unless_it_is_asked_again_by_order() -> None:
    cases: list[tuple[Any, Json, Json, int, SessionStatus]] = [
        (GOODBYE, {"event": "VCA", "drop": True}, {"answer_within": timedelta(seconds=30)}, 0, SessionStatus.ERROR),
        (in_turn(503, 503, GOODBYE), {"event": "VCA", "retries": 2}, {}, 3, SessionStatus.COMPLETED),
        (in_turn(503, GOODBYE), {"event": "VSS"}, {"webhook_retries": 3}, 1, SessionStatus.ERROR),
    ]
    for replies, order, more, asked, status in cases:
        receiver = (await played(replies, orders=[order], **more)).receiver
        assert (len(receiver.questions), receiver.summary.status) == (asked, status)
        assert all(question == receiver.questions[0] for question in receiver.questions)
        assert receiver.summary.error_code == (-2003 if status is SessionStatus.ERROR else None)


async def test_summaries_and_states_take_orders_too() -> None:
    orders: list[Json] = [
        {"event": "VSS", "duplicates": 2},
        {"event": "VCS", "duplicates": 1, "times": 1},
        {"event": "VCS", "drop": True, "times": 1},
        {"event": "VCS", "delay_seconds": 4000},
    ]
    receiver = (await played(GOODBYE, orders=orders, call_statuses=True)).receiver
    assert (len(receiver.of("SESSION_SUMMARY")), receiver.order[-1]) == (3, "CALL_STATUS")
    states = [payload["callStatus"] for payload in receiver.of("CALL_STATUS")]
    assert states == ["CALL_INITIATED", "CALL_INITIATED", "CALL_DISCONNECTED"]


# -- menus -------------------------------------------------------------------------------------------------------------


async def test_the_keys_that_were_pressed_are_asked_about_as_the_service_words_it() -> None:
    request = asking(say("Hello."), ask("Press 1."), clientRequestId="default.01J.1")
    done = await played(GOODBYE, request)
    (question,), summary = done.receiver.read("CALL_ACTION"), done.receiver.summary
    (payload,) = done.receiver.questions
    assert (question.session_id, payload["subAccountId"]) == (done.entry["session_id"], "acme")
    assert (question.source, question.destination, question.dtmf) == (SOURCE, ANA, "1")
    assert (question.call_status, question.direction) == (ActionStatus.ACTION_COMPLETED, Direction.OUTBOUND)
    assert (payload["callType"], question.sip_code, question.client_action_id) == ("PSTN", 200, None)
    assert (bool(question.event_id), "clientRequestId" in payload, payload["eventData"]) == (True, False, {"dtmf": "1"})
    assert (summary.status, summary.last_action, summary.call_count) == (SessionStatus.COMPLETED, "HANGUP", 1)
    leg = summary.call_a
    assert leg is not None
    assert (leg.call_id, leg.status) == (question.call_id, "COMPLETED")
    times: list[Any] = [summary.started_at, leg.connected_at, question.timestamp, summary.ended_at]
    assert times == sorted(set(times))
    assert (done.entry["heard"], done.entry["pressed"]) == (["Hello.", "Press 1.", "Goodbye."], ["1"])


async def test_the_last_client_action_id_comes_back() -> None:
    levels = [(f"Level {place}?", f"level {place}") for place in (2, 3)]
    replies = in_turn(*(answered(ask(text), place=place) for text, place in levels), answered(ask("Still?")), GOODBYE)
    script = {"keys": ["1", "2", None, "4"]}
    done = await played(replies, asking(destination=ANA.removeprefix("+")), script=script)
    questions = done.receiver.questions
    assert [(event.get("clientActionId"), event["eventData"]["dtmf"]) for event in questions] == [
        (None, "1"), ("level 2", "2"), ("level 3", None), ("level 3", "4")
    ]  # fmt: skip
    assert (questions[0]["destination"], len({event["eventId"] for event in questions})) == (ANA, 4)
    assert done.entry["pressed"] == script["keys"]
    assert done.entry["heard"] == ["Press a key.", "Level 2?", "Level 3?", "Still?", "Goodbye."]


async def test_a_question_is_repeated_until_it_has_enough_digits_or_its_tries_are_over_or_the_person_hangs_up() -> None:
    said = ["Your code?", "Too short."]
    tries: list[tuple[int, Any, list[str], str | None]] = [
        (3, [("1", None, "1234")], [*said * 2, "Your code?", "Thank you.", "Goodbye."], "1234"),
        (2, ["123"], [*said * 2, "Goodbye."], None),
        (1, ["hangup"], ["Your code?"], None),
    ]
    for most, keys, heard, dtmf in tries:
        messages = {"failureMessage": "Too short.", "successMessage": "Thank you."}
        question = ask("Your code?", minDigits=4, maxDigits=4, noOfTries=most, **messages)
        done = await played(GOODBYE, asking(question), script={"keys": keys})
        hung_up = keys == ["hangup"]
        assert [event["eventData"] for event in done.receiver.questions] == ([] if hung_up else [{"dtmf": dtmf}])
        assert (done.entry["heard"], done.entry["pressed"]) == (heard, [] if hung_up else [dtmf])
        assert done.receiver.summary.last_action == ("SAY_AND_CAPTURE" if hung_up else "HANGUP")


async def test_an_answer_that_cannot_be_run_ends_the_session() -> None:
    replies: list[tuple[Any, int, str]] = [
        (503, -2003, "HTTP status 503"),
        (b"<html>", -2003, "not JSON"),
        (answered(), -2003, "no actions"),
        (answered({"action": "dance"}), -2003, "$.callflow[0].action"),
        (answered({"action": "makeCall", "params": {"source": BEN, "destination": ANA}}), -2008, ""),
    ]
    for reply, code, told in replies:
        done = await played(in_turn(reply), numbers=[SOURCE])
        (summary,) = done.receiver.of("SESSION_SUMMARY")
        assert summary["sessionStatus"] == done.entry["outcome"] == "ERROR"
        assert (summary["errorDetails"]["errorCode"], told in summary["errorDetails"]["errorMsg"]) == (code, True)
        assert (summary["details"]["callA"]["callStatus"], done.entry["heard"]) == ("COMPLETED", ["Press a key."])


async def test_no_answer_within_the_limit_ends_the_session_and_a_reset_ends_it_without_a_word() -> None:
    for is_reset in (False, True):
        async with reporting(answer_within=timedelta(seconds=60 if is_reset else 0.2)) as (receiver, caller):
            receiver.holds = asyncio.Event()
            caller.sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED, keys=["1"]))
            await caller.post(asking())
            with anyio.fail_after(30):
                await receiver.asked.wait()
            if is_reset:
                await caller.order("reset", {})
            await caller.settled()
            assert len(await caller.told()) == (not is_reset)
            receiver.holds.set()
        assert receiver.order == (["CALL_ACTION"] if is_reset else ["CALL_ACTION", "SESSION_SUMMARY"])
        if not is_reset:
            (summary,) = receiver.of("SESSION_SUMMARY")
            assert summary["errorDetails"]["errorCode"] == -2003
            assert "got no answer" in summary["errorDetails"]["errorMsg"]


async def pressed_by(seed: int, calls: int) -> list[Any]:
    """What people press who are asked again until they press a 1."""

    def winding(payload: Json) -> Json:
        return GOODBYE if payload["eventData"]["dtmf"] == "1" else answered(ask("Again?"), place="again")

    async with reporting(winding, seed=seed) as (_, caller):
        async with anyio.create_task_group() as tasks:
            for place in range(calls):
                tasks.start_soon(caller.post, asking(destination=f"+6587{place:06d}"))
        await caller.settled()
        entries = await caller.told()
    return sorted((entry["destination"], entry["outcome"], entry["pressed"], entry["heard"]) for entry in entries)


async def test_the_same_seed_presses_the_same_keys() -> None:
    first, again, other = [await pressed_by(seed, 8) for seed in (5, 5, 6)]
    assert first == again
    assert first != other
    assert any(len(pressed) > 2 for _, _, pressed, _ in first)


# -- keys --------------------------------------------------------------------------------------------------------------


FOUR = {"minDigits": 4, "maxDigits": 4, "digitTimeout": 3000, "overallTimeout": 10000}
ONE = {"maxDigits": 1, "digitTimeout": 5000, "overallTimeout": 10000}
TAKEN: list[tuple[str, Mapping[str, object], float, str | None]] = [
    ("1", {"maxDigits": 1}, 1.0, "1"),
    ("1234", FOUR, 1.0, "1234"),
    ("123456", FOUR, 1.0, "1234"),
    ("123", FOUR, 1.0, None),
    ("123#", FOUR, 1.0, None),
    ("12#", {**FOUR, "minDigits": 2}, 1.0, "12"),
    ("12#4", {**FOUR, "completeOnHash": False}, 1.0, "12#4"),
    ("12", {"minDigits": 2, "maxDigits": None}, 1.0, "12"),
    ("*1", {}, 1.0, "*1"),
    ("#", {}, 1.0, None),
    ("", {}, 1.0, None),
    ("", {"minDigits": 0, "maxDigits": 4}, 1.0, None),
    ("1", ONE, 4.5, "1"),
    ("1", ONE, 5.5, None),  # a key that comes too late
]


def test_the_digits_that_the_rules_take_are_heard() -> None:
    for digits, rules, after, expected in TAKEN:
        assert listen(read_question(rules), Press(digits, after)).digits == expected, (digits, rules, after)


def test_without_a_script_people_press_any_digit_or_nothing_and_hang_up_when_they_are_asked_without_end() -> None:
    firsts = Counter(SimulatedCaller(Random(call), None).answer(fewest=1)[0].digits for call in range(2000))
    assert set(firsts) == {"", *"123456789"}
    assert firsts["1"] > firsts["9"]
    fours = {len(SimulatedCaller(Random(call), None).answer(fewest=4)[0].digits) for call in range(200)}
    assert fours == {0, 4}
    for keys in (None, ["1"] * 40):
        caller = SimulatedCaller(Random(0), keys)
        answers = [caller.answer(fewest=1)[0] for _ in range(100)]
        assert answers[99].hangs_up
        assert not any(press.hangs_up for press in answers[: 25 if keys is None else 65])


def test_keys_that_no_phone_has_and_orders_for_events_that_make_no_sense_are_refused() -> None:
    called = {"source": ANA, "destination": SOURCE}
    wrong: list[Any] = [["1x"], [""], [["1", "y"]], [[]], [{"keys": "1", "before": 2}], [{"after": -1}], [7]]
    refused = [
        (order, {**more, "keys": keys}) for keys in wrong for order, more in ((Script, {}), (InboundOrder, called))
    ]
    late = {"event": "VCA", "duplicate_after": "VCS"}
    events = ({"event": "VXX"}, {"duplicates": 1}, late, {"event": "VCA", "delay_seconds": -1})
    for order, given in [*refused, *((EventOrder, each) for each in events)]:
        with pytest.raises(ValidationError):
            order.model_validate(given)


# -- a second party, and calls that come in ----------------------------------------------------------------------------


async def test_an_answer_connects_a_second_party_whose_states_and_recording_are_told() -> None:
    done = await played(CONNECTED, script={"bridge_seconds": 42}, call_statuses=True)
    summary = done.receiver.summary
    assert (summary.status, summary.last_action, summary.call_count) == (SessionStatus.COMPLETED, "MAKE_CALL", 2)
    first, second = summary.legs
    assert (first.destination, second.source, second.destination, second.seconds) == (ANA, SOURCE, BEN, 42)
    assert first.call_id != second.call_id
    times: list[Any] = [first.connected_at, second.initiated_at, second.connected_at, summary.ended_at]
    assert times == sorted(set(times))
    assert first.disconnected_at == second.disconnected_at == summary.ended_at
    assert (done.entry["bridged_to"], done.entry["heard"]) == (BEN, ["Press a key.", "One moment."])

    told = sorted(done.receiver.read("CALL_STATUS"), key=lambda event: str(event.timestamp))
    for leg in (first, second):
        states = [
            event.call_status for event in told if (event.destination, event.call_id) == (leg.destination, leg.call_id)
        ]
        assert states == ["CALL_INITIATED", "CALL_CONNECTED", "CALL_DISCONNECTED"]
    assert len({event.event_id for event in told}) == len(told) == 6

    (ready,) = done.receiver.read("CALL_RECORDING_STATUS")
    assert (ready.session_id, ready.status) == (done.entry["session_id"], "UPLOAD_COMPLETED")
    assert ready.duration == timedelta(seconds=42)
    (recording,) = done.recordings
    assert [recording[name] for name in ("recordingId", "externalFileUrl", "duration")] == [
        ready.recording_id, ready.file_path, 42
    ]  # fmt: skip


async def test_a_second_party_that_is_not_reached_leaves_the_caller_with_the_rest_of_the_flow() -> None:
    reply = answered(call(BEN), say("Nobody is here. Goodbye."), HANGUP)
    done = await played(reply, script={"bridge_outcome": "NO_ANSWER"})
    summary = done.receiver.summary
    first, second = summary.legs
    assert (summary.status, summary.call_count, first.status) == (SessionStatus.NO_ANSWER, 2, "COMPLETED")
    assert (second.status, second.connected_at, second.mos) == ("NO_ANSWER", None, None)
    assert (done.entry["bridged_to"], done.entry["heard"]) == (None, ["Press a key.", "Nobody is here. Goodbye."])


async def test_a_request_may_call_two_parties() -> None:
    done = await played(GOODBYE, asking(call(BEN), say("You are connected.")), script={"talk_seconds": 25})
    first, second = done.receiver.summary.legs
    assert (first.seconds or 0) > (second.seconds or 0) > 25
    assert (done.receiver.questions, done.entry["bridged_to"], done.entry["heard"]) == ([], BEN, ["You are connected."])
    one, other = done.entry["rings"]
    assert (one["destination"], other["destination"]) == (ANA, BEN)
    assert one["rang_at"] < other["rang_at"] < other["ended_at"] <= one["ended_at"]


async def test_a_call_that_comes_in_is_asked_about_before_anything_is_said() -> None:
    async with reporting(in_turn(answered(ask("Press 1."), place="main"), GOODBYE)) as (receiver, caller):
        ordered = await caller.order("inbound", {"source": ANA, "destination": SOURCE, "keys": ["1"]})
        await caller.settled()
        (entry,) = await caller.told("inbound")
        assert await caller.told() == []
        await caller.order("reset", {})
        assert await caller.told("inbound") == []
    first, second = receiver.read("CALL_ACTION")
    assert (first.call_status, first.direction) == (ActionStatus.CALL_RECEIVED, Direction.INBOUND)
    assert (first.source, first.destination, first.dtmf, first.client_action_id) == (ANA, SOURCE, None, None)
    assert (second.call_status, second.direction) == (ActionStatus.ACTION_COMPLETED, Direction.INBOUND)
    assert (second.dtmf, second.client_action_id, second.call_id) == ("1", "main", first.call_id)
    assert ordered == {"taken": 1, "session_ids": [first.session_id]}
    summary = receiver.summary
    assert (summary.session_id, summary.status, summary.client_request_id) == (
        first.session_id, SessionStatus.COMPLETED, None
    )  # fmt: skip
    assert summary.call_a is not None
    assert summary.call_a.source == ANA
    expected = {
        "source": ANA, "destination": SOURCE, "session_id": first.session_id, "outcome": "COMPLETED",
        "heard": ["Press 1.", "Goodbye."], "pressed": ["1"],
    }  # fmt: skip
    assert {name: entry[name] for name in expected} == expected


async def test_a_call_to_nobody_is_refused_and_none_of_the_order_is_taken() -> None:
    async with reporting(numbers=[SOURCE]) as (receiver, caller):
        orders = [{"source": ANA, "destination": SOURCE}, {"source": ANA, "destination": BEN}]
        refused = await caller.order("inbound", orders, status=422)
        assert refused == {"error": f"{BEN} is not one of the account's numbers"}
        await caller.order("inbound", {"source": "12", "destination": ANA}, status=422)
        assert await caller.told("inbound") == []
    assert receiver.events == []
