from __future__ import annotations

import pytest

from tests.cli.eight_by_eight import running
from tests.cli.running import Program
from voiceflow_worker.sandbox import Sandbox


def test_what_was_set_is_shown_with_its_place_and_the_rest_on_demand(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_RATE", "7")
    (voiceflow.folder / "voiceflow.toml").write_text('queue = "reminders"\n')
    assert [line["setting"] for line in voiceflow("config", "show", "--json").lines] == [
        "VOICEFLOW_QUEUE",
        "VOICEFLOW_RATE",
        "VOICEFLOW_WAIT_FOR_STORE",  # which the fixtures set
    ]
    lines = voiceflow("config", "show", "--all", "--json").lines
    found = {line["setting"]: (line["value"], line["from"]) for line in lines}
    assert found["VOICEFLOW_RATE"] == ("7.0", "VOICEFLOW_RATE (the environment)")
    assert found["VOICEFLOW_QUEUE"] == ("reminders", "queue (voiceflow.toml)")
    assert found["VOICEFLOW_BURST"] == ("1", "the default")
    assert [found[f"VOICEFLOW_{name}"][0] for name in ("RETENTION", "SUMMARY_DEADLINE", "LEASE")] == [
        "30d",
        "2h",
        "60s",
    ]


@pytest.mark.parametrize("command", [["worker", "--drain"], ["enqueue", "x.csv"], ["account", "numbers"], ["status"]])
def test_a_region_is_refused_and_nothing_is_sent(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    with running(Sandbox()) as eight:
        for name, value in {**eight.environment, "VOICEFLOW_REGION": "ap"}.items():
            monkeypatch.setenv(name, value)
        ended = voiceflow(*command)
        received = eight.sandbox.ledger
    assert ended.code == 2, ended
    assert "VOICEFLOW_REGION" in ended.err
    assert "VOICEFLOW_BASE_URL" in ended.err
    assert list(received) == []
