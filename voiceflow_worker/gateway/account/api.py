"""Requests to the account API of 8x8: voices, numbers, webhooks and recordings of a sub-account. They place no call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.gateway.account.resources import (
    OwnedNumber,
    SessionRecording,
    SpeechProfile,
    Webhook,
    WebhookType,
    read_list,
    read_number,
    webhook_type,
)
from voiceflow_worker.model.numbers.phone import normalise

if TYPE_CHECKING:
    from voiceflow_worker.gateway.rest.client import RestClient

TRIES = 3
"""The most times that a GET is sent."""
LONGEST_PAUSE = timedelta(seconds=10)
"""The longest Retry-After that is waited for. After a longer one, a GET is not retried."""


class AccountApi(ABC):
    """The requests of a client to the account API.

    A GET is retried after a temporary failure; any other request is sent once. Every method raises
    VoiceUnavailableError when 8x8 cannot be reached, is out of service or asks for a later try, and RequestFailedError
    when 8x8 refuses.
    """

    @abstractmethod
    def _account(self) -> RestClient:
        """The client that sends these requests."""

    async def speech_profiles(self) -> tuple[SpeechProfile, ...]:
        """The voices that call flows of the sub-account may name."""
        return read_list(await self._account().get("speech-profiles"), "speechProfiles", SpeechProfile)

    async def numbers(self) -> tuple[OwnedNumber, ...]:
        """The numbers that belong to the account."""
        return read_list(await self._account().get("numbers"), "numbers", OwnedNumber)

    async def number(self, msisdn: str) -> OwnedNumber | None:
        """A number of the account, with its country and reference; None if the account does not have the number.

        Only `numbers` returns status and health. Raises PhoneNumberError for a malformed number.
        """
        return read_number(await self._account().get("numbers", normalise(msisdn).removeprefix("+"), absent=True))

    async def webhooks(self) -> tuple[Webhook, ...]:
        """The webhooks of the sub-account. A webhook is the address to which 8x8 sends the events of one type."""
        return read_list(await self._account().get("webhooks"), "webhooks", Webhook)

    async def register_webhook(self, kind: WebhookType | str, url: str, *, auth_header: str | None = None) -> None:
        """Make 8x8 send events of a type to `url`, with `auth_header` as the value of their Authorization header.

        Raises InvalidInputError for an unknown type or a malformed address.
        """
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise InvalidInputError(f"{url!r} is not a webhook address: give an http:// or https:// address")
        body: dict[str, object] = {"type": webhook_type(kind).value, "url": url, "enabled": True}
        if auth_header is not None:
            body["httpAuthHeader"] = auth_header
        await self._account().send("POST", "webhooks", body=body)

    async def delete_webhook(self, kind: WebhookType | str) -> bool:
        """Delete the webhook for events of a type. Returns False if there was none."""
        return (await self._account().send("DELETE", "webhooks", webhook_type(kind).value, absent=True)).status != 404

    async def recordings(self, session_id: str) -> tuple[SessionRecording, ...]:
        """The recordings of a session; empty if the session is unknown or was not recorded.

        Raises InvalidInputError for a text that cannot be an id, such as an empty one.
        """
        if not session_id.strip(". "):
            raise InvalidInputError(f"{session_id!r} is not a session id; give the session id of a call")
        found = await self._account().get("recordings", session_id, absent=True)
        return read_list(found, "recordings", SessionRecording)
