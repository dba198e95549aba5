"""The recordings that calls play: what every check sees of an address, and what `check --files` asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import anyio
import pytest

from voiceflow_worker.campaigns import recordings
from voiceflow_worker.campaigns.preview import RecordingAnswer
from voiceflow_worker.campaigns.recordings import MOST_BYTES, ask
from voiceflow_worker.cli.program import run
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.model.flows.values import file_warnings

SOUND = b"RIFF of 29 bytes, not decoded"


@contextmanager
def served(
    files: dict[str, bytes | str | None], host: str = "127.0.0.1", **headers: str
) -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and the paths that it was asked for: bytes, a redirect to a text, or no answer."""
    told = {"Content-Type": "audio/x-wav", **{name.replace("_", "-"): value for name, value in headers.items()}}
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
                    for name, value in told.items():
                        self.send_header(name, value)
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


def told(*addresses: str, private: bool = True) -> list[RecordingAnswer]:
    """What is answered at each address."""

    async def asked() -> dict[str, RecordingAnswer]:
        return await ask(addresses, network=Network(), private=private)

    found = anyio.run(asked)
    return [found[address] for address in addresses]


def test_each_address_is_asked_once_for_its_status_type_and_size() -> None:
    with served({"/a.wav": SOUND, "/b.wav": "/a.wav"}) as (url, asked):
        first, again, behind = told(f"{url}/a.wav", f"{url}/a.wav", f"{url}/b.wav")
        assert first == again == behind == RecordingAnswer(status=200, type="audio/x-wav", size=len(SOUND))
        assert sorted(asked) == ["/a.wav", "/a.wav", "/b.wav"]


def test_a_file_that_is_not_there_is_a_fault() -> None:
    with served({"/loop": "/loop", "/away": "ftp://127.0.0.1/a.wav"}) as (url, _):
        missing, loop, away, nobody = told(f"{url}/none", f"{url}/loop", f"{url}/away", "http://127.0.0.1:9/a.wav")
    assert "is not there: its server answers 404" in (missing.fault or "")
    assert "more than 3 redirects" in (loop.fault or "")
    assert "should be an http or https address" in (away.fault or "")
    assert "cannot be fetched" in (nobody.fault or "")


def test_of_a_file_without_a_size_no_more_is_read_than_8x8_plays() -> None:
    with served({"/large": bytes(3 * MOST_BYTES), "/just": bytes(MOST_BYTES)}) as (url, _):
        large, just = told(f"{url}/large", f"{url}/just")
    assert just.size == MOST_BYTES < (large.size or 0) < 2 * MOST_BYTES


def test_a_server_that_does_not_answer_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "WITHIN", 0.5)
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
    with served({"/a.wav": SOUND}) as (url, asked):
        (found,) = told(f"http://files.example.com:{url.rpartition(':')[2]}/a.wav", private=False)
    assert "is on files.example.com, which 8x8 cannot reach" in (found.fault or "")
    assert not asked


def test_a_redirect_leads_to_no_private_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "is_public", lambda address: str(address) == "127.0.0.1")
    with served({"/a.wav": SOUND}, "127.0.0.2") as (private, asked), served({}) as (_, _):
        with served({"/b.wav": f"{private}/a.wav"}) as (url, first):
            (found,) = told(f"{url}/b.wav", private=False)
        assert first == ["/b.wav"]
    assert "is on 127.0.0.2, which 8x8 cannot reach" in (found.fault or "")
    assert not asked


def test_a_name_is_private_if_any_of_its_addresses_is(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "93.184.216.34", "10.0.0.1")
    (found,) = told("http://files.example.com/a.wav", private=False)
    assert "is on files.example.com, which 8x8 cannot reach" in (found.fault or "")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://localhost/a.mp3", "is this machine only"),
        ("http://10.0.0.5/a.wav", "is not a public address"),
        ("https://files/a.wav", "is not a public host name"),
        ("https://user:secret@example.com/a.mp3", "holds a user name or a password"),
        ("https://example.com:0/a.mp3", "has the port 0"),
        ("https://example.com/a.m4a", "ends in .m4a"),
    ],
)
def test_every_check_sees_what_needs_no_fetch(address: str, said: str) -> None:
    assert any(said in warning for warning in file_warnings(address))


