from __future__ import annotations

from tests.cli.running import Program
from tests.cli.test_enqueue import written


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
    assert (refused.code, "--country SG" in refused.err, "--country international" in refused.err) == (2, True, True)


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
    named = ("--column", "Phone", "--country", "SG", "--skip-bad")
    assert voiceflow("suppress", "import", path, *named, "--json").document["known"] == 1
    assert "no column 'Land'" in voiceflow("suppress", "import", path, "--country-column", "Land").err
    assert on_the_list(voiceflow) == ["+6587654321"]
