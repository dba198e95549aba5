"""A receptionist's file: one list with each of its rows, alike in Excel, as CSV and on the page, true to the ledger."""

from __future__ import annotations

import csv
import io
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from openpyxl import Workbook, load_workbook
from openpyxl.styles import Font

from tests.support.stage import stage
from tests.support.waiting import wait_until

READERS = "correct-horse:battery"
SHEET = "Termine Mai"
HEADER = ["Nachname", "Vorname", "Handy", "Festnetz", "Termin", "Bemerkung"]
PEOPLE = [
    ("Müller", "Jürgen"), ("Groß", "Änne"), ("Özdemir", "Cem"), ("Weiß", "Bärbel"), ("Jäger", "Heinz"),
    ("Köhler", "Ute"), ("Schäfer", "Jörg"), ("Böhm", "Käthe"), ("Krüger", "Günter"), ("Hübner", "Doris"),
]  # fmt: skip
SUPPRESSED, CANCELLED, REDIALLED, SECOND_NUMBER, NOBODY = 1, 2, 3, 4, 5


def mobile(place: int) -> str:
    return f"0170 55512{place:02}"


def e164(place: int) -> str:
    return f"+491705551{200 + place}"


def her_file(folder: Path) -> tuple[Path, list[list[str]]]:
    """A workbook with a sheet of notes and a sheet of people: some twice, two with bad numbers, one struck out."""
    rows = [
        [last, first, mobile(place), "030 901820" if place == SECOND_NUMBER else "", "12.05.2099", ""]
        for place, (last, first) in enumerate(PEOPLE)
    ]
    rows[0][-1] = "bitte laut sprechen"
    rows[6:6] = [[*rows[0]], ["Lang", "Eva", "nicht bekannt", "", "12.05.2099", "ruft an"]]
    rows += [[*rows[4]], ["Kurz", "Ina", "0170 12", "", "13.05.2099", ""], [*rows[0]]]
    rows.append(["Winter", "Olaf", mobile(20), "", "13.05.2099", "will nicht"])
    book = Workbook()
    notes, people = book.active, book.create_sheet(SHEET)
    assert notes is not None
    notes.append(["Notizen", "nicht anrufen"])
    for row in (HEADER, *rows):
        people.append(row)
    for cell in people[9]:
        cell.font = Font(strike=True)
    path = folder / "Termine.xlsx"
    book.save(path)
    return path, rows


class Rows(HTMLParser):
    """The rows of the table on the page of a batch: cells by the names of their columns."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self._cell: str | None = None
        self.feed(html.partition("Rows of the file")[2])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "tr":
            self.found.append({})
        elif tag == "td":
            self._cell = named.get("data-label")
            self.found[-1][self._cell or ""] = ""
        elif tag == "time" and self._cell:
            self.found[-1][self._cell] = named.get("datetime") or ""
            self._cell = None

    def handle_endtag(self, tag: str) -> None:
        self._cell = None if tag == "td" else self._cell

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.found[-1][self._cell] += data.strip()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_list_has_each_row_of_her_file_and_every_figure_of_the_ledger(tmp_path: Path) -> None:
    path, rows = her_file(tmp_path)
    with stage(tmp_path, ui_secret=READERS, speed=1000) as on:
        on.run("suppress", "add", e164(SUPPRESSED), "--note", "hat angerufen")
        unreached = [(REDIALLED, "BUSY"), (SECOND_NUMBER, "NO_ANSWER"), (NOBODY, "BUSY"), (NOBODY, "BUSY")]
        for place, outcome in unreached:
            on.order("script", {"destination": e164(place), "outcome": outcome, "times": 1})
        on.order("script", {"outcome": "COMPLETED"})
        enqueue = (
            "enqueue", str(path), "--sheet", SHEET, "--number-column", "Handy,Festnetz", "--country", "DE", "--say",
            "Guten Tag, {{vorname}} {{nachname}}.", "--voice-profile", "de-DE-KatjaNeural", "--source", "+4930901820",
            "--batch", "mai", "--skip-bad", "--redial-on", "unreached", "--redial-after", "1s",
            "--leave-out", "Bemerkung=will nicht",
        )  # fmt: skip
        on.run(*enqueue)
        (waiting,) = on.calls("--number", e164(CANCELLED))
        on.run("calls", "cancel", waiting["id"])
        with on.worker("--rate", "unlimited"):
            wait_until(
                lambda: on.states() == {"completed": 7, "unreached": 1, "cancelled": 1},
                lambda: str(on.states()),
                every=0.5,
            )
        files = tmp_path / "list.csv", tmp_path / "list.xlsx"
        on.run("report", "--batch", "mai", "--rows", "--csv", str(files[0]), "--xlsx", str(files[1]))
        ledger = Counter(entry["destination"] for entry in on.ledger() if entry["rang"])
        with httpx.Client(base_url=on.receiver, headers={"Origin": on.receiver}, follow_redirects=True) as client:
            client.post("/ui/sign-in", data={"name": "Mary", "secret": READERS, "way": ""})
            page = client.get("/ui/batches/mai").text
            exported = client.get("/ui/export/csv?queue=default&batch=mai").text
    table = list(csv.reader(io.StringIO(files[0].read_text("utf-8-sig"))))
    listed = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
    assert table[0][: len(HEADER)] == HEADER
    assert [row[: len(HEADER)] for row in table[1:]] == rows, "each of her rows, in her order, as she wrote it"
    # Every figure is that of the ledger.
    assert sum(int(row["calls"]) for row in listed) == sum(ledger.values())
    for row in listed:
        if row["called number"]:
            assert ledger[row["called number"]] > 0
    assert Counter(row["result"] for row in listed) == {
        "answered": 7, "busy": 1, "suppressed": 1, "cancelled": 1, "duplicate": 3, "bad": 2, "left out": 1,
    }  # fmt: skip
    assert [row["why"] for row in listed if row["result"] == "duplicate"] == [
        "the same call as row 2", "the same call as row 6", "the same call as row 2"
    ]  # fmt: skip
    # Excel, CSV, the page and what it exports are one list.
    sheet = load_workbook(files[1])["Rows"].iter_rows(values_only=True)
    names = table[0]
    assert [*next(sheet)] == names
    assert len(list(sheet)) == len(rows)
    shown = [row for row in Rows(page).found if HEADER[0] in row]
    assert [[row[name] for name in names[:9]] for row in shown] == [row[:9] for row in table[1:]]
    assert len(list(csv.reader(io.StringIO(exported)))) == len(table)
