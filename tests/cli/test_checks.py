"""The doctor's checks by themselves: their errors and time limits, the clock, the disk, SQLite."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from voiceflow_worker.backends import mounts
from voiceflow_worker.backends.sqlite.health import file_system
from voiceflow_worker.finding import Diagnosis, Level
from voiceflow_worker.service.doctor.account import judged_clock
from voiceflow_worker.service.doctor.context import CannotLookError, carried_out

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
        Level.WARNING, "skipped: 8x8 could not be asked", "correct `credentials` first",
    )  # fmt: skip


async def test_a_check_has_its_time() -> None:
    line = await carried_out("store", anyio.sleep_forever, limit=timedelta(milliseconds=20))
    assert line is not None
    assert (line.level, line.message) == (Level.FAILURE, "no answer within 0.02 s")


NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ALLOWED = timedelta(seconds=10)


@pytest.mark.parametrize(
    ("off", "level", "message"),
    [
        # 8x8's header cuts its second off: what lies within it, and within the request, is no difference.
        (0.9, Level.OK, "this clock agrees with the clock of 8x8"),
        (-0.4, Level.OK, "this clock agrees with the clock of 8x8"),
        (-5.0, Level.OK, "this clock is 5 s behind the clock of 8x8, within"),
        (
            95.0,
            Level.FAILURE,
            "this clock is 1 min 34 s ahead of the clock of 8x8, but VOICEFLOW_CLOCK_SKEW allows only 10s",
        ),
    ],
)
def test_the_clock_is_judged_by_what_a_header_can_tell(off: float, level: Level, message: str) -> None:
    before = NOON + timedelta(seconds=off)
    found = judged_clock(before, before + timedelta(milliseconds=100), NOON, allowed=ALLOWED)
    assert found.level is level
    assert found.message.startswith(message)


def test_a_slow_answer_is_not_a_difference_of_clocks() -> None:
    assert (
        judged_clock(NOON - timedelta(seconds=9), NOON, NOON - timedelta(seconds=4), allowed=ALLOWED).level is Level.OK
    )


MOUNTS = r"""
1 0 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
2 1 0:5 / /proc rw - proc proc rw
3 1 0:6 / /run rw,nosuid shared:2 - tmpfs tmpfs rw
4 1 0:7 / /srv/shared rw - nfs4 files.example.com:/export rw,vers=4.2
5 4 254:1 / /srv/shared/local rw - xfs /dev/vdb1 rw
6 1 0:8 / /mnt/with\040space rw master:3 propagate_from:2 - cifs //files.example.com/a rw
7 1 0:9 / /var/app rw - overlay overlay rw,lowerdir=/x
8 7 254:2 / /var/app/data rw - ext4 /dev/vdc1 rw
9 1 0:10 / /twice rw - overlay overlay rw
10 9 254:3 / /twice rw - btrfs /dev/vdd1 rw
"""


def test_a_store_belongs_on_a_disk_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = tmp_path / "mountinfo"
    shown.write_text(MOUNTS.lstrip())
    monkeypatch.setattr(mounts, "FILE", shown)
    for path, level in [
        ("/var/lib/calls.db", Level.OK),
        ("/srv/shared/calls.db", Level.FAILURE),
        ("/mnt/with space/calls.db", Level.FAILURE),
        ("/run/calls.db", Level.WARNING),
        ("/var/app/calls.db", Level.WARNING),
        ("/var/app/data/calls.db", Level.OK),
        ("/twice/calls.db", Level.OK),
    ]:
        found = file_system(Path(path))
        assert found.level is level
        assert (found.remedy is None) == (level is Level.OK)


def test_a_system_that_does_not_tell_its_mounts_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "FILE", tmp_path / "none")
    assert file_system(Path("/var/lib/calls.db")).level is Level.OK
