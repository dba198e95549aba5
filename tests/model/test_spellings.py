"""Spellings of one telephone number."""

from __future__ import annotations

import pytest

from voiceflow_worker import telephone_of
from voiceflow_worker.model.numbers.phone import spellings


@pytest.mark.parametrize("number", ["+525512345678", "+5215512345678", "+541123456789", "+5491123456789"])
def test_every_spelling_of_a_number_identifies_the_same_telephone(number: str) -> None:
    assert {telephone_of(each) for each in spellings(number)} == {telephone_of(number)}


def test_other_numbers_are_other_telephones() -> None:
    numbers = ["+525512345678", "+525512345679", "+5491123456789", "+6587654321", "+65187654321"]
    assert len({telephone_of(each) for each in numbers}) == len(numbers)


def test_a_number_of_another_plan_has_one_spelling() -> None:
    for number in ["+6587654321", "+52551234567", "+54114321123", "+5511987654321", "+1", ""]:
        assert spellings(number) == (number,)
