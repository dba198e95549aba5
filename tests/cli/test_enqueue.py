"""`voiceflow enqueue` and `voiceflow check`: files, options, findings, previews, audio files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.cli.running import Program, written

EXAMPLES = Path(__file__).parents[2] / "examples"
CAMPAIGN, FLOW = EXAMPLES / "reminder-campaign.csv", EXAMPLES / "reminder-flow.json"

BODY = {
    "callflow": [
        {"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6587654321"}},
        {"action": "say", "params": {"text": "Your order is ready.", "voiceProfile": "en-IE-EmilyNeural"}},
    ]
}
FIELDS = {"file", "row", "column", "path", "code", "severity", "message", "kind", "fields"}


def test_the_list_of_the_demo_is_partly_bad(voiceflow: Program) -> None:
    words = ("--template", FLOW, "--source", "+6531234567", "--voice-profile", "en-US-JennyNeural")
    options = (*words, "--valid-for", "2h", "--window", "any")
    ended = voiceflow("enqueue", CAMPAIGN, *options, "--skip-bad", "--json")
    report = json.loads(ended.out)
    assert (ended.code, report["enqueued"], report["duplicates"], report["rejected"]) == (0, 27, 1, 17), ended.err


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


def test_the_last_line_of_a_file_of_rows_is_its_preview(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "march.csv", "destination,name\n+6587654321,Ana\n+6587654322,Ben\n")
    say = ("--say", "Hello {{name}}", "--source", "+6531234567", "--voice-profile", "en-IE-EmilyNeural")
    ended = voiceflow("check", path, *say, "--json")
    last = ended.lines[-1]
    assert set(last) == FIELDS | {"preview", "unread", "partly_filled"}
    assert last["severity"] is None
    found = last["preview"]
    assert (found["calls"], found["countries"], found["rate"]) == (2, {"SG": 2}, 10)
    assert [each["text"] for each in found["texts"]] == ["Hello Ana", "Hello Ben"]
    people = voiceflow("check", path, *say)
    assert "Hello Ben" in people.out
    assert "without redials (rate: 10 calls/s)" in people.out
    assert "Hello Ben" in voiceflow("enqueue", path, *say, "--dry-run").out


SAY = ("--say", "Hello {{name}}", "--source", "+6531234567", "--voice-profile", "en-IE-EmilyNeural")
GOOD = "destination,name\n+6587654321,Ana\n+6587654322,Ben\n"
BAD = GOOD + "+65 8765,Cho\n,Dee\n"


def calls(voiceflow: Program, *options: str) -> list[dict[str, object]]:
    return voiceflow("calls", "list", "--json", *options).lines


def test_the_document_has_every_field_and_the_same_file_again_adds_nothing(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "march.csv", GOOD)
    ended = voiceflow("enqueue", path, *SAY, "--json")
    assert ended.code == 0
    found = ended.document
    assert {key: found[key] for key in ("batch_id", "enqueued", "duplicates", "rejected")} == {
        "batch_id": "march", "enqueued": 2, "duplicates": 0, "rejected": 0,
    }  # fmt: skip
    assert all(set(finding) == FIELDS for finding in found["findings"])
    assert [call["destination"] for call in calls(voiceflow)] == ["+6587654321", "+6587654322"]
    again = voiceflow("enqueue", path, *SAY, "--json").document
    assert (again["enqueued"], again["duplicates"], len(calls(voiceflow))) == (0, 2, 2)
    april = ("enqueue", path, *SAY, "--batch", "april")
    assert voiceflow(*april, "--dry-run").code == voiceflow(*april).code == 2
    assert voiceflow(*april, "--again", "elsewhere", "--json").document["enqueued"] == 2


def test_a_list_that_names_its_batches_is_told_with_them(voiceflow: Program) -> None:
    def of(*batches: str) -> Path:
        rows = (f"+65876543{place + 40},Ana,{batch}\n" for place, batch in enumerate(batches))
        return written(voiceflow.folder, "b1.csv", "".join(["destination,name,batch_id\n", *rows, "1,Bo,bb1\n"]))

    skip = ("--skip-bad", "--rejects", "bad.csv")
    ended = voiceflow("enqueue", of("bb2", "bb1"), *SAY, *skip)
    assert "b1.csv: batches bb1, bb2: 2 enqueued" in ended.out
    assert "enqueue bad.csv\n" in ended.out, "its rows name their batches too"
    assert voiceflow("enqueue", of("bb2", "bb1"), *SAY, *skip, "--json").document["batch_id"] is None
    ended = voiceflow("enqueue", of("bb3", "bb3"), *SAY, *skip, "--again", "elsewhere", "--json")
    assert ended.document["batch_id"] == "bb3"
    assert "batch bb3: 2 enqueued" in ended.err
    many = of(*(f"c{place:02}" for place in range(10, 22)))
    assert "batches c10, c11, c12, c13, c14, c15, c16, c17, c18, c19 and 2 more: 12 enq" in voiceflow(
        "enqueue", many, *SAY, *skip, "--again", "elsewhere"
    ).out  # fmt: skip


def test_a_bad_row_keeps_the_file_out_unless_it_is_skipped_and_put_aside(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "march.csv", BAD)
    ended = voiceflow("enqueue", path, *SAY, "--json")
    assert ended.code == 2
    errors = [(f["row"], f["column"], f["code"]) for f in ended.document["findings"] if f["severity"] == "error"]
    assert errors == [(4, "destination", -1017), (5, "destination", -1009)]
    assert (ended.document["enqueued"], ended.document["rejected"]) == (0, 2)
    assert calls(voiceflow) == []
    ended = voiceflow("enqueue", path, *SAY, "--skip-bad", "--rejects", "bad.csv", "--json")
    assert (ended.code, ended.document["enqueued"], ended.document["rejected"]) == (0, 2, 2)
    assert "enqueue bad.csv with --batch march" in ended.err
    with (voiceflow.folder / "bad.csv").open(encoding="utf-8-sig", newline="") as file:
        rejected = list(csv.DictReader(file))
    assert [(row["destination"], row["name"]) for row in rejected] == [("+65 8765", "Cho"), ("", "Dee")]
    assert all(row["reason"] for row in rejected)


def test_a_validity_that_has_passed_is_an_error_of_a_start_and_a_warning_of_a_check(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "body.json", {**BODY, "validUntil": "2020-01-31T01:00:00.000Z"})
    checked = voiceflow("check", path, "--json")
    assert (checked.code, [each["code"] for each in checked.lines if each["code"] is not None]) == (0, [-1015])
    assert voiceflow("enqueue", path).code == 2
    assert voiceflow("enqueue", path, "--valid-for", "1h").code == 0


def test_standard_input_is_a_file(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
    ended = voiceflow("enqueue", "-", *SAY, "--batch", "march", "--json")
    assert (ended.code, ended.document["enqueued"], ended.document["batch_id"]) == (0, 2, "march")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(BAD.encode())))
    refused = voiceflow("enqueue", "-", *SAY, "--batch", "march", "--json")
    assert [(f["file"], f["row"]) for f in refused.document["findings"] if f["severity"] == "error"] == [
        ("standard input", 4),
        ("standard input", 5),
    ]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
    assert "--batch" in voiceflow("enqueue", "-", *SAY).err


def test_a_dry_run_stores_nothing_and_shows_a_preview(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "march.csv", GOOD)
    options = (*SAY, "--dry-run")
    found = voiceflow("enqueue", path, *options, "--json").document["preview"]
    assert (found["calls"], found["rate"]) == (2, 10)
    people = voiceflow("enqueue", path, *options)
    assert "Hello Ana" in people.out
    bad = written(voiceflow.folder, "bad.csv", BAD)
    assert voiceflow("enqueue", bad, *SAY, "--dry-run").code == 2
    assert voiceflow("enqueue", bad, *SAY, "--dry-run", "--skip-bad").code == 0
    assert calls(voiceflow) == []
    voiceflow("rate", "0.5")
    assert voiceflow("enqueue", path, *options, "--json").document["preview"]["rate"] == 0.5, "that of the queue"
    assert "preview" not in voiceflow("enqueue", path, *SAY, "--json").document


def test_an_option_with_several_values_may_be_repeated(voiceflow: Program) -> None:
    table = "Home;Mobile;Status\n;+5511912345678;Booked\n;+5521912345678;Gone\n;+5511912345679;Moved\n"
    path = written(voiceflow.folder, "people.csv", table)
    roles = ("destination=Home", "destination=Mobile")
    columns = [word for each in roles for word in ("--columns", each)]
    hours = ("--window", "09:00-12:00", "--window", "14:00-18:00", "--days", "mon-wed", "--days", "fri")
    left_out = ("--leave-out", "Status=Gone", "--leave-out", "Status=Moved,Status=Dead")
    redials = ("--redial-on", "busy", "--redial-after", "busy=5m", "--redial-on", "error", "--redial-after", "error=2h")
    ended = voiceflow("enqueue", path, "--say", "Olá.", *SAY[2:], *columns, *hours, *left_out, *redials, "--json")
    assert (ended.code, ended.document["left_out"]) == (0, 2), ended.err
    (call,) = calls(voiceflow)
    assert call["destination"] == "+5511912345678"
    assert call["window"] == "09:00-12:00,14:00-18:00 mon-wed,fri"
    only = (
        "--only",
        "Status=Booked",
        "--only",
        "Status=Moved",
        "--dry-run",
        "--batch",
        "again",
        "--again",
        "elsewhere",
        "--json",
    )
    ended = voiceflow("enqueue", path, "--say", "Olá.", *SAY[2:], *columns, *only)
    assert ended.document["valid"] == 2


def test_equal_findings_share_a_line_that_names_the_option(voiceflow: Program) -> None:
    lines = "".join(
        json.dumps(
            {
                "callflow": [
                    {"action": "makeCall", "params": {"source": "+6531234567", "destination": f"+65876{n:05}"}},
                    {"action": "say", "params": {"text": "Hello."}},
                ]
            }
        )
        + "\n"
        for n in range(300)
    )
    path = written(voiceflow.folder, "bodies.jsonl", lines)
    people = voiceflow("enqueue", path)
    assert (people.code, people.out.count("voiceProfile")) == (2, 1)
    assert "1, 2, 3 and 297 more" in " ".join(people.out.split())
    report = voiceflow("enqueue", path, "--json")
    errors = [found for found in report.document["findings"] if found["severity"] == "error"]
    assert (len(errors), all("--voice-profile" in found["message"] for found in errors)) == (300, True)
