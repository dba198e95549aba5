"""The result of a check, and the function that runs a check within its time limit."""

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
"""The time limit of one check. A person waits for the result, and a slow answer is a finding too."""


class Level(StrEnum):
    """The level of a diagnosis."""

    OK = "ok"
    WARNING = "warning"
    """Somebody should look at it, but calls are still made."""
    FAILURE = "failure"
    """Calls cannot be made, or they might be lost, late or made twice."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of a check: a message, and a remedy. `check` is the name of the check.

    `waits_for` names the other check that must be ok before this one can be made.
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
    """Raised by a check that must wait until another check, named `cause`, is ok."""

    def __init__(self, cause: str, why: str) -> None:
        self.cause = cause
        super().__init__(why)


def ok(message: str) -> Diagnosis:
    """A diagnosis of level ok."""
    return Diagnosis(Level.OK, message)


def warning(message: str, *, remedy: str | None = None) -> Diagnosis:
    """A diagnosis of level warning."""
    return Diagnosis(Level.WARNING, message, remedy)


def failure(message: str, *, remedy: str | None = None) -> Diagnosis:
    """A diagnosis of level failure."""
    return Diagnosis(Level.FAILURE, message, remedy)


async def carried_out(
    name: str, look: Callable[[], Awaitable[Diagnosis | None]], *, limit: timedelta = TIME_LIMIT
) -> Diagnosis | None:
    """Run the check `look`, and return its diagnosis under this name; None if the check does not apply.

    An error becomes a failure, or a warning if another check must be ok first. The other checks can then still run.
    """
    try:
        with anyio.fail_after(limit.total_seconds()):
            found = await look()
    except TimeoutError:
        found = failure(
            f"no answer within {limit.total_seconds():g} s", remedy="check the machine, the disk and the network"
        )
    except CannotLookError as error:
        remedy = f"correct `{error.cause}` first"
        found = Diagnosis(Level.WARNING, f"skipped: {error}", remedy, waits_for=error.cause)
    except VoiceflowError as error:
        found = failure(str(error), remedy="see the message")
    except Exception as error:  # noqa: BLE001 - a traceback here would end the other checks too
        found = failure(
            f"this check itself failed: {type(error).__name__}: {error}", remedy="report this line as a bug"
        )
    return None if found is None else replace(found, check=name)


async def in_thread(work: Callable[[], T]) -> T:
    """Do blocking work in a thread. If a time limit or a signal cancels the wait, the thread is left behind."""
    return await to_thread.run_sync(work, abandon_on_cancel=True)
