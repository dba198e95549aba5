"""A machine of its own for the shipped units: a real systemd, booted in a container with the programs of this one.

It has the paths, users and ports of `docs/deploy/README.md`, and a network that is nothing but a loopback.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.deploy.proxies import DEPLOY
from tests.docs.pages import ROOT
from tests.support.waiting import wait_until

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
_COPIED = (
    "passwd",
    "group",
    "shadow",
    "gshadow",
    "nsswitch.conf",
    "ld.so.cache",
    "login.defs",
    "ssl",
    "alternatives",
    "pam.d",
    "security",
)
_HOSTS = "127.0.0.1 localhost calls.example.com voice.example.com\n"
# The command of an installation by pip, with the Python, the packages and the source of the tests.
_COMMAND = f"""#!/bin/sh
LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/source:/opt/packages PYTHONDONTWRITEBYTECODE=1 \
exec /opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor} -m voiceflow_worker "$@"
"""


class Machine:
    """A booted machine. Its files lie below `root`."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self.leader = leader

    def run(
        self, *command: str, user: str = "root", given: str = "", within: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """What a command of this machine printed, once it has ended."""
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w"]
        as_user = [] if user == "root" else ["runuser", "-u", user, "--"]
        return subprocess.run(
            [*enter, *as_user, *command], input=given, capture_output=True, text=True, check=False, timeout=within,
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        )  # fmt: skip

    def done(
        self, *command: str, user: str = "root", given: str = "", within: float = 120, codes: tuple[int, ...] = (0,)
    ) -> str:
        """What a command printed that must end with one of these exit codes."""
        ended = self.run(*command, user=user, given=given, within=within)
        assert ended.returncode in codes, f"{command}: {ended.returncode}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file of this machine."""
        self.done("install", "-D", "-m", f"{mode:o}", "/dev/stdin", path, given=text)

    @contextmanager
    def network(self) -> Generator[None]:
        """Within this, this thread opens its connections in the network of the machine."""
        new_network = 0x40000000
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open() as ours, Path(f"/proc/{self.leader}/ns/net").open() as theirs:
            assert libc.setns(theirs.fileno(), new_network) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(ours.fileno(), new_network) == 0

    def unit(self, name: str) -> dict[str, str]:
        """What systemd says of a unit."""
        wanted = "ActiveState,SubState,Result,NRestarts,ExecMainStatus,MainPID"
        lines = self.done("systemctl", "show", f"--property={wanted}", name).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def log(self, name: str) -> str:
        """The journal of a unit."""
        return self.done("journalctl", "-u", name, "--no-pager", "-o", "cat")

    def waits_for(self, name: str, words: str, *, within: float = 60) -> None:
        """Wait until a unit has logged these words."""
        wait_until(lambda: words in self.log(name), lambda: f"{words!r} of {name}: {self.log(name)}", within=within)

    def install(self, **settings: str) -> None:
        """Do what the page says: the user, the secrets, the settings, the units and the command; no unit is started.

        `settings` are added to those of the shipped file, or replace them.
        """
        self.done(
            "useradd", "--system", "--home-dir", "/var/lib/voiceflow", "--shell", "/usr/sbin/nologin", "voiceflow"
        )
        self.write("/opt/voiceflow/bin/voiceflow", _COMMAND, mode=0o755)
        making = re.findall(r"^```sh\n(.*?)^```", (DEPLOY / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)[
            0
        ]
        self.done("sh", "-euc", f"cd /root; {making}")
        self.done("install", "-d", "-m", "750", "-g", "voiceflow", "/etc/voiceflow")
        for secret in self.done("ls", "/root/secrets").split():
            self.done("install", "-m", "640", "-g", "voiceflow", f"/root/secrets/{secret}", "/etc/voiceflow/")
        shipped = (DEPLOY / "systemd" / "voiceflow.env").read_text("utf-8").splitlines()
        kept = [line for line in shipped if line.split("=")[0] not in settings]
        more = [f"{name}={value}" for name, value in settings.items() if value]
        self.write("/etc/voiceflow/voiceflow.env", "\n".join([*kept, *more, ""]))
        for unit in UNITS:
            self.write(f"/etc/systemd/system/{unit.name}", unit.read_text("utf-8"))
        self.write("/usr/local/bin/voiceflow", (DEPLOY / "systemd" / "voiceflow").read_text("utf-8"), mode=0o755)
        self.done("systemctl", "daemon-reload")


@contextmanager
def machine() -> Generator[Machine]:
    """A machine that is booted, and switched off at the end. Skips the test where none can be."""
    if os.getuid() or not shutil.which("systemd-nspawn") or not Path("/usr/lib/systemd/systemd").exists():
        pytest.skip("no machine can be booted here: it needs root; on Debian: apt-get install systemd-container")
    with TemporaryDirectory(dir="/var/lib", prefix="voiceflow-machine-") as made:
        root = Path(made)
        root.chmod(0o755)
        for folder in (
            "usr",
            "etc/systemd/system",
            "var/log",
            "tmp",
            "root",
            "run",
            "opt/python",
            "opt/packages",
            "opt/source",
        ):
            (root / folder).mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib64"):
            if Path("/", link).is_symlink():
                (root / link).symlink_to(f"usr/{link}")
        copied = [f"/etc/{name}" for name in _COPIED if Path("/etc", name).exists()]
        subprocess.run(["cp", "-a", *copied, f"{root}/etc"], check=True)
        (root / "etc/hosts").write_text(_HOSTS)
        (root / "etc/os-release").write_text("ID=debian\n")
        (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")  # else every unit of /usr is enabled
        (root / "etc/systemd/system/default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
        (root / "usr-local").mkdir()
        read = {
            "/usr": "/usr",
            sys.base_prefix: "/opt/python",
            sysconfig.get_path("purelib"): "/opt/packages",
            str(ROOT): "/opt/source",
        }
        binds = [f"--bind-ro={here}:{there}" for here, there in read.items()]
        command = [
            "systemd-nspawn", "--quiet", f"--directory={root}", *binds, f"--bind={root}/usr-local:/usr/local/bin",
            "--private-network", "--register=no", "--keep-unit", "--console=read-only", "--resolv-conf=off",
            "--timezone=off", f"--machine={root.name.replace('_', '-')}", "--boot", "--", "systemd.show_status=no",
        ]  # fmt: skip
        with (root / "console").open("wb") as console:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            yield Machine(root, _leader(process, root))
        finally:
            for leader in _leaders(process):  # else it lives on without what has started it
                os.kill(leader, signal.SIGKILL)
            process.kill()
            process.wait()


def _leaders(process: subprocess.Popen[bytes]) -> list[int]:
    """The first process of the machine, if there is one."""
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    return []


def _leader(process: subprocess.Popen[bytes], root: Path) -> int:
    """The first process of the machine, once it is booted."""

    def is_booted() -> bool:
        if process.poll() is not None:
            pytest.skip(f"no machine can be booted here: {(root / 'console').read_text()[-500:]}")
        found = _leaders(process)
        if not found:
            return False
        state = Machine(root, found[0]).run("systemctl", "is-system-running").stdout.strip()
        return state in {"running", "degraded"}

    wait_until(is_booted, "a booted machine", within=60)
    return _leaders(process)[0]
