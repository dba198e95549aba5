"""Cells that are corrected: at every door, for the row that was meant, once, and under each guard of the list."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.api.clients import program
from tests.console.clerk import clerk
from voiceflow_worker import CallQueue, Campaign, InvalidInputError, Store
from voiceflow_worker.campaigns.calls.corrections import row_digest
from voiceflow_worker.campaigns.enqueue_report import RowsRefusedError
from voiceflow_worker.campaigns.row_list import RowList
from voiceflow_worker.core.settling.suppressing import SuppressionList

pytestmark = pytest.mark.anyio

HEADER = ("Name", "Mobile", "Visit", "Do Not Call")
ANA, BOB = ("Ana", "87654321", "2099-01-31", ""), ("Bob", "9123", "2099-01-31", "")
ANAS, BOBS = "+6587654321", "+6591234567"
SAID: dict[str, Any] = {
    "say": "Hello {{name}}.", "country": "SG", "source": "+6531234567", "voice_profile": "en-US-JennyNeural",
    "window": "any", "columns": {"destination": "Mobile"}, "batch": "visits",
}  # fmt: skip


def corrected(row: tuple[str, ...], column: str, now: str) -> dict[str, str]:
    cells: dict[str, str] = dict(zip(HEADER, row, strict=True))
    return {"row": row_digest(cells), "column": column, "was": cells[column], "now": now}


BOBS_NUMBER = corrected(BOB, "Mobile", "9123 4567")


def rows_of(*rows: tuple[str, ...]) -> list[dict[str, str]]:
    return [dict(zip(HEADER, row, strict=True)) for row in rows]


async def start(store: Store, *rows: tuple[str, ...], **given: object) -> list[str]:
    """Start a campaign with these rows; returns the numbers of all calls."""
    await Campaign.of({**SAID, "rows": rows_of(*rows), **given}).start(CallQueue(store))
    return sorted(job.destination for job in await CallQueue(store).find())


def written(folder: Path, *rows: tuple[str, ...]) -> Path:
    path = folder / "visits.csv"
    path.write_text("\n".join(map(",".join, (HEADER, *rows))) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("door", ["Python", "TOML", "/v1", "page"])
async def test_a_cell_is_corrected_at_every_door_and_the_same_list_finds_it(
    memory: Store, tmp_path: Path, door: str
) -> None:
    if door == "Python":
        await start(memory, ANA, BOB, corrections=[BOBS_NUMBER])
    elif door == "TOML":
        (options := tmp_path / "visits.toml").write_text(
            "corrections = [{ "
            + ", ".join(f"{name} = {json.dumps(text)}" for name, text in BOBS_NUMBER.items())
            + " }]",
            encoding="utf-8",
        )
        await start(memory, ANA, BOB, campaign=str(options))
    elif door == "/v1":
        async with program(memory) as client:
            body = {**SAID, "rows": rows_of(ANA, BOB), "corrections": [BOBS_NUMBER]}
            answer = await client.post("/v1/campaigns", json=body, headers={"Idempotency-Key": "k"})
            assert answer.status_code < 300, answer.text
    else:
        async with clerk(memory) as one:
            file = written(tmp_path, ANA, BOB).read_text(encoding="utf-8")
            said = {name: text for name, text in SAID.items() if isinstance(text, str)}
            await one.send("look", {"file": ("visits.csv", file)})
            told = await one.send("people", **said, days="")
            assert "2 people · 1 can be called · 1 to look at" in told
            (cell,) = re.findall(r'name="(cell [^"]*)"', one.shown.text)
            told = await one.send("people", **{html.unescape(cell): "9123 4567"})
            assert "2 people · 2 can be called" in told
            assert "was 9123" in told
            await one.send("ready")
            await one.send("start")
    assert sorted(job.destination for job in await CallQueue(memory).find()) == [ANAS, BOBS]
    listed = [row for part in [each async for each in RowList(memory, "default", "visits").read()] for row in part]
    assert ["Mobile was '9123'" in row.why for row in listed] == [False, True]
    again = await Campaign.of({**SAID, "file": written(tmp_path, ANA, BOB)}).preview(CallQueue(memory))
    assert (again.plan["same"], again.rejected) == (2, 0), "the same list, without a word of the correction"
    moved = await Campaign.of({**SAID, "file": written(tmp_path, ANA, ("Bib", *BOB[1:]))}).preview(CallQueue(memory))
    assert moved.rejected == 1, "another cell differs: 9123 stands for somebody else"


async def test_a_correction_is_used_once_and_guarded_as_any_cell_is(memory: Store) -> None:
    twins = (BOB, BOB)
    with pytest.raises(RowsRefusedError) as refused:
        await start(memory, *twins, corrections=[BOBS_NUMBER])
    assert [found.row for found in refused.value.findings if found.is_error] == [2]
    await SuppressionList(memory).add(BOBS)
    assert await start(memory, ANA, BOB, corrections=[BOBS_NUMBER]) == [ANAS], "the suppression list"
    ana = ("Ana", *BOB[1:])
    given = {**SAID, "batch": "b", "rows": rows_of(ANA, ana), "corrections": [corrected(ana, "Mobile", "8765 4321")]}
    report = await Campaign.of(given).preview()
    assert (report.valid, report.duplicates) == (1, 1), "duplicates"
    report = await Campaign.of({**SAID, "rows": rows_of(ANA), "corrections": [BOBS_NUMBER]}).preview()
    assert "the correction of '9123' to '9123 4567' fits no row" in str([*map(str, report.findings)])
    bob = corrected(BOB, "Name", "Robert")
    report = await Campaign.of({**SAID, "rows": rows_of(BOB), "corrections": [BOBS_NUMBER, bob]}).preview()
    assert report.preview is not None
    assert [each.speech.text for each in report.preview.texts] == ["Hello Robert."], "two cells of one row"


@pytest.mark.parametrize("column", ["Do Not Call", "Visit"])
async def test_a_column_that_says_whom_not_to_call_is_not_corrected(memory: Store, column: str) -> None:
    wrong = corrected(("Bob", "87654322", "2099-01-31", "x"), column, "no")
    given = {"leave_out": "Visit=2099-01-30"} if column == "Visit" else {"leave_out": "Do Not Call=x"}
    with pytest.raises(InvalidInputError, match="says whom not to call"):
        await start(memory, ANA, corrections=[wrong], **given)


@pytest.mark.parametrize(
    "given",
    ["x", "{}", [1], [{}], [{**BOBS_NUMBER, "now": " "}], [{**BOBS_NUMBER, "row": 1}], [{**BOBS_NUMBER, "z": "y"}]],
)
async def test_what_is_no_correction_is_refused(given: object) -> None:
    with pytest.raises(InvalidInputError, match="corrections"):
        Campaign.of({**SAID, "rows": rows_of(ANA), "corrections": given})
