"""A real systemd for tests: a manager of a user, in a namespace of its own, which touches nothing of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

_SYSTEMD = Path("/lib/systemd/systemd")
# It says that it is the manager of a machine that was booted with systemd, within this namespace only.
_SCRIPT = """
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/0/systemd
export XDG_RUNTIME_DIR=/run/user/0 SYSTEMD_UNIT_PATH=$1 HOME=$1
{systemd} --user --unit=tested.target >$1/manager.log 2>&1 &
manager=$!
for _ in $(seq 300); do
    systemctl --user is-active --quiet tested.target 2>$1/waiting &&
        [ -z "$(systemctl --user list-jobs --no-legend 2>&1)" ] && break
    sleep 0.1
done
sleep "$2"
systemctl --user show --property=Id,ActiveState,SubState,Result,NRestarts,ExecMainStatus $3 >$1/shown
kill -9 $manager
"""


def run_units(folder: Path, units: Mapping[str, str], *, stays: float = 0.0) -> dict[str, dict[str, str]]:
    """Start units in a new manager; what it says of each service, once all were begun and `stays` seconds have passed.

    Skips the test where there is no systemd, or where it may not run.
    """
    if not _SYSTEMD.exists() or os.getuid() or not shutil.which("unshare"):
        pytest.skip("there is no systemd here, or it may not be run: it needs root and unshare")
    for name, text in units.items():
        (folder / name).write_text(text, encoding="utf-8")
    for needed in ("basic.target", "shutdown.target", "network-online.target"):
        (folder / needed).write_text("[Unit]\nDescription=What services usually come after\n")
    (folder / "tested.target").write_text("[Unit]\n" + "".join(f"Wants={name}\nAfter={name}\n" for name in units))
    script = ["sh", "-c", _SCRIPT.format(systemd=_SYSTEMD), "sh", str(folder), str(stays), " ".join(units)]
    command = ["unshare", "-mpf", "--mount-proc", *script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    if not (folder / "shown").exists() or not (folder / "shown").read_text():
        pytest.skip(f"systemd does not run here: {done.stderr[-300:]}{(folder / 'manager.log').read_text()[-300:]}")
    parts = (folder / "shown").read_text().split("\n\n")
    told = [dict(line.split("=", 1) for line in part.splitlines()) for part in parts]
    return {each["Id"]: each for each in told}
