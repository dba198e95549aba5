"""Keys that simulated people press, and keys that an action captures of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from voiceflow_worker.sandbox.call_events import InboundOrder
from voiceflow_worker.sandbox.orders import EventOrder, Press, Script, SimulatedCaller
from voiceflow_worker.sandbox.outcomes import listen, read_question

FOUR = {"minDigits": 4, "maxDigits": 4, "digitTimeout": 3000, "overallTimeout": 10000}


def heard(digits: str, rules: Mapping[str, object], *, after: float = 1.0) -> str | None:
    return listen(read_question(rules), Press(digits, after)).digits


def test_the_digits_that_the_rules_take_are_heard() -> None:
    rules: Any
    for digits, rules, expected in [
        ("1", {"maxDigits": 1}, "1"),
        ("1234", FOUR, "1234"),
        ("123456", FOUR, "1234"),
        ("123", FOUR, None),
        ("123#", FOUR, None),
        ("12#", {**FOUR, "minDigits": 2}, "12"),
        ("12#4", {**FOUR, "completeOnHash": False}, "12#4"),
        ("12", {"minDigits": 2, "maxDigits": None}, "12"),
        ("*1", {}, "*1"),
        ("#", {}, None),
        ("", {}, None),
        ("", {"minDigits": 0, "maxDigits": 4}, None),
    ]:
        assert heard(digits, rules) == expected
    one = {"maxDigits": 1, "digitTimeout": 5000, "overallTimeout": 10000}
    assert [heard("1", one, after=after) for after in (4.5, 5.5)] == ["1", None], "a key that comes too late"


def test_a_caller_who_is_asked_without_end_hangs_up() -> None:
    for keys in (None, ["1"] * 40):
        caller = SimulatedCaller(Random(0), keys)
        answers = [caller.answer(fewest=1)[0] for _ in range(100)]
        assert answers[99].hangs_up
        assert not any(press.hangs_up for press in answers[: 25 if keys is None else 65])


def test_without_a_script_people_press_any_digit_or_nothing_and_as_many_as_are_wanted() -> None:
    firsts = Counter(SimulatedCaller(Random(call), None).answer(fewest=1)[0].digits for call in range(2000))
    assert set(firsts) == {"", *"123456789"}
    assert firsts["1"] > firsts["9"]
    fours = {len(SimulatedCaller(Random(call), None).answer(fewest=4)[0].digits) for call in range(200)}
    assert fours == {0, 4}


def test_keys_that_no_phone_has_and_orders_for_events_that_make_no_sense_are_refused() -> None:
    called = {"source": "+6587654321", "destination": "+6531234567"}
    for keys in [["1x"], [""], [["1", "y"]], [[]], [{"keys": "1", "before": 2}], [{"after": -1}], [7]]:
        for order, more in ((Script, {}), (InboundOrder, called)):
            with pytest.raises(ValidationError):
                order.model_validate({**more, "keys": keys})
    late = {"event": "VCA", "duplicate_after": "VCS"}
    for given in ({"event": "VXX"}, {"duplicates": 1}, late, {"event": "VCA", "delay_seconds": -1}):
        with pytest.raises(ValidationError):
            EventOrder.model_validate(given)
