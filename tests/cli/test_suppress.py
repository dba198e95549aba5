from __future__ import annotations

from tests.cli.running import Program
from tests.cli.test_enqueue import written


def on_the_list(voiceflow: Program) -> list[object]:
    return [entry["number"] for entry in voiceflow("suppress", "list", "--json", "--limit", "0").lines]


def test_a_number_is_put_on_the_list_and_taken_off(voiceflow: Program) -> None:
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


def test_a_file_is_imported_all_or_nothing(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "opt-outs.csv", "Name,Phone\nAna,8765 4321\nBen,none\n")
    ended = voiceflow("suppress", "import", path, "--country", "SG", "--json")
    assert ended.code == 2
    assert "nothing is imported" in ended.err
    assert ended.document["rejected"] == 1
    assert not list(voiceflow.folder.glob("*.db")), "a file that is refused needs no store"
    again = voiceflow("suppress", "import", path, "--country", "SG", "--skip-bad", "--json")
    assert (again.code, again.document["added"], again.document["known"]) == (0, 1, 0)
    told = voiceflow("suppress", "import", path, "--country", "SG").out
    assert "1 of 2 lines is not a number; nothing is imported. Correct it, or give --skip-bad\n" in told
    assert voiceflow("suppress", "import", path, "--country", "SG", "--skip-bad", "--json").document["known"] == 1
    assert on_the_list(voiceflow) == ["+6587654321"]


def test_of_several_columns_of_numbers_each_can_be_named(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "opt-outs.csv", "Name,Phone 1,Phone 2\nAna,+6587654321,\nBen,,+6587654322\n")
    refused = voiceflow("suppress", "import", path)
    assert (refused.code, "--column NAME, once for each" in refused.err) == (2, True)
    assert voiceflow("suppress", "import", path, "--column", "Phone 1", "--column", "Phone 2").code == 0
    assert on_the_list(voiceflow) == ["+6587654321", "+6587654322"]


def test_digits_that_do_not_say_their_country_are_not_put_on_the_list(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "opt-outs.csv", "Name,Phone\nAna,+6587654321\nBen,6322 2222\n")
    for command in (("add", "+6587654321", "6322 2222"), ("import", path)):
        refused = voiceflow("suppress", *command)
        told = refused.out + refused.err
        assert (refused.code, "--country SG" in told, "--country international" in told) == (2, True, True)
    voiceflow("suppress", "add", "6322 2222", "--country", "SG")
    voiceflow("suppress", "add", "6587654321", "--country", "international")
    assert on_the_list(voiceflow) == ["+6563222222", "+6587654321"]
