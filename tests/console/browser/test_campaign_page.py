"""A campaign at a desk and on a phone: by the page alone from the list to who was called, judged by the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from tests.console.browser.reader import Reader, violations
from tests.console.signing_in import OPERATORS, READERS
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a browser on a busy machine

PEOPLE = "Name,Mobile\nAna <3,+6581000000\nBob,+6581000001\nCleo,+6581000002\n"
ENDED = {"completed", "unreached", "failed", "cancelled"}


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Stage]:
    account: dict[str, Any] = {"source": "+6531234567", "voice_profile": "en-SG-LunaNeural"}
    with stage(tmp_path, ui_secret=READERS, ui_operator_secret=OPERATORS, **account) as found:
        yield found


@dataclass
class Hands:
    """What somebody does on a page, counted: clicks, and signs that are typed."""

    reader: Reader
    clicks: int = 0
    signs: int = 0
    heights: dict[str, int] = field(default_factory=dict[str, int])

    def press(self, text: str) -> None:
        self.clicks += 1
        self.reader.go(
            self.reader.driver.find_element(By.XPATH, f"//main//*[self::button or self::a][normalize-space()='{text}']")
        )

    def click(self, element: WebElement) -> None:
        self.clicks += 1
        self.reader.click(element)

    def type(self, name: str, text: str) -> None:
        self.click(self.reader.field(name))
        self.reader.keys(text)
        self.signs += len(text)

    def choose(self, name: str, value: str) -> None:
        self.clicks += 2
        Select(self.reader.field(name)).select_by_value(value)

    def file(self, path: Path) -> None:
        self.clicks += 2  # the field, and the file in the window of the system
        self.reader.field("file").send_keys(str(path))

    def insert(self, column: str) -> None:
        self.click(self.reader.driver.find_element(By.CSS_SELECTOR, f"[data-insert='{column}']"))

    def measure(self, page: str) -> None:
        self.heights[page] = int(self.reader.script("return document.documentElement.scrollHeight"))


def written(path: Path, content: str = PEOPLE) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def clinic(path: Path, *, changed: bool = False) -> Path:
    """A clinic's list of 41 rows. The next morning one has moved, one is gone, one is left out, and two are new."""
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(("Patient", "Mobile", "Visit", "Status"))
    for at in range(39):
        row = [f"Guest {at}", f"8100 {at:04}", f"2030-12-{1 + at % 28:02}", "Cancelled" if at in {7, 8} else "Booked"]
        if changed and at == 1:
            row[0] = "Guest One"
        if changed and at == 2:
            row[3] = "Cancelled"
        if not (changed and at == 3):
            sheet.append(row)
    for at, number in enumerate(("12", "none")):
        sheet.append((f"Bad {at}", f"8100 20{at}0" if changed else number, "2030-12-01", "Booked"))
    book.save(path)
    return path


