from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.cli.running import Program
from tests.cli.stored import empty, enqueued, url_of


def test_a_queue_is_held_and_opened(voiceflow: Program) -> None:
    store = ("--store", empty(voiceflow.folder))
    held = voiceflow("hold", "--reason", "wrong text", "--json", *store)
    assert held.code == 0
    assert held.document == {
        "scope": "queue",
        "name": "default",
        "state": "held",
        "until": None,
        "reason": "wrong text",
    }
    assert voiceflow("resume", "--json", *store).document["state"] == "open"
    assert voiceflow("status", "--json", *store).document["holds"] == []


def test_a_hold_may_end_by_itself(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 1, batch_id="march")
    found = voiceflow("hold", "--batch", "march", "--for", "10m", "--json", *store).document
    until = datetime.fromisoformat(found["until"])
    assert timedelta(minutes=9) < until - datetime.now(UTC) <= timedelta(minutes=10)
    assert (found["scope"], found["name"]) == ("batch", "march")


def test_a_hold_that_changes_nothing_says_so(voiceflow: Program) -> None:
    store = ("--store", empty(voiceflow.folder))
    held = voiceflow("hold", *store)
    shorter = voiceflow("hold", "--for", "1m", *store)
    assert shorter.out == held.out
    assert "nothing was changed" in shorter.err
    assert "nothing was changed" not in held.err


def test_a_cancelled_batch_stays_cancelled(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 1, batch_id="march")
    voiceflow("calls", "cancel", "--batch", "march", "--yes", *store)
    ended = voiceflow("resume", "--batch", "march", "--json", *store)
    assert ended.code == 1
    assert ended.document["state"] == "cancelled"
    assert "enqueue its calls as a new batch" in ended.err


def test_a_hold_for_no_time_is_refused(voiceflow: Program) -> None:
    store = ("--store", empty(voiceflow.folder))
    ended = voiceflow("hold", "--for", "0", *store)
    assert (ended.code, ended.out) == (2, "")
    assert "holds nothing" in ended.err
    assert voiceflow("status", "--json", *store).document["holds"] == []
