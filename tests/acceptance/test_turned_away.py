"""The API key stops being good in mid-campaign: those in flight learn it, nobody else is sent, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import voiceflow
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

CALLS = 120
GOOD = 40
WORKERS = 2
CONCURRENCY = 4
IN_FLIGHT = WORKERS * CONCURRENCY


def answered(on: Stage, status: int) -> list[str]:
    """The numbers whose POST the sandbox answered so."""
    return [entry["destination"] for entry in on.ledger() if entry["http_status"] == status]


def at_rest(on: Stage) -> bool:
    """Nothing is on its way."""
    return not {"leased", "sending"} & on.states().keys()


@pytest.mark.alone
def test_401_in_mid_campaign_is_seen_by_those_in_flight_and_resume_finishes_the_rest(
    store_url: str, tmp_path: Path
) -> None:
    with stage(tmp_path, store=store_url, outcomes="none") as on, ExitStack() as stack:
        on.campaign(CALLS)
        on.order("script", {"drop": True})  # no summaries: what a worker said of a call stands
        # Late answers keep the slots of the workers full. After so many calls the key is no good any more.
        on.order("faults", {"fault": "delay", "seconds": 0.1, "place": "arrival", "times": None})
        on.order("faults", {"fault": "delay", "seconds": 0, "next": GOOD})
        on.order("faults", {"fault": "status", "status": 401, "times": None})
        options = ("--rate", "unlimited", "--concurrency", str(CONCURRENCY))
        workers = [stack.enter_context(on.worker(*options)) for _ in range(WORKERS)]
        wait_until(lambda: bool(on.status()["holds"]) and at_rest(on), "hold with nothing on its way")

        # Given every chance, a third worker sends nothing either: it is told of the hold and exits 1.
        before = len(on.ledger())
        with on.worker("--drain", *options) as another:
            assert another.wait() == 1, another.told
        assert "401" in another.told
        assert len(on.ledger()) == before
        rang, turned_away = on.rang(), answered(on, 401)
        print(f"{len(rang)} rang, then {len(turned_away)} were answered 401 by {IN_FLIGHT} in flight at most")  # noqa: T201
        assert len(rang) == GOOD
        assert 1 <= len(turned_away) <= IN_FLIGHT
        [hold] = on.status()["holds"]
        assert (hold["scope"], hold["until"]) == ("queue", None)
        assert "401" in hold["reason"]
        assert on.states() == {"accepted": GOOD, "queued": CALLS - GOOD}, "nothing fails"

        on.order("reset", {})
        on.order("script", {"drop": True})
        assert voiceflow("resume", env=on.env).wait() == 0
        wait_until(lambda: on.states() == {"accepted": CALLS}, "end of the campaign")
        assert [worker.end() for worker in workers] == [0] * WORKERS
        assert set(Counter([*rang, *on.rang()]).values()) == {1}
        assert len(on.rang()) == CALLS - GOOD
        calls = on.calls()
        assert {call["attempt"] for call in calls} == {1}, "a 401 is no attempt"
        # A call that was journalled as the hold came has a POST that was not sent.
        again = {call["destination"] for call in calls if call["attempts"][0]["verdict"] == "turned_away"}
        assert again == set(turned_away)
