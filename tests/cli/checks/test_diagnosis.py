from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from voiceflow_worker.cli.checks.context import CannotLookError, Diagnosis, Level, carried_out

pytestmark = pytest.mark.anyio


async def found_by(error: Exception) -> tuple[Level, str, str | None]:
    async def look() -> Diagnosis:
        raise error

    line = await carried_out("store", look)
    assert line is not None
    assert line.check == "store"
    return line.level, line.message, line.remedy


async def test_a_check_that_breaks_is_a_failure_and_no_traceback() -> None:
    level, message, remedy = await found_by(ZeroDivisionError("by zero"))
    assert (level, message) == (Level.FAILURE, "this check itself failed: ZeroDivisionError: by zero")
    assert remedy is not None


async def test_a_check_that_cannot_look_says_what_to_see_to_first() -> None:
    assert await found_by(CannotLookError("credentials", "8x8 could not be asked")) == (
        Level.WARNING,
        "skipped: 8x8 could not be asked",
        "correct `credentials` first",
    )


async def test_a_check_has_its_time() -> None:
    line = await carried_out("store", anyio.sleep_forever, limit=timedelta(milliseconds=20))
    assert line is not None
    assert (line.level, line.message) == (Level.FAILURE, "no answer within 0.02 s")
