"""The hours in which a row's phone rings: windows, holidays, and times that are counted from a column of the row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.reading import NOW, OPTIONS, Row, calls_of, file_of, read, told
from tests.support.started import enqueue_file, enqueue_rows, report_of
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.model.window import CallWindow

DAYTIME = replace(OPTIONS, window=CallWindow.parse("09:00-20:00"))
# It is 2026-03-02 09:00 UTC, a Monday: 17:00 in Singapore, 04:00 in New York.
HEADER = "destination,name,time_zone,not_before,valid_until\n"


def lines(*rows: str) -> str:
    return HEADER + "".join(f"{row}\n" for row in rows)


@pytest.mark.parametrize("checks", [False, True])
def test_a_window_that_does_not_open_while_the_row_is_valid_is_a_bad_row(tmp_path: Path, checks: bool) -> None:
    ends = ("+12025550123,Ana,,,2026-03-02T14:00:00Z", "+12025550123,Ben,,,2026-03-02T14:00:01Z")
    rows = read(file_of(tmp_path, lines(*ends)), DAYTIME, checks=checks)
    message = (
        "its calling window (09:00-20:00 mon-sun) opens in America/New_York at 2026-03-02 14:00:00 UTC, but its "
        "validity ends at 2026-03-02 14:00:00 UTC. Give a later end (`valid_for`), or a wider window."
    )
    assert told(rows) == [(2, None, -1015, message)]
    assert len(calls_of(rows)) == 1


@pytest.mark.anyio
async def test_calls_are_due_when_their_windows_open(queue: CallQueue, tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name\n+6587654321,Ana\n+12025550123,Ben\n")
    report = await enqueue_file(queue, path, DAYTIME, now=NOW)
    assert report.enqueued == 2
    due = {job.destination: (job.due_at, job.window) for job in await queue.find(limit=None)}
    assert due == {
        "+6587654321": (NOW, DAYTIME.window),
        "+12025550123": (datetime(2026, 3, 2, 14, tzinfo=UTC), DAYTIME.window),
    }


@pytest.mark.anyio
async def test_a_window_that_closes_while_the_file_is_read_makes_a_bad_row(
    queue: CallQueue, tmp_path: Path, clock: StillClock
) -> None:
    def slowly() -> Iterator[Row]:
        for number in ("+6587654321", "+12025550123"):
            yield {"destination": number, "name": "Ana", "valid_until": "2026-03-02T23:00:00Z"}
        clock.advance(timedelta(hours=3))

    report = await enqueue_rows(queue, slowly(), replace(DAYTIME, batch_id="b"), now=NOW)
    assert (report.enqueued, report.rejected) == (1, 1)
    assert [(found.row, found.code) for found in report.findings] == [(1, -1015)]


def test_a_row_with_a_window_and_a_body_that_breaks_a_rule_is_a_bad_row(tmp_path: Path) -> None:
    body = {"callflow": [{"action": "makeCall", "params": {"source": "x", "destination": "+6587654321"}}]}
    path = file_of(tmp_path, json.dumps(body) + "\n", "bodies.jsonl")
    (row,) = read(path, replace(DAYTIME, template=None, source=None, voice_profile=None))
    assert [found.path for found in row.findings] == ["$.callflow[0].params.source"]


@pytest.mark.anyio
async def test_the_same_file_again_adds_nothing_when_a_visit_is_over(tmp_path: Path) -> None:
    given: dict[str, object] = {
        "file": file_of(tmp_path, "destination,name,visit\n+6587654321,Ana,2030-03-10 09:00\n"),
        "say": "See you on {{visit|date}}.", "source": "+6531234567", "voice_profile": "en-US-Jenny", "window": "any",
        "time_zone": "Europe/Berlin", "not_before": "visit - 24h",
    }  # fmt: skip
    async with open_store("memory://") as store:
        times = [NOW.replace(year=2030, day=day) for day in (2, 2, 11)]
        found = [await report_of(Campaign.of(given, now=at).start(CallQueue(store), now=at)) for at in times]
        assert [(each.enqueued, each.duplicates, each.left_out) for each in found] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
