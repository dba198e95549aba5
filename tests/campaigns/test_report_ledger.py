"""The figures of a report, held against the ledger of the sandbox: every call that rang, as the phones saw it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.campaigns.test_report_forms import rows_of, sheet_of
from voiceflow_worker import (
    CallQueue,
    Campaign,
    CampaignOptions,
    FlowTemplate,
    RedialPolicy,
    Sandbox,
    SessionStatus,
    VoiceClient,
    Worker,
    open_store,
    receiver_app,
)
from voiceflow_worker.asgi.server import serving
from voiceflow_worker.sandbox.orders.script import Script

pytestmark = pytest.mark.anyio

SECRET = "Bearer a-long-random-text"
PEOPLE = 60
ENDS = {0: ["COMPLETED"], 1: ["BUSY", "COMPLETED"], 2: ["NO_ANSWER", "NO_ANSWER"]}
"""How the calls to every third person end."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the sandbox is served by uvicorn


def people(folder: Path) -> Path:
    file = folder / "people.csv"
    rows = [f"{number(place)},Person {place},C{place:03},Asia/Singapore" for place in range(PEOPLE)]
    file.write_text("\n".join(["destination,name,customer,time_zone", *rows]) + "\n", encoding="utf-8")
    return file


def number(place: int) -> str:
    return f"+6587654{place:03}" if place % 4 else f"+4474001230{place:02}"


async def test_all_figures_are_those_of_the_ledger(tmp_path: Path) -> None:
    options = CampaignOptions(
        template=FlowTemplate.speaking("Hello {{name}}."),
        voice_profile="en-US-JennyNeural",
        source="+6531234567",
        redial=RedialPolicy(on=frozenset({SessionStatus.BUSY, SessionStatus.NO_ANSWER}), limit=1, after=timedelta()),
    )
    async with open_store("memory://") as store:
        campaign = Campaign(CallQueue(store), people(tmp_path), options)
        assert (await campaign.enqueue()).enqueued == PEOPLE
        async with serving(receiver_app(store, secret=SECRET)) as address:
            sandbox = Sandbox(webhook=f"{address.url}/webhooks/8x8", webhook_secret=SECRET, speed=200)
            for place in range(PEOPLE):
                for end in ENDS[place % 3]:
                    sandbox.scripts.add(Script(destination=number(place), outcome=SessionStatus(end), times=1))
            async with sandbox.running() as url, VoiceClient("any-key", "demo", base_url=url) as voice:
                await Worker(store, voice, rate=None, concurrency=20).drain()
        table, book = tmp_path / "out.csv", tmp_path / "out.xlsx"
        report = await campaign.report(csv=table, xlsx=book)
    rang = [entry for entry in sandbox.ledger if entry.rang]
    last = {entry.destination: entry.outcome for entry in rang}
    attempts = Counter(entry.destination for entry in rang)
    assert len(rang) == PEOPLE + 2 * PEOPLE // 3
    assert report.total == len(last) == PEOPLE
    assert report.outcomes == Counter(last.values())
    assert report.answered == sum(end == "COMPLETED" for end in last.values()) == 2 * PEOPLE // 3
    details = report.breakdown
    assert details is not None
    assert details.attempts == Counter(attempts.values())
    zone = ZoneInfo("Asia/Singapore")
    assert details.time_zone == "Asia/Singapore"
    assert sum(hour.attempts for hour in details.by_hour) == len(rang)
    assert sum(hour.answered for hour in details.by_hour) == report.answered
    assert {hour.hour for hour in details.by_hour} <= {
        datetime.fromtimestamp(entry.at + later, UTC).astimezone(zone).hour for entry in rang for later in (0, 60)
    }
    countries = Counter("SG" if each and each.startswith("+65") else "GB" for each in last)
    assert {each.country: each.total for each in details.by_country} == countries
    lines = rows_of(table)
    assert {line["destination"]: line["outcome"] for line in lines} == last
    assert {line["data.customer"]: line["destination"] for line in lines} == {
        f"C{place:03}": number(place) for place in range(PEOPLE)
    }
    header, *calls = sheet_of(book, "Calls")
    assert {row[header.index("destination")]: row[header.index("outcome")] for row in calls} == last
    assert sum(row[header.index("attempt")] for row in calls) == len(rang)
