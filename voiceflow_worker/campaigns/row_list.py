"""The rows of a campaign's files, kept with their batch, and the list that has each of them with what became of it.

A start keeps its rows before it stores the first call: each cell as it was written, with the unique key of the call, or
the reason why there is none. The list joins them with the calls whenever somebody asks for it. It has each person once:
what a start keeps supersedes, in the same write, the rows of earlier files of the batch with the same calls, or with
calls that were replaced, and those without a call that are the same but for the cells that were at fault; and all rows
of a file of its name, if it has all calls of that.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter
from typing import IO, Any, NamedTuple
from zoneinfo import ZoneInfo

from anyio import to_thread
from msgspec import Struct
from msgspec.structs import replace

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.enqueue_report import End
from voiceflow_worker.campaigns.lists.rows import Row
from voiceflow_worker.campaigns.lists.source import Spool
from voiceflow_worker.campaigns.rejects import reason_of
from voiceflow_worker.campaigns.row_ends import RowEnd, RowEnds
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.base.identity import BATCH, batch_puts, new_revision, queue_put
from voiceflow_worker.core.base.keys import erased_keys, owners_of
from voiceflow_worker.core.base.record_set import RecordSet, json_codec, json_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Condition, Drop, Page, Put, Record, Wanted, Write
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.call_json import CallResult, result_of
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.printable import as_stored, printable
from voiceflow_worker.model.text.wording import rfc3339
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.reasons import why_nobody_was_reached
from voiceflow_worker.reporting.status import waits_in_words

ROWS, ROW_FILES = "row", "row-file"
"""Namespaces of packed rows, by start and place, and of their files, each in the group `<queue> <batch>`."""
AT_ONCE = 20
"""The packs of rows that are stored in one trip."""


_NO_DATA: Mapping[str, object] = {}
_RESULTS = {End.BAD: "bad", End.SUPPRESSED: "suppressed", End.LEFT_OUT: "left out", End.LATE: "left out"}
"""The results of rows that call nobody; empty where a stored call stands for the row."""
_NOT_STORED = "its call was not stored: enqueue the list again"


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
            result = "waiting" if job.state in {JobState.QUEUED, JobState.LEASED} else "calling"
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
    """A time for files, RFC 3339, in `zone` or in UTC; empty for None."""
    if at is None or zone is None:
        return rfc3339(at) or ""
    return at.astimezone(zone).isoformat(timespec="seconds")


class KeptFile(Struct, frozen=True, kw_only=True):
    """A file whose rows are kept in packs of these `sizes`. `token` is of the start that kept them.

    Of the rows of each pack, so many are `uncalled`: bad, say, or left out. Files that were kept before this was
    counted have none. It is stored below the `digest` of its rows.
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


_Cells = tuple[str, ...]
_Spooled = tuple[str, tuple[Any, ...], tuple[Any, ...] | None, bool, bool, tuple[Any, ...] | None]
"""A row in the temporary file: its batch, the row, its call, whether it makes that and has a made key, and of
one without a call the key that stands for it, its result, the reason, and the columns at fault."""
_KEY = CheckedCall._fields.index("unique_key")
Entry = Sequence[Any]
"""A row as it is kept: its number, its cells, the key of its call, or its result and the reason; of one without a call
the columns at fault."""


def packed(rows: Sequence[Entry]) -> str:
    """Rows as a text for a store."""
    return base64.b64encode(zlib.compress(json.dumps(rows).encode(), 1)).decode()


def unpacked(text: str) -> list[Entry]:
    """The rows in a text."""
    rows: list[Entry] = json.loads(zlib.decompress(base64.b64decode(text)))
    return rows


def _group(queue: str, batch_id: str) -> str:
    return f"{queue} {batch_id}"


