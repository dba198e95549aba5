"""A day at the desk of a practice, by the pages alone: the sandbox's ledger says who heard what, and how often."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from openpyxl import Workbook
from openpyxl.styles import Font
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from tests.console.browser.practice import Practice, desk, upload, write
from tests.console.browser.reader import Reader
from tests.support.waiting import wait_until
from voiceflow_worker import SessionStatus
from voiceflow_worker.sandbox import Script

__all__ = ["desk"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a browser on a busy machine

NINE = datetime(2026, 12, 2, 8, tzinfo=UTC)
"""09:00 there on the next day."""
ANNA, LUC, KIM, JO, LEA = "+491701234567", "+33612345678", "+491717654321", "+491717654322", "+491717654323"
QUESTION = "menu.questions.0"
KEYS = (("1", "", "kommt"), ("3", "", "später"), ("9", "do_not_call_again", ""))
QUESTIONS = (
    ("text.de", "Guten Tag ", "{{patient}}", ". Kommen Sie am ", "{{tag|date}}", "?"),
    ("text.fr", "Bonjour ", "{{patient}}", ". Venez-vous le ", "{{tag|date}}", "?"),
    ("keys.0.say.de", "Danke, ", "{{patient}}", "."),
    ("keys.0.say.fr", "Merci, ", "{{patient}}", "."),
    ("keys.1.say.de", "Bis später."),
    ("keys.1.say.fr", "À plus tard."),
    ("keys.2.say.de", "Nie mehr, ", "{{patient}}", "."),
    ("keys.2.say.fr", "Plus jamais."),
)


def workbook(path: Path, *rows: tuple[str, ...], struck: int) -> Path:
    """A list of appointments, with its title, and one row struck through."""
    book = Workbook()
    sheet = book.worksheets[0]
    for row in (("Termine",), ("Patient", "Handy", "Sprache", "Tag"), *rows):
        sheet.append(row)
    for cell in sheet[struck]:
        cell.font = Font(strike=True)
    book.save(path)
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_who_is_meant_hears_what_was_written_today_and_tomorrow(
    desk: Practice, reader: Reader, tmp_path: Path, width: int
) -> None:
    today = workbook(
        tmp_path / "dienstag.xlsx",
        ("Anna Müller", "0170 1234567", "de", "03.12.2026"),
        ("Luc Petit", "+33 6 12 34 56 78", "fr", "13.12.2026"),
        ("Gestrichen", "0170 1234568", "de", "03.12.2026"),
        ("Kim Weiß", "0171 7654321", "de", "04.12.2026"),
        ("Jo Kern", "0171 7654322", "de", "05.12.2026"),
        struck=5,
    )
    tomorrow = workbook(
        tmp_path / "mittwoch.xlsx",
        ("Anna Müller", "0170 1234567", "de", "09.12.2026"),
        ("Jo Kern", "0171 7654322", "de", "09.12.2026"),
        ("Lea Neu", "0171 7654323", "de", "09.12.2026"),
        ("Luc Petit", "+33 6 12 34 56 78", "fr", "10.12.2026"),
        struck=3,
    )
    pressed = ((KIM, "3", 1), (JO, "9", 1), (ANNA, "1", None), (LUC, "1", None), (LEA, "1", None))
    for number, key, times in pressed:
        desk.sandbox.scripts.add(Script(destination=number, outcome=SessionStatus.COMPLETED, keys=[key], times=times))
    reader.shown_as(theme="light", width=width)
    reader.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Europe/Berlin"})
    reader.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    reader.sign_in(desk.address)

    upload(reader, desk, today)
    reader.sees("struck through")
    reader.fill(**{"column Sprache": "language"})
    reader.fill(source="+4930123456", country="DE")
    reader.send("words")
    write(reader, "say", "Praxis Sonne.")
    reader.click(reader.driver.find_element(By.CSS_SELECTOR, "form.words details summary"))
    reader.fill(**{"menu.languages": "de, fr"})
    reader.send("words")
    for name, *parts in QUESTIONS:
        write(reader, f"{QUESTION}.{name}", *parts)
    for place, (key, then, answer) in enumerate(KEYS):
        at = f"{QUESTION}.keys.{place}"
        reader.fill(**{f"{at}.key": key, f"{at}.answer": answer})
        Select(reader.field(f"{at}.next")).select_by_value(then)
    reader.fill(**{"menu.goodbye.de": "Auf Wiederhören.", "menu.goodbye.fr": "Au revoir."})
    reader.fill(**{"menu.voice_profile.de": "de-DE-KatjaNeural", "menu.voice_profile.fr": "fr-FR-DeniseNeural"})
    reader.send("hours")
    reader.sees("put it into the menu's first question")
    reader.field("say").clear()
    reader.send("hours")
    reader.fill(window="09:00-18:00", valid_for="24h")
    reader.send("check")
    reader.sees("Guten Tag Anna Müller. Kommen Sie am 3. Dezember 2026?", "Venez-vous le 13 décembre 2026?")
    reader.click(reader.driver.find_element(By.CSS_SELECTOR, "button[name=do][value=save]"))
    saved = tmp_path / "campaign.toml"
    wait_until(saved.exists, "the campaign as a file")
    assert "rows" not in "".join(tomllib.loads(saved.read_text(encoding="utf-8")))
    reader.send("ready")
    reader.send("start")
    assert desk.work() == {
        ANNA: ["Guten Tag Anna Müller. Kommen Sie am 3. Dezember 2026? Danke, Anna Müller."],
        LUC: ["Bonjour Luc Petit. Venez-vous le 13 décembre 2026? Merci, Luc Petit."],
        KIM: ["Guten Tag Kim Weiß. Kommen Sie am 4. Dezember 2026? Bis später."],
        JO: ["Guten Tag Jo Kern. Kommen Sie am 5. Dezember 2026? Nie mehr, Jo Kern."],
    }
    desk.clock.leap(NINE)

    reader.sign_in(desk.address)
    reader.open(f"{desk.address}/ui/batches/dienstag?queue=default")
    rows = {row.text.split()[0]: row for row in reader.driver.find_elements(By.CSS_SELECTOR, "table.calls tbody tr")}
    assert list(rows) == ["Anna", "Luc", "Gestrichen", "Kim", "Jo"], "one row a person"
    results = {"Anna": "kommt", "Kim": "später", "Jo": "do not call again", "Gestrichen": "left out"}
    for person, result in results.items():
        assert f" {result} " in f"{' '.join(rows[person].text.split())} "
    upload(reader, desk, tomorrow, saved)
    reader.sees("struck through")
    reader.send("check")
    reader.send("ready")
    reader.send("start")
    assert desk.work() == {
        LEA: ["Guten Tag Lea Neu. Kommen Sie am 9. Dezember 2026? Danke, Lea Neu."],
        LUC: ["Bonjour Luc Petit. Venez-vous le 10 décembre 2026? Merci, Luc Petit."],
    }
    assert reader.width <= width
    assert reader.console() == []
