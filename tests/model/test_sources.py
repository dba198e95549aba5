"""The number to call from: one for everybody, or one for each country of the people called."""

from __future__ import annotations

import pytest

from voiceflow_worker import CallFlow
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.numbers.reading import read_sources

TABLE = " sg = 6531234567 , MY=+60 3-2123 4567,uk=+44 20 7183 8750,*=+1 202 555 0123"


@pytest.mark.parametrize(
    ("person", "source"),
    [
        ("+6587654321", "+6531234567"),
        ("+60123456789", "+60321234567"),
        ("+447400123456", "+442071838750"),
        ("+441534880000", "+442071838750"),  # Jersey, which is dialled as in the country
        ("+12125550123", "+12025550123"),
        ("+870773111632", "+12025550123"),  # a ship
    ],
)
def test_a_person_is_called_from_the_number_of_their_country(person: str, source: str) -> None:
    sources = read_sources(TABLE, "international")
    assert sources.to(person) == source
    assert CallFlow.call(person, source=TABLE, country="international").source == source
    assert len(sources.numbers) == 4


def test_a_country_without_a_number_is_told_with_the_remedy() -> None:
    with pytest.raises(InvalidInputError, match=r"\+60123456789.*a number of MY.*numbers for SG, ID; add MY=… or \*=…"):
        read_sources("SG=+6531234567,ID=+622112345678").to("+60123456789")
    flow = CallFlow.call("+60123456789", source="SG=+6531234567").hangup()
    assert "there are numbers for SG" in str(flow.problems()[0])
    assert read_sources("*=+6531234567").only == read_sources("+65 3123 4567").only == "+6531234567"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SG=", "'SG=' is no country with its number"),
        ("=+6531234567", "is no country with its number"),
        ("SG=+6531234567,+12025550123", "'[+]12025550123' is no country with its number"),
        ("SG=+6531234567,", "'' is no country with its number"),
        ("SG=+6531234567,sg=+6531234568", "SG has two numbers"),
        ("GB=+442071838750,UK=+442071838751", "GB has two numbers"),
        ("XX=+6531234567", "'XX' is not the code of a country"),
        ("international=+6531234567", r"international is no country; write \*"),
        ("SG=31234567", "does not say its country"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        read_sources(text)