class RowKeeper:
    """Keeps the rows of one list: in a temporary `file` while they are read, then in the store.

    Unless it `keeps_all`, only those that make calls are in the file. The store keeps rows as long as calls: for the
    retention, from the latest time at which one of these calls may begin.
    """

    def __init__(self, campaign: CampaignRows, file: IO[bytes], options: CampaignOptions, *, keeps_all: bool) -> None:
        sheet = options.sheet
        self._campaign, self._keeps_all = campaign, keeps_all
        self._spool = Spool(file)
        self._to_call = 0
        read = campaign.input
        self._name = "" if read is None else as_stored(f"{read.name}, sheet {sheet}" if sheet else read.name)
        self._rows = hashlib.blake2b(digest_size=16)
        self._columns = tuple(map(str.strip, campaign.source.header))
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._kept: dict[str, KeptFile | None] = {}
        """What this start has kept before, by batch."""
        self._named = set[str]()
        """The batches whose names are known."""
        self._theirs = set[str]()
        """The keys of calls that rows with other keys change, or stand for."""

    def __len__(self) -> int:
        """How many rows make calls, as far as it was known when they were added."""
        return self._to_call

    def add(self, ends: Iterable[RowEnd]) -> None:
        """Add the rows of a part of the file. Raises OSError."""
        spooled: list[_Spooled] = []
        for end in ends:
            if (row := end.row) is None or not (self._keeps_all or end.makes_call):
                continue
            call, raw = row.call, row.raw
            batch_id = (None if call is None else call.batch_id) or as_stored(self._campaign.batch_in(raw))
            self._kept.setdefault(batch_id, None)
            if call is None:
                wrong, key, result, why = sorted({each.column or "" for each in row.findings} - {""}), end.key, "", ""
                if row.duplicate_of is not None:
                    result, why = "duplicate", f"the same call as row {row.duplicate_of}"
                elif key is None:
                    result, why = _RESULTS.get(end.kind, ""), reason_of(row.findings)
                spooled.append((batch_id, tuple(raw), None, False, False, (key, result, why, wrong)))
                continue
            if call.not_before is not None or call.valid_until is not None:
                self._latest = max(filter(None, (self._latest, call.not_before, call.valid_until)))
            makes_call = end.makes_call
            self._to_call += makes_call
            spooled.append((batch_id, tuple(raw), tuple(call), makes_call, row.has_made_key, None))
        self._spool.put(spooled)
        if self._keeps_all:
            rows = [(batch_id, Row._make(raw)) for batch_id, raw, *_ in spooled]
            if not self._campaign.source.kind.is_table:
                names = (each.names for _, each in rows)
                self._columns = tuple(dict.fromkeys(chain(self._columns, *names)))
            written = repr([(batch_id, each.number, each.cells, each.names) for batch_id, each in rows])
            self._rows.update(written.encode("utf-8", "replace"))

    def _cells_of(self, raw: Row) -> Sequence[str]:
        if self._campaign.source.kind.is_table:
            return raw.cells
        data = raw.data
        return [_cell(data.get(name)) for name in self._columns]

    def to_call(self, among: Collection[int] | None = None, *, but: Collection[int] = ()) -> Iterator[list[ReadRow]]:
        """The rows that make calls, in parts: all `but` those with these numbers, or those `among` these."""
        for part in self._spool:
            yield [
                ReadRow(Row._make(raw), made := CheckedCall._make(call), made.digest, None, has_made_key)
                for _, raw, call, makes_call, has_made_key, _ in part
                if call is not None and makes_call and (among is None or raw[0] in among) and raw[0] not in but
            ]

    async def keep(self, queue: CallQueue, ends: RowEnds, conditions: Sequence[Condition]) -> None:
        """Replace what an earlier start of the file has kept, in one write under `conditions`, by how rows end now.

        Raises StoreError.
        """
        self._theirs = set(ends.keys())
        store, token, now = queue.store, new_revision(), queue.store.clock.now()
        until = max(now, self._latest) + queue.policy.retention
        new = [batch_id for batch_id, kept in self._kept.items() if kept is None]
        earlier = {batch_id: await self._superseded(queue, batch_id) for batch_id in new}
        sizes: dict[str, list[int]] = {}
        uncalled: dict[str, list[int]] = {}
        writes: list[Write] = []
        for part in self._spool:
            rows: dict[str, list[Entry]] = {}
            for batch_id, fields, call, _, _, silent in part:
                key, *result, wrong = silent or ((call or ())[_KEY], "", "", ())
                raw = Row._make(fields)
                end = ends.of(raw.number)
                stands = None if end is None or end.makes_call else end.key
                told = (_RESULTS.get(end.kind, ""), end.why) if end is not None and end.why else result
                entry: Entry = (key, *told) if stands is None else (stands, "", "")
                more: Entry = () if stands or not wrong else (wrong,)
                row: Entry = (raw.number, self._cells_of(raw), *entry, *more)
                rows.setdefault(batch_id, []).append(row)
            for batch_id, entries in rows.items():
                packs = sizes.setdefault(batch_id, [])
                text = await to_thread.run_sync(packed, entries)
                group, member = _group(queue.name, batch_id), _member(token, len(packs))
                writes.append(Write(puts=(Put(ROWS, group, text, until, member=member),)))
                packs.append(len(entries))
                uncalled.setdefault(batch_id, []).append(sum(map(_is_uncalled, entries)))
            if len(writes) >= AT_ONCE:  # not durable by themselves: the last write is, and comes later
                await store.write(BulkWrite(writes=tuple(writes), durable=False), now=now)
                writes.clear()
        for batch_id, packs in sizes.items():
            group, own = _group(queue.name, batch_id), self._kept[batch_id]
            since, more, ended = earlier.get(batch_id) or (None, (), ())
            file = KeptFile(
                name=self._name,
                digest=self._rows.hexdigest(),
                at=min(now, since) if since else now if own is None else own.at,
                token=token,
                columns=self._columns,
                sizes=(*packs,),
                uncalled=(*uncalled[batch_id],),
            )
            puts = (*more, Put(ROW_FILES, group, json_codec(KeptFile).text(file), until, member=file.digest))
            if batch_id not in self._named and (not ends.counts[End.NEW] or packs == uncalled[batch_id]):
                # No call names the batch, whose rows are searched.
                puts += (queue_put(queue.name), *batch_puts(queue.name, batch_id, at=now, is_campaign=True))
                self._named.add(batch_id)
            drops = (*ended, *(() if own is None else _drops(group, own, member=own.digest, but=own.digest)))
            writes.append(Write(conditions=(*conditions,), puts=puts, drops=drops))
            self._kept[batch_id] = file
        await store.write(BulkWrite(writes=tuple(writes)), now=now)

    async def _superseded(
        self, queue: CallQueue, batch_id: str
    ) -> tuple[datetime | None, Sequence[Put], Sequence[Drop]]:
        """What is stored and dropped because this start supersedes rows of earlier files of a batch. Raises StoreError.

        With it, when the first of these files was started.
        """
        store, group, since = queue.store, _group(queue.name, batch_id), list[datetime]()
        stored, drops = list[Put](), list[Drop]()
        now, digest, left_over = store.clock.now(), self._rows.hexdigest(), dict[tuple[str, ...], Counter[_Cells]]()
        wanted: Wanted = {ROW_FILES: Page(group=group), BATCH: [(queue.name, batch_id)]}
        known = await store.records(wanted, now=now)
        records, self._named = known[ROW_FILES], self._named | {each.member for each in known[BATCH]}
        read = _files(store).within(group).read({each.member: each.value for each in records})
        for record in records:
            if (file := read.get(record.member)) is None:
                continue
            token, sizes, uncalled, puts, calls = new_revision(), list[int](), list[int](), list[Put](), set[bool]()
            async for pack, rows in _packs_of(store, group, file):
                calls |= {self._has_call(entry[2]) for entry in rows if entry[2] is not None}
                if left := [entry for entry in rows if not self._has(file, entry, left_over)]:
                    member = _member(token, len(sizes))
                    puts.append(Put(ROWS, group, packed(left), pack.ends_at, member=member))
                    sizes.append(len(left))
                    uncalled.append(sum(map(_is_uncalled, left)))
            is_given_again = bool(self._name) and file.name == self._name and calls == {True}
            if is_given_again or file.digest == digest:
                sizes.clear()
            elif sum(sizes) == sum(file.sizes):
                continue
            since.append(file.at)
            drops += _drops(group, file, but=digest, member=record.member)
            if sizes:
                text = json_codec(KeptFile).text(replace(file, token=token, sizes=(*sizes,), uncalled=(*uncalled,)))
                stored += [*puts, Put(ROW_FILES, group, text, record.ends_at, member=f"{token} {file.digest}")]
        return min(since, default=None), stored, drops

    def _has(self, file: KeptFile, entry: Entry, left_over: dict[tuple[str, ...], Counter[_Cells]]) -> bool:
        """Whether a row of this start supersedes a row: it has its call, or is what it was but for its faults.

        Of the rows that are alike in the same columns, those that are `left_over` supersede one each.
        """
        if entry[2] is not None:
            return self._has_call(entry[2])
        wrong = entry[5] if len(entry) > 5 else ()
        pairs = zip(file.columns, entry[1], strict=False)
        sound = {name: cell for name, cell in pairs if cell and name not in wrong}
        if (columns := (*sound,)) not in left_over:
            left_over[columns] = self._cells_in(columns)
        cells = (*sound.values(),)
        left_over[columns][cells] -= 1
        return left_over[columns][cells] >= 0

    def _has_call(self, key: str) -> bool:
        return key in self._campaign.keys or key in self._theirs

    def _cells_in(self, columns: Sequence[str]) -> Counter[_Cells]:
        """The cells of the rows of this start in these columns; none if one of them is not there."""
        places = {name: place for place, name in reversed([*enumerate(self._columns)])}
        if not columns or any(name not in places for name in columns):
            return Counter()
        wanted = [places[name] for name in columns]
        rows = (self._cells_of(Row._make(spooled[1])) for part in self._spool for spooled in part)
        return Counter(tuple(row[each] if each < len(row) else "" for each in wanted) for row in rows)