def phone(at: int) -> str:
    return f"+658100{at:04}"


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_small_list_is_called_and_nobody_twice(on: Stage, reader: Reader, width: int, theme: str) -> None:
    people = written(on.folder / "people.csv")
    reader.shown_as(theme=theme, width=width)
    reader.sign_in(on.receiver)
    hands = Hands(reader)
    reader.open(f"{on.receiver}/ui/batches")
    hands.press("New campaign")
    hands.file(people)
    found = {"upload": violations(reader)}
    reader.open(f"{on.receiver}/ui/campaign")
    hands.clicks = 1
    hands.file(people)
    hands.press("Upload")
    hands.measure("before its check")
    hands.type("say", "Hi ")
    hands.insert("{{name}}")
    hands.click(reader.field("any"))
    hands.press("Check")
    reader.sees("Hi Ana <3", "Hi Cleo", "Call 3 people")
    hands.measure("after its check")
    address = reader.driver.current_url.partition("#")[0]
    found["checked"] = violations(reader)
    assert reader.width <= width
    reader.open(address)
    assert on.states() == {}
    assert (hands.clicks, hands.signs) == (8, 3)
    before = reader.driver.current_window_handle
    reader.driver.switch_to.new_window("tab")
    reader.open(address)
    other = reader.driver.current_window_handle
    reader.driver.switch_to.window(before)
    page = reader.driver.find_element(By.TAG_NAME, "html")
    button = reader.driver.find_element(By.XPATH, "//button[normalize-space()='Call 3 people']")
    reader.script("arguments[0].scrollIntoView({block: 'center'})", button)
    ActionChains(reader.driver).double_click(button).perform()
    reader.leave(page)
    reader.sees("3 calls", "people")
    reader.driver.back()
    reader.press("Call 3 people")
    reader.sees("Batch people: 3 calls")
    reader.open(address)
    reader.sees("Batch people: 3 calls")
    reader.driver.switch_to.window(other)
    reader.press("Call 3 people")
    reader.sees("Batch people: 3 calls")
    found["batch"] = violations(reader)
    with on.worker():
        wait_until(lambda: on.states().keys() <= ENDED, lambda: f"{on.states()}")
    assert sorted(on.rang()) == [phone(at) for at in range(3)]
    assert {page: each for page, each in found.items() if each} == {}
    assert reader.console() == []
    print(f"small list, {width}: {hands.clicks} clicks, {hands.signs} signs, heights {hands.heights}")  # noqa: T201


@pytest.mark.parametrize("width", [1280, 390])
def test_a_clinic_calls_its_list_and_the_changed_one_the_next_morning(on: Stage, reader: Reader, width: int) -> None:
    reader.shown_as(theme="light", width=width)
    reader.sign_in(on.receiver)
    hands = Hands(reader)
    reader.open(f"{on.receiver}/ui/campaign")
    hands.clicks += 1
    hands.file(clinic(on.folder / "visits.xlsx"))
    hands.press("Upload")
    hands.choose("country", "SG")
    hands.type("say", "Hello ")
    hands.insert("{{patient}}")
    hands.type("from", "1200AM")
    hands.type("to", "1159PM")
    hands.press("Check")
    reader.sees("bad rows 2", "Booked 39", "Cancelled 2", "Hello Guest 0")
    hands.measure("bad rows")
    hands.press("leave out Status Cancelled")
    page = reader.driver.find_element(By.TAG_NAME, "html")
    hands.click(reader.field("skip_bad"))
    reader.leave(page)  # a tick beside the preview checks again
    hands.measure("to be called")
    assert violations(reader) == {}
    assert reader.width <= width
    hands.press("Call 37 people")
    reader.sees("37 calls enqueued")
    print(f"clinic, {width}: {hands.clicks} clicks, {hands.signs} signs, heights {hands.heights}")  # noqa: T201
    assert (hands.clicks, hands.signs) == (14, 18)

    reader.open(f"{on.receiver}/ui/calls?who={phone(4).removeprefix('+')}")
    reader.go(reader.link(phone(4)))
    reader.go(reader.link("Cancel"))
    reader.press("Cancel the call")
    reader.open(f"{on.receiver}/ui/campaign")
    Select(reader.field("like")).select_by_visible_text("of batch visits")
    reader.field("file").send_keys(str(clinic(on.folder / "visits.xlsx", changed=True)))
    reader.press("Upload")
    reader.press("Check")
    reader.sees("This list replaces what waits", "2 new", "1 changed", "cancelled by a person")
    page = reader.driver.find_element(By.TAG_NAME, "html")
    reader.click(reader.field("replaces"))
    reader.leave(page)
    reader.press("Call 2 people, change 1 call, cancel 2 calls")
    reader.sees("2 calls enqueued", "1 changed", "2 cancelled")
    with on.worker():
        wait_until(lambda: on.states().keys() <= ENDED, lambda: f"{on.states()}")
    heard = {entry["destination"]: " ".join(entry["heard"]) for entry in on.ledger()}
    expected = [phone(at) for at in range(39) if at not in {2, 3, 4, 7, 8}] + [phone(2000), phone(2010)]
    assert sorted(on.rang()) == sorted(expected), "each once"
    assert (heard[phone(1)], heard[phone(5)]) == ("Hello Guest One", "Hello Guest 5")
    assert reader.console() == []


