"""The pages, the webhook and /v1 behind nginx and Caddy with TLS, on a host of their own and below a prefix."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html import unescape
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, urljoin, urlsplit

import anyio
import httpx
import pytest

from tests.cli.running import Spawned
from tests.console.signing_in import Form
from tests.deploy.proxies import Browser, SignIn, caddy, nginx
from tests.support.flows import flow
from tests.support.redis_server import free_port
from voiceflow_worker import CallQueue, open_store

pytestmark = pytest.mark.slow

SECRET = "Bearer a-long-random-text"
BATCH = "2027/march & april"
ENVIRONMENT = {
    "VOICEFLOW_WEBHOOK_SECRET": SECRET,
    "VOICEFLOW_API_SECRET": "for-programs-of-this-test",
    "VOICEFLOW_UI_SECRET": "for-readers-of-pages",
    "VOICEFLOW_UI_OPERATOR_SECRET": "for-operators-of-pages",
    "VOICEFLOW_TRUSTED_PROXIES": "127.0.0.1",
    "VOICEFLOW_WEBHOOK_ALLOW": "127.0.0.1",
}
PROXIES = [("nginx", ""), ("nginx", "/calls"), ("caddy", ""), ("caddy", "/calls")]


async def stored(url: str) -> str:
    async with open_store(url) as store:
        return (await CallQueue(store).enqueue(flow(), batch=BATCH)).id


class Empty(BaseHTTPRequestHandler):
    """An answer without a body, on a connection that is then closed."""

    def do_GET(self) -> None:
        self.answer(200)

    def answer(self, status: int, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", "0")):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Nothing is logged."""


def started(handler: type[BaseHTTPRequestHandler], port: int = 0) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


