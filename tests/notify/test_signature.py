"""Signatures: as the specification has them, and refused for whatever is wrong with them."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.errors import NotificationError, SettingsError
from voiceflow_worker.notify.webhook import Secrets, verify_notification

# The example that the libraries of Standard Webhooks test themselves with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

NOW = datetime.fromtimestamp(int(TIMESTAMP), UTC)
OTHER = "whsec_" + b64encode(b"o" * 32).decode()
HEADERS = {"webhook-id": MESSAGE_ID, "webhook-timestamp": TIMESTAMP, "webhook-signature": SIGNATURE}


def refusal(headers: dict[str, str], body: bytes = BODY, *, now: datetime = NOW, secret: str = SECRET) -> str:
    with pytest.raises(NotificationError) as caught:
        verify_notification(secret, headers, body, now=now)
    return str(caught.value)


def test_a_signature_is_that_of_the_specification() -> None:
    assert Secrets(SECRET).signatures(message_id=MESSAGE_ID, timestamp=TIMESTAMP, body=BODY) == SIGNATURE


def test_a_signed_notification_is_given_back_as_it_was_sent() -> None:
    assert verify_notification(SECRET, HEADERS, BODY, now=NOW) == {"test": 2432232314}


def test_headers_may_be_in_any_case_and_in_pairs() -> None:
    pairs = [(name.title(), value) for name, value in HEADERS.items()]
    assert verify_notification(SECRET, pairs, BODY, now=NOW) == {"test": 2432232314}


def test_one_good_signature_among_several_is_enough() -> None:
    shown = {**HEADERS, "webhook-signature": f"v1a,zzzz v1,AAAA {SIGNATURE} nonsense"}
    assert verify_notification(SECRET, shown, BODY, now=NOW)


def test_while_one_secret_follows_another_both_are_good() -> None:
    signed = Secrets(f"{OTHER} {SECRET}").signatures(message_id=MESSAGE_ID, timestamp=TIMESTAMP, body=BODY)
    shown = {**HEADERS, "webhook-signature": signed}
    for secret in (SECRET, OTHER, f"{SECRET} {OTHER}"):
        assert verify_notification(secret, shown, BODY, now=NOW)
    assert verify_notification([OTHER, SECRET], HEADERS, BODY, now=NOW)


def test_what_was_changed_is_refused() -> None:
    for changed in [
        {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJel"},
        {"webhook-timestamp": str(int(TIMESTAMP) + 1)},
        {"webhook-signature": SIGNATURE.replace("v1,", "v1a,")},
        {"webhook-signature": SIGNATURE[:-2]},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,é"},
    ]:
        assert "not signed with this secret" in refusal({**HEADERS, **changed})


def test_a_changed_body_and_another_secret_are_refused() -> None:
    assert "not signed with this secret" in refusal(HEADERS, BODY.replace(b": ", b":"))
    assert "not signed with this secret" in refusal(HEADERS, secret=OTHER)


@pytest.mark.parametrize("age", [timedelta(seconds=301), -timedelta(seconds=301)])
def test_an_old_copy_and_a_wrong_clock_are_refused(age: timedelta) -> None:
    assert "301 s" in refusal(HEADERS, now=NOW + age)
    assert verify_notification(SECRET, HEADERS, BODY, now=NOW + age, tolerance=timedelta(minutes=6))
    assert verify_notification(SECRET, HEADERS, BODY, now=NOW + age * 0.99)


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_what_is_signed_and_no_json_object_is_refused(body: bytes) -> None:
    signed = Secrets(SECRET).signatures(message_id=MESSAGE_ID, timestamp=TIMESTAMP, body=body)
    assert "JSON" in refusal({**HEADERS, "webhook-signature": signed}, body)


@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), st.text()), st.binary())
def test_whatever_comes_unsigned_is_refused_in_one_way(shown: dict[str, str], body: bytes) -> None:
    refusal({**HEADERS, **shown}, body + b" ")


def test_a_secret_that_is_none_is_refused_and_not_shown() -> None:
    long = "whsec_" + b64encode(b"x" * 65).decode()
    plain, odd = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_*fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    for secret in ["", plain, "whsec_", "whsec_AAAA", odd, long, f"{SECRET} other"]:
        with pytest.raises(SettingsError, match="make one: python") as caught:
            Secrets(secret)
        assert len(secret) < 8 or secret not in str(caught.value)
        assert SECRET not in repr(Secrets(SECRET))
        json.dumps(str(caught.value))
