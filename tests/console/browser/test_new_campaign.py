"""A campaign that an operator runs in the pages alone, on a phone too, from the upload to the file of who confirmed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from openpyxl import load_workbook
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.console.browser.reader import PHONE, Reader, violations
from tests.console.signing_in import OPERATORS, READERS
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a browser on a busy machine

ANY_HOUR = {"window": "any", "days": ""}
OWN, CONFIRMS, CANCELS, DOUBTFUL = "+6587654321", "+6581000000", "+6581000001", "+6581000002"
PEOPLE = """Name,Mobile,Time,Other Time
Ana <3,81000000,at ten,at six
Bob,81000001,at noon,at six
Cleo,81000002,at one,at six
Dan,nobody,at two,at six
"""


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Stage]:
    menu = "examples.appointment:appointment"
    with stage(tmp_path, ui_secret=READERS, ui_operator_secret=OPERATORS, ivr=menu) as with_a_menu:
        with_a_menu.order("script", {"destination": OWN, "outcome": "COMPLETED", "keys": ["1"]})
        with_a_menu.order("script", {"destination": CONFIRMS, "outcome": "COMPLETED", "keys": ["1"]})
        with_a_menu.order("script", {"destination": CANCELS, "outcome": "COMPLETED", "keys": ["3"]})
        with_a_menu.order("script", {"destination": DOUBTFUL, "outcome": "NO_ANSWER", "drop": True})
        yield with_a_menu


@pytest.mark.parametrize(("width", "theme"), [(PHONE, "light"), (1280, "dark")])
def test_a_campaign_is_run_without_a_shell(on: Stage, reader: Reader, width: int, theme: str) -> None:
    people = on.folder / "people.csv"
    people.write_text(PEOPLE, encoding="utf-8")
    reader.shown_as(theme=theme, width=width)
    reader.sign_in(on.receiver)
    reader.open(f"{on.receiver}/ui/batches")
    reader.click(reader.link("New campaign"))
    reader.driver.find_element(By.NAME, "file").send_keys(str(people))
    assert violations(reader) == {}
    reader.press("Upload and check")
    reader.sees("Name the name of the person", "Mobile the number to call", "Ana <3")
    assert reader.width <= width
    assert violations(reader) == {}
    reader.fill(source="+6531234567", country="SG")
    reader.press("Next: what they hear")
    for offered in ("voice_profile", "source"):
        assert len(Select(reader.field(offered)).options) > 1, offered
    reader.fill(ivr="appointment")
    reader.press("Next: when")
    reader.fill(**ANY_HOUR)
    reader.press("Next: check")
    reader.sees("called 3", "Hello Ana <3. Your appointment is at ten.", "'nobody'")
    assert reader.width <= width
    assert violations(reader) == {}
    reader.click(reader.field("skip_bad"))
    reader.step("Hours")
    reader.fill(valid_for="6h")
    reader.step("Start")
    assert on.states() == {}
    reader.fill(number=OWN)
    with on.worker():
        reader.press("Call me first")
        reader.sees(f"{OWN} is called with the text of the first row")
        wait_until(lambda: on.rang() == [OWN], "the trial")
        wait_until(lambda: on.states() == {"completed": 1}, lambda: f"its end, not {on.states()}")
    reader.send("start")
    reader.sees("3 calls enqueued", "people")
    reader.click(reader.link("Hold"))
    reader.press("Hold")
    reader.sees("people is on hold")
    on.order("faults", {"fault": "reset", "destination": DOUBTFUL})
    with on.worker():
        reader.click(reader.link("Resume"))
        reader.press("Resume")
        wait_until(lambda: on.states() == {"completed": 3, "in_doubt": 1}, lambda: f"the ends, not {on.states()}")
        reader.open(f"{on.receiver}/ui/doubts")
        reader.click(reader.driver.find_element(By.CSS_SELECTOR, "[data-all] input"))
        reader.press("Resolve the ticked calls")
        reader.click(reader.driver.find_element(By.CSS_SELECTOR, "input[value=placed]"))
        reader.fill(note="seen in the portal")
        reader.press("Resolve")
        reader.sees("is resolved as placed")
    cookies = {each["name"]: each["value"] for each in reader.driver.get_cookies()}
    file = httpx.get(
        f"{on.receiver}/ui/export/xlsx?batch=people", cookies=cookies, timeout=60, trust_env=False
    ).raise_for_status()
    sheet = load_workbook(BytesIO(file.content))["Rows"]
    header, *rows = sheet.iter_rows(values_only=True)
    told = {row[header.index("called number")]: row[header.index("answer")] for row in rows}
    pressed = {entry["destination"]: entry["pressed"] for entry in on.ledger() if entry["destination"] != OWN}
    assert told == {CONFIRMS: "confirmed", CANCELS: "called off", DOUBTFUL: None, None: None}, "the bad one too"
    assert (pressed[CONFIRMS], pressed[CANCELS]) == (["1"], ["3"])
    assert reader.console() == []


def test_a_campaign_is_begun_with_the_keyboard_alone(on: Stage, reader: Reader) -> None:
    people = on.folder / "people.csv"
    people.write_text(PEOPLE.replace("nobody", "81000003"), encoding="utf-8")
    reader.sign_in(on.receiver)
    reader.tab_to("New campaign")
    reader.keys(Keys.ENTER)
    reader.sees("File of the people to call")
    reader.driver.find_element(By.NAME, "file").send_keys(str(people))
    reader.tab_to("Upload and check")
    reader.keys(Keys.ENTER)
    reader.sees("Mobile the number to call")
    reader.tab_to("country")
    reader.keys("Sing")
    reader.tab_to("Next: what they hear")
    reader.keys(Keys.ENTER)
    reader.sees("Text to say")
    reader.tab_to("say")
    reader.keys("Hello ")
    reader.tab_to("Name")
    reader.keys(Keys.SPACE)
    for name, text in (("voice_profile", "en-US-J"), ("source", "+65")):
        reader.tab_to(name)
        reader.keys(text)
    reader.tab_to("Next: when")
    reader.keys(Keys.ENTER)
    reader.tab_to("window.from")
    reader.keys(Keys.ENTER)
    reader.sees("called 4", "Hello Ana <3")
    assert on.states() == {}, "the Enter key in a field shows the preview, and starts nothing"
    reader.tab_to("Next: start")
    reader.keys(Keys.ENTER)
    reader.tab_to("Call 4 people")
    reader.keys(Keys.ENTER)
    reader.sees("4 calls enqueued")


def test_questions_are_asked_in_two_languages_on_a_phone(on: Stage, reader: Reader) -> None:
    people = on.folder / "guests.csv"
    people.write_text("Name,Mobile,Language\nAna,81000000,de\nBob,81000005,fr\n", encoding="utf-8")
    on.order("script", {"destination": "+6581000005", "outcome": "COMPLETED", "keys": ["9"]})
    reader.shown_as(theme="light", width=PHONE)
    reader.sign_in(on.receiver)
    reader.open(f"{on.receiver}/ui/campaign")
    reader.driver.find_element(By.NAME, "file").send_keys(str(people))
    reader.press("Upload and check")
    reader.fill(source="+6531234567", country="SG")
    reader.press("Next: what they hear")
    reader.click(reader.driver.find_element(By.XPATH, "//summary[contains(., 'Questions and keys')]"))
    first = "menu.questions.0"
    reader.fill(**{"menu.languages": "de, fr", f"{first}.text": "Hallo {{name}}. Ja 1, nie mehr 9."})
    reader.press("Show the texts of each language")
    assert violations(reader) == {}
    reader.fill(**{f"{first}.text.fr": "Bonjour {{name}}. Oui 1, jamais 9.", f"{first}.keys.0.key": "1"})
    reader.fill(**{f"{first}.keys.0.answer": "coming", f"{first}.keys.1.key": "9"})
    reader.fill(**{f"{first}.keys.1.say.de": "Nie mehr.", f"{first}.keys.1.say.fr": "Plus jamais."})
    reader.fill(**{"menu.voice_profile.de": "de-DE-KatjaNeural", "menu.voice_profile.fr": "fr-FR-DeniseNeural"})
    Select(reader.driver.find_element(By.NAME, f"{first}.keys.1.next")).select_by_value("do_not_call_again")
    reader.press("Next: when")
    reader.fill(**ANY_HOUR)
    reader.press("Next: check")
    reader.sees("called 2", "Hallo Ana. Ja 1, nie mehr 9.")
    for _ in range(2):
        reader.driver.back()
    assert reader.field(f"{first}.text.fr").get_attribute("value") == "Bonjour {{name}}. Oui 1, jamais 9."
    for _ in range(2):
        reader.driver.forward()
    assert reader.width <= PHONE
    reader.press("Next: start")
    reader.send("start")
    reader.sees("2 calls enqueued")
    with on.worker():
        wait_until(lambda: on.states() == {"completed": 2}, lambda: f"{on.states()}")
    heard = {entry["destination"]: entry["heard"] for entry in on.ledger()}
    assert heard["+6581000000"][0] == "Hallo Ana. Ja 1, nie mehr 9."
    assert heard["+6581000005"] == ["Bonjour Bob. Oui 1, jamais 9.", "Plus jamais."]
    assert [call["outcome"]["answer"] for call in on.calls("--answer", "coming")] == ["coming"]
    reader.open(f"{on.receiver}/ui/suppression")
    reader.sees("+6581000005")


def clinic(path: Path, count: int) -> Path:
    """A list as a clinic has it: every fourth visit is cancelled."""
    states = ("Booked", "Confirmed", "Booked", "Cancelled")
    rows = (f"Guest {at},8100 {at:04},2030-12-{1 + at % 28:02},{states[at % 4]}" for at in range(count))
    path.write_text("\n".join(("Patient,Mobile,Visit,Status", *rows, "")), encoding="utf-8")
    return path


HEIGHT = "return Math.ceil(document.querySelector('main').getBoundingClientRect().bottom + scrollY)"


@pytest.mark.parametrize("width", [1280, 390])
def test_a_campaign_of_forty_is_made_with_nothing_typed_but_the_text_and_a_name(
    on: Stage, reader: Reader, width: int
) -> None:
    def go(step: str) -> None:
        reader.send(step)
        assert (reader.width <= width, violations(reader)) == (True, {}), step

    def tick(name: str) -> None:
        box = reader.driver.find_element(By.CSS_SELECTOR, f"[name='{name}'][type=checkbox]")
        reader.script("arguments[0].scrollIntoView({block: 'center'})", box)
        box.click()

    on.order("script", {"outcome": "COMPLETED"})
    on.order("script", {"destination": "+6581000001", "outcome": "BUSY"})
    reader.shown_as(theme="light", width=width)
    reader.sign_in(on.receiver)
    for count in (30, 40):
        reader.open(f"{on.receiver}/ui/campaign")
        reader.field("file").send_keys(str(clinic(on.folder / f"visits{count}.csv", count)))
        go("look")
        if count == 30 and width == 1280:
            assert reader.script(HEIGHT) <= 1400
    Select(reader.field("country")).select_by_value("SG")
    go("people")
    reader.click(reader.driver.find_element(By.XPATH, "//summary[normalize-space()='More']"))
    reader.fill(batch="spring", leave_out="Status=Cancelled")
    go("words")
    reader.fill(say="Hello ")
    reader.click(reader.driver.find_element(By.XPATH, "//button[normalize-space()='Patient']"))
    for name in ("voice_profile", "source"):
        Select(reader.field(name)).select_by_index(1)
    go("hours")
    if width == 1280:
        assert reader.script(HEIGHT) <= 900, "that of the window"
        assert reader.script("return document.forms[document.forms.length - 1].getBoundingClientRect().bottom") <= 736
    reader.fill(**ANY_HOUR)
    for name, picked in (("window.from", "00:00"), ("window.to", "23:59")):
        reader.script("arguments[0].value = arguments[1]", reader.field(name), picked)  # as the browser's picker does
    away = (datetime.now(UTC) + timedelta(days=3)).strftime("%a").lower()
    tick(f"days.{away}")
    for name, picked in (("redial_max", "2"), ("redial_after", "15m")):
        Select(reader.field(name)).select_by_value(picked)
    for outcome in ("busy", "no_answer"):
        tick(f"redial_on.{outcome}")
    go("check")
    go("ready")
    reader.sees("30 people", "10 left out")
    reader.send("start")
    with on.worker():
        wait_until(lambda: on.states().get("completed") == 29, lambda: f"{on.states()}")  # one is busy
    assert sorted(on.rang()) == [f"+65810000{at:02}" for at in range(40) if at % 4 != 3]
    reader.open(f"{on.receiver}/ui/batches/spring?queue=default")
    assert reader.width <= width
    assert violations(reader) == {}
    if width == 390:
        assert reader.script(HEIGHT) <= 3600
    assert reader.console() == []


def test_a_sign_in_that_ends_loses_nothing_and_a_start_is_one_whatever_is_clicked(on: Stage, reader: Reader) -> None:
    """On a phone: words, the arrow to another person, a triple click on the start, and the button of before."""
    people = on.folder / "swim.csv"
    people.write_text(
        "Name,Mobile,Class,Teacher\nAna Lim,+6581000000,Frogs,Mr Goh\nSiti Nurhaliza Binte Ahmad,+65 9123,Frogs,Goh\n",
        encoding="utf-8",
    )
    reader.shown_as(theme="light", width=390)
    reader.sign_in(on.receiver)
    reader.open(f"{on.receiver}/ui/campaign")
    reader.field("file").send_keys(str(people))
    reader.send("look")
    seen = (
        "return [...document.querySelectorAll('td.who, td.phone, td.faults')].map(each => each.getBoundingClientRect())"
    )
    assert all(0 <= each["left"] < each["right"] <= 390 for each in reader.script(seen)), "name, number and fault"
    cell = reader.driver.find_element(By.CSS_SELECTOR, "td.faults input:not([type=hidden])")
    cell.clear()
    cell.send_keys("+65 8100 0003")
    reader.send("words")
    reader.fill(say="Hello {{name}}.", source="+6531234567", voice_profile="en-IE-EmilyNeural")
    reader.driver.delete_all_cookies()
    reader.send("hours")
    reader.sees("Your sign-in has ended, and nothing was done")
    reader.fill(name="Mary Tan", secret=OPERATORS)
    reader.press("Sign in")
    reader.sees("You have signed in again", "Hello Ana Lim.")
    assert (reader.field("say").get_attribute("value"), violations(reader)) == ("Hello {{name}}.", {})
    reader.press("Next →")
    heard = reader.driver.find_element(By.ID, "heard")
    box = reader.script("const box = arguments[0].getBoundingClientRect(); return [box.top, innerHeight]", heard)
    assert ("row 3, Siti Nurhaliza" in heard.text, 0 <= box[0] < box[1]) == (True, True), (
        "in the window, where it was pressed"
    )
    reader.press("Yes or no")
    assert (reader.width <= 390, violations(reader)) == (True, {})
    reader.send("hours")
    reader.fill(**ANY_HOUR)
    reader.send("check")
    button = reader.driver.find_element(By.CSS_SELECTOR, ".form.check .button[value=start]")
    page = reader.driver.find_element(By.TAG_NAME, "html")
    clicked = "const [it] = arguments; it.click(); it.click(); it.click(); return [it.textContent, it.ariaDisabled]"
    assert reader.script(clicked, button) == ["starting …", "true"]
    reader.leave(page)
    reader.sees("2 calls enqueued")
    reader.driver.back()
    reader.sees("Preview of swim.csv")
    reader.press("Call 2 people")
    reader.sees("tarted at", "2 calls enqueued")
    assert on.states() == {"queued": 2}
    assert not [each for each in reader.console() if "401" not in each]
