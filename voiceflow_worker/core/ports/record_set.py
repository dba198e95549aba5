"""Sets of small records in a store: values with an end, leases of leadership, names of queues and batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import structlog

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.core.ports.reading import count_states
from voiceflow_worker.core.ports.store import Absent, Drop, Key, Mode, Page, Put, Record, Result, Step, Unit

if TYPE_CHECKING:
    from pydantic import TypeAdapter


PAGE = 1000
_IN_A_UNIT = 50

_log = structlog.get_logger("voiceflow.store")

Value = TypeVar("Value")
Item = TypeVar("Item")


class RecordSet(Generic[Value]):
    """The records of one namespace. A record is alone in its group, which is its key; or all are `within` one group.

    `write` turns a value into text; `read` gets a key and its text, and returns the value. A record lives for
    `keep_for`, by default forever. Records that are not `durable` may be lost by a power cut. A text that `read`
    refuses was written by another version. For it, `unreadable` raises an error or returns a value to use instead. By
    default this value is None, and the record is reported in the log. The record stays in the store. Every method
    raises `StoreError`. A method that gets no keys makes no trip to the store.
    """

    def __init__(
        self,
        store: Store,
        namespace: str,
        *,
        write: Callable[[Value], str],
        read: Callable[[str, str], Value],
        keep_for: timedelta | None = None,
        durable: bool = True,
        unreadable: Callable[[str, Exception], Value | None] | None = None,
        group: str | None = None,
    ) -> None:
        self._store = store
        self._durable = durable
        self._namespace = namespace
        self.text: Callable[[Value], str] = write
        """The text of a value, as it is stored."""
        self._read = read
        self._keep_for = keep_for
        self._unreadable = unreadable
        self._group = group

    def within(self, group: str) -> RecordSet[Value]:
        """The records of one group; their keys are the members."""
        return RecordSet(
            self._store,
            self._namespace,
            write=self.text,
            read=self._read,
            keep_for=self._keep_for,
            durable=self._durable,
            unreadable=self._unreadable,
            group=group,
        )

    async def put(self, values: Mapping[str, Value], *, until: datetime | None = None) -> None:
        """Store values, and overwrite older ones; `until` replaces the usual time to live."""
        await self._put(values, Mode.ALWAYS, until)

    async def add(self, values: Mapping[str, Value]) -> dict[str, Value | None]:
        """Store the values whose keys are absent; returns the value of each key afterwards."""
        await self._put(values, Mode.KEEP, None)
        return await self.get(values)

    async def _put(self, values: Mapping[str, Value], mode: Mode, until: datetime | None) -> None:
        now = self._store.clock.now()
        ends_at = until or (None if self._keep_for is None else now + self._keep_for)
        puts: list[Put] = []
        for key, value in values.items():
            group, member = self._place(key)
            puts.append(Put(self._namespace, group, self.text(value), ends_at, mode, member))
        await self._write([Unit(puts=tuple(some)) for some in _slices(puts)])

    async def _write(self, units: Sequence[Unit]) -> None:
        if units:
            step = Step(units=tuple(units), durable=self._durable)
            await self._store.write(step, now=self._store.clock.now())

    async def get(self, keys: Iterable[str]) -> dict[str, Value | None]:
        """The values of these keys; absent keys are left out."""
        wanted = list(map(self._place, keys))
        if not wanted:
            return {}
        found = await self._store.records({self._namespace: wanted}, now=self._store.clock.now())
        return self.read({self._key(record): record.value for record in found[self._namespace]})

    def read(self, texts: Mapping[str, str]) -> dict[str, Value | None]:
        """The values in stored texts, by the keys of the texts."""
        return {key: self._value(key, text) for key, text in texts.items()}

    async def page(self, *, after: str = "", limit: int = PAGE) -> list[tuple[str, Value | None]]:
        """One page of keys and values, in the order of the keys."""
        found = await self._page(self._place(after) if after else None, limit)
        return [(self._key(record), self._value(self._key(record), record.value)) for record in found]

    async def all(self) -> list[tuple[str, Value | None]]:
        """All keys and values, page by page, in the order of the keys, of all groups if this is not `within` one."""
        found = page = await self._page(None, PAGE)
        while len(page) == PAGE:
            page = await self._page((page[-1].group, page[-1].member), PAGE)
            found = [*found, *page]
        return [(self._key(record), self._value(self._key(record), record.value)) for record in found]

    async def values(self) -> list[Value]:
        """All values that can be read, in the order of their keys."""
        return [value for _, value in await self.all() if value is not None]

    async def _page(self, after: Key | None, limit: int) -> Sequence[Record]:
        wanted = {self._namespace: Page(group=self._group, after=after, limit=limit)}
        return (await self._store.records(wanted, now=self._store.clock.now()))[self._namespace]

    def _place(self, key: str) -> Key:
        return (key, "") if self._group is None else (self._group, key)

    def _key(self, record: Record) -> str:
        return record.group if self._group is None else record.member

    async def remove(self, keys: Iterable[str]) -> None:
        """Delete records."""
        drops: list[Drop] = []
        for key in dict.fromkeys(keys):
            group, member = self._place(key)
            drops.append(Drop(self._namespace, group, None, member))
        await self._write([Unit(drops=tuple(some)) for some in _slices(drops)])

    def _value(self, key: str, text: str) -> Value | None:
        try:
            return self._read(key, text)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if self._unreadable is not None:
                return self._unreadable(key, error)
            report_unreadable(f"{self._namespace} {key}", error)
            return None


def _slices(all_of_them: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (all_of_them[start : start + _IN_A_UNIT] for start in range(0, len(all_of_them), _IN_A_UNIT))


def text_records(store: Store, namespace: str, *, keep_for: timedelta | None = None) -> RecordSet[str]:
    """Records whose values are plain text."""
    return RecordSet(store, namespace, write=str, read=lambda _, text: text, keep_for=keep_for)


def json_records(
    store: Store,
    namespace: str,
    kind: type[Value],
    *,
    key: str | None = None,
    keep_for: timedelta | None = None,
    durable: bool = True,
    unreadable: Callable[[str, Exception], Value | None] | None = None,
) -> RecordSet[Value]:
    """Records whose values are dataclasses, as JSON. Unknown fields are ignored, and fields that are None are left out.

    `key` is the name of the field that has the record's key. This field is not written.
    """
    codec: TypeAdapter[Value] = json_codec(cast("Any", kind))
    return RecordSet(
        store,
        namespace,
        write=lambda value: codec.dump_json(value, exclude_none=True, exclude=None if key is None else {key}).decode(),
        read=lambda name, text: (
            codec.validate_json(text) if key is None else codec.validate_python({**json.loads(text), key: name})
        ),
        keep_for=keep_for,
        durable=durable,
        unreadable=unreadable,
    )


@lru_cache
def json_codec(kind: Any) -> TypeAdapter[Any]:
    """The JSON codec of a dataclass. It raises ValueError for JSON that it cannot read."""
    from pydantic import TypeAdapter  # loaded when it is first used

    return TypeAdapter(kind)


def report_unreadable(record: str, error: Exception) -> None:
    """Log, once in this process, that a record was left out because this version cannot read it."""
    _report(record, str(error))


@lru_cache(maxsize=1024)
def _report(record: str, reason: str) -> None:
    _log.error(
        "a record is left out: a newer version of voiceflow-worker wrote it; upgrade this installation",
        record=record,
        reason=reason,
    )


TURNS = "turn"
LENGTH = timedelta(seconds=30)
"""The time after which a lease ends if it is not renewed. If its holder is killed, the task waits until then."""
RENEW = timedelta(seconds=10)


class LeaderLease:
    """The claim of one process to a task, by the name of the task.

    A process that is suspended for longer than `length` loses the lease without noticing. Work under a lease must
    therefore be safe to repeat.
    """

    def __init__(self, store: Store, name: str, *, namespace: str = TURNS, length: timedelta | None = None) -> None:
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
        (answer,) = await self._store.write(Step(units=(unit,), durable=False), now=now)
        is_ours = answer.result is Result.DONE
        self._taken_at = asked if is_ours else None
        return is_ours

    async def give_back(self) -> None:
        """End the lease, if this process has it. Raises StoreError."""
        self._taken_at = None
        unit = Unit(drops=(Drop(self._namespace, self._name, self._token),))
        await self._store.write(Step(units=(unit,), durable=False), now=self._clock.now())

    @property
    def _age(self) -> float:
        return float("inf") if self._taken_at is None else self._clock.monotonic() - self._taken_at


QUEUES = "queue"


class QueueNames:
    """The names of all queues that ever had a worker. Other queues have no POSTs. Names are never removed."""

    def __init__(self, store: Store) -> None:
        self._names = text_records(store, QUEUES)

    async def remember(self, queue: str) -> None:
        """Add the name of a queue. Each worker of the queue does this when it starts."""
        await self._names.put({queue: ""})

    async def known(self) -> list[str]:
        """All names, sorted."""
        return [name for name, _ in await self._names.all()]


BATCH = "batch-name"
"""Namespace of the names of batches, in the group of their queue."""
LONGEST_NAMED = 200
"""The most characters of an unknown name that a sentence repeats."""
MOST_READ = 5000
"""The most names that are searched for suggestions."""


class BatchNames:
    """The names of a queue's batches, which are stored with their calls.

    A name stays after the calls of its batch were deleted.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._names = text_records(store, BATCH).within(queue)

    async def known(self) -> list[str]:
        """All names, sorted, including the names of batches whose calls were deleted."""
        return [name for name, _ in await self._names.all()]

    @staticmethod
    async def queues(store: Store) -> set[str]:
        """The queues that ever had a batch with a name."""
        return {queue for queue, _ in await text_records(store, BATCH).all()}

    async def has_calls(self, batch_id: str) -> bool:
        """Whether the queue has a call of this batch."""
        # By its counters, because a call that only a newer version can read is a call too.
        return any((await count_states(self._store, self._queue, batch_id=batch_id)).values())

    async def why_unknown(self, batch_id: str | None) -> str | None:
        """A sentence that the queue has no calls of this batch, with names like it as a hint.

        None if the batch has calls, or if `batch_id` is None, which stands for the whole queue.
        """
        if batch_id is None or await self.has_calls(batch_id):
            return None
        near = await self.near(batch_id)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "the id of a batch is the name that was given to it, or the name of its file without its extension"
        )
        name = f"{batch_id[:LONGEST_NAMED]}{'…' if len(batch_id) > LONGEST_NAMED else ''}"
        return f"batch {name} has no calls in queue {self._queue} of {self._store.url}; {hint}"

    async def near(self, batch_id: str) -> list[str]:
        """The names most like this one, of batches that have calls: at most three, the most similar first."""
        spelled: dict[str, list[str]] = {}
        for name, _ in await self._names.page(limit=MOST_READ):
            spelled.setdefault(name.casefold(), []).append(name)
        near = get_close_matches(batch_id.casefold(), spelled, n=3)
        found = [name for each in near for name in spelled[each] if name != batch_id]
        return [name for name in found[:3] if await self.has_calls(name)]
