"""Every public argument is checked when it is passed: what no store could keep, or no worker could send, is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from tests.contract.samples import ManualClock, full_job
from tests.contract.suite import sample_job
from tests.support.engine import Engine
from tests.support.flows import SOURCE, flow, number
from voiceflow_worker import (
    CallFlowError,
    CallPolicy,
    CallQueue,
    CallRequest,
    CallWindow,
    Campaign,
    CampaignOptions,
    FlowTemplate,
    InvalidInputError,
    Job,
    JobState,
    Menu,
    RedialPolicy,
    Store,
    SuppressionList,
    VoiceClient,
    enqueue_rows,
)
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.backends.record import head_of, job_from, record_of
from voiceflow_worker.core.admission import CallOptions, CheckedCall
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.base.reading import count_states, gates_of, get_jobs
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports.reads import ById, ByKey, Listing, OfNumber, Read, Waiting
from voiceflow_worker.core.ports.store import Same
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.admission import PRIORITIES
from voiceflow_worker.model.jobs.policy import PersonLimit
from voiceflow_worker.model.text.arguments import LONGEST_KEY
from voiceflow_worker.notify import OutcomeWebhook

pytestmark = pytest.mark.anyio


def anything(*_: object, **__: object) -> str:
    return "x"


class Integral:
    """A whole number of another package, such as numpy."""

    def __index__(self) -> int:
        return 5

    __int__ = __index__

    def __str__(self) -> str:
        return "5"


NAIVE = datetime(2030, 1, 1, 9)  # noqa: DTZ001 - what is refused
LATER = datetime(2030, 1, 1, 9, tzinfo=UTC)
POLICY = RedialPolicy(on=frozenset(), limit=0, after=timedelta())


class OtherDatetime(datetime):
    """A datetime as other libraries make them, with a calculation of its own."""

    def __sub__(self, other: Any) -> Any:
        raise AssertionError(f"{other} was taken from it")

    astimezone: Any = __sub__
    utcoffset: Any = __sub__


VALUES: Sequence[Any] = (
    None, 5, -1, 1.5, math.nan, True, "", "x", "busy", "a\0b", "a\ud800", "x" * 2800, "9" * 40, b"x", [], [5], ["x"],
    (5,), {}, {"a": 5}, {5: 5}, {"x"}, object(), anything, NAIVE, LATER, datetime.max.replace(tzinfo=UTC),
    timedelta.max, timedelta.min, timedelta(seconds=-1), timedelta(days=1), 10**30, Path("x"), JobState.QUEUED, POLICY,
    CallPolicy(), flow(), CallWindow.parse("09:00-10:00"), Decimal(5), Fraction(1, 2), Integral(),
)  # fmt: skip
IN_RECORD = [
    each.name for each in structs.fields(Job) if f'"{each.name}":' in record_of(full_job()) and each.name != "window"
]


@pytest.mark.parametrize("name", IN_RECORD)
def test_no_record_of_a_call_is_written_that_cannot_be_read_again(name: str) -> None:
    job = sample_job()
    for value in VALUES:
        with suppress(InvalidInputError):
            record = record_of(replace(job, **{name: value}))
            assert job_from(head_of(job), record, job.body).id == job.id


@pytest.mark.parametrize(("name", "field"), [("login", "by"), ("name", "name"), ("on", "on")])
async def test_an_order_by_somebody_who_cannot_be_read_again_is_not_carried_out(
    any_store: Store, name: str, field: str
) -> None:
    job = await CallQueue(any_store).enqueue(flow())
    with pytest.raises(InvalidInputError, match=rf"cannot be stored.* `\$\.{field}`"):
        await CallQueue(any_store, by=Actor(**cast("Any", {name: 5}))).cancel(job.id)
    assert (await CallQueue(any_store).get(job.id)).state is JobState.QUEUED


async def stored(store: Store) -> int:
    """How many calls were stored; each of them can be read."""
    counted = sum((await count_states(store, "default")).values())
    assert len(await CallQueue(store).find(limit=None)) == counted
    return counted


@pytest.mark.parametrize("name", ["flow", *CallOptions.__annotations__])
async def test_no_field_of_a_call_is_stored_that_cannot_be_read_again(any_store: Store, name: str) -> None:
    queue = CallQueue(any_store)
    for place, value in enumerate(VALUES):
        options = {"flow": flow(number(place)), "unique_key": f"k{place}", name: value}
        if value in (POLICY, None):
            continue
        for way in (queue.enqueue, lambda **given: queue.enqueue_many([CallRequest(**given)])):
            with suppress(Exception):
                await way(**options)
    assert await stored(any_store) < len(VALUES)


def test_a_request_says_again_what_was_said_of_another() -> None:
    request = CallRequest(flow(number(1)), unique_key="a", priority=2)
    other = CallRequest(flow(number(2)), **request.options)
    assert other.options == {"unique_key": "a", "priority": 2}


START = CampaignOptions(
    template=FlowTemplate.speaking("Hello."), source=SOURCE, voice_profile="v", batch_id="b", window="any"
)


async def test_an_option_that_there_is_not_is_no_option_that_is_left_out(store: Store) -> None:
    queue, wrong = CallQueue(store), cast("Any", {"unique_kye": "k"})
    for order in (
        lambda: queue.enqueue(flow(), **wrong),
        lambda: queue.enqueue_many([CallRequest(flow(), **wrong)]),
        lambda: enqueue_rows(queue, [{"destination": number(1)}], START, **wrong),
        lambda: Campaign(options=START, rows=[{"destination": number(1)}]).start(queue, **wrong),
    ):
        with pytest.raises(TypeError, match="unique_kye"):
            await order()
    assert await stored(store) == 0


HALF = "a\ud800b"
SENTENCE = r"has half a surrogate pair \(U\+D800\) at character 2, which no store can keep; remove it"
NUL = r"has a NUL character \(U\+0000\) at character 2, which no store can keep"
LONG_AGO, SOON, TONIGHT = (datetime(2026, 1, 5, hour, tzinfo=UTC) for hour in (1, 12, 18))
MUCH_TOO_LATE = datetime.max.replace(tzinfo=UTC)

REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "a priority above the range": ({"priority": 2**63 - 1}, "larger goes first"),
    "a priority below the range": ({"priority": -(2**63)}, "larger goes first"),
    "a priority with a fraction": ({"priority": 1.5}, "1.5 is not a priority"),
    "a truth value for a priority": ({"priority": True}, "True is not a priority"),
    "a naive not_before": ({"not_before": NAIVE}, "not_before is 2030-01-01T09:00:00, without a time zone"),
    "a naive valid_until": ({"valid_until": NAIVE}, "valid_until is 2030-01-01T09:00:00, without a time zone"),
    "a not_before after its validity": ({"not_before": TONIGHT, "valid_until": SOON}, "but not_before is"),
    "a not_before at the end of its validity": ({"not_before": SOON, "valid_until": SOON}, "but not_before is"),
    "a not_before beyond the calendar of stores": ({"not_before": MUCH_TOO_LATE}, "before the year 2200"),
    "an empty unique key": ({"unique_key": ""}, "unique_key is '', which is blank; give a text"),
    "a unique key of spaces": ({"unique_key": " "}, "give a text with visible characters"),
    "a valid_until beyond it": ({"valid_until": MUCH_TOO_LATE}, "before the year 2200"),
    **{
        f"{what} in {field}": ({field.removesuffix("_id"): text}, f"{field} {said}")
        for what, text, said in (("NUL", "a\0b", NUL), ("half a pair", HALF, SENTENCE))
        for field in ("unique_key", "batch_id", "time_zone", "menu")
    },
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


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TIMED: dict[str, Callable[[Any], object]] = {
    "connect_timeout": lambda given: VoiceClient("key-1", "acme", connect_timeout=given),
    "read_timeout": lambda given: VoiceClient("key-1", "acme", read_timeout=given),
    "overall_timeout": lambda given: Menu("main", prompt="Press 1.", overall_timeout=given),
    "span": lambda given: PersonLimit(3, given),
    "deadline": lambda given: OutcomeWebhook("https://example.com/", secret=SECRET, deadline=given),
    "connect_timeout of a webhook": lambda given: OutcomeWebhook(
        "https://example.com/", secret=SECRET, connect_timeout=given
    ),
}


def test_a_limit_of_time_is_a_timedelta_above_0() -> None:
    for make in TIMED.values():
        for given in (timedelta(), -timedelta(seconds=1)):
            with pytest.raises(InvalidInputError, match=r"above 0|greater than 0|more than 0"):
                make(given)
        make(timedelta(seconds=30))


async def test_the_ends_of_the_range_are_taken_in_any_zone(queue: CallQueue) -> None:
    plus8 = timedelta(hours=8)
    for priority in (PRIORITIES[0], PRIORITIES[-1]):
        job = await queue.enqueue(flow(number(priority % 7)), priority=priority, not_before=SOON + plus8)
        assert (await queue.get(job.id)).priority == priority


async def test_the_other_calls_of_a_campaign_are_enqueued(queue: CallQueue) -> None:
    calls = [
        CheckedCall.of(CallRequest(flow=flow(number(place)), unique_key=key), at=SOON)
        for place, key in enumerate(("one", HALF, "three"))
    ]
    first, bad, third = await queue.admitter.admit(calls, condition=Same("import", "default", None, "x"), token="x")
    assert [finding.column for finding in bad.findings] == ["unique_key"]
    assert (first.is_new, third.is_new) == (True, True)
    assert [job.unique_key for job in await queue.find()] == ["one", "three"]


LONGEST = "\U0001f4de" * LONGEST_KEY
Order = Callable[[CallQueue], Any]


ORDERS: Sequence[tuple[str, Order]] = (
    ("at most 1000 at a time", lambda queue: queue.enqueue_many([CallRequest(flow()) for _ in range(1001)])),
    ("valid_for", lambda queue: queue.enqueue(flow(), valid_for=timedelta.max)),
    ("valid_for", lambda queue: queue.enqueue(flow(), valid_for=timedelta(days=365 * 1000))),
    ("until is 2030", lambda queue: queue.hold(until=NAIVE)),
    ("since is 2030", lambda queue: queue.outcomes(since=NAIVE)),
    ("recorded_at is 2030", lambda queue: queue.resolve("default.x", placed=True, note="seen", recorded_at=NAIVE)),
    # A key that no index can hold.
    ("characters", lambda queue: queue.enqueue(flow(), unique_key=LONGEST + "x")),
    ("characters", lambda queue: queue.enqueue(flow(), batch=LONGEST)),
    ("has no calls", lambda queue: queue.hold(batch_id=LONGEST + "x")),
    ("characters", lambda queue: queue.resume(batch_id=LONGEST + "x")),
    ("characters", lambda queue: queue.cancel_batch(LONGEST + "x")),
    # What no store can keep.
    (f"the reason for queue default {SENTENCE}", lambda queue: queue.hold(reason=HALF)),
    (f"the batch id {SENTENCE}", lambda queue: queue.cancel_batch(HALF)),
    (f"the reason of a suppression {SENTENCE}",
     lambda queue: SuppressionList(queue.store).add(number(1), reason=HALF)),
    (f"unique_key {SENTENCE}", lambda queue: queue.find(unique_key=HALF)),
    ("which no store can keep", lambda queue: queue.get(f"default.{HALF}")),
    ("which no store can keep", lambda queue: text_records(queue.store, "x").put({"key": HALF})),
)  # fmt: skip


async def test_a_datetime_of_another_library_is_one_of_pythons(any_store: Store) -> None:
    queue, other = CallQueue(any_store, policy=CallPolicy()), OtherDatetime(2030, 1, 1, 9, tzinfo=UTC)
    job = await queue.enqueue(flow(), not_before=other, valid_until=OtherDatetime(2030, 1, 1, 10, tzinfo=UTC))
    stored = await queue.get(job.id)
    assert (stored.not_before, stored.valid_until) == (LATER, LATER + timedelta(hours=1))
    assert (await queue.hold(until=other)).until == LATER
    with pytest.raises(InvalidInputError, match="not_before is 2030; give a datetime with a time zone"):
        await queue.enqueue(flow(), not_before=cast("Any", 2030))


async def test_an_order_that_cannot_be_meant_is_refused_with_a_sentence_and_changes_nothing(any_store: Store) -> None:
    queue = CallQueue(any_store, policy=CallPolicy())
    for said, order in ORDERS:
        with pytest.raises(InvalidInputError, match=said):
            await order(queue)
    assert await stored(any_store) == 0
    assert list(await gates_of(any_store, "default")) == []
    assert list(await SuppressionList(any_store).scan()) == []
    assert (await queue.enqueue(flow(), unique_key=LONGEST)).unique_key == LONGEST


async def test_a_note_with_it_is_refused_and_the_sentence_names_the_job(engine: Engine) -> None:
    queued = await engine.queue.enqueue(flow(number(1)))
    with pytest.raises(InvalidInputError, match=f"the note for call {queued.id} {SENTENCE}"):
        await engine.queue.cancel(queued.id, reason=HALF)
    await engine.queue.cancel(queued.id)
    with pytest.raises(InvalidInputError, match=f"the note for call {queued.id} {SENTENCE}"):
        await engine.queue.redial(queued.id, note=HALF)
    assert [note.text for note in (await engine.queue.get(queued.id)).notes] == ["cancelled by a person"]


READS: dict[str, Callable[[str], Read]] = {
    "an id": lambda text: ById(("default.1", text)),
    "a key": lambda text: ByKey(("k", text)),
    "the batch of what waits": lambda text: Waiting(queue="default", batch=text),
    "a number": lambda text: OfNumber(queue="default", number=text),
    "the place of a number": lambda text: OfNumber(queue="default", number="+65", after=text),
    "a batch": lambda text: Listing(queue="default", batch=text),
    "an outcome": lambda text: Listing(queue="default", outcomes=frozenset({"BUSY", text})),
    "a place": lambda text: Listing(queue="default", after=text),
}
UNSTORABLE = ["a\0", "\0", "\ud800", "a\udfff"]


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_no_read_asks_a_store_for_a_text_that_none_can_keep(read: Callable[[str], Read]) -> None:
    for text in UNSTORABLE:
        with pytest.raises(InvalidInputError, match="which no store can keep; remove it"):
            read(text)
    read("")
    read("你好 👋")


@pytest.mark.anyio
async def test_an_id_from_outside_that_no_store_can_keep_is_of_no_job() -> None:
    assert await get_jobs(MemoryStore(), [f"default.{text}" for text in UNSTORABLE]) == {}
