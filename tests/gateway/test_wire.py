"""The wire: the stored body is spliced, never encoded again, and the address is the sub-account's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.core.ports import Placement
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.gateway.wire import Wire, body_of

UNTIL = datetime(2026, 11, 20, 8, 0, 0, 999_999, tzinfo=UTC)
KEY = "secret-key-1"


def wire(sub_account: str = "sub_account", *, base_url: str = "https://voice.8x8.com", key: str = KEY) -> Wire:
    return Wire(key, sub_account, base_url=base_url)


def posted(body: str, **more: Any) -> bytes:
    return body_of(Placement(**{"body": body, "client_request_id": "q.1.1", "valid_until": UNTIL, **more}))


def url(made: Wire) -> str:
    return str(made.calls)


def test_valid_until_is_never_later_than_asked_and_always_in_utc() -> None:
    east = UNTIL.astimezone(timezone(timedelta(hours=8)))
    body = posted("{}", valid_until=east)
    assert orjson.loads(body)["validUntil"] == "2026-11-20T08:00:00.999Z"


@pytest.mark.parametrize("body", ["", "[]", '{"callflow":[]', '{"callflow":[]}\n', "null"])
def test_what_is_not_a_stored_body_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="JSON object"):
        posted(body)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        posted("{}", valid_until=UNTIL.replace(tzinfo=None))


@given(
    stored=st.dictionaries(st.text(max_size=5).filter(lambda k: "client" not in k), st.text(max_size=20), max_size=4),
)
def test_the_result_is_json_with_the_same_content(stored: dict[str, str]) -> None:
    text = orjson.dumps(stored).decode()
    body = posted(text)
    batched = posted(text, client_batch_id="b")
    assert orjson.loads(batched) == orjson.loads(body) | {"clientBatchId": "b"}
    assert body.startswith(text[:-1].encode())
    added = {"clientRequestId": "q.1.1", "validUntil": "2026-11-20T08:00:00.999Z"}
    assert orjson.loads(body) == stored | added


def test_the_sub_account_is_encoded() -> None:
    assert url(wire("A.b-c_d&e")) == "https://voice.8x8.com/api/v1/subaccounts/A.b-c_d%26e/callflows"


def test_what_is_not_a_sub_account_is_refused() -> None:
    for sub_account in ["", "ab", "a" * 51, "a/b", "../x", "a b", "sub%20", "süb", "sub\n", "sub?x", "١٢٣"]:
        with pytest.raises(SettingsError, match="check the sub-account id"):
            wire(sub_account)


def test_any_address_can_be_given() -> None:
    for base_url, expected in {
        "http://127.0.0.1:8088": "http://127.0.0.1:8088/api", "http://127.0.0.1:8088/": "http://127.0.0.1:8088/api",
        "https://proxy.example/8x8/": "https://proxy.example/8x8/api", "http://[::1]:8088": "http://[::1]:8088/api",
    }.items():  # fmt: skip
        assert url(wire(base_url=base_url)) == f"{expected}/v1/subaccounts/sub_account/callflows"


def test_what_is_not_an_address_is_refused() -> None:
    for base_url in (
        "", "voice.8x8.com", "ftp://voice.8x8.com", "https://", "https://u:p@voice.8x8.com", "https://x/?a=b",
        "https://x/#a", "https://voice.8x8.com:port", "http://\x00",
    ):  # fmt: skip
        with pytest.raises(SettingsError, match="check the base URL"):
            wire(base_url=base_url)


@pytest.mark.parametrize("key", ["", "   ", "two words", "line\nbreak", "schlüssel"])
def test_what_is_not_a_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError, match="check the API key") as refused:
        wire(key=key)
    assert not key.strip() or key not in str(refused.value)


def test_space_around_a_key_is_no_part_of_it() -> None:
    assert wire(key=f" {KEY}\n").post_headers["Authorization"] == f"Bearer {KEY}"


def test_the_key_is_in_no_repr() -> None:
    made = wire()
    assert KEY not in repr(made)
    assert KEY not in repr(made.post_headers)
    assert not hasattr(made, "__dict__")
