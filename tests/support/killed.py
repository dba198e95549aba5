"""What processes leave of a store that are killed while they use it: what they stored is in its log alone."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import journal_of


def at_work(store: Store) -> AbstractAsyncContextManager[Engine]:
    """A worker with the journal files of its store."""
    return Engine(store, ScriptedVoice(), local_journal=journal_of(store)).at_work()


def sent_and_killed(path: Path, count: int) -> None:
    """Send so many calls of the store, and leave its files as they are before it is closed."""
    files = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]

    async def sent(kept: Path) -> None:
        url = f"sqlite:///{path}"
        async with open_store(url) as store, at_work(store) as engine:
            leased_at = store.clock.monotonic()
            for dispatch in await engine.sender.prepare(await engine.lease(count), leased_at=leased_at):
                await engine.finish(dispatch)
            for each in files:
                shutil.copy2(each, kept)

    with TemporaryDirectory() as kept:
        asyncio.run(sent(Path(kept)))
        for each in files:
            shutil.copy2(Path(kept) / each.name, each)
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0
