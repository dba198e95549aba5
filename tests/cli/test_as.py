"""`--as NAME`: who did it stands with what was done."""

from __future__ import annotations

from tests.cli.running import Program
from tests.cli.stored import completed, enqueued, in_doubt, url_of

MARY = ("--as", " Mary  Tan ")


def test_the_name_stands_with_every_reason(voiceflow: Program) -> None:
    store = ("--json", "--store", url_of(voiceflow.folder))
    first, second, third = enqueued(voiceflow.folder, 3, batch_id="march")
    held = voiceflow("hold", "--reason", "a wrong date", *MARY, *store).document
    assert held["reason"] == "a wrong date (by Mary Tan)"
    assert voiceflow("hold", "--batch", "march", *MARY, *store).document["reason"] == "held by Mary Tan"
    (cancelled,) = voiceflow("calls", "cancel", first.id, *MARY, *store).lines
    assert cancelled["notes"][0]["text"] == "cancelled by Mary Tan"
    (cancelled,) = voiceflow("calls", "cancel", second.id, "--reason", "moved", *MARY, *store).lines
    assert cancelled["reason"] == "moved (by Mary Tan)"
    voiceflow("calls", "cancel", "--batch", "march", "--yes", *MARY, *store)
    ended = voiceflow("calls", "show", third.id, *store).document
    assert "the batch was cancelled by Mary Tan" in ended["reason"]


def test_the_name_stands_with_a_doubt_a_redial_and_the_list(voiceflow: Program) -> None:
    store = ("--json", "--store", url_of(voiceflow.folder))
    done, doubt = completed(voiceflow.folder), in_doubt(voiceflow.folder)
    (again,) = voiceflow("calls", "redial", done.id, "--force", *MARY, *store).lines
    assert again["notes"][0]["text"] == "called again by Mary Tan"
    resolved = voiceflow("calls", "resolve", doubt.id, "--placed", "--note", "seen", *MARY, *store).document
    assert resolved["notes"][0]["text"] == "seen (by Mary Tan)"
    (entry,) = voiceflow("suppress", "add", "+6587654329", *MARY, *store).lines
    assert entry["reason"] == "put on the list by Mary Tan"
