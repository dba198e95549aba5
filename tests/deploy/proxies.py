"""The proxies of docs/deploy, run for real with TLS on ports of this machine."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT
from tests.support.redis_server import free_port
from tests.support.waiting import wait_until

DEPLOY = DOCS / "deploy"
CERTIFICATE = ROOT / "tests" / "gateway" / "localhost.pem"


def tool(name: str, package: str) -> str:
    """The path of a program; skips the test where there is none."""
    found = shutil.which(name, path=os.pathsep.join([*os.get_exec_path(), "/usr/sbin"]))
    if found is None:
        pytest.skip(f"there is no {name} here; on Debian: apt-get install {package}")
    return found


@contextmanager
def nginx(sample: str, receiver: str, folder: Path, *, tls: bool = True, sign_in: str = "") -> Iterator[str]:
    """The sample in nginx, before a receiver (`host:port`). Yields its address.

    With an address of `sign_in`, people are signed in there.
    """
    port = free_port()
    text = (DEPLOY / sample).read_text(encoding="utf-8")
    listen = f"127.0.0.1:{port}{' ssl' if tls else ' backlog=8192'}"
    text = text.replace("127.0.0.1:8080", receiver).replace("443 ssl", listen)
    if sign_in:
        part = (DEPLOY / "nginx-sign-in.conf").read_text(encoding="utf-8").replace("127.0.0.1:4180", sign_in)
        text = text.replace("    location / {", f"{part}\n    location / {{", 1)
    text = re.sub(r"(ssl_certificate(?:_key)?) \S+;", rf"\1 {CERTIFICATE};", text)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
        "worker_rlimit_nofile 20000;\n"
        f"events {{ worker_connections 10000; }}\nhttp {{\naccess_log off;\n{temporary}{text}\n}}\n",
        encoding="utf-8",
    )
    with _running(tool("nginx", "nginx"), "-e", f"{folder}/error.log", "-c", str(config), folder=folder):
        wait_until(lambda: _answers(port, tls=tls), "answer of nginx")
        yield f"http{'s' * tls}://localhost:{port}"


@contextmanager
def caddy(receiver: str, folder: Path) -> Iterator[str]:
    """The sample in Caddy, before a receiver, with the certificate that it makes for localhost. Yields its address."""
    port = free_port()
    config = folder / "Caddyfile"
    # No machine's store of certificates is changed, and no fixed port is taken.
    options = "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"
    config.write_text(options + (DEPLOY / "Caddyfile").read_text(encoding="utf-8"), encoding="utf-8")
    environment = {
        **os.environ,
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "VOICEFLOW_DOMAIN": f"localhost:{port}",
        "VOICEFLOW_RECEIVER": receiver,
    }
    command = [tool("caddy", "caddy"), "run", "--adapter", "caddyfile", "--config", str(config)]
    with _running(*command, folder=folder, environment=environment):
        wait_until(lambda: _answers(port), "answer of Caddy")
        yield f"https://localhost:{port}"


@contextmanager
def _running(*command: str, folder: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def _answers(port: int, *, tls: bool = True) -> bool:
    """Whether it speaks TLS: Caddy makes its certificate after it has begun to listen."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as asking:
        if tls:
            context.wrap_socket(asking, server_hostname="localhost").close()
        return True
    return False
