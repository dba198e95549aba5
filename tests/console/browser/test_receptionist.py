"""A receptionist's task, by the pages alone: from her workbook to the list, each count as the ledger has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from openpyxl import Workbook
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.console.browser.practice import Practice, desk, upload, write
from tests.console.browser.reader import Reader, violations
from voiceflow_worker import SessionStatus
from voiceflow_worker.sandbox import Script

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]  # a browser on a busy machine
__all__ = ["desk"]

CONFIRMED, LATER, SILENT, ABSENT = range(15), range(15, 19), range(19, 23), range(23, 29)
EVERYBODY = (*CONFIRMED, *LATER, *SILENT, *ABSENT)
IN_SIGHT = """const [row] = document.querySelectorAll("table.calls tbody tr");
  return [...row.cells].slice(0, arguments[0]).every((cell) => {
    const box = cell.getBoundingClientRect();
    return box.left >= 0 && box.right <= innerWidth && (innerWidth < 600 || box.bottom <= innerHeight);
  })"""
"""Whether so many cells of the first row are seen without scrolling; on a phone, without scrolling sideways."""


def phone(place: int) -> str:
    return f"+49170{1000000 + 7 * place}"


def termine(path: Path, *people: int) -> Path:
    """The list of a day, one row of which has no number that can be called."""
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(("Name", "Vorname", "Telefon", "Arzt", "Bemerkung"))
    for place in people:
        note = "bitte nüchtern kommen und die Karte mitbringen"
        sheet.append((f"Kern{place:02}", "Eva", phone(place), "Dr Lee" if place % 3 else "Dr Kim", note))
    sheet.append(("Falsch", "Otto", "12", "Dr Lee", ""))
    book.save(path)
    return path


def tabs(reader: Reader) -> dict[str, WebElement]:
    """The counts above the rows, each as it reads."""
    return {each.text: each for each in reader.driver.find_elements(By.CSS_SELECTOR, "nav.tabs a")}


def people(reader: Reader) -> list[str]:
    """The rows of the list, each as it reads with its details."""
    rows = reader.driver.find_elements(By.CSS_SELECTOR, "table.calls tbody tr")
    return [" ".join(str(each.get_property("textContent")).split()) for each in rows]


def counts(**known: int) -> list[str]:
    return [f"{name.replace('_', ' ')} {count}" for name, count in known.items()]


@pytest.mark.parametrize("width", [1280, 390])
def test_from_her_workbook_to_the_list_each_count_is_that_of_the_ledger(
    desk: Practice, reader: Reader, tmp_path: Path, width: int
) -> None:
    ended = {"1": CONFIRMED, "2": LATER}
    for key, places in ended.items():
        for place in places:
            desk.sandbox.scripts.add(Script(destination=phone(place), outcome=SessionStatus.COMPLETED, keys=[key]))
    for place in SILENT:
        desk.sandbox.scripts.add(Script(destination=phone(place), outcome=SessionStatus.COMPLETED, keys=[]))
    for place in ABSENT:
        desk.sandbox.scripts.add(Script(destination=phone(place), outcome=SessionStatus.NO_ANSWER, times=1))
        desk.sandbox.scripts.add(Script(destination=phone(place), outcome=SessionStatus.COMPLETED, keys=["1"]))
    reader.shown_as(theme="light", width=width)
    reader.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Europe/Berlin"})
    reader.sign_in(desk.address)

    upload(reader, desk, termine(tmp_path / "dienstag.xlsx", *EVERYBODY))
    reader.fill(source="+4930123456", country="DE")
    reader.send("words")
    reader.click(reader.driver.find_element(By.CSS_SELECTOR, "form.words details summary"))
    reader.fill(**{"menu.languages": "de"})
    reader.send("words")
    write(reader, "menu.questions.0.text.de", "Guten Tag ", "{{vorname}}", ". Kommen Sie?")
    for place, answer in enumerate(("confirmed", "call back")):
        at = f"menu.questions.0.keys.{place}"
        reader.fill(**{f"{at}.key": str(place + 1), f"{at}.answer": answer})
    reader.fill(**{"menu.goodbye.de": "Auf Wiederhören.", "menu.voice_profile.de": "de-DE-KatjaNeural"})
    reader.send("hours")
    reader.fill(window="09:00-18:00", valid_for="24h")
    reader.send("check")
    assert "Otto Falsch" in reader.driver.find_element(By.CSS_SELECTOR, "form.check table").text
    found = {"preview": violations(reader)}
    reader.click(reader.field("skip_bad"))
    reader.send("ready")
    reader.send("start")
    assert desk.work().keys() == {phone(place) for place in EVERYBODY}

    reader.open(f"{desk.address}/ui/batches/dienstag?queue=default")
    shown = counts(all=30, confirmed=15, call_back=4, no_key=4, not_reached=6, not_called=1)
    reader.sees(*shown, f"All {len(EVERYBODY)} calls have ended.")
    assert list(tabs(reader)) == shown
    assert reader.script(IN_SIGHT, 5), "name, first name, result, answer and why"
    assert people(reader)[0].startswith("Kern00 Eva ")
    for count, places in zip(shown[1:-1], (CONFIRMED, LATER, SILENT, ABSENT), strict=True):
        reader.click(tabs(reader)[count])
        reader.sees(count)
        rows = people(reader)
        assert [row.split()[0] for row in rows] == [f"Kern{place:02}" for place in places], count
        assert all(phone(place) in row and "Dr " in row for place, row in zip(places, rows, strict=True))
        found[count] = violations(reader)
    button = reader.link("Redial")
    reader.go(button)
    reader.click(reader.driver.find_element(By.CSS_SELECTOR, "main form button.primary, main form button.danger"))
    reader.sees("6 calls", f"{len(ABSENT)} wait: no worker of queue default runs.")
    assert desk.work().keys() == {phone(place) for place in ABSENT}
    shown = counts(all=30, confirmed=21, call_back=4, no_key=4, not_called=1)
    reader.open(f"{desk.address}/ui/batches/dienstag?queue=default")
    reader.sees(*shown)
    assert list(tabs(reader)) == shown
    assert len(people(reader)) == 30, "one row a person, with both calls"
    for text, expected in (("confirmed", 21), ("Dr Lee", 19), ("Eva Kern07", 1)):
        reader.fill(find=text)
        reader.go(reader.driver.find_element(By.CSS_SELECTOR, ".find button"))
        assert len(people(reader)) == expected, text

    for address in ("batches/dienstag?queue=default", "calls?who=Dr+Lee"):
        reader.open(f"{desk.address}/ui/{address}")
        found[address] = violations(reader)
    assert {page: each for page, each in found.items() if each} == {}
    assert reader.width <= width
    assert reader.console() == []
