"""The suppression list: numbers that no queue of a store calls."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

from msgspec import Meta

from voiceflow_worker.core.base.identity import QueueNames, keyed_digest
from voiceflow_worker.core.base.record_set import json_codec, json_records, report_unreadable
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.gates import until_left
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Mode, Put, Record, Result, Same, Write
from voiceflow_worker.errors import ChangedSinceError, InvalidInputError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.numbers.phone import aliases, all_aliases, canonical_number, is_e164, phone_identity
from voiceflow_worker.model.numbers.reading import read_country, read_number
from voiceflow_worker.model.text.arguments import checked_time
from voiceflow_worker.model.text.printable import checked_text
from voiceflow_worker.model.text.wording import in_words, rfc3339

NAMESPACE = "suppressed"
CHUNK = 1000
"""The most numbers in one round trip to the store."""
_END_OF_FILES = datetime(2200, 1, 1, tzinfo=UTC)
"""The stored end of an entry that a file makes for good: any other order replaces it."""


ERASED = "erased "
"""The beginning of the group of a number that was erased. Its digest follows (`keyed_digest`)."""
WAS_ERASED = "the number was erased, and is not called"


# The conditions, the locks and the settlement of a call ask for the same one.
@lru_cache(maxsize=1024)
def number_digest(number: str, *, store_id: str) -> str:
    """Return the digest of a number, for where the store must not show it: one for all spellings."""
    return keyed_digest(store_id, phone_identity(number))


def erased_group(number: str, *, store_id: str) -> str:
    """Return the group on the list of a number that was erased."""
    return f"{ERASED}{number_digest(number, store_id=store_id)}"


def listed_groups(numbers: Iterable[str], *, store_id: str) -> tuple[str, ...]:
    """Return the groups on the list in which these numbers may be: each spelling, and those of erased numbers."""
    given = list(numbers)
    if len(given) == 1:
        return (*aliases(given[0]), erased_group(given[0], store_id=store_id))
    erased = dict.fromkeys(erased_group(number, store_id=store_id) for number in given)
    return (*all_aliases(given), *erased)


Instant = Annotated[datetime, Meta(tz=True)]
"""A time with its zone: of another one, nobody knows when it is, and its entry cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """One number on the suppression list. `job_id` is the call that added it, if any; `until` None means forever.

    `file` is the digest of the file that put it on the list, as long as nothing else did.
    """

    number: str
    since: Instant
    reason: str = ""
    job_id: str | None = None
    until: Instant | None = None
    file: str | None = None

    def holds(self, at: datetime) -> bool:
        """Return whether the number is on the list at this time."""
        return self.until is None or at < self.until

    def as_json(self) -> dict[str, object]:
        """Return this entry as JSON, as `voiceflow suppress list` prints it for scripts."""
        return {
            "number": self.number,
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "reason": self.reason,
            "job_id": self.job_id,
        }

    def in_words(self) -> str:
        """Return a clause that says why a job to this number is not sent."""
        return f"its number has been {self._state_in_words()}"

    def in_words_for(self, job: Job) -> str:
        """Return a clause that says why this job, of which `number` is one of the parties, is not sent."""
        if job.further_numbers and self.number in all_aliases(job.numbers):
            return f"its number {self.number} has been {self._state_in_words()}"
        second = next((each for each in job.second_parties if self.number in aliases(each)), None)
        return self.in_words() if second is None else self.in_words_of(second)

    def in_words_of(self, number: str) -> str:
        """Return a clause that says why a call that would bridge to `number` is not sent."""
        return f"its second party {number} has been {self._state_in_words()}"

    def _state_in_words(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        call = f", added by call {self.job_id}" if self.job_id else ""
        end = f", until {in_words(self.until)}" if self.until else ""
        return f"on the suppression list since {in_words(self.since)}{end}{call}{why}"


class SuppressedNumbers:
    """The entries of the suppression list, which is described there (`SuppressionList`, which ends waiting calls)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = store.clock
        self._entries = json_records(store, NAMESPACE, Suppression, unreadable=_unreadable)

    async def add(
        self,
        *numbers: str,
        reason: str = "",
        until: datetime | None = None,
        country: str | None = None,
        file: str | None = None,
    ) -> Mapping[str, Suppression]:
        """Put numbers on the list, forever or until a time; return their entries by number in E.164 form.

        An entry that lasts longer stays as it is. A POST that is on its way is not stopped. This waits until the calls
        that were about to leave have left or gone back, for at most two seconds. With the digest of a `file`,
        `take_back` removes what the file alone has put on the list.

        Raises InvalidInputError for an `until` that has passed, and for a reason that no store can keep.
        """
        checked_text("the reason of a suppression", reason)
        now = self._clock.now()
        until = checked_time("until", until)
        if until is not None and until <= now:
            raise InvalidInputError(f"a suppression cannot end at {until}: give a future time")
        wanted = {
            number: Suppression(number=number, since=now, reason=reason, until=until, file=file)
            for number in numbers_of(numbers, country)
        }
        stored: dict[str, Suppression] = {}
        for chunk in _chunks(list(wanted)):
            entries = [wanted[number] for number in chunk]
            if file is not None:
                others = {number for number, entry in (await self.entries_of(chunk)).items() if entry.file != file}
                entries = [replace(each, file=None) if each.number in others else each for each in entries]
            stood = await self._put(entries, now=now)
            # Another file has put these on the list: from now on they are not that file's alone.
            if shared := [replace(each, file=None) for each in stood.values() if each.file not in {None, file}]:
                stood = {**stood, **await self._put(shared, now=now)}
            stored.update(stood)
        await self.enforce(stored)
        return stored

    async def enforce(self, listed: Mapping[str, Suppression]) -> None:
        """Do what entries that were just stored are for; it is safe to repeat this. See `add`."""
        await self.end_waiting(listed)
        await until_left(self._store, await QueueNames(self._store).known(), numbers=all_aliases(listed))

    async def end_waiting(self, listed: Mapping[str, Suppression]) -> None:
        """End the waiting calls to these numbers; here they end when they would be sent (`SuppressionList`)."""

    async def remove(
        self, *numbers: str, country: str | None = None, check: Callable[[str], None] | None = None
    ) -> Sequence[str]:
        """Take numbers off the list; return the numbers that were on it. Calls that have ended stay ended.

        `check` gets the state of these numbers (`state`) before they are removed, and raises an error if it is no
        longer what somebody has seen. An entry that is put in place while this runs stays: that raises
        ChangedSinceError, and with `check` no number is removed then.
        """
        wanted = numbers_of(numbers, country)
        groups = list(self._groups(wanted))
        gone: list[str] = []
        if check is not None:
            stored = await self._stored(groups)
            check(_state_of(stored))
            if not await self._drop([_removal(groups, stored)]):
                check(_state_of(await self._stored(groups)))
            gone = list(stored)
        for chunk in _chunks(groups) if check is None else ():
            is_whole = False
            while not is_whole:
                stored = await self._stored(chunk)
                is_whole = await self._drop([_removal([group], stored) for group in stored])
                gone += stored
        known = {erased_group(number, store_id=self._store.id): number for number in wanted}
        return list(dict.fromkeys(known.get(group, group) for group in gone))

    async def take_back(self, numbers: Iterable[str], *, file: str) -> Sequence[str]:
        """Take those of these numbers (in E.164 form) off the list that a file alone has put there; return them.

        `file` is the digest with which `add` got them. A number stays on the list if anything else has put it there:
        a call, a person, another file.
        """
        gone: list[str] = []
        now = self._clock.now()
        for chunk in _chunks(list(dict.fromkeys(numbers))):
            found = (await self._store.records({NAMESPACE: list(chunk)}, now=now))[NAMESPACE]
            mine = [record for record in found if entry_of(record).file == file]
            if mine:
                # An entry that has been replaced meanwhile has another value, and stays.
                drops = tuple(Drop(NAMESPACE, record.group, record.value) for record in mine)
                await self._store.write(BulkWrite(writes=(Write(drops=drops),)), now=now)
                left = (await self._store.records({NAMESPACE: [each.group for each in mine]}, now=now))[NAMESPACE]
                stays = {record.group for record in left}
                gone += [record.group for record in mine if record.group not in stays]
        if not gone:
            await confirm(self._store)
        return gone

    async def state(self, *numbers: str, country: str | None = None) -> str:
        """Return a short text that changes whenever somebody puts one of these numbers on the list.

        It is empty if there are no entries.
        """
        return _state_of(await self._stored(sorted(self._groups(numbers_of(numbers, country)))))

    def _groups(self, numbers: Iterable[str]) -> tuple[str, ...]:
        return listed_groups(numbers, store_id=self._store.id)

    async def _stored(self, groups: Sequence[str]) -> dict[str, str]:
        """Return the texts of the entries of these groups."""
        if not groups:
            return {}
        found = (await self._store.records({NAMESPACE: groups}, now=self._clock.now()))[NAMESPACE]
        return {each.group: each.value for each in found}

    async def _drop(self, writes: Sequence[Write]) -> bool:
        """Write these removals; return False if an entry was gone already: an erasure may have moved it."""
        answers = await self._store.write(BulkWrite(writes=tuple(writes)), now=self._clock.now())
        changed = [each.record.group for each in answers if each.result is Result.NOT_FREE and each.record is not None]
        if changed:
            raise ChangedSinceError(
                f"{', '.join(dict.fromkeys(changed))[:200]} was put on the suppression list meanwhile, and stays. "
                "Look at the entry, and remove it if it should go"
            )
        return all(each.result is Result.DONE for each in answers)

    async def find(self, *numbers: str, country: str | None = None) -> Mapping[str, Suppression]:
        """Return the entries of these numbers, by number in E.164 form. Numbers that are not on the list are absent."""
        found: dict[str, Suppression] = {}
        for chunk in _chunks(numbers_of(numbers, country)):
            found.update(await self.entries_of(chunk))
        return found

    async def scan(self, *, after: str = "", limit: int = 1000) -> Sequence[Suppression]:
        """Return one page of the list, in the order of its numbers. `after` is the last number of the page before."""
        page = await self._entries.page(after=after, limit=limit)
        return [entry for _, entry in page if entry is not None]

    async def entries_of(self, numbers: Iterable[str]) -> Mapping[str, Suppression]:
        """Return the entries of these numbers, which are in E.164 form. Numbers that are not on the list are absent.

        An entry counts for every spelling of its number.
        """
        wanted = list(dict.fromkeys(numbers))
        return self._of(wanted, await self._entries.get(listed_groups(wanted, store_id=self._store.id)))

    def entries_in(self, texts: Mapping[str, str], numbers: Iterable[str]) -> Mapping[str, Suppression]:
        """Return the entries of these numbers, as `stored` returns them, read from stored texts by spelling."""
        return self._of(dict.fromkeys(numbers), self._entries.read(texts)) if texts else {}

    def _of(self, numbers: Iterable[str], entries: Mapping[str, Suppression | None]) -> Mapping[str, Suppression]:
        stored: dict[str, Suppression] = {}
        for number in numbers if entries else ():
            groups = listed_groups([number], store_id=self._store.id)
            of_it = [entry for each in groups if (entry := entries.get(each)) is not None]
            if of_it:
                stored[number] = max(of_it, key=lambda entry: (entry.until is None, entry.until or entry.since))
        return stored

    async def _put(self, wanted: Sequence[Suppression], *, now: datetime) -> Mapping[str, Suppression]:
        """Store each entry that lasts as long as the number's present entry; return the entries then on the list."""
        numbers = [each.number for each in wanted]
        write = Write(puts=tuple(map(entry_put, wanted)))
        await self._store.write(BulkWrite(writes=(write,)), now=now)
        stored = (await self._store.records({NAMESPACE: numbers}, now=now))[NAMESPACE]
        found = {record.group: entry_of(record) for record in stored}
        if len(found) < len(numbers):  # a person was erased just now: the entry is under its digest
            found = {**await self.entries_of(numbers), **found}
        return found


def why_refused(job: Job, listed: Mapping[str, Suppression], *, at: datetime | None = None) -> tuple[str, str] | None:
    """Return the first number because of which a job is not sent, and the reason; None if the job may be sent.

    `listed` are the entries of the job's numbers. With `at`, only entries that hold at that time count.
    """
    for number in job.parties:
        entry = listed.get(number)
        if entry is not None and (at is None or entry.holds(at)):
            return number, entry.in_words_for(job)
    return None


def numbers_of(texts: Iterable[str], country: str | None) -> Sequence[str]:
    """Return the numbers in these texts, each once. Raises PhoneNumberError for a text that is not certainly one.

    A number in E.164 form with its + is taken whether or not its country has such numbers: a file may have put it here.
    """
    if country is not None:
        read_country(country)
    given = ((text, text.startswith("+") and is_e164(text)) for text in texts)
    return list(
        dict.fromkeys(canonical_number(text) if is_whole else read_number(text, country) for text, is_whole in given)
    )


def _chunks(numbers: Sequence[str]) -> Iterator[Sequence[str]]:
    return (numbers[place : place + CHUNK] for place in range(0, len(numbers), CHUNK))


def _end_of(entry: Suppression) -> datetime | None:
    """Return the end of an entry's record. Of two entries of a number the later end counts, and a file's is earlier."""
    if entry.file is None:
        return entry.until
    return _END_OF_FILES if entry.until is None else entry.until - timedelta(microseconds=1)


def entry_text(entry: Suppression) -> str:
    """Return the stored form of an entry, under its number."""
    return json_codec(Suppression).text(entry)


def entry_put(entry: Suppression) -> Put:
    """Return the record of an entry. It replaces one that ends earlier; an entry for good replaces any."""
    end = _end_of(entry)
    return Put(NAMESPACE, entry.number, entry_text(entry), end, Mode.ALWAYS if end is None else Mode.LONGER)


def _state_of(stored: Mapping[str, str]) -> str:
    """Return a digest of entries; empty if there are none."""
    return hashlib.sha256(repr(sorted(stored.items())).encode()).hexdigest()[:16] if stored else ""


def _removal(groups: Sequence[str], stored: Mapping[str, str]) -> Write:
    """Return the removal of the entries of these groups, if unchanged."""
    same = tuple(Same(NAMESPACE, group, stored.get(group)) for group in groups)
    return Write(conditions=same, drops=tuple(Drop(NAMESPACE, each, stored[each]) for each in groups if each in stored))


def entry_of(record: Record) -> Suppression:
    """Return the entry in a record of the suppression list."""
    try:
        entry: Suppression = json_codec(Suppression).value(record.value)
    except ValueError as error:
        return _unreadable(record.group, error)
    return entry


def _unreadable(number: str, error: Exception) -> Suppression:
    """Return an entry for good, in the place of one that this version cannot read."""
    report_unreadable(f"the entry of {number} on the suppression list", error)
    reason = "its entry in the list cannot be read, perhaps because a newer version of voiceflow-worker wrote it"
    return Suppression(number=number, since=datetime.fromtimestamp(0, UTC), reason=reason)
