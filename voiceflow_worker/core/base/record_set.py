"""Sets of small records in a store, by key: values with a text form and an end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Key, Mode, Page, Put, Record, Result, Same, Write
from voiceflow_worker.errors import InvalidInputError, StoreError, StoreVersionError
from voiceflow_worker.model.copying import replace

PAGE = 1000
_IN_A_WRITE = 50
MOST_REPORTED = 10_000
"""The most unreadable records that a process logs and counts. Those of a sweep are read again each second."""
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_log = structlog.get_logger("voiceflow.store")

Value = TypeVar("Value")
Item = TypeVar("Item")


class RecordSet(Generic[Value]):
    """The records of one namespace. A record is alone in its group, which is its key; or all are `within` one group.

    `write` turns a value into text; `read` gets a key and its text, and returns the value. A record lives for
    `keep_for`, by default forever. Records that are not `durable` may be lost by a power cut. A text that `read`
    refuses was written by another version. For it, `unreadable` raises an error or returns a value to use instead. By
    default this value is None, and the record is reported in the log. The record stays in the store. Every method
    raises `StoreError`. A method that gets no keys makes no round trip to the store.
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
        """Return the records of one group; their keys are the members."""
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
        await self._put(self.puts(values, until=until))

    async def add(self, values: Mapping[str, Value]) -> dict[str, Value | None]:
        """Store the values whose keys are absent; returns the value of each key afterwards."""
        await self._put(self.puts(values, Mode.KEEP))
        return await self.get(values)

    async def change(self, key: str, change: Callable[[Value | None], Value]) -> Value:
        """Store what `change` makes of a value, as nobody has changed it since; returns it. It may be called again."""
        group, member = self._place(key)
        while True:
            now = self._store.clock.now()
            found = (await self._store.records({self._namespace: [(group, member)]}, now=now))[self._namespace]
            was = found[0].value if found else None
            value = change(None if was is None else self._value(key, was))
            ends_at = None if self._keep_for is None else now + self._keep_for
            put = Put(self._namespace, group, self.text(value), ends_at, member=member)
            write = Write(conditions=(Same(self._namespace, group, was, member),), puts=(put,))
            (answer,) = await self._store.write(BulkWrite(writes=(write,), durable=self._durable), now=now)
            if answer.result is Result.DONE:
                return value

    def puts(
        self, values: Mapping[str, Value], mode: Mode = Mode.ALWAYS, *, until: datetime | None = None
    ) -> list[Put]:
        """Return what stores values, for a write with other parts."""
        ends_at = until or (None if self._keep_for is None else self._store.clock.now() + self._keep_for)
        puts: list[Put] = []
        for key, value in values.items():
            group, member = self._place(key)
            puts.append(Put(self._namespace, group, self.text(value), ends_at, mode, member))
        return puts

    async def _put(self, puts: Sequence[Put]) -> None:
        await self._write([Write(puts=tuple(some)) for some in _slices(puts)])

    async def _write(self, writes: Sequence[Write]) -> None:
        if writes:
            bulk = BulkWrite(writes=tuple(writes), durable=self._durable)
            await self._store.write(bulk, now=self._store.clock.now())

    async def get(self, keys: Iterable[str]) -> dict[str, Value | None]:
        """Return the values of these keys; absent keys are left out."""
        wanted = list(map(self._place, keys))
        if not wanted:
            return {}
        found = await self._store.records({self._namespace: wanted}, now=self._store.clock.now())
        return self.read({self._key(record): record.value for record in found[self._namespace]})

    def read(self, texts: Mapping[str, str]) -> dict[str, Value | None]:
        """Return the values in stored texts, by the keys of the texts."""
        return {key: self._value(key, text) for key, text in texts.items()}

    async def page(self, *, after: str = "", limit: int = PAGE) -> list[tuple[str, Value | None]]:
        """One page of keys and values, in the order of the keys."""
        found = await self._page(self._place(after) if after else None, limit)
        return [(self._key(record), self._value(self._key(record), record.value)) for record in found]

    async def all(self) -> list[tuple[str, Value | None]]:
        """All keys and values, page by page, in the order of the keys, of all groups if this is not `within` one."""
        pages = record_pages(self._store, self._namespace, group=self._group)
        found = [record async for page in pages for record in page]
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
        await self._write([Write(drops=tuple(some)) for some in _slices(self.drops(keys))])

    def drops(self, keys: Iterable[str]) -> list[Drop]:
        """Return what deletes records, for a write with other parts."""
        places = map(self._place, dict.fromkeys(keys))
        return [Drop(self._namespace, group, None, member) for group, member in places]

    def _value(self, key: str, text: str) -> Value | None:
        try:
            return self._read(key, text)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if self._unreadable is not None:
                return self._unreadable(key, error)
            report_unreadable(f"{self._namespace} {key}", error)
            return None


