"""A receptionist's file, from its rows to the bill: the list and the report say what the ledger says."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from openpyxl import Workbook, load_workbook
from openpyxl.styles import Font

from tests.support.processes import voiceflow
from tests.support.stage import stage
from tests.support.waiting import wait_until

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
    """A workbook with a sheet of notes and a sheet of people: some twice, one with a bad number, one struck through."""
    rows = [
        [last, first, mobile(place), "030 901821" if place == SECOND_NUMBER else "", "12.05.2099", ""]
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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_list_has_each_row_of_her_file_and_the_report_every_figure_of_the_ledger(tmp_path: Path) -> None:
    path, rows = her_file(tmp_path)
    with stage(tmp_path, speed=1000) as on:
        on.run("suppress", "add", e164(SUPPRESSED), "--note", "hat angerufen")
        unreached = [(REDIALLED, "BUSY"), (SECOND_NUMBER, "NO_ANSWER"), (NOBODY, "BUSY"), (NOBODY, "BUSY")]
        for place, outcome in unreached:
            on.order("script", {"destination": e164(place), "outcome": outcome, "times": 1})
        on.order("script", {"outcome": "COMPLETED"})
        enqueue = (
            "enqueue", str(path), "--sheet", SHEET, "--country", "DE", "--columns", "destination=Handy",
            "--columns", "destination=Festnetz", "--say", "Guten Tag, {{vorname}} {{nachname}}.",
            "--voice-profile", "de-DE-KatjaNeural", "--source", "+4930901820", "--batch", "mai",
            "--skip-bad", "--redial-on", "unreached", "--redial-after", "1s",
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
        report = json.loads("".join(voiceflow("report", "--batch", "mai", "--json", env=on.env).stdout))
        rings = [entry for entry in on.ledger() if entry["rang"]]

    table = list(csv.reader(io.StringIO(files[0].read_text("utf-8-sig"))))
    listed = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
    assert table[0][: len(HEADER)] == HEADER
    assert sorted(row[: len(HEADER)] for row in table[1:]) == sorted(rows), "each of her rows, as she wrote it"
    ledger, answered = (
        Counter(each["destination"] for each in rings),
        [each["outcome"] for each in rings].count("COMPLETED"),
    )
    assert sum(int(row["calls"]) for row in listed) == sum(ledger.values())
    assert all(ledger[row["called number"]] > 0 for row in listed if row["called number"])
    assert (report["total"], report["placed"], report["answered"]) == (9, 8, answered)
    assert report["seconds"] == round(sum(round(each["seconds"], 3) for each in rings), 3)
    assert Counter(row["result"] for row in listed) == {
        "answered": 7, "busy": 1, "suppressed": 1, "cancelled": 1, "duplicate": 3, "bad": 1, "left out": 2,
    }  # fmt: skip
    why = [row["why"].partition("the same call as ")[2] for row in listed if row["result"] == "duplicate"]
    assert why == ["row 2; the call is made once", "row 6; the call is made once", "row 2; the call is made once"]
    sheet = load_workbook(files[1])["Rows"].iter_rows(values_only=True)
    assert [str(each).removesuffix(" (UTC)") for each in next(sheet)] == table[0]
    assert len(list(sheet)) == len(rows)
