"""The health of a store, as its backend reports it: checks for `voiceflow doctor`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from voiceflow_worker.finding import Diagnosis, ok, warning

HealthCheck = Callable[[], Awaitable[Diagnosis | None]]
"""A check of a store. It returns its diagnosis, or None if it does not apply. It may raise VoiceflowError."""


@dataclass(frozen=True, slots=True)
class Making:
    """What the owner of a database gives to others once a store is made there: rights, by purpose."""

    rights: Mapping[str, str]


class Health:
    """The health of a store. This one is that of backends that report nothing."""

    @property
    def durability(self) -> Durability | None:
        """What the server of the store promises; None if it has none, or is not open."""
        return None

    @property
    def advice(self) -> str | None:
        """What should be configured differently. It is logged when a worker opens the store."""
        return None if self.durability is None else self.durability.warning

    @property
    def making(self) -> Making | None:
        """How somebody with more rights makes the store; None if whoever opens it first does. Raises SettingsError."""
        return None

    def checks(self) -> Mapping[str, HealthCheck]:
        """The checks that can be made, by their names, in the order in which they are reported."""
        return {}


class Guarantee(StrEnum):
    """The durability of a commit that has returned, on a server. The best is listed first."""

    DISK = "disk"
    """It is on the server's disk: of a Redis by `appendfsync always`."""
    WAITED = "waited"
    """It is on the disk of a Redis, by `WAITAOF` after each commit."""
    SECOND = "second"
    """A crash of the machine of a Redis can lose the last two seconds (`appendfsync everysec`)."""
    SYSTEM = "system"
    """A crash of the server's machine may lose it, or damage a database: the operating system decides."""
    NONE = "none"
    """The user accepts that the server may lose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """The guarantee of a server. `promise` describes it in words; `warning` is about the server's configuration."""

    guarantee: Guarantee
    promise: str
    warning: str | None = None


async def durability_diagnosis(found: Durability) -> Diagnosis:
    """The diagnosis of what a server promises of commits."""
    if found.warning is not None:
        # Some warnings begin with the promise.
        return warning(found.promise, remedy=found.warning.removeprefix(found.promise).lstrip("; ") or found.warning)
    if found.guarantee is Guarantee.NONE:
        return warning(
            found.promise,
            remedy="correct the settings of the server, and remove durability=best-effort from the store URL",
        )
    return ok(found.promise)
