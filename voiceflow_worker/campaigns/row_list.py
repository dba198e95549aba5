"""The rows of a campaign's files, kept with their batch, and the list that has each of them with what became of it.

A start keeps its rows before it stores the first call: each cell as it was written, with the unique key of the call, or
the reason why there is none. The list joins them with the calls whenever somebody asks for it. A file that is started
again replaces its own rows in one write, so that each row of a file is in the list once. It is known by its rows; or,
once it was mended, by its name, and by having all calls that it had before. Any other file comes behind.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import IO, Any, NamedTuple
from zoneinfo import ZoneInfo

from anyio import to_thread
from msgspec import Struct
from msgspec.structs import replace

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.files.rows import SpooledRows, reason_of
from voiceflow_worker.campaigns.intake import ClassifiedRows
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import owners_of
from voiceflow_worker.core.base.record_set import RecordSet, json_codec, json_records, text_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Condition, Drop, Put, Write
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import SheetRow
from voiceflow_worker.model.jobs.call_json import CallResult, result_of
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.printable import as_stored, printable
from voiceflow_worker.model.text.wording import in_words, rfc3339, with_moments
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.breakdown import why_nobody_was_reached
from voiceflow_worker.reporting.status import waits_in_words

ROWS, ROW_FILES, DEFINITIONS = "row", "row-file", "campaign-definition"
"""Namespaces of packed rows, by start and place, of their files, and of the last campaign that had one, each in the
group `<queue> <batch>`."""
AT_ONCE = 20
"""The packs of rows that are stored in one trip."""
_KNOWN = "known"
"""The result of a row whose call existed before, until it is known whether an earlier start of its file made it."""


_NO_DATA: Mapping[str, object] = {}


class ListedRow(NamedTuple):
    """A row of a file, and what became of it, in words. A text is empty if there is nothing to say.

    `result` is that of the call, or `bad`, `duplicate`, `suppressed`, `left out` and `erased`, and `why` the reason.
    `answer` is the name of the person's answer, else the keys pressed. `called_at` is the time of the newest attempt,
    and `called_number` where it went; `calls` counts the attempts that may have rung. `data` are the cells of the row,
    by its columns. A call that is of no file has its data instead, and no `row`.
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
        """What became of a call, or why it `waits`, by its id. Times are in `zone`, by default in UTC."""
        result, post = result_of(job), job.last_post
        if result is CallResult.OPEN:
            result = "waiting" if job.state in {JobState.QUEUED, JobState.LEASED} else "in progress"
        words = result.replace("_", " ") if isinstance(result, CallResult) else result
        is_named = job.answer is not None and result == job.answer and not isinstance(result, CallResult)
        is_told = result in {CallResult.BUSY, CallResult.NO_ANSWER}  # the reason would be the same words
        why = waits.get(job.id) or why_nobody_was_reached(job) or job.reason or ""
        if not why and words == "answered" and job.outcome is not None and job.outcome.bad_sound:
            why = f"bad sound: {job.outcome.bad_sound}"
        why = "" if is_told else why.removeprefix("cancelled: ")
        return cls(
            result="answered" if is_named else words,
            answer=printable(job.answer or job.digits or ""),
            why=printable(with_moments(why, partial(in_words, zone=zone))),
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
    """A time for files, RFC 3339, in `zone` or in UTC; empty for None."""
    if at is None or zone is None:
        return rfc3339(at) or ""
    return at.astimezone(zone).isoformat(timespec="seconds")


class KeptFile(Struct, frozen=True, kw_only=True):
    """A file whose rows are kept in packs of these `sizes`. `token` is of the start that kept them.

    Of the rows of each pack, so many are `uncalled`: bad, say, or left out. Files that were kept before this was
    counted have none.

    The newest file of a name is stored below it; earlier ones, and rows that have none, below the `digest` of the rows.
    """

    name: str
    digest: str
    at: datetime
    token: str
    columns: tuple[str, ...]
    sizes: tuple[int, ...]
    uncalled: tuple[int, ...] = ()

    @property
    def members(self) -> list[str]:
        """The keys of its packs, in their order."""
        return [_member(self.token, place) for place in range(len(self.sizes))]


Entry = Sequence[Any]
"""A row as it is kept: its number, its cells, the key of its call, or its result and the reason."""


def packed(rows: Sequence[Entry]) -> str:
    """Rows as a text for a store."""
    return base64.b64encode(zlib.compress(json.dumps(rows).encode(), 1)).decode()


def unpacked(text: str) -> list[Entry]:
    """The rows in a text."""
    rows: list[Entry] = json.loads(zlib.decompress(base64.b64decode(text)))
    return rows


@dataclass(slots=True)
class _Former:
    """What a start of a file replaces in a batch: the file `old` below a key, which has `made` these calls.

    A file of the same name with other calls is put `apart`.
    """

    key: str = ""
    old: KeptFile | None = None
    apart: tuple[Put, ...] = ()
    made: set[str | None] = field(default_factory=set[str | None])


def _group(queue: str, batch_id: str) -> str:
    return f"{queue} {batch_id}"


class RowKeeper:
    """Keeps the rows of one start: in a temporary `file` while they are read, then in the store.

    They are kept as long as calls are: for the retention, from the latest time at which one of these calls may begin.
    """

    def __init__(self, queue: CallQueue, campaign: CampaignRows, file: IO[bytes], options: CampaignOptions) -> None:
        sheet, self._definition = options.sheet, options.definition
        self._queue = queue
        self._campaign = campaign
        self._spool = SpooledRows(file)
        read = campaign.input
        self._name = "" if read is None else as_stored(f"{read.name}, sheet {sheet}" if sheet else read.name)
        self._has_name = read is not None and read.stem is not None
        self._rows = hashlib.blake2b(digest_size=16)
        self._columns = tuple(map(str.strip, campaign.source.header))
        self._latest = queue.store.clock.now()
        self._former: dict[str, _Former] = {}
        """What this start replaces, by batch."""
        self.uncalled: dict[int, tuple[str, str]] = {}
        """The results and reasons of rows, by number, that were found to make no call after all had been kept."""

    def add(self, found: ClassifiedRows) -> None:
        """Add the rows of a part of the file. Raises OSError."""
        known = {row.raw.number for row in found.known}
        entries: list[tuple[Any, ...]] = []
        for row in found.rows:
            call, raw, key, result, why = row.call, row.raw, None, "", ""
            if call is not None:
                key, result = call.unique_key, _KNOWN if raw.number in known else ""
                if call.not_before is not None or call.valid_until is not None:
                    self._latest = max(filter(None, (self._latest, call.not_before, call.valid_until)))
            elif row.duplicate_of is not None:
                result, why = "duplicate", f"the same call as row {row.duplicate_of}"
            else:
                result, why = "bad" if row.is_bad else "left out", reason_of(row.findings)
            batch_id = (call.batch_id if call is not None else None) or as_stored(self._campaign.batch_in(raw))
            cells: Sequence[str] = raw.cells
            if not self._campaign.source.kind.is_table:
                self._columns, data = tuple(dict.fromkeys((*self._columns, *raw.names))), raw.data
                cells = [_cell(data.get(name)) for name in self._columns]
            entries.append((batch_id, raw.number, cells, key, result, why))
            if batch_id not in self._former:
                self._former[batch_id] = _Former()
        self._spool.put(entries)
        self._rows.update(repr([entry[:3] for entry in entries]).encode("utf-8", "replace"))

    async def keep(self, conditions: Sequence[Condition]) -> None:
        """Replace what an earlier start of the file has kept, in one write under `conditions`. Raises StoreError."""
        store, queue, token = self._queue.store, self._queue.name, new_revision()
        policy = self._queue.policy
        now, until, data_until = store.clock.now(), self._latest + policy.retention, self._latest + policy.data_kept
        await self._find_former()
        sizes: dict[str, list[int]] = {}
        uncalled: dict[str, list[int]] = {}
        writes: list[Write] = []
        for part in self._spool:
            rows: dict[str, list[Entry]] = {}
            for batch_id, number, cells, call, result, why in part:
                shown = str(number) if isinstance(number, SheetRow) else number
                entry = (shown, cells, call, *self.uncalled.get(number, (result, why)))
                if result == _KNOWN:  # made by an earlier start of this file, or by something else
                    is_own = call in self._former[batch_id].made
                    told = (call, "", "") if is_own else (None, "duplicate", "this call was made before")
                    entry = (shown, cells, *told)
                rows.setdefault(batch_id, []).append(entry)
            for batch_id, entries in rows.items():
                packs = sizes.setdefault(batch_id, [])
                text = await to_thread.run_sync(packed, entries)
                group, member = _group(queue, batch_id), _member(token, len(packs))
                kept = [Put(ROWS, group, text, data_until, member=member)]
                if policy.data_retention is not None:  # what is left then
                    bare = await to_thread.run_sync(packed, [_bare(entry, policy.said_erased) for entry in entries])
                    kept.append(Put(ROWS, group, bare, until, member=member + _BARE))
                writes.append(Write(puts=tuple(kept)))
                packs.append(len(entries))
                uncalled.setdefault(batch_id, []).append(sum(map(_is_uncalled, entries)))
            if len(writes) >= AT_ONCE:  # not durable by themselves: the last write is, and comes later
                await store.write(BulkWrite(writes=tuple(writes), durable=False), now=now)
                writes.clear()
        for batch_id, packs in sizes.items():
            group, former = _group(queue, batch_id), self._former[batch_id]
            file = KeptFile(
                name=self._name,
                digest=self._rows.hexdigest(),
                at=now if former.old is None else former.old.at,
                token=token,
                columns=self._columns,
                sizes=(*packs,),
                uncalled=(*uncalled[batch_id],),
            )
            text = json_codec(KeptFile).text(file)
            puts = (Put(ROW_FILES, group, text, until, member=former.key), *former.apart)
            if self._definition:
                puts += (Put(DEFINITIONS, group, self._definition, data_until),)
            gone = [] if former.old is None else former.old.members
            drops = tuple(Drop(ROWS, group, None, member + kind) for member in gone for kind in ("", _BARE))
            writes.append(Write(conditions=(*conditions,), puts=puts, drops=drops))
            former.old = file
        await store.write(BulkWrite(writes=tuple(writes)), now=now)

    async def _find_former(self) -> None:
        """Find, once, what this start replaces: the same rows, or the newest file of its name, if it has its calls."""
        store, queue, digest = self._queue.store, self._queue.name, self._rows.hexdigest()
        for batch_id, former in self._former.items():
            if former.key:
                return
            former.key, group = self._name if self._has_name else digest, _group(queue, batch_id)
            wanted = [(group, digest), (group, former.key)]
            found = (await store.records({ROW_FILES: wanted}, now=store.clock.now()))[ROW_FILES]
            files = _files(store).within(group).read({each.member: each.value for each in found})
            former.key = digest if digest in files else former.key
            if (old := files.get(former.key)) is None:
                continue
            former.old, packs = old, _packs(store, group)
            for member in old.members:
                entries = await _pack(packs, member) or ()
                former.made |= {call for _, _, call, result, _ in entries if call is not None and not result}
            if old.digest != digest:
                former.apart = tuple(
                    Put(ROW_FILES, group, each.value, each.ends_at, member=old.digest) for each in found
                )
        left = {batch_id: set(former.made) for batch_id, former in self._former.items() if former.apart}
        for part in self._spool if left else ():
            for batch_id, _, _, call, _, _ in part:
                if batch_id in left:
                    left[batch_id].discard(call)
        for batch_id, calls in left.items():
            former = self._former[batch_id]
            if former.made and not calls:
                former.apart = ()
            else:
                former.old, former.made = None, set()


def _member(token: str, place: int) -> str:
    return f"{token} {place:06}"


_BARE = " erased"
"""The end of the names of packs whose cells are erased: they are there from the beginning, and outlast the others."""


def _bare(entry: Entry, said: str) -> Entry:
    number, cells, key, result, why = entry
    return number, [said] * len(cells), key, result, said if result == "bad" else why


def _is_uncalled(entry: Entry) -> bool:
    return bool(entry[3])


def _cell(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _files(store: Store) -> RecordSet[KeptFile]:
    return json_records(store, ROW_FILES, KeptFile)


def _packs(store: Store, group: str) -> RecordSet[list[Entry]]:
    return RecordSet(store, ROWS, write=packed, read=lambda _, text: unpacked(text), group=group)


async def _pack(packs: RecordSet[list[Entry]], member: str) -> list[Entry] | None:
    """A pack of rows; with its cells erased once their time is over."""
    found = await packs.get([member, member + _BARE])
    return found.get(member) or found.get(member + _BARE)


class RowList:
    """The rows of the files of a batch, file by file, each with what became of it. Methods raise StoreError."""

    def __init__(self, store: Store, queue: str, batch_id: str) -> None:
        self._group = group = _group(queue, batch_id)
        self._store = store
        self._queue = queue
        self._batch_id = batch_id
        self._files = _files(store).within(group)
        self._rows = _packs(store, group)

    async def definition(self) -> str:
        """The campaign that made the batch, as a TOML file of options; empty if it is not kept, or no more."""
        return (await text_records(self._store, DEFINITIONS).get([self._group])).get(self._group) or ""

    async def files(self) -> list[KeptFile]:
        """The files, in the order of their first starts. Several of one name are numbered."""
        named = Counter[str]()
        files = sorted(await self._files.values(), key=attrgetter("at", "name"))
        for place, file in enumerate(files):
            named[file.name] += 1
            if file.name and named[file.name] > 1:
                files[place] = replace(file, name=f"{file.name} ({named[file.name]})")
        return files

    async def read(
        self, *, first: int = 0, limit: int | None = None, uncalled: bool = False, zone: ZoneInfo | None = None
    ) -> AsyncGenerator[list[ListedRow]]:
        """The rows from the place `first` on, in parts; at most `limit` in all. It reads these rows and their calls.

        With `uncalled`, all this is of the rows that make no call, such as bad ones. Raises InvalidInputError if a new
        start of a file has replaced its rows meanwhile.
        """
        for file in await self.files():
            for member, size in zip(file.members, file.uncalled if uncalled else file.sizes, strict=not uncalled):
                if first >= size or limit == 0:
                    first -= size
                    continue
                found = await _pack(self._rows, member)
                if found is None:
                    raise InvalidInputError(f"{file.name or 'the campaign'} was just started again; read the list anew")
                found = [each for each in found if _is_uncalled(each)] if uncalled else found
                rows = found[first : None if limit is None else first + limit]
                first, limit = 0, None if limit is None else limit - len(rows)
                yield await self._joined(file, rows, zone)

    async def _joined(self, file: KeptFile, rows: Sequence[Entry], zone: ZoneInfo | None) -> list[ListedRow]:
        keys = [key for _, _, key, _, _ in rows if key is not None]
        owners = await owners_of(self._store, self._queue, keys)
        waits = await waits_in_words(self._store, owners.values(), zone=zone)
        return [
            self._row(owners.get(key), result, why, zone, waits)._replace(
                row=str(number), file=file.name, batch=self._batch_id, data=dict(zip(file.columns, cells, strict=False))
            )
            for number, cells, key, result, why in rows
        ]

    def _row(
        self, job: Job | None, result: str, why: str, zone: ZoneInfo | None, waits: Mapping[str, str]
    ) -> ListedRow:
        if job is None:
            lost = "its call was not stored: start the same campaign again"
            why = with_moments(why, partial(in_words, zone=zone))
            return ListedRow(result=result or "not called", why=printable(why if result else lost))
        if not job.body:  # a tombstone
            return ListedRow(result="deleted", why="its call had ended, and was deleted")
        if job.batch_id != self._batch_id:
            return ListedRow(result="duplicate", why=printable(f"its call is one of batch {job.batch_id}"))
        return ListedRow.of(job, zone, waits)
