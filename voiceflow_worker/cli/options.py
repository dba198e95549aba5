"""Options that several commands share, and their converters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token

from voiceflow_worker.errors import SettingsError

STORE_GROUP = Group("Where the jobs are", sort_key=90)


def _duration(_type: Any, tokens: Sequence[Token]) -> timedelta:
    from voiceflow_worker.settings import parse_duration

    try:
        return parse_duration(tokens[0].value)
    except SettingsError as error:
        raise ValueError(str(error)) from None


def _moment(_type: Any, tokens: Sequence[Token]) -> datetime:
    text = tokens[0].value
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time: write it like 2026-11-20T09:00:00+08:00 or 2026-11-20T01:00:00Z"
        ) from None
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} does not say which time zone: add Z for UTC, or an offset such as +08:00")
    return moment.astimezone(UTC)


def _limit(_type: Any, value: int) -> None:
    if value < 0:
        raise ValueError(f"{value} is negative: give a positive number, or 0 for all")


def _port(_type: Any, value: Any) -> None:
    if value is not None and not 0 <= value <= 65535:
        raise ValueError(f"{value} is not a port: give a number from 1 to 65535, or 0 for any free one")


def _speed(_type: Any, value: float) -> None:
    if not 0 < value < inf:
        raise ValueError(f"{value:g} is not a speed: give a number above 0; with 60 a minute takes a second")


def _web_address(_type: Any, value: Any) -> None:
    from voiceflow_worker.model.text.web_address import read_notify_url

    if value is not None:
        read_notify_url(value)


StoreOption = Annotated[
    str | None,
    Parameter(
        name="--store",
        metavar="URL",
        group=STORE_GROUP,
        help="The store's URL: sqlite:///relative.db, sqlite:////absolute.db, redis://host:6379/0, or memory://. "
        "[VOICEFLOW_STORE, else sqlite:///voiceflow.db]",
    ),
]
QueueOption = Annotated[
    str | None,
    Parameter(
        name="--queue", metavar="NAME", group=STORE_GROUP, help="The queue's name. [VOICEFLOW_QUEUE, else default]"
    ),
]
WaitOption = Annotated[
    timedelta | None,
    Parameter(
        name="--wait-for-store",
        converter=_duration,
        n_tokens=1,
        metavar="DURATION",
        group=STORE_GROUP,
        help="How long to try again where the store is locked or not there yet; 0 does not wait. "
        "[VOICEFLOW_WAIT_FOR_STORE, else 30s]",
    ),
]
JsonOption = Annotated[
    bool,
    Parameter(name="--json", negative=(), show_default=False, help="JSON for scripts on stdout; text goes to stderr."),
]
PortOption = Annotated[int, Parameter(validator=_port, metavar="PORT")]
MetricsPortOption = Annotated[int | None, Parameter(validator=_port, metavar="PORT")]
LimitOption = Annotated[int, Parameter(validator=_limit, metavar="N", help="List at most this many; 0 lists all.")]
SpeedOption = Annotated[float, Parameter(validator=_speed)]
WebAddressOption = Annotated[str | None, Parameter(validator=_web_address, metavar="URL")]
BatchOption = Annotated[str | None, Parameter(name="--batch", metavar="ID", help="Only this batch.")]
DurationOption = Annotated[timedelta | None, Parameter(converter=_duration, n_tokens=1, metavar="DURATION")]
MomentOption = Annotated[datetime | None, Parameter(converter=_moment, n_tokens=1, metavar="TIME")]
Flag = Parameter(negative=(), show_default=False)
"""For a switch without a `--no-…` form."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """Options that name a store and one of its queues."""

    store: StoreOption = None
    wait_for_store: WaitOption = None
    queue: QueueOption = None


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class WholeStoreOptions:
    """Options that name a store, for a command that concerns all its queues. `queue` is accepted and ignored."""

    store: StoreOption = None
    wait_for_store: WaitOption = None
    queue: Annotated[
        str | None,
        Parameter(
            name="--queue",
            metavar="NAME",
            group=STORE_GROUP,
            help="Deprecated, without effect: the command always covers the whole store.",
        ),
    ] = None
