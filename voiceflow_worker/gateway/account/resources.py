"""Resources of a sub-account: voices, numbers, webhooks and recordings, as read from answers.

Missing or unreadable fields are None or empty. An entry without its name is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TypeVar

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.flows.values import is_list, is_object

T = TypeVar("T")
_DEAREST = Decimal(10) ** 12
_LONGEST_PORT = 5
Fields = Mapping[str, object]


class WebhookType(StrEnum):
    """The type of a webhook: each kind of event has a webhook of its own (8x8 webhooks reference)."""

    SESSION_SUMMARY = "VSS"
    CALL_ACTION = "VCA"
    CALL_STATUS = "VCS"
    RECORDING = "VRU"
    NUMBERS = "VNU"


def webhook_type(kind: WebhookType | str) -> WebhookType:
    """The type of webhook with this name, in any case. Raises InvalidInputError with a list of the types."""
    try:
        return WebhookType(kind.upper())
    except ValueError:
        known = ", ".join(each.value for each in WebhookType)
        raise InvalidInputError(f"{kind!r} is not a type of webhook; the types are {known}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechProfile:
    """A voice: `code` is what a call flow names as its voiceProfile."""

    code: str
    locale: str | None = None
    language: str | None = None
    gender: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedNumber:
    """A number of the account, without its plus as 8x8 writes it.

    `status` is Active, Expiring, Inactive or, in some events, Unhealthy. Status, health and prices come only
    from `GET …/numbers`; `GET …/numbers/{number}` has only `msisdn`, `country` and `reference_id`. `is_healthy` is
    None where 8x8 does not check the number, `health` what the last check at `health_checked_at` found. Prices are in
    `currency`: `rental_price` of the number, `incoming_rate` of a call to it for each `billing_unit`.
    """

    msisdn: str
    country: str | None = None
    status: str | None = None
    reference_id: str | None = None
    number_type: str | None = None
    is_healthy: bool | None = None
    health: str | None = None
    health_checked_at: datetime | None = None
    rental_price: Decimal | None = None
    incoming_rate: Decimal | None = None
    billing_unit: str | None = None
    currency: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether calls may show it now."""
        return (self.status or "").casefold() == "active"

    @property
    def is_expiring(self) -> bool:
        """Whether calls may show it for now only."""
        return (self.status or "").casefold() == "expiring"

    @property
    def is_unhealthy(self) -> bool:
        """Whether 8x8 has found that calls from or to it fail: it should not be used for new ones."""
        return self.is_healthy is False or (self.status or "").casefold() == "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """The address for events of a type. `has_auth_header`: they are sent with an Authorization value."""

    type: str
    url: str
    enabled: bool = True
    has_auth_header: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecording:
    """A recording of a session; `url` is the place of its upload."""

    recording_id: str
    session_id: str | None = None
    status: str | None = None
    url: str | None = None
    duration: timedelta | None = None
    started_at: datetime | None = None


Recording = SessionRecording
"""The public name of `SessionRecording`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPush:
    """The server that 8x8 uploads recordings to, by `protocol` (S3 or SFTP). Its password is never included."""

    protocol: str | None = None
    host: str | None = None
    port: int | None = None
    username: str | None = None
    path: str | None = None
    has_password: bool = False


def read_profiles(answer: Fields) -> tuple[SpeechProfile, ...]:
    """The voices in an answer of `GET …/speech-profiles`."""
    return _each(answer.get("speechProfiles"), _profile)


def read_numbers(answer: Fields) -> tuple[OwnedNumber, ...]:
    """The numbers in an answer of `GET …/numbers`."""
    return _each(answer.get("numbers"), read_number)


def read_number_answer(answer: Fields) -> OwnedNumber | None:
    """The number in an answer of `GET …/numbers/{number}`; None if it names none."""
    payload = answer.get("payload")
    return read_number(payload if is_object(payload) else answer)


