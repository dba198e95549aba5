"""A campaign on the pages: the columns of a file, the preview, what was changed since, and saved campaigns."""

from __future__ import annotations

import csv
import html
import json
import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html import unescape
from io import StringIO
from pathlib import Path
from urllib.parse import urljoin
from zoneinfo import ZoneInfo

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook
from openpyxl.styles import Font

from tests.campaigns.workbooks import workbook
from tests.console.clerk import PEOPLE, WORDS, Clerk, clerk, people
from tests.console.signing_in import READERS, Form, Page, held, receiver, signed_in
from tests.contract.samples import ManualClock
from tests.ivr.asking import Line
from tests.ivr.asking import Receiver as Answering
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, CallRequest, Campaign, Store
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.file_preview import preview_list
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.options_file import loaded_options, saved_options
from voiceflow_worker.console.form import DAYS
from voiceflow_worker.console.questions import READY, menu_in
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio


def body_voice(body: str) -> str:
    (voice,) = re.findall(r'"voiceProfile":"([^"]*)"', body)
    return str(voice)


def step_of(one: Clerk) -> str:
    (step,) = re.findall(r'value="([a-z]+)" aria-current="step"', one.shown.text)
    return str(step)


async def test_the_columns_of_a_file_are_told_before_anything_is_typed(memory: Store) -> None:
    async with clerk(memory) as one:
        assert Form(one.shown.text).fields - {"find"} == {"file", "saved", "pasted", "list_name"}
        told = await one.send("look", people())
        for words in (
            "Guest a text or a number", "Mobile the number to call", "Day a date", "Room a text or a number",
            "2 people · 0 can be called", "2 numbers have no country",
        ):  # fmt: skip
            assert words in told, told
        assert held(one.shown)["columns"] == "destination=Mobile"
        assert '<option value="dmy" selected>' in one.shown.text, "31/12 can be read in one way"
        told = await one.send("preview", **WORDS)
        assert "Hello Ana <3." in told
        assert "Ana &lt;3" in one.shown.text
        await one.send("start")
    assert {(job.data or {})["guest"] for job in await CallQueue(memory).find()} == {"Ana <3", "Bob"}


@pytest.mark.parametrize(("second", "is_certain"), [("Malaysia", True), ("Mars", False), ("", True)])
async def test_the_column_of_countries_is_found_where_its_cells_are_certain(
    memory: Store, second: str, *, is_certain: bool
) -> None:
    table = f"Phone,Name,Country\n8765 4321,Ana,SG\n+60 12-345 6789,Bo,{second}\n"
    async with clerk(memory) as one:
        told = await one.send("look", people(table))
        assert ("Country the country of the number" in told) == is_certain
        assert (held(one.shown)["columns"] == "destination=Phone,country=Country") == is_certain


TEXT, DATE, NAME = "text", "date", "name"
DATES: Mapping[tuple[str, ...], tuple[str | None, str, str]] = {
    ("31/12/2030", "1/2/2030"): ("dmy", DATE, "{{day|date}}"),
    ("12/31/2030",): ("mdy", DATE, "{{day|date}}"),
    ("1/2/2030", "3/4/2030 9:00"): ("dmy mdy", DATE, "{{day|date}}"),
    ("31/12/2030", "12/31/2030"): (" ", DATE, "{{day|date}}"),
    ("2030/1/31",): ("ymd", DATE, "{{day|date}}"),
    ("1.2.30", "31.12.30"): ("dmy", DATE, "{{day|date}}"),
    ("2030-01-31", "2030-02-01 09:30"): (None, DATE, "{{day|date}}"),
    ("31/12/2030", "soon"): (None, TEXT, "{{day}}"),
    ("2030-01-31", "soon"): (None, TEXT, "{{day}}"),
    ("12", "7.50"): (None, TEXT, "{{day}}"),
    ("09:30", "14.00", "9:30 am"): (None, TEXT, "{{day|time}}"),
    ("09:30", "soon"): (None, TEXT, "{{day}}"),
    ("6512-34-5678",): (None, "phone", "{{day}}"),
}
"""Cells of a column: the orders in which they can be dates, what it is taken for, and how a text speaks it."""
NAMES: Mapping[str, tuple[str | None, list[str]]] = {
    "destination,First Name\n+6587654321,Ana\n": ("destination", []),
    "Work Phone,Patient\n87654321,Ana\n": ("Work Phone", []),
    "Nummer;Vorname;Nachname;Arztname\n87654321;Ana;Tan;Li\n": ("Nummer", []),
    "Nummer;Raum\n87654321;7\n": ("Nummer", []),
    "code,who\n87654321,Ana\n": ("code", []),
    "code,other\n87654321,87654322\n": (None, []),
    "Number,Contact,HP\n1,Mdm Lim,91234567\n": ("HP", []),
    "Telefon,Handy\n+4930123456,+491701234567\n": ("Handy", []),
    '"Phone, mobile",Name\n+6587654321,Ana\n': ("Phone, mobile", ["Name"]),
    '"Who, where",Name\n+6587654321,Ana\n': ("Who, where", ["Name"]),
    '{"phone": "87654321", "name": "Ana"}\n': ("phone", ["name"]),
}
"""Files, with their column of numbers and those of the names of people."""


async def test_columns_are_known_by_their_cells_and_names(memory: Store, tmp_path: Path) -> None:
    def file(content: str) -> InputFile:
        (path := tmp_path / ("people.jsonl" if content[0] == "{" else "people.csv")).write_text(content)
        return InputFile(path)

    for values, (orders, taken_for, insert) in DATES.items():
        rows = "".join(f"+6587654321;{value}\n" for value in values)
        found = await preview_list(memory, file(f"destination;day\n{rows}"), None)
        day, known = found.columns[1], None if found.date_orders is None else set(found.date_orders)
        assert (known, day.column_role, day.insert) == (orders and set(orders.split()), taken_for, insert), values
    for content, (numbers, person) in NAMES.items():
        found = await preview_list(memory, file(content), None)
        assert (found.roles.get("destination"), [each.name for each in found.columns if each.column_role == NAME]) == (
            numbers,
            person,
        )


