"""The result of a check, and the execution of one with its time limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

import anyio
from anyio import to_thread

from voiceflow_worker.errors import VoiceflowError

T = TypeVar("T")

TIME_LIMIT = timedelta(seconds=10)
"""For one check: somebody waits for it, and what takes longer is a finding in itself."""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Somebody should know; calls are made all the same."""
    FAILURE = "failure"
    """Calls cannot be made, or a promise does not hold."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found: a clause, and what to do about it.

    `waits_for` is the check that must be well before this one can look at anything.
    """

    level: Level
    message: str
    remedy: str | None = None
    waits_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One line of the doctor's."""

    check: str
    level: Level
    message: str
    remedy: str | None
    waits_for: str | None = None

    def as_json(self) -> dict[str, object]:
        """The line for scripts."""
        return {"check": self.check, "level": self.level.value, "message": self.message, "remedy": self.remedy}


class CannotLookError(Exception):
    """Raised by a check that needs what another one found wanting: `cause` is the name of that one."""

    def __init__(self, cause: str, why: str) -> None:
        self.cause = cause
        super().__init__(why)


def ok(message: str) -> Found:
    """All is well."""
    return Found(Level.OK, message)


def warning(message: str, *, remedy: str) -> Found:
    """Somebody should know."""
    return Found(Level.WARNING, message, remedy)


def failure(message: str, *, remedy: str) -> Found:
    """This must be mended."""
    return Found(Level.FAILURE, message, remedy)


async def carried_out(
    name: str, look: Callable[[], Awaitable[Found | None]], *, limit: timedelta = TIME_LIMIT
) -> Diagnosis | None:
    """What a check finds; None when it does not apply here. It never raises: no check stops the others."""
    try:
        with anyio.fail_after(limit.total_seconds()):
            found = await look()
    except TimeoutError:
        found = failure(
            f"no answer within {limit.total_seconds():g} s", remedy="look at the machine, the disk and the network"
        )
    except CannotLookError as error:
        remedy = f"see to `{error.cause}` first"
        found = Found(Level.WARNING, f"not looked at: {error}", remedy, waits_for=error.cause)
    except VoiceflowError as error:
        found = failure(str(error), remedy="see the message")
    except Exception as error:  # noqa: BLE001 - the other checks are worth more than a traceback of this one
        found = failure(
            f"this check itself failed: {type(error).__name__}: {error}", remedy="report it, with this line"
        )
    return None if found is None else diagnosis(name, found)


def diagnosis(name: str, found: Found) -> Diagnosis:
    """The line of a finding."""
    return Diagnosis(
        check=name, level=found.level, message=found.message, remedy=found.remedy, waits_for=found.waits_for
    )


async def in_thread(work: Callable[[], T]) -> T:
    """Do what may block; a disk that hangs is left behind with its thread."""
    return await to_thread.run_sync(work, abandon_on_cancel=True)
