"""A corrected text, or one list under two names: told before anybody is called again, also of two starts at once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.campaigns.conftest import EACH_STORE, StillClock
from tests.campaigns.reading import file_of
from tests.support.stores import DURABLE
from voiceflow_worker import CallQueue, SuppressionList
from voiceflow_worker.campaigns.called_before import LOCK_LENGTH, TIMEOUT, TRIAL, enqueue_lock
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.enqueue import CHUNK, EnqueueReport, enqueue_file
from voiceflow_worker.core.admission import AdmissionResult, Admitter
from voiceflow_worker.core.ports.store import Before
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import IntakeError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import CallPolicy

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


async def test_people_who_have_opted_out_since_are_not_asked_about(queue: CallQueue, tmp_path: Path) -> None:
    path = file_of(tmp_path, ROWS)
    await enqueue(queue, path)
    at, policy = queue.store.clock.now(), CallPolicy()
    done = partial(lifecycle.ended, state=JobState.COMPLETED, at=at, reason=None, policy=policy)
    assert await Changes(queue.store, policy).change_all(await queue.find(), done) == 2
    await SuppressionList(queue.store).add(ANA, BEN)
    report = await enqueue(queue, path, CORRECTED)
    assert (report.refused, report.again, report.suppressed, report.enqueued) == (False, 0, 2, 0)


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


# -- one list under two names, started at once: the search alone is no guard -------------------------------------------


@pytest.fixture
def before_rows_are_stored(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Do something once, at the moment at which the first rows that were looked up are about to be stored."""

    def at_that_moment(act: Callable[[], object]) -> None:
        acts = [act]
        admit = Admitter.admit

        async def delayed(self: Admitter, *arguments: object, **options: object) -> Sequence[AdmissionResult]:
            while acts:
                await acts.pop()()  # type: ignore[misc]
            return await admit(self, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(Admitter, "admit", delayed)

    return at_that_moment


async def telephones(queue: CallQueue) -> Counter[str]:
    return Counter(job.destination for job in await queue.find(limit=None))


@EACH_STORE
async def test_the_second_waits_and_is_then_refused_with_the_name_of_the_first(
    queue: CallQueue, tmp_path: Path, before_rows_are_stored: Callable[[Callable[[], object]], None]
) -> None:
    """The first one's turn is renewed by nobody while it waits here, so it would end after a while by itself."""
    refused: list[str] = []

    async def second() -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("voiceflow_worker.campaigns.called_before.TIMEOUT", LOCK_LENGTH / 2)
            with pytest.raises(IntakeError) as caught:
                await enqueue(queue, file_of(tmp_path, ROWS, "people (1).csv"))
        refused.append(str(caught.value))

    before_rows_are_stored(second)
    assert (await enqueue(queue, file_of(tmp_path, ROWS, "people.csv"))).enqueued == 2
    assert "batch people," in refused[0]
    assert set((await telephones(queue)).values()) == {1}
    report = await enqueue(queue, file_of(tmp_path, ROWS, "people (1).csv"))
    assert (report.refused, report.again) == (True, 2)


@EACH_STORE
async def test_one_that_stood_still_stores_nothing_beside_its_successor(
    queue: CallQueue,
    tmp_path: Path,
    clock: StillClock,
    before_rows_are_stored: Callable[[Callable[[], object]], None],
) -> None:
    async def second() -> None:
        clock.advance(LOCK_LENGTH + timedelta(seconds=1))
        assert (await enqueue(queue, file_of(tmp_path, ROWS, "people (1).csv"))).enqueued == 2

    before_rows_are_stored(second)
    with pytest.raises(IntakeError, match="Enqueue the same rows again"):
        await enqueue(queue, file_of(tmp_path, ROWS, "people.csv"))
    assert set((await telephones(queue)).values()) == {1}


async def test_one_that_must_be_complete_before_a_time_that_has_passed_stores_nothing(
    queue: CallQueue, tmp_path: Path, clock: StillClock
) -> None:
    with pytest.raises(IntakeError, match="had to be complete before"):
        await enqueue_file(queue, file_of(tmp_path, ROWS), FIRST, conditions=(Before(clock.now()),))
    assert (await telephones(queue), await queue.staged("people")) == (Counter(), [])


@EACH_STORE
async def test_after_a_killed_one_the_next_goes_on_within_its_timeout(queue: CallQueue, tmp_path: Path) -> None:
    """A killed enqueue gives its turn back to nobody: it ends by time."""
    async with enqueue_lock(queue, "batch people"):
        assert (await enqueue(queue, file_of(tmp_path, ROWS))).enqueued == 2
    assert TIMEOUT > LOCK_LENGTH


@EACH_STORE
async def test_rows_with_keys_of_their_own_wait_for_nobody(
    queue: CallQueue, tmp_path: Path, before_rows_are_stored: Callable[[Callable[[], object]], None]
) -> None:
    async def second() -> None:
        keyed = file_of(tmp_path, "destination,name,unique_key\n+6587654399,Ana,k1\n", "keyed.csv")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("voiceflow_worker.campaigns.called_before.TIMEOUT", timedelta())
            assert (await enqueue(queue, keyed)).enqueued == 1

    before_rows_are_stored(second)
    assert (await enqueue(queue, file_of(tmp_path, ROWS))).enqueued == 2


@pytest.mark.slow
@pytest.mark.parametrize("backend", DURABLE)
def test_two_processes_that_start_at_once_give_each_person_one_call(
    tmp_path: Path, fresh_url: Callable[[str], str], backend: str
) -> None:
    for turn in range(3):
        url = fresh_url(backend)
        rows = "destination,name\n" + "".join(f"+65{90000000 + place},Ana\n" for place in range(1000))
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "voiceflow_worker", "enqueue", str(path), "--store", url, "--say",
                 "Hello {{name}}", "--voice-profile", "en-US-JennyNeural", "--source", "+6531234567"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for path in (tmp_path / f"list {turn}.csv", tmp_path / f"copy of list {turn}.csv")
            if path.write_text(rows)
        ]  # fmt: skip
        first, second = sorted(each.wait(240) for each in started)
        assert first == 0
        assert second in {1, 2}, (
            "it was refused: people were called before, or, on a slow machine, its turn did not come"
        )
        listed = subprocess.run(
            [sys.executable, "-m", "voiceflow_worker", "calls", "list", "--limit", "0", "--json", "--store", url],
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(listed.stdout.splitlines()) == 1000
