"""The rows of lists that call nobody, kept with their batch: the list of all rows is these and the batch's calls.

An import keeps them in the write that ends it, in place of those of an earlier list of the same file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct

from voiceflow_worker.campaigns.lists.columns import row_name
from voiceflow_worker.core.base.record_set import RecordSet, json_codec, json_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Drop, Put
from voiceflow_worker.model.jobs.call_json import CallResult, result_of
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.printable import printable
from voiceflow_worker.model.text.wording import rfc3339
from voiceflow_worker.reporting.reasons import why_nobody_was_reached

ROWS, ROW_FILES = "row", "row-file"
"""Namespaces of packed rows, and of their files, each in the group `<queue> <batch>`."""
PACK = 500
"""The rows of a pack."""
_NO_DATA: Mapping[str, object] = {}


class ListedRow(NamedTuple):
    """A row of a file, or a call, and what became of it, in words. A text is empty if there is nothing to say.

    `result` is that of the call, or `bad`, `duplicate`, `suppressed` and `left out`, and `why` the reason. `answer` is
    the name of the person's answer, else the keys pressed. `called_at` is the time of the newest attempt, and
    `called_number` where it went; `calls` counts the attempts that may have rung. `data` are the cells of the row, by
    its columns, or the data of the call, which has no `row`.
    """

    row: str = ""
    result: str = ""
    answer: str = ""
    why: str = ""
    called_at: str = ""
    called_number: str = ""
    calls: str = "0"
    file: str = ""
    batch: str = ""
    job_id: str = ""
    data: Mapping[str, object] = _NO_DATA

    @classmethod
    def of(cls, job: Job, zone: ZoneInfo | None, waits: Mapping[str, str]) -> ListedRow:
        """Return what became of a call, or why it `waits`, by its id. Times are in `zone`, by default in UTC."""
        result, post = result_of(job), job.last_post
        if result is CallResult.OPEN:
            result = "waiting" if job.state in {JobState.QUEUED, JobState.LEASED} else "calling"
        words = result.replace("_", " ") if isinstance(result, CallResult) else result
        is_named = job.answer is not None and result == job.answer and not isinstance(result, CallResult)
        is_said = result in {CallResult.BUSY, CallResult.NO_ANSWER}  # the reason would be the same words
        why = waits.get(job.id) or why_nobody_was_reached(job) or job.reason or ""
        why = "" if is_said else why.removeprefix("cancelled: ")
        return cls(
            result="answered" if is_named else words,
            answer=printable(job.answer or job.digits or ""),
            why=printable(why),
            called_at=time_text(post.began_at if post is not None else None, zone),
            called_number=job.number_of(post) if post is not None else "",
            calls=str(job.attempt),
            batch=job.batch_id or "",
            job_id=job.id,
            data={"destination": job.destination, **(job.data or {})},
        )


LISTED = ListedRow._fields[:-2]
"""The fields of a listed row that people see, beside its cells."""


def time_text(at: datetime | None, zone: ZoneInfo | None) -> str:
    """Return a time for files, RFC 3339, in `zone` or in UTC; empty for None."""
    if at is None or zone is None:
        return rfc3339(at) or ""
    return at.astimezone(zone).isoformat(timespec="seconds")


class KeptFile(Struct, frozen=True, kw_only=True):
    """A file whose rows that call nobody are kept, in packs of these `sizes`, by the import with the `token`."""

    name: str
    at: datetime
    token: str
    columns: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def members(self) -> list[str]:
        """Keys of its packs, in their order."""
        return [f"{self.token} {place:06}" for place in range(len(self.sizes))]


Entry = Sequence[Any]
"""A row as it is kept: its number, its cells, its result and the reason."""


def packed(rows: Sequence[Entry]) -> str:
    """Rows as a text for a store."""
    return base64.b64encode(zlib.compress(json.dumps(rows).encode(), 1)).decode()


def unpacked(text: str) -> list[Entry]:
    """Return the rows in a text."""
    rows: list[Entry] = json.loads(zlib.decompress(base64.b64decode(text)))
    return rows


def _group(queue: str, batch_id: str) -> str:
    return f"{queue} {batch_id}"


async def kept_rows(
    store: Store, queue: str, batch_id: str, rows: Sequence[Entry], *, name: str, columns: tuple[str, ...], token: str,
    until: datetime,
) -> tuple[list[Put], list[Drop]]:  # fmt: skip
    """Return what keeps the rows of a file, and what ends those that an earlier import of it has kept."""
    now, group = store.clock.now(), _group(queue, batch_id)
    member = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    records = (await store.records({ROW_FILES: [(group, member)]}, now=now))[ROW_FILES]
    drops = [
        Drop(ROWS, group, None, each)
        for record in records
        if (file := _files(store).read({record.member: record.value})[record.member]) is not None
        for each in file.members
    ]
    packs = [rows[first : first + PACK] for first in range(0, len(rows), PACK)]
    kept = KeptFile(name=name, at=now, token=token, columns=columns, sizes=tuple(map(len, packs)))
    puts = [Put(ROWS, group, packed(pack), until, member=each) for pack, each in zip(packs, kept.members, strict=True)]
    return [*puts, Put(ROW_FILES, group, json_codec(KeptFile).text(kept), until, member=member)], drops


def cell_text(value: object) -> str:
    """Return a cell as it is kept."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as it is spoken
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _files(store: Store) -> RecordSet[KeptFile]:
    return json_records(store, ROW_FILES, KeptFile)


class UncalledList:
    """The rows of the files of a batch that call nobody, file by file. Methods raise StoreError."""

    def __init__(self, store: Store, queue: str, batch_id: str) -> None:
        self._group = _group(queue, batch_id)
        self._store, self._batch_id = store, batch_id

    async def files(self) -> list[KeptFile]:
        """Return the files, the oldest first."""
        return sorted(await _files(self._store).within(self._group).values(), key=attrgetter("at", "name"))

    async def read(self, *, first: int = 0, limit: int | None = None) -> AsyncGenerator[list[ListedRow]]:
        """Yield the rows from the place `first` on, in parts; at most `limit` in all."""
        for file in await self.files():
            for member, size in zip(file.members, file.sizes, strict=True):
                if first >= size or limit == 0:
                    first -= size
                    continue
                records = await self._store.records({ROWS: [(self._group, member)]}, now=self._store.clock.now())
                found = [row for record in records[ROWS] for row in unpacked(record.value)]
                rows = found[first : None if limit is None else first + limit]
                first, limit = 0, None if limit is None else limit - len(rows)
                yield [_listed(row, file, self._batch_id) for row in rows]


def _listed(row: Entry, file: KeptFile, batch_id: str) -> ListedRow:
    number, cells, result, why = row
    data = dict(zip(map(row_name, file.columns), cells, strict=False))
    return ListedRow(str(number), result, why=printable(why), file=file.name, batch=batch_id, data=data)


async def kept_lists(store: Store, queue: str, names: Iterable[str]) -> set[str]:
    """Return those of these batches of a queue that have rows which call nobody. Raises StoreError."""
    groups = {_group(queue, name): name for name in names}
    found = (await store.records({ROW_FILES: [*groups]}, now=store.clock.now()))[ROW_FILES] if groups else ()
    return {groups[record.group] for record in found}
