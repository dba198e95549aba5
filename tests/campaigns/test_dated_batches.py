"""A batch that is named by the day: `{date}` in its name, and what is compared between the days."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.campaigns.conftest import EACH_STORE, StillClock
from tests.campaigns.desk import FIELDS, Desk, row
from voiceflow_worker import CallQueue, Campaign, CampaignOptions, FlowTemplate, enqueue_rows
from voiceflow_worker.campaigns.calls.options import is_of_pattern
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError

pytestmark = pytest.mark.anyio

DAILY = "reminder-{date}"
SINGAPORE = {"time_zone": "Asia/Singapore"}
PEOPLE = [row("Ana"), row("Bob")]
OPTIONS = CampaignOptions(
    template=FlowTemplate.speaking("Hello."), source=FIELDS["source"], voice_profile=FIELDS["voice_profile"],
    batch_id=DAILY, time_zone="Asia/Singapore", window="any",
)  # fmt: skip


@pytest.mark.parametrize(
    ("at", "zone", "batch"),
    [
        ("2026-11-26T15:59:59Z", "Asia/Singapore", "reminder-2026-11-26"),
        ("2026-11-26T16:00:00Z", "Asia/Singapore", "reminder-2026-11-27"),
        ("2026-11-26T16:00:00Z", "UTC", "reminder-2026-11-26"),
        ("2026-11-26T04:59:59Z", "America/New_York", "reminder-2026-11-25"),
    ],
)
async def test_date_is_the_day_in_the_time_zone(tmp_path: Path, at: str, zone: str, batch: str) -> None:
    now = datetime.fromisoformat(at)
    file = tmp_path / "reminder.toml"
    file.write_text(f'batch = "{DAILY}"\ntime-zone = "{zone}"\n', encoding="utf-8")
    for fields in ({"batch": DAILY, "time_zone": zone}, {"campaign": file}):
        campaign = Campaign.of({**FIELDS, **fields, "rows": PEOPLE}, now=now)
        assert (campaign.batch_id, campaign.options.batch_pattern) == (batch, DAILY)


async def test_date_without_a_time_zone_is_refused(queue: CallQueue, clock: StillClock) -> None:
    with pytest.raises(InvalidInputError, match=r"batch: \{date\} is the day in a time zone, and none is named"):
        Campaign.of({**FIELDS, "batch": DAILY, "rows": PEOPLE}, now=clock.now())
    options = CampaignOptions(template=OPTIONS.template, batch_id=DAILY, window="any")
    with pytest.raises(InvalidInputError, match=r"\{date\} is the day in a time zone"):
        await enqueue_rows(queue, PEOPLE, options)


async def test_date_makes_the_batch_of_options_too(queue: CallQueue, clock: StillClock) -> None:
    day = clock.now().astimezone(UTC) + timedelta(hours=8)
    report = await enqueue_rows(queue, PEOPLE, OPTIONS)
    assert (report.batch_id, report.enqueued) == (f"reminder-{day.date()}", 2)
    assert {job.batch_id for job in await queue.find()} == {report.batch_id}


async def test_date_makes_a_name_no_longer_than_others(queue: CallQueue) -> None:
    for name, is_right in ((f"{'r' * 40}{{date}}", True), (f"{'r' * 41}{{date}}", False)):
        campaign = Campaign.of({**FIELDS, **SINGAPORE, "batch": name, "rows": PEOPLE})
        if is_right:
            assert (await campaign.start(queue)).enqueued == 2
        else:
            with pytest.raises(InvalidInputError, match="must have 1 to 50 characters"):
                await campaign.start(queue)


@EACH_STORE
async def test_the_same_list_each_day_calls_each_person_once_a_day(store: Store, clock: StillClock) -> None:
    desk = Desk(store)
    rang: Counter[str] = Counter()
    for day in range(3):
        for again in range(2):
            report = await desk.give(PEOPLE, batch=DAILY, **SINGAPORE, now=clock.now())
            assert (report.enqueued, report.duplicates) == ((0, 2) if again else (2, 0)), day
            rang.update([*await desk.heard()])
            clock.advance(timedelta(hours=1))
        clock.advance(timedelta(hours=22))
    assert rang == {"Ana": 3, "Bob": 3}
    assert len({job.batch_id for job in await desk.queue.find()}) == 3


async def test_only_batches_of_one_pattern_may_say_the_same_words(store: Store, clock: StillClock) -> None:
    desk = Desk(store)
    await desk.give(PEOPLE, batch=DAILY, **SINGAPORE, now=clock.now())
    clock.advance(timedelta(days=1))
    for batch in ("survey", "survey-{date}", "reminder-2026-1-1", "reminder-{date}-2"):
        refused = await desk.give(PEOPLE, batch=batch, **SINGAPORE, now=clock.now())
        assert (refused.refused, refused.again) == (True, 2), batch
        assert "2 of 2 people looked up have a call with the same text in batch reminder-" in str(refused.findings)
    await desk.give([row("Ana")], batch="survey", again="elsewhere")
    shown = await desk.give(PEOPLE, batch=DAILY, **SINGAPORE, now=clock.now())
    assert (shown.refused, shown.again) == (True, 1), "a batch of another name counts still"


@pytest.mark.parametrize(
    ("name", "is_of"),
    [
        ("a.2026-11-26", True), ("a.2026-11-26-2", False), ("ax2026-11-26", False), ("a.{date}", False),
        ("a.26-11-2026", False), (None, False),
    ],
)  # fmt: skip
def test_a_name_is_of_a_pattern_if_it_has_a_day_in_its_place(name: str | None, *, is_of: bool) -> None:
    assert is_of_pattern(name, "a.{date}") is is_of
    assert not is_of_pattern(name, None)
