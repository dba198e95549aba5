"""`calls show` tells what 8x8 told of a call beside its summary."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.cli.running import Program
from tests.cli.stored import completed, url_of, within
from tests.support.engine import Engine
from voiceflow_worker.core.events.progress import CallProgress
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.events import CallStatus, RecordingReady


def told_of(voiceflow: Program, job: Job) -> None:
    async def work(engine: Engine) -> None:
        progress = CallProgress(engine.store)
        await progress.status(
            CallStatus(
                session_id=job.session_id,
                call_status="RINGING",
                timestamp=datetime(2026, 7, 1, 9, tzinfo=UTC),
                source="+6531234567",
                destination="+6587654321",
                sip_code=180,
            )
        )
        await progress.recording(
            RecordingReady(
                session_id=job.session_id, recording_id="r-1", status="UPLOAD_COMPLETED", file_path="/calls/r-1.wav"
            )
        )

    within(voiceflow.folder, work)


def test_the_json_of_a_call_has_its_progress_and_its_recordings(voiceflow: Program) -> None:
    job = completed(voiceflow.folder)
    store = ("--store", url_of(voiceflow.folder))
    found = voiceflow("calls", "show", job.id, "--json", *store).document
    assert (found["progress"], found["recordings"]) == ([], [])
    told_of(voiceflow, job)
    found = voiceflow("calls", "show", job.id, "--json", *store).document
    assert found["progress"] == [
        {
            "session_id": job.session_id,
            "at": "2026-07-01T09:00:00.000Z",
            "status": "RINGING",
            "call_id": None,
            "direction": None,
            "source": "+6531234567",
            "destination": "+6587654321",
            "seconds": None,
            "sip_code": 180,
        }
    ]
    (recording,) = found["recordings"]
    assert (recording["recording_id"], recording["status"]) == ("r-1", "UPLOAD_COMPLETED")
    assert recording["file_path"] == "/calls/r-1.wav"