def _slices(all_of_them: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (all_of_them[start : start + _IN_A_WRITE] for start in range(0, len(all_of_them), _IN_A_WRITE))


def text_records(store: Store, namespace: str, *, keep_for: timedelta | None = None) -> RecordSet[str]:
    """Return records whose values are plain text."""
    return RecordSet(store, namespace, write=str, read=lambda _, text: text, keep_for=keep_for)


def json_records(
    store: Store,
    namespace: str,
    kind: type[Value],
    *,
    keep_for: timedelta | None = None,
    durable: bool = True,
    unreadable: Callable[[str, Exception], Value | None] | None = None,
) -> RecordSet[Value]:
    """Return records whose values have the JSON form of `kind`."""
    codec: Codec[Value] = Codec(kind)
    return RecordSet(
        store,
        namespace,
        write=codec.text,
        read=lambda _, text: codec.value(text),
        keep_for=keep_for,
        durable=durable,
        unreadable=unreadable,
    )


class Codec(Generic[Value]):
    """The JSON form of the values of one type: of a dataclass, a struct of msgspec, or what these are made of.

    What a newer version added is ignored in a dataclass, and refused in a struct that forbids unknown fields.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._decode: Callable[[str | bytes], Value] = msgspec.json.Decoder(kind).decode

    def text(self, value: Value) -> str:
        """Return the JSON text of a value.

        Raises InvalidInputError, with the field, for one that could not be read again.
        """
        try:
            text = self._written(value)
            self.value(text)
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidInputError(f"this cannot be stored, because it could not be read again: {error}") from error
        return text

    @staticmethod
    def _written(value: object) -> str:
        try:
            return _encode(value).decode()
        except UnicodeEncodeError:
            # An answer or a summary may contain half a surrogate pair, which msgspec does not write. Evidence is never
            # dropped, so `json` writes the value, and a space marks it.
            return " " + json.dumps(msgspec.to_builtins(value, enc_hook=_plain))

    def value(self, text: str | bytes) -> Value:
        """Return the value in a text. Raises ValueError for a text that is not of this type."""
        return msgspec.convert(json.loads(text), self._kind) if text[:1].isspace() else self._decode(text)


def _plain(value: Any) -> object:
    """Return a text or number of a class of its own, such as the marked text of a template, as a plain one."""
    if isinstance(value, str):
        return str.__str__(value)
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


@lru_cache
def json_codec(kind: Any) -> Codec[Any]:
    """Return the codec of a type, made once."""
    return Codec(kind)


async def record_pages(
    store: Store, namespace: str, *, group: str | None = None, limit: int = PAGE
) -> AsyncGenerator[Sequence[Record]]:
    """Return the records of a namespace, or of one group in it, page by page. Raises StoreError."""
    page = Page(group=group, limit=limit)
    while found := (await store.records({namespace: page}, now=store.clock.now()))[namespace]:
        yield found
        if len(found) < limit:
            return
        page = replace(page, after=(found[-1].group, found[-1].member))


def newest_first(at: datetime) -> str:
    """Return a text of 18 digits for the key of a record of this time. Those of later times come first."""
    return f"{(_LATEST - at) // _MICROSECOND:018d}"


def report_unreadable(record: str, error: Exception) -> None:
    """Log and count, once in this process, that a record was skipped because this version cannot read it.

    After the first `MOST_REPORTED`, others are neither logged nor counted.
    """
    if (noted := _noted.get()) is not None:
        noted.add(str(error))
    kind = hash((record, str(error)))
    if kind in _reported or len(_reported) >= MOST_REPORTED:
        return
    _reported.add(kind)
    _log.error(
        "a record is skipped, because this version of voiceflow-worker cannot read it; if a newer one wrote it, "
        "upgrade this installation",
        record=record,
        reason=str(error),
    )


def unreadable_here() -> int:
    """Return the number of records that this process has skipped, at most `MOST_REPORTED`."""
    return len(_reported)


@contextmanager
def noting_unreadable() -> Generator[set[str]]:
    """Return a set that gets the error of each record that reads in this block skip, also of those skipped before."""
    token = _noted.set(found := set[str]())
    try:
        yield found
    finally:
        _noted.reset(token)


@contextmanager
def skip_unreadable(record: str) -> Generator[None]:
    """Do something with one record. If it is the record that fails, and not the store, it is skipped."""
    try:
        yield
    except Exception as error:
        if isinstance(error, StoreError) and not isinstance(error, StoreVersionError):
            raise
        report_unreadable(record, error)


_reported: set[int] = set()
_noted: ContextVar[set[str] | None] = ContextVar("noted", default=None)
