"""The resources of a sub-account, and the requests for them: voices, numbers and webhooks.

A missing or unreadable field gets its default, usually None. A resource without its name or id is left out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.reports.events import Payload, entry_of, needed_field, read_field

if TYPE_CHECKING:
    from voiceflow_worker.gateway.rest import RestClient


# ruff: noqa: RUF009 (`read_field` makes the field of a dataclass)


T = TypeVar("T")
Fields = Mapping[str, object]

PATH = "/webhooks/8x8"
"""The path at which a receiver takes the events of 8x8."""


class WebhookType(StrEnum):
    """The type of a webhook. Each type of event has its own webhook (8x8 webhooks reference)."""

    SESSION_SUMMARY = "VSS"
    CALL_ACTION = "VCA"
    CALL_STATUS = "VCS"
    RECORDING = "VRU"
    NUMBERS = "VNU"


def webhook_type(kind: WebhookType | str) -> WebhookType:
    """Return the webhook type with this name, in upper or lower case.

    Raises InvalidInputError, which lists the types.
    """
    try:
        return WebhookType(kind.upper())
    except ValueError:
        known = ", ".join(each.value for each in WebhookType)
        raise InvalidInputError(f"{kind!r} is not a webhook type; the types are {known}") from None


_TEXT, _TIME = Payload.text, Payload.moment


def _either(other: str, payload: Payload, name: str) -> str | None:
    return payload.text(name) or payload.text(other)


def _upper(payload: Payload, name: str) -> str | None:
    text = payload.text(name)
    return None if text is None else text.upper()


def _flag(payload: Payload, name: str) -> bool | None:
    value = payload.raw(name)
    return value if isinstance(value, bool) else None


def _is_true(payload: Payload, name: str) -> bool:
    return payload.raw(name) is True


def _is_enabled(payload: Payload, name: str) -> bool:
    # Some guides of 8x8 write `active`. A webhook with neither field is listed, so it is in use.
    enabled = payload.raw(name)
    return (payload.raw("active") if enabled is None else enabled) is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechProfile:
    """A voice. A call flow names its `code` as the voiceProfile."""

    code: str = needed_field(_TEXT, "speechProfileCode")
    locale: str | None = read_field(_TEXT, "localeCode")
    language: str | None = read_field(_TEXT, "localeDescription")
    gender: str | None = read_field(_TEXT, "gender")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedNumber:
    """A number of the account. `msisdn` has no plus, as 8x8 writes it.

    `status` is Active, Expiring, Inactive or, in some events, Unhealthy. `is_healthy` is None if
    8x8 does not check the number; `health` is the result of the last check, made at `health_checked_at`.
    """

    msisdn: str = needed_field(_TEXT, "msisdn")
    country: str | None = read_field(partial(_either, "country"), "countryCode")
    status: str | None = read_field(partial(_either, "status"), "operationalStatus")
    reference_id: str | None = read_field(_TEXT, "referenceId")
    number_type: str | None = read_field(_TEXT, "numberType")
    is_healthy: bool | None = read_field(_flag, "isHealthy", within="numberHealth")
    health: str | None = read_field(_TEXT, "status", within="numberHealth")
    health_checked_at: datetime | None = read_field(_TIME, "lastCheckedTime", within="numberHealth")
    created_at: datetime | None = read_field(_TIME, "dateCreated")
    updated_at: datetime | None = read_field(_TIME, "dateUpdated")

    @property
    def is_active(self) -> bool:
        """True if calls may show the number as their source, without a time limit."""
        return (self.status or "").casefold() == "active"

    @property
    def is_expiring(self) -> bool:
        """True if calls may show the number as their source only for a limited time."""
        return (self.status or "").casefold() == "expiring"

    @property
    def is_unhealthy(self) -> bool:
        """True if 8x8 has found that calls from or to the number fail. If so, new calls should not use the number."""
        return self.is_healthy is False or (self.status or "").casefold() == "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """The address for events of a type. `has_auth_header` means that the events have an Authorization header."""

    type: str = needed_field(_upper, "type")
    url: str = needed_field(_TEXT, "url")
    enabled: bool = read_field(_is_enabled, "enabled", default=True)
    has_auth_header: bool = read_field(_is_true, "httpAuthHeaderAvailable", default=False)


def read_list(answer: Fields, name: str, kind: Callable[..., T]) -> tuple[T, ...]:
    """Return the entries of the list `name` in an answer, each read as a `kind`."""
    found = (entry_of(kind, entry) for entry in Payload(answer).listed(name))
    return tuple(each for each in found if each is not None)


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
        """Return the client that sends these requests."""

    async def speech_profiles(self) -> tuple[SpeechProfile, ...]:
        """Return the voices that call flows of the sub-account may name."""
        return read_list(await self._account().get("speech-profiles"), "speechProfiles", SpeechProfile)

    async def numbers(self) -> tuple[OwnedNumber, ...]:
        """Return the numbers that belong to the account."""
        return read_list(await self._account().get("numbers"), "numbers", OwnedNumber)

    async def webhooks(self) -> tuple[Webhook, ...]:
        """Return the webhooks of the sub-account.

        A webhook is the address to which 8x8 sends the events of one type.
        """
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