async def _packs_of(store: Store, group: str, file: KeptFile) -> AsyncGenerator[tuple[Record, list[Entry]]]:
    """The packs of a file, each as it is kept, with its rows."""
    for member in file.members:
        for pack in (await store.records({ROWS: [(group, member)]}, now=store.clock.now()))[ROWS]:
            yield pack, unpacked(pack.value)


def _drops(group: str, file: KeptFile, *, member: str, but: str) -> list[Drop]:
    """What ends the packs of a file, and its record below this member, unless that is replaced."""
    packs = [Drop(ROWS, group, None, pack) for pack in file.members]
    return packs if member == but else [*packs, Drop(ROW_FILES, group, None, member)]


def _member(token: str, place: int) -> str:
    return f"{token} {place:06}"


def _is_uncalled(entry: Entry) -> bool:
    return bool(entry[3])


def _cell(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as it is spoken
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _files(store: Store) -> RecordSet[KeptFile]:
    return json_records(store, ROW_FILES, KeptFile)


def _packs(store: Store, group: str) -> RecordSet[list[Entry]]:
    return RecordSet(store, ROWS, write=packed, read=lambda _, text: unpacked(text), group=group)


class RowList:
    """The rows of the files of a batch, file by file, each with what became of it. Methods raise StoreError."""

    def __init__(self, store: Store, queue: str, batch_id: str) -> None:
        self._group = group = _group(queue, batch_id)
        self._store = store
        self._queue = queue
        self._batch_id = batch_id
        self._files = _files(store).within(group)
        self._rows = _packs(store, group)

    async def files(self) -> list[KeptFile]:
        """The files, in the order of their first starts. Several of one name are numbered, if they have calls."""
        named = Counter[str]()
        files = sorted(await self._files.values(), key=attrgetter("at", "name"))
        for place, file in enumerate(files):
            named[file.name] += sum(file.sizes) > sum(file.uncalled)
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
                if (found := (await self._rows.get([member])).get(member)) is None:
                    raise InvalidInputError(f"{file.name or 'the campaign'} was just started again; read the list anew")
                found = [each for each in found if _is_uncalled(each)] if uncalled else found
                rows = found[first : None if limit is None else first + limit]
                first, limit = 0, None if limit is None else limit - len(rows)
                yield await self._joined(file, rows, zone)

    async def _joined(self, file: KeptFile, rows: Sequence[Entry], zone: ZoneInfo | None) -> list[ListedRow]:
        keys = [key for _, _, key, *_ in rows if key is not None]
        owners = await owners_of(self._store, self._queue, keys)
        unknown = [key for _, _, key, result, *_ in rows if key is not None and not result and key not in owners]
        erased = await erased_keys(self._store, self._queue, unknown)
        waits = await waits_in_words(self._store, owners.values(), zone=zone)
        return [
            (_ERASED if key in erased else self._row(owners.get(key), result, why, zone, waits))._replace(
                row=str(number),
                file=file.name,
                batch=self._batch_id,
                data=dict(zip(file.columns, cells, strict=False)),
            )
            for number, cells, key, result, why, *_ in rows
        ]

    def _row(
        self, job: Job | None, result: str, why: str, zone: ZoneInfo | None, waits: Mapping[str, str]
    ) -> ListedRow:
        if job is None:
            return ListedRow(result=result or "not called", why=printable(why if result else _NOT_STORED))
        if not job.body:  # a tombstone
            return ListedRow(result="deleted", why="its call had ended, and was deleted")
        if job.batch_id != self._batch_id:
            return ListedRow(result="duplicate", why=printable(f"its call is one of batch {job.batch_id}"))
        return ListedRow.of(job, zone, waits)


_ERASED = ListedRow(result="erased", why="its call was erased with its person")


async def kept_lists(store: Store, queue: str, names: Iterable[str]) -> set[str]:
    """Those of these batches of a queue whose rows are kept. Raises StoreError."""
    groups = {_group(queue, name): name for name in names}
    found = (await store.records({ROW_FILES: [*groups]}, now=store.clock.now()))[ROW_FILES] if groups else ()
    return {groups[record.group] for record in found}
