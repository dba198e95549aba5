"""A campaign goes on in a copy of its store: nobody rings twice, nobody is lost, and the old store sends nothing."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.processes import running, voiceflow
from tests.support.stage import stage
from tests.support.waiting import wait_until

CALLS = 400
EVERY_CHANCE = 3.0
"""Seconds that workers are given to do the wrong thing."""


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("pair", [("sqlite", "postgres"), ("postgres", "redis"), ("redis", "sqlite")], ids="-".join)
def test_a_campaign_goes_on_in_the_new_store_though_the_copy_was_killed(
    pair: tuple[str, str], fresh_url: Callable[[str], str], tmp_path: Path
) -> None:
    old, new = map(fresh_url, pair)
    chosen = random.Random("-".join(pair))
    with ExitStack() as stack:
        on = stack.enter_context(stage(tmp_path, store=old, speed=20, state_dir=str(tmp_path / "state")))
        there = {**on.env, "VOICEFLOW_STORE": new}
        on.order("script", {"retries": 100, "outcome": "COMPLETED"})
        on.campaign(CALLS)
        worker = stack.enter_context(on.worker("--rate", "6"))
        wait_until(lambda: len(on.rang()) >= CALLS // 10, "beginning of the campaign")
        order = ("store", "copy", old, new, "--yes", "--json")
        kills = 0
        while True:
            copying = stack.enter_context(running(*order, env=on.env))
            if kills < 4:
                copying.wait_for("is held and closed")
                time.sleep(chosen.uniform(0, 0.4))
                if copying.is_running:
                    copying.end(signal.SIGKILL)
                    kills += 1
                    continue
            assert copying.wait(seconds=200) == 0, copying.told
            break
        told = json.loads(copying.stdout[-1])
        assert told["copied"]["calls"] == CALLS
        rang = on.rang()
        assert CALLS // 10 <= len(rang) < CALLS
        time.sleep(EVERY_CHANCE)  # no event says that nothing is sent: it has this long to go wrong
        assert on.rang() == rang
        assert "is closed: it was copied to" in worker.told
        doctor = voiceflow("doctor", "--json", env=on.env)
        failed = [line for line in map(json.loads, doctor.stdout) if line["level"] == "failure"]
        assert any("is closed: it was copied to" in line["message"] for line in failed)
        assert voiceflow("resume", env=on.env).wait() == 3
        assert voiceflow("enqueue", str(tmp_path / "campaign.csv"), "--say", "x", env=on.env).wait() != 0
        # What 8x8 was told to send again comes to the receiver of the new store.
        port = urlsplit(on.receiver).port
        assert on.serving.end() == 0
        assert worker.end() == 0
        stack.enter_context(running("serve", "--port", str(port), env=there)).wait_for("webhooks/8x8")
        goes_on = stack.enter_context(running("worker", "--rate", "100", env=there))
        time.sleep(EVERY_CHANCE)
        assert on.rang() == rang
        assert states(there).get("queued") == CALLS - len(rang)
        assert voiceflow("resume", env=there).wait() == 0
        wait_until(lambda: states(there) == {"completed": CALLS}, "end of the campaign")
        assert goes_on.end() == 0
        assert Counter(on.rang()).most_common(1)[0][1] == 1
        assert len(on.rang()) == CALLS
        assert states(there) == {"completed": CALLS}
        assert kills


def states(env: dict[str, str]) -> dict[str, int]:
    found = json.loads("".join(voiceflow("status", "--json", env=env).stdout))
    return {state: count for state, count in found["states"].items() if count}
