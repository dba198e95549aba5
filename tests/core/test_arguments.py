"""Every public argument is checked when it is passed: what no store could keep, or no worker could send, is refused."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import pytest
from msgspec import structs

import voiceflow_worker
import voiceflow_worker.ivr
import voiceflow_worker.notify
from tests.contract.samples import ManualClock, full_job
from tests.contract.suite import sample_job
from tests.support.engine import Engine
from tests.support.flows import SOURCE, flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import (
    CallFlowError,
    CallPolicy,
    CallQueue,
    CallRequest,
    CallWindow,
    Campaign,
    CampaignOptions,
    CountryWindows,
    Escalation,
    Escalations,
    FlowTemplate,
    Heartbeats,
    InvalidInputError,
    Job,
    JobState,
    Menu,
    RedialPolicy,
    Settings,
    Store,
    SuppressionList,
    Sweeper,
    VoiceClient,
    VoiceflowError,
    Worker,
    WorkerOptions,
    enqueue_rows,
)
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.backends.record import head_of, job_from, record_of
from voiceflow_worker.campaigns.enqueue import EnqueueOptions
from voiceflow_worker.core.admission import CallOptions, CheckedCall
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.base.reading import count_states, gates_of, get_jobs
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.imports import Staging
from voiceflow_worker.core.ports.reads import ById, ByKey, Listing, OfNumber, Read, Waiting
from voiceflow_worker.ivr import Rehearsal
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.admission import LONGEST_KEY, PRIORITIES
from voiceflow_worker.model.jobs.policy import PersonLimit
from voiceflow_worker.notify import OutcomeWebhook
from voiceflow_worker.types import WebhookType

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
VALUES: Sequence[Any] = (
    None, 5, -1, 1.5, math.nan, True, "", "x", "busy", "a\0b", "a\ud800", "x" * 2800, "9" * 40, b"x", [], [5], ["x"],
    (5,), {}, {"a": 5}, {5: 5}, {"x"}, object(), anything, NAIVE, LATER, datetime.max.replace(tzinfo=UTC),
    timedelta.max, timedelta.min, timedelta(seconds=-1), timedelta(days=1), 10**30, Path("x"), JobState.QUEUED, POLICY,
    CallPolicy(), flow(), CallWindow.parse("09:00-10:00"), Decimal(5), Fraction(1, 2), Integral(),
)  # fmt: skip
NEEDED: Mapping[str, Any] = {
    "flow": flow(), "job_id": "default.01KE6SJT80BP8JMYJBFZK4XMW8", "job_ids": ["default.x"], "batch_id": "b",
    "on": "busy", "note": "seen", "placed": True,
    "rate": 5.0, "queue": "default", "name": "hook-1", "number": number(1), "numbers": [number(1)], "text": "Hello.",
    "voice_profile": "en-IE-EmilyNeural", "file_url": "https://example.com/a.mp3", "prompt": "Press 1.",
    "destination": number(1), "source": SOURCE, "body": {"a": 1}, "say": "Wake up.", "key": "k", "reason": "seen",
    "escalation_id": "default.escalation-1", "fields": {"numbers": [number(1)], "say": "Wake up."},
    "settings": Settings(), "escalation": Escalation(numbers=[number(1)], say="Up.", source=SOURCE, voice_profile="v"),
    "url": "memory://",
    "requests": [CallRequest(flow=flow())], "rows": [{"destination": number(1)}], "options": CampaignOptions(),
    "given": {"rows": [{"destination": number(1)}]}, "now": LATER, "at": LATER, "since": LATER, "until": LATER,
    "e164": number(1), "digits": "1", "question": "Yes or no?", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "headers": {"webhook-id": "1"}, "policy": CallPolicy(), "api_key": "key", "sub_account": "acme", "max_digits": 3,
    "menu": "main", "zone": "Asia/Singapore", "person": "Asia/Singapore", "path": Path("people.csv"), "language": "en",
    "values": {"a": 1}, "limit": 5, "attempts": 3, "texts": {}, "window": CallWindow.parse("09:00-10:00"),
    "time_zone": "Asia/Singapore", "keys": "1", "status": None, "file": "x", "kind": WebhookType.SESSION_SUMMARY,
    "msisdn": number(1), "session_id": "s", "spans": CallWindow.parse("09:00-10:00").spans, "after": timedelta(1),
    "mark": "a", "names": frozenset({"priority"}), "job": None, "by": Actor(),
    "before": LATER,
}  # fmt: skip
"""A right value for each argument that must be given, by its name."""
ENGINE = {
    "Heartbeats.worker",
    "Heartbeats.worker_left",
    "SuppressionList.entries_in",
    "SuppressionList.end_waiting",
    "SuppressionList.enforce",
    "do_not_call_again",
    "Escalations.look",
    "Escalations.end",
    "Escalations.until_left",
    "Menu.question",
    "Menu.find",
    "Menu.answer_of",
    "Menu.inherited",
    "Menu.voice",
    "VoiceClient.place",
    "VoiceClient.connect",
    "Escalation.stored",
    "CallFlow()",
    "CallWindow.recalled",
    "CountryWindows.to",
    "load_settings",
    "enqueue_in",
    "call_as_json",
}
"""What the engine calls, or other tests do."""
IN_RECORD = [
    each.name for each in structs.fields(Job) if f'"{each.name}":' in record_of(full_job()) and each.name != "window"
]
STOOD_IN = {"store", "settings", "menu"}
"""What objects of other programs may stand in for: a plain value may not."""


def members(thing: object, label: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public methods of an object, and its class with its constructors."""
    yield f"{label}()", type(thing)
    for name, member in inspect.getmembers(thing, callable):
        if not name.startswith("_") and inspect.signature(member).parameters:
            yield f"{label}.{name}", member


