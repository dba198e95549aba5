from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Program
from tests.cli.test_check import BODY, written

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "


class _Files(SimpleHTTPRequestHandler):
    """Python's own file server: it knows no ranges, as many a simple host."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        with contextlib.suppress(ConnectionError):  # whoever asks has seen enough
            super().copyfile(source, outputfile)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the library)
        pass


class _Ranges(_Files):
    """One that answers ranges, as storage services do."""

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        assert self.headers["Range"] == "bytes=0-15"
        self.send_response(206)
        self.send_header("Content-Type", "audio/wav")
        self.send_header("Content-Range", f"bytes 0-15/{len(content)}")
        self.send_header("Content-Length", "16")
        self.end_headers()
        self.wfile.write(content[:16])


@pytest.fixture(params=[_Files, _Ranges], ids=["whole", "ranges"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    served = tmp_path_factory.mktemp("served")
    handler = functools.partial(request.param, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", served
        server.shutdown()
        thread.join()


def checked(voiceflow: Program, url: str, *options: str) -> list[tuple[str, str]]:
    play = {"action": "playFile", "params": {"fileUrl": url}}
    path = written(voiceflow.folder, "body.json", {"callflow": [BODY["callflow"][0], play]})
    ended = voiceflow("check", path, "--json", *options)
    found = [(line["severity"], line["message"]) for line in ended.lines if url in line["message"]]
    assert ended.code == (2 if any(severity == "error" for severity, _ in found) else 0)
    return found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (WAV + bytes(5120 * 1024 - 100), None),
        (WAV + bytes(5120 * 1024 - 16), "has 5120 KB; 8x8 plays only files under 5120 KB"),
        (b"<html><body>Not found, but with a 200</body></html>", "is neither wav nor mp3"),
    ],
    ids=["wav", "too large", "a page"],
)
def test_a_file_that_8x8_does_not_play_is_an_error(
    voiceflow: Program, address: tuple[str, Path], content: bytes, told: str | None
) -> None:
    url, served = address
    (served / "hello.wav").write_bytes(content)
    found = checked(voiceflow, f"{url}/hello.wav", "--fetch")
    assert [severity for severity, _ in found] == ([] if told is None else ["error"])
    assert told is None or told in found[0][1]


@pytest.mark.parametrize("address", [_Files], indirect=True)
def test_a_file_that_is_not_there_is_reported(voiceflow: Program, address: tuple[str, Path]) -> None:
    url, _ = address
    ((severity, message),) = checked(voiceflow, f"{url}/gone.wav", "--fetch")
    assert severity == "error"
    assert message.startswith(f"{url}/gone.wav answers 404")


def test_nothing_is_fetched_unless_asked_for(voiceflow: Program) -> None:
    assert checked(voiceflow, "http://127.0.0.1:9/hello.wav") == []
