"""`voiceflow call`: one call through everything, and its outcome as the exit code."""

from __future__ import annotations

import pytest

from tests.cli.eight_by_eight import EightByEight
from tests.cli.one_call import MINE, names, receiving, steps
from tests.cli.running import Program
from tests.cli.stored import within
from tests.support.engine import Engine
from tests.support.flows import SOURCE
from voiceflow_worker import Job
from voiceflow_worker.core.numbers.suppression import SuppressionList


@pytest.mark.slow
def test_a_person_who_answers_hears_the_text(voiceflow: Program, eight: EightByEight) -> None:
    with receiving(eight, voiceflow.folder):
        ended = voiceflow(
            "call", MINE, "--say", "The server room is too warm.", "--voice-profile", "en-IE-EmilyNeural", "--json"
        )
    assert ended.code == 0, ended.err
    assert names(ended)[0] == "enqueued"
    assert names(ended)[-1] == "summary"
    (entry,) = eight.sandbox.ledger
    assert (entry.destination, entry.rang) == (MINE, True)
    (job,) = within(voiceflow.folder, all_jobs)
    assert (job.batch_id, job.source, job.state.value) == ("call", SOURCE, "completed")
    assert '"text":"The server room is too warm."' in job.body
    assert "en-IE-EmilyNeural" in job.body


@pytest.mark.slow
def test_a_suppressed_number_is_not_called(voiceflow: Program, eight: EightByEight) -> None:
    within(voiceflow.folder, lambda engine: SuppressionList(engine.store).add(MINE, reason="asked us"))
    with receiving(eight, voiceflow.folder):
        ended = voiceflow("call", MINE, "--say", "Wake up.", "--json")
    assert (ended.code, names(ended)) == (1, ["not called"])
    assert not eight.sandbox.ledger


def test_without_a_receiver_nobody_is_called_unless_asked_to(voiceflow: Program, eight: EightByEight) -> None:
    ended = voiceflow("call", MINE, "--say", "Wake up.", "--json")
    assert (ended.code, names(ended)) == (1, ["not called"])
    assert "voiceflow serve" in steps(ended)[0]["remedy"]
    assert not eight.sandbox.ledger
    ended = voiceflow("call", MINE, "--say", "Wake up.", "--without-outcome", "--json")
    assert (ended.code, names(ended)[-1]) == (1, "no outcome")
    assert len(eight.sandbox.ledger) == 1


async def all_jobs(engine: Engine) -> list[Job]:
    return list(await engine.queue.find())