async def test_the_encoding_of_a_list_that_is_not_utf_8_is_asked(memory: Store) -> None:
    table = "guest,Mobile\nJürgen,+6587654321\n".encode("cp1252")
    async with clerk(memory) as one:
        told = await one.send("look", {"file": ("may.csv", table)})
        assert "may.csv, line 2: the byte 0xFC is not UTF-8" in told
        assert '<option value="cp1252">' in one.shown.text
        assert "Jürgen" in await one.send("look", encoding="cp1252")
        assert "Hello Jürgen" in await one.send("preview", **{**WORDS, "say": "Hello {{guest}}."})


async def test_what_was_changed_after_the_preview_is_named_and_nothing_that_was_ticked_is_lost(memory: Store) -> None:
    bad = PEOPLE + "Cleo,nobody,1/2/2099,9\n"
    async with clerk(memory) as one:
        await one.send("look", people(bad))
        assert "changed since the preview: everything" in (await one.send("start", **WORDS)).lower()
        assert "1 bad" in await one.send("preview", skip_bad="yes", number="+6581112222")
        told = await one.send("start", say="Good day {{guest}}.", window="10:00-18:00")
        assert "Changed since the preview: Text to say, Hours in which phones may ring." in told
        assert 'name="skip_bad" value="yes" checked' in one.shown.text
        assert held(one.shown)["number"] == "+6581112222"
        told = await one.send("start", people(bad.replace("Bob", "Bill")))
        assert "Changed since the preview: File of the people to call." in told
        await CallQueue(memory).hold(reason="lunch")
        told = await one.send("try")
        assert "+6581112222 is called with the text of the first row" in told
        assert "Nothing is sent at present: queue default is held" in told
        await one.send("start")
    (tried,) = [each for each in await entries_on(memory) if each.action == "call"]
    assert (tried.on, tried.numbers, tried.batch) == ("pages", ("+6581112222",), "may-trial")
    calls = await CallQueue(memory).find(batch_id="may")
    assert sorted(str((job.data or {})["guest"]) for job in calls) == ["Ana <3", "Bill"]


