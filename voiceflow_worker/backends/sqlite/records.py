"""Records in SQLite."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from functools import partial

from voiceflow_worker.backends.record import to_micros, to_micros_or_none
from voiceflow_worker.backends.sqlite.file.connection import Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import GroupCommit, Transaction
from voiceflow_worker.backends.sqlite.reading import Reader
from voiceflow_worker.core.ports import Records

_PER_STEP = 128
_FEW = 4
"""For more keys than this, a first query asks whether their namespace has any records at all. Many namespaces have
none."""
_PRUNED_AT_ONCE = 1000
"""The number of rows that are deleted in one transaction, which takes 5 ms."""


class SqliteRecords(Records):
    """The port `Records` in SQLite."""

    def __init__(self, writer: GroupCommit, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader
        self._sql = statements("records")

    async def put_if_absent(
        self,
        namespace: str,
        values: Mapping[str, str],
        *,
        expires_at: datetime | None,
        now: datetime,
    ) -> Mapping[str, str]:
        if not values:
            return {}
        until, at = to_micros_or_none(expires_at), to_micros(now)
        rows = [(namespace, key, value, until, at) for key, value in values.items()]
        put = partial(_put_some, self._sql["put_record_if_absent"], rows)
        return await self._writer.carry_out(put)

    async def put(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> None:
        del now
        until = to_micros_or_none(expires_at)
        rows = [(namespace, key, value, until) for key, value in values.items()]
        if rows:
            await self._writer.carry_out(partial(_write, self._sql["put_record"], rows))

    async def get(self, namespace: str, keys: Sequence[str], *, now: datetime) -> Mapping[str, str]:
        at = to_micros(now)
        if len(keys) > _FEW and not await self._reader.rows(self._sql["any_record"], [(namespace,)]):
            return {}
        return dict(await self._reader.rows(self._sql["record"], [(namespace, key, at) for key in keys]))

    async def scan(
        self, namespace: str, *, now: datetime, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[tuple[str, str]]:
        at, before = to_micros(now), behind_all_with(prefix)
        found: list[tuple[str, str]] = []
        while (left := limit - len(found)) > 0:
            page = min(left, _PER_STEP)
            rows = await self._reader.rows(self._sql["scan_records"], [(namespace, after, prefix, before, at, page)])
            found += [(key, value) for key, value in rows]
            if len(rows) < page:
                break
            after = found[-1][0]
        return found

    async def delete(self, namespace: str, keys: Mapping[str, str | None]) -> None:
        rows = [(namespace, key, value) for key, value in keys.items()]
        if rows:
            await self._writer.carry_out(partial(_write, self._sql["delete_record"], rows))

    async def prune(self, *, now: datetime) -> int:
        dropped = 0
        for statement in (self._sql["prune_records"], self._sql["prune_tombstones"]):
            dropped += await drop_all(self._writer, statement, (to_micros(now),))
        return dropped


async def drop_all(writer: GroupCommit, statement: str, bindings: Row) -> int:
    """Repeat a statement that deletes and returns some rows, until none are left. Returns how many were deleted."""
    dropped = 0
    while True:
        some = await writer.carry_out(partial(drop_some, statement, (*bindings, _PRUNED_AT_ONCE)))
        dropped += some
        if some < _PRUNED_AT_ONCE:
            return dropped


def drop_some(statement: str, bindings: Row, transaction: Transaction) -> Generator[None, None, int]:
    """Run a statement that deletes and returns some rows; returns their number."""
    yield from ()
    return len(transaction.db.rows(statement, bindings))


def _put_some(
    statement: str, rows: Sequence[Row], transaction: Transaction
) -> Generator[None, None, Mapping[str, str]]:
    """Run a statement that puts some of the rows and returns their keys. Returns the value of every key afterwards."""
    db, record = transaction.db, statements("records")["record"]
    standing: dict[str, str] = {}
    for start in range(0, len(rows), _PER_STEP):
        some = rows[start : start + _PER_STEP]
        put = {key for (key,) in db.rows_of_each(statement, some)}
        for namespace, key, value, _, at, *_ in some:
            # A record that was not put has not changed since, because the transaction excludes other writers.
            standing[key] = value if key in put else db.rows(record, (namespace, key, at))[0][1]
        yield
    return standing


def _write(statement: str, rows: Sequence[Row], transaction: Transaction) -> Generator[None, None, None]:
    for start in range(0, len(rows), _PER_STEP):
        transaction.db.run_each(statement, rows[start : start + _PER_STEP])
        yield


def behind_all_with(prefix: str) -> str | None:
    """The first text that sorts after all texts with `prefix`; None if there is no such text."""
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1]) + 1
        if code == 0xD800:  # surrogates are not characters; the next character comes after them
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[: end - 1] + chr(code)
    return None
