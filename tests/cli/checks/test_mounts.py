from __future__ import annotations

from pathlib import Path

import pytest

from voiceflow_worker.cli.checks.context import Level
from voiceflow_worker.cli.checks.store import judged_mount, judged_sqlite

MOUNTS = """\
/dev/vda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
tmpfs /run tmpfs rw,nosuid 0 0
files.example.com:/export /srv/shared nfs4 rw,vers=4.2 0 0
/dev/vdb1 /srv/shared/local xfs rw 0 0
//files.example.com/a /mnt/with\\040space cifs rw 0 0
overlay /var/app overlay rw,lowerdir=/x 0 0
/dev/vdc1 /var/app/data ext4 rw 0 0
overlay /twice overlay rw 0 0
/dev/vdd1 /twice btrfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "level"),
    [
        ("/var/lib/calls.db", Level.OK),
        ("/srv/shared/calls.db", Level.FAILURE),
        ("/mnt/with space/calls.db", Level.FAILURE),
        ("/run/calls.db", Level.WARNING),
        ("/var/app/calls.db", Level.WARNING),
        ("/var/app/data/calls.db", Level.OK),
    ],
)
def test_a_store_belongs_on_a_disk_of_this_machine(path: str, level: Level) -> None:
    found = judged_mount(Path(path), MOUNTS)
    assert found.level is level
    assert (found.remedy is None) == (level is Level.OK)


def test_a_system_that_does_not_tell_its_mounts_is_believed() -> None:
    assert judged_mount(Path("/var/lib/calls.db"), None).level is Level.OK


@pytest.mark.parametrize(
    ("version", "level"),
    [("3.40.1", Level.FAILURE), ("3.51.2", Level.FAILURE), ("3.51.3", Level.OK), ("3.53.0", Level.OK)],
)
def test_a_sqlite_with_the_error_that_damages_stores_is_a_failure(version: str, level: Level) -> None:
    assert judged_sqlite(version).level is level