@pytest.mark.parametrize(
    "address", ["http://example.com/a.mp3", "https://cdn.example.com/voices/hello.wav?v=2", "https://example.com/9f3c"]
)
def test_an_ordinary_address_has_no_warning(address: str) -> None:
    assert not list(file_warnings(address))


def checked(folder: Path, address: str, capfd: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[object]]:
    """The exit code and the lines of a check of two people who hear the recording at an address."""
    flow = [{"action": "makeCall"}, {"action": "playFile", "params": {"fileUrl": address, "repetition": 2}}]
    (folder / "flow.json").write_text(json.dumps({"callflow": flow}))
    (folder / "people.csv").write_text("destination,name\n+6581234567,Ana\n+6581234568,O'Brien / José\n")
    given = ["--template", str(folder / "flow.json"), "--source", "+6531234567"]
    code = run(["check", str(folder / "people.csv"), *given, "--json", *options])
    return code, [json.loads(line) for line in capfd.readouterr().out.splitlines()]


ANSWERS = {
    "a sound": ("audio/x-wav", len(SOUND), 0, ""),
    "without a type of its own": ("binary/octet-stream", len(SOUND), 0, ""),
    "of another codec": ("audio/ogg", len(SOUND), 0, "has the type audio/ogg, and 8x8 plays WAV and MP3: listen to it"),
    "a page": ("text/html; charset=utf-8", 29, 2, "is a page (text/html), and 8x8 plays WAV and MP3: give the address"),
    "above 5 MB": ("audio/mpeg", MOST_BYTES + 1, 2, "has more than 5 MB: save it as"),
    "empty": ("audio/mpeg", 0, 2, "is empty"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_check_judges_the_answer_and_shows_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kind, size, code, said = ANSWERS[name]
    with served({"/a.wav": SOUND[:size]}, Content_Type=kind, Content_Length=str(size)) as (url, asked):
        monkeypatch.setenv("VOICEFLOW_BASE_URL", url)  # a sandbox: its recordings may be on this machine
        ended, lines = checked(tmp_path, f"{url}/a.wav", capfd, "--files")
    *others, preview = lines
    assert isinstance(preview, dict)
    findings = [each for each in others if "the recording" in str(each)]
    assert (ended, asked, said in str(findings), bool(findings)) == (code, ["/a.wav"], True, bool(said)), findings
    answer = {"status": 200, "type": kind.partition(";")[0], "size": size}
    assert preview["preview"]["recordings"] == {f"{url}/a.wav": answer}
    assert preview["preview"]["talk_seconds"] == 0, "a recording has no length here"


def test_a_recording_that_is_not_there_fails_the_check(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with served({}) as (url, asked):
        code, lines = checked(tmp_path, f"{url}/a.wav", capfd, "--files")
        assert (code, asked) == (2, [])  # this machine is not asked, but in a sandbox
        assert "which 8x8 cannot reach" in str(lines)
    code, lines = checked(tmp_path, "https://files.example.com/a.wav", capfd)
    assert code == 0


def test_a_value_becomes_one_part_of_a_path(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ["/Ana.wav", "/O%27Brien%20%2F%20Jos%C3%A9.wav"]
    with served(dict.fromkeys(paths, SOUND)) as (url, asked):
        monkeypatch.setenv("VOICEFLOW_BASE_URL", url)
        code, _ = checked(tmp_path, f"{url}/{{{{name|path_part}}}}.wav", capfd, "--files")
    assert (code, sorted(asked)) == (0, paths)
