"""`voiceflow rate`: it shows, changes and resets the rate of a queue."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.eight_by_eight import EightByEight
from tests.cli.running import Program
from tests.cli.stored import empty


def test_a_rate_is_shown_changed_and_reset(voiceflow: Program) -> None:
    store = ("--store", empty(voiceflow.folder))
    assert voiceflow("rate", *store).out == "queue default has no rate yet: the first worker that starts sets it\n"
    assert voiceflow("rate", "0.5", *store).out == "the rate of queue default is 0.5 calls/s for all its workers\n"
    assert voiceflow("rate", "--json", *store).document == {"queue": "default", "rate": 0.5, "is_set": True}
    assert voiceflow("rate", "unlimited", "--json", *store).document["rate"] is None
    assert "unlimited" in voiceflow("status", *store).out
    assert "the rate of the next worker that starts" in voiceflow("rate", "--reset", *store).out
    assert "no rate set by hand" in voiceflow("rate", "--reset", *store).out


@pytest.mark.parametrize("given", [["0"], ["-3"], ["fast"], ["nan"], ["5", "--reset"]])
def test_what_is_not_a_rate_is_refused(voiceflow: Program, given: list[str]) -> None:
    store = ("--store", empty(voiceflow.folder))
    ended = voiceflow("rate", *given, *store)
    assert (ended.code, ended.out) == (2, "")
    assert "rate" in ended.err or "--reset" in ended.err
    assert voiceflow("rate", "--json", *store).document["rate"] is None


@pytest.mark.beside
def test_a_worker_names_the_rate_that_holds(voiceflow: Program, eight: EightByEight) -> None:
    store = ("--store", empty(voiceflow.folder))
    worker = ("worker", "--drain", "--rate", "20", *store)
    assert ": rate 20 calls/s, at most" in voiceflow(*worker).err
    voiceflow("rate", "6", *store)
    told = voiceflow(*worker).err
    assert ": rate 6 calls/s, at most" in told
    assert "to use the rate of this worker's settings (20 calls/s), run `voiceflow rate --reset`" in told
    assert ": rate 6 calls/s, at most" in voiceflow(*worker, "--processes", "2").err
    voiceflow("rate", "20", *store)
    assert "--reset" not in voiceflow(*worker).err
    voiceflow("rate", "6", *store)
    voiceflow("rate", "--reset", *store)
    told = voiceflow(*worker).err
    assert ": rate 20 calls/s, at most" in told
    assert "--reset" not in told


def test_the_doctor_says_how_to_withdraw_a_rate_that_was_set(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ("--store", empty(voiceflow.folder))
    voiceflow("rate", "6", *store)
    line = limits_of(voiceflow, *store)
    assert line["level"] == "warning"
    assert "has rate 6 calls/s" in line["message"]
    assert "`voiceflow rate --reset`" in line["remedy"]
    assert "same limits" not in line["remedy"]
    monkeypatch.setenv("VOICEFLOW_BURST", "3")
    both = limits_of(voiceflow, *store)
    assert "`voiceflow rate --reset`" in both["remedy"]
    assert "same limits" in both["remedy"], "the burst differs too, and nobody set it by hand"
    assert both["remedy"].endswith("to use the limits of the queue, set VOICEFLOW_BURST=1 here too")


def test_the_doctor_names_the_settings_that_are_the_limits_of_the_worker(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ("--store", empty(voiceflow.folder))
    voiceflow("worker", "--drain", "--rate", "5", "--burst", "2", *store)
    monkeypatch.setenv("VOICEFLOW_MAX_ACTIVE", "7")
    line = limits_of(voiceflow, *store)
    changes = "set VOICEFLOW_RATE=5 and set VOICEFLOW_BURST=2 and unset VOICEFLOW_MAX_ACTIVE here too"
    assert line["remedy"].endswith(changes)
    monkeypatch.setenv("VOICEFLOW_RATE", "5")
    monkeypatch.setenv("VOICEFLOW_BURST", "2")
    monkeypatch.delenv("VOICEFLOW_MAX_ACTIVE")
    assert limits_of(voiceflow, *store)["level"] == "ok"


def limits_of(voiceflow: Program, *store: str) -> dict[str, Any]:
    (found,) = (line for line in voiceflow("doctor", "--json", *store).lines if line["check"] == "limits")
    return found