@pytest.mark.parametrize("failure", [RuntimeError("the process ended with -9"), OSError(28, "No space left on device")])
async def test_a_start_that_was_cut_short_may_have_stored_calls(
    memory: Store, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    async def cut(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(Campaign, "start", cut)
    async with clerk(memory) as one:
        await one.send("look", people())
        await one.send("preview", **WORDS)
        assert "may or may not have been carried out. Before you repeat it," in await one.send("start")


async def test_what_explains_most_errors_is_put_right_by_one_button(memory: Store) -> None:
    rows = [f"Ana {place},8765 432{place},de" for place in range(5)]
    table = "\n".join(["Guest,Mobile,Language", *rows, "Bo,+65 8765 4399,de", "Cy,030 1,de", "Di,030 2,de"])
    typed = {"say": "Hallo {{guest}}.", "source": "+6531234567", "voice_profile": "en-US-JennyNeural"}
    async with clerk(memory) as one:
        await one.send("look", people(table))
        told = await one.send("preview", **typed)
        buttons = re.findall(r'name="do" value="((?:country|voice_profile) [^"]*)"', one.shown.text)
        assert ("numbers of Singapore" in told, buttons) == (True, ["country SG", "voice_profile de-DE-KatjaNeural"])
        for pressed in buttons:
            told = await one.send(pressed)
        assert not re.findall(r'name="do" value="(?:country|voice_profile) [^"]*"', one.shown.text)
        told = await one.send("start")
        assert "2 rows cannot be called. Tick “Leave out the bad rows”" in told, "which tick is missing"
        await one.send("start", skip_bad="yes")
    calls = await CallQueue(memory).find()
    assert len(calls) == 6
    assert {body_voice(job.body) for job in calls} == {"de-DE-KatjaNeural"}


async def test_rows_that_a_finding_names_are_left_out_by_one_button(memory: Store) -> None:
    async with clerk(memory) as one:
        await one.send("look", people("Name,Mobile,DNC\nAna,87654321,\nBo,87654322,x\n"))
        await one.send("preview", **{**WORDS, "say": "Hello."})
        assert "othing was enqueued" in await one.send("start")
        (found,) = re.findall('name="do" value="(leave_out [^"]*DNC[^"]*)"', one.shown.text)
        assert "Leave out rows with: DNC!=" in one.shown.text
        await one.send(html.unescape(found))
        await one.send("start")
    assert [job.name for job in await CallQueue(memory).find()] == ["Ana"]


async def test_a_country_that_few_of_the_numbers_fit_is_not_offered(memory: Store) -> None:
    async with clerk(memory) as one:
        await one.send("look", people("Guest,Mobile\nAna,0170 1234567\nBo,0171 7654321\nCy,8765 4321\n"))
        await one.send("preview", say="Hello", source="+6531234567", voice_profile="en-US-JennyNeural")
        assert 'value="country ' not in one.shown.text


async def test_a_campaign_that_would_do_something_else_than_its_preview_is_shown_again(memory: Store) -> None:
    queue = CallQueue(memory)
    async with clerk(memory) as one, clerk(memory) as other:
        for each in (one, other):
            await each.send("look", people())
            await each.send("preview", **WORDS)
        await other.send("start", skip_bad="yes")
        first = await queue.find()
        await queue.cancel(first[0].id)
        told = await one.send("start", skip_bad="yes")
        assert "what the preview showed has changed since" in told
        assert "duplicates" in told, "the new preview"
        assert [job.id for job in await queue.find()] == [job.id for job in first]
        await one.send("start", skip_bad="yes")
    assert len(await queue.find()) == len(first)


async def test_the_steps_of_one_form_read_its_list_once_and_the_start_reads_it_again(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, reads, preview = MemoryStore(clock=clock), list[str](), Campaign.preview

    async def counted(campaign: Campaign, queue: CallQueue | None = None) -> EnqueueReport:
        reads.append(campaign.options.batch_id or "")
        return await preview(campaign, queue)

    monkeypatch.setattr(Campaign, "preview", counted)
    async with clerk(store) as one:
        await one.send("look", people())
        await one.send("words", country="SG")
        assert step_of(one) == "words"
        for do, typed, count in (
            ("hours", WORDS, 1), ("check", {}, 1), ("ready", {}, 1), ("check", {"say": "Bye {{guest}}."}, 2),
            ("check", {}, 3), ("preview", {}, 4), ("ready", {}, 4),
        ):  # fmt: skip
            await one.send(do, **typed)
            assert len(reads) == count, (do, typed)
        clock.advance(timedelta(minutes=2))
        await one.send("check")
        await one.send("ready")
        assert len(reads) == 5
        await SuppressionList(store).add("+6587654321")
        told = await one.send("start", skip_bad="yes")
        assert "what the preview showed has changed since" in told
        assert len(reads) == 6
        await SuppressionList(store).remove("+6587654321")
        await SuppressionList(store).add("+6587654322")
        assert "what the preview showed has changed since" in await one.send("start", skip_bad="yes"), "as many others"
        assert not await CallQueue(store).find(), "nothing that was not shown"


async def test_what_was_shown_for_tomorrow_is_not_started_for_the_day_after(clock: ManualClock) -> None:
    store = MemoryStore(clock=clock)
    clock.advance(timedelta(hours=11, minutes=59, seconds=40))  # 20 seconds before midnight
    saved = WORDS.copy() | {"not_before": "tomorrow 09:00", "window": "any"}
    text = "".join(f'{name} = "{value}"\n' for name, value in saved.items())
    async with clerk(store) as one:
        await one.send("look", {**people("Guest,Mobile\nAna,8765 4321\n"), "saved": ("visits.toml", text)})
        await one.send("preview")
        clock.advance(timedelta(seconds=30))
        assert "what the preview showed has changed since" in await one.send("start")
        assert not await CallQueue(store).find()
        await one.send("ready")
        await one.send("start")
        assert [job.due_at for job in await CallQueue(store).find()] == [datetime(2026, 1, 7, 9, tzinfo=UTC)]


async def test_what_was_shown_for_the_batch_of_a_day_is_not_started_in_that_of_the_next(clock: ManualClock) -> None:
    store = MemoryStore(clock=clock)
    clock.advance(timedelta(hours=11, minutes=59, seconds=40))  # 20 seconds before midnight
    keyed = WORDS | {"batch": "visits-{date}", "window": "any", "time_zone": "UTC"}
    async with clerk(store) as one:
        await one.send("look", people("Guest,Mobile,unique_key\nAna,8765 4321,a\n"))
        await one.send("preview", **keyed)
        clock.advance(timedelta(seconds=30))
        assert "what the preview showed has changed since" in await one.send("start")
        assert not await CallQueue(store).find()
        await one.send("ready")
        await one.send("start")
        assert [job.batch_id for job in await CallQueue(store).find()] == ["visits-2026-01-06"]


async def test_the_enter_key_starts_nothing(memory: Store) -> None:
    async with clerk(memory) as one:
        await one.send("look", people())
        await one.send("preview", **WORDS)
        for step, by_enter in (("people", "words"), ("words", "hours"), ("hours", "check"), ("ready", "ready")):
            await one.send(step)
            first = one.shown.text.partition('<form class="card form campaign')[2].partition("<button")[2]
            assert f'name="do" value="{by_enter}"' in first.partition(">")[0], step


ASKED = {
    "menu.languages": "de, fr",
    "menu.questions.0.text.de": "Guten Tag {{guest}}. Ja 1, anders 2, nie mehr 9.",
    "menu.questions.0.text.fr": "Bonjour {{guest}}. Oui 1, autre 2, jamais 9.",
    "menu.questions.0.keys.0.key": "1", "menu.questions.0.keys.0.answer": "coming",
    "menu.questions.0.keys.1.key": "2", "menu.questions.0.keys.1.next": "question-2",
    "menu.questions.0.keys.2.key": "9", "menu.questions.0.keys.2.next": "do_not_call_again",
    "menu.questions.0.keys.2.say.de": "Nie mehr.", "menu.questions.0.keys.2.say.fr": "Plus jamais.",
    "menu.questions.1.text.de": "Morgens 1.", "menu.questions.1.text.fr": "Le matin 1.",
    "menu.questions.1.keys.0.key": "1", "menu.questions.1.keys.0.answer": "morning",
    "menu.goodbye.de": "Tschüss.", "menu.goodbye.fr": "Au revoir.",
    "menu.voice_profile.de": "de-DE-KatjaNeural", "menu.voice_profile.fr": "fr-FR-DeniseNeural",
}  # fmt: skip
GUESTS = people("Guest,Mobile,Sprache\nAna,8765 4321,de\nBob,8765 4322,fr\n")
HERE = {"source": "+6531234567", "country": "SG", "column Sprache": "language"}


async def test_questions_are_asked_by_the_page_and_an_opt_out_holds_in_the_next_campaign(memory: Store) -> None:
    async with clerk(memory) as one:
        await one.send("look", GUESTS)
        assert "ay whose numbers these are" in await one.send("words"), "beside what asks for it"
        await one.send("words", country="SG")
        assert "menu.questions.0.keys.2.next" in one.shown.text
        assert "menu.questions.1" not in one.shown.text
        any_hour = {"window": "any", "days": ""}
        told = await one.send("preview", **HERE, **any_hour, **{**ASKED, "menu.questions.0.keys.1.next": "move"})
        assert "question question-1, key 2, next: 'move' is none of question-1, question-2, do_not_call_again" in told
        assert "move, which is no question" in told, "what was typed stays"
        told = await one.send("preview", **{"menu.questions.0.keys.1.next": "question-2"})
        assert "Guten Tag Ana." in told, told
        assert "Plus jamais." in await one.send("words")
        await one.send("try", number="+6587654399")
        await one.send("start", **{"menu.questions.0.keys.2.say.fr": "Jamais."})
        assert "hanged since the preview: Questions and keys" in Page(one.shown.text).text
        saved = await one.send("save")
        await one.send("start")
    engine = Engine(memory, ScriptedVoice())
    for _ in range(3):
        await engine.send()
    jobs = {job.destination: job for job in await CallQueue(memory).find()}
    answering = Answering.of(memory)
    heard = [(await Line.of(jobs[each]).press(answering, "9")).text for each in ("+6587654399", "+6587654322")]
    assert heard == ["Nie mehr.", "Jamais."]
    async with clerk(memory) as other:
        await other.send("look", {**GUESTS, "saved": ("may.toml", saved)})
        assert held(other.shown)["menu.questions.1.keys.0.answer"] == "morning"
        told = await other.send("preview", again="yes", batch="june")
        assert "1 suppressed" in told, told
        read = tomllib.loads(saved)
        assert read["menu"]["questions"][1]["text"] == {"de": "Morgens 1.", "fr": "Le matin 1."}


TWO_LANGUAGES = """
[menu]
voice_profile = {fr = "fr-FR-DeniseNeural", de = "de-DE-KatjaNeural"}
[[menu.questions]]
id = "a"
text = {de = "Ja 1.", fr = "Oui 1."}
keys.1 = {answer = "yes"}
"""
"""A menu whose texts say alone what its languages are."""


async def test_the_form_adds_the_keys_or_the_question_that_was_asked_for_and_no_other(memory: Store) -> None:
    def fields() -> tuple[int, int]:
        names = set(re.findall(r'name="(menu\.questions\.\d\.(?:text|keys\.\d\.key))"', one.shown.text))
        return sum(name.endswith("text") for name in names), sum(name.endswith("key") for name in names)

    async with clerk(memory) as one:
        await one.send("look", GUESTS)
        await one.send("words", country="SG", **{"menu.questions.0.text": "Yes?", "menu.questions.0.keys.2.key": "3"})
        assert fields() == (1, 3)
        await one.send("words keys")
        assert fields() == (1, 5)
        await one.send("words question")
        assert fields() == (2, 6)
        await one.send("words")
        assert fields() == (1, 3)


async def test_what_is_wrong_with_a_step_stands_beside_its_field_in_the_words_of_the_page(memory: Store) -> None:
    """And what a list lacks as a whole is asked once, above its rows."""
    rows = "".join(f"Ana,8765 432{at},0{at + 1}/12/2026,{'yes' if at == 4 else ''}\n" for at in range(6))
    rows = f"Guest,Mobile,Visit,Do Not Call\n{rows}"
    voiced = {"source": WORDS["source"], "voice_profile": WORDS["voice_profile"]}
    async with clerk(memory) as one:

        def missing() -> list[str]:
            asked = re.findall(r'<div class="notice warn" role="group" aria-label="([^"]*)"', one.shown.text)
            return [each.removeprefix("The ") for each in asked]

        await one.send("look", people(rows))
        assert missing() == ["country of the numbers", "Do Not Call", "Dates of the file look like"]
        for do, typed, faults, step in (
            ("words", {}, ["Say whose numbers these are"], "people"),
            ("words", {"country": "SG", "batch": "x" * 83}, ["it must have 1 to 50 characters"], "people"),
            ("words", {"batch": ""}, ["Leave out whom it forbids to call"], "people"),
            ("leave_out Do Not Call=yes", {}, [], "people"), ("words", {}, [], "words"),
            ("hours", {}, ["Write the text to say"], "words"),
            ("hours", {"say": "Hello {{gest}}."}, ["add a column gest", *["Choose one: the list"] * 2], "words"),
            ("hours", {"say": "Hello {{guest", **voiced}, ["a {{ or a }} is missing"], "words"),
            ("hours", {"say": "x" * 5000}, ["at most 3000 are allowed"], "words"),
            ("hours", {"say": "Until {{visit|date}}."}, ["12/2026' is not a date"], "words"),
            ("people", {}, [], "people"), ("date_order dmy", {}, [], "people"), ("words", {}, [], "words"),
            ("hours", {}, [], "hours"),
            ("check", dict.fromkeys([f"days.{each}" for each in DAYS], ""), ["Tick at least one day."], "hours"),
            ("check", {"days.mon": "yes", "not_before.date": "2099-01-05"}, ["Choose its day and its time."], "hours"),
            ("check", {"not_before.time": "09:00", "redial_max": "2"}, ["needs the outcomes"], "hours"),
            ("check", {"redial_max": "", "valid_for": "soon"}, ["'soon' is not a duration"], "hours"),
            ("check", {"valid_for": "2h"}, [], "check"),
        ):  # fmt: skip
            await one.send(do, **typed)
            told = [Page(each).text for each in re.findall(r'role="alert">(.*?)</small>', one.shown.text, re.DOTALL)]
            assert len(told) == len(faults), (do, typed, told)
            assert all(fault.casefold() in each.casefold() for fault, each in zip(faults, told, strict=True)), told
            assert (step_of(one), "$." in "".join(told)) == (step, False), (do, typed)
        assert missing() == []
        assert "Until January" not in one.shown.text
        assert "left out 1 to look at" in Page(one.shown.text).text


async def test_the_text_of_any_person_is_shown_by_arrow(memory: Store) -> None:
    """From row to row, past those who are not called; a field that was left shows the same person."""
    rows = "Ana,8765 4320\nBob,12\nCleo Lim,8765 4322\nDan,8765 4323\n"
    async with clerk(memory) as one:

        def heard() -> tuple[str, dict[str, str]]:
            part = one.shown.text.partition('id="heard"')[2].partition("</section>")[0]
            ways = re.findall(r'value="(words row \d+)"[^>]*>(\S+ \S+)</button>', part)
            return Page(part).text, {words: do for do, words in ways}

        await one.send("look", people("Name,Mobile\n" + rows))
        await one.send("words", country="SG", skip_bad="yes")
        assert "Here stands what each person will hear." in heard()[0]
        await one.send("words", say="Hello {{name}}.", source=WORDS["source"], voice_profile=WORDS["voice_profile"])
        for way, row, name in (
            ("", "row 2, Ana", "Ana"), ("Next →", "row 4, Cleo Lim", "Cleo Lim"), ("Next →", "row 5, Dan", "Dan"),
            ("← Previous", "row 4, Cleo Lim", "Cleo Lim"), ("← Previous", "row 2, Ana", "Ana"),
        ):  # fmt: skip
            if way:
                await one.send(heard()[1][way])
            assert (row in heard()[0], f"Hello {name}" in heard()[0]) == (True, True), (way, heard()[0])
            assert ("Next →" in heard()[1], "← Previous" in heard()[1]) == (name != "Dan", name != "Ana"), name
        await one.send(heard()[1]["Next →"])
        await one.send("words hear", say="Dear {{name}}.")
        assert "row 4, Cleo Lim Dear Cleo Lim." in heard()[0]
        assert "The longest" not in heard()[1], "this one is"


async def test_a_question_that_is_ready_is_taken_by_one_button_and_has_five_fields(memory: Store) -> None:
    first = "menu.questions.0"
    expected: dict[str, tuple[dict[str, str], dict[str, str]]] = {
        "yes": ({"1": "ja", "2": "no"}, {}), "scale": ({str(key): str(key) for key in range(1, 6)}, {}),
    }  # fmt: skip
    async with clerk(memory) as one:
        for kind in READY:
            one.shown = await one.client.get("/ui/campaign")
            await one.send("look", people("Guest,Mobile\nAna,8765 4321\n", f"{kind}.csv"))
            await one.send("words", country="SG")
            await one.send("words ask yes")  # which another one replaces
            told = await one.send(f"words ask {kind}", say="Hello {{guest}}.", source=WORDS["source"])
            assert "Voice: choose the voice that asks the question" in told
            asked = one.shown.text.partition('id="ask"')[2]
            fields = Form(asked.partition("</section>")[0]).fields
            assert (len(fields), "<details open" in asked) == (5, False), kind
            typed = {f"{first}.text": f"{kind}, {{{{guest}}}}?", f"{first}.keys.0.answer": "ja"}
            typed |= {name: "Danke." for name in fields if name.endswith(".say")}
            typed = {name: text for name, text in typed.items() if name in fields}
            told = await one.send("words", **typed, voice_profile=WORDS["voice_profile"])
            assert f"Hello Ana. {kind}, Ana?" in told, told
            await one.send("check")
            keys = json.loads(json.dumps(menu_in(held(one.shown))))["questions"][0]["keys"]
            answers = {key: row["answer"] for key, row in keys.items() if "answer" in row}
            follows = {key: row["next"] for key, row in keys.items() if "next" in row}
            assert ((answers, follows), {row["say"] for row in keys.values()}) == (expected[kind], {"Danke."}), kind
            await one.send("start", **{"window.any": "yes"})
        await one.send("look", people("Guest,Mobile\nAna,8765 4321\n", "again.csv"))
        await one.send("words ask none")
        assert (menu_in(held(one.shown)), "No question" in one.shown.text) == (None, False)
    assert {job.batch_id for job in await CallQueue(memory).find()} == {*READY}


async def test_the_numbers_stand_before_the_start_and_each_language_is_heard_first(clock: ManualClock) -> None:
    memory = MemoryStore(clock=clock)
    rows = "".join(f"Ana,8765 432{place},{'fr' if place == 5 else 'de'}\n" for place in range(6))
    async with clerk(memory) as one:
        one.client.cookies.set("voiceflow-zone", "Asia/Singapore")
        told = await one.send(
            "preview", people("Guest,Mobile,Sprache\n" + rows), **HERE, **ASKED, valid_for="2h", window="any", days=""
        )
        assert "row 2" in told
        assert told.index("row 4") < told.index("row 7"), "the first of another language, too"
        assert "row 5" not in told
        until = clock.now().astimezone(ZoneInfo("Asia/Singapore")) + timedelta(hours=2)
        said = rf"Call 6 people now \(Singapore\), \d+\s?s, until {until.hour}:{until:%M} at the latest, at any hour"
        assert re.search(said, told := await one.send("ready")), told
        for window, days, words in (
            ("09:00-18:00", "mon-fri", ", Monday to Friday 09:00 to 18:00 at their own clock"),
            ("", "sat,mon", ", Monday, Saturday at their own clock"),
            ("SG=08:00-20:00", "", ", at the hours that it says"),
        ):
            redials = {"redial_on.busy": "yes", "redial_max": "2", "redial_after": "30m"}
            await one.send("hours", window=window, days=days, leave_out="Mobile=8765 4325", valid_for="", **redials)
            told = await one.send("ready")
            assert "Call 5 people" in told
            assert f"{words}; again after 30 min if busy, 2 times at most; 1 left out" in told, told


async def test_what_is_wrong_with_questions_is_told_and_nothing_typed_is_lost(memory: Store) -> None:
    async with clerk(memory) as one:
        await one.send("look", GUESTS)
        for typed, said in (
            ({"menu.questions.0.keys.1.key": "1"}, "the key 1 is there twice; keep one of them"),
            ({"menu.questions.0.keys.1.key": "10"}, "key 10: is not one key of a phone"),
            ({"menu.questions.0.keys.1.key": ""}, "an answer has no key; give it one, or empty its row"),
            ({"menu.questions.0.keys.1.key": "2", "menu.goodbye.fr": ""}, "goodbye: there is no text for fr"),
            ({"menu": "desk"}, "Ask questions, or name a menu that another receiver answers with, not both"),
        ):
            told = await one.send("preview", **HERE, **(ASKED | typed))
            assert said.casefold() in told.casefold(), told
            assert "Guten Tag {{guest}}. Ja 1, anders 2, nie mehr 9." in told
        await one.send("words", **{"menu.languages": ""})
        shown = Form(one.shown.text).typed
        assert shown["menu.languages"] == "de, fr", "of which there are texts"
        assert "Bonjour {{guest}}." in shown["menu.questions.0.text.fr"]
        odd = dict.fromkeys(["menu.questions.x.text", "menu.questions", "menu.languages.0", "menu.goodbye"], "?")
        await one.send("look", **odd, menu="")
        assert one.shown.status_code == 200
    async with clerk(memory) as other:
        told = await other.send("look", {**GUESTS, "saved": ("may.toml", '[menu]\nquestions = "all"\n')})
        assert "uestions: is no list of questions; give at least one" in told
        await other.send("look", {**GUESTS, "saved": ("may.toml", TWO_LANGUAGES)})
        assert (held(other.shown)["menu.languages"], held(other.shown)["menu.questions.0.text.de"]) == (
            "fr, de",
            "Ja 1.",
        )


@given(
    st.dictionaries(
        st.sampled_from(["say", "batch", "voice_profile"]), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
def test_every_text_is_loaded_as_it_was_saved(values: dict[str, str]) -> None:
    kept = {name: text for name, text in values.items() if text.strip()}
    assert loaded_options(saved_options(kept), name="x.toml") == (kept, None)


async def test_a_saved_name_of_a_menu_is_one_whatever_it_begins_with(memory: Store) -> None:
    named = 'menu = "{ask"'
    async with clerk(memory) as one:
        await one.send("look", {**people(), "saved": ("may.toml", named)})
        assert named in await one.send("save")


async def test_a_file_that_cannot_be_used_is_refused_by_its_own_name(memory: Store) -> None:
    async with clerk(memory) as one:
        for saved, why in {
            'file = "a.csv"': "it names a file",
            'ivr = "os:menus"': "is not one of this receiver",
        }.items():
            told = await one.send("look", {**people(), "saved": ("may.toml", saved)})
            assert (one.shown.status_code, why in told) == (409, True), told
        told = await one.send("look", people("PK\x03\x04\0", "may.csv"))
        assert (one.shown.status_code, "may.csv" in told, "/tmp" in told) == (409, True, False), told
        assert "The file 'may.csv' is empty; choose another one." in await one.send("look", people(""))


async def test_a_name_that_no_queue_can_have_is_refused_in_the_form(memory: Store) -> None:
    async with clerk(memory) as one:
        await one.send("look", people())
        told = await one.send("preview", queue="No Queue", **WORDS)
        assert (one.shown.status_code, "'No Queue' cannot be the name of a queue" in told) == (409, True), told
        assert held(one.shown)["say"] == "Hello {{guest}}.", "what was typed stays"


async def test_a_batch_is_searched_by_any_column(memory: Store) -> None:
    requests = [
        CallRequest(flow=flow(number(place)), batch="march", data={"room": f"R{place}", "name": "Ana"})
        for place in range(30)
    ]
    await CallQueue(memory).enqueue_many(requests)
    async with signed_in(receiver(memory), READERS) as client:
        found = await client.get("/ui/calls?batch=march&who=r1")
        shown = Page(found.text)
        assert ">Ana</td>" in found.text
        assert len(shown.links("/calls/")) == 11  # R1, and R10 to R19


async def test_a_time_that_is_typed_is_one_of_the_zone_that_the_page_names(memory: Store) -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    async with clerk(memory) as one:
        one.client.cookies.set("voiceflow-zone", tokyo.key)
        await one.send("look", people())
        told = await one.send("hours", **WORDS, valid_until="tomorrow 18:00")
        assert "in Asia/Tokyo" in told
        one.client.cookies.set("voiceflow-zone", "Europe/Paris")  # as another page is opened
        await one.send("preview")
        await one.send("start")
        ends = {job.valid_until for job in await CallQueue(memory).find()}
        day = memory.clock.now().astimezone(tokyo).date() + timedelta(days=1)
        assert ends == {datetime(day.year, day.month, day.day, 18, tzinfo=tokyo)}


@pytest.mark.parametrize("mobile", ['Tel "privat"', "Tel\nprivat", 'Tel, "privat"', '"', "100%25"])
async def test_a_column_is_chosen_whatever_its_name_is(memory: Store, mobile: str) -> None:
    table = StringIO()
    csv.writer(table).writerows([["Telefon", mobile, "Wer"], ["+6587654321", "+6587654322", "Ana"]])
    async with clerk(memory) as one:
        await one.send("look", people(table.getvalue()))
        office, private, _ = map(unescape, re.findall(r'<select name="(column [^"]*)"', one.shown.text))
        no_file = {"saved": ("", "")}  # with it, the form is sent in parts, as browsers send it
        roles = {private: "destination", office: "ignore"}
        await one.send("people", no_file, **{**WORDS, "say": "Hello {{wer}}."}, **roles)
        assert Form(one.shown.text).typed.items() >= roles.items()
        await one.send("preview")
        await one.send("start")
    (call,) = await CallQueue(memory).find()
    assert (call.destination, "telefon" in (call.data or {})) == ("+6587654322", False)


async def test_what_was_typed_has_no_choice_beside_it_that_loads_the_page_anew(memory: Store) -> None:
    async with clerk(memory) as one:
        assert " data-zones=" in one.shown.text
        await one.send("look", people())
        for page in (one.shown, await one.client.get("/ui/act/suppress")):
            assert "<form" in page.text
            assert " data-zones=" not in page.text


async def test_another_file_does_not_need_the_columns_that_were_chosen_in_the_one_before(memory: Store) -> None:
    words = {**WORDS, "say": "Hello {{name}}."}
    async with clerk(memory) as one:
        await one.send("look", people("Wer,Mobile,Privat\nAna,87654321,x\n"))
        chosen = {"column Wer": "name", "column Privat": "ignore"}
        await one.send("look", people("Kunde,Mobile\nBob,87654322\n", "june.csv"), **words, **chosen)
        assert "Hello Bob." in await one.send("preview", **{"column Kunde": "name"})


async def test_a_choice_says_what_a_column_is_and_a_header_below_titles_is_chosen(memory: Store) -> None:
    lines = ["List of March", "Dr. Li", "Telefon privat;Telefon;Wer;Land", "1;0170 1234567;Ana;Germany"]
    typed = {
        **WORDS,
        "country": "",
        "say": "Hello {{name}}.",
        "column Telefon%20privat": "ignore",
        "column Telefon": "destination",
    }
    async with clerk(memory) as one:
        assert "3: Telefon privat" in await one.send("look", people("\n".join(lines)))
        await one.send("look", header_row="3")
        twice = await one.send("preview", **typed, **{"column Wer": "name", "column Land": "name"})
        assert "Wer and Land are both taken for the name of the person" in twice
        await one.send("preview", **{**typed, "column Wer": "name", "column Land": "country"})
        await one.send("words")
        assert "name=Wer" in held(one.shown)["columns"], "what was chosen stays"
        await one.send("preview")
        await one.send("start")
    (call,) = await CallQueue(memory).find()
    assert (call.destination, call.name, "telefon_privat" in (call.data or {})) == ("+491701234567", "Ana", False)


@pytest.mark.parametrize("titles", ["", "Dates\n"])
async def test_a_saved_campaign_finds_the_header_of_a_file_with_other_titles(memory: Store, titles: str) -> None:
    async with clerk(memory) as one:
        await one.send("look", people(f"Dates\n{PEOPLE}"))
        await one.send("look", header_row="2")
        saved = await one.send("save", **WORDS)
    assert 'header-row = "2"' in saved
    async with clerk(memory) as other:
        told = await other.send("look", {**people(f"{titles}{PEOPLE}"), "saved": ("may.toml", saved)})
        assert other.shown.status_code == 200, told
        told = await other.send("preview")
    assert "called 2" in told, told


async def test_the_sheet_and_the_header_are_chosen_and_struck_rows_are_left_out(memory: Store, tmp_path: Path) -> None:
    rows = [["List of May"], [], ["Wer", "Mobil"], ["Ana", "87654321"], ["Old", "87654322"], ["Bo", "87654323"]]
    path = workbook(tmp_path, rows, Notes=[["a", "b"], ["1", "2"]], Other=[["Name", "Phone"], ["Cy", "87654324"]])
    book = load_workbook(path)
    for cell in book["People"][5]:
        cell.font = Font(strike=True)
    book.save(path)
    async with clerk(memory) as one:
        answer = await one.client.post(
            "/ui/campaign",
            data={**dict(Form(one.shown.text).hidden), "do": "look"},
            files={"file": (path.name, path.read_bytes())},
        )
        one.shown = answer
        assert "choose the one with the people" in Page(answer.text).text
        for name in ("People", "Notes", "Other"):
            assert f'<option value="{name}">' in answer.text
        await one.send("look", sheet="Other")
        told = await one.send("look", sheet="People")
        assert "3: Wer · Mobil" in told, told
        assert "1: List of May" in told
        await one.send("look", header_row="3")
        words = {**WORDS, "say": "Hello {{wer}}.", "column Mobil": "destination"}
        told = await one.send("people", **words)
        assert "3 people · 2 can be called · 1 left out" in told, told
        assert "called 2" in await one.send("preview", **words)
        await one.send("start")
    assert {call.destination for call in await CallQueue(memory).find()} == {"+6587654321", "+6587654323"}


@pytest.mark.parametrize(
    ("wrong", "step"),
    [
        ({"country": "Nowhere"}, "people"),
        ({"columns": "destination=none"}, "people"),
        ({"say": ""}, "words"),
        ({"menu.questions.0.text": "Yes?"}, "words"),
        ({"valid_for": "soon"}, "hours"),
        ({"window": "9", "redial_max": "x"}, "hours"),
        ({}, "check"),
    ],
)
async def test_the_form_shows_the_step_with_the_first_error(memory: Store, wrong: dict[str, str], step: str) -> None:
    async with clerk(memory) as one:
        await one.send("look", people())
        assert step_of(one) == "people"
        await one.send("hours", **WORDS)
        assert step_of(one) == "hours"
        told = await one.send("preview", **wrong)
        assert step_of(one) == step, told
        if not wrong:
            await one.send("ready")
            assert step_of(one) == "ready"
            await one.send("try", number="none")
            assert step_of(one) == "ready"


async def test_findings_stand_by_cause_with_their_rows_and_errors_first(memory: Store) -> None:
    table = "Name,Mobile,Extra\n" + "".join(
        f"N{row},{number},x\n" for row, number in enumerate(["a", "b", "87654321", "c"])
    )
    async with clerk(memory) as one:
        await one.send("look", people(table))
        await one.send("preview", **{**WORDS, "say": "Hello {{name}}."})
    causes = re.findall(r'<td class="first" data-label="rows">([^<]*)</td><td class="name">([^<]*)', one.shown.text)
    assert causes[0] == ("2-3, 5", "Mobile")
    assert '<td class="name">N0, N1, N3</td><td class="line">' in one.shown.text
    lines = "".join(f'{{"Name": "Bo N{row}", "Mobile": "x"}}\n' for row in range(6))
    async with clerk(memory) as one:
        await one.send("look", people(lines, "may.jsonl"))
        await one.send("preview", **{**WORDS, "say": "Hello {{name}}.", "columns": "destination=Mobile"})
    assert '<td class="name">Bo N0, Bo N1, Bo N2, Bo N3, Bo N4, …</td>' in one.shown.text
    assert one.shown.text.count("is not one phone number") == 1
    async with clerk(memory) as one:
        await one.send("look", people("Mobile\n9123 4567 / 6222 3333\nn.a.\n9123 4567 / 6222 3334\n"))
        assert one.shown.text.count('<small class="fault"') == 3
        await one.send("preview", **{**WORDS, "say": "Hello."})
    causes = re.findall(r'data-label="rows">([^<]*)</td>.*?(Row 2: .* is not one phone number)', one.shown.text)
    assert [rows for rows, _ in causes] == ["2-4"], "the sentence names the row of which it is true"


async def test_a_list_that_is_imported_again_asks_whether_it_counts(memory: Store) -> None:
    more = f"{PEOPLE}Cy,8765 4323,1/2/2099,9\n"
    shorter = more.replace("Bob,8765 4322,1/2/2099,8\n", "")
    for table, text in ((more, "Hello {{guest}}."), (shorter, "Good day.")):
        async with clerk(memory) as one:
            await one.send("look", people(table))
            told = await one.send("preview", **{**WORDS, "say": text})
            if text == "Good day.":
                assert "This list counts: change 2, cancel 1, call 0; 0 stay" in told
                assert "Only add who is new; these 3 stay as they were: " in told
                shown = one.shown.text.split('name="list"', 1)[1].split("</fieldset>")[0]
                assert "checked" not in shown, "it cancels a third"
                assert "choose whether this list counts" in await one.send("start")
                assert "Change 2 calls, cancel 1 call" in await one.send("ready", list="counts")
            await one.send("start")
    waiting = await CallQueue(memory).find(states=[JobState.QUEUED])
    assert ["Good day." in job.body for job in waiting] == [True, True]
    async with clerk(memory) as one:
        await one.send("look", people(f"{shorter}Dan,8765 4329,1/2/2099,9\n"))
        told = await one.send("preview", **{**WORDS, "say": "Good evening."})
        assert 'value="counts" checked' in one.shown.text, "it changes two, and cancels nobody"
        await one.send("ready", list="add")
        await one.send("start")
    waiting = await CallQueue(memory).find(states=[JobState.QUEUED])
    assert sorted("Good day." in job.body for job in waiting) == [False, True, True]


async def test_a_campaign_without_hours_is_refused_until_they_are_given_or_any_is_ticked(
    memory: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOICEFLOW_WINDOW")
    told = "The campaign does not say when phones may ring"
    async with clerk(memory) as one:
        await one.send("look", people())
        assert told in await one.send("preview", **WORDS)
        assert "at any hour" in one.shown.text, "the remedy is beside the fault"
        for hours in ({"window.from": "09:00", "window.to": "20:00"}, {"window.from": "", "window.to": ""}):
            shown = await one.send("preview", **hours)
            assert (told in shown) is not bool(hours["window.from"])
        assert told not in await one.send("preview", **{"window.any": "yes"})
        await one.send("ready")
        await one.send("start")
        assert len(await CallQueue(memory).find()) == 2


async def test_a_form_that_was_started_leads_to_its_batch_whichever_click_comes_again(memory: Store) -> None:
    async with clerk(memory) as one:
        await one.send("look", people())
        await one.send("ready", **{**WORDS, "window": "any"})
        page = one.shown
        data: dict[str, list[str]] = {}
        for name, value in Form(page.text).sent:
            data.setdefault(name, []).append(value)
        answers: list[httpx.Response] = []
        async with anyio.create_task_group() as clicks:  # a triple click of somebody without scripts

            async def click() -> None:
                answers.append(await one.client.post("/ui/campaign", data={**data, "do": ["start"]}))

            for _ in range(3):
                clicks.start_soon(click)
        assert [each.status_code for each in answers] == [303] * 3
        one.shown = page  # by the back button
        await one.send("start")
        told = Page(
            (await one.client.get(urljoin("http://calls/ui/campaign", str(answers[-1].headers["location"])))).text
        )
        assert "tarted at" in told.text, told.text
        assert "2 calls enqueued" in told.text
    assert len(await CallQueue(memory).find()) == 2


async def test_a_pasted_list_is_a_source_like_an_upload(memory: Store) -> None:
    async with clerk(memory) as one:
        told = await one.send("look", pasted=PEOPLE.replace(",", "\t"), list_name="May list")
        assert "2 people" in told
        await one.send("ready", **WORDS)
        await one.send("start")
    assert {job.batch_id for job in await CallQueue(memory).find()} == {"May-list"}
