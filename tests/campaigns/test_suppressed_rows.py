"""Whom not to call: rows with a number on the suppression list, and what columns, cells and names say of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import pytest

import voiceflow_worker
from tests.campaigns.conftest import StillClock
from tests.campaigns.forms import written
from tests.campaigns.reading import NOW, OPTIONS, file_of
from tests.campaigns.workbooks import workbook
from tests.support.started import enqueue_file
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.lists.columns import ColumnRoles
from voiceflow_worker.campaigns.lists.forbidden import forbids_calls, sense_of
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.core.admission import Admitter
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import CampaignFileError, InvalidInputError

pytestmark = pytest.mark.anyio

ROWS = "destination,name,not_before\n+6587654321,Ana,\n+6587654322,Ben,\n+6587654323,Cleo,2026-03-03T09:00:00Z\n"


@pytest.fixture
def listed(queue: CallQueue) -> SuppressionList:
    return SuppressionList(queue.store)


def counts(report: EnqueueReport) -> tuple[int, int, int, int, int]:
    return report.enqueued, report.duplicates, report.suppressed, report.rejected, report.valid


async def destinations(queue: CallQueue) -> list[str]:
    return [job.destination for job in await queue.find(limit=None)]


async def test_they_are_left_out_and_the_others_go(queue: CallQueue, listed: SuppressionList, tmp_path: Path) -> None:
    await listed.add("+6587654322", reason="asked by mail")
    dry = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW, dry_run=True)
    assert counts(dry) == (0, 0, 1, 0, 2)
    report = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW)
    assert (counts(report), report.refused) == ((2, 0, 1, 0, 2), False)
    (found,) = report.findings
    assert (found.row, found.column, found.is_error) == (3, "destination", False)
    assert found.message.startswith("is not called: its number has been on the suppression list since 2026-03-02")
    assert "asked by mail" in found.message
    assert await destinations(queue) == ["+6587654321", "+6587654323"]


def test_each_line_of_an_opt_out_list_is_a_number(tmp_path: Path) -> None:
    path = file_of(tmp_path, "+6587654321\n\n+6587654322\n+6587654323", "numbers.txt")
    assert read_number_file(path).numbers == {"+6587654321": 1, "+6587654322": 3, "+6587654323": 4}


@pytest.mark.parametrize("dry_run", [False, True])
async def test_rows_that_are_not_called_are_among_the_rejects_with_their_reason(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path, *, dry_run: bool
) -> None:
    await listed.add("+6587654322")
    rows = [{"name": "Ana", "Mobile": number} for number in ("+6587654321", "+6587654322", "12")]
    for form in ("csv", "jsonl"):
        options, rejects = replace(OPTIONS, columns={"destination": "mobile"}, batch_id=form), tmp_path / "rejects"
        path = written(tmp_path, rows, form)
        assert isinstance(path, Path)
        report = await enqueue_file(
            queue,
            path,
            options,
            now=NOW,
            skip_bad=True,
            again=frozenset({"elsewhere"}),
            rejects=rejects,
            dry_run=dry_run,
        )
        assert (report.suppressed, report.rejected) == (1, 1)
        assert [str(found.column).lower() for found in report.findings] == ["mobile", "mobile"]
        bad, suppressed = [line for line in rejects.read_text("utf-8-sig").splitlines() if "obile: " in line]
        assert "'12' has no country code" in bad
        assert "obile: is not called: its number has been on the suppression list since" in suppressed
        assert "+6587654322" in suppressed
        again = await enqueue_file(queue, rejects, options, now=NOW)
        assert (again.suppressed, again.rejected, again.enqueued) == (1, 1, 0)


async def test_a_number_is_left_out_in_whichever_way_it_was_written(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path
) -> None:
    await listed.add("+39 (0)6 1234 5678")
    for place, number in enumerate(("+39 06 12345678", "+390612345678", "+39 (0)6 12345678")):
        path = file_of(tmp_path, f"destination,name\n{number},Ana\n", f"{place}.csv")
        assert counts(await enqueue_file(queue, path, OPTIONS, now=NOW)) == (0, 0, 1, 0, 0)


async def test_one_who_opts_out_while_the_file_is_read_is_left_out(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = Admitter.admit

    async def later(self: Admitter, calls: Any, **how: Any) -> object:
        await listed.add("+6587654321")
        return await admit(self, calls, **how)

    monkeypatch.setattr(Admitter, "admit", later)
    report = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW)
    assert counts(report) == (2, 0, 1, 0, 2)
    assert [found.row for found in report.findings] == [2]


async def test_thousands_of_them_cost_a_read_for_each_chunk(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path, clock: StillClock
) -> None:
    numbers = [f"+65{81000000 + place}" for place in range(1100)]
    await listed.add(*numbers[:1050])
    path = file_of(tmp_path, "destination,name\n" + "".join(f"{number},Ana\n" for number in numbers))
    report = await enqueue_file(queue, path, OPTIONS, now=clock.now())
    assert counts(report) == (50, 0, 1050, 0, 50)


# -- files of numbers --------------------------------------------------------------------------------------------------

ANA, BEN = "+6587654321", "+6587654322"
LANDS = "8765 4321,SG\n012-345 6789,Malaysia\n+44 7911 123456,Mars\n8765 4322,\n8765 4323,Mars\n"
NUMBERS: list[tuple[str, str | None, ColumnRoles, list[str]]] = [
    # A file, the country of its numbers, which columns are named, and the numbers that are read.
    *((content, "SG", ColumnRoles(), [ANA, BEN]) for content in (
        "destination\n8765 4321\n+65 8765-4322\n", "Name;Phone Number\nAna;8765 4321\nBen;+65 8765-4322\n",
        "8765 4321\n\n+65 8765-4322\n8765-4321\n", "\ufeffmsisdn,note\r\n6587654321,x\r\n+6587654322,\r\n",
    )),
    ("Phone,Old Phone\n+6587654321,+6587654322\n", None, ColumnRoles(numbers=("old phone",)), [BEN]),
    ("home,work\n+6587654321,+6587654322\n,+6587654323\n", None, ColumnRoles(numbers=("home", "work")),
     [ANA, BEN, "+6587654323"]),
    ("Phone,Fax\n+6587654321,+6587654322\n", None, ColumnRoles(ignored=("fax",)), [ANA]),
    ("phone\n+6587654321\n'+6587654322\n", None, ColumnRoles(), [ANA, BEN]),
    *((f"{header}\n+6587654321,81234567\n", None, ColumnRoles(), [ANA])
      for header in ("phone,name", "phone,customer id", "Number,House number", "tel,Telegram")),
]  # fmt: skip
REFUSED: list[tuple[str, str | None, ColumnRoles, str]] = [
    (f"Phone,Land\n{LANDS}", None, ColumnRoles.of("country=Staat"),
     "has no column 'Staat'; columns found: Phone, Land"),
    (f"Phone,Land\n{LANDS}", "SG", ColumnRoles.of("country=land"), "exclude each other"),
    ("Phone,Old Phone\n+6587654321,\n", None, ColumnRoles(numbers=("fax",)),
     "has no column 'fax'; columns found: Phone, Old Phone"),
    *((f"{line}\n{line}\n", "SG", ColumnRoles(), "Write a line above it that names the columns")
      for line in ("+6587654321,+6587654322", "8765 4321;8765 4322", "Ana,+6587654321", "202,4561111")),
    *((content, None, ColumnRoles(), "") for content in ("", "\n\n", "name,colour\nAna,red\n")),
    ("+6587654321\n", "XX", ColumnRoles(), "is not a country"),
]  # fmt: skip
SEVERAL = {
    "Phone 1,Phone 2\n+6587654321,+6587654322\n": "Phone 1, Phone 2",
    "name,mobile,phone\nAna,+6587654321,\n": "mobile, phone",
    "Home Phone;Work Phone;Fax\n+6587654321;;\n": "Home Phone, Work Phone, Fax",
    "Tel1,Tel2\n+6587654321,\n": "Tel1, Tel2",
    "destination,handphone\n+6587654321,\n": "destination, handphone",
    "phone,second\n+6587654321,\n+6587654322,+65 8765 4323\n": "phone, second",
    "cell,whatsapp_number\n+6587654321,\n": "cell, whatsapp_number",
}  # fmt: skip


class TestFilesOfNumbers:
    def test_a_column_or_a_plain_list_is_read(self, tmp_path: Path) -> None:
        for content, country, roles, numbers in NUMBERS:
            found = read_number_file(file_of(tmp_path, content), country=country, roles=roles)
            assert (list(found.numbers), found.findings) == (numbers, []), content

    def test_a_file_without_numbers_or_without_a_column_that_is_named_is_refused(self, tmp_path: Path) -> None:
        for content, country, roles, said in REFUSED:
            with pytest.raises((CampaignFileError, InvalidInputError), match=said or None):
                read_number_file(file_of(tmp_path, content), country=country, roles=roles)

    def test_the_country_of_each_number_may_be_that_of_its_row(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, f"Phone,Land\n{LANDS}")
        found = read_number_file(path, roles=ColumnRoles.of("country=land"))
        assert list(found.numbers) == [ANA, "+60123456789", "+447911123456"]
        assert [(each.row, each.fields) for each in found.findings] == [(5, ("country",)), (6, ())]

    def test_a_file_with_several_columns_of_numbers_says_which(self, tmp_path: Path) -> None:
        for content, shown in SEVERAL.items():
            path = file_of(tmp_path, content)
            sentence = f"several columns look like telephone numbers ({shown}). Name one"
            with pytest.raises(CampaignFileError, match=re.escape(sentence)) as raised:
                read_number_file(path)
            assert "`columns: destination=" in str(raised.value)
            named = read_number_file(path, roles=ColumnRoles(numbers=(*shown.split(", "),)))
            assert (len(named.numbers), named.findings) == (content.count("+65"), [])
            first = read_number_file(path, roles=ColumnRoles(numbers=(shown.partition(", ")[0],)))
            assert list(first.numbers)[:1] in ([ANA], [])

    def test_a_list_has_any_format_of_campaigns_and_rows_that_are_left_out(self, tmp_path: Path) -> None:
        header = ("Phone", "Name", "Status", "Phone 2")
        people = [(6587654321, "Ana", "Left", "+6587654325"), (BEN, "#N/A", "left", None),
                  ("+6587654323", "Cy", "Active", None)]  # fmt: skip
        rows = [dict(zip(header, each, strict=True)) for each in people]
        roles = ColumnRoles(numbers=("phone", "Phone 2"))
        for form in ("csv", "xlsx", "jsonl"):
            path = written(tmp_path, rows, form)
            assert isinstance(path, Path)
            found = read_number_file(path, roles=roles, country="international", leave_out="Status=active")
            assert [each.message for each in found.findings] == [], path
            assert list(found.numbers) == [ANA, "+6587654325", BEN], path
            assert (found.left_out, found.as_json()["left_out"]) == (1, 1)
            same = read_number_file(path, roles=roles, country="international", only="Status=Left")
            assert (list(same.numbers), same.left_out) == (list(found.numbers), 1), path
            with pytest.raises(CampaignFileError, match=r"several columns look like .*\(Phone, Phone 2\)"):
                read_number_file(path)
            if form != "jsonl":
                with pytest.raises(CampaignFileError, match="no column 'Rank'"):
                    read_number_file(path, roles=roles, country="international", leave_out="Rank=1")

    def test_a_bad_cell_of_a_workbook_is_told(self, tmp_path: Path) -> None:
        path = workbook(tmp_path, [["Phone", "Note"], [6.58765e9, "x"], [BEN, "y"]], Other=[["a"]])
        with pytest.raises(CampaignFileError, match="several sheets"):
            read_number_file(path)
        found = read_number_file(path, sheet="people", country="international")
        assert [(each.row, "ends in zeros" in each.message) for each in found.findings] == [(2, True)]
        assert BEN in found.numbers

    def test_what_protects_nobody_is_told(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, "phone\n456-1111\n202 456 1111\n+553187654321\n+4411\n")
        found = read_number_file(path, country="US")
        assert [each.row for each in found.findings] == [2, 5]
        assert list(found.numbers) == ["+12024561111", "+5531987654321"]

    def test_every_line_without_a_number_is_reported(self, tmp_path: Path) -> None:
        found = read_number_file(file_of(tmp_path, "phone,name\n+6587654321,Ana\nnone,Ben\n,Cleo\n+6587654322\n"))
        assert [(each.row, each.code) for each in found.findings] == [(3, -1017), (4, -1017), (5, None)]
        assert (found.rows, list(found.numbers)) == (4, [ANA, BEN])
        path = file_of(tmp_path, "name,tel 1,tel 2\nAna,,+6587654321\nBen,,\nCy,+6587654322,none\n")
        found = read_number_file(path, roles=ColumnRoles(numbers=("Tel 1", "TEL-2")))
        assert (found.rows, [each.row for each in found.findings]) == (3, [3, 4])
        assert list(found.numbers) == [ANA, BEN]

    def test_a_number_with_two_readings_is_protected_in_both(self, tmp_path: Path) -> None:
        found = read_number_file(file_of(tmp_path, "phone\n0 0151 23456789\n"), country="DE")
        assert set(found.numbers) >= {"+15123456789", "+4915123456789"}
        assert [each.row for each in found.warnings] == [2]


# -- what says whom not to call: names of columns ----------------------------------------------------------------------


def listed_as(kind: str) -> list[str]:
    """The names of a kind in no_call_names.txt."""
    text = (Path(__file__).parent / "no_call_names.txt").read_text(encoding="utf-8")
    (names,) = (each.partition("\n")[2] for each in text.split("\n== ") if each.startswith(f"{kind}: "))
    return names.strip().replace("\n", ", ").split(", ")


def test_the_names_of_columns_that_say_whom_not_to_call() -> None:
    assert [name for name in listed_as("must_not") if sense_of(name) != "must_not"] == []
    assert [name for name in listed_as("may") if sense_of(name) != "may"] == []


def test_other_columns_say_nothing() -> None:
    names = listed_as("ordinary")
    assert len(names) > 400
    assert [name for name in names if forbids_calls(name)] == []


def test_a_name_of_any_length_is_read_at_once() -> None:
    began = process_time()
    assert sense_of("call " * 20_000) is None
    assert process_time() - began < 1, "seconds of the processor"


# -- what is told grows by what rows say, not by rules: there is a ceiling ---------------------------------------------

PACKAGE = Path(voiceflow_worker.__file__).parent
FROZEN = {"campaigns/lists/forbidden.tsv": "1589e94ac6be4198"}
"""The words by which columns are known to say whom not to call."""


def test_no_word_is_added_to_a_list_of_words() -> None:
    for name, digest in FROZEN.items():
        rows = [line for line in (PACKAGE / name).read_text(encoding="utf-8").splitlines() if line[:1] not in {"", "#"}]
        assert hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] == digest, name
