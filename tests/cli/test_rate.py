"""`voiceflow rate`: it shows, changes and resets the rate of a queue."""

from __future__ import annotations

import pytest

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
