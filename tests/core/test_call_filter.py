"""One filter of calls, for commands and pages."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.plain_jobs import NOW, a_job
from voiceflow_worker.core.call_filter import CallFilter, person_of
from voiceflow_worker.core.ports.reads import Listing, OfNumber
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.totals import OUTCOME, STATE, Totals

ANA = a_job(data={"Vorname": "Ana", "Nachname": "Lim-Mu\u0308ller"})
LATER = NOW + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("+65 8765 4321", {"number": "+6587654321"}),
        ("6587654321", {"number": "+6587654321"}),
        ("4321", {"part": "4321"}),
        ("ana", {"part": "ana"}),
        ("+12", {"part": "+12"}),
    ],
)
def test_a_person_is_found_by_a_whole_number_or_by_a_part(text: str, fields: dict[str, str]) -> None:
    assert person_of(text) == fields


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"part": "LIM"}, True),
        ({"part": "lin"}, False),
        ({"part": "ana lim-m\u00dcl"}, True),
        ({"part": "muller"}, True),
        ({"part": "4321"}, True),
        ({"part": "04321"}, True),
        ({"part": "4322"}, False),
        ({"begin": ANA.touched_at}, True),
        ({"begin": ANA.touched_at + timedelta(seconds=1)}, False),
        ({"end": ANA.touched_at}, False),
        ({"end": LATER, "part": "ana"}, True),
        ({"answer": "yes"}, False),
    ],
)
def test_what_stores_cannot_look_up_is_judged_call_by_call(fields: dict[str, Any], passes: bool) -> None:
    lets_pass = CallFilter(**fields).lets_pass
    assert lets_pass is not None
    assert lets_pass(ANA) is passes


def test_stores_look_up_the_rest() -> None:
    wanted = CallFilter(states=frozenset({JobState.FAILED}), batch="march", outcomes=frozenset({"BUSY"}))
    assert wanted.lets_pass is None
    assert wanted.read("q", newest=True, limit=7) == Listing(
        queue="q", states=wanted.states, batch="march", outcomes=wanted.outcomes, newest=True, limit=7
    )


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({}, True),
        ({"states": frozenset({ANA.state})}, True),
        ({"states": frozenset({JobState.FAILED})}, False),
        ({"batch": "march"}, False),
        ({"outcomes": frozenset({"BUSY"})}, False),
        ({"part": "ana"}, True),
        ({"part": "ben"}, False),
    ],
)
def test_of_the_calls_of_a_number_the_rest_is_judged_call_by_call(fields: dict[str, Any], passes: bool) -> None:
    wanted = CallFilter(number=ANA.destination, **fields)
    assert wanted.read("q", after="q.1", limit=7) == OfNumber(queue="q", number=ANA.destination, after="q.1", limit=7)
    lets_pass = wanted.lets_pass
    assert lets_pass is not None
    assert lets_pass(ANA) is wanted.has(ANA) is passes
    assert not replace(wanted, number="+6511111111").has(ANA)


@pytest.mark.parametrize(
    ("fields", "may_have"),
    [
        ({}, True),
        ({"states": frozenset({JobState.COMPLETED})}, True),
        ({"states": frozenset({JobState.QUEUED})}, False),
        ({"outcomes": frozenset({"BUSY"})}, False),
        ({"answer": "yes"}, False),
        ({"answer": "-"}, False),
    ],
)
def test_totals_tell_where_no_call_can_be(fields: dict[str, Any], may_have: bool) -> None:
    totals = Totals(live={STATE + JobState.COMPLETED: 1, f"{OUTCOME}COMPLETED": 1})
    assert CallFilter(**fields).may_have(totals) is may_have
