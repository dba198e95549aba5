"""Work of another process, done in this one: what a process costs to start is more than most work."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import pytest

from voiceflow_worker import open_store
from voiceflow_worker.service.other_process import OtherProcess

T = TypeVar("T")


@pytest.fixture
def work_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece of work has what the other process would have: its values pickled, and the store opened by its URL."""

    async def run(self: OtherProcess, work: Callable[..., Awaitable[T]], *arguments: Any, **named: Any) -> T:
        if self._url is None:
            return await work(self._store, *arguments, **named)
        order = pickle.loads(pickle.dumps((work, arguments, named)))
        async with open_store(self._url) as store:
            return cast("T", pickle.loads(pickle.dumps(await order[0](store, *order[1], **order[2]))))

    monkeypatch.setattr(OtherProcess, "run", run)
