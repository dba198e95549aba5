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
from dataclasses import dataclass
from pathlib import Path

import httpx
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


@dataclass(frozen=True)
class SignIn:
    """What signs people in behind nginx, as `sample` says, at the address `at`."""

    sample: str
    at: str

    @property
    def settings(self) -> dict[str, str]:
        """The settings of the receiver that the sample names."""
        text = (DEPLOY / self.sample).read_text(encoding="utf-8")
        return dict(re.findall(r"^#   (VOICEFLOW_\w+)=(.+)$", text, re.MULTILINE))

    def inside(self, text: str) -> str:
        """A sample of nginx with this sign-in, and with the pages of the sign-in on a host of their own."""
        part = re.sub(r"127\.0\.0\.1:(4180|9091)", self.at, (DEPLOY / self.sample).read_text(encoding="utf-8"))
        pages = re.sub(r"\n    location .+\n}", "\n}", text[text.index("server {") :], flags=re.DOTALL)
        pages = pages.replace("calls.example.com;", "auth.example.com;", 1)
        pages = f"{pages.rstrip().removesuffix('}')}    location / {{ proxy_pass http://{self.at}; }}\n}}\n"
        return text.replace("    location / {", f"{part}\n    location / {{", 1) + pages


@contextmanager
def nginx(
    sample: str, receiver: str, folder: Path, *, tls: bool = True, sign_in: SignIn | None = None
) -> Iterator[str]:
    """The sample in nginx, before a receiver (`host:port`), and with `sign_in` behind it. Yields its address."""
    port = free_port()
    text = (DEPLOY / sample).read_text(encoding="utf-8")
    text = text if sign_in is None else sign_in.inside(text)
    listen = f"127.0.0.1:{port}{' ssl' if tls else ' backlog=8192'}"
    text = text.replace("127.0.0.1:8080", receiver).replace("443 ssl", listen)
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


class Browser(httpx.HTTPTransport):
    """The network of a browser for which all hosts are at one address of this machine."""

    def __init__(self, address: str) -> None:
        super().__init__(verify=False)
        self._at = httpx.URL(address)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(host="127.0.0.1", port=self._at.port)
        return super().handle_request(
            httpx.Request(
                request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
            )
        )


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
