"""Every public argument is checked when it is passed: whatever a program hands in, it gets an error of the library that
names it, or what it has stored can be read again."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
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
from tests.contract.samples import full_job
from tests.contract.suite import sample_job
from tests.support.flows import SOURCE, flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import (
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
    OutcomeHooks,
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
from voiceflow_worker.backends.record import head_of, job_from, record_of
from voiceflow_worker.campaigns.enqueue import EnqueueOptions
from voiceflow_worker.core.admission import CallOptions
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.ivr import Rehearsal
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.admission import LONGEST_KEY
from voiceflow_worker.notify import OutcomeWebhook
from voiceflow_worker.types import BatchEdit, WebhookType

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
    "on": "busy", "note": "seen", "placed": True, "edit": BatchEdit(names=frozenset({"priority"}), priority=1),
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
    "Menu.not_called_back",
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
    "BatchEdit.of",
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
        queue, SuppressionList(store), Escalations(queue), OutcomeHooks(store), Heartbeats(store), voice, menu, flow(),
        CallWindow.parse("09:00-10:00"), CountryWindows.parse("09:00-10:00"), CampaignOptions(), CallPolicy(),
        WorkerOptions(), POLICY, NEEDED["requests"][0], NEEDED["escalation"], NEEDED["edit"],
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


START = CampaignOptions(template=FlowTemplate.speaking("Hello."), source=SOURCE, voice_profile="v", batch_id="b")


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


async def test_a_redial_policy_of_another_type_is_refused_where_it_is_given(any_store: Store) -> None:
    queue = CallQueue(any_store)
    wrong: Any
    for wrong in ("busy", [], 5, {"on": "busy"}):
        for give in (
            lambda wrong=wrong: CallQueue(any_store, redial=wrong).enqueue(flow()),
            lambda wrong=wrong: queue.enqueue(flow(), redial=wrong),
            lambda wrong=wrong: queue.enqueue_many([CallRequest(flow=flow(), redial=wrong)]),
        ):
            with pytest.raises(
                InvalidInputError, match=r"redial is .*, which is not a RedialPolicy; give a RedialPolicy"
            ):
                await give()
    with pytest.raises(InvalidInputError, match="requests has an element that is '5', which is not a CallRequest"):
        await queue.enqueue_many(cast("Any", [5]))
    assert await stored(any_store) == 0


async def test_a_number_of_another_type_is_refused_with_its_type_and_the_way_to_give_it(any_store: Store) -> None:
    queue = CallQueue(any_store)
    wrong: Any
    for wrong, kind in ((Integral(), "Integral"), (Decimal(5), "Decimal")):
        said = f"limit is '5' of type {kind}, which is not a whole number; give a whole number, such as int(…)"
        with pytest.raises(InvalidInputError, match=re.escape(said)):
            await queue.find(limit=wrong)
        with pytest.raises(InvalidInputError, match=f"'5' of type {kind} is not a priority; give a whole number"):
            await queue.enqueue(flow(), priority=wrong)
        with pytest.raises(InvalidInputError, match=f"rate is '5' of type {kind}, .* such as float"):
            await queue.set_rate(wrong)


async def test_a_key_that_no_index_can_hold_is_refused_on_every_store(any_store: Store) -> None:
    queue = CallQueue(any_store)
    longest = "\U0001f4de" * LONGEST_KEY
    assert (await queue.enqueue(flow(), unique_key=longest)).unique_key == longest
    for order in (
        lambda: queue.enqueue(flow(), unique_key=longest + "x"),
        lambda: queue.enqueue(flow(), batch_id=longest),
        lambda: queue.hold(batch_id=longest + "x"),
        lambda: queue.resume(batch_id=longest + "x"),
        lambda: queue.cancel_batch(longest + "x"),
    ):
        with pytest.raises(InvalidInputError, match="characters"):
            await order()
    assert await stored(any_store) == 1


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
