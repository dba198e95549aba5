"""The whole way with real processes: a file, a worker, the sandbox, the receiver. The sandbox's ledger is the judge."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from tests.acceptance.door import busiest_second, door_before
from tests.support.processes import waited_for_a_processor
from tests.support.stage import stage
from tests.support.waiting import wait_until


def seconds(stamp: str | float) -> float:
    return stamp if isinstance(stamp, int | float) else datetime.fromisoformat(stamp).timestamp()


@pytest.mark.alone
def test_a_campaign_goes_from_the_file_to_its_outcomes(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        on.campaign(40)
        with on.worker("--drain", "--rate", "unlimited") as worker:
            assert worker.wait() == 0, worker.told
        assert Counter(on.rang()).most_common(1)[0][1] == 1
        assert len(on.rang()) == 40
        assert sum(on.states().values()) == 40
        assert set(on.states()) <= {"completed", "unreached", "failed"}
        assert all(call["outcome"]["session_status"] for call in on.calls())


@pytest.mark.alone
def test_nothing_rings_after_its_validity_and_the_rest_expires_once(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        on.campaign(100, "--valid-for", "6s")
        with on.worker("--drain", "--rate", "5") as worker:
            assert worker.wait() == 0, worker.told
        calls = {call["destination"]: call for call in on.calls()}
        for entry in on.ledger():
            assert seconds(entry["at"]) <= seconds(calls[entry["destination"]]["valid_until"])
        states = on.states()
        assert states["expired"] == 100 - len(on.rang())
        assert 15 <= len(on.rang()) <= 32
        assert sum(states.values()) == 100


@pytest.mark.alone
@pytest.mark.parametrize(("rate", "burst"), [(50, 1), (50, 10)])
def test_the_rate_holds_in_every_sliding_second_and_is_used(tmp_path: Path, rate: int, burst: int) -> None:
    calls = rate * 8
    with stage(tmp_path) as on, door_before(on.sandbox, tmp_path) as door:
        on.campaign(calls)
        on.env["VOICEFLOW_BASE_URL"] = door.url
        with on.worker("--rate", str(rate), "--burst", str(burst)) as worker:
            worker.wait_for("sends queue")
            starved = waited_for_a_processor([worker.pid])
            wait_until(lambda: len(door.arrivals()) >= calls, "all calls")
            starved = waited_for_a_processor([worker.pid]) - starved
            assert worker.end() == 0, worker.told
        times = door.arrivals()
        assert len(times) == len(on.ledger()) == calls
        allowed = rate + (burst if burst > 1 else 0)
        assert busiest_second(times) <= allowed + max(2, allowed * 0.05)
        took = max(times) - min(times)
        used = (calls - burst) / took / rate
        assert used >= 0.95 - starved / took, f"{used:.1%} of the rate was used; {starved:.1f} s without a processor"
