"""One list under two names, started at once: the search for people who were called before is no guard by itself."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from tests.campaigns.conftest import EACH_STORE, StillClock
from tests.campaigns.reading import file_of
from tests.campaigns.test_called_before import FIRST, ROWS, enqueue
from tests.support.stores import DURABLE
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.called_before import LOCK_LENGTH, TIMEOUT, enqueue_lock
from voiceflow_worker.campaigns.enqueue import enqueue_file
from voiceflow_worker.core.admission import AdmissionResult, Admitter
from voiceflow_worker.core.ports.store import Before
from voiceflow_worker.errors import IntakeError

pytestmark = pytest.mark.anyio


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
