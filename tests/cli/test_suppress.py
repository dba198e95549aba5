from __future__ import annotations

import io

import pytest

from tests.campaigns.workbooks import workbook
from tests.cli.running import Program, written
from tests.cli.stored import enqueued
from tests.support.postgres import PostgresServer


def on_the_list(voiceflow: Program) -> list[object]:
    return [entry["number"] for entry in voiceflow("suppress", "list", "--json", "--limit", "0").lines]


def test_a_number_is_put_on_the_list_and_taken_off(voiceflow: Program) -> None:
    assert voiceflow("doctor", "--make").code == 0
    who = ("--note", "asked by mail", "--as", "Mary Tan", "--json")
    added = voiceflow("suppress", "add", "8765 4321", "--country", "SG", *who)
    assert added.code == 0
    (entry,) = added.lines
    assert set(entry) == {"number", "since", "until", "reason", "job_id"}
    assert (entry["number"], entry["until"], entry["reason"]) == ("+6587654321", None, "asked by mail (by Mary Tan)")
    assert on_the_list(voiceflow) == ["+6587654321"]
    removed = voiceflow("suppress", "remove", "+6587654321", "+6587654322", "--json")
    assert removed.code == 1
    assert removed.lines == [
        {"number": "+6587654321", "removed": True}, {"number": "+6587654322", "removed": False},
    ]  # fmt: skip
    assert on_the_list(voiceflow) == []
    refused = voiceflow("suppress", "add", "+6587654321", "6322 2222")
    assert (refused.code, "Set `--country`" in refused.err) == (2, True)


def test_every_number_of_a_file_is_imported_and_lines_that_give_none_are_named(voiceflow: Program) -> None:
    lines = "Name,Phone\nAna,8765 4321\nBen,none\nCy,8765 4322 / 8765 4323\nDee,+6587654324\n"
    path = written(voiceflow.folder, "opt-outs.csv", lines)
    assert voiceflow("doctor", "--make").code == 0
    for is_known in (False, True):
        ended = voiceflow("suppress", "import", path, "--country", "SG", "--json")
        assert (ended.code, ended.document["added"] == 0, ended.document["known"] == 0) == (1, is_known, not is_known)
        found = [(each["row"], each["severity"]) for each in ended.document["findings"]]
        assert found == [(3, "error"), (4, "warning")], ended.document
    told = voiceflow("suppress", "import", path, "--country", "SG", "--dry-run")
    assert (told.code, "1 bad. Nothing is stored" in told.out) == (1, True)
    assert "no column 'Land'" in voiceflow("suppress", "import", path, "--columns", "country=Land").err
    assert {*on_the_list(voiceflow)} >= {"+6587654321", "+6587654322", "+6587654323", "+6587654324"}


def test_a_file_is_taken_back_as_a_whole_or_not_at_all(voiceflow: Program) -> None:
    assert voiceflow("doctor", "--make").code == 0
    for doubtful in ("none", "8765 4322 / 8765 4323"):
        path = written(voiceflow.folder, "opt-outs.csv", f"Phone\n8765 4321\n{doubtful}\n")
        voiceflow("suppress", "import", path, "--country", "SG")
        stood = on_the_list(voiceflow)
        back = voiceflow("suppress", "remove", "--file", path, "--country", "SG")
        assert (back.code, "line 3" in back.out + back.err, on_the_list(voiceflow)) == (1, True, stood)
        assert voiceflow("suppress", "remove", *map(str, stood)).code == 0


def test_a_workbook_is_imported_without_the_rows_that_are_left_out(voiceflow: Program) -> None:
    lines = [["Phone", "Status"], ["8765 4321", "Left"], ["8765 4322", "Active"], ["8765 4323", "New"]]
    path = str(workbook(voiceflow.folder, lines))
    left_out = ("--leave-out", "Status=Active", "--leave-out", "Status=New")
    options = ("--country", "SG", "--sheet", "People", *left_out)
    ended = voiceflow("suppress", "import", path, *options, "--json")
    assert (ended.code, ended.document["added"], ended.document["left_out"]) == (0, 1, 2), ended.err
    assert voiceflow("suppress", "remove", "--file", path, *options).code == 0
    assert on_the_list(voiceflow) == []


MIXED = "phone,name\n0171 2345678,Ana\n0664 1234567,Ben\n079 123 45 67,Cleo\n+33612345678,Dan\n"


def test_a_file_is_taken_back_as_far_as_it_alone_put_numbers_on_the_list(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "list.csv", MIXED)
    assert voiceflow("doctor", "--make").code == 0
    assert voiceflow("suppress", "add", "+33612345678", "--note", "asked").code == 0
    assert voiceflow("suppress", "import", path, "--country", "DE", "--json").document["known"] == 1
    voiceflow("suppress", "add", "0171 2345678", "--country", "DE")
    back = voiceflow("suppress", "remove", "--file", path, "--country", "DE")
    assert (back.code, "2 numbers taken off the list, 2 left on it, 0 not on it" in back.out) == (0, True)
    assert "+33612345678 stays on the list" in back.err
    assert on_the_list(voiceflow) == ["+33612345678", "+491712345678"]
    assert voiceflow("suppress", "remove", "--file", path, "--country", "DE").code == 1
    for wrong in ((), ("+33612345678", "--file", path), ("+33612345678", "--columns", "destination=phone")):
        assert voiceflow("suppress", "remove", *wrong).code == 2
    assert on_the_list(voiceflow) == ["+33612345678", "+491712345678"]


def test_a_person_is_erased_after_a_question(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ("--store", "sqlite:///calls.db")
    enqueued(voiceflow.folder, 3)
    (first, *_) = voiceflow("calls", "list", "--json", *store).lines
    number = first["destination"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{number}\n"))
    asked = voiceflow("forget", "-", *store)
    assert asked.code == 2
    for told in (f"Erase {number} for good?", "Erased: their calls", "Kept: an opt-out", "Not erased by this"):
        assert told in asked.err, told
    done = voiceflow("forget", number, "--yes", "--note", "asked by mail", "--json", *store)
    assert done.document["erased"]["calls"] == 1
    goes, stays = (done.err.index(told) for told in ("Erased: their calls", "Kept: an opt-out"))
    assert goes < stays < done.err.index("not ours: backups"), "it is told before it is done"
    assert number not in done.out + done.err
    assert len(voiceflow("calls", "list", "--json", *store).lines) == 2


def test_the_first_opt_out_makes_the_store(voiceflow: Program, postgres_server: PostgresServer) -> None:
    numbers = written(voiceflow.folder, "numbers.csv", "number\n+6587654321\n")
    for place, command in enumerate((("suppress", "add", "+6587654321"), ("suppress", "import", numbers))):
        for url in ("sqlite:///made.db", postgres_server.url(schema=f"made_{place}")):
            store = ("--store", url)
            wrong = voiceflow("suppress", "remove", "+6587654321", *store)
            assert (wrong.code, "doctor --make" in wrong.err) == (3, True), wrong
            assert voiceflow(*command, *store).code == 0
            assert [each["number"] for each in voiceflow("suppress", "list", "--json", *store).lines] == ["+6587654321"]
        (voiceflow.folder / "made.db").unlink()
