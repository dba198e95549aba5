"""Recordings are fetched once each, from public hosts alone, within limits of size, time and redirects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import anyio
import pytest

from tests.recordings.test_sound import SECONDS, written
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.recordings import MOST_BYTES, Sound, examine, fetch


@contextmanager
def served(files: dict[str, bytes | str | None], host: str = "127.0.0.1") -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and the paths that it was asked for: bytes, a redirect to a text, or no answer."""
    asked: list[str] = []
    ended = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path not in files:
                self.send_error(404)
                return
            match files[self.path]:
                case None:
                    ended.wait()
                case str() as target:
                    self.send_response(302)
                    self.send_header("Location", target)
                    self.end_headers()
                case data:
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}", asked
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


def told(*addresses: str, private: bool = True) -> list[Sound]:
    """What is heard at each address."""

    async def run() -> dict[str, Sound]:
        return await examine(addresses, network=Network(), private=private)

    found = anyio.run(run)
    return [found[address] for address in addresses]


def test_each_address_is_fetched_once_and_heard() -> None:
    with served({"/a.wav": written(), "/b.wav": "/a.wav"}) as (url, asked):
        first, again, behind = told(f"{url}/a.wav", f"{url}/a.wav", f"{url}/b.wav")
        assert first == again == behind == Sound(SECONDS)
        assert sorted(asked) == ["/a.wav", "/a.wav", "/b.wav"]


def test_a_file_that_is_not_there_is_a_fault() -> None:
    with served({"/loop": "/loop", "/away": "ftp://127.0.0.1/a.wav"}) as (url, _):
        missing, loop, away, nobody = told(f"{url}/none", f"{url}/loop", f"{url}/away", "http://127.0.0.1:9/a.wav")
    assert "is not there: its server answers 404" in (missing.fault or "")
    assert "more than 3 redirects" in (loop.fault or "")
    assert "should be an http or https address" in (away.fault or "")
    assert "cannot be fetched" in (nobody.fault or "")


def test_a_file_above_5_mb_is_a_fault_and_no_more_of_it_is_read() -> None:
    data = written(rate=44100, channels=2)
    with served({"/large": data + bytes(MOST_BYTES), "/just": data + bytes(MOST_BYTES - len(data))}) as (url, _):
        large, just = told(f"{url}/large", f"{url}/just")
    assert "has more than 5 MB; it is 44,100 Hz, stereo" in (large.fault or "")
    assert just.fault is None


def test_a_server_that_does_not_answer_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "WITHIN", 0.5)
    with served({"/slow": None}) as (url, _):
        (slow,) = told(f"{url}/slow")
    assert "did not arrive within" in (slow.fault or "")


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name resolve to these addresses."""

    async def resolved(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (each, 80)) for each in addresses]

    monkeypatch.setattr(anyio, "getaddrinfo", resolved)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "::1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "::ffff:127.0.0.1", "fd00::1", "fe80::1%eth0", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1",
        "255.255.255.255",
    ],
)  # fmt: skip
def test_a_host_of_this_machine_or_a_private_network_is_not_asked(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, address)
    with served({"/a.wav": written()}) as (url, asked):
        (found,) = told(f"http://files.example.com:{url.rpartition(':')[2]}/a.wav", private=False)
    assert "is on files.example.com, which 8x8 cannot reach" in (found.fault or "")
    assert not asked


def test_a_redirect_leads_to_no_private_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "is_public", lambda address: str(address) == "127.0.0.1")
    with served({"/a.wav": written()}, "127.0.0.2") as (private, asked), served({}) as (_, _):
        with served({"/b.wav": f"{private}/a.wav"}) as (url, first):
            (found,) = told(f"{url}/b.wav", private=False)
        assert first == ["/b.wav"]
    assert "is on 127.0.0.2, which 8x8 cannot reach" in (found.fault or "")
    assert not asked


def test_a_name_is_private_if_any_of_its_addresses_is(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "93.184.216.34", "10.0.0.1")
    (found,) = told("http://files.example.com/a.wav", private=False)
    assert "is on files.example.com, which 8x8 cannot reach" in (found.fault or "")
