"""The page of a campaign: from the list to the calls, what it says before, and that nobody is called twice."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import anyio
import httpx
import pytest
from openpyxl import Workbook

from tests.console.clerk import PEOPLE, WORDS, Clerk, clerk
from tests.console.signing_in import FROM_HERE, HOST, OPERATORS, Page, receiver, sign_in, signed_in
from tests.support.faulty_store import FaultyStore, StoreCall
from voiceflow_worker import CallQueue, Store, open_store
from voiceflow_worker.console.campaign import Drafts
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.job import Job, JobState

pytestmark = pytest.mark.anyio
SERVERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", "redis")]
MANY = "destination,name\n" + "".join(f"+65{90000000 + place},Ana {place}\n" for place in range(200))
SAID = {**WORDS, "say": "Hello {{name}}.", "country": ""}


async def jobs_of(store: Store, batch: str = "may") -> list[Job]:
    return sorted(await CallQueue(store).find(batch_id=batch, limit=1000), key=lambda job: job.destination)


# -- from the list to the calls ----------------------------------------------------------------------------------------


async def test_a_list_is_uploaded_described_checked_and_called(store: Store) -> None:
    async with clerk(store) as one:
        shown = await one.upload()
        assert "may.csv" in shown
        assert "Nothing is called before you start it" in shown
        assert one.typed["column.destination"] == "Mobile", "the one column of numbers"
        told = await one.send("check", **WORDS)
        for said in ("called 2", "not called 0", "bad rows 0", "Row 2 Hello Ana <3.", "Row 3 Hello Bob.",
                     "Call 2 people"):  # fmt: skip
            assert said in told, said
        assert await jobs_of(store) == []
        told = await one.send("start")
        assert "2 calls enqueued" in told
        assert "Batch may: 2 calls in queue default" in told
    ana, bob = await jobs_of(store)
    assert ((ana.data or {})["guest"], bob.destination, bob.source) == ("Ana <3", "+6587654322", "+6531234567")
    (entry,) = [each for each in await entries_on(store) if each.action == "start"]
    assert (entry.name, entry.on, entry.batch) == ("Mary Tan", "pages", "may")


FIELDS: list[tuple[dict[str, str | list[str]], str]] = [
    ({"column.name": "Guest", "say": "Hi {{name}}."}, "Row 2 Hi Ana <3."),
    ({"leave_out": "Room=8"}, "called 1"),
    ({"batch": "spa"}, "Call 2 people"),
    ({"any": "", "from": "09:00", "to": "18:00"}, "Call 2 people"),
    ({"any": "", "from": "09:00"}, "09:00-"),
    ({"days": ["mon", "wed"]}, "Call 2 people"),
    ({"days": []}, "none"),
    ({"not_before": "2098-05-06T09:30"}, "Call 2 people"),
    ({"redial_max": "2", "redial_after": "15m"}, "Call 2 people"),
    ({"say": ""}, "write it, or choose a menu"),
    ({"say": "", "ivr": "ask"}, "Row 2 Hello Ana <3. Press 1."),
    ({"say": "Hello {{nobody}}."}, "nobody"),
    ({"answer.1": "yes", "answer.3": "no", "after": "Thank you."}, "Then, question 1 Thank you."),
    ({"column.unique_key": "Room"}, "Call 2 people"),
    ({"source": "none"}, "Number to call from"),
]


@pytest.mark.parametrize(("typed", "told"), FIELDS, ids=[" ".join(typed) for typed, _ in FIELDS])
async def test_each_field_says_what_it_means_or_what_is_wrong(
    memory: Store, typed: dict[str, str | list[str]], told: str
) -> None:
    async with clerk(memory) as one:
        await one.upload()
        said = await one.send("check", **{**WORDS, **typed})
        assert told in said
        assert all(one.typed[name] == value for name, value in typed.items() if isinstance(value, str) and value)
        if "Call 2 people" in said:
            await one.send("start")
    jobs = await jobs_of(memory, "spa" if "batch" in typed else "may")
    assert len(jobs) == (2 if "Call 2 people" in said else 0)
    for job in jobs:
        if "from" in typed:
            assert "09:00-18:00" in str(job.window)
        if "days" in typed:
            assert "mon" in str(job.window).lower()
        if "not_before" in typed:
            assert job.due_at == datetime(2098, 5, 6, 9, 30, tzinfo=UTC), "in the zone of the page"
        if "redial_max" in typed:
            assert job.redial is not None
            assert (job.redial.limit, job.redial.after) == (2, timedelta(minutes=15))
            assert {str(each).lower() for each in job.redial.on} == {"busy", "no_answer"}
        if "column.unique_key" in typed:
            assert job.unique_key in {"7", "8"}


async def test_a_time_stays_that_of_the_zone_in_which_it_was_typed(memory: Store) -> None:
    async with clerk(memory) as one:
        one.client.cookies.set("voiceflow-zone", "Asia/Tokyo")
        await one.upload()
        one.client.cookies.set("voiceflow-zone", "Europe/Berlin")
        await one.send("check", **WORDS, not_before="2098-05-06T09:30")
        await one.send("start")
    (job, _) = await jobs_of(memory)
    assert job.due_at == datetime(2098, 5, 6, 9, 30, tzinfo=ZoneInfo("Asia/Tokyo"))


async def test_a_list_is_pasted_and_the_next_one_takes_words_and_hours_of_the_last(memory: Store) -> None:
    async with clerk(memory) as one:
        answer = await one.client.post("/ui/campaign", data={"pasted": PEOPLE.replace("\n", "\r\n")})
        one.shown = await one.client.get(answer.url.join(answer.headers["location"]))
        await one.send("check", **WORDS, batch="monday")
        await one.send("start")
        offered = await one.client.get("/ui/campaign")
        like = offered.text.partition('">of batch monday')[0].rpartition('value="')[2]
        await one.upload(PEOPLE.replace("8765", "8766"), name="tuesday.csv", like=like)
        assert [one.typed[name] for name in ("say", "source", "country")] == ["Hello {{guest}}.", "+6531234567", "SG"]
        assert one.typed["batch"] == "", "its own name"
        await one.send("check")
        await one.send("start")
    assert [len(await jobs_of(memory, batch)) for batch in ("monday", "tuesday")] == [2, 2]


async def test_call_me_first_calls_my_number_with_the_text_of_the_first_row(memory: Store) -> None:
    async with clerk(memory) as one:
        await one.upload()
        await one.send("check", **WORDS, not_before="2098-05-06T09:30")
        assert "no number" in await one.send("try", number="no number")
        told = await one.send("try", number="8111 1111")
        assert "+6581111111 is called with the text of the first row" in told
        (trial,) = await jobs_of(memory, "may-trial")
        assert ("Hello Ana <3." in trial.body, trial.due_at <= memory.clock.now()) == (True, True)
        assert trial.destination == "+6581111111"
        await one.send("try", number="+6581111111")
        assert len(await jobs_of(memory, "may-trial")) == 2, "as often as I like"
        assert "2 calls enqueued" in await one.send("start"), "it is the same campaign"


# -- what is said before -----------------------------------------------------------------------------------------------


async def test_bad_rows_are_named_and_the_others_called_where_that_is_ticked(memory: Store) -> None:
    people = f"{PEOPLE}Cy,12,1/2/2099,9\nDee,,1/3/2099,9\n"
    async with clerk(memory) as one:
        await one.upload(people)
        told = await one.send("check", **{**WORDS, "say": "Hello {{guest}}, {{day|date}}.", "date_order": "dmy"})
        for said in ("bad rows 2", "4 Mobile", "5 Mobile"):
            assert said in told, said
        assert "Call 2 people" not in told
        told = await one.send("check", skip_bad="yes")
        assert "Call 2 people" in told
        await one.send("start")
    assert len(await jobs_of(memory)) == 2


async def test_a_column_that_forbids_calls_is_decided_before_anybody_is_called(memory: Store) -> None:
    people = "Guest,Mobile,Do Not Call,Status\nAna,8765 4321,,Booked\nBob,8765 4322,yes,Booked\n"
    people += "".join(f"Cy,8765 433{place},,Moved\n" for place in range(4))
    for do, called in (("leave-out Do Not Call!=", 5), ("ignore Do Not Call", 6)):
        async with clerk(memory) as one:
            await one.upload(people, name=f"list-{called}.csv")
            told = await one.send("check", **WORDS)
            assert "says by its name who may be called" in told.lower()
            assert "Call 6 people" not in told
            assert one.shown is not None
            assert f'value="{do}"' in one.shown.text
            assert f"Call {called} people" in await one.send(do)
            if called == 6:
                assert "Do Not Call: everybody may be called" in Page(one.shown.text).text
                assert "Moved 4" in await one.send("check"), "the values of columns that are not read"
                assert "Call 2 people" in await one.send("leave-out Status=Moved")


WRONG = {
    "photo.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 20,
    "scan.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
    "locked.xlsx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4000),
    "large.csv": b"Guest,Mobile\n" + b"Ana,+6587654321\n" * 1_900_000,
    "empty.csv": b"",
    "names.csv": b"Guest,Room\nAna,seven\nBob,eight\n",
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_file_is_told_in_a_sentence_and_the_form_is_kept(memory: Store, name: str) -> None:
    async with clerk(memory) as one:
        told = await one.upload(WRONG[name], name)
        assert one.shown is not None
        if name != "names.csv":  # whose columns can be read
            assert (one.shown.status_code, "Or paste it" in told) == (409, True)
            assert one.shown.text.count('role="alert"') == 1
        await one.upload()
        await one.send("check", **WORDS)
        told = await one.send("check", files={"file": (name, WRONG[name])})
        assert one.typed["say"] == WORDS["say"], "what was typed is there"
        assert ("Call 2 people" in told) == (name in {"empty.csv", "large.csv"}), told
    assert await CallQueue(memory).find() == []


async def test_a_workbook_with_several_sheets_asks_for_one_of_them(memory: Store) -> None:
    book = Workbook()
    book.worksheets[0].append(("Title",))
    for title, row in (("Mon", ("Ana", "+6587654321")), ("Tue", ("Bob", "+6587654322"))):
        sheet = book.create_sheet(title)
        sheet.append(("Guest", "Mobile"))
        sheet.append(row)
    book.save(held := io.BytesIO())
    async with clerk(memory) as one:
        await one.upload(held.getvalue(), "week.xlsx")
        await one.send("check", sheet="Tue")
        assert "Row 2 Hello Bob." in await one.send("check", **{**WORDS, "column.destination": "Mobile"})


async def test_the_second_morning_is_planned_as_it_is_then_done(store: Store) -> None:
    """Of a list that is imported again, one row is the same, one changed, one gone, one cancelled by hand, one new."""
    names = ("same", "changed", "gone", "cancelled")
    people = "Guest,Mobile,Status\n" + "".join(f"{name},+65876543{place:02},in\n" for place, name in enumerate(names))
    later = people.replace("changed,", "Changed!,").replace("gone,+6587654302,in\n", "new,+6587654309,in\n")
    async with clerk(store) as one:
        await one.upload(people)
        await one.send("check", **WORDS)
        await one.send("start")
        await CallQueue(store).cancel((await jobs_of(store))[3].id)
        await one.upload(later)
        told = await one.send("check", **WORDS)
        for said in ("1 new", "1 changed", "1 in no row", "This list replaces what waits"):
            assert said in told, said
        assert "Call 1 person" not in told, "nothing is changed or cancelled without a tick"
        told = await one.send("check", replaces="yes")
        assert "Call 1 person, change 1 call, cancel 1 call" in told
        assert "1 call enqueued; 1 changed; 1 cancelled" in await one.send("start")
    found = {(job.data or {})["guest"]: job.state for job in await jobs_of(store)}
    assert found == {
        "same": JobState.QUEUED, "Changed!": JobState.QUEUED, "gone": JobState.CANCELLED,
        "cancelled": JobState.CANCELLED, "new": JobState.QUEUED,
    }  # fmt: skip


async def test_people_who_were_called_with_the_same_words_are_called_again_where_that_is_ticked(memory: Store) -> None:
    async with clerk(memory) as one:
        for name, ticked in (("monday.csv", {}), ("tuesday.csv", {"again": "yes"})):
            await one.upload(name=name)
            told = await one.send("check", **WORDS)
            assert ("Call 2 people" in told, "Call them again" in told) == (not ticked, bool(ticked))
            if ticked:
                assert "Call 2 people" in await one.send("check", **ticked)
            await one.send("start")
    assert len(await jobs_of(memory, "tuesday")) == 2


# -- nobody twice ------------------------------------------------------------------------------------------------------


async def test_back_reload_two_tabs_and_a_double_click_start_one_batch(store: Store) -> None:
    async with clerk(store) as one, signed_in(receiver(store), name="Bob Lim") as other:
        await one.upload()
        await one.send("check", **WORDS)
        checked = one.shown
        answers = list[httpx.Response]()

        async def click() -> None:
            answers.append(await one.post("start"))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(click)
        assert {each.status_code for each in answers} == {303}
        assert len(await jobs_of(store)) == 2
        assert checked is not None
        for client in (one.client, other):
            again = await client.get(checked.url)
            assert (again.status_code, again.headers["location"]) == (303, "../../ui/batches/may?queue=default")
        assert (await one.post("start")).headers["location"] == "../../ui/batches/may?queue=default", "back, and again"
    assert len([each for each in await entries_on(store) if each.action == "start"]) == 1


async def test_what_was_changed_after_its_check_is_checked_again(memory: Store) -> None:
    async with clerk(memory) as one, signed_in(receiver(memory), name="Bob Lim") as other:
        await one.upload()
        assert "changed after its check" in await one.send("start", **WORDS), "never checked"
        assert "Row 2 Hello Ana <3." in await one.send("check")
        assert "Row 2 Bye Ana <3." in await one.send("start", say="Bye {{guest}}.")
        assert await jobs_of(memory) == []
        await one.send("check")
        before = one.shown
        assert before is not None
        mine = {"say": "See you {{guest}}.", "do": "check", "days": ["mon"]}
        assert (await other.post(before.url, data=mine)).status_code == 303
        assert "changed" in await one.send("start"), "in another tab, by another name"
        assert await jobs_of(memory) == []


async def test_a_start_that_was_cut_off_goes_on_and_an_erased_file_is_chosen_again(memory: Store) -> None:
    fails = False

    async def fail(call: StoreCall) -> None:
        if fails and call.name == "enqueue":
            raise StoreUnavailableError("gone")

    async with clerk(FaultyStore(memory, before=fail)) as one:
        await one.upload()
        await one.send("check", **WORDS)
        shown = one.shown
        assert shown is not None
        (draft,) = await Drafts(memory)._drafts.values()  # pyright: ignore[reportPrivateUsage]
        await Drafts(memory).begin(
            draft, {"version": str(draft.version), "batch_id": "may", "digest": ""}, by="Mary Tan"
        )
        told = Page((await one.client.get(shown.url)).text).text
        assert "Mary Tan started this campaign" in told
        assert "Go on" in told
        one.shown = await one.client.get(shown.url)
        assert "2 calls enqueued" in await one.send("resume")
        await one.upload(name="june.csv")
        await one.send("check", **WORDS)
        await Drafts(memory)._uploads.clear()  # pyright: ignore[reportPrivateUsage]
        assert "Choose it again" in await one.send("check")
        assert one.typed["say"] == WORDS["say"]
        assert "Call 2 people" in await one.send("check", files={"file": ("june.csv", PEOPLE.replace("8765", "8766"))})
    assert len(await jobs_of(memory)) == 2


class RoundRobin(httpx.AsyncBaseTransport):
    """Sends each request to the next receiver, and counts the changes."""

    def __init__(self, *transports: httpx.AsyncBaseTransport) -> None:
        self._transports = transports
        self.sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        return await self._transports[self.sent % len(self._transports)].handle_async_request(request)


@asynccontextmanager
async def operator(store: Store, url: str) -> AsyncGenerator[httpx.AsyncClient]:
    """An operator of two receivers, each with a connection of its own to the store."""
    async with open_store(url) as other:
        behind = RoundRobin(*(httpx.ASGITransport(receiver(each)) for each in (store, other)))
        async with httpx.AsyncClient(transport=behind, base_url=HOST, headers=FROM_HERE) as client:
            assert (await sign_in(client, OPERATORS)).status_code == 303
            yield client


@asynccontextmanager
async def two_people(store: Store, url: str) -> AsyncGenerator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Two operators, each of a receiver of their own, on one store."""
    async with open_store(url) as other, AsyncExitStack() as stack:
        mary, li = [await stack.enter_async_context(signed_in(receiver(each))) for each in (store, other)]
        yield mary, li


