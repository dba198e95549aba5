"""A store as containers have it: in mount namespaces of this machine, each of which ends with its process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

UNSHARE = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
OPEN = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
from voiceflow_worker.backends.sqlite.opening import open_file
from voiceflow_worker.errors import StoreUnavailableError
try:
    db, _ = open_file(Path(sys.argv[1]), lock_timeout=timedelta(0))
except StoreUnavailableError as error:
    sys.exit(f"{error.passes}: {error}")
db.run(f"INSERT INTO records (namespace, grp, member, value) VALUES ('n', '', '{sys.argv[2]}', 'v')")
print(len(db.rows("SELECT member FROM records WHERE namespace = 'n'")), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def contained(tmp_path: Path, mounts: str, store: str, member: str = "m") -> subprocess.CompletedProcess[str]:
    """Open the store and add a record, in a namespace of its own with an empty folder `box`; end by SIGKILL."""
    if (
        shutil.which("unshare") is None
        or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine allows no mount namespaces")
    script = f'mount -t tmpfs none box && {mounts} && exec "$@"'
    command = [*UNSHARE, "sh", "-ec", script, "sh", sys.executable, "-c", OPEN, store, member]
    (tmp_path / "box").mkdir(exist_ok=True)
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("mounted", "store"),
    [
        ("calls.db", "box/calls.db"),
        ("another name #1.db", "box/another name #1.db"),
        ("tab\there\\.db", "box/tab\there\\.db"),
        ("calls.db", "box/../box/link.db"),
        ("føø.db", "folder-link/føø.db"),
    ],
)
def test_a_file_that_is_mounted_alone_is_refused(mounted: str, store: str, tmp_path: Path) -> None:
    (tmp_path / "calls.db").touch()
    (tmp_path / "folder-link").symlink_to("box")
    point = f"'box/{mounted}'"
    mounts = f"touch {point} && mount --bind calls.db {point} && ln -s calls.db box/link.db"
    ended = contained(tmp_path, mounts, store)
    assert "is a mount point" in ended.stderr, ended
    assert ended.stderr.startswith("False: ")
    assert (tmp_path / "calls.db").stat().st_size == 0
    assert not (tmp_path / "calls.db-wal").exists()


def test_what_was_stored_in_a_folder_that_is_mounted_is_there_in_the_next_container(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    mounts = "mkdir box/data && mount --bind data box/data"
    told = [contained(tmp_path, mounts, "box/data/calls.db", member).stdout for member in ("a", "b", "c")]
    assert told == ["1\n", "2\n", "3\n"]