def read_number(fields: Fields) -> OwnedNumber | None:
    """One number of the account; None if it names none."""
    msisdn = _text(fields, "msisdn")
    if msisdn is None:
        return None
    found = fields.get("numberHealth")
    health: Fields = found if is_object(found) else {}
    healthy = health.get("isHealthy")
    return OwnedNumber(
        msisdn=msisdn,
        country=_text(fields, "countryCode", "country"),
        status=_text(fields, "operationalStatus", "status"),
        reference_id=_text(fields, "referenceId"),
        number_type=_text(fields, "numberType"),
        is_healthy=healthy if isinstance(healthy, bool) else None,
        health=_text(health, "status"),
        health_checked_at=_time(_text(health, "lastCheckedTime")),
        rental_price=_price(fields.get("rentalPrice")),
        incoming_rate=_price(fields.get("incomingRate")),
        billing_unit=_text(fields, "billingUnit"),
        currency=_text(fields, "billingCurrency"),
        created_at=_time(_text(fields, "dateCreated")),
        updated_at=_time(_text(fields, "dateUpdated")),
    )


def read_recording_push(answer: Fields) -> RecordingPush | None:
    """The server in an answer of `GET …/recording-push-config`; None if there is none."""
    port = _text(answer, "port")
    found = RecordingPush(
        protocol=_text(answer, "protocol"),
        host=_text(answer, "host"),
        port=int(port)
        if port is not None and port.isascii() and port.isdigit() and len(port) <= _LONGEST_PORT
        else None,
        username=_text(answer, "username"),
        path=_text(answer, "path"),
        has_password=answer.get("passwordSet") is True,
    )
    return None if found.host is None and found.protocol is None else found


def read_webhooks(answer: Fields) -> tuple[Webhook, ...]:
    """The webhooks in an answer of `GET …/webhooks`."""
    return _each(answer.get("webhooks"), _webhook)


def read_recordings(answer: Fields) -> tuple[SessionRecording, ...]:
    """The recordings in an answer of `GET …/recordings/{sessionId}`."""
    return _each(answer.get("recordings"), _recording)


def _profile(fields: Fields) -> SpeechProfile | None:
    code = _text(fields, "speechProfileCode")
    if code is None:
        return None
    return SpeechProfile(
        code=code,
        locale=_text(fields, "localeCode"),
        language=_text(fields, "localeDescription"),
        gender=_text(fields, "gender"),
    )


def _webhook(fields: Fields) -> Webhook | None:
    kind, url = _text(fields, "type"), _text(fields, "url")
    if kind is None or url is None:
        return None
    return Webhook(
        type=kind.upper(),
        url=url,
        # Some guides write `active`. One that says neither is listed, so it is in use.
        enabled=fields.get("enabled", fields.get("active", True)) is not False,
        has_auth_header=fields.get("httpAuthHeaderAvailable") is True,
    )


def _recording(fields: Fields) -> SessionRecording | None:
    recording_id = _text(fields, "recordingId")
    if recording_id is None:
        return None
    return SessionRecording(
        recording_id=recording_id,
        session_id=_text(fields, "sessionid", "sessionId"),
        status=_text(fields, "status"),
        url=_text(fields, "externalFileUrl"),
        duration=_seconds(fields.get("duration")),
        started_at=_time(_text(fields, "startRecordingTime")),
    )


def _each(listed: object, read: Callable[[Fields], T | None]) -> tuple[T, ...]:
    entries: Sequence[object] = listed if is_list(listed) else ()
    found = (read(entry) for entry in entries if is_object(entry))
    return tuple(each for each in found if each is not None)


def _text(fields: Fields, *names: str) -> str | None:
    """The first of these fields with a text or a number; `"null"` counts as missing."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int):
            continue
        text = str(value).strip()
        if text and text.lower() != "null":
            return text
    return None


def _seconds(value: object) -> timedelta | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        seconds = float(value)
        return timedelta(seconds=seconds) if math.isfinite(seconds) else None
    except (ValueError, OverflowError):
        return None


def _price(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        price = Decimal(str(value).strip())
    except (InvalidOperation, ValueError):  # ValueError: an integer of thousands of digits
        return None
    return price if price.is_finite() and abs(price) < _DEAREST else None


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    # 8x8 writes times in UTC, with or without a zone.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
