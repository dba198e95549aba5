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
from structlog.testing import capture_logs

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
from voiceflow_worker.model.reports.events import ActionStatus, Direction
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders import KeyPress, Script, SimulatedCaller
from voiceflow_worker.sandbox.outcomes import Outcomes, listen, read_question

pytestmark = pytest.mark.anyio

CONNECTED = answered(say("One moment."), call(BEN))


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
    assert [done.entry[name] for name in ("outcome", "seconds")] == ["COMPLETED", 25.0]


async def test_a_scripted_outcome_and_error_come_true() -> None:
    outcomes = list(SessionStatus)
    async with reporting() as (receiver, caller):
        for outcome in outcomes:
            await caller.script(outcome=outcome, times=1)
            await caller.place()
            await caller.settled()
        entries = await caller.told()
    assert [each["sessionStatus"] for each in receiver.of("SESSION_SUMMARY")] == outcomes
    # Who is on the block list of the account is never called.
    assert [entry["rang"] for entry in entries] == [each != SessionStatus.UNSUBSCRIBED_CONTACT for each in outcomes]


async def test_most_calls_are_answered_and_some_end_in_each_other_way() -> None:
    outcomes = Outcomes(0)
    plans = [outcomes.plan(f"65876{place:05d}", []) for place in range(5000)]
    share = {status: count / 50 for status, count in Counter(plan.status for plan in plans).items()}
    assert 65 < share[SessionStatus.COMPLETED] < 80
    assert all(share[status] > 1 for status in (SessionStatus.NO_ANSWER, SessionStatus.BUSY, SessionStatus.FAILED))
    assert all(plan.code is not None for plan in plans if plan.status is SessionStatus.FAILED)
    assert all((plan.talk_seconds > 0) is plan.is_answered for plan in plans)


# -- events that come twice, late, in another order, elsewhere, or not at all ------------------------------------------


async def test_a_summary_can_be_repeated_or_dropped() -> None:
    async with reporting() as (receiver, caller):
        await caller.script(destination=ANA, duplicates=2)
        await caller.script(destination=BEN, drop=True, times=1)
        await caller.place(ANA, clientRequestId="a")
        await caller.place(BEN, clientRequestId="b")
        await caller.settled()
    summaries = receiver.of("SESSION_SUMMARY")
    assert [payload["clientRequestId"] for payload in summaries] == ["a"] * 3


async def test_a_delivery_is_tried_again_if_that_is_set_and_a_receiver_that_is_away_is_logged() -> None:
    for retries, sent in ((0, 1), (5, 4)):
        async with reporting(GOODBYE, 503, 503, 503, webhook_retries=retries) as (receiver, caller):
            await caller.place(ANA)
            await caller.settled()
            assert len(receiver.events) == sent
    with capture_logs() as logs:
        async with calling(Sandbox(webhook="http://127.0.0.1:9/hook", speed=QUICK)) as caller:
            answer = await caller.place(clientRequestId="a")
            await caller.settled()
    (told,) = [each for each in logs if each["event"] == "an event was not taken"]
    assert (told["session"], "ConnectError" in told["error"]) == (answer.json()["sessionId"], True)


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
        (3, ["1234"], ["Your code?", "Thank you.", "Goodbye."], "1234"),
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
        press = KeyPress(keys=digits or None, after=after)
        assert listen(read_question(rules), press).digits == expected, (digits, rules, after)


def test_without_a_script_people_press_any_digit_or_nothing_and_hang_up_when_they_are_asked_without_end() -> None:
    firsts = Counter(SimulatedCaller(Random(call), None).answer(fewest=1).keys for call in range(2000))
    assert set(firsts) == {None, *"123456789"}
    fours = {len(SimulatedCaller(Random(call), None).answer(fewest=4).keys or "") for call in range(200)}
    assert fours == {0, 4}
    for keys in (None, ["1"] * 40):
        caller = SimulatedCaller(Random(0), keys)
        answers = [caller.answer(fewest=1) for _ in range(100)]
        assert answers[99].hangs_up
        assert not any(press.hangs_up for press in answers[: 25 if keys is None else 65])


def test_keys_that_no_phone_has_are_refused() -> None:
    wrong: list[Any] = [["1x"], [""], [["1"]], [{"keys": "1", "before": 2}], [{"keys": "y"}], [{"after": -1}], [7]]
    for keys in wrong:
        with pytest.raises(ValidationError):
            Script.model_validate({"keys": keys})


# -- a second party ----------------------------------------------------------------------------------------------------


async def test_an_answer_connects_a_second_party() -> None:
    done = await played(CONNECTED)
    summary = done.receiver.summary
    assert (summary.status, summary.last_action, summary.call_count) == (SessionStatus.COMPLETED, "MAKE_CALL", 2)
    first, second = summary.legs
    assert (first.destination, second.source, second.destination) == (ANA, SOURCE, BEN)
    assert 20 <= (second.seconds or 0) <= 90
    assert first.call_id != second.call_id
    times: list[Any] = [first.connected_at, second.initiated_at, second.connected_at, summary.ended_at]
    assert times == sorted(set(times))
    assert first.disconnected_at == second.disconnected_at == summary.ended_at
    assert (done.entry["bridged_to"], done.entry["heard"]) == (BEN, ["Press a key.", "One moment."])


async def test_a_second_party_that_is_not_reached_leaves_the_caller_with_the_rest_of_the_flow() -> None:
    reply = answered(call(BEN), say("Nobody is here. Goodbye."), HANGUP)
    done = await played(reply, script={"bridge_outcome": "NO_ANSWER"})
    summary = done.receiver.summary
    first, second = summary.legs
    assert (summary.status, summary.call_count, first.status) == (SessionStatus.NO_ANSWER, 2, "COMPLETED")
    assert (second.status, second.connected_at, second.mos) == ("NO_ANSWER", None, None)
    assert (done.entry["bridged_to"], done.entry["heard"]) == (None, ["Press a key.", "Nobody is here. Goodbye."])


async def test_a_request_may_call_two_parties() -> None:
    done = await played(GOODBYE, asking(call(BEN), say("You are connected.")))
    first, second = done.receiver.summary.legs
    assert (first.seconds or 0) > (second.seconds or 0) >= 20
    assert (done.receiver.questions, done.entry["bridged_to"], done.entry["heard"]) == ([], BEN, ["You are connected."])
    one, other = done.entry["rings"]
    assert (one["destination"], other["destination"]) == (ANA, BEN)
    assert one["rang_at"] < other["rang_at"] < other["ended_at"] <= one["ended_at"]
