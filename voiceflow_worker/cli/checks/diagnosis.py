"""The result of a check, and the execution of one with its time limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

import anyio
from anyio import to_thread

from voiceflow_worker.errors import VoiceflowError

T = TypeVar("T")

TIME_LIMIT = timedelta(seconds=10)
"""The time limit of one check. Somebody waits for it, and a slow answer is a finding too."""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Somebody should know; calls are made all the same."""
    FAILURE = "failure"
    """Calls cannot be made, or a promise does not hold."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of a check: a clause, and what to do about it. `check` is its name.

    `waits_for` is the check that must be well before this one can look at anything.
    """

    level: Level
    message: str
    remedy: str | None = None
    waits_for: str | None = None
    check: str = ""

    def as_json(self) -> dict[str, object]:
        """The diagnosis for scripts."""
        return {"check": self.check, "level": self.level.value, "message": self.message, "remedy": self.remedy}


class CannotLookError(Exception):
    """Raised by a check that needs the subject of another one, named `cause`, which is not well."""

    def __init__(self, cause: str, why: str) -> None:
        self.cause = cause
        super().__init__(why)


def ok(message: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(Level.OK, message)


def warning(message: str, *, remedy: str | None = None) -> Diagnosis:
    """Somebody should know."""
    return Diagnosis(Level.WARNING, message, remedy)


def failure(message: str, *, remedy: str | None = None) -> Diagnosis:
    """This must be corrected."""
    return Diagnosis(Level.FAILURE, message, remedy)


async def carried_out(
    name: str, look: Callable[[], Awaitable[Diagnosis | None]], *, limit: timedelta = TIME_LIMIT
) -> Diagnosis | None:
    """The diagnosis of one check; None if the check does not apply here. It never raises, so that all checks run."""
    try:
        with anyio.fail_after(limit.total_seconds()):
            found = await look()
    except TimeoutError:
        found = failure(
            f"no answer within {limit.total_seconds():g} s", remedy="look at the machine, the disk and the network"
        )
    except CannotLookError as error:
        remedy = f"see to `{error.cause}` first"
        found = Diagnosis(Level.WARNING, f"not looked at: {error}", remedy, waits_for=error.cause)
    except VoiceflowError as error:
        found = failure(str(error), remedy="see the message")
    except Exception as error:  # noqa: BLE001 - the other checks are worth more than a traceback of this one
        found = failure(
            f"this check itself failed: {type(error).__name__}: {error}", remedy="report it, with this line"
        )
    return None if found is None else replace(found, check=name)


async def in_thread(work: Callable[[], T]) -> T:
    """Do blocking work in a thread. A disk that hangs is left behind with its thread."""
    return await to_thread.run_sync(work, abandon_on_cancel=True)
