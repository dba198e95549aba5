"""The numbers of a person in the columns of a file: all of them are certain, or the row is bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.forms import written
from tests.campaigns.reading import OPTIONS, Row, read_all
from tests.support.started import report_of
from voiceflow_worker import CallQueue, Campaign
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.core.settling.suppressing import SuppressionList

FIELDS = {
    "say": "Hello.",
    "window": "any",
    "source": "+6531234567",
    "voice_profile": "en-US-JennyNeural",
    "country": "SG",
}
TO_BOTH = "Mobile,Home Phone"
MOBILE, HOME, WORK = "+6587654321", "+6561234567", "+6567654321"


EACH_FORM = pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx", "rows"])


def with_columns(columns: str | Mapping[str, Any] = TO_BOTH, **more: Any) -> CampaignOptions:
    """The options for people with these columns of numbers."""
    named = {"destination": columns.split(",")} if isinstance(columns, str) else dict(columns)
    return replace(OPTIONS, batch_id="b", columns=named, **{"country": "SG", **more})


def read(
    folder: Path, form: str, *rows: Row, columns: str | Mapping[str, Any] = TO_BOTH, **more: Any
) -> Sequence[ReadRow]:
    return read_all(written(folder, rows, form), with_columns(columns, **more)).rows


def person(mobile: object = "87654321", home: object = "61234567", name: str = "Ana", **more: object) -> Row:
    return {"name": name, "Mobile": mobile, "Home Phone": home, **more}


def wrong(row: ReadRow) -> list[str | None]:
    """The columns with an error in a row."""
    assert row.is_bad
    return [found.column for found in row.findings if found.is_error]


def numbers(row: ReadRow) -> tuple[str, ...]:
    assert row.call is not None, row.findings
    return row.call.numbers


def test_the_columns_may_be_a_list(tmp_path: Path) -> None:
    people = written(tmp_path, [{"Mobile": "87654321", "Home Phone": "61234567"}], "csv")
    columns = {"destination": ["Mobile", "Home Phone"]}
    (tmp_path / "visits.toml").write_text('[columns]\ndestination = ["Mobile", "Home Phone"]\n', encoding="utf-8")
    for given in ({"columns": columns}, {"campaign": tmp_path / "visits.toml"}):
        assert Campaign.of({**FIELDS, **given, "file": people}).options.columns == columns


def of(people: Path | Sequence[Row], *columns: str, **more: object) -> Campaign:
    return Campaign.of({**FIELDS, "file": people, "batch": "march", "columns": {"destination": columns}, **more})


@pytest.mark.anyio
async def test_a_file_that_was_started_and_gets_another_column_of_numbers_calls_nobody_again(
    tmp_path: Path, queue: CallQueue
) -> None:
    people = written(tmp_path, [{"Mobile": "87654321", "Home": "61234567"}], "csv")
    assert (await of(people, "Mobile").start(queue)).enqueued == 1
    for columns, changed, told in (
        (("Mobile", "Home"), 1, "another further_numbers"),
        (("Home", "Mobile"), 0, "calls too"),
    ):
        report = await report_of(of(people, *columns).start(queue))
        assert (report.enqueued, report.plan["changed"], told in str(report.findings[0])) == (0, changed, True)


@pytest.mark.anyio
async def test_people_who_were_called_at_any_of_their_numbers_were_called_before(
    tmp_path: Path, queue: CallQueue
) -> None:
    both = written(tmp_path, [{"Mobile": "87654321", "Home": "61234567"}], "csv")
    assert (await of(both, "Mobile", "Home").start(queue)).enqueued == 1
    home = written(tmp_path, [{"Mobile": "61234567"}], "csv")
    for enqueued, more in (
        (0, {"say": "Hello again."}), (0, {"batch": "april"}), (1, {"batch": "april", "say": "Something else."}),
    ):  # fmt: skip
        assert (await report_of(of(home, "Mobile", **more).start(queue))).enqueued == enqueued


@pytest.mark.anyio
async def test_a_person_with_a_listed_number_is_counted_as_suppressed(tmp_path: Path, queue: CallQueue) -> None:
    await SuppressionList(queue.store).add(HOME, reason="asked for it")
    rows: list[Row] = [{"Mobile": "87654321", "Home": "61234567"}, {"Mobile": "87654322", "Home": ""}]
    campaign = of(written(tmp_path, rows, "csv"), "Mobile", "Home")
    report = await campaign.preview(queue)
    assert report.preview is not None
    assert (report.preview.calls, report.suppressed) == (1, 1)
    assert (await campaign.start(queue)).enqueued == 1
    assert [job.destination for job in await queue.find()] == ["+6587654322"]
