from __future__ import annotations

from datetime import datetime

import pytest

from tests.cli.running import Program
from tests.cli.stored import empty, within
from tests.support.engine import Engine
from voiceflow_worker.model.text.moment import in_words
from voiceflow_worker.webhooks import KeptEvents, OddEvent, OddReason

Store = tuple[str, str]


@pytest.fixture
def store(voiceflow: Program) -> Store:
    return ("--store", empty(voiceflow.folder))


def keep(voiceflow: Program, *bodies: bytes) -> list[str]:
    """Have these kept; their ids, the newest first."""

    async def work(engine: Engine) -> list[str]:
        kept = KeptEvents(engine.store)
        for body in bodies:
            odd = OddEvent(
                reason=OddReason.UNKNOWN_EVENT,
                answered=200,
                body=body,
                event_type="SOMETHING_NEW",
                sender="18.140.80.2",
                content_type="application/json",
            )
            await kept.keep(odd)
        return [label.id for label in await kept.newest()]

    return within(voiceflow.folder, work)


def test_kept_events_are_listed_newest_first(voiceflow: Program, store: Store) -> None:
    ids = keep(voiceflow, b'{"a": 1}', b'{"b": 22}')
    ended = voiceflow("kept", "list", "--json", *store)
    assert ended.code == 0
    assert [line["id"] for line in ended.lines] == ids
    assert [line["size"] for line in ended.lines] == [9, 8]
    assert {"id", "at", "reason", "answered", "size", "event_type", "sender", "content_type"} == set(ended.lines[0])
    assert voiceflow("kept", "list", "--json", "--limit", "1", *store).lines == ended.lines[:1]
    shown = voiceflow("kept", "list", *store).out
    moments = [in_words(datetime.fromisoformat(line["at"])) for line in ended.lines]
    assert all(each in shown for each in moments)
    assert moments[0] in voiceflow("kept", "show", ids[0], *store).out
    assert all(each in shown for each in (*ids, "SOMETHING_NEW", "18.140.80.2", "unknown_event"))


def test_a_kept_event_is_shown_as_it_came(voiceflow: Program, store: Store) -> None:
    (event_id,) = keep(voiceflow, b'{"a": "\xc3\xa9"}')
    found = voiceflow("kept", "show", event_id, "--json", *store).document
    assert (found["body"], found["cut"], found["reason"]) == ('{"a": "é"}', False, "unknown_event")
    shown = voiceflow("kept", "show", event_id, *store)
    assert shown.code == 0
    assert '{"a": "é"}' in shown.out
    assert "answered: 200" in shown.out


def test_a_cut_body_says_so(voiceflow: Program, store: Store) -> None:
    (event_id,) = keep(voiceflow, b'{"a": "' + "é".encode() * 20_000)
    found = voiceflow("kept", "show", event_id, "--json", *store).document
    assert found["cut"] is True
    assert found["size"] == 40_007
    assert found["body"].startswith('{"a": "é')
    assert "The first 16384 bytes:" in voiceflow("kept", "show", event_id, *store).out


def test_an_event_that_is_not_kept_is_bad_input(voiceflow: Program, store: Store) -> None:
    ended = voiceflow("kept", "show", "01jb3w8z5q7x9v2k4m6n8p0r2t", *store)
    assert ended.code == 2
    assert "voiceflow kept list" in ended.err


def test_kept_events_are_cleared(voiceflow: Program, store: Store) -> None:
    keep(voiceflow, b"a", b"b")
    assert voiceflow("kept", "clear", "--json", *store).document == {"cleared": 2}
    assert voiceflow("kept", "list", "--json", *store).lines == []
