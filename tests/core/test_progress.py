"""Live progress and recordings: kept beside the call, in any order, any number of times, and found by its sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.engine import Engine
from voiceflow_worker.backends.contract.samples import ManualClock
from voiceflow_worker.core.events.progress import CallProgress
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.reports.events import CallStatus, Direction, RecordingReady

pytestmark = pytest.mark.anyio

AT = datetime(2026, 7, 1, 9, tzinfo=UTC)


def state(status: str, *, seconds: int = 0, session_id: str | None = "s", event_id: str | None = None) -> CallStatus:
    return CallStatus(
        session_id=session_id,
        event_id=event_id,
        call_id="leg-1",
        call_status=status,
        direction=Direction.OUTBOUND,
        source="+6531234567",
        destination="+6587654321",
        sip_code=180,
        duration=timedelta(seconds=seconds),
        timestamp=AT + timedelta(seconds=seconds),
    )


def recording(status: str, *, file_path: str | None = None, session_id: str | None = "s") -> RecordingReady:
    return RecordingReady(
        session_id=session_id,
        recording_id="r",
        status=status,
        file_path=file_path,
        duration=timedelta(seconds=12) if file_path else None,
    )


async def test_states_are_reported_in_order_of_their_time_whatever_order_they_came_in(store: Store) -> None:
    progress = CallProgress(store)
    for status, seconds in (("COMPLETED", 20), ("INITIATED", 0), ("ANSWERED", 8), ("RINGING", 3)):
        assert await progress.status(state(status, seconds=seconds))
    heard = await progress.of(["s"])
    assert [each.status for each in heard.states] == ["INITIATED", "RINGING", "ANSWERED", "COMPLETED"]
    first = heard.states[1]
    assert (first.session_id, first.at, first.call_id) == ("s", AT + timedelta(seconds=3), "leg-1")
    assert (first.direction, first.source, first.destination) == ("OUTBOUND", "+6531234567", "+6587654321")
    assert (first.seconds, first.sip_code) == (3.0, 180)


async def test_the_same_event_again_is_one_entry(store: Store, clock: ManualClock) -> None:
    progress = CallProgress(store)
    for _ in range(3):
        await progress.status(state("RINGING"))
        await CallProgress(store).recording(recording("UPLOAD_COMPLETED", file_path="/r.wav"))
        clock.advance(timedelta(seconds=1))
    heard = await progress.of(["s"])
    assert len(heard.states) == 1
    assert len(heard.recordings) == 1


@pytest.mark.parametrize("order", [("UPLOADING", "UPLOAD_COMPLETED"), ("UPLOAD_COMPLETED", "UPLOADING")])
async def test_a_recording_is_reported_once_with_its_file(
    store: Store, clock: ManualClock, order: tuple[str, str]
) -> None:
    progress = CallProgress(store)
    for status in order:
        await progress.recording(recording(status, file_path="/r.wav" if status == "UPLOAD_COMPLETED" else None))
        clock.advance(timedelta(seconds=1))
    (told,) = (await progress.of(["s"])).recordings
    assert (told.recording_id, told.status, told.file_path, told.seconds) == ("r", "UPLOAD_COMPLETED", "/r.wav", 12.0)


async def test_sessions_whose_names_begin_alike_are_not_mixed_up(store: Store) -> None:
    progress = CallProgress(store)
    for session_id in ("s", "s/", "s/t", "s%2Ft", "st"):
        await progress.status(state("RINGING", session_id=session_id))
    for session_id in ("s", "s/", "s/t", "s%2Ft", "st"):
        (told,) = (await progress.of([session_id])).states
        assert told.session_id == session_id


async def test_they_end_by_themselves(store: Store, clock: ManualClock) -> None:
    progress = CallProgress(store, recordings_for=timedelta(days=30))
    await progress.status(state("RINGING"))
    await progress.recording(recording("UPLOAD_COMPLETED", file_path="/r.wav"))
    clock.advance(timedelta(days=8))
    heard = await progress.of(["s"])
    assert (len(heard.states), len(heard.recordings)) == (0, 1)
    clock.advance(timedelta(days=23))
    assert (await progress.of(["s"])).recordings == ()


async def test_a_job_finds_what_was_heard_of_its_sessions_and_is_not_moved_by_it(store: Store, engine: Engine) -> None:
    await engine.enqueue()
    progress = CallProgress(store)
    (job,) = await engine.send()
    assert job.session_id is not None
    await progress.status(state("RINGING", session_id=job.session_id))
    await progress.recording(recording("UPLOAD_COMPLETED", session_id=job.session_id))
    await progress.status(state("RINGING", session_id="another"))
    heard = await progress.of_job(job)
    assert [each.session_id for each in heard.states] == [job.session_id]
    assert len(heard.recordings) == 1
    assert await engine.queue.get(job.id) == job
