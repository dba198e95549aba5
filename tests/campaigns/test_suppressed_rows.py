"""Rows whose number is on the suppression list: left out, counted, told; no fault of the file."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.reading import NOW, OPTIONS, file_of
from tests.campaigns.workbooks import parquet, workbook
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.enqueue import EnqueueReport, enqueue_file
from voiceflow_worker.campaigns.files.formats import kind_of
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import ColumnRoles
from voiceflow_worker.campaigns.intake import RowEnqueuer
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.core.imports import Staging
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Remedy

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


@pytest.mark.parametrize("dry_run", [False, True])
async def test_rows_that_are_not_called_are_among_the_rejects_with_their_reason(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path, *, dry_run: bool
) -> None:
    await listed.add("+6587654322")
    rows = [{"Mobile": number, "name": "Ana"} for number in ("+6587654321", "+6587654322", "12")]
    table = "name,Mobile\n" + "".join(f"Ana,{row['Mobile']}\n" for row in rows)
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    options, rejects = replace(OPTIONS, columns={"destination": "mobile"}), tmp_path / "rejects"
    for content, name in ((table, "visits.csv"), (lines, "visits.jsonl")):
        batch = replace(options, batch_id=name)
        path = file_of(tmp_path, content, name)
        report = await enqueue_file(
            queue, path, batch, now=NOW, skip_bad=True, again=True, rejects=rejects, dry_run=dry_run
        )
        assert (report.suppressed, report.rejected) == (1, 1)
        assert [str(found.column).lower() for found in report.findings] == ["mobile", "mobile"]
        bad, suppressed = [line for line in rejects.read_text("utf-8-sig").splitlines() if "obile: " in line]
        assert "'12' does not say its country" in bad
        assert "obile: is not called: its number has been on the suppression list since" in suppressed
        assert "+6587654322" in suppressed
        again = await enqueue_file(queue, rejects, replace(batch, file_kind=kind_of(InputFile(path))), now=NOW)
        assert (again.suppressed, again.rejected, again.enqueued) == (1, 1, 0)


async def test_a_number_is_left_out_in_whichever_way_it_was_written(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path
) -> None:
    await listed.add("+39 (0)6 1234 5678")
    rows = "destination,name\n+39 06 12345678,Ana\n+390612345678,Ben\n0039 (0)6 12345678,Cleo\n"
    assert counts(await enqueue_file(queue, file_of(tmp_path, rows), OPTIONS, now=NOW)) == (0, 0, 3, 0, 0)


async def test_a_row_that_is_known_stays_known(queue: CallQueue, listed: SuppressionList, tmp_path: Path) -> None:
    path = file_of(tmp_path, ROWS)
    await enqueue_file(queue, path, OPTIONS, now=NOW)
    await listed.add("+6587654322")
    assert counts(await enqueue_file(queue, path, OPTIONS, now=NOW)) == (0, 3, 0, 0, 0)


async def test_a_suppression_that_ends_before_the_row_is_due_does_not_count(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path
) -> None:
    await listed.add("+6587654321", "+6587654323", until=NOW + timedelta(hours=12))
    report = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW)
    assert counts(report) == (2, 0, 1, 0, 2)
    assert await destinations(queue) == ["+6587654322", "+6587654323"]


async def test_one_who_opts_out_while_the_file_is_read_is_left_out(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = RowEnqueuer.enqueue

    async def later(self: RowEnqueuer, rows: object, *, staging: Staging | None) -> object:
        await listed.add("+6587654321")
        return await enqueue(self, rows, staging=staging)  # type: ignore[arg-type]

    monkeypatch.setattr(RowEnqueuer, "enqueue", later)
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


class TestFilesOfNumbers:
    @pytest.mark.parametrize(
        "content",
        [
            "destination\n8765 4321\n+65 8765-4322\n",
            "Name;Phone Number\nAna;8765 4321\nBen;+65 8765-4322\n",
            "8765 4321\n\n+65 8765-4322\n8765-4321\n",
            "\ufeffmsisdn,note\r\n6587654321,x\r\n+6587654322,\r\n",
        ],
    )
    def test_a_column_or_a_plain_list_is_read(self, tmp_path: Path, content: str) -> None:
        found = read_number_file(file_of(tmp_path, content), country="SG")
        assert list(found.numbers) == ["+6587654321", "+6587654322"]
        assert found.findings == []

    def test_the_country_of_each_number_may_be_that_of_its_row(self, tmp_path: Path) -> None:
        rows = "8765 4321,SG\n012-345 6789,Malaysia\n+44 7911 123456,Mars\n8765 4322,\n8765 4323,Mars\n"
        found = read_number_file(file_of(tmp_path, f"Phone,Land\n{rows}"), roles=ColumnRoles(country="land"))
        assert list(found.numbers) == ["+6587654321", "+60123456789", "+447911123456"]
        assert [(each.row, Remedy.NAME_COUNTRIES in each.message) for each in found.findings] == [(5, True), (6, False)]
        with pytest.raises(CampaignFileError, match="has no column 'Staat'; columns found: Phone, Land"):
            read_number_file(file_of(tmp_path, f"Phone,Land\n{rows}"), roles=ColumnRoles(country="Staat"))
        with pytest.raises(InvalidInputError, match="exclude each other"):
            read_number_file(file_of(tmp_path, f"Phone,Land\n{rows}"), country="SG", roles=ColumnRoles(country="land"))

    def test_a_column_may_be_named(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, "Phone,Old Phone\n+6587654321,+6587654322\n")
        assert list(read_number_file(path, roles=ColumnRoles(numbers=("old phone",))).numbers) == ["+6587654322"]
        with pytest.raises(CampaignFileError, match="has no column 'fax'; columns found: Phone, Old Phone"):
            read_number_file(path, roles=ColumnRoles(numbers=("fax",)))

    def test_a_file_with_several_columns_of_numbers_says_which(self, tmp_path: Path) -> None:
        for content, shown in [
            ("Phone 1,Phone 2\n+6587654321,+6587654322\n", "Phone 1, Phone 2"),
            ("name,mobile,phone\nAna,+6587654321,\n", "mobile, phone"),
            ("Home Phone;Work Phone;Fax\n+6587654321;;\n", "Home Phone, Work Phone, Fax"),
            ("Tel1,Tel2\n+6587654321,\n", "Tel1, Tel2"),
            ("destination,handphone\n+6587654321,\n", "destination, handphone"),
            ("phone,second\n+6587654321,\n+6587654322,+65 8765 4323\n", "phone, second"),
            ("cell,whatsapp_number\n+6587654321,\n", "cell, whatsapp_number"),
        ]:
            path = file_of(tmp_path, content)
            sentence = (
                rf"several columns look like telephone numbers \({shown}\); name the column of numbers, or each of"
            )
            with pytest.raises(CampaignFileError, match=sentence) as raised:
                read_number_file(path)
            assert Remedy.NAME_COLUMNS in str(raised.value)
            named = read_number_file(path, roles=ColumnRoles(numbers=(*shown.split(", "),)))
            assert (len(named.numbers), named.findings) == (content.count("+65"), [])
            assert list(read_number_file(path, roles=ColumnRoles(numbers=(shown.partition(", ")[0],))).numbers)[:1] in (
                ["+6587654321"],
                [],
            )

    def test_the_area_code_may_have_a_column_of_its_own(self, tmp_path: Path) -> None:
        for content, country, numbers in [
            ("area_code,phone\n202,4561111\n212,555-0100\n", "US", ["+12024561111", "+12125550100"]),
            ("202,4561111\n212,5550100\n", "US", ["+12024561111", "+12125550100"]),
            ("202;4561111\n", "US", ["+12024561111"]),
            ("Area,Phone\n202,(202) 456-1111\nNorth,202 456 1112\n", "US", ["+12024561111", "+12024561112"]),
            ("Vorwahl;Telefon\n030;1234567\n(0151);23456789\n030;+43 1 2345678\n", "DE",
             ["+49301234567", "+4915123456789", "+4923456789", "+4312345678"]),
            ("DDD,telefone\n31,8765-4321\n", "BR", ["+5531987654321"]),
        ]:  # fmt: skip
            found = read_number_file(file_of(tmp_path, content), country=country)
            assert (list(found.numbers), found.findings, found.unassigned) == (numbers, [], []), content
        path = file_of(tmp_path, "Fone,Pais,Local,Area\n87654321,55,31,x\n5531987654322,55,31,x\n")
        roles = ColumnRoles(numbers=("Fone",), calling_code="Pais", area_code="Local")
        assert list(read_number_file(path, roles=roles).numbers) == ["+5531987654321", "+5531987654322"]
        with pytest.raises(CampaignFileError, match="has no column 'Codigo'"):
            read_number_file(path, roles=ColumnRoles(numbers=("Fone",), calling_code="Codigo"))
        (refused,) = read_number_file(file_of(tmp_path, "202,4561111\n")).findings
        assert Remedy.NAME_COUNTRY in refused.message, "for what it is"

    def test_a_file_without_a_header_is_refused_for_that(self, tmp_path: Path) -> None:
        for line in ("+6587654321,+6587654322", "8765 4321;8765 4322", "Ana,+6587654321"):
            with pytest.raises(CampaignFileError, match="begins with a line that looks like data; add a header line"):
                read_number_file(file_of(tmp_path, f"{line}\n{line}\n"), country="SG")

    def test_several_columns_are_named_as_in_a_campaign(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, "home,work\n+6587654321,+6587654322\n,+6587654323\n")
        assert len(read_number_file(path, roles=ColumnRoles(numbers=("home", "work"))).numbers) == 3
        path = file_of(tmp_path, "Phone,Fax\n+6587654321,+6587654322\n")
        assert list(read_number_file(path, roles=ColumnRoles(ignored=("fax",))).numbers) == ["+6587654321"]

    def test_a_list_has_any_format_of_campaigns_and_rows_that_are_left_out(self, tmp_path: Path) -> None:
        header = ("Phone", "Name", "Status", "Phone 2")
        people = [
            (6587654321, "Ana", "Left", "+6587654325"), ("+6587654322", "#N/A", "left", None),
            ("+6587654323", "Cy", "Active", None),
        ]  # fmt: skip
        lines = [header, *people]
        texts = [["" if each is None else str(each) for each in line] for line in lines]
        columns = {name: [None if row[place] is None else str(row[place]) for row in people]
                   for place, name in enumerate(header)}  # fmt: skip
        forms = [
            file_of(tmp_path, "\n".join(map(",".join, texts))),
            workbook(tmp_path, lines),
            parquet(tmp_path, columns),
            file_of(tmp_path, "\n".join(json.dumps(dict(zip(header, row, strict=True))) for row in people), "a.jsonl"),
        ]
        roles = ColumnRoles(numbers=("phone", "Phone 2"))
        for path in forms:
            found = read_number_file(path, roles=roles, country="international", leave_out="Status=active")
            assert [each.message for each in found.findings] == [], path
            assert list(found.numbers) == ["+6587654321", "+6587654325", "+6587654322"], path
            assert (found.left_out, found.as_json()["left_out"]) == (1, 1)
            same = read_number_file(path, roles=roles, country="international", only="Status=Left")
            assert (list(same.numbers), same.left_out) == (list(found.numbers), 1), path
            with pytest.raises(CampaignFileError, match=r"several columns look like .*\(Phone, Phone 2\)"):
                read_number_file(path)
            for wrong in ("Status=Act*", "Rank=1"):
                if path.suffix != ".jsonl" or wrong != "Rank=1":
                    with pytest.raises(CampaignFileError, match=r"compared whole|no column 'Rank'"):
                        read_number_file(path, roles=roles, country="international", leave_out=wrong)

    def test_a_bad_cell_of_a_workbook_is_told_and_a_title_above_its_header_is_passed_over(self, tmp_path: Path) -> None:
        path = workbook(tmp_path, [["List"], ["Phone", "Note"], [6.58765e9, "x"], ["+6587654322", "y"]], Other=[["a"]])
        with pytest.raises(CampaignFileError, match="several sheets"):
            read_number_file(path)
        found = read_number_file(path, sheet="people", header_row=2, country="international")
        assert [(each.row, "ends in zeros" in each.message) for each in found.findings] == [(3, True)]
        assert "+6587654322" in found.numbers

    def test_what_protects_nobody_is_counted(self, tmp_path: Path) -> None:
        found = read_number_file(
            file_of(tmp_path, "phone\n456-1111\n202 456 1111\n+553187654321\n+4411\n"), country="US"
        )
        assert found.unassigned == ["+14561111"], "the third is a mobile of today by another spelling"
        assert found.of_nobody.startswith("; 1 of them protect nobody, such as line 2: +14561111 is not assigned in")

    def test_a_row_needs_a_number_in_one_of_the_columns(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, "name,tel 1,tel 2\nAna,,+6587654321\nBen,,\nCy,+6587654322,none\n")
        found = read_number_file(
            path,
            roles=ColumnRoles(
                numbers=(
                    "Tel 1",
                    "TEL-2",
                )
            ),
        )
        assert (found.rows, [each.row for each in found.findings]) == (3, [3, 4])
        assert list(found.numbers) == ["+6587654321", "+6587654322"]

    @pytest.mark.parametrize("header", ["phone,name", "phone,customer id", "Number,House number", "tel,Telegram"])
    def test_other_columns_are_no_numbers(self, tmp_path: Path, header: str) -> None:
        assert list(read_number_file(file_of(tmp_path, f"{header}\n+6587654321,81234567\n")).numbers) == ["+6587654321"]

    def test_a_number_with_two_readings_is_protected_in_both(self, tmp_path: Path) -> None:
        found = read_number_file(file_of(tmp_path, "phone\n0 0151 23456789\n"), country="DE")
        assert (set(found.numbers), len(found.warnings)) == ({"+15123456789", "+4915123456789"}, 2)

    def test_every_line_without_a_number_is_reported(self, tmp_path: Path) -> None:
        found = read_number_file(file_of(tmp_path, "phone,name\n+6587654321,Ana\nnone,Ben\n,Cleo\n+6587654322\n"))
        assert [(each.row, each.code) for each in found.findings] == [(3, -1017), (4, -1017)]
        assert (found.rows, list(found.numbers)) == (4, ["+6587654321", "+6587654322"])

    @pytest.mark.parametrize("content", ["", "\n\n", "name,colour\nAna,red\n"])
    def test_a_file_without_numbers_is_refused(self, tmp_path: Path, content: str) -> None:
        with pytest.raises(CampaignFileError):
            read_number_file(file_of(tmp_path, content))

    def test_a_country_that_does_not_exist_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match="is not a country"):
            read_number_file(file_of(tmp_path, "+6587654321\n"), country="XX")
