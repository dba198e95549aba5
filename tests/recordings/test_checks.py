"""Recordings in checks of campaigns: what every check sees of an address, and what `check --files` hears."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.recordings.test_fetch import served
from tests.recordings.test_sound import SECONDS, written
from voiceflow_worker.cli.program import run
from voiceflow_worker.model.flows.values import file_warnings


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
    (folder / "prices.csv").write_text("country,currency,per_minute\nSG,USD,0.6\n")
    given = ["--template", str(folder / "flow.json"), "--source", "+6531234567", "--prices", str(folder / "prices.csv")]
    code = run(["check", str(folder / "people.csv"), *given, "--json", *options])
    return code, [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_a_recording_counts_in_the_talk_time_and_the_cost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served({"/a.wav": written()}) as (url, asked):
        monkeypatch.setenv("VOICEFLOW_BASE_URL", url)  # a sandbox: its recordings may be on this machine
        code, lines = checked(tmp_path, f"{url}/a.wav", capfd, "--files")
    preview = lines[-1]
    assert isinstance(preview, dict)
    assert (code, asked) == (0, ["/a.wav"])
    assert preview["preview"]["recordings"] == {f"{url}/a.wav": SECONDS}
    assert preview["preview"]["talk_seconds"] == 2 * 2 * SECONDS
    assert preview["preview"]["cost"] == {"USD": pytest.approx(0.6 * 4 * SECONDS / 60)}


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
    with served(dict.fromkeys(paths, written())) as (url, asked):
        monkeypatch.setenv("VOICEFLOW_BASE_URL", url)
        code, _ = checked(tmp_path, f"{url}/{{{{name|path_part}}}}.wav", capfd, "--files")
    assert (code, sorted(asked)) == (0, paths)
