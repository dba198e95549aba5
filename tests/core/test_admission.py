"""Admission: a call that no store could keep, or no worker could ever send, is refused with a sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.flows import flow, number
from voiceflow_worker import (
    CallFlowError,
    CallPolicy,
    CallQueue,
    CallRequest,
    InvalidInputError,
    RedialPolicy,
    Store,
    VoiceClient,
    WorkerOptions,
)
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.imports import Staging
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.jobs.admission import PRIORITIES
from voiceflow_worker.model.jobs.policy import PersonLimit
from voiceflow_worker.notify import OutcomeWebhook
from voiceflow_worker.types import HookOptions

pytestmark = pytest.mark.anyio


NAIVE = datetime(2030, 1, 1, 9)  # noqa: DTZ001 - what is refused
LONG_AGO, SOON, LATER = (datetime(2026, 1, 5, hour, tzinfo=UTC) for hour in (1, 12, 18))
MUCH_TOO_LATE = datetime.max.replace(tzinfo=UTC)

REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "a priority above the range": ({"priority": 2**63 - 1}, "larger goes first"),
    "a priority below the range": ({"priority": -(2**63)}, "larger goes first"),
    "a priority with a fraction": ({"priority": 1.5}, "'1.5' is not a priority"),
    "a truth value for a priority": ({"priority": True}, "'True' is not a priority"),
    "a naive not_before": ({"not_before": NAIVE}, "not_before is 2030-01-01T09:00:00, without a time zone"),
    "a naive valid_until": ({"valid_until": NAIVE}, "valid_until is 2030-01-01T09:00:00, without a time zone"),
    "a text for a time": ({"not_before": "2030-01-01T09:00:00Z"}, "which is not a datetime"),
    "a not_before after its validity": ({"not_before": LATER, "valid_until": SOON}, "but not_before is"),
    "a not_before at the end of its validity": ({"not_before": SOON, "valid_until": SOON}, "but not_before is"),
    "a not_before beyond the calendar of stores": ({"not_before": MUCH_TOO_LATE}, "before the year 2200"),
    "an empty unique key": ({"unique_key": ""}, "unique_key is '', which is blank; give a text"),
    "a unique key of spaces": ({"unique_key": " "}, "give a text with visible characters"),
    "a number for a unique key": ({"unique_key": 42}, "unique_key is 42, which is not a text; give a text"),
    "a valid_until beyond it": ({"valid_until": MUCH_TOO_LATE}, "before the year 2200"),
}


@pytest.fixture
def queue(store: Store) -> CallQueue:
    return CallQueue(store, policy=CallPolicy())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 5, 10, tzinfo=UTC))


@pytest.mark.parametrize("what", REFUSED)
async def test_it_is_refused_alone_and_among_others(queue: CallQueue, what: str) -> None:
    given, sentence = REFUSED[what]
    with pytest.raises(CallFlowError, match=sentence):
        await queue.enqueue(flow(), **given)
    good = CallRequest(flow=flow(number(1)), priority=PRIORITIES[-1])
    with pytest.raises(CallFlowError, match=rf"requests\[1\]: .*{sentence}"):
        await queue.enqueue_many([good, CallRequest(flow=flow(number(2)), **given)])
    assert await queue.find() == []


async def test_the_errors_of_several_calls_are_reported_in_their_order(queue: CallQueue) -> None:
    good, late = CallRequest(flow=flow(number(1))), CallRequest(flow=flow(number(2)), valid_until=LONG_AGO)
    blank = CallRequest(flow=flow(number(3)), unique_key=" ")
    with pytest.raises(CallFlowError) as caught:
        await queue.enqueue_many([late, blank, good, blank, late])
    assert [found.message.partition(":")[0] for found in caught.value.findings] == [
        f"requests[{place}]" for place in (0, 1, 3, 4)
    ]
    assert await queue.find() == []


async def test_more_calls_than_one_bulk_write_takes_are_refused_before_anything_is_stored(queue: CallQueue) -> None:
    with pytest.raises(InvalidInputError, match="at most 1000 at a time"):
        await queue.enqueue_many([CallRequest(flow=flow(number(place))) for place in range(1001)])
    assert await queue.find() == []


async def test_a_validity_without_end_is_refused(queue: CallQueue) -> None:
    for valid_for in (timedelta.max, timedelta(days=365 * 1000)):
        with pytest.raises(InvalidInputError, match="valid_for"):
            await queue.enqueue(flow(), valid_for=valid_for)


async def test_a_number_for_a_duration_is_refused_wherever_it_is_given(queue: CallQueue) -> None:
    three: Any = 3
    with pytest.raises(InvalidInputError, match="timeout is '3', which is not a timedelta; give a timedelta, such as"):
        await queue.wait_for_outcome("default.unknown", timeout=three)
    with pytest.raises(InvalidInputError, match="valid_for is '3', which is not a timedelta"):
        await queue.enqueue(flow(), valid_for=three)
    with pytest.raises(InvalidInputError, match="after is '3', which is not a timedelta"):
        RedialPolicy(on=frozenset(), limit=1, after=three)
    for kind in (CallPolicy, HookOptions, WorkerOptions):
        for name in (each.name for each in fields(kind) if isinstance(each.default, timedelta)):
            with pytest.raises(InvalidInputError, match=f"{name} is '3', which is not a timedelta"):
                kind(**{name: three})


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TIMED: dict[str, Callable[[Any], object]] = {
    "connect_timeout": lambda given: VoiceClient("key-1", "acme", connect_timeout=given),
    "read_timeout": lambda given: VoiceClient("key-1", "acme", read_timeout=given),
    "overall_timeout": lambda given: Menu("main", prompt="Press 1.", overall_timeout=given),
    "digit_timeout": lambda given: Menu("main", prompt="Press 1.", digit_timeout=given),
    "span": lambda given: PersonLimit(3, given),
    "deadline": lambda given: OutcomeWebhook("https://example.com/", secret=SECRET, deadline=given),
    "connect_timeout of a webhook": lambda given: OutcomeWebhook(
        "https://example.com/", secret=SECRET, connect_timeout=given
    ),
}


def test_a_limit_of_time_is_a_timedelta_above_0() -> None:
    for name, make in TIMED.items():
        with pytest.raises(
            InvalidInputError, match=f"{name.split(maxsplit=1)[0]} is '3', which is not a timedelta; give a timedelta"
        ):
            make(3)
        for given in (timedelta(), -timedelta(seconds=1)):
            with pytest.raises(InvalidInputError, match=r"above 0|greater than 0|more than 0"):
                make(given)
        make(timedelta(seconds=30))


async def test_naive_times_are_refused_wherever_they_are_given(queue: CallQueue) -> None:
    with pytest.raises(InvalidInputError, match="until is 2030"):
        await queue.hold(until=NAIVE)
    with pytest.raises(InvalidInputError, match="since is 2030"):
        queue.outcomes(since=NAIVE)
    with pytest.raises(InvalidInputError, match="recorded_at is 2030"):
        await queue.resolve("default.unknown", placed=True, note="seen", recorded_at=NAIVE)


async def test_the_ends_of_the_range_are_taken_in_any_zone(queue: CallQueue) -> None:
    plus8 = timedelta(hours=8)
    for priority in (PRIORITIES[0], PRIORITIES[-1]):
        job = await queue.enqueue(flow(number(priority % 7)), priority=priority, not_before=SOON + plus8)
        assert (await queue.get(job.id)).priority == priority


HALF = "a\ud800b"
SENTENCE = r"has half a surrogate pair \(U\+D800\) at character 2, which no store can keep; remove it"


NUL = r"has a NUL character \(U\+0000\) at character 2, which no store can keep"


@pytest.mark.parametrize("field", ["unique_key", "batch_id", "time_zone", "menu"])
@pytest.mark.parametrize(("text", "said"), [("a\0b", NUL), (HALF, SENTENCE)], ids=["NUL", "half"])
async def test_a_call_with_it_is_refused_and_the_sentence_names_the_field_and_the_call(
    queue: CallQueue, field: str, text: str, said: str
) -> None:
    given: dict[str, Any] = {field: text}
    with pytest.raises(CallFlowError, match=f"{field} {said}"):
        await queue.enqueue(flow(), **given)
    good = CallRequest(flow=flow(number(1)))
    with pytest.raises(CallFlowError, match=rf"requests\[1\]: {field} {said}"):
        await queue.enqueue_many([good, CallRequest(flow=flow(number(2)), **given)])
    assert await queue.find() == []


async def test_the_other_calls_of_a_campaign_are_enqueued(queue: CallQueue) -> None:
    calls = [
        CheckedCall.of(CallRequest(flow=flow(number(place)), unique_key=key), at=SOON)
        for place, key in enumerate(("one", HALF, "three"))
    ]
    first, bad, third = await queue.admitter.admit(calls, staging=Staging(token="import", records={}))
    assert [finding.column for finding in bad.findings] == ["unique_key"]
    assert (first.is_new, third.is_new) == (True, True)
    assert [job.unique_key for job in await queue.find()] == ["one", "three"]


ORDERS: Mapping[str, tuple[str, Callable[[CallQueue], Awaitable[object]]]] = {
    "a hold for a reason": ("the reason for queue default", lambda queue: queue.hold(reason=HALF)),
    "a cancelled batch": ("the batch id", lambda queue: queue.cancel_batch(HALF)),
    "a suppression": (
        "the reason of a suppression",
        lambda queue: SuppressionList(queue.store).add(number(1), reason=HALF),
    ),
    "a search by key": ("unique_key", lambda queue: queue.find(unique_key=HALF)),
}


@pytest.mark.parametrize("what", ORDERS)
async def test_an_order_with_it_is_refused_and_changes_nothing(queue: CallQueue, what: str) -> None:
    begins, order = ORDERS[what]
    with pytest.raises(InvalidInputError, match=f"{begins} {SENTENCE}"):
        await order(queue)
    assert list(await gates_of(queue.store, queue.name)) == []
    assert list(await SuppressionList(queue.store).scan()) == []


async def test_a_note_with_it_is_refused_and_the_sentence_names_the_job(engine: Engine) -> None:
    queued = await engine.queue.enqueue(flow(number(1)))
    with pytest.raises(InvalidInputError, match=f"the note for call {queued.id} {SENTENCE}"):
        await engine.queue.cancel(queued.id, reason=HALF)
    await engine.queue.cancel(queued.id)
    with pytest.raises(InvalidInputError, match=f"the note for call {queued.id} {SENTENCE}"):
        await engine.queue.redial(queued.id, note=HALF)
    assert [note.text for note in (await engine.queue.get(queued.id)).notes] == ["cancelled by a person"]


async def test_a_store_refuses_it_in_every_other_text_and_goes_on(store: Store) -> None:
    queue = CallQueue(store)
    with pytest.raises(InvalidInputError, match="which no store can keep"):
        await text_records(store, "x").put({"key": HALF})
    with pytest.raises(InvalidInputError, match="which no store can keep"):
        await queue.get(f"default.{HALF}")
    await text_records(store, "x").put({"key": "value"})
    assert await text_records(store, "x").get(["key"]) == {"key": "value"}
    assert (await queue.enqueue(flow())).state == "queued"
