from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Ended, Program
from tests.cli.stored import enqueued, url_of
from tests.gateway.misbehaving import MisbehavingServer
from tests.support.company_proxy import AUTHORITY, VOICE, CompanyProxy
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.account import WebhookTarget


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[EightByEight]:
    sandbox = Sandbox(api_key="key-1", sub_accounts=["acme"], numbers=["+6531234567", "+12025550123"])
    with running(sandbox) as found:
        yield found.settings(monkeypatch)


COMMANDS = [["profiles"], ["numbers"], ["webhooks"]]


def test_voices_are_listed(voiceflow: Program, eight: EightByEight) -> None:
    ended = voiceflow("account", "profiles", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert all(set(line) == {"code", "locale", "language", "gender"} for line in ended.lines)
    assert "en-US-JennyNeural" in {line["code"] for line in ended.lines}


def test_voices_are_chosen_by_their_locale(voiceflow: Program, eight: EightByEight) -> None:
    locales = {line["locale"] for line in voiceflow("account", "profiles", "--locale", "EN", "--json").lines}
    assert locales > {"en-US", "en-GB", "en-SG"}
    assert all(each.startswith("en-") for each in locales)
    ended = voiceflow("account", "profiles", "--locale", "xx")
    assert (ended.code, ended.out, ended.err) == (0, "", "the sub-account has no voices of locale xx\n")


def test_numbers_are_listed_as_call_flows_write_them(voiceflow: Program, eight: EightByEight) -> None:
    found = voiceflow("account", "numbers", "--json").lines
    assert [(line["msisdn"], line["country"], line["status"]) for line in found] == [
        ("+6531234567", "SG", "Active"),
        ("+12025550123", "US", "Active"),
    ]
    assert (found[0]["health"], found[0]["is_healthy"]) == ("Healthy", True)
    out = " ".join(voiceflow("account", "numbers").out.split())
    assert "+6531234567 SG Active Healthy" in out


def test_webhooks_are_listed_without_their_secret(voiceflow: Program, eight: EightByEight) -> None:
    ended = voiceflow("account", "webhooks")
    assert (ended.code, ended.out) == (0, "")
    assert "`voiceflow serve --register URL`" in ended.err
    hooks = eight.sandbox._account.hooks("acme")
    hooks["VSS"] = WebhookTarget(url="https://calls.example.com/", authorization="Bearer of-news-of-calls-1")
    assert voiceflow("account", "webhooks", "--json").lines == [
        {"type": "VSS", "url": "https://calls.example.com/", "enabled": True, "has_auth_header": True}
    ]
    out = voiceflow("account", "webhooks").out
    assert out.split()[-4:] == ["VSS", "https://calls.example.com/", "yes", "yes"]
    assert "of-news" not in out


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("VOICEFLOW_API_KEY=key-2", (3, "VOICEFLOW_API_KEY")),
        ("VOICEFLOW_SUB_ACCOUNT=other", (1, "8x8 does not know the sub-account other")),
        ("VOICEFLOW_BASE_URL=http://127.0.0.1:9", (3, "127.0.0.1 cannot be reached")),
    ],
)
def test_what_8x8_refuses_is_reported(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch, setting: str, told: tuple[int, str]
) -> None:
    monkeypatch.setenv(*setting.split("=", 1))
    monkeypatch.setattr("voiceflow_worker.gateway.account.TRIES", 1)
    for command in COMMANDS:
        ended = voiceflow("account", *command, "--json")
        assert (ended.code, ended.out) == (told[0], "")
        assert told[1] in ended.err


# -- behind the proxy of a company, which decrypts with its own certificate, and fails at times ------------------------

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


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"PROXY": "", "BASE_URL": "https://voice.invalid"},
            "does not resolve: |; in a network that reaches other hosts through a proxy alone, set VOICEFLOW_PROXY",
        ),
        ({"PROXY": "http://proxy.invalid:3128"}, "(the name proxy.invalid of the proxy does not resolve: "),
        ({"CA_FILE": ""}, "in VOICEFLOW_CA_FILE"),
        ({"PROXY": "http://127.0.0.1:{port}"}, "asks for a user name and password"),
        ({"PROXY": "http://me:hunter3@127.0.0.1:{port}"}, "does not accept the user name and password"),
        ({"BASE_URL": "https://other.company.example"}, "refuses a tunnel to this host (502 Bad Gateway)"),
    ],
)
def test_a_failure_names_its_cause_and_the_setting(
    company: Company, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"VOICEFLOW_{name}", value.format(port=company.port))
    ended = company("account", "numbers")
    assert ended.code != 0
    assert [each for each in told.split("|") if each not in ended.err] == [], ended.err
