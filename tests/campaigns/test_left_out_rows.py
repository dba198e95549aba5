"""Rows that a column leaves out: compared by meaning, told and counted; and columns whose names say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns.forms import READERS
from tests.campaigns.reading import OPTIONS, Row, file_of, read_all
from tests.support.started import report_of
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.cli.output import with_remedies
from voiceflow_worker.finding import columns_text

ANA, BEN = "+6587654321", "+6587654322"
SAID: dict[str, object] = {
    "say": "Hello {{name}}.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural", "batch": "b",
    "window": "any",
}  # fmt: skip


def of(**fields: object) -> CampaignOptions:
    """The options of a campaign with these fields."""
    return Campaign.of({**SAID, "rows": [], **fields}).options


def table(*lines: str, columns: str = "destination,name,Status") -> str:
    return "\n".join([columns, *lines, ""])


@pytest.mark.anyio
async def test_a_pilot_calls_the_first_rows_and_the_rest_follows(tmp_path: Path) -> None:
    people = [f"+658765432{place},Ana" for place in range(5)]
    path = file_of(tmp_path, "\n".join(["destination,name", "none,Eve", *people, ""]))
    async with open_store("memory://") as store:
        queue, found = CallQueue(store), list[tuple[int, int, int]]()
        for given in ({"limit": 2}, {"limit": 2}, {"limit": 3}, {}, {"limit": 1}):
            report = await Campaign.of({**SAID, "file": path, "skip_bad": True, **given}).start(queue)
            found.append((report.enqueued, report.duplicates, report.left_out))
        assert found == [(1, 0, 4), (0, 1, 4), (1, 1, 3), (3, 2, 0), (0, 0, 5)]
        assert [job.destination[-1] for job in await queue.find()] == list("01234")


ROWS: list[dict[str, object]] = [
    {"destination": ANA, "name": "Ana", "DNC": "true"}, {"destination": BEN, "name": "Ben", "DNC": ""},
    {"destination": "nothing", "name": "Cleo", "DNC": True}, {"destination": BEN, "name": "Ben", "DNC": None},
]  # fmt: skip


def counts(report: EnqueueReport) -> tuple[int, ...]:
    return report.rows, report.enqueued, report.valid, report.left_out, report.duplicates, report.rejected


@pytest.mark.anyio
async def test_they_are_counted_in_the_preview_and_the_result(queue: CallQueue) -> None:
    campaign = Campaign.of({**SAID, "rows": ROWS, "leave_out": "DNC=TRUE"})
    shown = await campaign.preview(queue)
    assert counts(shown) == (4, 0, 1, 2, 1, 0)
    assert shown.preview is not None
    done = await campaign.start(queue, expected_version=shown.version)
    assert counts(done) == (4, 1, 1, 2, 1, 0)
    assert [shown.as_json()["left_out"], done.as_json()["left_out"]] == [2, 2]
    assert [(f.row, f.message) for f in done.findings if f.column == "DNC"] == [
        (row, f"holds '{cell}', so this row is left out: nobody is called for it")
        for row, cell in ((1, "true"), (3, True))
    ]


@pytest.mark.anyio
async def test_a_list_that_is_wrong_as_a_whole_calls_nobody(queue: CallQueue) -> None:
    rows = [{"destination": f"+658765400{n}", "name": "Ana", "DNC": "TRUE" if n % 2 else ""} for n in range(6)]
    for most, more, wrong in (
        (5, {"columns": {"ignore": "DNC"}}, "6 rows would be called, and most allows 5"),
        ("2", {"leave_out": "DNC=TRUE", "skip_bad": True}, "3 rows would be called, and most allows 2"),
        (3, {"leave_out": "DNC=TRUE"}, None),
        (6, {"columns": {"ignore": "DNC"}}, None),
        (7, {}, "says by its name who may be called, and its cells are not decided (empty 3, TRUE 3)"),
        (8, {"skip_bad": True}, "says by its name who may be called, and its cells are not decided (empty 3, TRUE 3)"),
    ):
        campaign = Campaign.of(
            {**SAID, "batch": f"most{most}", "rows": rows, "most": most, "again": "elsewhere", **more}
        )
        for report in (await campaign.preview(queue), await report_of(campaign.start(queue))):
            assert [each.message.partition(". ")[0].partition(":")[0] for each in report.findings if each.is_error] == (
                [wrong] if wrong else []
            )
        assert (report.refused, report.enqueued) == (wrong is not None, 0 if wrong else int(most))


def warned(rows: Sequence[Row], **more: object) -> list[tuple[str | None, str]]:
    """The errors about all rows together, with what can be done."""
    found = read_all(rows, of(**more)).closing
    return [(each.column, with_remedies(each.message)) for each in found if each.is_error]


def one(**cells: object) -> list[Row]:
    return [{"destination": ANA, "name": "Ana", **cells}]


def test_a_column_whose_name_says_so_is_an_error_until_it_is_decided(tmp_path: Path) -> None:
    ((column, message),) = warned(ROWS)
    assert column == "DNC"
    assert message.startswith("says by its name who may be called, and its cells are not decided (")
    assert message.endswith("ignore it (`--columns ignore=DNC`).")
    name = "Do not allow Phone Calls"
    dynamics: list[Row] = [{"destination": f"+65876543{n}0", "name": "Ana", name: "Allow"} for n in (1, 2, 3)]
    ((_, message),) = warned([*dynamics, {**dynamics[0], name: "Do Not Allow"}])
    assert "(Allow 3, Do Not Allow 1)" in message
    assert "(`--leave-out`)" in message
    assert warned(ROWS, leave_out="DNC=TRUE") == warned(ROWS, columns={"ignore": "DNC"}) == []
    cells: tuple[object, ...] = ("no", False, 0, "", None, "2025-03-01", 2)
    for column in ("DNC", "TPS", "May we call?", "Einwilligung Telefon"):
        for cell in cells:
            ((found, message),) = warned(one(**{column: cell}))
            assert (found, message.startswith("says by its name who may be called")) == (column, True), message
            assert warned(one(**{column: cell}), leave_out=f"Name=Ana, {column}=no") == [], "its person is left out"
    assert warned(one(Notes="do not call")) == []
    for reader in READERS:
        reader(tmp_path, one(**{"Opted Out": "TRUE"})[0], replace(OPTIONS, batch_id="b"))
        for path in tmp_path.glob("visits.*"):
            assert [found.column for found in read_all(path).closing] == ["Opted Out"], path
            path.unlink()


def test_a_field_of_a_browser_is_one_line() -> None:
    assert columns_text(["Note=two\nlines", "a,b"]) == 'Note=two lines,"a,b"'