async def at_once(*sent: Callable[[], Awaitable[httpx.Response]]) -> list[httpx.Response]:
    """The answers to requests that are sent at the same time; those that did something first."""
    answers = list[httpx.Response]()

    async def send(each: Callable[[], Awaitable[httpx.Response]]) -> None:
        answers.append(await each())

    async with anyio.create_task_group() as tasks:
        for each in sent:
            tasks.start_soon(send, each)
    return sorted(answers, key=lambda answer: answer.status_code)


@pytest.mark.parametrize("store_url", ["sqlite", *SERVERS], indirect=True)
async def test_a_campaign_goes_from_the_upload_to_its_report_over_both(store: Store, store_url: str) -> None:
    queue = CallQueue(store)
    async with operator(store, store_url) as client:
        one = Clerk(client)
        await one.upload(MANY)
        await one.send("check", **SAID)
        await one.send("try", number="+6581111111")
        (trial,) = await queue.find()
        assert (trial.destination, trial.batch_id) == ("+6581111111", "may-trial")
        assert "200 calls enqueued" in await one.send("start")
        assert len(await queue.find(batch_id="may", limit=1000)) == 200
        report = await client.get("/ui/export/csv?queue=default&batch=may")
        assert report.text.count("Ana") == 200


@pytest.mark.parametrize("store_url", ["sqlite", *SERVERS], indirect=True)
async def test_two_people_start_one_list_and_each_person_in_it_is_called_once(store: Store, store_url: str) -> None:
    async with two_people(store, store_url) as (mary, li):
        clerks = [Clerk(each) for each in (mary, li)]
        for each in clerks:
            await each.upload(MANY)
            assert "Call 200 people" in await each.send("check", **SAID)
        starts = [partial(each.post, "start") for each in clerks]
        answers = await at_once(*starts, *starts)  # and each of them clicks twice
        assert [each.status_code for each in answers].count(303) >= 1, [each.text for each in answers]
        jobs = await CallQueue(store).find(limit=1000)
        assert len({job.destination for job in jobs}) == len(jobs) == 200
        for start in starts:  # and once more, after the back button
            assert (await start()).status_code in {303, 409}
        assert len(await CallQueue(store).find(limit=1000)) == 200


@pytest.mark.parametrize("path", ["none", "%00", "x" * 500, "..%2Fcalls"])
async def test_a_campaign_that_is_not_there_is_told(memory: Store, path: str) -> None:
    async with clerk(memory) as one:
        answer = await one.client.get(f"/ui/campaigns/{path}")
    assert (answer.status_code, "Begin a new one" in answer.text) == (404, True)
