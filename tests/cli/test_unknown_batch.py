"""A batch that has no calls: exit 1, a sentence with near names, and nothing is done."""

from __future__ import annotations

import pytest

from tests.cli.running import Program
from tests.cli.stored import enqueued, url_of, within
from tests.support.engine import Engine
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.model.jobs.gate import Gate

COMMANDS = [
    ["hold"],
    ["calls", "list"],
    ["report"],
]


def gates(voiceflow: Program) -> list[Gate]:
    async def work(engine: Engine) -> list[Gate]:
        return list(await gates_of(engine.store, engine.queue.name))

    return within(voiceflow.folder, work)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_batch_without_calls_exits_1_with_near_names(voiceflow: Program, command: list[str]) -> None:
    enqueued(voiceflow.folder, 1, batch_id="march-2027")
    enqueued(voiceflow.folder, 1, batch_id="other")
    ended = voiceflow(*command, "--batch", "March-2072", "--store", url_of(voiceflow.folder))
    assert (ended.code, ended.out) == (1, "")
    assert "batch March-2072 has no calls in queue default" in ended.err
    assert "did you mean march-2027?" in ended.err
    assert gates(voiceflow) == []
    assert voiceflow(*command, "--batch", "march-2027", "--store", url_of(voiceflow.folder)).code == 0


def test_a_hold_of_a_batch_whose_calls_are_gone_can_be_lifted(voiceflow: Program) -> None:
    async def work(engine: Engine) -> None:
        await engine.queue.hold(batch_id="gone")

    enqueued(voiceflow.folder, 1, batch_id="march")
    within(voiceflow.folder, work)
    ended = voiceflow("resume", "--batch", "gone", "--store", url_of(voiceflow.folder))
    assert ended.code == 1
    assert "has no calls" in ended.err
    assert gates(voiceflow) == []
