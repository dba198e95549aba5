"""Signatures of the Standard Webhooks specification 1.0 (symmetric, `v1`): made, and verified where they arrive."""

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
"""Bytes of a secret (Standard Webhooks, "Signature scheme")."""
TOLERANCE = timedelta(minutes=5)
MAKE_ONE = (
    """python -c 'import base64, secrets; print("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())'"""
)

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


class Secrets:
    """The secrets that notifications are signed with: one, or, while one follows another, both.

    Each is `whsec_` and 24 to 64 bytes in base64. Raises SettingsError, without the secret, for a malformed one.
    """

    def __init__(self, texts: str | Sequence[str]) -> None:
        given = texts.split() if isinstance(texts, str) else list(texts)
        if not given:
            raise SettingsError(f"no secret to sign notifications with is set; make one: {MAKE_ONE}")
        self._keys = [_key(text) for text in given]

    def __repr__(self) -> str:
        return "<Secrets>"

    def signatures(self, *, message_id: str, timestamp: str, body: bytes) -> str:
        """The value of `webhook-signature`: one signature for each secret, with spaces between."""
        return " ".join(f"v1,{each}" for each in self._each(message_id, timestamp, body))

    def are_in(self, shown: str, *, message_id: str, timestamp: str, body: bytes) -> bool:
        """Whether any of the signatures shown is one of ours. Those of other schemes are ignored."""
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
    """The notification in a request, after a check that it was signed with this secret, recently.

    `headers` are those of the request, in any case, and `body` its bytes as they came: not parsed and written anew.
    Several secrets may be given while one follows another. `now` is the current aware time (by default of this
    machine's clock). The time of the signature may differ from it by `tolerance`: an older notification may be a copy.
    The same notification may come again, with the same `id`: remember the ids that you have accepted. Raises
    `NotificationError`, which should be answered with 400, and SettingsError for a malformed secret.
    """
    secrets = Secrets(secret)
    shown = {name.lower(): value for name, value in dict(headers).items()}
    message_id, timestamp, signature = (shown.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (message_id and timestamp and signature):
        raise NotificationError(f"not a notification: it needs the headers {ID}, {TIMESTAMP} and {SIGNATURE}")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
        raise NotificationError(f"the header {TIMESTAMP} is not a time: it should have whole seconds since 1970")
    if not secrets.are_in(signature, message_id=message_id, timestamp=timestamp, body=body):
        raise NotificationError("the notification was not signed with this secret, or was changed on its way")
    age = (now or datetime.now(UTC)) - datetime.fromtimestamp(int(timestamp), UTC)
    if abs(age) > tolerance:
        when = "old" if age > timedelta() else "in the future"
        raise NotificationError(
            f"the signature is {abs(age).total_seconds():.0f} s {when}, {tolerance.total_seconds():g} s at most are "
            "allowed; a copy of an earlier one, or a clock that is wrong"
        )
    try:
        content: object = json.loads(body)
    except ValueError as error:
        raise NotificationError(f"the notification is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise NotificationError("the notification is not a JSON object")
    return cast("Mapping[str, object]", content)


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.strip().startswith(PREFIX) or not SHORTEST <= len(key) <= LONGEST:
        # Not quoted: all but one letter of it may be right.
        raise SettingsError(
            f"a secret for notifications is {PREFIX} and {SHORTEST} to {LONGEST} random bytes in base64; "
            f"make one: {MAKE_ONE}"
        )
    return key
