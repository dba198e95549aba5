"""Gates: what closes a queue or a batch, and what may open it again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.model.jobs.gate import THEN, Gate, GateScope, GateState, merged

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def gate(state: GateState, until: datetime | None = None, reason: str = "") -> Gate:
    scope = GateScope.BATCH if state is GateState.CANCELLED else GateScope.QUEUE
    return Gate(queue="q", scope=scope, name="q", state=state, until=until, reason=reason, since=NOW)


def held(until: datetime | None = None, reason: str = "") -> Gate:
    return gate(GateState.HELD, until, reason)


OPEN, CANCELLED = gate(GateState.OPEN), gate(GateState.CANCELLED)

times = st.none() | st.integers(-5, 5).map(lambda minutes: NOW + minutes * MINUTE)
gates = st.one_of(st.just(OPEN), st.just(CANCELLED), times.map(held))


def test_a_gate_is_closed_while_it_is_held_or_cancelled() -> None:
    for one, closed in [
        (OPEN, False),
        (CANCELLED, True),
        (held(), True),
        (held(NOW + MINUTE), True),
        (held(NOW), False),
        (held(NOW - MINUTE), False),
    ]:
        assert one.is_closed(at=NOW) is closed


@pytest.mark.parametrize("state", [GateState.HELD, GateState.CANCELLED])
def test_a_closed_gate_keeps_back_the_calls_of_its_batch_or_of_the_whole_queue(state: GateState) -> None:
    of_queue = Gate.of("q", None, state, since=NOW)
    of_batch = Gate.of("q", "march", state, since=NOW)
    assert [of_queue.keeps_back(batch, at=NOW) for batch in (None, "march", "april")] == [True, True, True]
    assert [of_batch.keeps_back(batch, at=NOW) for batch in (None, "march", "april")] == [False, True, False]
    assert not Gate.of("q", "march", GateState.OPEN, since=NOW).keeps_back("march", at=NOW)


@pytest.mark.parametrize("standing", [None, OPEN, held(), held(NOW + MINUTE), CANCELLED])
def test_a_batch_can_always_be_cancelled(standing: Gate | None) -> None:
    assert merged(standing, CANCELLED, at=NOW) is CANCELLED


def test_the_reasons_of_holds_without_an_end_are_all_kept() -> None:
    both = merged(held(reason="wrong date"), held(reason="account is checked"), at=NOW)
    assert (both.until, both.reason) == (None, "wrong date; then: account is checked")
    for again in ("wrong date", "account is checked", both.reason, ""):
        assert merged(both, held(reason=again), at=NOW) is both
    three = merged(both, held(reason="a third"), at=NOW)
    assert merged(three, held(reason=both.reason), at=NOW) is three
    assert merged(held(), held(reason="wrong date"), at=NOW).reason == "wrong date"


def test_of_many_reasons_the_first_and_the_newest_are_kept() -> None:
    gate = held(reason="0")
    for number in range(1, 20):
        gate = merged(gate, held(reason=str(number)), at=NOW)
    assert gate.reason.split(THEN) == ["0", "13", "14", "15", "16", "17", "18", "19"]


@given(standing=st.none() | gates, order=gates)
def test_the_same_order_twice_changes_nothing_more(standing: Gate | None, order: Gate) -> None:
    once = merged(standing, order, at=NOW)
    assert merged(once, order, at=NOW) in {once, order}
    assert merged(once, order, at=NOW).is_closed(at=NOW) is once.is_closed(at=NOW)


@given(standing=gates, orders=st.lists(gates.filter(lambda order: order is not OPEN), max_size=4))
def test_no_hold_ever_lets_anything_through_that_another_keeps_back(standing: Gate, orders: list[Gate]) -> None:
    after = standing
    for order in orders:
        after = merged(after, order, at=NOW)
    for minutes in range(7):
        at = NOW + minutes * MINUTE
        if any(each.is_closed(at=at) for each in (standing, *orders)):
            assert after.is_closed(at=at)


@given(one=gates, other=gates)
def test_two_holds_come_to_the_same_in_any_order(one: Gate, other: Gate) -> None:
    if OPEN in {one, other}:
        return
    ways = [merged(merged(None, first, at=NOW), second, at=NOW) for first, second in ((one, other), (other, one))]
    for minutes in range(7):
        at = NOW + minutes * MINUTE
        assert ways[0].is_closed(at=at) is ways[1].is_closed(at=at)