def stop(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


@contextmanager
def proxied(name: str, prefix: str, folder: Path) -> Iterator[tuple[httpx.Client, str]]:
    """A browser before a proxy before a receiver with one call, and the id of the call."""
    url = f"sqlite:///{folder}/calls.db"
    job_id = anyio.run(stored, url)
    with Spawned(["serve", "--api", "--port", "0", "--store", url], folder, ENVIRONMENT) as receiver:
        host = host_of(receiver)
        proxy = caddy(host, folder) if name == "caddy" else nginx(f"nginx{'-prefix' * bool(prefix)}.conf", host, folder)
        with proxy as address, httpx.Client(base_url=address + prefix, verify=False, timeout=30) as client:
            yield client, job_id
            assert receiver.stop().code == 0


def links_of(page: httpx.Response) -> set[str]:
    found = re.findall(r'(?:href|src|action)="([^"#]+)', page.text)
    return {urljoin(str(page.url), unescape(each)) for each in found}


@pytest.mark.parametrize(("name", "prefix"), PROXIES)
def test_people_programs_and_8x8_come_through(name: str, prefix: str, tmp_path: Path) -> None:
    with proxied(name, prefix, tmp_path) as (client, job_id):
        home = str(client.base_url.join("ui"))
        origin = {"Origin": home.removesuffix(f"{prefix}/ui")}
        # A page deep below asks for the sign-in, and the sign-in leads back to it.
        batch = f"{home}/batches/{quote(BATCH, safe='')}"
        asked = client.get(batch)
        assert asked.status_code == 401
        (action,) = re.findall(r'<form[^>]+action="([^"]+)"', asked.text)
        typed = Form(asked.text).values(name="Mary Tan", secret="for-operators-of-pages")
        back = client.post(urljoin(batch, unescape(action)), data=typed, headers=origin, follow_redirects=True)
        assert (back.status_code, str(back.url)) == (200, batch), back.text
        assert BATCH in unescape(back.text)
        (cookie,) = client.cookies.jar
        assert (cookie.path, cookie.secure) == (f"{prefix}/ui", True)

        # Every link of every page leads to a page, below the prefix.
        waiting, seen = {home, str(back.url)}, set[str]()
        while waiting:
            link = waiting.pop()
            seen.add(link)
            page = client.get(link)
            assert link.startswith(home), link
            is_asked = "/act/" in link or "/export/" in link  # questions of a form, without what it would send
            assert page.status_code in ({200, 400, 403, 404, 409} if is_asked else {200, 303}), link
            if page.headers["content-type"].startswith("text/html") and "/act/" not in link:
                waiting |= {each for each in links_of(page) if "sign-out" not in each} - seen
        assert any("/static/" in link for link in seen)
        assert any(job_id in link for link in seen)

        # An act: the question, its form, and the page that tells what was done.
        question = client.get(f"{home}/act/hold?queue=default")
        (action,) = re.findall(r'<form[^>]+action="([^"]*act/hold[^"]*)"[^>]* method="post"', question.text)
        sent = {name: values[-1] for name, values in Form(question.text).values(note="lunch").items()}
        done = client.post(urljoin(str(question.url), unescape(action)), data=sent, headers=origin)
        assert done.status_code == 303, done.text
        told = client.get(urljoin(str(done.url), done.headers["location"]))
        assert (told.status_code, "lunch" in told.text) == (200, True)
        assert str(told.url).startswith(home)
        foreign = client.post(str(done.url), data=sent, headers={"Origin": "https://elsewhere.example"})
        assert foreign.status_code == 403

        # 8x8, whose address no client can claim.
        event = {
            "payload": {"sessionId": "s", "subAccountId": "a", "status": "COMPLETED"},
            "eventType": "SESSION_SUMMARY",
        }
        for path in ("webhooks/8x8", "webhooks/8x8/"):
            claimed = {"Authorization": SECRET, "X-Forwarded-For": "203.0.113.9"}
            assert client.post(path, json=event, headers=claimed).status_code == 200
            assert client.post(path, json=event).status_code == 401

        # A program, which finds its call where the answer says.
        key = {"Authorization": f"Bearer {ENVIRONMENT['VOICEFLOW_API_SECRET']}", "Idempotency-Key": "order-42"}
        body = {"to": "+6587654321", "say": "Hello", "source": "+6531234567", "voice_profile": "en-SG-LunaNeural"}
        made = client.post("v1/calls", json=body, headers=key)
        assert made.status_code == 201, made.text
        found = client.get(urljoin(str(made.url), made.headers["location"]), headers=key)
        assert found.json()["id"] == made.json()["id"]

        # What needs no secret stays inside.
        for path in ("metrics", "healthz", "readyz"):
            assert client.get(path).status_code == 404


@pytest.mark.parametrize("prefix", ["", "/calls"])
@pytest.mark.parametrize(("path", "times"), [("webhooks/8x8", 2), ("v1/calls", 1)])
def test_nginx_sends_an_event_again_that_met_the_end_of_a_kept_connection_and_nothing_else(
    prefix: str, path: str, times: int, tmp_path: Path
) -> None:
    bodies: list[bytes] = []

    def answer(line: socket.socket) -> None:
        """Keep the connection after the first request, and end it at the second."""
        with line:
            for place in range(2):
                asked = b""
                while not asked.endswith((b"first", b"next")):
                    if not (more := line.recv(65536)):
                        return
                    asked += more
                bodies.append(asked.rpartition(b"\r\n\r\n")[2])
                if place == 0:
                    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as upstream, ThreadPoolExecutor() as threads:

        def listen() -> None:
            while True:
                try:
                    line, _ = upstream.accept()
                except OSError:
                    return
                threads.submit(answer, line)

        threads.submit(listen)
        host = f"127.0.0.1:{upstream.getsockname()[1]}"
        sample = f"nginx{'-prefix' * bool(prefix)}.conf"
        try:
            with nginx(sample, host, tmp_path) as address, httpx.Client(verify=False, timeout=30) as client:
                answers = [client.post(f"{address}{prefix}/{path}", content=each) for each in (b"first", b"next")]
                assert [answer.status_code for answer in answers] == [200, 200 if times == 2 else 502]
                assert bodies.count(b"next") == times
        finally:
            upstream.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("sample", "prefix"), [("nginx.conf", ""), ("nginx-prefix.conf", "/calls")])
