"""Whether 8x8 is slow, silent, failing or out of reach, and since when."""

from __future__ import annotations

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock
from tests.support.manual_time import passing_beside
from tests.support.voices import ScriptedVoice, not_sent, unknown
from tests.support.workers import enqueued, worker_for
from voiceflow_worker.core.base.background import Task
from voiceflow_worker.core.heartbeats import (
    CALM,
    FORGOTTEN,
    SLOW,
    Heartbeats,
    ServiceHealth,
)
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.reports.verdict import NotSentCause, Verdict, VerdictKind

pytestmark = pytest.mark.anyio

GOOD = Verdict(kind=VerdictKind.CREATED, message="Created", http_status=200)
BAD = {
    Task.UNREACHABLE: Verdict(kind=VerdictKind.NOT_SENT, cause=NotSentCause.UNREACHABLE, message="connection refused"),
    Task.SILENT: Verdict(kind=VerdictKind.UNKNOWN, message="ReadTimeout"),
    Task.ERRORS: Verdict(kind=VerdictKind.UNKNOWN, message="503", http_status=503),
    Task.SLOW: GOOD,
}


@pytest.mark.parametrize("trouble", BAD)
def test_a_trouble_has_its_beginning_and_is_over_when_later_posts_succeed(trouble: Task) -> None:
    clock = ManualClock()
    health = ServiceHealth(clock)
    began = clock.now()
    takes = SLOW + 1 if trouble is Task.SLOW else 0.0
    for _ in range(3):
        sent_at = clock.monotonic()
        clock.advance(timedelta(seconds=takes))
        health.note(BAD[trouble], sent_at)
        if not takes:
            health.note(GOOD, sent_at)  # one that was not sent later is no sign of its end
        clock.advance(timedelta(seconds=5))
    assert list(health.failing) == [trouble]
    assert f"since {began:%Y-%m-%d %H:%M:%S}" in health.failing[trouble]
    health.note(GOOD, clock.monotonic())
    assert list(health.failing) == [trouble]
    clock.advance(timedelta(seconds=CALM))
    health.note(GOOD, clock.monotonic())
    assert not health.failing


def test_what_nobody_meets_any_more_is_forgotten_and_what_says_nothing_of_8x8_counts_as_nothing() -> None:
    clock = ManualClock()
    health = ServiceHealth(clock)
    health.note(BAD[Task.SILENT], clock.monotonic())
    clock.advance(timedelta(seconds=FORGOTTEN - 1))
    health.note(Verdict(kind=VerdictKind.NOT_SENT, cause=NotSentCause.HELD, message="held"), clock.monotonic())
    assert list(health.failing) == [Task.SILENT]
    clock.advance(timedelta(seconds=2))
    assert not health.failing


@pytest.mark.parametrize(("answer", "trouble"), [(not_sent(), Task.UNREACHABLE), (unknown("ReadTimeout"), Task.SILENT)])
async def test_the_heartbeat_says_it_to_status_and_a_doubt_has_its_reason_in_the_log(
    store: Store, clock: ManualClock, answer: Verdict, trouble: str
) -> None:
    await enqueued(store, 3)
    voice = ScriptedVoice(answer=lambda _placement: answer)
    worker = worker_for(store, voice)

    async def watch() -> None:
        while not (beats := await Heartbeats(store).workers("default")) or not beats[0].failing:
            await clock.sleep(1)
        worker.stop()
        found.update(await Heartbeats(store).failing("default"), counted=str(worker.counts.failing[trouble]))

    found: dict[str, str] = {}
    with capture_logs() as logs:
        await passing_beside(clock, [worker], watch)
    assert found[trouble].startswith("since ")
    assert answer.message in found[trouble]
    assert found["counted"] == "1"
    said = [line for line in logs if line["log_level"] == "warning" and answer.message in str(line.get("error"))]
    assert said
