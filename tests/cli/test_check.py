from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import Program

EXAMPLES = Path(__file__).parents[2] / "examples"
CAMPAIGN, FLOW = EXAMPLES / "reminder-campaign.csv", EXAMPLES / "reminder-flow.json"

BODY = {
    "callflow": [
        {"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6587654321"}},
        {"action": "say", "params": {"text": "Your order is ready.", "voiceProfile": "en-IE-EmilyNeural"}},
    ]
}
FIELDS = {"file", "row", "column", "path", "code", "severity", "message"}


def written(folder: Path, name: str, text: object) -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def test_files_without_errors_exit_0(voiceflow: Program) -> None:
    ended = voiceflow("check", EXAMPLES / "text-to-speech.json", EXAMPLES / "play-file.json", FLOW)
    assert ended.code == 0, ended.out
    assert "0 errors" in ended.out


def test_findings_are_json_lines_with_every_field(voiceflow: Program) -> None:
    body = {"callflow": [*BODY["callflow"], {"action": "say", "params": {"text": "x", "repetition": 9}}]}
    path = written(voiceflow.folder, "body.json", body)
    ended = voiceflow("check", path, "--json")
    assert ended.code == 2
    assert all(set(line) == FIELDS for line in ended.lines)
    errors = [(line["path"], line["severity"]) for line in ended.lines if line["severity"] == "error"]
    assert errors == [
        ("$.callflow[2].params.voiceProfile", "error"),
        ("$.callflow[2].params.repetition", "error"),
    ]


def test_one_bad_file_of_several_exits_2(voiceflow: Program) -> None:
    good = written(voiceflow.folder, "good.json", BODY)
    ended = voiceflow("check", good, "missing.json", "--json")
    assert ended.code == 2
    assert [line["file"] for line in ended.lines if line["severity"] == "error"] == ["missing.json"]


def test_a_past_validity_is_a_warning(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "body.json", {**BODY, "validUntil": "2020-01-31T01:00:00.000Z"})
    ended = voiceflow("check", path, "--json")
    assert ended.code == 0
    assert [line["code"] for line in ended.lines if line["code"] is not None] == [-1015]


def test_source_and_voice_come_from_the_settings(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(voiceflow.folder, "people.csv", "destination\n+6587654321\n")
    assert voiceflow("check", path, "--say", "Hello").code == 2
    monkeypatch.setenv("VOICEFLOW_SOURCE", "+6531234567")
    monkeypatch.setenv("VOICEFLOW_VOICE_PROFILE", "en-IE-EmilyNeural")
    assert voiceflow("check", path, "--say", "Hello").code == 0


@pytest.mark.parametrize(("content", "code"), [("{", -1001), ("[1]", -1013), ("17", -1013)])
def test_what_is_not_json_or_no_object_has_the_code_of_8x8(voiceflow: Program, content: str, code: int) -> None:
    ended = voiceflow("check", written(voiceflow.folder, "body.json", content), "--json")
    assert (ended.code, [line["code"] for line in ended.lines]) == (2, [code])


def test_the_last_line_of_a_file_of_rows_is_its_preview(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "march.csv", "destination,name\n+6587654321,Ana\n+6587654322,Ben\n")
    say = ("--say", "Hello {{name}}", "--source", "+6531234567", "--voice-profile", "en-IE-EmilyNeural")
    ended = voiceflow("check", path, *say, "--rate", "1", "--assume-seconds", "20", "--json")
    last = ended.lines[-1]
    assert set(last) == FIELDS | {"preview"}
    assert last["severity"] is None
    found = last["preview"]
    assert (found["calls"], found["countries"], found["rate"], found["talk_seconds"]) == (2, {"SG": 2}, 1, 40)
    assert found["duration_seconds"] == 1 + 15 + 20
    assert [each["text"] for each in found["texts"]] == ["Hello Ana", "Hello Ben"]
    people = voiceflow("check", path, *say)
    assert "Hello Ben" in people.out
    assert "without redials (rate: 10 calls/s)" in people.out
    assert voiceflow("check", path, *say, "--rate", "fast").code == 2