def test_two_receivers_that_restart_one_after_the_other_are_never_both_left_out(
    sample: str, prefix: str, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    servers = {port: started(Empty, port) for port in ports}
    hosts = f"127.0.0.1:{ports[0]} max_fails=0;\n    server 127.0.0.1:{ports[1]}"
    try:
        with nginx(sample, hosts, tmp_path) as address, httpx.Client(verify=False, timeout=30) as client:
            answers: list[httpx.Response] = []
            for port in ports:  # nginx leaves one out for 10 s after a failure, unless it is told not to
                stop(servers[port])
                answers = [client.get(f"{address}{prefix}/v1/calls") for _ in range(10)]
                assert {each.status_code for each in answers} == {200}
                servers[port] = started(Empty, port)
            assert all(each.headers["Strict-Transport-Security"] == "max-age=31536000" for each in answers)
            assert client.get(address).status_code == 404, "no page that welcomes to nginx"
            old = ssl.create_default_context()
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            old.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
            where = urlsplit(address)
            with socket.create_connection(("127.0.0.1", where.port or 443)) as line, pytest.raises(ssl.SSLError):
                old.wrap_socket(line, server_hostname="localhost")
    finally:
        for server in servers.values():
            stop(server)


class SignsIn(Empty):
    """What oauth2-proxy, and Authelia since 4.38, do behind nginx: who has the cookie is named."""

    enters = ""
    """Who enters next."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        cookies = SimpleCookie(self.headers.get("Cookie") or "")
        person = cookies["person"].value if "person" in cookies else ""
        if url.path in {"/oauth2/auth", "/api/authz/auth-request"}:
            back = quote(self.headers.get("X-Original-URL") or "", safe="")
            named = {"X-Auth-Request-Email": person, "Remote-User": person}
            elsewhere = {"Location": f"https://auth.example.com/?rd={back}"}
            self.answer(200 if person else 401, *(named if person else elsewhere).items())
            return
        out = url.path in {"/oauth2/sign_out", "/logout"}
        cookie = f"person={'' if out else self.enters}; Domain=example.com; Path=/; Secure"
        there = self.headers.get("X-Auth-Request-Redirect") or dict(parse_qsl(url.query)).get("rd")
        self.answer(302, ("Set-Cookie", cookie), ("Location", there or "/"))


def enter(browser: httpx.Client, person: str, page: str) -> httpx.Response:
    """Open a page, sign this person in where it leads, and come back."""
    SignsIn.enters = person
    led = browser.get(page, follow_redirects=True)
    SignsIn.enters = ""
    return led


@pytest.fixture
def signs_in() -> Iterator[str]:
    """The address at which people are signed in."""
    server = started(SignsIn)
    yield f"127.0.0.1:{server.server_port}"
    stop(server)


@pytest.mark.parametrize(
    ("sample", "out"),
    [
        ("nginx-authelia.conf", "https://auth.example.com/logout"),
        ("nginx-oauth2-proxy.conf", "https://calls.example.com/oauth2/sign_out"),
    ],
)
def test_people_are_named_by_the_proxy_that_has_signed_them_in(
    sample: str, out: str, signs_in: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    anyio.run(stored, url)
    sign_in = SignIn(sample, signs_in)
    names = {name: ENVIRONMENT[name] for name in ("VOICEFLOW_WEBHOOK_SECRET", "VOICEFLOW_API_SECRET")}
    header, mary = (sign_in.settings[f"VOICEFLOW_AUTH_{name}"] for name in ("HEADER", "OPERATORS"))
    claimed = {header: mary}
    home, key = "https://calls.example.com", {"Authorization": f"Bearer {names['VOICEFLOW_API_SECRET']}"}
    hold = f"{home}/ui/act/hold?queue=default&batch={quote(BATCH, safe='')}"
    with (
        Spawned(["serve", "--api", "--port", "0", "--store", url], tmp_path, {**sign_in.settings, **names}) as receiver,
        nginx("nginx.conf", (host := host_of(receiver)), tmp_path, sign_in=sign_in) as address,
        httpx.Client(transport=Browser(address), timeout=30, headers=claimed) as client,
    ):

        def send(path: str, form: Form, **typed: str) -> httpx.Response:
            sent = {name: values[-1] for name, values in form.values(**typed).items()}
            return client.post(f"{home}/ui/{path}", data=sent, headers={"Origin": home})

        assert client.get(hold).status_code == 302
        page = enter(client, "ben", hold)
        assert (page.status_code, "ben may look only" in page.text) == (403, True), page.text
        overview = Form(client.get(f"{home}/ui").text)
        assert send("act/hold", overview, queue="default", batch=BATCH).status_code == 403
        client.get(out)

        page = enter(client, mary, hold)
        assert (page.status_code, f"{mary}, operator" in page.text) == (200, True)
        assert str(page.url) == hold
        question = Form(client.get(hold).text)
        assert send("act/hold", question, note="lunch").status_code == 303
        (entry,) = client.get(f"{home}/v1/audit", headers=key).json()["entries"]
        assert (entry["by"], entry["action"], entry["batch_id"]) == (mary, "hold", BATCH)

        # Names come from nginx alone: not from clients on other paths, nor from other addresses of this machine.
        assert client.get(f"{home}/v1/audit").status_code == 401
        for address_of, status in (("127.0.0.1", 200), ("127.0.0.2", 401)):
            with httpx.Client(transport=httpx.HTTPTransport(local_address=address_of), headers=claimed) as other:
                assert other.get(f"http://{host}/ui").status_code == status

        client.get(out)
        assert client.get(hold).status_code == 302
        # Browsers follow neither a form nor a script to another host: both are told here.
        late = send("act/resume", question)
        assert (late.status_code, "nothing was done" in late.text) == (401, True)
        assert client.get(f"{home}/ui", headers={"Sec-Fetch-Mode": "cors"}).status_code == 401
        assert receiver.stop().code == 0


def host_of(receiver: Spawned) -> str:
    """The host and port of a receiver that has started."""
    return urlsplit(receiver.wait_for("voiceflow serve is ready on").split()[-3].rstrip(",")).netloc
