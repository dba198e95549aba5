"""A store that goes away when it is told to: before it did what was asked, or after, with its answer lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from voiceflow_worker.core.ports import Clock, Control, Jobs, Move, Records, Store
from voiceflow_worker.errors import StoreUnavailableError


class FlakyStore:
    """Wraps a store; `lose_before` and `lose_after` say how many of the next commits that match are lost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lost: Counter[str] = Counter()
        self.lose_before: tuple[int, Callable[[Move], bool]] = (0, lambda _: True)
        self.lose_after: tuple[int, Callable[[Move], bool]] = (0, lambda _: True)
        self.jobs: Jobs = _FlakyJobs(self, store.jobs)

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def control(self) -> Control:
        return self._store.control

    @property
    def records(self) -> Records:
        return self._store.records

    @property
    def clock(self) -> Clock:
        return self._store.clock

    def loses(self, when: str, moves: Sequence[Move]) -> bool:
        left, matches = getattr(self, when)
        if left and any(matches(move) for move in moves):
            setattr(self, when, (left - 1, matches))
            self.lost[when] += 1
            return True
        return False


class _FlakyJobs:
    def __init__(self, flaky: FlakyStore, jobs: Jobs) -> None:
        self._flaky = flaky
        self._jobs = jobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    async def commit(self, moves: Sequence[Move]) -> Sequence[bool]:
        if self._flaky.loses("lose_before", moves):
            raise StoreUnavailableError("the store went away before it took the moves")
        results = await self._jobs.commit(moves)
        if self._flaky.loses("lose_after", moves):
            raise StoreUnavailableError("the store took the moves and its answer was lost")
        return results