def subjects(store: Store, voice: VoiceClient) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Everything public that takes arguments, by its name."""
    queue = CallQueue(store)
    menu = Menu("main", prompt="Press 1.", voice_profile="v")
    menu.on("1", goto=voiceflow_worker.END)
    things = (
        queue, SuppressionList(store), Escalations(queue), Heartbeats(store), voice, menu, flow(),
        CallWindow.parse("09:00-10:00"), CountryWindows.parse("09:00-10:00"), CampaignOptions(), CallPolicy(),
        WorkerOptions(), POLICY, NEEDED["requests"][0], NEEDED["escalation"],
        FlowTemplate.speaking("Hello."), Rehearsal(menu),
        Campaign(options=CampaignOptions(batch_id="b"), rows=[{"destination": number(1)}]),
        OutcomeWebhook("https://example.com/", secret=NEEDED["secret"]),
    )  # fmt: skip
    for thing in things:
        yield from members(thing, type(thing).__name__)
    yield "Worker()", partial(Worker, store, ScriptedVoice())
    yield "Sweeper()", partial(Sweeper, store)
    for module in (voiceflow_worker, voiceflow_worker.ivr, voiceflow_worker.notify):
        for name in module.__all__:
            if inspect.isfunction(function := getattr(module, name)):
                yield name, function


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


def refusing(request: httpx.Request) -> httpx.Response:
    return httpx.Response(400, json={})


def given(function: Callable[..., Any], store: Store) -> dict[str, Any]:
    """Right values for the arguments that a function needs."""
    needed = {"store": store, "queue_object": CallQueue(store)}
    found: dict[str, Any] = {}
    for name, each in inspect.signature(function).parameters.items():
        if each.default is not each.empty or each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD}:
            continue
        if name == "queue" and "CallQueue" in str(each.annotation):
            found[name] = needed["queue_object"]
        else:
            found[name] = needed[name] if name in needed else NEEDED[name]
    return found


async def problem_of(result: Callable[[], Any]) -> str | None:
    """The error that is not one of the library's, of a call or of what it returns to be awaited."""
    try:
        later = result()
        if inspect.isawaitable(later):
            with anyio.move_on_after(5):
                await later
    except VoiceflowError:
        return None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this looks for
        return f"{type(error).__name__}: {error}"
    return None


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
            assert await problem_of(partial(way, **options)) is None, (name, value)
    assert await stored(any_store) < len(VALUES)


