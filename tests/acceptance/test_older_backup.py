"""A server restored to an older backup: held, nothing rings, the doctor says what to do, and that sets things right."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends.redis.test_rollback import back_up, restore
from tests.support.postgres import PostgresServer
from tests.support.processes import voiceflow
from tests.support.redis_server import RedisServer
from tests.support.stage import Stage, stage
from tests.support.stores import SERVERS
from tests.support.waiting import wait_until

SENT = 20
NEW = 5
EVERY_CHANCE = 3.0
"""Seconds that workers are given to do the wrong thing."""


class Aof:
    """A Redis and an older AOF."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.url = server.url
        self._server = server
        self._folder = folder

    def back_up(self) -> None:
        self._folder.mkdir()
        back_up(self._server, self._folder)

    def restore(self) -> None:
        restore(self._server, self._folder)


class BaseBackup:
    """A PostgreSQL and an older base backup."""

    def __init__(self, server: PostgresServer) -> None:
        self.url = server.url()
        self.back_up, self.restore = server.back_up, server.restore


@pytest.fixture(params=SERVERS)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Aof | BaseBackup]:
    """A server, and a copy of it that gets older."""
    if request.param == "redis":
        yield Aof(request.getfixturevalue("own_server"), tmp_path / "backup")
        return
    server = PostgresServer()
    try:
        yield BaseBackup(server.start())
    finally:
        server.close()


def doctor(on: Stage) -> tuple[int, dict[str, dict[str, Any]]]:
    """What `voiceflow doctor` says: its exit code, and its lines by their check."""
    done = voiceflow("doctor", "--json", env=on.env)
    return done.wait(), {line["check"]: line for line in map(json.loads, done.stdout)}


def failures(lines: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The remedies of what has failed."""
    return {check: line["remedy"] for check, line in lines.items() if line["level"] == "failure"}


@pytest.mark.alone
@pytest.mark.parametrize("under_a_running_worker", [True, False], ids=["worker running", "worker stopped"])
def test_a_server_restored_to_an_older_backup_is_held_and_told_and_nobody_is_called_again(
    older: Aof | BaseBackup, tmp_path: Path, under_a_running_worker: bool
) -> None:
    with stage(tmp_path, store=older.url, outcomes="none", state_dir=str(tmp_path / "state")) as on:
        on.order("script", {"drop": True})
        on.campaign(SENT)
        older.back_up()
        with on.worker("--rate", "unlimited") as worker:
            wait_until(lambda: on.states() == {"accepted": SENT}, "end of the campaign")
            _, well = doctor(on)
            assert well["journal files"]["level"] == "ok"
            if not under_a_running_worker:
                assert worker.end() == 0
            older.restore()
            if not under_a_running_worker:
                code, lines = doctor(on)
                assert code == 1
                assert f"it has lost {SENT} calls" in lines["journal files"]["message"]
                assert "do not resume" in failures(lines)["journal files"]
            with on.worker("--rate", "unlimited") as another:
                wait_until(lambda: bool(on.status()["holds"]), "hold")
                wait_until(lambda: on.states() == {"in_doubt": SENT}, "doubts")
                on.campaign(NEW, name="new", first=SENT)
                time.sleep(EVERY_CHANCE)  # no event says that nothing is sent: it has this long to go wrong
                assert Counter(on.rang()).most_common(1)[0][1] == 1
                assert len(on.rang()) == SENT, "nothing rings while the queue is held"
                [hold] = on.status()["holds"]
                assert (hold["scope"], hold["until"]) == ("queue", None)
                assert "rolled back" in hold["reason"]
                code, lines = doctor(on)
                assert code == 1
                assert any("voiceflow reconcile" in remedy for remedy in failures(lines).values()), failures(lines)
                # What the remedy says is done.
                reconciled = voiceflow("reconcile", "--json", env=on.env)
                assert reconciled.wait() == 0, reconciled.told
                # On a slow machine the worker has looked in the log before.
                states = on.states()
                assert states.pop("queued") == NEW
                assert states.keys() <= {"completed", "unreached"}, reconciled.told
                assert sum(states.values()) == SENT
                assert voiceflow("resume", env=on.env).wait() == 0
                wait_until(lambda: not {"queued", "leased", "sending"} & on.states().keys(), "end of what is new")
                assert another.end() == 0
        assert set(Counter(on.rang()).values()) == {1}
        assert len(on.rang()) == SENT + NEW
        assert sum(on.states().values()) == SENT + NEW
