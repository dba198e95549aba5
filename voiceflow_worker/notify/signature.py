"""Signatures of notifications by the Standard Webhooks specification 1.0 (symmetric, `v1`): made and verified."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import cast

from voiceflow_worker.errors import NotificationError, SettingsError

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
"""The fewest and the most bytes of a secret (Standard Webhooks, "Signature scheme")."""
TOLERANCE = timedelta(minutes=5)
MAKE_ONE = (
    """python -c 'import base64, secrets; print("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())'"""
)

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


class Secrets:
    """The secrets that sign notifications: usually one, and two while a new secret replaces an old one.

    A secret is `whsec_` followed by 24 to 64 bytes in base64. Raises SettingsError for a malformed secret; the error
    does not quote the secret.
    """

    def __init__(self, texts: str | Sequence[str]) -> None:
        given = texts.split() if isinstance(texts, str) else list(texts)
        if not given:
            raise SettingsError(f"no secret for signing notifications is set; make one: {MAKE_ONE}")
        self._keys = [_key(text) for text in given]

    def __repr__(self) -> str:
        return "<Secrets>"

    def signatures(self, *, message_id: str, timestamp: str, body: bytes) -> str:
        """The value of `webhook-signature`: one signature for each secret, separated by spaces."""
        return " ".join(f"v1,{each}" for each in self._each(message_id, timestamp, body))

    def are_in(self, shown: str, *, message_id: str, timestamp: str, body: bytes) -> bool:
        """Whether `shown`, a value of `webhook-signature`, has a signature by one of these secrets.

        Signatures of other schemes are ignored.
        """
        given = [each.removeprefix("v1,").encode(errors="replace") for each in shown.split() if each.startswith("v1,")]
        ours = [each.encode() for each in self._each(message_id, timestamp, body)]
        return any(hmac.compare_digest(one, our) for one in given for our in ours)

    def _each(self, message_id: str, timestamp: str, body: bytes) -> Iterable[str]:
        signed = f"{message_id}.{timestamp}.".encode(errors="replace") + body
        for key in self._keys:
            yield base64.b64encode(hmac.new(key, signed, sha256).digest()).decode()


def verify_notification(
    secret: str | Sequence[str],
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes,
    *,
    now: datetime | None = None,
    tolerance: timedelta = TOLERANCE,
) -> Mapping[str, object]:
    """Verify the signature and the age of a notification, and return its content.

    `headers` are the headers of the request, in upper or lower case. `body` is the exact bytes of the request, not JSON
    that was parsed and written again. While a new secret replaces an old one, give both secrets. `now` is the current
    time, with a zone; the default is this machine's clock. The time of the signature may differ from `now` by at most
    `tolerance`: an older notification may be a copy. The same notification may come again with the same `id`: remember
    the ids that you have accepted. Raises NotificationError, to be answered with 400, and SettingsError for a malformed
    secret.
    """
    secrets = Secrets(secret)
    shown = {name.lower(): value for name, value in dict(headers).items()}
    message_id, timestamp, signature = (shown.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (message_id and timestamp and signature):
        raise NotificationError(
            f"the request is not a notification: one of the headers {ID}, {TIMESTAMP} and {SIGNATURE} is missing"
        )
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
        raise NotificationError(f"the header {TIMESTAMP} is not a number of whole seconds since 1970")
    if not secrets.are_in(signature, message_id=message_id, timestamp=timestamp, body=body):
        raise NotificationError("the notification was not signed with this secret, or was changed after it was signed")
    age = (now or datetime.now(UTC)) - datetime.fromtimestamp(int(timestamp), UTC)
    if abs(age) > tolerance:
        when = "old" if age > timedelta() else "in the future"
        raise NotificationError(
            f"the signature is {abs(age).total_seconds():.0f} s {when}, and at most {tolerance.total_seconds():g} s are"
            " allowed: the notification is a copy of an earlier one, or a clock is wrong"
        )
    try:
        content: object = json.loads(body)
    except ValueError:
        raise NotificationError("the body of the notification is not JSON") from None
    if not isinstance(content, dict):
        raise NotificationError("the notification is not a JSON object")
    return cast("Mapping[str, object]", content)


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.strip().startswith(PREFIX) or not SHORTEST <= len(key) <= LONGEST:
        # The secret is not quoted: it may be the real one with a single wrong letter.
        raise SettingsError(
            f"a secret for notifications is malformed: it needs {PREFIX} followed by {SHORTEST} to {LONGEST} bytes in "
            f"base64; make one: {MAKE_ONE}"
        )
    return key
