"""A store whose file is replaced under processes that use it: they end with exit code 3, and nothing more is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest

from tests.cli.eight_by_eight import running
from tests.cli.running import TIMEOUT, Program, Spawned
from tests.cli.stored import enqueued, url_of
from voiceflow_worker.backends.sqlite import open_sqlite
from voiceflow_worker.cli.sending import Crew, crew
from voiceflow_worker.sandbox import Sandbox

COUNT = 40


@pytest.mark.slow
def test_a_process_that_starts_later_sends_nothing_from_the_copy(voiceflow: Program) -> None:
    folder, store = voiceflow.folder, url_of(voiceflow.folder)
    enqueued(folder, COUNT)
    assert voiceflow("backup", "copy.db", "--store", store).code == 0

    async def replaced_before_they_open_it() -> Crew:
        async with open_sqlite(store) as opened:
            (folder / "copy.db").rename(folder / "calls.db")
            async with crew(2, options={"store": store, "rate": "10"}, drain=False, files=opened.files) as workers:
                with anyio.fail_after(TIMEOUT):
                    await workers.ended()
        return workers

    with running(Sandbox(api_key="key-1")) as eight, pytest.MonkeyPatch.context() as environment:
        for name, value in eight.environment.items():
            environment.setenv(name, value)
        workers = asyncio.run(replaced_before_they_open_it())
        assert workers.exit_code == 3
        assert len(eight.sandbox.ledger) == 0


@pytest.mark.slow
def test_a_receiver_ends(voiceflow: Program) -> None:
    folder: Path = voiceflow.folder
    enqueued(folder, 1)
    with Spawned(["serve", "--port", "0", "--store", url_of(folder)], folder) as receiver:
        receiver.wait_for("is ready")
        (folder / "calls.db").unlink()
        ended = receiver.end()
    assert ended.code == 3, ended.err
    assert "was removed while this process had it open" in ended.err
    assert not (folder / "calls.db").exists()
