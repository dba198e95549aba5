"""Resources of a sub-account, as read from answers: voices, numbers, webhooks and recordings.

A missing or unreadable field gets its default, usually None. A resource without its name or id is left out.
"""

# ruff: noqa: RUF009 (`read_field` makes the field of a dataclass)

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import partial
from typing import TypeVar

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.reports.payload import Payload, entry_of, needed_field, read_field

T = TypeVar("T")
_DEAREST = Decimal(10) ** 12
Fields = Mapping[str, object]


class WebhookType(StrEnum):
    """The type of a webhook. Each type of event has its own webhook (8x8 webhooks reference)."""

    SESSION_SUMMARY = "VSS"
    CALL_ACTION = "VCA"
    CALL_STATUS = "VCS"
    RECORDING = "VRU"
    NUMBERS = "VNU"


def webhook_type(kind: WebhookType | str) -> WebhookType:
    """The webhook type with this name, in upper or lower case. Raises InvalidInputError, which lists the types."""
    try:
        return WebhookType(kind.upper())
    except ValueError:
        known = ", ".join(each.value for each in WebhookType)
        raise InvalidInputError(f"{kind!r} is not a webhook type; the types are {known}") from None


_TEXT, _TIME = Payload.text, Payload.moment
_SECONDS = partial(Payload.duration, unit=timedelta(seconds=1))


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


def _price(payload: Payload, name: str) -> Decimal | None:
    value = payload.raw(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        price = Decimal(str(value).strip())
    except (InvalidOperation, ValueError):  # ValueError: an integer of thousands of digits
        return None
    return price if price.is_finite() and abs(price) < _DEAREST else None


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

    `status` is Active, Expiring, Inactive or, in some events, Unhealthy. Status, health and prices come only from
    `GET …/numbers`; `GET …/numbers/{number}` has only `msisdn`, `country` and `reference_id`. `is_healthy` is None if
    8x8 does not check the number; `health` is the result of the last check, made at `health_checked_at`. Prices are in
    `currency`: `rental_price` is for the number, `incoming_rate` for each `billing_unit` of a call to it.
    """

    msisdn: str = needed_field(_TEXT, "msisdn")
    country: str | None = read_field(partial(_either, "country"), "countryCode")
    status: str | None = read_field(partial(_either, "status"), "operationalStatus")
    reference_id: str | None = read_field(_TEXT, "referenceId")
    number_type: str | None = read_field(_TEXT, "numberType")
    is_healthy: bool | None = read_field(_flag, "isHealthy", within="numberHealth")
    health: str | None = read_field(_TEXT, "status", within="numberHealth")
    health_checked_at: datetime | None = read_field(_TIME, "lastCheckedTime", within="numberHealth")
    rental_price: Decimal | None = read_field(_price, "rentalPrice")
    incoming_rate: Decimal | None = read_field(_price, "incomingRate")
    billing_unit: str | None = read_field(_TEXT, "billingUnit")
    currency: str | None = read_field(_TEXT, "billingCurrency")
    created_at: datetime | None = read_field(_TIME, "dateCreated")
    updated_at: datetime | None = read_field(_TIME, "dateUpdated")

    @property
    def is_active(self) -> bool:
        """Whether calls may show the number as their source, without a time limit."""
        return (self.status or "").casefold() == "active"

    @property
    def is_expiring(self) -> bool:
        """Whether calls may show the number as their source only for a limited time."""
        return (self.status or "").casefold() == "expiring"

    @property
    def is_unhealthy(self) -> bool:
        """Whether 8x8 has found that calls from or to the number fail. If so, new calls should not use the number."""
        return self.is_healthy is False or (self.status or "").casefold() == "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """The address for events of a type. `has_auth_header` means that the events have an Authorization header."""

    type: str = needed_field(_upper, "type")
    url: str = needed_field(_TEXT, "url")
    enabled: bool = read_field(_is_enabled, "enabled", default=True)
    has_auth_header: bool = read_field(_is_true, "httpAuthHeaderAvailable", default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecording:
    """A recording of a session. `url` is the address of the uploaded file."""

    recording_id: str = needed_field(_TEXT, "recordingId")
    session_id: str | None = read_field(_TEXT, "sessionId")
    status: str | None = read_field(_TEXT, "status")
    url: str | None = read_field(_TEXT, "externalFileUrl")
    duration: timedelta | None = read_field(_SECONDS, "duration")
    started_at: datetime | None = read_field(_TIME, "startRecordingTime")


Recording = SessionRecording
"""The public name of `SessionRecording`."""


def read_list(answer: Fields, name: str, kind: Callable[..., T]) -> tuple[T, ...]:
    """The entries of the list `name` in an answer, each read as a `kind`."""
    found = (entry_of(kind, entry) for entry in Payload(answer).listed(name))
    return tuple(each for each in found if each is not None)


def read_number(answer: Fields) -> OwnedNumber | None:
    """The number in an answer to `GET …/numbers/{number}`; None if the answer names no number."""
    fields = Payload(answer)
    return entry_of(OwnedNumber, fields.nested("payload") or fields)
