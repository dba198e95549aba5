from __future__ import annotations

from tests.cli.running import Program
from tests.cli.stored import url_of, within
from tests.cli.test_check import written
from tests.support.engine import Engine
from tests.support.flows import number
from voiceflow_worker.model.reports.status import SessionStatus

SAY = ("--say", "Hello.", "--source", "+6531234567", "--voice-profile", "en-IE-EmilyNeural")


def people(voiceflow: Program) -> str:
    rows = "\n".join(number(place) for place in range(6))
    return str(written(voiceflow.folder, "people.csv", f"destination\n{rows}\n"))


def test_a_batch_stops_itself_at_the_limit_that_was_given_with_it(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    ended = voiceflow("enqueue", people(voiceflow), *SAY, "--stop-if-answer-rate-below", "50%/4", *store)
    assert ended.code == 0

    async def nobody_answers(engine: Engine) -> None:
        for job in await engine.lease(4):
            (flight,) = await engine.submitter.prepare([job], leased_at=engine.store.clock.monotonic())
            await engine.submitter.fly(flight)
            await engine.summarise(job, SessionStatus.NO_ANSWER)
        await engine.sweeper.sweep()

    within(voiceflow.folder, nobody_answers)
    (batch,) = voiceflow("batches", "--json", *store).lines
    assert batch["hold"]["reason"] == "stopped itself: 0 of 4 calls were answered (0.0%), less than the required 50%"
    assert voiceflow("resume", "--batch", "people", *store).code == 0
    within(voiceflow.folder, lambda engine: engine.sweeper.sweep())
    (batch,) = voiceflow("batches", "--json", *store).lines
    assert batch["hold"] is None
