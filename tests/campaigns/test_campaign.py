"""A campaign from its preview to its report, by the class that programs use."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from tests.support.workers import set_limits
from voiceflow_worker import CallQueue, CampaignOptions, FlowTemplate, InvalidInputError, JobState, Store
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.types import Campaign, PreviewOptions

pytestmark = pytest.mark.anyio

OPTIONS = CampaignOptions(
    template=FlowTemplate.speaking("Hello {{name}}."), voice_profile="en-US-JennyNeural", source="+6531234567"
)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    file = tmp_path / "people.csv"
    file.write_text("destination,name\n+6587654301,Ana\n+6587654302,Ben\n")
    return file


def written_in(folder: Path) -> list[Path]:
    return list(folder.glob("out.*"))


async def test_a_preview_stores_nothing_and_uses_the_rate_of_the_queue(queue: CallQueue, people: Path) -> None:
    await set_limits(queue.store, "default", Limits(rate=0.5))
    campaign = Campaign(queue, people, OPTIONS)
    report = await campaign.preview()
    assert report.preview is not None
    assert (report.dry_run, report.preview.calls, report.preview.rate) == (True, 2, 0.5)
    assumed = (await campaign.preview(PreviewOptions(rate=3.0))).preview
    assert assumed is not None
    assert assumed.rate == 3.0
    assert (await campaign.progress()).total == 0


async def test_a_campaign_is_enqueued_held_resumed_cancelled_and_reported(
    queue: CallQueue, people: Path, tmp_path: Path
) -> None:
    campaign = Campaign(queue, str(people), OPTIONS)
    assert campaign.batch_id == "people"
    assert Campaign(queue, people, OPTIONS, batch_id="march").batch_id == "march"
    assert (await campaign.enqueue()).enqueued == 2
    assert (await campaign.enqueue()).duplicates == 2
    until = queue.store.clock.now() + timedelta(minutes=5)
    assert (await campaign.hold(until=until, reason="lunch")).reason == "lunch"
    progress = await campaign.progress()
    assert progress.hold is not None
    assert (progress.batch_id, progress.total, progress.hold.until) == ("people", 2, until)
    assert (await campaign.resume()).state is GateState.OPEN
    assert (await campaign.progress()).hold is None
    assert await campaign.cancel() == 2
    table, book, page = (tmp_path / f"out.{form}" for form in ("csv", "xlsx", "html"))
    report = await campaign.report(csv=table, xlsx=book, html=page)
    assert report.states == {JobState.CANCELLED: 2}
    assert report == await queue.report("people")
    assert {table, book, page} == set(written_in(tmp_path))
    assert (await campaign.resume()).state is GateState.CANCELLED


async def test_the_report_of_a_queue_and_of_its_counters(store: Store) -> None:
    engine = Engine(store, ScriptedVoice())
    await engine.enqueue("+6587654301")
    report, totals = await engine.queue.report(), await engine.queue.report(totals_only=True)
    assert report.breakdown is not None
    assert (report.batch_id, report.total, totals.total, totals.breakdown) == (None, 1, 1, None)


async def test_a_batch_that_was_enqueued_before_is_steered_without_its_file(queue: CallQueue, people: Path) -> None:
    await Campaign(queue, people, OPTIONS).enqueue()
    later = Campaign(queue, batch_id="people")
    assert (await later.report(totals_only=True)).total == 2
    with pytest.raises(InvalidInputError, match="has no file"):
        await later.enqueue()


async def test_a_campaign_needs_one_name(queue: CallQueue, people: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="needs a file"):
        Campaign(queue)
    with pytest.raises(InvalidInputError, match="different batches"):
        Campaign(queue, people, CampaignOptions(batch_id="march"), batch_id="april")
    with pytest.raises(CampaignFileError, match="batch id"):
        Campaign(queue, tmp_path / ("a" * 60 + ".csv"))


async def test_a_queue_is_named_in_one_way(store: Store) -> None:
    assert CallQueue(store, queue="reminders").name == CallQueue(store, "reminders").name == "reminders"
