"""Commands behind the proxy of a company, which decrypts connections with its own certificate, and fails at times."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.eight_by_eight import EightByEight
from tests.cli.running import Ended, Program
from tests.cli.stored import enqueued, url_of
from tests.gateway.misbehaving import MisbehavingServer
from tests.support.company_proxy import AUTHORITY, VOICE, CompanyProxy, hangs_up, refuses, resets, says

CRM = "crm.company.example"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "
NOTIFY = {"NOTIFY_URL": f"https://{CRM}/hooks?token=t", "NOTIFY_SECRET": "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}


class _Answers(BaseHTTPRequestHandler):
    """Takes every notification, and has one file."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"{}", "application/json")

    def do_GET(self) -> None:
        self._answer(WAV, "audio/wav")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
        """Say nothing."""


@dataclass
class Company:
    """The proxy, and what the commands print behind it."""

    proxy: CompanyProxy
    port: int
    voiceflow: Program
    eight: EightByEight

    def __call__(self, *arguments: str) -> Ended:
        ended = self.voiceflow(*arguments)
        assert "hunter" not in ended.out + ended.err
        assert "Traceback" not in ended.out + ended.err
        return ended

    @property
    def tunnels(self) -> set[str]:
        return set(self.proxy.tunnels)


@pytest.fixture
def company(
    voiceflow: Program, folder: Path, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Company]:
    with ExitStack() as stack:
        server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), _Answers))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        sandbox = int(eight.url.rpartition(":")[2])
        credentials = b64encode(b"me:hunter@2").decode()
        ports = {VOICE: sandbox, CRM: server.server_port}
        proxy = CompanyProxy(ports, credentials=credentials)
        listening = stack.enter_context(MisbehavingServer(proxy))
        eight.settings(
            monkeypatch,
            BASE_URL=f"https://{VOICE}",
            PROXY=f"http://me:hunter%402@127.0.0.1:{listening.port}",
            CA_FILE=str(AUTHORITY),
            STORE=url_of(folder),
        )
        for name in ("HTTP_PROXY", "http_proxy", "https_proxy", "all_proxy", "ALL_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        # Values with which other programs break are not read.
        monkeypatch.setenv("HTTPS_PROXY", "socks9://x:y")
        monkeypatch.setenv("NO_PROXY", "[::1],fd07:b51a::/64")
        monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
        monkeypatch.setattr("voiceflow_worker.gateway.account.TRIES", 1)
        yield Company(proxy, listening.port, voiceflow, eight)


def test_every_command_goes_through_the_proxy(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NOTIFY.items():
        monkeypatch.setenv(f"VOICEFLOW_{name}", value)
    assert company("account", "numbers").code == 0
    assert company.tunnels == {f"{VOICE}:443"}
    enqueued(company.voiceflow.folder, 3)
    assert company("worker", "--drain").code == 0
    assert company.tunnels == {f"{VOICE}:443", f"{CRM}:443"}
    assert len(company.eight.rang) == len(set(company.eight.rang)) == 3
    found = {line["check"]: line for line in company("doctor", "--json").lines}
    assert found["credentials"]["level"] == "ok"
    assert found["certificate"]["level"] == "warning"
    assert "VOICEFLOW_CA_FILE" in found["certificate"]["message"]
    shown = company("config", "show")
    assert "me:***@127.0.0.1" in shown.out


@pytest.mark.slow
def test_a_proxy_that_fails_at_each_stage_makes_no_phone_ring_twice(company: Company) -> None:
    """What fails before the tunnel is sent again; what fails after the bytes is in doubt, whether or not it rang."""
    enqueued(company.voiceflow.folder, 12)
    company.proxy.stages = [
        refuses("403 Forbidden"), refuses("407 No"), refuses("502 Bad"), hangs_up, resets, says(b"garbage\r\n\r\n"),
    ]  # fmt: skip
    company.proxy.cut_requests, company.proxy.lose_answers = 2, 2
    ended = company("worker", "--drain", "--json", "--concurrency", "1")
    assert ended.code == 1
    assert not company.proxy.stages
    states = ended.document["states"]
    assert {name: count for name, count in states.items() if count} == {"accepted": 8, "in_doubt": 4}
    rang = company.eight.rang
    assert len(rang) == len(set(rang)) == 10  # two were cut before 8x8 had them


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"PROXY": "", "BASE_URL": "https://voice.invalid"},
            "(the name voice.invalid does not resolve: |; check the network and DNS|set VOICEFLOW_PROXY and VOICEFLOW",
        ),
        (
            {"PROXY": "", "BASE_URL": "https://voice.invalid", "HTTPS_PROXY": ""},
            "does not resolve: |; in a network that reaches other hosts through a proxy alone, set VOICEFLOW_PROXY",
        ),
        ({"PROXY": "http://proxy.invalid:3128"}, "(the name proxy.invalid of the proxy does not resolve: "),
        ({"CA_FILE": ""}, "in VOICEFLOW_CA_FILE (SSL_CERT_FILE in the environment is not read)"),
        ({"PROXY": "http://127.0.0.1:{port}"}, "asks for a user name and password"),
        ({"PROXY": "http://me:hunter3@127.0.0.1:{port}"}, "does not accept the user name and password"),
        ({"BASE_URL": "https://other.company.example"}, "refuses a tunnel to this host (502 Bad Gateway)"),
    ],
)
def test_a_failure_names_its_cause_and_the_setting(
    company: Company, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: str
) -> None:
    for name, value in settings.items():
        own = "" if name == "HTTPS_PROXY" else "VOICEFLOW_"
        monkeypatch.setenv(f"{own}{name}", value.format(port=company.port))
    ended = company("account", "numbers")
    assert ended.code != 0
    assert [each for each in told.split("|") if each not in ended.err] == [], ended.err
