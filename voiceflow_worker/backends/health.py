"""The health of a store, as its backend reports it: checks for `voiceflow doctor`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from voiceflow_worker.core.ports.store import BulkWrite, WriteResult
from voiceflow_worker.errors import StoreForgetsError
from voiceflow_worker.finding import Diagnosis, failure, ok, warning
from voiceflow_worker.model.copying import replace

HealthCheck = Callable[[], Awaitable[Diagnosis | None]]
"""A check of a store. It returns its diagnosis, or None if it does not apply. It may raise VoiceflowError."""


@dataclass(frozen=True, slots=True)
class Making:
    """How the owner of a database makes a store there: a script, and the rights that it gives to others, by purpose."""

    script: str
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
    """The guarantee of a server. `promise` describes it in words; `warning` is about the server's configuration.

    With `forgets`, it may lose what it has confirmed, and nobody has accepted that: when, why, and what to do. Such a
    server keeps only what stops calls, until it is corrected.
    """

    guarantee: Guarantee
    promise: str
    warning: str | None = None
    forgets: str | None = None

    def require(self, bulk: BulkWrite | None = None) -> None:
        """Raise StoreForgetsError unless a lease, or this bulk write, is kept."""
        if self.forgets is not None and (bulk is None or (bulk.durable and not bulk.stops)):
            error = StoreForgetsError(f"nothing is sent or stored, because it may be {self.forgets}")
            error.passes = True
            raise error

    def told(self, answers: Sequence[WriteResult]) -> Sequence[WriteResult]:
        """The answers, which say whether what was written may be lost."""
        return answers if self.forgets is None else [replace(each, may_be_lost=self.forgets) for each in answers]


async def durability_diagnosis(found: Durability) -> Diagnosis:
    """The diagnosis of what a server promises of commits."""
    if found.forgets is not None:
        return failure("the server may lose what it has confirmed: no call is sent", remedy=found.forgets)
    if found.warning is not None:
        # Some warnings begin with the promise.
        return warning(found.promise, remedy=found.warning.removeprefix(found.promise).lstrip("; ") or found.warning)
    if found.guarantee is Guarantee.NONE:
        return warning(
            found.promise,
            remedy="correct the settings of the server, and remove durability=best-effort from the store URL",
        )
    return ok(found.promise)
