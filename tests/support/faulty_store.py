"""A store whose calls fail on purpose: before they are carried out, or after, with their answer lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from voiceflow_worker.core.ports import Clock, Control, Jobs, Records, Store
from voiceflow_worker.core.store_port import Replace
from voiceflow_worker.core.store_port import Store as OneStore
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.job import Job


class Loss(StrEnum):
    """How a call to the store is lost."""

    NOTHING = "nothing"
    BEFORE = "the store goes away before it carries the call out"
    AFTER = "the store carries the call out, and its answer is lost"


@dataclass(frozen=True)
class StoreCall:
    """A call to a port of the store; its name is that of port and method, such as `domain.write`."""

    name: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    carry_out: Callable[[], Awaitable[Any]]

    @property
    def stores(self) -> list[Job]:
        """The jobs whose next version this call stores."""
        step = self.arguments[0] if self.name == "domain.write" else None
        return [unit.change.job for unit in step.units if isinstance(unit.change, Replace)] if step else []


Hook = Callable[[StoreCall], Awaitable[None]]


async def nothing(call: StoreCall) -> None:
    """Let the call be."""


@dataclass
class _Fault:
    loss: Loss
    names: tuple[str, ...]
    unless: Collection[str]
    times: int
    when: Callable[[StoreCall], bool]

    def concerns(self, call: StoreCall) -> bool:
        return call.name.startswith(self.names) and call.name not in self.unless and self.when(call)


class FaultyStore:
    """Wraps a store. `lose` lets calls fail; `before` and `after` are awaited around each call.

    What `before` raises keeps the call from being carried out; what `after` raises takes the place of its answer.
    """

    def __init__(self, store: Store, *, before: Hook = nothing, after: Hook = nothing) -> None:
        self._store = store
        self.before = before
        self.after = after
        self.made: Counter[str] = Counter()
        self.lost: Counter[Loss] = Counter()
        self.under_way = 0
        self._fault: _Fault | None = None
        self.jobs = cast("Jobs", _Port(self, "jobs", store.jobs))
        self.control = cast("Control", _Port(self, "control", store.control))
        self.records = cast("Records", _Port(self, "records", store.records))
        self.domain = cast("OneStore", _Port(self, "domain", store.domain))

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def clock(self) -> Clock:
        return self._store.clock

    @property
    def still_to_lose(self) -> int:
        """How many calls are still to fail."""
        return self._fault.times if self._fault else 0

    def lose(
        self,
        loss: Loss,
        *names: str,
        times: int = 1,
        unless: Collection[str] = (),
        when: Callable[[StoreCall], bool] = lambda _: True,
    ) -> None:
        """Let the next calls fail whose name begins with one of `names`, in place of what was to fail until now."""
        self._fault = None if loss is Loss.NOTHING else _Fault(loss, names or ("",), unless, times, when)

    async def call(self, call: StoreCall) -> Any:
        """Carry a call out, unless it is to fail."""
        await self.before(call)
        self._fail(Loss.BEFORE, call)
        self.under_way += 1
        try:
            answer = await call.carry_out()
        finally:
            self.under_way -= 1
        self.made[call.name] += 1
        await self.after(call)
        self._fail(Loss.AFTER, call)
        return answer

    def _fail(self, loss: Loss, call: StoreCall) -> None:
        fault = self._fault
        if fault is not None and fault.loss is loss and fault.times and fault.concerns(call):
            fault.times -= 1
            self.lost[loss] += 1
            raise StoreUnavailableError(f"{call.name}: {loss}")


class _Port:
    def __init__(self, store: FaultyStore, part: str, port: object) -> None:
        self._store = store
        self._part = part
        self._port = port

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if not callable(method):
            return method  # a property, such as `can_commit_locking`

        def call(*arguments: Any, **options: Any) -> Awaitable[Any]:
            return self._store.call(
                StoreCall(f"{self._part}.{name}", arguments, options, lambda: method(*arguments, **options))
            )

        return call