def test_a_request_says_again_what_was_said_of_another() -> None:
    request = CallRequest(flow(number(1)), unique_key="a", priority=2)
    other = CallRequest(flow(number(2)), **request.options)
    assert other.options == {"unique_key": "a", "priority": 2}


START = CampaignOptions(
    template=FlowTemplate.speaking("Hello."), source=SOURCE, voice_profile="v", batch_id="b", window="any"
)


@pytest.mark.parametrize("name", EnqueueOptions.__annotations__)
async def test_no_option_of_a_start_is_taken_that_cannot_be_meant(store: Store, name: str) -> None:
    for place, value in enumerate(VALUES):
        if value is not anything:  # a function is called as it says
            way = partial(enqueue_rows, CallQueue(store), [{"destination": number(place)}], START, **{name: value})
            assert await problem_of(way) is None, (name, value)


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


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whatever_is_handed_in_anywhere_is_refused_by_the_library(any_store: Store) -> None:
    problems: list[str] = []
    async with VoiceClient("key", "acme", transport=httpx.MockTransport(refusing)) as voice:
        for label, function in subjects(any_store, voice):
            for name, each in inspect.signature(function).parameters.items():
                plain = [value for value in VALUES if type(value).__module__ == "builtins"]
                values = plain if name in STOOD_IN else VALUES
                for value in values if label not in ENGINE and each.kind is not each.VAR_KEYWORD else ():
                    options = given(function, any_store)
                    is_rest = each.kind is each.VAR_POSITIONAL
                    call = (
                        partial(function, value, **options)
                        if is_rest
                        else partial(function, **{**options, name: value})
                    )
                    if (problem := await problem_of(call)) is not None:
                        problems.append(f"{label} {name}={value!r:.40}: {problem:.150}")
    assert not problems, "\n".join(problems)
    assert await stored(any_store) > 5


HALF = "a\ud800b"
SENTENCE = r"has half a surrogate pair \(U\+D800\) at character 2, which no store can keep; remove it"
NUL = r"has a NUL character \(U\+0000\) at character 2, which no store can keep"
LONG_AGO, SOON, TONIGHT = (datetime(2026, 1, 5, hour, tzinfo=UTC) for hour in (1, 12, 18))
MUCH_TOO_LATE = datetime.max.replace(tzinfo=UTC)

REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "a priority above the range": ({"priority": 2**63 - 1}, "larger goes first"),
    "a priority below the range": ({"priority": -(2**63)}, "larger goes first"),
    "a priority with a fraction": ({"priority": 1.5}, "'1.5' is not a priority"),
    "a truth value for a priority": ({"priority": True}, "'True' is not a priority"),
    "a naive not_before": ({"not_before": NAIVE}, "not_before is 2030-01-01T09:00:00, without a time zone"),
    "a naive valid_until": ({"valid_until": NAIVE}, "valid_until is 2030-01-01T09:00:00, without a time zone"),
    "a text for a time": ({"not_before": "2030-01-01T09:00:00Z"}, "which is not a datetime"),
    "a not_before after its validity": ({"not_before": TONIGHT, "valid_until": SOON}, "but not_before is"),
    "a not_before at the end of its validity": ({"not_before": SOON, "valid_until": SOON}, "but not_before is"),
    "a not_before beyond the calendar of stores": ({"not_before": MUCH_TOO_LATE}, "before the year 2200"),
    "an empty unique key": ({"unique_key": ""}, "unique_key is '', which is blank; give a text"),
    "a unique key of spaces": ({"unique_key": " "}, "give a text with visible characters"),
    "a number for a unique key": ({"unique_key": 42}, "unique_key is 42, which is not a text; give a text"),
    "a valid_until beyond it": ({"valid_until": MUCH_TOO_LATE}, "before the year 2200"),
    **{
        f"{what} in {field}": ({field: text}, f"{field} {said}")
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
    first, bad, third = await queue.admitter.admit(calls, staging=Staging(token="import", records={}))
    assert [finding.column for finding in bad.findings] == ["unique_key"]
    assert (first.is_new, third.is_new) == (True, True)
    assert [job.unique_key for job in await queue.find()] == ["one", "three"]


THREE: Any = 3
FIVES: Sequence[Any] = (Integral(), Decimal(5))
NO_POLICIES: Sequence[Any] = ("busy", [], 5, {"on": "busy"})
LONGEST = "\U0001f4de" * LONGEST_KEY
Order = Callable[[CallQueue], Any]


def with_redial(wrong: Any) -> Sequence[Order]:
    """The three ways to give a redial policy."""
    return (
        lambda queue: CallQueue(queue.store, redial=wrong).enqueue(flow()),
        lambda queue: queue.enqueue(flow(), redial=wrong),
        lambda queue: queue.enqueue_many([CallRequest(flow=flow(), redial=wrong)]),
    )


ORDERS: Sequence[tuple[str, Order]] = (
    ("at most 1000 at a time", lambda queue: queue.enqueue_many([CallRequest(flow()) for _ in range(1001)])),
    ("requests has an element that is '3', which is not a CallRequest", lambda queue: queue.enqueue_many([THREE])),
    ("valid_for", lambda queue: queue.enqueue(flow(), valid_for=timedelta.max)),
    ("valid_for", lambda queue: queue.enqueue(flow(), valid_for=timedelta(days=365 * 1000))),
    ("valid_for is '3', which is not a timedelta", lambda queue: queue.enqueue(flow(), valid_for=THREE)),
    (
        "timeout is '3', which is not a timedelta; give a timedelta, such as",
        lambda queue: queue.wait_for_outcome("default.unknown", timeout=THREE),
    ),
    ("until is 2030", lambda queue: queue.hold(until=NAIVE)),
    ("since is 2030", lambda queue: queue.outcomes(since=NAIVE)),
    ("recorded_at is 2030", lambda queue: queue.resolve("default.x", placed=True, note="seen", recorded_at=NAIVE)),
    *(
        (f"limit is '5' of type {type(five).__name__}, which is not a whole number; give a whole number, such as int",
         lambda queue, five=five: queue.find(limit=five))
        for five in FIVES
    ),
    *(
        (f"'5' of type {type(five).__name__} is not a priority; give a whole number",
         lambda queue, five=five: queue.enqueue(flow(), priority=five))
        for five in FIVES
    ),
    *(
        (f"rate is '5' of type {type(five).__name__}, .* such as float",
         lambda queue, five=five: queue.set_rate(five))
        for five in FIVES
    ),
    *(
        ("redial is .*, which is not a RedialPolicy; give a RedialPolicy", order)
        for wrong in NO_POLICIES
        for order in with_redial(wrong)
    ),
    # A key that no index can hold.
    ("characters", lambda queue: queue.enqueue(flow(), unique_key=LONGEST + "x")),
    ("characters", lambda queue: queue.enqueue(flow(), batch_id=LONGEST)),
    ("characters", lambda queue: queue.hold(batch_id=LONGEST + "x")),
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


async def test_an_order_that_cannot_be_meant_is_refused_with_a_sentence_and_changes_nothing(any_store: Store) -> None:
    queue = CallQueue(any_store, policy=CallPolicy())
    for said, order in ORDERS:
        with pytest.raises(InvalidInputError, match=said):
            await order(queue)
    assert await stored(any_store) == 0
    assert list(await gates_of(any_store, "default")) == []
    assert list(await SuppressionList(any_store).scan()) == []
    assert (await queue.enqueue(flow(), unique_key=LONGEST)).unique_key == LONGEST


@pytest.mark.parametrize("kind", [CallPolicy, WorkerOptions])
def test_a_number_for_a_duration_is_refused_in_every_option(kind: type[Any]) -> None:
    for name in (each.name for each in fields(kind) if isinstance(each.default, timedelta)):
        with pytest.raises(InvalidInputError, match=f"{name} is '3', which is not a timedelta"):
            kind(**{name: THREE})
    with pytest.raises(InvalidInputError, match="after is '3', which is not a timedelta"):
        RedialPolicy(on=frozenset(), limit=1, after=THREE)


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
    "a key": lambda text: ByKey("default", ("k", text)),
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
