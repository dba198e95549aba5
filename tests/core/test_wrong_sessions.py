"""An answer that was left over gives a call the session of another: its summary settles nobody else."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice, created
from voiceflow_worker import CallPolicy
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.model.reports.events import CallAction, Direction, SessionSummary
from voiceflow_worker.model.reports.outcome import CallLeg
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.webhooks.menu_calls import MenuCalls

pytestmark = pytest.mark.anyio


def summary_of(session: str, destination: str | None) -> SessionSummary:
    leg = None if destination is None else CallLeg(destination=destination)
    return SessionSummary(session_id=session, status=SessionStatus.COMPLETED, status_text="COMPLETED", call_a=leg)


@pytest.mark.parametrize("spelled", ["+{}", "{}", "00{}"])
async def test_a_summary_found_by_its_session_alone_settles_only_a_call_to_its_number(
    engine: Engine, voice: ScriptedVoice, spelled: str
) -> None:
    """Each call has its predecessor's session."""
    jobs = [await engine.enqueue(number(place)) for place in range(3)]
    places = {f"{job.id}.1": place for place, job in enumerate(jobs)}
    voice.answer = lambda placement: created(f"session-{places[placement.client_request_id] - 1}")
    await engine.send()
    for place, job in enumerate(jobs):
        told = spelled.format(job.destination.removeprefix("+"))
        summary = summary_of(f"session-{place}", told)
        assert await engine.settler.summary(summary) is not SummaryResult.SETTLED
    assert [await engine.state(job) for job in jobs] == ["submitted"] * 3
    for place, job in enumerate(jobs):  # with its request id, each is settled
        assert await engine.summarise(job, session_id=f"s{place}") is SummaryResult.SETTLED


@pytest.mark.parametrize("spelled", ["+{}", "{}", "00{}", None, "anonymous"])
async def test_a_summary_that_does_not_contradict_settles_the_call_of_its_session(
    engine: Engine, voice: ScriptedVoice, spelled: str | None
) -> None:
    voice.answers = [created("s")]
    job = await engine.enqueue(number(0))
    await engine.send()
    told = None if spelled is None else spelled.format(job.destination.removeprefix("+"))
    assert await engine.settler.summary(summary_of("s", told)) is SummaryResult.SETTLED


async def test_the_menu_of_another_call_is_not_spoken_to_whoever_is_on_the_line(
    engine: Engine, voice: ScriptedVoice
) -> None:
    voice.answers = [created("s")]
    job = await engine.enqueue(number(0))
    await engine.send()
    menu_calls = MenuCalls(engine.store, CallPolicy())
    for spelled, is_ours in [(job.destination, True), (job.destination.removeprefix("+"), True), (number(7), False)]:
        event = CallAction(
            session_id="s", event_id="e", source=job.source, destination=spelled, direction=Direction.OUTBOUND
        )
        found = await menu_calls.find(event)
        assert (found.job is not None) is is_ours, spelled


async def test_the_session_of_a_call_to_one_number_of_a_person_is_not_that_of_a_call_to_another(
    engine: Engine, voice: ScriptedVoice
) -> None:
    voice.answers = [created("s1"), created("s")]
    job = await engine.enqueue(number(0), further_numbers=[number(1)])
    await engine.send()
    await engine.summarise(job, SessionStatus.BUSY)
    await engine.send()
    menu_calls = MenuCalls(engine.store, CallPolicy())
    for called, is_ours in [(job.numbers[1], True), (job.destination, False)]:
        event = CallAction(
            session_id="s", event_id="e", source=job.source, destination=called, direction=Direction.OUTBOUND
        )
        assert ((await menu_calls.find(event)).job is not None) is is_ours, called
    assert await engine.settler.summary(summary_of("s", job.destination)) is not SummaryResult.SETTLED
    assert await engine.state(job) == "submitted"
