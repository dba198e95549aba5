"""The account API of 8x8: voices, numbers, webhooks and recordings of a sub-account. It places no call."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

import anyio
import httpx

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.gateway.account.resources import (
    OwnedNumber,
    RecordingPush,
    SessionRecording,
    SpeechProfile,
    Webhook,
    WebhookType,
    read_number_answer,
    read_numbers,
    read_profiles,
    read_recording_push,
    read_recordings,
    read_webhooks,
    webhook_type,
)
from voiceflow_worker.gateway.rest.client import RestClient, Sleep, fields_of
from voiceflow_worker.gateway.rest.wire import RestWire
from voiceflow_worker.model.numbers.phone import normalise

TRIES = 3
"""Number of times that a GET is sent at most."""
LONGEST_PAUSE = timedelta(seconds=10)
"""A Retry-After of more than this is not waited for."""
PROTOCOLS = ("S3", "SFTP")
_PUSH = "recording-push-config"
_MOST_PORT = 65535


class AccountApi:
    """The account API over one transport. `timeouts` are httpx's, in seconds; `deadline` limits one request.

    Every method raises VoiceUnavailableError when 8x8 cannot be reached or asks to come back later, and
    RequestFailedError when it refuses.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        wire: RestWire,
        *,
        timeouts: Mapping[str, float],
        deadline: timedelta,
        sleep: Sleep = anyio.sleep,
    ) -> None:
        self._rest = RestClient(
            transport,
            wire,
            timeouts=timeouts,
            deadline=deadline,
            tries=TRIES,
            longest_pause=LONGEST_PAUSE,
            sleep=sleep,
        )

    async def speech_profiles(self) -> tuple[SpeechProfile, ...]:
        """The voices that call flows of the sub-account may name."""
        return read_profiles(fields_of(await self._rest.get("speech-profiles")))

    async def numbers(self) -> tuple[OwnedNumber, ...]:
        """The numbers that belong to the account."""
        return read_numbers(fields_of(await self._rest.get("numbers")))

    async def number(self, msisdn: str) -> OwnedNumber | None:
        """A number with its country and reference; None if it is not the account's. `numbers` adds status and health.

        Raises PhoneNumberError for a malformed number.
        """
        said = await self._rest.get("numbers", normalise(msisdn).removeprefix("+"), absent=True)
        return None if said.status == 404 else read_number_answer(fields_of(said))

    async def webhooks(self) -> tuple[Webhook, ...]:
        """The addresses to which events are sent."""
        return read_webhooks(fields_of(await self._rest.get("webhooks")))

    async def register_webhook(self, kind: WebhookType | str, url: str, *, auth_header: str | None = None) -> None:
        """Have events of a type sent to `url`, with `auth_header` as their Authorization value.

        Raises InvalidInputError for an unknown type or a malformed address.
        """
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise InvalidInputError(f"{url!r} is not an address for webhooks: give one with http:// or https://")
        body: dict[str, object] = {"type": webhook_type(kind).value, "url": url, "enabled": True}
        if auth_header is not None:
            body["httpAuthHeader"] = auth_header
        await self._rest.send("POST", "webhooks", body=body)

    async def delete_webhook(self, kind: WebhookType | str) -> bool:
        """Have events of a type sent nowhere; False if they were not sent anywhere before."""
        return (await self._rest.send("DELETE", "webhooks", webhook_type(kind).value, absent=True)).status != 404

    async def recordings(self, session_id: str) -> tuple[SessionRecording, ...]:
        """The recordings of a session; empty for an unknown session or one that was not recorded."""
        if not session_id.strip(". "):
            raise InvalidInputError(f"{session_id!r} is not a session id")
        return read_recordings(fields_of(await self._rest.get("recordings", session_id, absent=True)))

    async def recording_push_config(self) -> RecordingPush | None:
        """The server that recordings are uploaded to; None if there is none."""
        said = await self._rest.get(_PUSH, absent=True)
        return None if said.status == 404 else read_recording_push(fields_of(said))

    async def set_recording_push_config(
        self, push: RecordingPush, *, password: str | None = None
    ) -> RecordingPush | None:
        """Have recordings uploaded to a server. Returns the server without the password.

        Raises InvalidInputError for an impossible protocol, host or port.
        """
        protocol, host, port = (push.protocol or "").upper(), push.host or "", push.port
        if protocol not in PROTOCOLS:
            raise InvalidInputError(
                f"{push.protocol!r} is not a protocol for recordings; use one of {', '.join(PROTOCOLS)}"
            )
        if not host.strip() or any(map(str.isspace, host)) or "://" in host:
            raise InvalidInputError(
                f"{host!r} is not a host for recordings: give its name only, such as sftp.example.com"
            )
        if port is not None and not 0 < port <= _MOST_PORT:
            raise InvalidInputError(f"{port} is not a port: give one between 1 and {_MOST_PORT}")
        given = {"port": port, "username": push.username, "password": password, "path": push.path}
        body = {"protocol": protocol, "host": host, **{name: each for name, each in given.items() if each is not None}}
        said = await self._rest.send("POST", _PUSH, body=body, secret=password)
        return read_recording_push(fields_of(said))

    async def delete_recording_push_config(self) -> bool:
        """Have recordings uploaded nowhere; False if they were not uploaded anywhere before."""
        return (await self._rest.send("DELETE", _PUSH, absent=True)).status != 404
