"""Data of the account, as 8x8 writes them and as it might."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.gateway.account import (
    OwnedNumber,
    SessionRecording,
    SpeechProfile,
    Webhook,
    read_list,
    read_number,
)

LISTS = [
    ("speechProfiles", SpeechProfile),
    ("numbers", OwnedNumber),
    ("webhooks", Webhook),
    ("recordings", SessionRecording),
]
SINGLES = [read_number]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["speechProfiles", "numbers", "webhooks", "recordings", "msisdn", "type", "url", "recordingId", "duration",
     "startRecordingTime", "speechProfileCode", "enabled", "payload", "numberHealth", "rentalPrice", "port", "host"]
)  # fmt: skip


@pytest.mark.parametrize(
    ("status", "active", "expiring"),
    [("Active", True, False), ("ACTIVE", True, False), ("Expiring", False, True), ("Inactive", False, False)],
)
def test_the_state_of_a_number_is_read(status: str, active: bool, expiring: bool) -> None:
    number = read_number({"msisdn": "6531234567", "countryCode": "SG", "operationalStatus": status})
    assert number == OwnedNumber(msisdn="6531234567", country="SG", status=status)
    assert (number.is_active, number.is_expiring) == (active, expiring)


def test_the_health_and_the_prices_of_a_number_are_read() -> None:
    number = {
        "msisdn": "6531234567", "dateCreated": "2026-01-05T08:00:00Z", "operationalStatus": "Active",
        "referenceId": "r-1", "rentalPrice": 5.10, "incomingRate": "0.0125", "billingUnit": "minute",
        "billingCurrency": "USD", "numberType": "LOCAL", "numberHealthCheckEnabled": True,
        "numberHealth": {"isHealthy": False, "status": "Failing", "lastCheckedTime": "2026-11-20T09:00:00Z"},
    }  # fmt: skip
    (found,) = read_list({"numbers": [number]}, "numbers", OwnedNumber)
    assert (found.is_healthy, found.health, found.is_unhealthy) == (False, "Failing", True)
    assert found.health_checked_at == datetime(2026, 11, 20, 9, tzinfo=UTC)
    assert (str(found.rental_price), str(found.incoming_rate)) == ("5.1", "0.0125")
    assert (found.billing_unit, found.currency, found.number_type, found.reference_id) == (
        "minute", "USD", "LOCAL", "r-1"
    )  # fmt: skip


def test_a_price_that_cannot_be_one_is_left_out() -> None:
    price: Any
    for price in [None, True, "free", "NaN", float("inf"), "1e40", []]:
        answer = {"numbers": [{"msisdn": "1", "rentalPrice": price}]}
        assert read_list(answer, "numbers", OwnedNumber) == (OwnedNumber(msisdn="1"),)


@pytest.mark.parametrize(
    ("said", "enabled"),
    [({"enabled": True}, True), ({"enabled": False}, False), ({"active": False}, False), ({}, True)],
)
def test_whether_a_webhook_is_on_is_read_in_both_spellings(said: dict[str, object], enabled: bool) -> None:
    fields = {"type": "vss", "url": "https://example.com/", "httpAuthHeaderAvailable": True, **said}
    assert read_list({"webhooks": [fields]}, "webhooks", Webhook) == (
        Webhook(type="VSS", url="https://example.com/", enabled=enabled, has_auth_header=True),
    )


def test_an_entry_without_its_name_is_none() -> None:
    answer = {"webhooks": [{"type": "VSS"}, {"url": "https://example.com/"}, "VSS", None]}
    assert read_list(answer, "webhooks", Webhook) == ()


@given(st.dictionaries(names, st.lists(st.dictionaries(names, anything) | anything, max_size=3) | anything))
def test_no_answer_is_too_strange_to_be_read(answer: dict[str, Any]) -> None:
    for name, kind in LISTS:
        assert isinstance(read_list(answer, name, kind), tuple)
    for read_one in SINGLES:
        read_one(answer)
