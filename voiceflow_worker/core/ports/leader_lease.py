"""Leases that let only one of several processes do a task at a time."""

from __future__ import annotations

from datetime import timedelta

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.core.ports.store import Absent, Drop, Put, Result, Step, Unit
from voiceflow_worker.errors import StoreReadOnlyError, StoreUnavailableError

NAMESPACE = "turn"
LENGTH = timedelta(seconds=30)
"""The time after which a lease ends if it is not renewed. If its holder is killed, the task waits until then."""
RENEW = timedelta(seconds=10)
RETRY = timedelta(seconds=1)


class LeaderLease:
    """The claim of one process to a task, by the name of the task.

    A process that is suspended for longer than `length` loses the lease without noticing. Work under a lease must
    therefore be safe to repeat.
    """

    def __init__(self, store: Store, name: str, *, namespace: str = NAMESPACE, length: timedelta | None = None) -> None:
        self._store = store
        self._clock = store.clock
        self._name = name
        self._namespace = namespace
        self._length = length or LENGTH
        self._token = new_worker_id()
        self._taken_at: float | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether the lease was taken or renewed so recently that it need not be renewed yet."""
        return self._age < RENEW.total_seconds()

    @property
    def is_over(self) -> bool:
        """Whether another process may have the lease by now, because this process did not take or renew it in time."""
        return self._age >= self._length.total_seconds()

    async def is_free(self) -> bool:
        """Whether no process has the lease, including this one. Raises StoreError."""
        found = await self._store.records({self._namespace: [self._name]}, now=self._clock.now())
        return not found[self._namespace]

    async def take(self) -> bool:
        """Take the lease, or renew it; False while another process has it. Raises StoreError."""
        asked, now = self._clock.monotonic(), self._clock.now()
        unit = Unit(
            needs=(Absent(self._namespace, (self._name,), but_owner=self._token),),
            puts=(Put(self._namespace, self._name, self._token, now + self._length),),
        )
        (answer,) = (await self._store.write(Step(units=(unit,), durable=False), now=now)).answers
        is_ours = answer.result is Result.DONE
        self._taken_at = asked if is_ours else None
        return is_ours

    async def keep(self) -> None:
        """Renew the lease until another process has it, or until it may be over because the store is unavailable."""
        pause = RENEW
        while True:
            await self._clock.sleep(pause.total_seconds())
            pause = RENEW
            try:
                if not await self.take():
                    return
            except (StoreUnavailableError, StoreReadOnlyError):
                pause = RETRY
                if self.is_over:
                    return

    async def give_back(self) -> None:
        """End the lease, if this process has it. Raises StoreError."""
        self._taken_at = None
        unit = Unit(drops=(Drop(self._namespace, self._name, self._token),))
        await self._store.write(Step(units=(unit,), durable=False), now=self._clock.now())

    @property
    def _age(self) -> float:
        return float("inf") if self._taken_at is None else self._clock.monotonic() - self._taken_at
