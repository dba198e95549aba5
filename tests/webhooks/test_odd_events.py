"""Events that could not be understood are logged with their beginning and counted, never with the secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
import structlog.testing

from tests.webhooks.payload_forms import Call, whole
from tests.webhooks.receiving import SECRET, other, posting, receiver_of, summary
from voiceflow_worker.core.ports import Store
from voiceflow_worker.webhooks.reading import OddReason

pytestmark = pytest.mark.anyio

NEW = {"namespace": "VOICE", "eventType": "SOMETHING_NEW", "payload": {"a": 1}}


@pytest.mark.parametrize(
    ("event", "status", "reason"),
    [
        (b"{", 400, OddReason.NOT_JSON),
        (b'{"a": nan}', 400, OddReason.NOT_JSON),
        (b"\x1f\x8b", 415, OddReason.ENCODING),
        (b"[" * 5000, 400, OddReason.NOT_JSON),
        ({}, 400, OddReason.NOT_AN_EVENT),
        (b"null", 400, OddReason.NOT_AN_EVENT),
        ({"eventType": "SESSION_SUMMARY"}, 400, OddReason.NOT_AN_EVENT),
        (NEW, 200, OddReason.UNKNOWN_EVENT),
        ({**summary(), "namespace": "SMS"}, 200, OddReason.UNKNOWN_EVENT),
        (whole(Call("x", "s"), sessionStatus="SOMETHING_NEW"), 200, OddReason.UNKNOWN_STATUS),
        (other("CALL_STATUS", sessionId=None), 200, OddReason.NO_SESSION),
        (other("CALL_RECORDING_STATUS", sessionId="null"), 200, OddReason.NO_SESSION),
    ],
)
async def test_what_could_not_be_understood_is_logged_and_counted(
    store: Store, event: Any, status: int, reason: OddReason
) -> None:
    content = event if isinstance(event, bytes) else json.dumps(event).encode()
    with structlog.testing.capture_logs() as logged:
        async with posting(receiver_of(store).app) as sender:
            assert (await sender.send(content)).status_code == status
            assert await sender.metric(f'unparsed_total{{reason="{reason.value}"}}') == 1
    (line,) = [each for each in logged if each.get("reason") == reason.value]
    assert line["body"] == content[:2048].decode(errors="backslashreplace")
    assert (line["answered"], line["size"], line["sender"]) == (status, len(content), "18.140.80.2")
    assert SECRET not in repr(line)


@pytest.mark.parametrize("event", [summary(), other("CALL_STATUS")])
async def test_what_is_as_it_should_be_is_not_logged(store: Store, event: dict[str, Any]) -> None:
    with structlog.testing.capture_logs() as logged:
        async with posting(receiver_of(store).app) as sender:
            assert (await sender.send(event)).status_code == 200
    assert not [each for each in logged if "reason" in each]