def test_wrong_files_are_told_in_a_sentence_and_the_form_is_kept(on: Stage, reader: Reader) -> None:
    files = {
        "photo.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 20,
        "scan.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
        "locked.xlsx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4000),
        "large.csv": b"Guest,Mobile\n" + b"Ana,+6587654321\n" * 1_900_000,
        "names.csv": b"Guest,Room\nAna,seven\nBob,eight\n",
    }
    reader.sign_in(on.receiver)
    reader.open(f"{on.receiver}/ui/campaign")
    reader.field("file").send_keys(str(written(on.folder / "people.csv")))
    reader.press("Upload")
    reader.fill(say="Hello {{name}}.")
    reader.press("Check")
    for name, content in files.items():
        (wrong := on.folder / name).write_bytes(content)
        reader.script("for (const each of document.querySelectorAll('details')) each.open = true")
        reader.field("file").send_keys(str(wrong))
        reader.go(next(each for each in reader.driver.find_elements(By.CSS_SELECTOR, "[value=check]:not(.unseen)")))
        alerts = [each.text for each in reader.driver.find_elements(By.CSS_SELECTOR, "[role=alert]")]
        print(f"{name}: {alerts}")  # noqa: T201
        assert len(alerts) == 1, (name, alerts)
        assert reader.field("say").get_attribute("value") == "Hello {{name}}.", name
        assert not reader.driver.find_elements(By.CSS_SELECTOR, "[value=start]") or name == "large.csv"
    assert on.states() == {}


def test_a_campaign_is_begun_with_the_keyboard_alone(on: Stage, reader: Reader) -> None:
    people = written(on.folder / "people.csv")
    reader.sign_in(on.receiver)
    reader.tab_to("New campaign")
    reader.keys(Keys.ENTER)
    reader.sees("List of the people to call")
    reader.driver.find_element(By.NAME, "file").send_keys(str(people))
    reader.tab_to("Upload")
    reader.keys(Keys.ENTER)
    reader.sees("What they hear")
    reader.tab_to("say")
    reader.keys("Hello ")
    reader.tab_to("Name")
    reader.keys(Keys.SPACE)
    reader.tab_to("any")
    reader.keys(Keys.SPACE)
    reader.tab_to("source")
    reader.keys(Keys.ENTER)
    reader.sees("Hello Ana <3")
    assert on.states() == {}, "the Enter key in a field checks, and starts nothing"
    reader.tab_to("Call 3 people")
    reader.keys(Keys.ENTER)
    reader.sees("3 calls enqueued")


def test_what_was_typed_outlives_a_sign_in_that_ended(on: Stage, reader: Reader) -> None:
    reader.sign_in(on.receiver)
    reader.open(f"{on.receiver}/ui/campaign")
    reader.field("file").send_keys(str(written(on.folder / "people.csv")))
    reader.press("Upload")
    reader.fill(say="Hello {{name}}.")
    reader.click(reader.field("any"))
    reader.driver.delete_all_cookies()
    reader.press("Check")
    reader.sees("Your sign-in has ended, and nothing was done. Sign in in a new tab")
    reader.fill(name="Mary Tan", secret=OPERATORS)
    before = reader.driver.current_window_handle
    reader.click(reader.driver.find_element(By.XPATH, "//button[normalize-space()='Sign in']"))
    wait_until(lambda: len(reader.driver.window_handles) == 2, "the new tab")
    reader.driver.switch_to.window(next(each for each in reader.driver.window_handles if each != before))
    reader.sees("Mary Tan, operator")
    reader.driver.switch_to.window(before)
    reader.driver.back()
    assert reader.field("say").get_attribute("value") == "Hello {{name}}."
    reader.press("Check")
    reader.sees("Call 3 people")
