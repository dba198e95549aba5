"""A corrected text in the same batch: said before anybody is called again, and the same file goes on as before."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.reading import file_of
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.called_before import TRIAL
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.enqueue import CHUNK, EnqueueReport, enqueue_file
from voiceflow_worker.finding import Remedy

pytestmark = pytest.mark.anyio
ANA, BEN = "+6587654321", "+6587654322"
ROWS = f"destination,name\n{ANA},Ana\n{BEN},Ben\n"


def saying(text: str) -> CampaignOptions:
    return CampaignOptions(
        template=FlowTemplate.speaking(text), source="+6531234567", voice_profile="en-IE-EmilyNeural"
    )


FIRST, CORRECTED = saying("Your visit is on Monday, {{name}}."), saying("Your visit is on Tuesday, {{name}}.")


async def enqueue(
    queue: CallQueue,
    path: Path,
    options: CampaignOptions = FIRST,
    *,
    skip_bad: bool = False,
    dry_run: bool = False,
    again: bool = False,
) -> EnqueueReport:
    now = queue.store.clock.now()
    return await enqueue_file(queue, path, options, now=now, skip_bad=skip_bad, dry_run=dry_run, again=again)


async def count(queue: CallQueue) -> int:
    return len(await queue.find(limit=None))


@pytest.mark.parametrize("skip_bad", [False, True])
async def test_a_corrected_text_is_refused_with_its_count_before_anything_is_stored(
    queue: CallQueue, tmp_path: Path, skip_bad: bool
) -> None:
    await enqueue(queue, file_of(tmp_path, ROWS))
    path = file_of(tmp_path, f"destination,name\n+6587654323,Cho\n{ANA},Ana\n{BEN},Ben\n")
    report = await enqueue(queue, path, CORRECTED, skip_bad=skip_bad)
    assert (report.refused, report.again, report.enqueued, await count(queue)) == (True, 2, 0, 2)
    (found,) = report.findings
    assert (found.row, found.column, found.is_error) == (3, "destination", True)
    assert Remedy.CALL_AGAIN in found.message
    report = await enqueue(queue, path, CORRECTED, skip_bad=skip_bad, again=True)
    assert (report.refused, report.again, report.enqueued, await count(queue)) == (False, 0, 3, 5)


@pytest.mark.parametrize(("key", "again"), [(f"{TRIAL}1", 0), ("order-1", 1)])
async def test_a_trial_at_ones_own_telephone_is_no_call_before(
    queue: CallQueue, tmp_path: Path, key: str, again: int
) -> None:
    trial = file_of(tmp_path, f"destination,unique_key\n{ANA},{key}\n", "people-trial.csv")
    assert (await enqueue(queue, trial, saying("Hello."))).enqueued == 1
    report = await enqueue(queue, file_of(tmp_path, ROWS), saying("Hello."))
    assert (report.again, report.enqueued) == (again, 0 if again else 2)


async def test_a_dry_run_warns(queue: CallQueue, tmp_path: Path) -> None:
    path = file_of(tmp_path, ROWS)
    await enqueue(queue, path)
    report = await enqueue(queue, path, CORRECTED, dry_run=True)
    assert (report.refused, report.again, [found.is_error for found in report.findings]) == (False, 2, [False])


@pytest.mark.parametrize("dry_run", [False, True])
async def test_people_who_would_be_called_again_are_told_beside_bad_rows(
    queue: CallQueue, tmp_path: Path, dry_run: bool
) -> None:
    await enqueue(queue, file_of(tmp_path, ROWS))
    path = file_of(tmp_path, f"{ROWS}none,Cho\n")
    report = await enqueue(queue, path, CORRECTED, dry_run=dry_run)
    assert (report.refused, report.again, report.rejected, await count(queue)) == (True, 2, 1, 2)
    assert [(found.row, found.is_error) for found in report.findings] == [(4, True), (2, not dry_run)]


async def test_a_file_with_two_rows_for_a_number_goes_on_after_a_killed_run(queue: CallQueue, tmp_path: Path) -> None:
    await enqueue(queue, file_of(tmp_path, f"destination,name\n{ANA},Ana\n"))
    report = await enqueue(queue, file_of(tmp_path, f"destination,name\n{ANA},Anita\n{ANA},Ana\n{BEN},Ben\n"))
    assert (report.refused, report.enqueued, report.duplicates) == (False, 2, 1)


async def test_a_long_file_goes_on_after_a_killed_run_that_stored_its_first_part(
    queue: CallQueue, tmp_path: Path
) -> None:
    """The rows are read a thousand at a time, and all rows of the first part exist already."""
    rows = [f"+65{90000000 + place},Ana" for place in range(CHUNK)]
    await enqueue(queue, file_of(tmp_path, "\n".join(["destination,name", *rows])))
    report = await enqueue(queue, file_of(tmp_path, "\n".join(["destination,name", *rows, "+6590000000,Ben"])))
    assert (report.refused, report.enqueued, report.duplicates) == (False, 1, CHUNK)


async def test_other_words_in_another_batch_and_rows_with_keys_are_not_asked_about(
    queue: CallQueue, tmp_path: Path
) -> None:
    await enqueue(queue, file_of(tmp_path, ROWS))
    keyed = file_of(tmp_path, f"destination,name,unique_key\n{ANA},Ana,k1\n")
    assert (await enqueue(queue, keyed, CORRECTED)).enqueued == 1
    other = file_of(tmp_path, f"destination,name,batch_id\n{ANA},Anna,april\n")
    assert (await enqueue(queue, other, CORRECTED)).enqueued == 1


@pytest.mark.parametrize("people", [2, 900])
async def test_a_renamed_file_is_refused_with_its_count_for_a_week(
    queue: CallQueue, tmp_path: Path, clock: StillClock, people: int
) -> None:
    """Of a long file only some rows are looked up, and the batch that one of them names is compared with all rows."""
    rows = "".join(f"+65{90000000 + place},Ana\n" for place in range(people))
    await enqueue(queue, file_of(tmp_path, f"destination,name\n{rows}", "people.csv"))
    clock.advance(timedelta(days=2))
    copy = file_of(tmp_path, f"destination,name\n{rows}+6587654329,Ben\n", "people (1).csv")
    report = await enqueue(queue, copy)
    assert (report.refused, report.again, await count(queue)) == (True, people, people)
    (found,) = [found for found in report.findings if found.is_error]
    assert (found.row, Remedy.CALL_AGAIN in found.message, "2 d ago" in found.message) == (2, True, True)
    clock.advance(timedelta(days=6))
    assert (await enqueue(queue, copy)).enqueued == people + 1


async def test_the_old_text_in_another_batch_of_the_file_hides_no_call(queue: CallQueue, tmp_path: Path) -> None:
    columns = "destination,name,visit,batch_id"
    options = saying("Your visit is on {{visit}}, {{name}}.")
    await enqueue(queue, file_of(tmp_path, f"{columns}\n{ANA},Ana,Monday,april\n"), options)
    both = file_of(tmp_path, f"{columns}\n{ANA},Ana,Monday,march\n{ANA},Ana,Tuesday,april\n")
    report = await enqueue(queue, both, options)
    assert (report.refused, report.enqueued, await count(queue)) == (True, 0, 1)
    assert sorted(found.row or 0 for found in report.findings if found.is_error) == [2, 3]


async def test_the_same_text_under_another_key_is_an_earlier_call(queue: CallQueue, tmp_path: Path) -> None:
    await enqueue(queue, file_of(tmp_path, f"destination,name,unique_key,batch_id\n{ANA},Ana,k1,april\n"))
    report = await enqueue(queue, file_of(tmp_path, f"destination,name,batch_id\n{ANA},Ana,april\n"))
    assert (report.refused, report.again, report.enqueued, await count(queue)) == (True, 1, 0, 1)


async def test_calls_that_ended_without_a_ring_do_not_count(queue: CallQueue, tmp_path: Path) -> None:
    path = file_of(tmp_path, ROWS)
    await enqueue(queue, path)
    ana, ben = await queue.find()
    await queue.cancel(ana.id)
    assert (await enqueue(queue, path, CORRECTED)).again == 1
    await queue.cancel(ben.id)
    assert (await enqueue(queue, path, CORRECTED)).enqueued == 2


async def test_a_batch_of_many_pages_is_read_to_its_end(
    queue: CallQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow_worker.campaigns.called_before.PAGE", 2)
    many = "destination,name\n" + "".join(f"+65{87654300 + place},Ana\n" for place in range(5))
    path = file_of(tmp_path, many)
    await enqueue(queue, path)
    assert (await enqueue(queue, path, CORRECTED)).again == 5


async def test_another_spelling_of_a_number_is_a_call_to_the_same_phone(queue: CallQueue, tmp_path: Path) -> None:
    await enqueue(queue, file_of(tmp_path, "destination,name\n+541143211234,Ana\n"))
    respelt = file_of(tmp_path, "destination,name\n+5491143211234,Ana\n")
    report = await enqueue(queue, respelt)
    assert (report.refused, report.again, report.enqueued, await count(queue)) == (True, 1, 0, 1)
    assert any("+541143211234" in found.message for found in report.findings if found.is_error)
    assert (await enqueue(queue, respelt, again=True)).enqueued == 1
